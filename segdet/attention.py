"""From boxes to the attention volume, and the other masks that can take its place (chapter 06)."""

import math
from itertools import zip_longest

import numpy as np

from .masks import two_masks
from .volume import slice_boxes, tight_box


def boxes_to_mask(boxes, shape):
    """The union of every slice's boxes as a binary volume: the paper's attention model (section 3, Fig. 1).

    A pixel belongs to a box when its centre does, so boxes with whole-number edges are reproduced exactly. Each
    box adds +1 and -1 at its four corners; two cumulative sums fill it in, whatever the number of boxes.

    Parameters
    ----------
    boxes : Tensor, (D, M, 4), or list of D arrays, (n, 4)
        Boxes a slice, as `RPN.propose` or `segdet.volume.slice_boxes` give them; boxes of no area paint nothing.
    shape : (D, H, W)

    Returns
    -------
    bool Tensor, (D, H, W)

    Raises
    ------
    SegdetError
        What is given are no rows of four edges.
    ValueError
        There are not as many slices of boxes as of the volume, or an edge is no number.
    """
    import torch

    from .boxes import as_rows, pad_boxes

    boxes = boxes if torch.is_tensor(boxes) else pad_boxes(boxes)
    as_rows(boxes)
    depth, rows, cols = shape
    if len(boxes) != depth:
        raise ValueError(f"boxes for {len(boxes)} slices, but the volume has {depth}")
    if boxes.isnan().any():
        raise ValueError(f"slice {int(boxes.isnan().any((1, 2)).nonzero()[0])}: a box has an edge that is no number")
    edges = torch.ceil(boxes - 0.5)
    x0, x1 = edges[..., 0].clamp(0, cols).long(), edges[..., 2].clamp(0, cols).long()
    y0, y1 = edges[..., 1].clamp(0, rows).long(), edges[..., 3].clamp(0, rows).long()
    # one byte counts the boxes over a pixel modulo 256, which up to 255 boxes is 0 only where there is none
    dtype = torch.int8 if boxes.shape[1] < 256 else torch.int32
    inside = ((x1 > x0) & (y1 > y0)).to(dtype)
    corners = torch.zeros(depth, rows + 1, cols + 1, dtype=dtype, device=boxes.device)
    slice_of = torch.arange(depth, device=boxes.device)[:, None].expand_as(x0)
    for y, x, sign in ((y0, x0, 1), (y0, x1, -1), (y1, x0, -1), (y1, x1, 1)):
        corners.index_put_((slice_of, y, x), sign * inside, accumulate=True)
    return corners.cumsum_(1).cumsum_(2)[:, :rows, :cols] != 0


def painted(boxes, shape):
    """`boxes_to_mask` without PyTorch: a pixel belongs to a box when its centre does.

    Parameters
    ----------
    boxes : ndarray, (D, M, 4), or list of D arrays, (n, 4)
    shape : (D, H, W)

    Returns
    -------
    ndarray of bool, (D, H, W)
    """
    y, x = (np.arange(side) + 0.5 for side in shape[1:])
    mask = np.zeros(shape, bool)
    for one_a_slice in zip_longest(*boxes, fillvalue=np.zeros(4)):
        x0, y0, x1, y1 = np.transpose(one_a_slice)[..., None]  # the edges, (D, 1) each
        mask |= ((y0 <= y) & (y < y1))[:, :, None] & ((x0 <= x) & (x < x1))[:, None, :]
    return mask


def box3d_mask(annotation):
    """The 3D tight box of an annotation as a mask, (D, H, W): the paper's "3D mask" arm (section 4, Fig. 3 b)."""
    mask = np.zeros(annotation.shape, bool)
    box = tight_box(annotation)
    if box:
        mask[box] = True
    return mask


def slice_box_mask(annotation):
    """The annotation's tight box in every slice as a mask, (D, H, W): what a perfect detector would give."""
    return boxes_to_mask(slice_boxes(annotation), annotation.shape).numpy()


def shifted(mask, seed):
    """The same mask in a wrong place: moved by a quarter to three quarters of every axis, around the edges.

    The way depends on `seed`, so that no network can learn to move it back.
    """
    rng = np.random.default_rng(seed)
    return np.roll(mask, [rng.integers(n // 4, 3 * n // 4 + 1) for n in mask.shape], (0, 1, 2))


def attended_region(attention, spacing, margin):
    """The part of the grid around the attention that a cropped cascade looks at (chapter 09; not in the paper).

    Parameters
    ----------
    attention : ndarray of bool, (D, H, W)
    spacing : (dz, dy, dx) in mm
    margin : float or None
        In mm, on every side. None means the whole grid, and so does an attention without a box. Where the grid has
        room, sides grow to a multiple of 8, at least 16: three poolings then leave two voxels or more.

    Returns
    -------
    three slices
    """
    box = None if margin is None else tight_box(attention)
    if box is None:
        return (slice(None),) * 3
    region = []
    for side, size, step in zip(box, attention.shape, spacing, strict=True):
        reach = math.ceil(margin / step)
        length = side.stop - side.start + 2 * reach
        length = min(max(length + -length % 8, 16), size)
        start = min(max((side.start + side.stop - length) // 2, 0), size - length)
        region.append(slice(start, start + length))
    return tuple(region)


def coverage_and_leakage(attention, annotation):
    """How much of the annotation the attention keeps, and how much of the attention is something else.

    Parameters
    ----------
    attention, annotation : arrays of bool, (D, H, W)

    Returns
    -------
    coverage : float
        Voxels of the annotation inside the attention over all of the annotation's; 1 for an empty annotation.
    leakage : float
        Voxels of the attention outside the annotation over all of the attention's; 0 for an empty attention.

    Raises
    ------
    ValueError
        The two differ in shape, or are no masks.
    """
    attention, annotation = two_masks(attention, annotation)
    shared = float((attention & annotation).sum())
    coverage = shared / annotation.sum() if annotation.any() else 1.0
    leakage = 1 - shared / attention.sum() if attention.any() else 0.0
    return coverage, leakage
