"""The detector's recipe: augmentation moves boxes with the picture, and every variant trains and is scored."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from segdet.backbones import VGG16
from segdet.boxes import area, pad_boxes
from segdet.cascade import Cascade, detect
from segdet.errors import CheckpointError, SegdetError, TrainingError
from segdet.experiments import detectors
from segdet.experiments.cases import Case
from segdet.experiments.config import get_profile
from segdet.experiments.detectors import VARIANTS, run_detectors
from segdet.experiments.study import Study
from segdet.pipeline import Grids
from segdet.proposals import Proposals
from segdet.rpn import RPN
from segdet.runtime.device import default_device
from segdet.runtime.provenance import environment
from segdet.training.detector import augment, train_detector
from segdet.training.recipes import COMPACT, RECIPE, Recipe
from segdet.unet3d import UNet3D
from segdet.volume import with_neighbours

TINY = dataclasses.replace(
    get_profile("smoke"), detector_shape=(8, 96, 64), detector_steps=2, train=2, validation=1, test=2
)


def rectangles(count=6):
    """Slices with one bright rectangle each, and its box."""
    generator = torch.Generator().manual_seed(0)
    slices, boxes = torch.zeros(count, 96, 64), torch.zeros(count, 2, 4)
    for picture, box in zip(slices, boxes, strict=True):
        x0, y0 = (int(v) for v in torch.randint(16, 30, (2,), generator=generator))
        picture[y0 : y0 + 30, x0 : x0 + 16] = 0.8
        box[0] = torch.tensor([x0, y0, x0 + 16, y0 + 30])
    return slices, boxes


def test_zoom_moves_the_boxes_with_the_picture():
    slices, boxes = rectangles()
    pictures, moved = augment(slices, boxes, torch.Generator().manual_seed(1), zoom=0.2)
    for picture, box in zip(pictures, moved, strict=True):
        rows, columns = (np.flatnonzero((picture > 0.4).any(axis)) for axis in (1, 0))
        found = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        torch.testing.assert_close(box[0], found.float(), atol=1.0, rtol=0)
    assert (moved[:, 0] - boxes[:, 0]).abs().max() > 3
    assert not moved[:, 1].any()  # no box stays no box


def test_gain_leaves_boxes_and_the_range():
    slices, boxes = rectangles()
    pictures, kept = augment(slices, boxes, torch.Generator().manual_seed(1), gain=0.2)
    assert torch.equal(kept, boxes)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    inside = torch.stack([p[p > 0.4].mean() for p in pictures])
    assert inside.min() >= 0.8 * 0.8 - 0.1 - 1e-6
    assert inside.max() <= 0.8 * 1.2 + 0.1 + 1e-6
    assert inside.std() > 0.02


def test_neighbours_get_the_same_change():
    slices, boxes = rectangles()
    three = slices[:, None].expand(-1, 3, -1, -1)
    one, _ = augment(slices, boxes, torch.Generator().manual_seed(1), 0.2, 0.2)
    all_three, _ = augment(three, boxes, torch.Generator().manual_seed(1), 0.2, 0.2)
    torch.testing.assert_close(all_three, one[:, None].expand_as(all_three))


def test_nothing_asked_nothing_changed():
    slices, boxes = rectangles()
    generator = torch.Generator().manual_seed(1)
    same = augment(slices, boxes, generator)
    assert torch.equal(same[0], slices)
    assert torch.equal(same[1], boxes)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(1).get_state())


def test_what_leaves_the_slice_is_no_target():
    slices, boxes = torch.zeros(64, 96, 64), torch.zeros(64, 1, 4)
    boxes[:, 0] = torch.tensor([0.0, 0, 8, 8])  # in the corner: a shift often takes most of it away
    _, moved = augment(slices, boxes, torch.Generator().manual_seed(1), zoom=0.2)
    kept = area(moved[:, 0]) > 0
    assert 0 < kept.sum() < 64
    assert area(moved[kept, 0]).min() > 0.25 * 64 * 0.8**2


def test_neighbours_by_hand():
    slices = torch.arange(4.0)[:, None, None].expand(4, 2, 3)
    found = with_neighbours(slices)
    assert found.shape == (4, 3, 2, 3)
    assert found[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_a_detector_of_neighbours_sees_them():
    torch.manual_seed(0)
    plain, three = RPN().eval(), RPN(neighbours=True).eval()
    three.load_state_dict(plain.state_dict())
    still = torch.rand(1, 96, 64).expand(5, -1, -1)  # the same slice again and again
    everything = Proposals(threshold=0.0)
    torch.testing.assert_close(detect(three, still, everything), detect(plain, still, everything))
    with pytest.raises(ValueError, match="give it with_neighbours"):
        three.propose(still)
    moving = torch.rand(5, 96, 64)
    assert not torch.equal(detect(three, moving, everything)[1], detect(plain, moving, everything)[1])


def test_padding_gives_every_row_a_cell():
    torch.manual_seed(0)
    plain, padded = RPN().eval(), RPN(padded=True).eval()
    padded.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert padded(torch.rand(1, 184, 96))[2].shape == (648, 4)
        whole = torch.rand(1, 192, 96)
        torch.testing.assert_close(padded(whole)[0], plain(whole)[0])
        boxes, _ = padded.propose(torch.rand(2, 184, 96), Proposals(9, 0.0))
    assert boxes[..., 3].max() <= 184


def test_half_of_two_models_is_none(tmp_path, monkeypatch):
    """A second model is saved over a first one and stopped before its last file."""
    grids = Grids((32.0, 40.0, 38.0), (4, 46, 24), (4, 16, 8))
    Cascade(RPN(), UNet3D(2, 2, 4), grids).save(tmp_path)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("segdet.cascade.write_text", stopped)
    with pytest.raises(KeyboardInterrupt):
        Cascade(RPN(), UNet3D(2, 2, 4), grids).save(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds no cascade\.json"):
        Cascade.load(tmp_path)


def test_a_cascade_remembers_how_its_detector_looks(tmp_path):
    grids = Grids((8, 96, 64), (8, 96, 64), (8, 24, 16))
    torch.manual_seed(0)
    compact = RPN(backbone="resnet18").train()
    compact.features(torch.rand(4, 96, 64))  # running statistics of its own
    Cascade(compact, UNet3D(2, 2, 4), grids).save(tmp_path)
    detector = Cascade.load(tmp_path, torch.device("cpu")).detector
    slices = torch.rand(2, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(detector.eval()(slices), compact.eval()(slices))
    Cascade(RPN(neighbours=True, padded=True), UNet3D(2, 2, 4), grids).save(tmp_path)
    detector = Cascade.load(tmp_path, torch.device("cpu")).detector
    assert (detector.neighbours, detector.padded, type(detector.backbone)) == (True, True, VGG16)
    settings = json.loads((tmp_path / "cascade.json").read_text())
    del settings["rpn"], settings["proposals"]["vote"]  # a model from before there was a choice
    (tmp_path / "cascade.json").write_text(json.dumps(settings))
    cascade = Cascade.load(tmp_path, torch.device("cpu"))
    detector = cascade.detector
    assert not cascade.proposals.vote
    assert (detector.neighbours, detector.padded, type(detector.backbone)) == (False, False, VGG16)
    compact.backbone = torch.nn.Sequential(compact.backbone)
    with pytest.raises(CheckpointError, match="only vgg16 or resnet18 can be loaded again, not a Sequential"):
        Cascade(compact, UNet3D(2, 2, 4), grids).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_cascade_that_cannot_be_loaded(tmp_path):
    Cascade(RPN(backbone="resnet18"), UNet3D(2, 2, 4), Grids((8, 96, 64), (8, 96, 64), (8, 24, 16))).save(tmp_path)
    with pytest.raises(SegdetError, match=r"^device warp cannot be used here \(.*\); leave it out or use cpu$"):
        Cascade.load(tmp_path, "warp")
    written = (tmp_path / "cascade.json").read_text()
    for old, new, said in (
        ('"resnet18"', '"alexnet"', "there is no backbone 'alexnet'"),
        ('"top_k": 1', '"top_k": 0', "top_k boxes a slice must be 1 or more, found 0"),
        ('"stride": 16', '"stride": 0', "a stride of 1 pixel or more, found 0"),
    ):
        (tmp_path / "cascade.json").write_text(written.replace(old, new))
        with pytest.raises(CheckpointError, match=rf"not a model that this version of segdet saved \(.*{said}"):
            Cascade.load(tmp_path, "cpu")


def cases(count, boxes):
    return [
        Case(f"case {n}", torch.rand(4, 96, 64), np.zeros((4, 96, 64), bool), boxes, None, None, (1, 1, 1))
        for n in range(count)
    ]


@pytest.mark.parametrize("name", ["plain", "literal", "one-slice", "scaled-anchors", "paper-rate", "book", "compact"])
def test_every_kind_of_recipe_trains(name, small_phantoms):
    boxes = pad_boxes([torch.empty(0, 4), torch.tensor([[10.0, 10, 40, 70]]), torch.tensor([[12.0, 9, 40, 70]]), []])
    detector, history = train_detector(cases(2, boxes), cases(1, boxes), TINY, 0, recipe=VARIANTS[name].recipe)
    assert len(history.loss) == TINY.detector_steps
    assert all(np.isfinite(list(entry.values())).all() for entry in history.loss)
    assert detector.neighbours == VARIANTS[name].recipe.neighbours
    assert area(detector.anchors((6, 4))).min() > 0


def test_a_training_goes_on_with_its_own_backbone_only(small_phantoms, tmp_path):
    boxes = pad_boxes([[[10.0, 10, 40, 70]]] * 4)
    data = cases(2, boxes), cases(1, boxes), TINY, 0
    first, _ = train_detector(*data, recipe=COMPACT, checkpoint=tmp_path / "state")
    again, history = train_detector(*data, recipe=COMPACT, checkpoint=tmp_path / "state")  # read back, not trained
    assert len(history.loss) == TINY.detector_steps
    for key, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    with pytest.raises(CheckpointError, match=r"made with .*, not "):
        train_detector(*data, recipe=RECIPE, checkpoint=tmp_path / "state")


def test_nothing_to_detect_is_said(small_phantoms):
    nothing = pad_boxes([[]] * 4)
    with pytest.raises(TrainingError, match="no training scan has an annotated slice"):
        train_detector(cases(2, nothing), cases(1, nothing), TINY, 0)


@pytest.mark.parametrize(
    ("box", "what"),
    [
        ([10.0, 40, 30, 20], "upside down"),
        ([-1.0, 0, 30, 20], "leaves its slice of 96 x 64"),
        ([0.0, 0, 65, 20], "leaves its slice of 96 x 64"),
        ([0.0, 0, float("nan"), 20], "is not finite"),
    ],
)
def test_a_wrong_box_is_named_with_its_case_and_slice(box, what):
    boxes = pad_boxes([[], [[0.0, 0, 64, 96]], [[1.0, 1, 5, 5], box], []])
    with pytest.raises(TrainingError, match=f"case 1, slice 2: the box .* {what}"):
        train_detector([cases(1, boxes[:, :1])[0], cases(2, boxes)[1]], cases(1, boxes[:, :1]), TINY, 0)


def test_a_bad_loss_names_its_slices(small_phantoms, monkeypatch):
    boxes = pad_boxes([[[10.0, 10, 40, 70]]] * 4)
    broken = cases(2, boxes)
    broken[1].slices[3] = float("nan")
    with pytest.raises(TrainingError, match=r"detector: loss nan.* at step 1, whose batch holds .*case 1 slice 3"):
        train_detector(broken, cases(1, boxes), TINY, 0)


def test_the_variants_are_compared_and_go_on(small_phantoms, tmp_path, monkeypatch):
    lines = []
    names = ["plain", "no-threshold", "neighbours"]
    assert not run_detectors(TINY, [0], tmp_path, names[:2], max_minutes=0, report=lines.append)
    with monkeypatch.context() as elsewhere:
        there = environment(default_device()) | {"device": "another machine"}
        elsewhere.setattr("segdet.experiments.detectors.environment", lambda device: there)
        assert run_detectors(TINY, [0], tmp_path, names[:2], resume=True, report=lines.append)
    assert run_detectors(TINY, [0], tmp_path, names, resume=True, report=lines.append)
    rows = Study(tmp_path).table("detector")
    assert sorted({row["arm"] for row in rows}) == sorted(names)
    assert len(rows) == 3 * TINY.test
    assert all(row["threshold"] == 0 for row in rows if row["arm"] == "no-threshold")
    assert not (tmp_path / "checkpoints").exists()
    made = {row["arm"]: row["device"] for row in Study(tmp_path).table("runs")}
    assert made == dict.fromkeys(names[:2], "another machine") | {"neighbours": environment(default_device())["device"]}
    before = (tmp_path / "detector.csv").read_bytes()
    assert run_detectors(TINY, [0], tmp_path, names, resume=True, report=lines.append)
    assert (tmp_path / "detector.csv").read_bytes() == before
    with pytest.raises(SegdetError, match="add --resume"):
        run_detectors(TINY, [0], tmp_path, names)
    with pytest.raises(SegdetError, match="no variant 'best'"):
        run_detectors(TINY, [0], tmp_path / "other", ["best"])


@pytest.mark.usefixtures("a_second_a_step", "small_phantoms")
def test_variants_of_one_network_have_the_seconds_of_its_training(tmp_path, killed_where):
    """Also where it was interrupted after the first of them, and the network is read back for the second."""
    with killed_where(lambda _, rows: rows[0]["arm"] == "no-threshold"), pytest.raises(KeyboardInterrupt):
        run_detectors(TINY, [0], tmp_path, ["plain", "no-threshold"], report=str)
    assert run_detectors(TINY, [0], tmp_path, ["plain", "no-threshold"], resume=True, report=str)
    seconds = {row["arm"]: row["seconds"] for row in Study(tmp_path).table("runs")}
    assert seconds == dict.fromkeys(("plain", "no-threshold"), TINY.detector_steps)


def test_a_standardised_detector_is_trained_and_tested_on_other_grey(small_phantoms, tmp_path, monkeypatch):
    shown = {}

    def train(train, validation, *arguments, **options):
        shown[options["checkpoint"].stem] = train[0], validation[0]
        return train_detector(train, validation, *arguments, **options)

    def look(detector, slices, proposals):
        shown.setdefault("tested", []).append(slices)
        return detect(detector, slices, proposals)

    monkeypatch.setattr(detectors, "train_detector", train)
    monkeypatch.setattr(detectors, "detect", look)
    names = ["compact-zoomed", "compact-standardised"]
    assert run_detectors(TINY, [0], tmp_path, names, report=str)
    plain, other = ([*shown[f"0-{name}"]] for name in names)
    for before, after in zip([*plain, *shown["tested"]], [*other, *shown["tested"][-TINY.test :]], strict=False):
        before, after = (found.slices if isinstance(found, Case) else found for found in (before, after))
        assert (before.min(), before.max()) == (0, 1)
        assert after.mean().item() == pytest.approx(0, abs=1e-5)
        assert after.std(correction=0).item() == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(after * before.std(correction=0) + before.mean(), before, atol=1e-5, rtol=0)
    assert plain[0].identity != other[0].identity
    assert {row["arm"]: row["recipe"] for row in Study(tmp_path).table("runs")} == {name: name for name in names}


def test_variants_change_what_they_say():
    kinds = {name: (*v.training, v.proposals, v.vote) for name, v in VARIANTS.items()}
    assert kinds["plain"] == (Recipe(), False, None, False)
    assert kinds["book"] == (RECIPE, False, None, True)
    assert kinds["compact"] == (COMPACT, False, None, True)
    assert kinds["compact-standardised"] == (kinds["compact-zoomed"][0], True, None, False)
    assert all(v.recipe.gain == 0 for v in VARIANTS.values() if v.standardised)  # `augment` cuts grey to [0, 1]
    assert (Recipe().backbone, RECIPE.backbone, COMPACT.backbone) == ("vgg16", "vgg16", "resnet18")
    assert len(set(kinds.values())) == len(VARIANTS)
