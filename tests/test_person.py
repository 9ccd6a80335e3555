"""A simulated person and boxes made worse: by hand, and their errors as deviations."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from segdet.attention import boxes_to_mask, slice_box_mask
from segdet.boxes import pad_boxes
from segdet.experiments.person import PERSONS, Person, paint, paint_some, seen_by
from segdet.experiments.perturb import DOSES, Dose, spoil
from segdet.metrics import dice, iou, score_boxes
from segdet.volume import slice_boxes

SPACING = (1.0, 0.5, 0.8)
EXACT = Person(dice=0.95, ends_mm=0, centre_mm=0, size=0)


@pytest.fixture
def cone():
    """Slices 3 to 15 hold squares whose sides grow by two pixels a slice, so a straight line between them is exact."""
    mask = np.zeros((20, 60, 60), bool)
    for k in range(3, 16):
        mask[k, 30 - k : 30 + k, 28 - k : 28 + k] = True
    return mask


def test_without_errors_every_slice_is_the_tight_box(cone):
    boxes, painted = paint(EXACT, cone, SPACING, 1, 0)
    assert painted.tolist() == list(range(3, 16))
    np.testing.assert_array_equal(boxes[:, 0], pad_boxes(slice_boxes(cone))[:, 0])


def test_between_painted_slices_lies_a_straight_line(cone):
    boxes, painted = paint(EXACT, cone, SPACING, 5, 0)
    assert painted.tolist() == [3, 8, 13, 15]
    np.testing.assert_allclose(boxes[:, 0], pad_boxes(slice_boxes(cone))[:, 0], atol=1e-5)
    cone[5] = cone[3]  # what lies between is not looked at
    assert np.array_equal(paint(EXACT, cone, SPACING, 5, 0)[0], boxes)
    assert len(paint(EXACT, cone, SPACING, 100, 0)[1]) == 2


def test_nothing_to_paint():
    boxes, painted = paint(EXACT, np.zeros((4, 8, 8), bool), SPACING, 2, 0)
    assert boxes.shape == (4, 1, 4)
    assert not boxes.any()
    assert len(painted) == 0


def test_errors_have_the_stated_deviations(cone):
    person = Person(dice=0.95, ends_mm=1.5, centre_mm=0.6, size=0.1)
    exact = np.array([slice_boxes(cone)[k][0] for k in range(20) if cone[k].any()])
    shifts, sizes, starts = [], [], []
    for seed in range(400):
        boxes, painted = paint(person, cone, SPACING, 1, seed)
        starts.append(painted[0] - 3)
        for k in painted:
            if cone[k].any():
                box, true = boxes[k, 0], exact[k - 3]
                shifts.append(((box[:2] + box[2:]) / 2 - (true[:2] + true[2:]) / 2) * (0.8, 0.5))
                sizes.append(np.log((box[2:] - box[:2]) / (true[2:] - true[:2])))
    assert np.std(shifts, 0) == pytest.approx([0.6, 0.6], rel=0.05)
    assert np.std(sizes, 0) == pytest.approx([0.1, 0.1], rel=0.05)
    assert np.std(starts) == pytest.approx(np.hypot(1.5, 1 / np.sqrt(12)), rel=0.12)  # and rounding to a slice
    again = paint(person, cone, SPACING, 3, 7)
    assert np.array_equal(again[0], paint(person, cone, SPACING, 3, 7)[0])


def test_where_an_object_seems_to_begin_and_end_is_in_mm_and_within_the_sweep():
    seen = np.zeros((60, 8, 8), bool)
    seen[20:41, 2:6, 2:6] = True
    person = replace(EXACT, ends_mm=3.0)
    ends = np.array([paint(person, seen, (2.0, 0.5, 0.8), 100, seed)[1] for seed in range(400)])
    assert ends.mean(0) == pytest.approx([20, 40], abs=0.2)
    assert ends.std(0) == pytest.approx([np.hypot(1.5, 1 / np.sqrt(12))] * 2, rel=0.12)  # 2 mm a slice, and rounding
    whole = np.ones((6, 8, 8), bool)
    assert paint(EXACT, whole, SPACING, 5, 0)[1].tolist() == [0, 5]
    wide = [paint(replace(EXACT, ends_mm=100.0), whole, SPACING, 1, seed)[1] for seed in range(40)]
    assert {painted[0] for painted in wide} | {painted[-1] for painted in wide} >= {0, 5}
    assert all(0 <= painted[0] <= painted[-1] <= 5 for painted in wide)


@pytest.fixture
def ball():
    """A ball of radius 5 in slices 3 to 13 of 16, and its spacing."""
    z, y, x = np.ogrid[:16, :20, :20]
    return (z - 8) ** 2 + (y - 10) ** 2 + (x - 9) ** 2 <= 25, (1.0, 0.5, 2.0)


def test_who_paints_every_slice_without_an_error_draws_the_tight_boxes(ball):
    boxes, painted = paint_some(EXACT, *ball, 32, np.random.default_rng(0))
    assert painted.tolist() == list(range(3, 14))
    np.testing.assert_array_equal(boxes, pad_boxes(slice_boxes(ball[0])))
    assert boxes[8, 0].tolist() == [4, 5, 15, 16]
    assert boxes[3, 0].tolist() == [9, 10, 10, 11]


def test_some_slices_one_of_each_part(ball):
    found = [paint_some(EXACT, *ball, 2, np.random.default_rng(seed)) for seed in range(60)]
    for boxes, (first, last) in found:
        assert 3 <= first <= 8 < last <= 13
        assert np.flatnonzero(boxes[:, 0, 2]).tolist() == list(range(first, last + 1))
        line = np.linspace(boxes[first], boxes[last], last - first + 1)
        assert boxes[first : last + 1] == pytest.approx(line, abs=1e-4)
    for slices, possible in zip(zip(*[painted for _, painted in found], strict=True), ((3, 9), (9, 14)), strict=True):
        assert set(slices) == set(range(*possible))


@pytest.mark.parametrize("count", [0, 1])
def test_few_slices(ball, count):
    boxes, painted = paint_some(PERSONS["hasty"], *ball, count, np.random.default_rng(0))
    assert (boxes[..., 2] > boxes[..., 0]).sum() == len(painted) == count
    assert not paint_some(EXACT, ball[0] & False, ball[1], 4, np.random.default_rng(0))[0].any()


def test_errors_on_some_slices_are_as_large_as_they_say(ball):
    person = Person(dice=0.95, ends_mm=0, centre_mm=1.0, size=0.1)
    boxes = np.array([paint_some(person, *ball, 32, np.random.default_rng(seed))[0][8, 0] for seed in range(4000)])
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    assert centres.mean(0) == pytest.approx([9.5, 10.5], abs=0.1)
    assert centres.std(0) == pytest.approx([1 / 2, 1 / 0.5], rel=0.05)  # columns, rows
    assert np.log(sides / 11).mean(0) == pytest.approx([0, 0], abs=0.01)
    assert np.log(sides).std(0) == pytest.approx([0.1, 0.1], rel=0.05)


def test_a_hasty_person_is_worse():
    z, y, x = np.meshgrid(*[np.arange(n) * s for n, s in zip((32, 60, 50), SPACING, strict=True)], indexing="ij")
    ball = (z - 16) ** 2 + (y - 15) ** 2 + (x - 20) ** 2 < 81
    truth = slice_box_mask(ball)
    found = {}
    for level, person in PERSONS.items():
        seen = [seen_by(person, ball, SPACING, seed) for seed in range(6)]
        assert np.mean([dice(s, ball) for s in seen]) > person.dice - 0.03
        masks = [boxes_to_mask(torch.from_numpy(paint(person, s, SPACING, 4, 0)[0]), ball.shape) for s in seen]
        found[level] = np.mean([iou(m.numpy(), truth) for m in masks])
    assert found["careful"] > found["ordinary"] > found["hasty"] > 0.4


BOXES = np.tile([[[10.0, 20, 30, 60], [0, 0, 0, 0]]], (4000, 1, 1))
BOXES[3000:] = 0  # slices without the object


def test_no_dose_changes_nothing():
    found = spoil(BOXES, (80, 50), Dose("none"), 0)
    np.testing.assert_array_equal(found[:, :2], BOXES)
    assert not found[:, 2].any()


def test_doses_by_hand():
    moved = spoil(BOXES, (80, 50), Dose("", moved=0.1), 0)[:3000, 0]
    np.testing.assert_allclose(moved[:, 2:] - moved[:, :2], np.tile([20, 40], (3000, 1)), rtol=1e-5)
    assert (moved[:, :2] - (10, 20)).std(0) == pytest.approx([2, 4], rel=0.05)
    shrunk = spoil(BOXES, (80, 50), Dose("", shrunk=0.5), 0)[0, 0]
    assert shrunk.tolist() == [15, 30, 25, 50]
    assert float(score_boxes(torch.tensor(shrunk)[None, None], torch.tensor(BOXES[:1]).float())["box_iou"]) == 0.25
    dropped = spoil(BOXES, (80, 50), Dose("", dropped=0.2), 0)
    assert (dropped[:3000, 0, 2] == 0).mean() == pytest.approx(0.2, abs=0.03)
    added = spoil(BOXES, (80, 50), Dose("", added=0.3), 0)[:, 2]
    false = added[added[:, 2] > 0]
    assert len(false) / 4000 == pytest.approx(0.3, abs=0.03)
    np.testing.assert_allclose(false[:, 2:] - false[:, :2], np.tile([20, 40], (len(false), 1)), rtol=1e-4)
    assert false.min() >= 0
    assert (false[:, 2:] <= (50, 80)).all()
    assert false[:, :2].mean(0) == pytest.approx([15, 20], rel=0.05)  # anywhere: the corner up to 50 - 20 and 80 - 40
    assert false[:, :2].std(0) == pytest.approx([30 / np.sqrt(12), 40 / np.sqrt(12)], rel=0.05)


def test_boxes_of_no_area_stay_none_and_small_ones_count():
    boxes = [[[10.0, 20, 10, 60], [10, 20, 30, 20], [10, 20, 10.5, 20.5]]]
    assert spoil(boxes, (80, 50), Dose("none"), 0).tolist() == [[[0] * 4, [0] * 4, [10, 20, 10.5, 20.5], [0] * 4]]
    false = spoil(np.zeros((9, 1, 4)), (80, 50), Dose("", added=1.0), 0)[:, 1]
    assert np.array_equal(false[:, :2], false[:, 2:])  # no object gives a false box its size


def test_every_dose_makes_the_attention_worse():
    """More of it is worse, and other seeds spoil otherwise."""
    boxes, shape = BOXES[::100], (80, 50)
    truth = boxes_to_mask(torch.tensor(boxes).float(), (40, *shape)).numpy()
    found = {n: boxes_to_mask(torch.from_numpy(spoil(boxes, shape, d, 1)), truth.shape) for n, d in DOSES.items()}
    score = {name: iou(mask.numpy(), truth) for name, mask in found.items()}
    for small, large in (("moved-10", "moved-30"), ("shrunk-20", "shrunk-50"), ("dropped-20", "dropped-50")):
        assert 1 > score[small] > score[large]
    assert 1 > score["added-30"] > score["added-100"]
    dose = DOSES["moved-30"]
    assert not np.array_equal(spoil(boxes, shape, dose, 1), spoil(boxes, shape, dose, 2))
