"""The rows of results/bench.json as tables of the book."""

import json
from dataclasses import replace
from pathlib import Path

from .measure import Row


def _stored(path, start):
    """What `run` wrote on each machine: a line on it, and its rows whose name begins with `start`, without that."""
    for kept in json.loads(Path(path).read_text())["runs"]:
        named = [(name, row) for name, rows in kept["rows"].items() for row in rows if row["what"].startswith(start)]
        rows = [Row(**row) for _, row in named]
        if rows:
            here, commits = kept["environment"], dict.fromkeys(kept["commits"][name] for name, _ in named)
            line = f"Measured on {here['device']} with PyTorch {here['torch']}, commit {' and '.join(commits)}."
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
    """The ratios of `table`, a line per peer; bold where the claim does not hold, in brackets where there is none.

    A dash stands where a peer was not measured.
    """
    lines = []
    for machine, rows in _stored(path, start):
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
