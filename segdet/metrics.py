"""How well a mask agrees with the annotation, and a box with its target (chapter 08, paper section 4)."""

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from .boxes import area, box_iou
from .masks import as_mask, two_masks


def iou(a, b):
    """Intersection over union, TP / (TP + FP + FN), of two masks (D, H, W); 1 when both are empty."""
    a, b = two_masks(a, b)
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def dice(a, b):
    """2 TP / (2 TP + FP + FN) of two masks (D, H, W); 1 when both are empty."""
    a, b = two_masks(a, b)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0


def _voxel_size(spacing):
    """The spacing as an array; of a size that is none, distances would be wrong without a word."""
    sizes = np.asarray(spacing, float)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(f"the spacing is {sizes.tolist()}; expected numbers above 0, (dz, dy, dx) in mm")
    return sizes


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

    Raises
    ------
    ValueError
        The spacing holds what is no size, as in all that is measured on surfaces.
    """
    (a, b), spacing = two_masks(a, b), _voxel_size(spacing)
    around = ndimage.find_objects((a | b).astype(np.uint8))[0]
    places = []
    for mask in (a[around], b[around]):
        mask = np.pad(mask, 1)
        places.append(np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing)
    # many voxels share a coordinate: splitting a box in its middle is faster than at the median voxel
    trees = [KDTree(place, leafsize=32, balanced_tree=False) for place in places]
    return trees[1].query(places[0])[0], trees[0].query(places[1])[0]


def _from_surfaces(a, b, spacing, summarise):
    (a, b), spacing = two_masks(a, b), _voxel_size(spacing)
    if not a.any() and not b.any():
        return 0.0
    if not a.any() or not b.any():
        return float("inf")
    return float(summarise(*surface_distances(a, b, spacing)))


def hausdorff95(a, b, spacing):
    """The larger of the two directed 95th percentiles of the surface distances, in mm (MONAI's definition).

    Parameters
    ----------
    a, b : ndarrays of bool, (D, H, W)
    spacing : (dz, dy, dx) in mm

    Returns
    -------
    float
        0 when both masks are empty, infinite when one is.
    """
    return _from_surfaces(a, b, spacing, lambda ab, ba: max(np.percentile(ab, 95), np.percentile(ba, 95)))


def average_surface_distance(a, b, spacing):
    """The mean of all surface distances of both directions, in mm (symmetric; MONAI's with ``symmetric=True``).

    Parameters
    ----------
    a, b : ndarrays of bool, (D, H, W)
    spacing : (dz, dy, dx) in mm

    Returns
    -------
    float
        0 when both masks are empty, infinite when one is.
    """
    return _from_surfaces(a, b, spacing, lambda ab, ba: np.concatenate([ab, ba]).mean())


def surface_dice(a, b, spacing, tolerance):
    """The share of both surfaces that lies within `tolerance` mm of the other (Nikolov et al., JMIR 2021;23:e26151).

    Surface voxels are counted, not their areas.

    Parameters
    ----------
    a, b : ndarrays of bool, (D, H, W)
    spacing : (dz, dy, dx) in mm
    tolerance : float
        In mm.

    Returns
    -------
    float
        1 when both masks are empty, 0 when one is.
    """
    (a, b), spacing = two_masks(a, b), _voxel_size(spacing)
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    return float(np.mean(np.concatenate(surface_distances(a, b, spacing)) <= tolerance))


ROUGH_MM = 1.5  # of a surface: what is shorter than about six times this is roughness, what is longer is shape


def roughness(mask, spacing):
    """How far a mask's surface strays from its own smooth form, in mm: the root mean square height, Sq of ISO 25178-2.

    The signed distance to the outline, smoothed with a Gaussian of `ROUGH_MM`, is a height above the smooth form. It is
    taken at every voxel face of the outline, without its mean, so that a ball has none, whatever its size. The voxels'
    own steps count (0.06 mm at the phantom's spacing): compare masks of one grid.

    Parameters
    ----------
    mask : ndarray of bool, (D, H, W)
    spacing : (dz, dy, dx) in mm

    Returns
    -------
    float
        NaN for an empty mask.
    """
    mask, spacing = as_mask(mask), _voxel_size(spacing)
    if not mask.any():
        return float("nan")
    around = ndimage.find_objects(mask.astype(np.uint8))[0]
    margin = np.ceil(3 * ROUGH_MM / spacing).astype(int) + 1
    mask = np.pad(mask[around], [(n, n) for n in margin])
    outside, inside = (ndimage.distance_transform_edt(part, spacing) for part in (~mask, mask))
    smooth = ndimage.gaussian_filter(outside - inside, ROUGH_MM / spacing, truncate=3)
    heights, areas = [], []
    for axis, step in enumerate(spacing):
        part, height = np.moveaxis(mask, axis, 0), np.moveaxis(smooth, axis, 0)
        heights.append(((height[1:] + height[:-1]) / 2)[part[1:] != part[:-1]])
        areas.append(np.full(len(heights[-1]), spacing.prod() / step))
    heights, areas = np.concatenate(heights), np.concatenate(areas)
    return float(np.sqrt(np.average((heights - np.average(heights, weights=areas)) ** 2, weights=areas)))


def overlaps(detected, target):
    """IoU of every slice's best detection with the annotated box that it fits best.

    Parameters
    ----------
    detected : Tensor, (D, k, 4), best first; k may be 0
    target : Tensor, (D, M, 4)
        Both padded with boxes of no area.

    Returns
    -------
    overlap : Tensor, (D,)
        0 where there is no detection or nothing to detect.
    holds : bool Tensor, (D,)
        Whether the slice holds an annotated box.
    """
    best = box_iou(detected[:, :1], target).sum(1)  # (D, M), the sum of one, or of none
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
    found = (area(detected[:, :1]) > 0).any(1)

    def mean(values):
        return float(values.float().mean()) if len(values) else float("nan")

    return {
        "box_iou": mean(overlap[holds]),
        "recall50": mean(overlap[holds] >= 0.5),
        "recall70": mean(overlap[holds] >= 0.7),
        "false_boxes": mean(found[~holds]),
    }
