"""Overlap and surface metrics against MONAI and by hand."""

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
)
from scipy import ndimage, special

from segdet import metrics

SPACING = (1.04, 0.88, 1.6)


def blobs(seed):
    rng = np.random.default_rng(seed)
    return [ndimage.gaussian_filter(rng.standard_normal((14, 18, 12)), 2) > 0.02 for _ in range(2)]


def one_hot(mask):
    return torch.from_numpy(np.stack([~mask, mask]))[None].float()


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_monai(seed):
    a, b = blobs(seed)
    assert metrics.iou(a, b) == pytest.approx(compute_iou(one_hot(a), one_hot(b))[0, 1].item(), abs=1e-6)
    assert metrics.dice(a, b) == pytest.approx(compute_dice(one_hot(a), one_hot(b))[0, 1].item(), abs=1e-6)
    theirs = compute_hausdorff_distance(one_hot(a), one_hot(b), percentile=95, spacing=SPACING)
    assert metrics.hausdorff95(a, b, SPACING) == pytest.approx(theirs.item(), rel=1e-5)
    theirs = compute_average_surface_distance(one_hot(a), one_hot(b), symmetric=True, spacing=SPACING)
    assert metrics.average_surface_distance(a, b, SPACING) == pytest.approx(theirs.item(), rel=1e-5)
    theirs = compute_surface_dice(one_hot(a), one_hot(b), [1.2], spacing=SPACING)
    assert metrics.surface_dice(a, b, SPACING, 1.2) == pytest.approx(theirs.item(), rel=1e-5)


def test_by_hand():
    a, b = np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4), bool)
    a[1, 1, 1:3] = True
    b[1, 1, 2:4] = True
    assert metrics.iou(a, b) == pytest.approx(1 / 3)
    assert metrics.dice(a, b) == pytest.approx(1 / 2)
    assert metrics.average_surface_distance(a, b, (1, 1, 2.5)) == pytest.approx(2.5 / 2)  # 2.5, 0 and 0, 2.5
    assert [metrics.surface_dice(a, b, (1, 1, 2.5), tolerance) for tolerance in (2.4, 2.5)] == [0.5, 1]


def test_surface_distances_equal_a_distance_transform():
    a, b = blobs(3)
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]  # beyond the border lies background
    to = [ndimage.distance_transform_edt(~edge, sampling=SPACING) for edge in edges]
    found = metrics.surface_distances(a, b, SPACING)
    for distances, expected in zip(found, (to[1][edges[0]], to[0][edges[1]]), strict=True):
        np.testing.assert_allclose(distances, expected, rtol=1e-12)


def test_empty_masks():
    empty, full = np.zeros((2, 3, 3), bool), np.ones((2, 3, 3), bool)
    assert (metrics.iou(empty, empty), metrics.dice(empty, empty)) == (1, 1)
    assert (metrics.iou(empty, full), metrics.dice(empty, full)) == (0, 0)
    assert [metrics.surface_dice(*pair, SPACING, 1.0) for pair in ((empty, empty), (empty, full))] == [1, 0]
    assert np.isnan(metrics.roughness(empty, SPACING))
    some = np.indices(full.shape)[2] == 1
    assert [metrics.surface_dice(*pair, SPACING, 1.0) for pair in ((some, empty), (empty, some))] == [0, 0]
    for distance in (metrics.hausdorff95, metrics.average_surface_distance):
        assert distance(empty, empty, SPACING) == 0
        for mask in (some, full):
            assert distance(empty, mask, SPACING) == distance(mask, empty, SPACING) == float("inf")
            assert distance(mask, mask, SPACING) == 0


def test_masks_of_numbers_and_of_other_shapes():
    a, b = (m.astype(np.uint8) * k for m, k in zip(blobs(0), (1, 2), strict=True))
    assert metrics.iou(a, b) == metrics.iou(a > 0, b > 0)
    assert metrics.hausdorff95(a, b, SPACING) == metrics.hausdorff95(a > 0, b > 0, SPACING)
    with pytest.raises(ValueError, match="two masks of one grid"):
        metrics.dice(a, b[:1])


@pytest.mark.parametrize("measure", [metrics.iou, metrics.dice])
def test_a_probability_is_no_mask(measure):
    mask = np.array([[[True, True, False, False]]])
    probability = np.array([[[0.9, 0.2, 0.2, 0.0]]])
    assert measure((probability >= 0.5).astype(np.float32), mask) == measure(probability >= 0.5, mask)
    for pair in ((probability, mask), (mask, probability), (mask, probability * np.nan)):
        with pytest.raises(ValueError, match="the mask holds values other than 0 and 1; write a threshold"):
            measure(*pair)
    with pytest.raises(ValueError, match="the mask holds values other than 0 and 1; write a threshold"):
        metrics.roughness(probability, SPACING)


