"""How a row is measured: in turn with its peer, in the same precision, time or memory."""

import gc
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

from ..errors import SegdetError
from ..experiments.cost import matmul_rate
from ..runtime.device import default_device, precision


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes
    ----------
    what, peer : str
    ours, theirs : float
        Median seconds, or the most memory in GiB.
    limit : float or None
        The claim: `ours` is at most this share of `theirs`; None where the peer is a reference only.
    note : str
    unit : str
        "s" or "GiB".
    """

    what: str
    peer: str
    ours: float
    theirs: float
    limit: float | None = None
    note: str = ""
    unit: str = "s"

    @property
    def ratio(self):
        """`ours` over `theirs`."""
        return self.ours / self.theirs

    @property
    def claim(self):
        """What was claimed of the ratio and whether it holds."""
        if self.limit is None:
            return "for reference"
        return f"at most {self.limit:g}: {'holds' if self.ratio <= self.limit else 'does not hold'}"


def grid(shape):
    """The shape of a grid as text: 128 x 184 x 96."""
    return " x ".join(map(str, shape))


def paired(ours, peer, repeats=9):
    """Median seconds of two functions, called in turn after one call each to warm up."""
    ours(), peer()
    times = [(seconds(ours), seconds(peer)) for _ in range(repeats)]
    return tuple(statistics.median(column) for column in zip(*times, strict=True))


def seconds(function):
    """How long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def rate_note(work, seconds):
    """What `work` FLOP in so many seconds are of `matmul_rate`, in the precision that counts at present."""
    device = default_device()
    rate = matmul_rate(device, getattr(torch, precisions(device)[-1]))
    return f"ours at {work / seconds / rate:.0%} of the {rate / 1e9:.0f} GFLOP/s of a matrix product"


def precisions(device):
    """The precisions to measure in: what SEGDET_PRECISION names, else float32 and, where it is native, bfloat16."""
    named = os.environ.get("SEGDET_PRECISION")
    native = not isinstance(precision(device), nullcontext)
    return [named] if named else ["float32", "bfloat16"][: 1 + native]


@contextmanager
def in_precision(name):
    """Set SEGDET_PRECISION, for this process and those that it starts."""
    before = os.environ.get("SEGDET_PRECISION", "")
    os.environ["SEGDET_PRECISION"] = name
    try:
        yield
    finally:
        os.environ["SEGDET_PRECISION"] = before


def peak_gib(code):
    """The most memory, GiB, that a fresh Python process needs for a piece of code (on Linux)."""
    # ru_maxrss would count the memory of the process that started it
    show = "\nfor line in open('/proc/self/status'):\n  if line.startswith('VmHWM'): print(line.split()[1])"
    return int(printed_by(code + show)) / 2**20  # from KiB


def printed_by(code, env=None):
    """What a piece of code prints in a fresh Python process, in this environment or, by default, that of this one."""
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


def bench_memory(what, step_of, peers):
    """Rows for the memory of a step: on a GPU that of the tensors, else of a process with PyTorch in it.

    Parameters
    ----------
    what : str
    step_of : callable
        A function of a module: ``step_of(who)`` is the step of "ours" or of one of `peers`, a function.
    peers : sequence of str
    """
    if default_device().type != "cuda" and sys.platform != "linux":
        return
    memory = {who: peak_of_a_step(step_of, who) for who in ("ours", *peers)}
    for name in peers:
        yield Row(what, name, memory["ours"], memory[name], limit=1, unit="GiB")


def peak_of_a_step(step_of, who):
    """The most memory, GiB, of the step ``step_of(who)``, without what else lies on a GPU."""
    if default_device().type == "cuda":
        gc.collect()  # networks of other rows in a circle of references
        others = torch.cuda.memory_allocated()
        step_twice(step_of(who))
        return (torch.cuda.max_memory_allocated() - others) / 2**30
    imports = f"from {__name__} import step_twice; from {step_of.__module__} import {step_of.__name__} as step_of"
    return peak_gib(f"{imports}; step_twice(step_of({who!r}))")


def step_twice(step):
    """Take two steps; the peak of memory starts anew before the second."""
    step()
    if default_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")
    step()


class MissingPeer(SegdetError):
    """A package to compare with is not installed."""


def require(package):
    """Import a peer, a package or a module of it, by name, or raise `MissingPeer`."""
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingPeer(f"{package.split('.')[0]} is not installed; pip install 'segdet[bench]'") from error
