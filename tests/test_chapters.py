"""The networks of the chapters are filed under what the code computes, not under how it is spelled."""

import dataclasses
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import ndimage

from segdet import boxes, pipeline, proposals, rpn_loss, unet3d, volume
from segdet.cascade import detect
from segdet.experiments import chapters, runs
from segdet.experiments.config import PROFILES, Profile
from segdet.training import detector, loop, recipes, segmenter

BACKBONE = "resnet18"


@pytest.fixture(scope="module")
def usual():
    return chapters.behaviour(BACKBONE)


@pytest.fixture
def tiny(usual, small_phantoms, monkeypatch):
    """A profile of that name whose networks train in seconds."""
    profile = Profile("tiny", (8, 96, 64), (8, 12, 8), 4, 2, 4, 2, 2, 1, 2, BACKBONE)
    monkeypatch.setitem(PROFILES, "tiny", profile)
    monkeypatch.setattr(chapters, "behaviour", lambda backbone: usual)
    return profile


def test_one_thread_or_other_kernels_compute_the_same(usual):
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        with torch.backends.mkldnn.flags(enabled=False):
            other = chapters.behaviour(BACKBONE)
    finally:
        torch.set_num_threads(threads)
    assert chapters.same(other, usual)


def renamed(monkeypatch):
    """A class and a function under other names."""

    class TwoConvolutions(unet3d.TwoConv):
        pass

    monkeypatch.setattr(unet3d, "TwoConv", TwoConvolutions)
    monkeypatch.setattr(detector, "mirror", lambda corners, width: boxes.mirror(corners, width))


def test_a_new_name_keeps_the_networks(usual, monkeypatch):
    renamed(monkeypatch)
    assert chapters.same(chapters.behaviour(BACKBONE), usual)


def bent(original):
    """Smooth L1 that bends elsewhere."""
    return lambda *arguments, **more: original(*arguments, **more, beta=0.9)


def scaled(original):
    """A loss that weighs a hundredth more."""
    return lambda *arguments, **more: 1.01 * original(*arguments, **more)


def blurred(original):
    """Resampling of another array: a little of its neighbours is mixed in."""
    return lambda array, *rest, **more: original(ndimage.gaussian_filter(np.float32(array), 0.5), *rest, **more)


