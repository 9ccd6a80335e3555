"""Anchors (chapter 03): overlap, reference boxes, and the way from one to the other."""

import math

import torch

from .exercise import FIRST, FURTHER, Check, exercise


def some_boxes(count, seed):
    """Random boxes (count, 4) on a slice of some 60 pixels, with positive sides."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 60 / 2], 1)


def _box_iou():
    from torchvision.ops import box_iou as theirs

    box = torch.tensor([[0.0, 0, 4, 2]])
    yield Check(
        "two boxes of 4 x 2, one 2 columns right and 1 row down: 2 / 14",
        (box, box + torch.tensor([2, 1, 2, 1])),
        torch.tensor([[1 / 7]]),
    )
    yield Check("a box with itself", (box, box), torch.ones(1, 1))
    yield Check("apart along both axes", (box, box + 5), torch.zeros(1, 1))
    yield Check(
        "side by side: edges are half-open, nothing is shared",
        (box, box + torch.tensor([4, 0, 4, 0])),
        torch.zeros(1, 1),
    )
    nothing = torch.zeros(1, 4)
    yield Check("a box without area stands for none", (nothing, torch.cat([nothing, box])), torch.zeros(1, 2))
    a, b = some_boxes(5, 0), some_boxes(3, 1)
    yield Check("every box with every box, against torchvision", (a, b), theirs(a, b))


@exercise(
    FIRST,
    _box_iou,
    "The shared part reaches from the larger of both beginnings to the smaller of both ends, along x and along y.",
    "Where it would end before it begins nothing is shared: cut each side off at 0 before you multiply.",
    "Compare `a[:, None]` with `b[None]`: shapes (N, 1, 4) and (1, M, 4) broadcast to (N, M, 4).",
    "Two boxes without area have a union of 0. Their IoU is 0 and not NaN.",
)
def box_iou(a, b):
    """Intersection over union of every box of `a` with every box of `b`.

    Parameters
    ----------
    a : Tensor, (N, 4)
    b : Tensor, (M, 4)
        Each row is (x0, y0, x1, y1) with half-open pixel edges.

    Returns
    -------
    Tensor, (N, M)
        0 for two boxes without area.
    """


def _encode():
    anchor = torch.tensor([[0.0, 0, 20, 40]])
    yield Check("the anchor itself", (anchor, anchor), torch.zeros(1, 4))
    yield Check(
        "20 x 80 with its centre at (15, 40), by hand",
        (torch.tensor([[5.0, 0, 25, 80]]), anchor),
        torch.tensor([[0.25, 0.5, 0, math.log(2)]]),
    )
    yield Check(
        "half as wide about the same centre",
        (torch.tensor([[5.0, 0, 15, 40]]), anchor),
        torch.tensor([[0, 0, -math.log(2), 0]]),
    )
    boxes, anchors = some_boxes(6, 2), some_boxes(6, 3)
    yield Check("three times as large, the same offsets", (3 * boxes, 3 * anchors), _offsets(boxes, anchors))


def _offsets(boxes, anchors):
    """By torchvision's conversion to centre, width and height."""
    from torchvision.ops import box_convert

    (x, y, w, h), (xa, ya, wa, ha) = (box_convert(b, "xyxy", "cxcywh").T for b in (boxes, anchors))
    return torch.stack([(x - xa) / wa, (y - ya) / ha, torch.log(w / wa), torch.log(h / ha)], 1)


@exercise(
    FIRST,
    _encode,
    "Turn both boxes into centre, width and height first.",
    "The shift is that of the centres, not of the corners, in sides of the anchor.",
    "The growth is the natural logarithm of the box's side over the anchor's.",
)
def encode(boxes, anchors):
    """Offsets (tx, ty, tw, th) that turn each anchor into the box beside it.

    Parameters
    ----------
    boxes, anchors : Tensors, (N, 4)
        With positive sides.

    Returns
    -------
    Tensor, (N, 4)
    """


def _anchor_grid():
    yield Check(
        "a square of 8 at the centre of a cell of 16", ([8.0], [1.0], 16, (1, 1)), torch.tensor([[4.0, 4, 12, 12]])
    )
    yield Check(
        "ratio 4 is four times taller than wide, with the area of 8 x 8",
        ([8.0], [4.0], 16, (1, 1)),
        torch.tensor([[6.0, 0, 10, 16]]),
    )
    row = [[4.0, 4, 12, 12], [20, 4, 28, 12], [4, 20, 12, 28], [20, 20, 28, 28]]
    yield Check("two by two cells, row by row", ([8.0], [1.0], 16, (2, 2)), torch.tensor(row))
    shapes = torch.tensor([[4.0, 4], [8, 8], [2, 8], [4, 16]])  # sizes 4 and 8 of ratio 1, then of ratio 4
    by_hand = torch.cat([8 - shapes / 2, 8 + shapes / 2], 1)
    yield Check("all sizes of the first ratio, then of the next", ([4.0, 8.0], [1.0, 4.0], 16, (1, 1)), by_hand)
    both = torch.cat([by_hand, by_hand + torch.tensor([16, 0, 16, 0])])
    yield Check("all anchors of a cell before those of the next", ([4.0, 8.0], [1.0, 4.0], 16, (1, 2)), both)
    yield Check(
        "the paper's nine on 11 x 6 cells are 594",
        ([32.0, 48, 64], [1.0, 2, 3], 16, (11, 6)),
        (594, 4),
        lambda a: tuple(a.shape),
    )


@exercise(
    FURTHER,
    _anchor_grid,
    "Width times height is size squared, and height over width is the ratio: solve for both sides.",
    "Width = size / sqrt(ratio), height = size * sqrt(ratio). The centre of cell i is (i + 1/2) stride.",
    "Centres (rows, cols, 1, 2) and half shapes (A, 2): join centre - half and centre + half, then reshape to (-1, 4).",
)
def anchor_grid(sizes, ratios, stride, cells):
    """The anchors of a feature map.

    Parameters
    ----------
    sizes : list of float
        Square roots of the areas, in pixels.
    ratios : list of float
        Height over width.
    stride : int
        Pixels per cell; an anchor lies at the centre of its cell and is not rounded.
    cells : (rows, columns)

    Returns
    -------
    Tensor of float, (rows * columns * A, 4)
        Row by row; within a cell all sizes of the first ratio, then of the next.
    """


EXERCISES = (box_iou, encode, anchor_grid)
