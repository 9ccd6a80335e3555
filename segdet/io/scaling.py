"""From stored to physical values: a slope and an intercept for every slice, whatever the format (chapter 02)."""

import numpy as np


def rescaled(voxels, scales):
    """Slices times slope plus intercept of each.

    Parameters
    ----------
    voxels : ndarray, (D, H, W)
        As stored.
    scales : list of D tuples of float
        (slope, intercept) of each slice.

    Returns
    -------
    ndarray, (D, H, W)
        The voxels themselves where every scale is (1, 0); else float32, or float64 where the voxels are, or where
        float32 would lose the steps between whole numbers, or more than 16 bits of the range of other ones.
    """
    if set(scales) == {(1, 0)}:
        return voxels
    kind = _kind(voxels, set(scales))
    planes = voxels.astype(kind)
    with np.errstate(over="ignore", invalid="ignore"):  # a Volume refuses infinity and NaN
        for plane, (slope, intercept) in zip(planes, scales, strict=True):
            plane *= kind(slope)
            plane += kind(intercept)
    return planes


def _kind(voxels, scales):
    if voxels.dtype == np.float64:
        return np.float64
    ends = float(voxels.min()), float(voxels.max())
    largest = max(abs(slope * end) + abs(intercept) for slope, intercept in scales for end in ends)
    step = (ends[1] - ends[0]) / 2**16 if voxels.dtype.kind == "f" else 1
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32, whose spacing there is no number
        fine_enough = np.spacing(np.float32(largest)) <= step * min(abs(slope) for slope, _ in scales)
    return np.float32 if fine_enough else np.float64
