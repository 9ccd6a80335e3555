"""Intensities as the networks see them, and the voxels that no scanner measured (chapter 02)."""

import numpy as np

from .errors import GeometryError

GAP = 2  # intensities are far outside beyond a gap of so many times the range of the others
RARE = 1e-3  # and where at most so many of the voxels, or one value, lie there
LEVELS = 16  # fewer other intensities are labels, no scan
FLAT = 2e-6  # a range of so much of the largest intensity is rounding of float32
FLAT64 = 1e-12  # and of float64
CLOSE, TINY = 1e-3, 1e-30  # below a range of so much of the largest intensity, or of so much, float32 loses steps


def usual_range(voxels):
    """The lowest and the highest intensity apart from those far outside the others.

    A fill value (-1024, 1e36, the largest float) marks voxels that were not measured, and a defect leaves hot ones;
    two of them can move mean and deviation until nothing is left of the scan. A gap tells them from tissue, whose
    noise, and voxels that it fills in part, take all values between dark and bright. So intensities are far outside
    beyond a gap of more than `GAP` times the range of the others, if they are one value, however frequent, or those
    of at most 8 voxels and a thousandth of the others. Ordinary scans have no such gap. Zero, the background of masked
    scans, is never far outside, nor is anything in 8 bits: what networks were trained on stays as it was.

    Parameters
    ----------
    voxels : ndarray
        Finite numbers.

    Returns
    -------
    low, high : float
    """
    if voxels.dtype.itemsize == 1:
        return float(voxels.min()), float(voxels.max())
    ordered = np.sort(voxels, axis=None)
    while True:
        lowest, highest = ordered[0], ordered[-1]
        first, end = np.searchsorted(ordered, lowest, "right"), np.searchsorted(ordered, highest)
        few = 8 + int(RARE * (end - first))  # neither they nor the two ends are needed to know the range
        if end - first <= 2 * few:
            return float(lowest), float(highest)
        below = np.array([lowest, *ordered[first : first + few + 1]], float)
        above = np.array([*ordered[end - few - 1 : end], highest], float)
        low, high = below[-1], above[0]
        if ordered[np.searchsorted(ordered, 0) % len(ordered)] == 0:
            low, high = min(low, 0), max(high, 0)
        low, high = -_reached(-below[::-1], -low, -high), _reached(above, high, low)
        if (low, high) == (lowest, highest) or len(np.unique(ordered[first:end])) < LEVELS:
            return float(lowest), float(highest)
        ordered = ordered[(ordered >= low) & (ordered <= high)]


def _reached(values, start, other):
    """The last of ascending values that is reached from `start` on without a gap; `other` is the range's other end."""
    values = values[values >= start]
    with np.errstate(over="ignore"):
        wide = np.diff(values) > GAP * (values[:-1] - other)
    return values[np.argmax(wide)] if wide.any() else values[-1]


def distinct_in_float32(voxels):
    """Voxels that float32 tells apart: above the lowest, in units of their range, where it would lose their steps.

    Neither normalisation depends on offset or scale. Voxels of 16 bits, and all ordinary scans, are not touched.

    Parameters
    ----------
    voxels : ndarray
        Finite numbers.
    """
    low, high = voxels.min().item(), voxels.max().item()
    largest, span = max(abs(low), abs(high)), high - low  # exact where they are whole numbers
    rounding = {"f4": FLAT, "f8": FLAT64}.get(voxels.dtype.str[1:], 0) * largest
    if voxels.dtype.itemsize < 4 or span <= rounding or span > max(CLOSE * largest, TINY):
        return voxels
    above = (voxels - voxels.min()).astype(np.float64)  # exact, for they are close
    return above / above.max()


def normalise(voxels, how, counted=None):
    """Intensities on a common scale, of the shape of the voxels; see `segdet.volume.Volume.normalised`.

    Parameters
    ----------
    voxels : ndarray
    how : str
        ``"zscore"`` or ``"unit"``.
    counted : bool array, optional
        The voxels that decide mean, deviation and percentiles; all by default.

    Returns
    -------
    ndarray of float32

    Raises
    ------
    ValueError
        `how` is another word.
    """
    if how not in ("zscore", "unit"):
        raise ValueError(f'how must be "zscore" or "unit", not {how!r}')
    voxels = voxels.astype(np.float32)
    counted = voxels if counted is None else voxels[counted]
    low, high = counted.min(), counted.max()
    if high - low <= FLAT * max(abs(low), abs(high)):
        return np.zeros_like(voxels)
    if how == "zscore":
        mean, deviation = counted.mean(dtype=np.float64), counted.std(dtype=np.float64)
        return (voxels - np.float32(mean)) / np.float32(deviation)
    low, high = np.percentile(counted, (0.5, 99.5)).astype(np.float32)
    return np.clip((voxels - low) / ((high - low) or 1), 0, 1)


def two_values_note(voxels):
    """One note where an array holds two values and no more, as a mask that was given for its scan."""
    lowest, highest = voxels.min(), voxels.max()
    two = lowest < highest and ((voxels == lowest) | (voxels == highest)).all()
    return ("the scan has two values only: is it a mask?",) if two else ()


def check_voxels(voxels, name):
    """Refuse what is no 3D array of finite numbers.

    Raises
    ------
    GeometryError
    """
    if not isinstance(voxels, np.ndarray) or voxels.dtype.kind not in "biuf":
        found = getattr(voxels, "dtype", type(voxels).__name__)
        raise GeometryError(f"{name}: expected a NumPy array of integers or floats as voxels, found {found}")
    if voxels.ndim != 3 or 0 in voxels.shape:
        raise GeometryError(f"{name}: expected a volume (slices, rows, columns), found {voxels.shape}")
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise GeometryError(f"{name}: the voxels hold NaN or infinity; replace them before reading the scan")
