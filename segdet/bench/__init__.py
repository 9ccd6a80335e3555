"""Every claim about time and memory beside a peer, measured in one run: `segdet bench` (chapters 05, 07 and 09)."""

import json
import os
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch

from ..errors import SegdetError
from ..experiments.cost import matmul_rate, seconds_of_a_phantom
from ..runtime.atomic import write_text
from ..runtime.device import default_device
from ..runtime.progress import in_words
from ..runtime.provenance import environment
from .measure import MissingPeer, precisions
from .tables import stored


def elsewhere(name):
    """The benchmark of the module segdet.bench.`name`, which is imported when it runs."""
    return lambda: getattr(import_module(f".{name}", __package__), f"bench_{name}")()


SUBJECTS = "phantom", "reading", "detector", "segmenter", "waiting", "cascade", "metrics", "inference"
BENCHES = {name: elsewhere(name) for name in SUBJECTS}
# What a subject takes on a CPU: operations of a matrix product, those of the segmenter in each precision, or phantoms.
OPERATIONS = {"detector": 71e12, "segmenter": 238e12, "waiting": 11e12, "cascade": 185e12, "inference": 80e12}
PHANTOMS = {"phantom": 84, "reading": 27, "metrics": 7}


def run(names=(), out=None, report=print):
    """Run the benchmarks of these names, or all; report a line each as it is known.

    Parameters
    ----------
    names : sequence of str
        Keys of `BENCHES`.
    out : path, optional
        A JSON file for the rows and the machine that they were measured on. Those of other machines and of other
        benchmarks stay in it, and those that could not be measured: a peer is missing, or SEGDET_PRECISION leaves out
        a precision.
    report : callable

    Returns
    -------
    list of Row
    """
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise SegdetError(f"there is no benchmark {unknown[0]!r}; choose from {', '.join(BENCHES)}")
    here, names = environment(default_device()), tuple(dict.fromkeys(names)) or tuple(BENCHES)
    report(", ".join(f"{key} {value}" for key, value in here.items()))
    kept, phantom = _kept(out, here["device"]), seconds_of_a_phantom()
    about = None
    if kept and set(names) <= kept["seconds"].keys():
        about = sum(kept["seconds"][name] * phantom / kept["phantoms"][name] for name in names)
    elif default_device().type == "cpu" and set(names) <= OPERATIONS.keys() | PHANTOMS.keys():
        about = foretold(names, phantom)
    if about is not None:
        report(f"about {in_words(about)} here, if nothing else runs")
    report(f"{'what':<44} {'beside':<16} {'ours':>9} {'peer':>9}     {'ratio':>7}  claim")
    found = []
    for name in names:
        rows, start, whole = [], time.perf_counter(), not os.environ.get("SEGDET_PRECISION")
        try:
            for row in BENCHES[name]():
                numbers = f"{row.ours:9.3f} {row.theirs:9.3f} {row.unit:<3} {row.ratio:7.3f}"
                report(f"{row.what:<44} {row.peer:<16} {numbers}  {row.claim}")
                if row.note:
                    report(f"  {row.note}")
                rows.append(row)
        except MissingPeer as error:
            report(f"{name}: skipped, {error}")
            whole = False
        found += rows
        if out and (rows or whole):
            times = round(time.perf_counter() - start), round(phantom, 2)
            _keep(out, here, name, rows, times if whole else None)
    return found


def foretold(names, phantom):
    """Seconds that these benchmarks will take on this CPU, where a phantom takes so many."""
    rates = {name: matmul_rate(torch.device("cpu"), getattr(torch, name)) for name in precisions(torch.device("cpu"))}
    found = sum(PHANTOMS.get(name, 0) for name in names) * phantom
    for name in set(names) & OPERATIONS.keys():
        used = {"segmenter": [*rates], "inference": [*rates][:1]}.get(name, [*rates][-1:])  # float32 comes first
        found += sum(OPERATIONS[name] / rates[each] for each in used)
    return found


def _runs(path):
    return stored(path) if path and Path(path).exists() else []


def _kept(path, device):
    """What a file says of a machine, or None."""
    return next((run for run in _runs(path) if run["environment"]["device"] == device), None)


def _keep(path, here, name, rows, times):
    """Replace the rows of one benchmark of one machine in a file; all others stay, with what they were measured with.

    `times` are the seconds of all its rows and of a phantom; None where it has more rows than could be measured, of
    which those that are there stay, too.
    """
    parts = "rows", "environments", "commits", "seconds", "phantoms"
    kept = _kept(path, here["device"]) or {part: {} for part in parts}
    found = [asdict(row) for row in rows]
    if times:
        kept["seconds"][name], kept["phantoms"][name] = times
    else:
        measured, before = {(row.what, row.peer) for row in rows}, kept["environments"].get(name)
        older = [row for row in kept["rows"].get(name, ()) if (row["what"], row["peer"]) not in measured]
        found += [{"environment": before} | row for row in older]
    kept["rows"][name], kept["environments"][name], kept["commits"][name] = found, here, here["commit"]
    others = [run for run in _runs(path) if run["environment"]["device"] != here["device"]]
    write_text(path, json.dumps({"runs": [*others, kept | {"environment": here}]}, indent=1) + "\n")
