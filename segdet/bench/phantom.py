"""A simulated volume beside an acoustic simulation."""

import statistics
import sys

import numpy as np

from .measure import Row, peak_gib, require, seconds


def bench_phantom():
    """A simulated volume beside one frame of SIMUS, which solves the acoustics that the phantom sums up."""
    from ..phantom.acoustics import make_phantom, stages

    pymust = require("pymust")
    make_phantom(1)
    ours = statistics.median(seconds(lambda seed=seed: make_phantom(seed)) for seed in range(5))
    step = stages(2)
    echo = step["scatterers"][64].real.numpy()
    depth, lateral = (np.indices(echo.shape)[axis] * step["volume"].spacing[1:][axis] / 1000 for axis in (0, 1))
    probe = pymust.getparam("L11-5v")
    arguments = (lateral - lateral.mean()).ravel(), depth.ravel(), echo.ravel(), pymust.txdelay(probe, 0.0), probe
    peer = seconds(lambda: pymust.simus(*arguments))
    note = "a volume of 128 slices against one frame of the same scatterers"
    if sys.platform == "linux":
        note += f"; peak memory {peak_gib('from segdet import make_phantom; make_phantom(1)'):.2f} GiB, with PyTorch"
    yield Row("phantom, 128 x 184 x 96", "pymust's SIMUS", ours, peer, note=note)
