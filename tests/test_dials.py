"""Networks trained anew at every value of a dial (chapter 11)."""

import dataclasses

import pytest

from segdet.experiments import dials, probes
from segdet.experiments.cases import split_scans
from segdet.experiments.config import Plan, Profile
from segdet.experiments.dials import run_dials
from segdet.experiments.study import Study
from segdet.phantom import make

TINY = Profile("tiny", (8, 96, 64), (8, 12, 8), 4, 2, 4, 2, 2, 1, 11, "resnet18")
VALUES = {"contrast_db": (2.0, 6.0)}


@pytest.fixture
def asked(small_phantoms, monkeypatch):
    """Small phantoms whose contrast can be asked for and changes nothing; what was asked for, by seed."""
    small, asked = make.make_phantom, {}

    def phantom(seed, side=None, contrast_db=None):
        asked.setdefault(seed, []).append(contrast_db)
        return small(seed, side=side)

    monkeypatch.setattr(make, "make_phantom", phantom)
    for module in (dials, probes):
        monkeypatch.setattr(module, "DIALS", VALUES)
    return asked


def test_a_dial_is_turned_for_all_scans_of_a_split(asked):
    plain, turned = (Plan(TINY, (), protocol=2, dial=dial) for dial in (None, ("contrast_db", 2.0)))
    names = [[[volume.name for volume in part] for part in split_scans(plan, 0)] for plan in (plain, turned)]
    assert names[0] == names[1]
    assert asked == {seed: [None, 2.0] for seed in range(1000, 1014)}


def test_networks_trained_alike_meet_the_scans_of_those_that_are_not(asked, tmp_path):
    """Where a dial changes nothing, a network trained anew at each of its values is the one that was not."""
    said = []
    assert run_dials(TINY, [0], tmp_path / "s", report=said.append)
    study = Study(tmp_path / "s")
    scores = {}
    for row in study.table("dials"):
        scores.setdefault((row["arm"], row["part"], row["step"]), {})[row["case"]] = row["iou"], row.get("box_iou")
    arms = "unet", "cascade", "unet-alike", "cascade-alike"
    assert scores.keys() == {(arm, "contrast_db", value) for arm in arms for value in (2, 6)}
    for (arm, *level), found in scores.items():
        assert list(found) == [f"phantom-{seed}" for seed in range(1003, 1012)]  # nine of the eleven test scans
        assert found == scores[arm.removesuffix("-alike"), *level]
        assert all((box_iou == "") == arm.startswith("unet") for _, box_iou in found.values())
    levels = [("no dial", ""), ("contrast_db", 2), ("contrast_db", 6)]
    assert [(row["part"], row["step"], row["arm"]) for row in study.table("runs")] == [
        (*level, arm) for level in levels for arm in ("detector-book", "unet", "cascade")
    ]
    assert study.manifest["kind"] == "development"
    assert len(said) == 6
    assert said[2].startswith("seed 0  unet     trained with contrast_db 2.0: mean IoU 0.")


def test_what_was_interrupted_is_trained_again(asked, tmp_path, monkeypatch):
    folder, trained = tmp_path / "s", []
    run_dials(TINY, [0], folder, report=str)
    lines = (folder / "runs.csv").read_text().splitlines(keepends=True)
    (folder / "runs.csv").write_text("".join(lines[:7]))  # without those of the last value
    before, run_level = (folder / "dials.csv").read_bytes(), dials._run_level

    def noted(run, level, report):
        trained.append(level)
        return run_level(run, level, report)

    monkeypatch.setattr(dials, "_run_level", noted)
    work = []
    assert run_dials(
        TINY, [0], folder, resume=True, report=str, foretell=lambda of, done: work.append((of(TINY), done))
    )
    assert trained == [("contrast_db", 6.0)]
    assert (folder / "dials.csv").read_bytes() == before
    (left, done), one = work[0], dataclasses.replace(TINY, test=9)
    assert (left.detectors, left.segmenters, left.phantoms, done) == (1, 2, 2 + 1 + one.test, (0, 0))
