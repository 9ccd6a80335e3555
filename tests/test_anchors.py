"""Anchors against hand-worked values and torchvision's generator, with its known offset."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from segdet.anchors import AnchorGrid, default_anchors, fit_anchors
from segdet.errors import SegdetError


def test_by_hand():
    grid = AnchorGrid(sizes=[8], ratios=[4], stride=16)  # 4 wide, 16 tall, centred at 8, 24
    assert grid((1, 2)).tolist() == [[6, 0, 10, 16], [22, 0, 26, 16]]
    assert grid((1, 2), offset=0).tolist() == [[-2, -8, 2, 8], [14, -8, 18, 8]]
    assert AnchorGrid([4], [1], 1)((1, 1)).tolist() == [[-1.5, -1.5, 2.5, 2.5]]  # a stride of one pixel


def test_the_paper_s_slice_has_594():
    grid = AnchorGrid()
    assert (grid.sizes, grid.ratios, grid.stride) == ((32, 48, 64), (1, 1.8, 2.6), 16)
    assert len(grid) == 9
    assert grid((184 // 16, 96 // 16)).shape == (594, 4)


def test_equals_torchvision_up_to_half_a_stride_and_rounding():
    sizes, ratios = (32.0, 48.0, 64.0), (0.5, 1.0, 2.0)
    theirs = AnchorGenerator((sizes,), (ratios,))(
        ImageList(torch.zeros(1, 3, 176, 96), [(176, 96)]), [torch.zeros(1, 1, 11, 6)]
    )[0]
    ours = AnchorGrid(sizes, ratios)((11, 6))
    assert theirs.shape == ours.shape
    difference = ours - theirs
    # torchvision centres on the cell's corner, 8 px up and left, and rounds half a side: at most 1/2 px more.
    assert (difference - 8).abs().max() <= 0.5
    torch.testing.assert_close(
        (ours[:, :2] + ours[:, 2:]) / 2 - (theirs[:, :2] + theirs[:, 2:]) / 2, torch.full((594, 2), 8.0)
    )


def test_ratio_is_height_over_width():
    width, height = AnchorGrid([30], [2.25]).shapes[0].tolist()
    np.testing.assert_allclose([width, height], [20, 45], rtol=1e-6)


def test_fitted_anchors_are_the_quantiles():
    side = np.arange(1, 8) * 0.4  # seven boxes at (3, 5): 0.4 i wide, 0.8 i tall
    boxes = np.stack([0 * side + 3, 0 * side + 5, side + 3, 2 * side + 5], 1)
    grid = fit_anchors(boxes)
    np.testing.assert_allclose(grid.sizes, np.sqrt(2) * np.array([0.8, 1.6, 2.4]))
    np.testing.assert_allclose(grid.ratios, [2, 2, 2])


@pytest.mark.parametrize(
    ("boxes", "found"),
    [
        (np.ones((4, 5)), r"found an array \(4, 5\)"),
        (np.zeros((0, 4)), "found 0 of 0"),
        ([[0, 0, 4, 8], [5, 5, 5, 5]], "boxes with an area, found 1 of 2"),
        ([[0, 0, 4, 8], [5, 5, 5, 9], [5, 5, 9, 5]], "boxes with an area, found 1 of 3"),
    ],
)
def test_what_anchors_cannot_be_fitted_to(boxes, found):
    with pytest.raises(SegdetError, match=found):
        fit_anchors(boxes)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"sizes": (-8,)}, r"sizes that are positive and finite, at least one; found \(-8\.0,\)"),
        ({"sizes": (0, 8)}, r"sizes .* found \(0\.0, 8\.0\)"),
        ({"sizes": "32"}, "sizes and ratios that are numbers, found '32' and"),
        ({"ratios": "12"}, r"sizes and ratios that are numbers, found .* and '12'"),
        ({"sizes": ()}, r"sizes .* found \(\)"),
        ({"ratios": (1, float("nan"))}, r"ratios .* found \(1\.0, nan\)"),
        ({"ratios": (float("inf"),)}, r"ratios .* found \(inf,\)"),
        ({"stride": 0.5}, r"stride of 1 pixel or more, found 0\.5"),
    ],
)
def test_impossible_anchors_are_refused(given, found):
    with pytest.raises(SegdetError, match=found):
        AnchorGrid(**given)


def test_scaled_defaults_fit_the_slice():
    grid = default_anchors((184, 96))
    np.testing.assert_allclose(grid.sizes, [20.48, 40.96, 81.92])
    assert grid.ratios == (0.5, 1, 2)