@pytest.mark.parametrize(("amplitude", "waves"), [(0.0, 12), (0.3, 12), (0.5, 12), (0.3, 16)])
def test_roughness_of_a_ball_with_bumps(amplitude, waves):
    """Heights a cos(m theta) cos(m phi) have the root mean square a / 2; the voxels' steps add in squares."""
    spacing, radius = (0.26, 0.22, 0.40), 8.0
    axes = [(np.arange(int(20 / step)) - (int(20 / step) - 1) / 2) * step for step in spacing]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    height = amplitude * np.cos(waves * np.arccos(z / r)) * np.cos(waves * np.arctan2(y, x))
    found = metrics.roughness(r < radius + height, spacing)
    assert found == pytest.approx(np.hypot(amplitude / 2, 0.06), rel=0.2)
    assert metrics.roughness(r < 5, spacing) == pytest.approx(0.06, abs=0.01)  # the size of a ball does not matter


def test_a_wave_counts_by_what_a_gaussian_of_1_5_mm_takes_away():
    """Of a spherical harmonic of degree l on a ball of radius R it leaves about exp(-l (l + 1) 1.5^2 / 2 R^2).

    It is highest where the columns are, 0.5 mm wide: voxel faces count by their area, or it would be 0.120.
    """
    spacing, radius, degree, amplitude = (0.25, 0.25, 0.5), 8.0, 6, 0.6
    axes = [(np.arange(int(20 / step)) - (int(20 / step) - 1) / 2) * step for step in spacing]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    left = np.exp(-degree * (degree + 1) * 1.5**2 / 2 / radius**2)
    wave = amplitude / np.sqrt(2 * degree + 1) * (1 - left)  # root mean square
    found = metrics.roughness(r < radius + amplitude * special.eval_legendre(degree, x / r), spacing)
    assert found == pytest.approx(np.hypot(wave, metrics.roughness(r < radius, spacing)), rel=0.03)
    assert found == pytest.approx(0.111, abs=0.003)


def test_an_ellipsoid_is_no_rougher_than_its_voxels():
    z, y, x = np.meshgrid(*[np.arange(-12, 12.1, 0.25)] * 3, indexing="ij")
    assert metrics.roughness((z / 8) ** 2 + (y / 10) ** 2 + (x / 9) ** 2 < 1, (0.25, 0.25, 0.25)) < 0.08


def test_no_box_at_all_is_no_detection():
    target = torch.tensor([[[0.0, 0, 10, 10]], [[0.0, 0, 0, 0]]])  # an object on the first slice alone
    found = metrics.score_boxes(torch.zeros(2, 0, 4), target)
    assert found == {"box_iou": 0, "recall50": 0, "recall70": 0, "false_boxes": 0}
    assert metrics.score_boxes(target, target) == {"box_iou": 1, "recall50": 1, "recall70": 1, "false_boxes": 0}
    nothing = metrics.score_boxes(target, torch.zeros(2, 0, 4))
    unknown = dict.fromkeys(("box_iou", "recall50", "recall70"), np.nan)
    assert nothing == pytest.approx(unknown | {"false_boxes": 0.5}, nan_ok=True)


def test_boxes_that_overlap_by_just_a_half_are_found():
    """Four slices with an object, the last of which shows two, and two without one."""
    target = torch.zeros(6, 2, 4)
    target[:4, 0] = torch.tensor([0.0, 0, 10, 10])
    target[3, 1] = torch.tensor([20.0, 0, 30, 10])
    detected = torch.zeros(6, 2, 4)
    best = [[0.0, 0, 10, 5], [0, 0, 10, 7], [0, 0, 10, 4], [20, 0, 30, 10], [0, 0, 0.5, 0.5], [0, 0, 0, 0]]
    detected[:, 0] = torch.tensor(best)
    detected[2, 1] = target[2, 0]  # a better box, but the second best by its score
    overlap, holds = metrics.overlaps(detected, target)
    assert overlap.tolist() == pytest.approx([0.5, 0.7, 0.4, 1, 0, 0])
    assert holds.tolist() == [True] * 4 + [False] * 2
    found = {"box_iou": 0.65, "recall50": 0.75, "recall70": 0.5, "false_boxes": 0.5}
    assert metrics.score_boxes(detected, target) == pytest.approx(found)


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("empty", [False, True])
def test_a_spacing_that_is_no_size_is_refused(size, empty):
    a, b = (mask & (not empty) for mask in blobs(0))
    spacing = (size, 1.0, 1.0)
    for measured in (
        lambda: metrics.surface_distances(a, b, spacing),
        lambda: metrics.hausdorff95(a, b, spacing),
        lambda: metrics.average_surface_distance(a, b, spacing),
        lambda: metrics.surface_dice(a, b, spacing, 1),
        lambda: metrics.roughness(a, spacing),
    ):
        with pytest.raises(ValueError, match=r"the spacing is \[\S+, 1\.0, 1\.0\]; expected numbers above 0") as caught:
            measured()
        assert f"[{float(size)}, 1.0, 1.0]" in str(caught.value)
