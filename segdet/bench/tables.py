"""The rows of results/bench.json as tables of the book (chapters 05, 07 and 09)."""

import json
from dataclasses import replace
from pathlib import Path

from ..errors import SegdetError
from .measure import Row


def stored(path):
    """What `run` wrote, a dict a machine.

    ``rows``, ``environments``, ``commits``, ``seconds`` and ``phantoms`` have an entry a benchmark: what was measured,
    with what, how long it took, and how long a phantom took then. A row that is older than the others of its benchmark
    has an ``environment`` of its own. ``environment`` is that of the last measurement.

    Raises
    ------
    SegdetError
        The file holds something else.
    """
    try:
        found = [_by_benchmark(run) for run in json.loads(Path(path).read_text())["runs"]]
        _ = [run["environment"]["device"] for run in found]
    except (ValueError, KeyError, TypeError) as error:
        raise SegdetError(f"{path}: holds no measurements of `segdet bench`; name another --out") from error
    return found


def _by_benchmark(run):
    """A machine's measurements, of which a file of before knew but one environment and one phantom."""
    made = {name: run["environment"] | {"commit": commit} for name, commit in run["commits"].items()}
    run.setdefault("environments", made)
    run.setdefault("phantoms", dict.fromkeys(run.get("seconds", ()), run.pop("phantom", None)))
    return run


def _rows(path, start):
    """What `run` wrote on each machine: a line on it, and its rows whose name begins with `start`, without that."""
    for kept in stored(path):
        found, commits = [], {}
        for name, rows in kept["rows"].items():
            for row in [row for row in rows if row["what"].startswith(start)]:
                made = row.pop("environment", kept["environments"][name])
                commits.setdefault(made["torch"], {})[made["commit"]] = None
                found.append(Row(**row))
        if found:
            made = [f"with PyTorch {torch}, commit {' and '.join(of)}" for torch, of in commits.items()]
            line = f"Measured on {kept['environment']['device']} {', and '.join(made)}."
            yield line, [replace(row, what=row.what.removeprefix(start).lstrip(", ")) for row in found]


def table(path, start):
    """The rows of a file of `run` whose name begins with `start`, as Markdown; a table a machine, under its name."""
    lines = []
    for machine, rows in _rows(path, start):
        lines += [machine, "", "| | beside | ours | peer | ratio | claim | |", "|---|---|---|---|---|---|---|"]
        for row in rows:
            numbers = f"{row.ours:.3g} {row.unit} | {row.theirs:.3g} {row.unit} | {row.ratio:.2f}"
            lines.append(f"| {row.what} | {row.peer} | {numbers} | {row.claim} | {row.note} |")
        lines.append("")
    return "\n".join(lines)


def ratios(path, start):
    """The ratios of `table`, a line per peer; bold where the claim does not hold, in brackets where there is none.

    A dash stands where a peer was not measured.
    """
    lines = []
    for machine, rows in _rows(path, start):
        measured = list(dict.fromkeys(row.what for row in rows))
        cells = {}
        for row in rows:
            form = "({:.2f})" if row.limit is None else "{:.2f}" if row.ratio <= row.limit else "**{:.2f}**"
            cells.setdefault(row.peer, {})[row.what] = form.format(row.ratio)
        lines += [machine, "", f"| | {' | '.join(measured)} |", "|---" * (len(measured) + 1) + "|"]
        lines += [
            " | ".join([f"| {peer}", *(of.get(what, "–") for what in measured)]) + " |" for peer, of in cells.items()
        ]
        lines.append("")
    return "\n".join(lines)
