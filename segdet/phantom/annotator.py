"""A second opinion: what another annotator would have drawn, at a stated inter-rater Dice (chapter 02)."""

import numpy as np
from scipy import ndimage, special

from .canvas import smooth_field

OUTLINE_MM = 0.6  # the outline is known within a Gaussian of this deviation, so that it can move by parts of a voxel
WANDER_MM = 5.0  # an annotator's error keeps its sign over about this length


def annotate(mask, spacing, seed, dice=0.95):
    """Draw a mask again, as another annotator.

    The outline moves along its normal by a smooth Gaussian random field. Where the fields of two annotators have
    deviation s, their outlines are 2 s / sqrt(pi) apart in the mean, so for an object of volume V and surface A
    their Dice is 1 - s A / (sqrt(pi) V), and A / V = 3 / R for the ball of the same volume.

    Parameters
    ----------
    mask : ndarray of bool, (D, H, W)
        At most some 50 mm across.
    spacing : (dz, dy, dx) in mm
    seed : int
        Which annotator.
    dice : float
        The mean Dice of two annotators, in (0.7, 1).

    Returns
    -------
    ndarray of bool, (D, H, W)
    """
    if not 0.7 < dice < 1:
        raise ValueError(f"dice must lie between 0.7 and 1, not {dice}")
    if not mask.any():
        return mask.copy()
    level = ndimage.gaussian_filter(mask.astype(float), OUTLINE_MM / np.array(spacing), truncate=6)
    depth = OUTLINE_MM * special.ndtri(level.clip(1e-9, 1 - 1e-9))  # mm below the outline, exact where it is flat
    radius = (3 * mask.sum() * np.prod(spacing) / (4 * np.pi)) ** (1 / 3)
    deviation = (1 - dice) * np.sqrt(np.pi) * radius / 3
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(mask.shape, spacing, strict=True)]
    return depth + deviation * smooth_field(np.random.default_rng([seed, 6]), axes, WANDER_MM) > 0
