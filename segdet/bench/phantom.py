"""A simulated volume beside an acoustic simulation (chapter 02)."""

import statistics
import sys
from functools import partial

import numpy as np

from .measure import Row, peak_gib, require, seconds


def bench_phantom():
    """A simulated volume of either version beside one frame of SIMUS, which solves the acoustics that it sums up."""
    from ..phantom.acoustics import stages
    from ..phantom.make import make_phantom

    pymust = require("pymust")
    step = stages(2)
    echo = step["scatterers"][64].real.numpy()
    depth, lateral = (np.indices(echo.shape)[axis] * step["volume"].spacing[1:][axis] / 1000 for axis in (0, 1))
    probe = pymust.getparam("L11-5v")
    arguments = (lateral - lateral.mean()).ravel(), depth.ravel(), echo.ravel(), pymust.txdelay(probe, 0.0), probe
    peer = seconds(lambda: pymust.simus(*arguments))
    for version in (1, 2):
        make_phantom(1, version=version)
        runs = [seconds(partial(make_phantom, seed, version=version)) for seed in range(5)]
        note = "a volume of 128 slices against one frame of the same scatterers"
        if sys.platform == "linux":
            made = f"from segdet import make_phantom; make_phantom(1, version={version})"
            note += f"; peak memory {peak_gib(made):.2f} GiB, with PyTorch"
        yield Row(f"phantom {version}, 128 x 184 x 96", "pymust's SIMUS", statistics.median(runs), peer, note=note)
