"""Predicted memory beside what trainings take from PyTorch's allocator, and the refusal of what cannot fit."""

import time
from functools import partial

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from segdet.cli import study, train
from segdet.cli.app import ProfileName
from segdet.errors import SegdetError
from segdet.experiments import memory, planning
from segdet.experiments.config import PROFILES, Plan
from segdet.experiments.cost import Speed
from segdet.experiments.memory import (
    LiveBytes,
    Shapes,
    available_gib,
    check_memory,
    check_training,
    detector_steps,
    predicted,
    segmenter_steps,
)
from segdet.experiments.planning import cells, in_flop, plan_lines, work_left
from segdet.experiments.runs import OUT_OF_FOLD
from segdet.rpn import RPN
from segdet.runtime.progress import in_words
from segdet.unet3d import UNet3D

KIB = 1024


class Mark:
    """In the place of a `LiveBytes`, notes when the first step begins."""

    now = 0

    def __setattr__(self, name, value):
        super().__setattr__("began", time.time_ns())


def measured(build, steps, shape):
    """The most bytes that PyTorch's CPU allocator had given out at a moment of the steps, of real tensors."""
    mark = Mark()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        steps(build(), shape, mark)
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now) if event.start_ns() >= mark.began else peak
    return peak


def forecast(build, steps, shape):
    with Shapes(), LiveBytes() as live:
        steps(build(), shape, live)
    return live.peak


def test_live_bytes_of_a_chain():
    """Four KiB each: x, its exponential, and their sum; a view is nothing new, and what is deleted is gone."""
    with Shapes(), LiveBytes() as live:
        x = torch.zeros(KIB)
        assert live.now == 4 * KIB
        y = x.exp().view(2, -1)
        assert live.now == 8 * KIB
        z = y.flatten() + x
        assert (live.now, live.peak) == (12 * KIB, 12 * KIB)
        del x, y
        assert (live.now, live.peak) == (4 * KIB, 12 * KIB)
        assert z.shape == (KIB,)


def test_live_bytes_of_a_layer_and_its_gradients():
    """A square layer of 64: weight, gradient and two moments of 16 KiB, and one of the bias each, 256 bytes."""
    with Shapes(), LiveBytes() as live:
        model = nn.Linear(64, 64)
        x = torch.rand(1, 64)
        memory.train_two_steps(model, lambda: model(x).sum(), torch.optim.Adam(model.parameters(), foreach=False), live)
    states = 4 * (16 * KIB + 256)
    assert states < live.peak < states + 3 * 16 * KIB  # and what Adam computes with, a weight's size at a time


@pytest.mark.parametrize(
    ("build", "steps", "shape"),
    [
        (lambda: RPN(backbone="vgg16"), detector_steps, (2, 184, 96)),
        (lambda: RPN(backbone="resnet18"), detector_steps, (8, 184, 96)),
        (lambda: UNet3D(2, 2, 16), segmenter_steps, (32, 64, 48)),
        (lambda: UNet3D(2, 2, 16, checkpointing=True), segmenter_steps, (32, 64, 48)),
    ],
    ids=("detector", "compact detector", "segmenter", "checkpointing"),
)
def test_what_is_predicted_is_what_is_measured(build, steps, shape):
    """Within 10 %: oneDNN's scratch memory inside the convolutions is measured and not predicted."""
    assert forecast(build, steps, shape) == pytest.approx(measured(build, steps, shape), rel=0.1)


def test_a_training_of_the_paper_profile_is_predicted_in_bfloat16():
    """Its network, 32 channels, in the precision of a GPU on a cut grid."""
    half = partial(segmenter_steps, half=True)
    build, shape = (lambda: UNet3D(2, 2, PROFILES["paper"].base_channels)), (16, 48, 48)
    assert forecast(build, half, shape) == pytest.approx(measured(build, half, shape), rel=0.1)


def test_less_with_checkpointing_and_in_bfloat16():
    paper, cpu = PROFILES["paper"], torch.device("cpu")
    full, half = (predicted(paper, half=h, device=cpu)["segmenter"] for h in (False, True))
    less = predicted(paper, True, half=False, device=cpu)["segmenter"]
    assert less.step < 0.8 * full.step
    assert half.step < full.step
    assert less.beside == full.beside


def test_what_lies_beside_a_step():
    """Of the smoke profile: 2 scans of 16 x 24 x 16 voxels, two channels of 4 bytes, a label of 8, and the weights."""
    smoke = PROFILES["smoke"]
    need = predicted(smoke, half=False, device=torch.device("cpu"))["segmenter"]
    weights = sum(t.nbytes for t in UNet3D(2, 2, smoke.base_channels).state_dict().values())
    assert need.beside == 2 * 6144 * 16 + weights
    assert need.scans == 6 * (8 * 184 * 96 + 6144) * 5
    assert need.gib(torch.device("cuda")) * 2**30 == need.step + need.beside


