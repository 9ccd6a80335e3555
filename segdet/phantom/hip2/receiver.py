"""The receiver of version 2: noise, time-gain, edges, logarithm, speckle filter and grey curve (chapter 02)."""

import numpy as np
from scipy import ndimage

from ..acoustics import circular_noise
from ..canvas import smooth_field
from .anatomy import stream
from .scanners import Scanner


def image(echo, spacing, seed, scanner=None, noise=None):
    """A picture as the scanner would show it.

    The speckle filter smooths the envelope. Its level in dB, relative to muscle, becomes a share of the range,
    ``muscle_grey + level / dynamic_range_db``, cut to (0, 1); grey = 255 share^grey_exponent.

    Parameters
    ----------
    echo : Tensor of complex128, (D, H, W)
    spacing : (dz, dy, dx) in mm
    seed : int
    scanner : Scanner, optional
    noise : Tensor of complex128, optional
        As of `segdet.phantom.acoustics.image`.

    Returns
    -------
    ndarray of uint8, (D, H, W)
    """
    s = scanner or Scanner()
    noise = circular_noise(seed, "noise", echo.shape, echo.device) if noise is None else noise
    noise *= np.sqrt(0.5) * 10 ** (s.noise_db / 20)
    noise += echo
    envelope = noise.abs().cpu().numpy().astype(np.float32)
    for axis, deviation in enumerate(np.divide(s.smoothing_mm, spacing[1:]), 1):
        if deviation > 0.2:  # of a voxel; less changes nothing
            envelope = ndimage.gaussian_filter1d(envelope, deviation, axis, truncate=3)
    level = 20 * np.log10(envelope + np.float32(1e-15)) + gain(echo.shape, spacing, seed, s).astype(np.float32)
    share = s.muscle_grey + level / s.dynamic_range_db
    grey = 255 * np.clip(share, 0, 1) ** s.grey_exponent
    return np.rint(grey).astype(np.uint8)


def gain(shape, spacing, seed, scanner):
    """The receiver's gain, dB, (D, H, W) or broadcast to it: along depth, over the probe's face, at its edges."""
    s, rng = scanner, stream(seed, "gain")
    z, y, x = ((np.arange(n) + 0.5) * step for n, step in zip(shape, spacing, strict=True))
    along = 2 * s.tgc_db_per_cm_mhz * s.frequency_mhz * np.minimum(y, s.tgc_until_mm) / 10  # there and back; mm to cm
    along += s.tgc_ripple_db * smooth_field(rng, (y,), 7.0)
    across = s.contact_db * smooth_field(rng, (z, x), 8.0)
    from_edge = np.minimum(x, x[-1] + x[0] - x)
    across -= s.edge_fall_db * np.maximum(1 - from_edge / s.edge_fall_mm, 0) ** 2
    return along[:, None] + across[:, None, :]


def recorded(shape, spacing, seed, scanner):
    """What the scanner recorded of the picture: the number of rows, and for each column the one that it shows.

    At either side up to `Scanner.repeated_mm` repeat the last recorded column, as where a plane leaves the volume.
    """
    rows = min(shape[1], round(scanner.depth_mm / spacing[1]))
    first, last = (stream(seed, "repeated").uniform(0, scanner.repeated_mm, 2) / spacing[2]).astype(int)
    return rows, np.clip(np.arange(shape[2]), first, shape[2] - 1 - last)
