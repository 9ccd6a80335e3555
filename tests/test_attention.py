"""Boxes to mask against painting them one by one."""

import numpy as np
import pytest
import torch

from segdet.attention import box3d_mask, boxes_to_mask, coverage_and_leakage, slice_box_mask


def painted(boxes, shape):
    mask = np.zeros(shape, bool)
    y, x = np.arange(shape[1]) + 0.5, np.arange(shape[2]) + 0.5
    for plane, slice_boxes in zip(mask, boxes, strict=True):
        for x0, y0, x1, y1 in np.asarray(slice_boxes):
            plane |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None]
    return mask


@pytest.mark.parametrize("scale", [1, 0.5, 0.37])
def test_equals_painting(scale):
    rng = np.random.default_rng(0)
    corner = np.round(rng.uniform(-20, 60, (12, 9, 2)) / scale) * scale
    boxes = np.concatenate([corner, corner + np.round(rng.uniform(0, 40, (12, 9, 2)) / scale) * scale], -1)
    mask = boxes_to_mask(torch.from_numpy(boxes.astype(np.float32)), (12, 46, 30))
    assert np.array_equal(mask.numpy(), painted(boxes.astype(np.float32), (12, 46, 30)))


def test_half_open_edges_and_one_pixel():
    mask = boxes_to_mask([np.array([[2, 1, 3, 2]]), np.zeros((0, 4))], (2, 4, 5))
    assert np.argwhere(mask.numpy()).tolist() == [[0, 1, 2]]


def test_upside_down_and_outside_paint_nothing():
    boxes = [np.array([[3, 3, 1, 1], [3, 1, 1, 3], [-9, -9, -1, -1], [99, 0, 120, 9], [2, 2, 2, 4]])]
    assert not boxes_to_mask(boxes, (1, 6, 6)).any()


def test_wrong_number_of_slices():
    with pytest.raises(ValueError, match="3 slices, but the volume has 4"):
        boxes_to_mask([np.zeros((0, 4))] * 3, (4, 5, 5))


def test_annotation_masks():
    annotation = np.zeros((4, 6, 6), bool)
    annotation[1, 2, 2] = annotation[2, 4, 5] = True
    solid = np.zeros_like(annotation)
    solid[1:3, 2:5, 2:6] = True
    assert np.array_equal(box3d_mask(annotation), solid)
    assert np.array_equal(slice_box_mask(annotation), annotation)  # each slice's box is one pixel
    assert not box3d_mask(np.zeros((2, 3, 3), bool)).any()


def test_coverage_and_leakage():
    annotation = np.zeros((1, 4, 4), bool)
    annotation[0, :2, :2] = True
    attention = np.zeros_like(annotation)
    attention[0, :2, 1:] = True  # 6 pixels, 2 of them annotated
    assert coverage_and_leakage(attention, annotation) == (0.5, pytest.approx(4 / 6))
    nothing = np.zeros_like(annotation)
    assert coverage_and_leakage(nothing, annotation) == (0.0, 0.0)
    assert coverage_and_leakage(attention, nothing) == (1.0, 1.0)
