"""How well a mask agrees with the annotation, and a box with its target (chapter 08, paper section 4)."""

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from .boxes import area, box_iou


def _masks(a, b):
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape:
        raise ValueError(f"two masks of one grid are compared, found {a.shape} and {b.shape}")
    return a, b


def iou(a, b):
    """Intersection over union, TP / (TP + FP + FN), of two masks (D, H, W); 1 when both are empty."""
    a, b = _masks(a, b)
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def dice(a, b):
    """2 TP / (2 TP + FP + FN) of two masks (D, H, W); 1 when both are empty."""
    a, b = _masks(a, b)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0


def surface_distances(a, b, spacing):
    """Distances in mm from every surface voxel of `a` to the nearest surface voxel of `b`, and the other way round.

    A surface voxel belongs to the mask and has a face neighbour that does not; beyond the border lies background.

    Parameters
    ----------
    a, b : ndarrays of bool, (D, H, W)
        Not empty.
    spacing : (dz, dy, dx) in mm

    Returns
    -------
    a_to_b, b_to_a : ndarrays, one value a surface voxel
    """
    a, b = _masks(a, b)
    around = ndimage.find_objects((a | b).astype(np.uint8))[0]
    places = []
    for mask in (a[around], b[around]):
        mask = np.pad(mask, 1)
        places.append(np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing)
    # many voxels share a coordinate: splitting a box in its middle is faster than at the median voxel
    trees = [KDTree(place, leafsize=32, balanced_tree=False) for place in places]
    return trees[1].query(places[0])[0], trees[0].query(places[1])[0]


def _from_surfaces(a, b, spacing, summarise):
    a, b = _masks(a, b)
    if not a.any() and not b.any():
        return 0.0
    if not a.any() or not b.any():
        return float("inf")
    return float(summarise(*surface_distances(a, b, spacing)))


def hausdorff95(a, b, spacing):
    """The larger of the two directed 95th percentiles of the surface distances, in mm (MONAI's definition).

    0 when both masks are empty, infinite when one is.
    """
    return _from_surfaces(a, b, spacing, lambda ab, ba: max(np.percentile(ab, 95), np.percentile(ba, 95)))


def average_surface_distance(a, b, spacing):
    """The mean of all surface distances of both directions, in mm (symmetric; MONAI's with ``symmetric=True``).

    0 when both masks are empty, infinite when one is.
    """
    return _from_surfaces(a, b, spacing, lambda ab, ba: np.concatenate([ab, ba]).mean())


def overlaps(detected, target):
    """IoU of every slice's best detection with the annotated box that it fits best.

    Parameters
    ----------
    detected : Tensor, (D, k, 4), best first
    target : Tensor, (D, M, 4)
        Both padded with boxes of no area.

    Returns
    -------
    overlap : Tensor, (D,)
        0 where there is no detection or nothing to detect.
    holds : bool Tensor, (D,)
        Whether the slice holds an annotated box.
    """
    best = box_iou(detected[:, :1], target)[:, 0]  # (D, M)
    return best.amax(1) if target.shape[1] else best.new_zeros(len(best)), (area(target) > 0).any(1)


def score_boxes(detected, target):
    """How well the best detection of each slice fits; shapes as in `overlaps`.

    Returns
    -------
    dict
        ``box_iou``: mean IoU over the slices that hold a box, a miss counting 0. ``recall50``, ``recall70``: share
        of those slices with IoU at least 0.5, 0.7. ``false_boxes``: share of the empty slices with a detection.
        NaN where there is no such slice.
    """
    overlap, holds = overlaps(detected, target)
    found = area(detected[:, 0]) > 0

    def mean(values):
        return float(values.float().mean()) if len(values) else float("nan")

    return {
        "box_iou": mean(overlap[holds]),
        "recall50": mean(overlap[holds] >= 0.5),
        "recall70": mean(overlap[holds] >= 0.7),
        "false_boxes": mean(found[~holds]),
    }
