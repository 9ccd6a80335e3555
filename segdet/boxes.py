"""Boxes on a slice: overlap, and the four offsets that move an anchor onto a box (chapter 03).

A box is ``(x0, y0, x1, y1)`` in pixels, float32, x along columns and y along rows. The numbers are half-open pixel
edges: pixel (row r, column c) covers ``[c, c + 1) x [r, r + 1)``, so a mask of one pixel has a 1 x 1 box. A box
without area stands for "no box"; batches of unequal length are padded with such boxes.
"""

import math

import torch

from .errors import SegdetError

# exp(4.135) = 62.5: a proposal may grow at most that much over its anchor, so that no offset overflows.
MAX_LOG_SCALE = math.log(1000 / 16)


def _wide(boxes):
    """Boxes as float32, or float64 where they are: half precision holds no area over 65504, integers no ratio."""
    return boxes.to(torch.promote_types(boxes.dtype, torch.float32))


def area(boxes):
    """Areas (...,) in square pixels of boxes (..., 4), at least float32; zero for a box that is upside down."""
    boxes = _wide(boxes)
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def box_iou(a, b):
    """Intersection over union of every box of `a` with every box of `b`.

    Parameters
    ----------
    a : Tensor, (..., N, 4)
    b : Tensor, (..., M, 4)
        Leading dimensions broadcast.

    Returns
    -------
    Tensor, (..., N, M)
        In [0, 1], at least float32; 0 for two boxes without area.
    """
    a, b = _wide(a), _wide(b)
    top_left = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    bottom_right = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0).prod(-1)
    union = area(a)[..., :, None] + area(b)[..., None, :] - shared
    return torch.where(union > 0, shared / union.clamp(min=torch.finfo(union.dtype).tiny), 0.0)


def _centre_and_size(boxes):
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size


def encode(boxes, anchors):
    """Offsets t = (tx, ty, tw, th) that turn anchors into boxes (paper section 3; Faster R-CNN eq. 2).

    tx = (x - xa) / wa, ty = (y - ya) / ha, tw = log(w / wa), th = log(h / ha), with x, y the centres.

    Parameters
    ----------
    boxes, anchors : Tensor, (..., 4)
        With positive width and height.

    Returns
    -------
    Tensor, (..., 4)
    """
    centre, size = _centre_and_size(boxes)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    return torch.cat([(centre - anchor_centre) / anchor_size, torch.log(size / anchor_size)], -1)


def decode(offsets, anchors):
    """The boxes (..., 4) that offsets (..., 4) make of anchors (..., 4): the inverse of `encode`.

    Growth is limited to a factor of 62.5 per side (`MAX_LOG_SCALE`).
    """
    anchor_centre, anchor_size = _centre_and_size(anchors)
    centre = anchor_centre + offsets[..., :2] * anchor_size
    half = anchor_size * torch.exp(offsets[..., 2:].clamp(max=MAX_LOG_SCALE)) / 2
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes, shape):
    """Boxes (..., 4) cut at the border of a slice of `shape` (rows, columns)."""
    rows, cols = shape
    limit = boxes.new_tensor([cols, rows, cols, rows])
    return torch.minimum(boxes.clamp(min=0), limit)


def mirror(boxes, cols):
    """Boxes (..., 4) of a slice of `cols` columns that has been flipped left to right; no box stays no box."""
    flipped = torch.stack([cols - boxes[..., 2], boxes[..., 1], cols - boxes[..., 0], boxes[..., 3]], -1)
    return torch.where(area(boxes)[..., None] > 0, flipped, torch.zeros_like(boxes))


def as_rows(boxes):
    """Boxes (..., 4), array or tensor, as (N, 4); what holds no number is no box.

    Raises
    ------
    SegdetError
        The last axis does not hold the four edges of a box.
    """
    shape = tuple(boxes.shape)
    if shape[-1:] != (4,) and math.prod(shape):
        raise SegdetError(f"boxes are rows of x0, y0, x1, y1, so (N, 4), found an array {shape}; leave out all else")
    return boxes.reshape(-1, 4)


def pad_boxes(boxes):
    """A list of D arrays or tensors (n_d, 4) as one float32 tensor (D, max n_d, 4), padded with boxes of no area."""
    boxes = [as_rows(torch.as_tensor(b, dtype=torch.float32)) for b in boxes]
    padded = torch.zeros(len(boxes), max((len(b) for b in boxes), default=0), 4)
    for row, b in zip(padded, boxes, strict=True):
        row[: len(b)] = b
    return padded
