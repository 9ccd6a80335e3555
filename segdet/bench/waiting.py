"""Threads that sleep while they wait, as in `segdet` and the book's kernels, beside PyTorch's, which spin first."""

import os
import statistics
import subprocess
import sys
from contextlib import contextmanager

from ..runtime.device import default_device
from ..unet3d import UNet3D
from .measure import Row, grid, printed_by, seconds
from .segmenter import SHAPES, at_work, first_width

POLICY = "OMP_WAIT_POLICY"  # read when PyTorch is loaded, so that each way needs a process of its own


def bench_waiting():
    """A training step on the CPU, alone and while other programs keep half of the cores busy."""
    if default_device().type == "cuda":
        return
    busy = max(1, os.cpu_count() // 2)
    for what, programs, limit in (("alone", 0, None), (f"beside {busy} busy", busy, 1)):
        with busy_programs(programs):
            ours, theirs = seconds_of_a_step("PASSIVE"), seconds_of_a_step(None)
        label = f"waiting, a training step, {grid(SHAPES[0])}, {what}"
        yield Row(label, "threads that spin", ours, theirs, limit, f"{os.cpu_count()} cores")


@contextmanager
def busy_programs(number):
    """So many programs that compute without end, while the block runs."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def seconds_of_a_step(policy):
    """Median seconds of a training step in a fresh process with this OMP_WAIT_POLICY, or none."""
    environment = {name: value for name, value in os.environ.items() if name != POLICY}
    environment |= {POLICY: policy} if policy else {}
    return float(printed_by(f"from {__name__} import median_step; print(median_step())", environment))


def median_step():
    """Median seconds of five training steps in this process, after one."""
    step = at_work(UNet3D(2, 2, first_width()), SHAPES[0], default_device())[0]
    step()
    return statistics.median(seconds(step) for _ in range(5))
