"""The metrics of a mask beside MONAI's, which must find the same values (chapter 08)."""

import numpy as np
import torch

from .. import metrics
from .measure import Row, grid, paired, require

SPACING = (0.26, 0.22, 0.40)  # mm


def bench_metrics(shape=(128, 184, 96)):
    """A row for each metric of two masks of this shape (D, H, W), an ellipsoid and a smaller one beside it.

    MONAI gets its masks as it keeps them, float32 tensors of one channel, so that it converts nothing.
    """
    monai = require("monai.metrics")
    masks = ellipsoid(shape, (0.5, 0.5, 0.5), (0.3, 0.35, 0.3)), ellipsoid(shape, (0.53, 0.48, 0.5), (0.28, 0.3, 0.3))
    theirs = [torch.as_tensor(mask)[None, None].float() for mask in masks]
    one, distance = {"include_background": True}, {"include_background": True, "spacing": SPACING}
    for what, ours, peer in (
        ("IoU", lambda: metrics.iou(*masks), lambda: monai.compute_iou(*theirs, **one)),
        ("Dice", lambda: metrics.dice(*masks), lambda: monai.compute_dice(*theirs, **one)),
        (
            "HD95",
            lambda: metrics.hausdorff95(*masks, SPACING),
            lambda: monai.compute_hausdorff_distance(*theirs, percentile=95, **distance),
        ),
        (
            "surface distance",
            lambda: metrics.average_surface_distance(*masks, SPACING),
            lambda: monai.compute_average_surface_distance(*theirs, symmetric=True, **distance),
        ),
    ):
        value = ours()
        np.testing.assert_allclose(peer().item(), value, rtol=1e-5)
        yield Row(f"{what}, {grid(shape)}", "MONAI", *paired(ours, peer), limit=1, note=f"{value:.4f}")


def ellipsoid(shape, centre, radii):
    """A mask (D, H, W); centre and radii as shares of the sides."""
    z, y, x = np.ogrid[tuple(slice(0, 1, n * 1j) for n in shape)]
    return sum(((t - c) / r) ** 2 for t, c, r in zip((z, y, x), centre, radii, strict=True)) <= 1
