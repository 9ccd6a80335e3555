"""Every claim about time and memory beside a peer, both measured in one run: `segdet bench`."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from .atomic import write_text
from .cost import matmul_rate, seconds_of_a_phantom
from .errors import SegdetError
from .progress import in_words
from .results import environment
from .training import default_device, precision

RAW = (256, 397, 192)  # voxels of the paper's raw scans


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


def _stored(path, start):
    """What `run` wrote on each machine: a line on it, and its rows whose name begins with `start`, without that."""
    for kept in json.loads(Path(path).read_text())["runs"]:
        rows = [Row(**row) for rows in kept["rows"].values() for row in rows if row["what"].startswith(start)]
        if rows:
            here = kept["environment"]
            line = f"Measured on {here['device']} with PyTorch {here['torch']}."
            yield line, [replace(row, what=row.what.removeprefix(start).lstrip(", ")) for row in rows]


def table(path, start):
    """The rows of a file of `run` whose name begins with `start`, as Markdown; a table a machine, under its name."""
    lines = []
    for machine, rows in _stored(path, start):
        lines += [machine, "", "| | beside | ours | peer | ratio | claim | |", "|---|---|---|---|---|---|---|"]
        for row in rows:
            numbers = f"{row.ours:.3g} {row.unit} | {row.theirs:.3g} {row.unit} | {row.ratio:.2f}"
            lines.append(f"| {row.what} | {row.peer} | {numbers} | {row.claim} | {row.note} |")
        lines.append("")
    return "\n".join(lines)


def ratios(path, start):
    """The ratios of `table`, a line per peer; bold where the claim does not hold, in brackets where there is none."""
    lines = []
    for machine, rows in _stored(path, start):
        measured = list(dict.fromkeys(row.what for row in rows))
        cells = {}
        for row in rows:
            form = "({:.2f})" if row.limit is None else "{:.2f}" if row.ratio <= row.limit else "**{:.2f}**"
            cells.setdefault(row.peer, {})[row.what] = form.format(row.ratio)
        lines += [machine, "", f"| | {' | '.join(measured)} |", "|---" * (len(measured) + 1) + "|"]
        lines += [f"| {peer} | {' | '.join(of.get(what, '') for what in measured)} |" for peer, of in cells.items()]
        lines.append("")
    return "\n".join(lines)


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
    done = subprocess.run([sys.executable, "-c", code + show], capture_output=True, text=True, check=True)
    return int(done.stdout) / 2**20  # from KiB


def training_step(model, optimizer, loss):
    """A function that trains `model` for one step on the loss that ``loss()`` returns."""

    def step():
        model.train()
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return value.item()  # waits for a GPU

    return step


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
    """The most memory, GiB, of the step ``step_of(who)``."""
    if default_device().type == "cuda":
        two_steps(step_of(who))
        return torch.cuda.max_memory_allocated() / 2**30
    imports = f"from segdet.bench import two_steps; from {step_of.__module__} import {step_of.__name__} as step_of"
    return peak_gib(f"{imports}; two_steps(step_of({who!r}))")


def two_steps(step):
    """Take two steps; the peak of memory starts anew before the second."""
    step()
    if default_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")
    step()


def bench_phantom():
    """A simulated volume beside one frame of SIMUS, which solves the acoustics that the phantom sums up."""
    from .phantom import make_phantom, stages

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


def bench_reading():
    """`load_volume` beside pydicom on one file, at the size of the paper's raw scans.

    Bare decoding finds no geometry. Of uncompressed pixels it is a copy of memory, so a second row asks pydicom for the
    positions of the slices as well.
    """
    import pydicom
    from pydicom.uid import RLELossless

    from .dicom_write import write_volume
    from .files import load_volume
    from .phantom import make_phantom
    from .volume import Volume

    def bare():
        return pydicom.dcmread(path).pixel_array

    def with_positions():
        ds = pydicom.dcmread(path)
        frames = ds.PerFrameFunctionalGroupsSequence
        positions = [[*frame.PlanePositionSequence[0].ImagePositionPatient] for frame in frames]
        return ds.pixel_array, np.array(positions, float)

    scan = make_phantom(1).resample(RAW, (0.13, 0.11, 0.20)).voxels
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.dcm"
        write_volume(Volume.from_spacing(scan.astype(np.uint8), (0.13, 0.11, 0.20)), path)
        for peer, function in (("pydicom, bare", bare), ("pydicom, places", with_positions)):
            times = paired(lambda: load_volume(path), function)
            yield Row(f"reading, {grid(RAW)}, raw", peer, *times, limit=1.2)
        ds = pydicom.dcmread(path)
        ds.compress(RLELossless)
        ds.save_as(path)
        yield Row(f"reading, {grid(RAW)}, RLE", "pydicom, bare", *paired(lambda: load_volume(path), bare), limit=1.2)


def elsewhere(name):
    """The benchmark of the module segdet.bench_`name`, which is imported when it runs."""
    return lambda: getattr(import_module(f".bench_{name}", __package__), f"bench_{name}")()


BENCHES = {"phantom": bench_phantom, "reading": bench_reading}
BENCHES |= {name: elsewhere(name) for name in ("detector", "segmenter", "cascade", "metrics", "inference")}


class MissingPeer(SegdetError):
    """A package to compare with is not installed."""


def require(package):
    """Import a peer, a package or a module of it, by name, or raise `MissingPeer`."""
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingPeer(f"{package.split('.')[0]} is not installed; pip install 'segdet[bench]'") from error


def run(names=(), out=None, report=print):
    """Run the benchmarks of these names, or all; report a line each as it is known.

    Parameters
    ----------
    names : sequence of str
        Keys of `BENCHES`.
    out : path, optional
        A JSON file for the rows and the machine that they were measured on. Those of other machines and of other
        benchmarks stay in it.
    report : callable

    Returns
    -------
    list of Row
    """
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise SegdetError(f"there is no benchmark {unknown[0]!r}; choose from {', '.join(BENCHES)}")
    here, names = environment(default_device()), names or tuple(BENCHES)
    report(", ".join(f"{key} {value}" for key, value in here.items()))
    kept, phantom = _kept(out, here["device"]), seconds_of_a_phantom()
    if kept and set(names) <= kept["seconds"].keys():
        about = sum(kept["seconds"][name] for name in names) * phantom / kept["phantom"]
        report(f"about {in_words(about)} here, if nothing else runs")
    report(f"{'what':<44} {'beside':<16} {'ours':>9} {'peer':>9}     {'ratio':>7}  claim")
    found = []
    for name in names:
        rows, start = [], time.perf_counter()
        try:
            for row in BENCHES[name]():
                numbers = f"{row.ours:9.3f} {row.theirs:9.3f} {row.unit:<3} {row.ratio:7.3f}"
                report(f"{row.what:<44} {row.peer:<16} {numbers}  {row.claim}")
                if row.note:
                    report(f"  {row.note}")
                rows.append(row)
        except MissingPeer as error:
            report(f"{name}: skipped, {error}")
        found += rows
        if out:
            facts = {"environment": here, "phantom": round(phantom, 2)}
            _keep(out, facts, name, round(time.perf_counter() - start), rows)
    return found


def _runs(path):
    if not path or not Path(path).exists():
        return []
    try:
        found = json.loads(Path(path).read_text())["runs"]
        _ = [run["environment"]["device"] for run in found]
    except (ValueError, KeyError, TypeError) as error:
        raise SegdetError(f"{path}: holds no measurements of `segdet bench`; name another --out") from error
    return found


def _kept(path, device):
    """What a file says of a machine, or None."""
    return next((run for run in _runs(path) if run["environment"]["device"] == device), None)


def _keep(path, facts, name, seconds, rows):
    """Replace the rows of one benchmark of one machine in a file; all others stay."""
    device = facts["environment"]["device"]
    kept = _kept(path, device) or {"seconds": {}, "rows": {}}
    kept |= facts
    kept["seconds"][name], kept["rows"][name] = seconds, [asdict(row) for row in rows]
    others = [run for run in _runs(path) if run["environment"]["device"] != device]
    write_text(path, json.dumps({"runs": [*others, kept]}, indent=1) + "\n")
