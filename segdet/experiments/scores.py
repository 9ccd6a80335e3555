"""What is measured on a test scan: overlap, surfaces, roughness, and which stage failed (chapters 10 and 11)."""

import numpy as np

from .. import metrics
from ..attention import coverage_and_leakage
from ..resampling import resample_array

TOLERANCE_MM = 1.0  # of the surface Dice
FAILURES = ("missed_slice", "cut_off", "overlooked", "leaked", "stray")


def compare_masks(mask, annotation, spacing):
    """Overlap and distances (`facts` section C), a dict; masks (D, H, W), spacing (dz, dy, dx) in mm."""
    return {
        "iou": metrics.iou(mask, annotation),
        "dice": metrics.dice(mask, annotation),
        "hd95_mm": metrics.hausdorff95(mask, annotation, spacing),
        "assd_mm": metrics.average_surface_distance(mask, annotation, spacing),
    }


def score_attention(attention, annotation):
    """How an attention volume fits an annotation, a dict; both bool (D, H, W)."""
    coverage, leakage = coverage_and_leakage(attention, annotation)
    return {"mask_iou": metrics.iou(attention, annotation), "coverage": coverage, "leakage": leakage}


def on_own_grid(probability, case):
    """A mask on the scan's own grid, bool, from a probability on the segmenter's, as `Pipeline.predict` makes it."""
    scale = np.divide(case.own_spacing, case.spacing)
    return resample_array(probability, case.annotation.shape, scale) >= 0.5


def describe_scan(case):
    """What is known of a test scan before any network sees it, a dict."""
    return {
        "voxels": int(np.count_nonzero(case.mask)),  # of the segmenter's grid
        "annotation_roughness_mm": metrics.roughness(case.annotation, case.own_spacing),
    }


def score_scan(probability, case, attention):
    """The row of a test scan in protocol 2: metrics on the scan's own grid, failures in voxels of the segmenter's.

    Parameters
    ----------
    probability : ndarray of float32, (d, h, w)
    case : Case
        With its annotation.
    attention : ndarray of bool, (d, h, w)

    Returns
    -------
    dict
    """
    mask = on_own_grid(probability, case)
    more = {
        "surface_dice": metrics.surface_dice(mask, case.annotation, case.own_spacing, TOLERANCE_MM),
        "roughness_mm": metrics.roughness(mask, case.own_spacing),
    }
    found = compare_masks(mask, case.annotation, case.own_spacing)
    return found | more | attribute(probability >= 0.5, case.mask, attention)


def attribute(mask, annotation, attention):
    """Count the wrong voxels by the stage that failed first; the five counts add up to all wrong voxels.

    Parameters
    ----------
    mask, annotation, attention : ndarrays of bool, (D, H, W)

    Returns
    -------
    dict of int
        ``missed_slice``: of the annotation, in a slice without any attention. ``cut_off``: of the annotation, beside
        the attention of its slice. ``overlooked``: of the annotation, inside the attention: the segmenter failed.
        ``leaked``: too much, inside the attention. ``stray``: too much, outside: the segmenter failed.
    """
    attended = attention.any((1, 2), keepdims=True)
    lost, gained = annotation & ~mask, mask & ~annotation
    parts = (lost & ~attended, lost & attended & ~attention, lost & attention, gained & attention, gained & ~attention)
    return {kind: int(np.count_nonzero(part)) for kind, part in zip(FAILURES, parts, strict=True)}
