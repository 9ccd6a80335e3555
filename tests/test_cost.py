"""Operations against a count by hand, predictions against what they are made of."""

import dataclasses
from functools import partial

import pytest
import torch

from segdet.cli.app import foretell
from segdet.experiments import cost, memory
from segdet.experiments.config import PROFILES, Profile
from segdet.experiments.cost import Speed, Work, forecast, work_of_a_study
from segdet.experiments.memory import Need
from segdet.rpn import RPN
from segdet.runtime.progress import in_words
from segdet.training import checkpoint
from segdet.training.checkpoint import History, save_state, shares_done
from segdet.unet3d import UNet3D

TINY = Profile("tiny", (4, 32, 32), (16, 16, 16), 2, 6, 10, 5, 2, 1, 3, "resnet18")
UNIT = Speed(1.0, 1.0, 1.0, 1.0, 2.0)


def test_a_network_is_counted_as_by_hand():
    with torch.device("meta"):
        model = torch.nn.Conv2d(3, 5, 3, padding=1)
    forward = 2 * 3 * 5 * 9 * 6 * 7
    assert cost.count(model, (1, 3, 6, 7)) == forward
    assert cost.count(model, (1, 3, 6, 7), training=True) == 2 * forward  # its input needs no gradient


def test_fixed_blocks_cost_no_gradient(monkeypatch):
    profile = PROFILES["laptop"]
    monkeypatch.delenv("SEGDET_VGG16", raising=False)
    cost.operations.cache_clear()
    trained = cost.operations(profile)
    monkeypatch.setenv("SEGDET_VGG16", "weights")
    cost.operations.cache_clear()
    fixed = cost.operations(profile)
    cost.operations.cache_clear()
    assert fixed["detector_slice"] == trained["detector_slice"]
    assert 2.2 < fixed["detector_step"] / (8 * fixed["detector_slice"]) < 2.6
    assert 2.9 < trained["detector_step"] / (8 * trained["detector_slice"]) < 3.0


def test_work_is_what_a_study_does():
    work = work_of_a_study(TINY, 3, 2)
    assert work == Work(detectors=2, segmenters=6, slices=2 * 6 * 4, volumes=2 * 3 * 3, phantoms=12)
    one, found = cost.operations(TINY), work.operations(TINY)
    assert found["detector_step"] == 2 * 6 * one["detector_step"]
    assert found["segmenter_step"] == 6 * 10 * one["segmenter_step"]
    # after every step, once more for the threshold: 7 times 1 scan of 4 slices
    assert found["detector_slice"] == pytest.approx((2 * 7 * 4 + 48) * one["detector_slice"])
    assert found["segmenter_volume"] == pytest.approx((6 * 2 + 18) * one["segmenter_volume"])
    assert work.seconds(TINY, UNIT) == pytest.approx(sum(found.values()) + 12 * 2)
    assert work_of_a_study(TINY, 0, 1, phantoms=False, detectors=5).slices == 5 * 24


def test_the_line_names_every_part(monkeypatch):
    monkeypatch.setattr(cost, "measure", lambda profile: dataclasses.replace(UNIT, detector_step=1e12))
    line = forecast(TINY, lambda profile: Work(phantoms=60))
    assert line == "about 2 min here: phantoms 2 min"
    assert "--profile quick takes about" in forecast(PROFILES["paper"], lambda p: work_of_a_study(p, 1, 1))


def test_what_is_done_is_not_foretold_again(monkeypatch):
    monkeypatch.setattr(cost, "measure", lambda profile: UNIT)
    assert Work(2, 3, 4.0).less(0.5, 1.25) == Work(1.5, 1.75, 4.0)
    assert Work(detectors=1).less(2, 1) == Work()  # the states of trainings that the work does not ask for
    whole, less = (forecast(TINY, lambda profile: Work(1, 1), done) for done in ((0, 0), (0, 0.5)))
    half = in_words(Work(segmenters=0.5).seconds(TINY, UNIT))
    assert less.endswith(f"segmenters {half}; 0.5 trainings are done")
    assert "done" not in whole


def test_the_states_of_interrupted_trainings_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "load_tensors", None)  # their headers say it
    detector, segmenter = RPN(backbone="resnet18"), UNet3D(1, 2, 2)
    for name, model, step in (("3-detector", detector, 5), ("3-unet", segmenter, 2), ("4-cascade", segmenter, 9)):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        save_state(tmp_path / f"{name}.safetensors", model, optimizer, History(), step, None, {"steps": 10})
    done = partial(shares_done, tmp_path, profile=dataclasses.replace(TINY, detector_steps=10, segmenter_steps=5))
    assert done({3: ["unet"]}) == pytest.approx((0.5, 0.4))  # two steps of five
    assert done({3: ["unet"], 4: ["cascade"]}) == pytest.approx((0.5, 2.2))  # nine of an arm that takes twice five
    assert done({3: ["cascade"]}) == pytest.approx((0.5, 0))  # the rows of the unet are there already
    assert done({5: ["unet"]}) == (0, 0)


def test_commands_say_what_memory_the_work_takes(monkeypatch, capsys):
    monkeypatch.setattr(cost, "measure", lambda profile: UNIT)
    needs = {"detector": Need(2**31, 2**29, 0), "segmenter": Need(2**32, 0, 0)}
    monkeypatch.setattr(memory, "predicted", lambda profile: needs)
    for work, said in (
        (Work(detectors=1), "; up to 2.5 GiB of memory for a training\n"),
        (Work(detectors=1, segmenters=1), "; up to 4.0 GiB of memory for a training\n"),
        (Work(phantoms=1), "about 2 s here: phantoms 2 s\n"),
    ):
        foretell(TINY, lambda profile, work=work: work)
        assert capsys.readouterr().out.endswith(said)


def test_a_machine_is_measured():
    speed = cost.measure(TINY)
    assert all(value > 0 for value in dataclasses.astuple(speed))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (40, "40 s"), (95, "2 min"), (3599, "1 h 0 min"), (4800, "1 h 20 min"), (3 * 86400, "3 days")],
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words