def test_available_memory_is_what_linux_says():
    there = available_gib(torch.device("cpu"))
    assert there is None or 0 < there < 2**14


@pytest.mark.parametrize(("there", "refused"), [(None, False), (10.0, False), (9.9, True)])
def test_what_cannot_fit_is_refused(monkeypatch, there, refused):
    monkeypatch.setattr(memory, "available_gib", lambda device=None: there)
    if refused:
        words = r"a training needs about 10\.0 GiB of memory, 9\.9 GiB are available here; take a smaller profile"
        with pytest.raises(SegdetError, match=words):
            check_memory(10.0, "a training")
    else:
        check_memory(10.0, "a training")


def test_checkpointing_is_the_way_out_where_it_suffices(monkeypatch):
    paper, cpu = PROFILES["paper"], torch.device("cpu")
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    full, less = (predicted(paper, c)["segmenter"].gib(cpu) for c in (False, True))
    monkeypatch.setattr(memory, "available_gib", lambda device=None: (full + less) / 2)
    with pytest.raises(SegdetError, match=r"training the segmenter of the profile paper needs .*; add --checkpointing"):
        check_training(paper, can_checkpoint=True)
    with pytest.raises(SegdetError, match="; take a smaller profile"):
        check_training(paper)
    check_training(paper, checkpointing=True, can_checkpoint=True)
    check_training(paper, ["detector"])


@pytest.mark.parametrize("command", [train.fit, study.ablate, study.detectors], ids=lambda command: command.__name__)
def test_commands_refuse_before_they_begin(monkeypatch, tmp_path, command):
    monkeypatch.setattr(memory, "available_gib", lambda device=None: 0.001)
    with pytest.raises(SegdetError, match=r"training the detector of the profile smoke needs about .* GiB"):
        command(out=tmp_path / "out", profile=ProfileName.smoke)
    assert not (tmp_path / "out").exists()


def test_a_scheduler_here_trains_here_and_one_elsewhere_does_not(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "available_gib", lambda device=None: 0.001)
    with pytest.raises(SegdetError, match=r"training the detector of the profile smoke needs about"):
        study.ablate(out=tmp_path / "out", profile=ProfileName.smoke, scheduler="local")
    with pytest.raises(SegdetError, match="no dask scheduler answers there"):
        study.ablate(out=tmp_path / "out", profile=ProfileName.smoke, scheduler="tcp://127.0.0.1:1")


# --- the plan


def test_the_cells_of_a_plan():
    paper = PROFILES["paper"]
    found = cells(paper, ("unet", "cascade-oof"), 3)
    assert list(found) == ["detector", "unet", "cascade-oof"]
    assert (found["detector"].detectors, found["detector"].segmenters) == (3, 0)
    assert (found["unet"].detectors, found["unet"].segmenters, found["unet"].volumes) == (0, 3, 3 * 49)
    assert found["cascade-oof"].detectors == 3 * OUT_OF_FOLD
    without = cells(paper, ("unet", "box3d"), 3)["detector"]
    assert (without.detectors, without.slices, without.phantoms) == (0, 0, found["detector"].phantoms)


@pytest.mark.parametrize(("arms", "detectors"), [(("unet",), 0), (("unet", "cascade"), 1), (("cascade-oof",), 6)])
def test_a_plan_and_what_is_left_of_it_count_the_same(arms, detectors):
    paper = PROFILES["paper"]
    planned, left = cells(paper, arms, 3).values(), work_left(Plan(paper, arms), dict.fromkeys(range(3), arms))
    assert sum(work.detectors for work in planned) == left.detectors == 3 * detectors
    assert sum(work.segmenters for work in planned) == left.segmenters == 3 * len(arms)


@pytest.mark.parametrize("there", [100.0, 0.01, None])
def test_a_plan_says_operations_time_and_memory(monkeypatch, there):

    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    monkeypatch.setattr(planning, "measure", lambda profile: Speed(1e9, 1e9, 1e9, 1e9, 2.0))
    monkeypatch.setattr(planning, "available_gib", lambda device: there)
    smoke = PROFILES["smoke"]
    lines = list(plan_lines(smoke, ("unet", "cascade"), 2))
    assert [line.split()[0] for line in lines[:5]] == ["training", "detector", "unet", "cascade", "all"]
    flop = [sum(work.operations(smoke).values()) for work in cells(smoke, ("unet", "cascade"), 2).values()]
    assert in_flop(sum(flop)) in lines[4]
    assert in_words(sum(flop) / 1e9 + 2 * 6 * 2.0) in lines[4]  # two seeds of six phantoms, two seconds each
    assert {100.0: "suffices", 0.01: "too little", None: "not known"}[there] in lines[5]


@pytest.mark.parametrize(("flop", "text"), [(12, "12 FLOP"), (1.3e15, "1.3 PFLOP"), (2.5e21, "2.5e+03 EFLOP")])
def test_operations_as_text(flop, text):
    assert in_flop(flop) == text
