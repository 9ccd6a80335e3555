"""Arrays on other grids: what `Volume.resample` does along every axis (chapter 02)."""

import numpy as np


def resample_array(array, shape, scale, fill=0.0):
    """Resample an array to `shape`, `scale` = new / old spacing per axis, the centres of both grids aligned.

    Going coarser averages over the new voxel; going finer interpolates linearly. Both are one kernel, a trapezoid
    in the distance d between voxel centres: ``clip((1 + max(1, scale)) / 2 - |d|, 0, 1)``, d in old voxels. New
    voxels that are not `covered` take `fill`.

    Parameters
    ----------
    array : array, (D, H, W)
    shape : (d, h, w)
    scale : sequence of 3 floats
    fill : float

    Returns
    -------
    ndarray of float32, `shape`
    """
    result = np.asarray(array, np.float32)
    for axis, (new, step) in enumerate(zip(shape, scale, strict=True)):
        old = result.shape[axis]
        distance = np.abs(_centres(old, new, step)[:, None] - np.arange(old)[None])
        weights = np.clip((1 + max(1.0, step)) / 2 - distance, 0, 1)
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
        result = np.moveaxis(np.tensordot(weights.astype(np.float32), result, axes=(1, axis)), 0, axis)
    result = np.ascontiguousarray(result)
    result[~covered(np.shape(array), shape, scale)] = fill
    return result


def nearest(array, shape, scale):
    """As `resample_array`, but each new voxel takes the value of the nearest old one, or 0: for labels."""
    at = [
        np.rint(_centres(old, new, step)).astype(int).clip(0, old - 1)
        for old, new, step in zip(array.shape, shape, scale, strict=True)
    ]
    return np.where(covered(array.shape, shape, scale), array[np.ix_(*at)], np.zeros((), array.dtype))


def covered(old_shape, shape, scale):
    """Which voxels of a new grid have their centre in the old one, bool `shape`; grids as in `resample_array`."""
    inside = []
    for old, new, step in zip(old_shape, shape, scale, strict=True):
        centres = _centres(old, new, step)
        inside.append((centres > -0.5 - 1e-6) & (centres < old - 0.5 + 1e-6))
    return inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]


def _centres(old, new, step):
    """The centres of `new` voxels in units of the `old` ones, the middles of both lines aligned."""
    return (np.arange(new) - (new - 1) / 2) * step + (old - 1) / 2
