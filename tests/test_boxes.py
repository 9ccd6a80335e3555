"""Boxes against hand-worked values and torchvision."""

import math
import re

import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou as torchvision_iou

from segdet.boxes import area, box_iou, clip, decode, encode, mirror, pad_boxes
from segdet.errors import SegdetError

NARROW = [torch.float16, torch.bfloat16, torch.uint8, torch.int16, torch.int64]


def random_boxes(n, seed, low=2.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 100 - 20
    return torch.cat([corner, corner + low + torch.rand(n, 2, generator=generator) * 80], 1)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),  # 1 shared of 4 + 4 - 1
        ((0, 0, 4, 2), (0, 0, 4, 2), 1),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0),  # half-open: they touch, they do not overlap
        ((0, 0, 4, 4), (1, 1, 2, 3), 2 / 16),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0),  # "no box" overlaps nothing, itself included
        ((3, 3, 1, 1), (0, 0, 4, 4), 0),  # upside down
        ((0, 0, 0.5, 0.5), (0, 0, 0.5, 0.25), 1 / 2),  # less than a pixel in all
    ],
)
def test_iou_by_hand(a, b, expected):
    found = box_iou(torch.tensor([a], dtype=torch.float32), torch.tensor([b], dtype=torch.float32))
    assert found.item() == pytest.approx(expected)


def test_iou_equals_torchvision_and_batches():
    a, b = random_boxes(300, 0), random_boxes(200, 1)
    torch.testing.assert_close(box_iou(a, b), torchvision_iou(a, b))
    batched = box_iou(a.view(3, 100, 4), b[:150].view(3, 50, 4))
    torch.testing.assert_close(batched[1], torchvision_iou(a[100:200], b[50:100]))


def test_encode_by_hand():
    # A 20 x 40 anchor centred on (10, 20); a 40 x 40 box centred on (20, 10).
    offsets = encode(torch.tensor([[0.0, -10, 40, 30]]), torch.tensor([[0.0, 0, 20, 40]]))
    torch.testing.assert_close(offsets, torch.tensor([[0.5, -0.25, math.log(2), 0.0]]))


def test_encode_decode_equal_torchvision_and_invert():
    boxes, anchors = random_boxes(500, 2), random_boxes(500, 3, low=8)
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(encode(boxes, anchors), coder.encode_single(boxes, anchors), rtol=1e-4, atol=1e-5)
    offsets = torch.randn(500, 4, generator=torch.Generator().manual_seed(4)) * 2
    torch.testing.assert_close(decode(offsets, anchors), coder.decode_single(offsets, anchors), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, rtol=1e-4, atol=1e-3)
    batch = boxes.view(5, 100, 4), anchors.view(5, 100, 4)
    assert torch.equal(encode(*batch).view(500, 4), encode(boxes, anchors))
    assert torch.equal(decode(offsets.view(5, 100, 4), batch[1]).view(500, 4), decode(offsets, anchors))


def test_decode_survives_extreme_offsets():
    anchors = torch.tensor([[0.0, 0, 16, 16]])
    assert torch.isfinite(decode(torch.full((1, 4), 1e4), anchors)).all()


def test_clip():
    boxes = torch.tensor([[-5.0, -1, 200, 50], [3, 4, 5, 6]])
    torch.testing.assert_close(clip(boxes, (184, 96)), torch.tensor([[0.0, 0, 96, 50], [3, 4, 5, 6]]))


def test_pad_boxes():
    padded = pad_boxes([[], [[1, 2, 3, 4], [5, 6, 7, 8]], [[9, 9, 10, 10]]])
    assert padded.shape == (3, 2, 4)
    assert padded[0].abs().sum() == 0
    assert padded[2].tolist() == [[9, 9, 10, 10], [0, 0, 0, 0]]
    assert pad_boxes([[], []]).shape == (2, 0, 4)
    assert pad_boxes([]).shape == (0, 0, 4)


@pytest.mark.parametrize("shape", [(4, 5), (4, 3), (8,), ()])
def test_what_are_no_rows_of_four_edges_is_refused(shape):
    with pytest.raises(SegdetError, match=re.escape(f"x0, y0, x1, y1, so (N, 4), found an array {shape}")):
        pad_boxes([np.ones(shape)])


def test_mirror():
    boxes = torch.tensor([[[10.0, 5, 30, 50], [2, 3, 2.5, 4], [0, 0, 0, 0]]])
    assert mirror(boxes, 96).tolist() == [[[66, 5, 86, 50], [93.5, 3, 94, 4], [0, 0, 0, 0]]]
    assert torch.equal(mirror(mirror(boxes, 96), 96), boxes)


def test_gradients():
    anchors = random_boxes(5, 5, low=8).double()
    offsets = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(6)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: decode(t, anchors), offsets)
    boxes = random_boxes(5, 7).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda b: encode(b, anchors), boxes)


@pytest.mark.parametrize("kind", NARROW)
def test_boxes_of_few_bits_and_whole_numbers(kind):
    """An area of 90000 is above what float16 holds, and 240 - 250 is 246 in uint8."""
    boxes = torch.tensor([[0, 0, 240, 240], [0, 0, 120, 240], [250, 0, 240, 240]]).to(kind)
    assert torch.equal(area(boxes), torch.tensor([57600.0, 28800.0, 0.0]))
    assert torch.equal(box_iou(boxes[:2], boxes), torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0]]))
    if kind != torch.uint8:
        assert box_iou(torch.tensor([[0, 0, 300, 300]]).to(kind), torch.tensor([[0, 0, 300, 300]]).to(kind)) == 1


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_boxes_of_enough_bits_stay_as_they_are(kind):
    boxes = random_boxes(5, 0).to(kind)
    assert area(boxes).dtype == box_iou(boxes, boxes).dtype == kind
    assert torch.equal(area(boxes), (boxes[:, 2:] - boxes[:, :2]).prod(-1))
