"""The study of what the paper leaves open about the 3D U-Net (chapter 07)."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from segdet import metrics
from segdet.errors import SegdetError
from segdet.experiments import segmenters
from segdet.experiments.ablation import run_study
from segdet.experiments.config import Plan, Profile
from segdet.experiments.protocol import BEST
from segdet.experiments.segmenters import VARIANTS, run_segmenters
from segdet.experiments.study import Study
from segdet.training.recipes import SegmenterRecipe

TINY = Profile("tiny", (8, 96, 64), (8, 12, 8), 4, 2, 4, 2, 2, 1, 2, "resnet18")


@pytest.fixture
def trained(monkeypatch):
    """What each training was given, its network, its recipe and its `History`, by the name of the variant."""
    found, train = {}, segmenters.train_segmenter

    def noted(scans, validation, *arguments, **options):
        segmenter, history = train(scans, validation, *arguments, **options)
        found[options["checkpoint"].stem.removeprefix("0-")] = scans, segmenter, options["recipe"], history
        return segmenter, history

    monkeypatch.setattr(segmenters, "train_segmenter", noted)
    return found


def test_variants_differ_from_the_book_in_what_they_name(small_phantoms, tmp_path, trained):
    assert run_segmenters(TINY, [0], tmp_path / "s", report=str)
    assert list(trained) == list(VARIANTS)
    nets = {name: segmenter for name, (_, segmenter, *_) in trained.items()}
    norms = {"unet": nn.BatchNorm3d, "instance": nn.InstanceNorm3d, "group": nn.GroupNorm, "no-norm": nn.Identity}
    for name, kind in norms.items():
        held = {type(module) for module in nets[name].modules()} & set(norms.values())
        assert held == {kind} or (name == "no-norm" and held <= {kind}), name
    first = {name: net.down[0][0].out_channels for name, net in nets.items()}
    assert first == dict.fromkeys(VARIANTS, 4) | {"narrow": 2, "wide": 8}
    assert {name: len(net.down) for name, net in nets.items()} == dict.fromkeys(VARIANTS, 4) | {"shallow": 3}
    images = {name: [case.image for case, _ in scans] for name, (scans, *_) in trained.items()}
    for name in VARIANTS:
        for image, book in zip(images[name], images["unet"], strict=True):
            if name == "unit":
                assert (image.min(), image.max()) == (0, 1)
                inside = (image > 0) & (image < 1)
                assert np.corrcoef(image[inside], book[inside])[0, 1] == pytest.approx(1, abs=1e-5)
            else:
                assert torch.equal(image, book)


def test_what_an_arm_at_its_best_adds_is_a_variant_each(small_phantoms, tmp_path, trained):
    names = ["unet", "instance", "varied", "long"]
    run_segmenters(TINY, [0], tmp_path / "s", names, report=str)
    plain = SegmenterRecipe(mirrored=True)
    added = {name: asdict(trained[name][2]).items() - asdict(plain).items() for name in names}
    assert set().union(*added.values()) == asdict(BEST).items() - asdict(plain).items()
    assert {name: len(added[name]) for name in names} == {"unet": 0, "instance": 1, "varied": 2, "long": 1}
    assert {name: len(trained[name][3].loss) for name in names} == dict.fromkeys(names, 4) | {"long": 16}


def test_the_books_is_the_arm_of_protocol_2_and_both_grids_are_scored(small_phantoms, tmp_path, monkeypatch):
    run_study(Plan(TINY, ("unet",), protocol=2), [0], tmp_path / "arm", report=str)
    own, on_own_grid = [], segmenters.on_own_grid

    def noted(probability, case):
        own.append(metrics.iou(probability >= 0.5, case.mask))
        return on_own_grid(probability, case)

    monkeypatch.setattr(segmenters, "on_own_grid", noted)
    run_segmenters(TINY, [0], tmp_path / "s", ["unet"], report=str)
    rows, arm = Study(tmp_path / "s").table("cases"), Study(tmp_path / "arm").table("cases")
    assert [(row["case"], row["iou"]) for row in rows] == [(row["case"], row["iou"]) for row in arm]
    assert [row["grid_iou"] for row in rows] == pytest.approx(own, abs=1e-6)
    assert len(own) == TINY.test


def test_the_study_goes_on_and_says_what_is_left(small_phantoms, tmp_path):
    folder, work = tmp_path / "s", []
    run_segmenters(TINY, [0], folder, ["unet"], report=str)
    before = Study(folder).table("cases")
    run_segmenters(
        TINY, [0], folder, ["unet", "wide", "long"], resume=True, report=str,
        foretell=lambda of, done: work.append((of(TINY).segmenters, of(TINY).detectors, done)),
    )  # fmt: skip
    assert work == [(5, 0, (0, 0))]  # the long one takes four times the steps
    assert Study(folder).table("cases")[:2] == before
    assert {row["arm"] for row in Study(folder).table("runs")} == {"unet", "wide", "long"}
    assert not (folder / "checkpoints").exists()
    with pytest.raises(SegdetError, match=r"there is no variant 'best'; choose from unet, no-norm"):
        run_segmenters(TINY, [0], folder, ["best"], resume=True)