CHANGES = {
    "smooth L1": lambda m: m.setattr(rpn_loss.F, "smooth_l1_loss", bent(rpn_loss.F.smooth_l1_loss)),
    "offsets": lambda m: m.setattr(rpn_loss, "encode", lambda a, b: 1.05 * boxes.encode(a, b)),
    "augmentation": lambda m: m.setattr(
        chapters, "RECIPES", {BACKBONE: dataclasses.replace(recipes.COMPACT, zoom=0.1)}
    ),
    "cross entropy": lambda m: m.setattr(segmenter.F, "cross_entropy", scaled(segmenter.F.cross_entropy)),
    "gradient length": lambda m: m.setattr(
        loop.torch.nn.utils, "clip_grad_norm_", lambda p, n, f=torch.nn.utils.clip_grad_norm_: f(p, 0.5)
    ),
    "resampling": lambda m: m.setattr(volume, "resample_array", blurred(volume.resample_array)),
    "grey values": lambda m: m.setattr(pipeline, "normalise", lambda *a, f=pipeline.normalise, **k: f(*a, **k) * 1.01),
    "voting": lambda m: m.setattr(proposals, "box_iou", lambda a, b, f=boxes.box_iou: f(a, b) * 0.9),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_formula_does_not(usual, monkeypatch, name):
    CHANGES[name](monkeypatch)
    assert not chapters.same(chapters.behaviour(BACKBONE), usual)


def test_the_folder_of_networks(usual, tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "behaviour", lambda backbone: usual)
    (tmp_path / "networks-damaged").mkdir()
    (tmp_path / "networks-damaged/behaviour.json").write_text("[")
    first = chapters.folder_of(tmp_path, BACKBONE)
    assert json.loads((first / "behaviour.json").read_text()) == usual
    near = {name: [v * (1 + 1e-5) for v in values] for name, values in usual.items()}
    monkeypatch.setattr(chapters, "behaviour", lambda backbone: near)
    assert chapters.folder_of(tmp_path, BACKBONE) == first
    far = usual | {"segmenter, loss": [v * 1.01 for v in usual["segmenter, loss"]]}
    monkeypatch.setattr(chapters, "behaviour", lambda backbone: far)
    assert chapters.folder_of(tmp_path, BACKBONE) != first


def test_the_callers_random_state_and_environment_stay(monkeypatch):
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    monkeypatch.delenv("SEGDET_PRECISION", raising=False)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    chapters.behaviour(BACKBONE)
    assert torch.equal(torch.rand(2), expected)
    assert chapters.os.environ["SEGDET_DEVICE"] == "cpu"
    assert "SEGDET_PRECISION" not in chapters.os.environ


def test_chapters_share_a_folder_and_what_was_found(tiny, monkeypatch):
    first = chapters.chapter_run("tiny")
    boxes_of = [first.detect(case) for case in first.test]
    first.segmenter("cascade")
    kept = sorted(path.name.rsplit("-", 1)[0] for path in first.checkpoints.glob("*.safetensors"))
    assert kept == ["0-cascade", "0-detector-filmed", *["boxes"] * 5, "proposals"]  # of 2 + 1 + 2 scans

    def trained_again(*_, **__):
        raise AssertionError("what is kept was computed again")

    monkeypatch.setattr(loop, "_backward", trained_again)
    monkeypatch.setattr(runs, "detect", trained_again)
    monkeypatch.setattr(runs, "choose_threshold", trained_again)
    again = chapters.chapter_run("tiny")
    assert again.checkpoints == first.checkpoints
    assert all(torch.equal(a, again.detect(c)) for a, c in zip(boxes_of, again.test, strict=True))
    again.segmenter("cascade")
    assert again.detector_history.watched == first.detector_history.watched
    monkeypatch.setitem(PROFILES, "tiny", dataclasses.replace(tiny, segmenter_steps=6))
    with pytest.raises(AssertionError, match="computed again"):  # other settings have a file of their own
        chapters.chapter_run("tiny").segmenter("cascade")


def test_other_settings_of_the_proposals_find_their_own_boxes(tiny, monkeypatch):
    seen = []
    monkeypatch.setattr(runs, "detect", lambda d, slices, chosen: seen.append(chosen) or detect(d, slices, chosen))
    monkeypatch.setattr(runs, "choose_threshold", lambda d, v, vote: proposals.Proposals(threshold=0.25, vote=vote))
    for vote in (True, False, True):
        run = chapters.chapter_run("tiny")
        run.vote = vote
        run.detect(run.test[0])
        assert run.proposals.vote == vote
    assert seen == [proposals.Proposals(threshold=0.25, vote=vote) for vote in (True, False)]


def test_the_film_shows_what_the_detector_says(tiny):
    run = chapters.chapter_run("tiny")
    film, (case, index) = dict(run.detector_history.watched), run.filmed
    assert list(film) == [step for step, _ in run.detector_history.validation]
    cells, box = film[run.detector_history.best_step]
    best, score = detect(run.detector, case.slices, proposals.Proposals(threshold=0.0, vote=False))
    assert np.shape(cells) == (6, 4)  # 96 x 64 pixels with a stride of 16
    assert np.max(cells) == pytest.approx(score[index, 0].item(), abs=1e-3)
    assert box == pytest.approx(best[index, 0].tolist(), abs=1e-2)
    sizes = (case.boxes[:, 0, 2:] - case.boxes[:, 0, :2]).prod(1)
    assert sizes[index] == sizes.max() > 0


def test_two_that_look_at_the_same_time_find_one_folder(tmp_path, monkeypatch):
    both, write = threading.Barrier(2), chapters.write_text

    def behaviour(_):
        both.wait(60)
        return {"a": [1.0]}

    def write_slowly(*arguments):
        time.sleep(0.2)
        write(*arguments)

    monkeypatch.setattr(chapters, "behaviour", behaviour)
    monkeypatch.setattr(chapters, "write_text", write_slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(chapters.folder_of, [tmp_path] * 2, ["vgg16"] * 2)
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
