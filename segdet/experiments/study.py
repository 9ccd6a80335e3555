"""What long runs found: one folder a study, CSV tables and a manifest, the only source of numbers in the book."""

import csv
import io
import json
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import SegdetError
from ..runtime.atomic import locked, remove_leftovers, write_text, writing
from ..runtime.device import default_device
from ..runtime.provenance import code_digest, environment
from ..training.loop import OutOfTime
from .rows import Manifest, Row, parsed

MANIFEST = {"data": str, "phantom_version": str, "profile": str, "commit": str, "kind": str, "settings": dict}
FIXED = "study", "profile", "data", "phantom_version", "infants", "scans", "settings", "protocol", "kind"
KEYS = ("seed", "part", "arm", "case", "step", "depth")  # the columns that name a row, where a table has them


class Study:
    """A folder of results that grows run by run.

    ``cases.csv`` has a row a (seed, arm, test case), ``detector.csv`` a row a (seed, detector, scan), ``loss.csv`` a
    row a (seed, arm, step). ``runs.csv`` has a row a (seed, arm) with the device, versions and commit that it was made
    with and the seconds of its training, over all interruptions;
    ``manifest.json`` says what holds for all rows, and who added the last of them. A row is complete or absent: every
    file is rewritten whole and moved into place.

    Parameters
    ----------
    folder : path
        Made when a table is first added to.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def table(self, name):
        """A table as a list of dicts; numbers are numbers. Empty when the study has none yet.

        Raises
        ------
        SegdetError
            The table is cut off or is no CSV, or has a row twice; its rows raise it where a column is asked for that
            they lack or that holds no number.
        """
        path = self.folder / f"{name}.csv"
        if not path.exists():
            return []
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")  # spreadsheets begin with a mark
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            rows = list(reader)
        except csv.Error as error:
            raise SegdetError(f"{path}: line {reader.line_num} is no CSV ({error}); restore the file") from error
        for number, row in enumerate(rows, 1):
            if None in row or None in row.values():
                raise SegdetError(f"{path}: row {number} has not one value a column; restore the file")
        if not text.endswith("\n"):
            raise SegdetError(f"{path}: its last line is cut off; restore the file")
        rows = [Row(parsed(row), path, number) for number, row in enumerate(rows, 1)]
        held = {}
        for number, row in enumerate(rows, 1):
            if (first := held.setdefault(_key(row), number)) != number:
                raise SegdetError(f"{path}: row {number} has the same names as row {first}; restore the file")
        return rows

    @property
    def tables(self):
        """The files of all tables, in the order of their names; what a killed writer left is none."""
        return sorted(self.folder.glob("[!.]*.csv"))

    def add(self, name, rows):
        """Add rows (dicts) to a table; a row that agrees in all of `KEYS` is replaced.

        A column that only some of the rows have is empty in the others.
        """
        merged = {_key(row): row for row in self.table(name) + rows}
        rows = list(merged.values())
        if not rows:
            return
        columns = dict.fromkeys(key for row in rows for key in row)
        with (
            writing(self.folder / f"{name}.csv") as temporary,
            open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,  # as file names
        ):
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: _text(v) for k, v in row.items()} for row in rows)

    def done(self):
        """Which arms of which seeds are complete, a set of (seed, arm)."""
        return {(row["seed"], row["arm"]) for row in self.table("cases")}

    def check_cases(self):
        """Refuse test cases that do not belong together.

        Raises
        ------
        SegdetError
            An arm of a seed is not in ``runs.csv``, if there is one, or of another commit there; or an overlap does not
            lie between 0 and 1.
        """
        commits = {(run["seed"], run["arm"]): run["commit"] for run in self.table("runs")}
        for row in self.table("cases"):
            where, arm = f"{row.path}: row {row.number}", (row["seed"], row["arm"])
            if commits and (arm not in commits or row.get("commit", commits[arm]) != commits[arm]):
                raise SegdetError(f"{where}: seed {arm[0]}, {arm[1]} is no run of runs.csv; restore both files")
            if row["iou"] == "" or not 0 <= row["iou"] <= 1:
                raise SegdetError(f"{where}: its iou is {row['iou']}; expected 0 to 1; restore the file")

    def column(self, arm, name="iou"):
        """One column of an arm's test cases as an array, ordered by (seed, case)."""
        return np.array([value for _, value in sorted(self._by_case(arm, name).items())])

    def pairs(self, first, second, name="iou", other=None):
        """One column of two arms side by side, joined on (seed, case), over the seeds that both have.

        Parameters
        ----------
        first, second : str
            Names of arms.
        name : str
            The column.
        other : Study, optional
            That of the second arm; by default this one.

        Returns
        -------
        first, second : ndarrays, (N,)
        seeds : ndarray, (N,)

        Raises
        ------
        SegdetError
            The arms share no seed, or a case of one is missing in the other.
        """
        other = other or self
        a, b = self._by_case(first, name), other._by_case(second, name)
        seeds = {seed for seed, _ in a} & {seed for seed, _ in b}
        if not seeds:
            raise SegdetError(f"{self.folder}: {first} and {second} of {other.folder} have no seed in common")
        if lost := sorted(key for key in a.keys() ^ b.keys() if key[0] in seeds):
            seed, case = lost[0]
            where = f"{second} in {other.folder}" if lost[0] in a else f"{first} in {self.folder}"
            raise SegdetError(f"{where} lacks case {case} of seed {seed}: run that arm again to compare")
        both = sorted(key for key in a if key[0] in seeds)
        return np.array([a[k] for k in both]), np.array([b[k] for k in both]), np.array([seed for seed, _ in both])

    def _by_case(self, arm, name):
        rows = [row for row in self.table("cases") if row["arm"] == arm]
        if empty := [row for row in rows if row[name] == ""]:
            raise SegdetError(f"{empty[0].path}: row {empty[0].number} has no {name}; run that arm again to compare")
        return {(row["seed"], row["case"]): row[name] for row in rows}

    @property
    def manifest(self):
        """The manifest as a dict, which raises `SegdetError` for what it does not say; empty when there is none."""
        path = self.folder / "manifest.json"
        try:
            text = path.read_text() if path.exists() else "{}"
            found = json.loads(text, object_hook=lambda facts: Manifest(facts, path))
        except ValueError as error:
            raise SegdetError(f"{path}: not valid JSON ({error}); restore it or name another --out folder") from error
        if not isinstance(found, dict):
            raise SegdetError(f"{path}: is no manifest of a study; restore it or name another --out folder")
        for key, kind in MANIFEST.items():
            if not isinstance(found.get(key), kind | None):
                raise SegdetError(f"{path}: its {key} is {found[key]!r}; restore it or name another --out folder")
        return found

    def describe(self, **facts):
        """Update the manifest.

        Raises
        ------
        SegdetError
            What is fixed for a study (its profile, data or phantom version) would change.
        """
        facts = self._check_facts(facts)
        write_text(self.folder / "manifest.json", json.dumps(self.manifest | facts, indent=1) + "\n")

    def _check_facts(self, facts):
        """The facts as a file holds them; refuses those of another study than is there."""
        manifest, facts = self.manifest, json.loads(json.dumps(facts))  # tuples become lists, as in the file
        for key in FIXED:
            if key in manifest and key in facts and manifest[key] != facts[key]:
                found = f"{key} {manifest[key]!r}, not {facts[key]!r}"
                if key == "scans":  # a digest
                    found = "other scans or pictures, or other annotations or sizes of the same"
                raise SegdetError(f"{self.folder}: holds a study with {found}; name another --out folder")
        return facts

    def fill(self, fixed, runs, *, resume=False, max_minutes=None, report=print):
        """Add what the runs of all seeds find, as soon as it is ready; each complete arm is reported.

        No other process can fill the same study meanwhile.

        Parameters
        ----------
        fixed : dict
            What makes it this study and no other, see `describe`.
        runs : callable
            ``runs(checkpoints, deadline)`` yields (table, rows). `checkpoints` is the folder from which an interrupted
            run goes on, `deadline` as in `segdet.training.loop.fit`.
        resume : bool
            Go on with a study that is there: what is complete is kept, what was interrupted continues.
        max_minutes : float, optional
            Stop after that time with everything saved.
        report : callable

        Returns
        -------
        bool
            Whether the study is complete.

        Raises
        ------
        SegdetError
            Another process fills it, or it holds what is not to be gone on with: rows of other settings or other code.
        """
        code = code_digest()
        with locked(self.folder):
            self._check(fixed, code, resume)
            remove_leftovers(self.folder)
            return self._fill(fixed | {"code": code}, runs, max_minutes, report)

    def _check(self, fixed, code, resume):
        tables = self.tables
        held = [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]
        if held and not (tables or self.manifest or "checkpoints" in held):
            raise SegdetError(f"{self.folder}: holds files of something else; name a new folder as --out")
        if tables and resume and not self.manifest:
            raise SegdetError(
                f"{self.folder}: its tables are of no study, for it has no manifest.json; name another --out"
            )
        if (tables or (self.folder / "checkpoints").exists()) and not resume:
            raise SegdetError(
                f"{self.folder}: holds results already; add --resume to go on with them, or name another --out folder"
            )
        self._check_facts(fixed)
        if tables and self.manifest.get("code") != code:
            raise SegdetError(
                f"{self.folder}: its rows were made by other code (commit {self.manifest.get('commit')}); check that "
                "out to go on, or name another --out folder"
            )
        for path in tables:  # what cannot be read cannot be added to
            self.table(path.stem)

    def _fill(self, fixed, runs, max_minutes, report):
        made_by = environment(default_device())
        deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        checkpoints = self.folder / "checkpoints"
        try:
            for table, rows in runs(checkpoints, deadline):
                self.describe(**fixed, **made_by)  # before the table, which is no study's without it
                self.add(table, rows)
                if rows and {"arm", "case"} <= rows[0].keys() and "part" not in rows[0]:
                    report(f"seed {rows[0]['seed']}  {rows[0]['arm']:<15}{_means(rows)}")
        except OutOfTime:
            report(f"stopped after {max_minutes} minutes; go on with --resume")
            return False
        remove_leftovers(checkpoints)
        for file in checkpoints.glob("[0-9]*-*.safetensors"):  # of seeds whose process ended just before
            file.unlink()
        with suppress(OSError):  # absent, or something else is in it
            checkpoints.rmdir()
        return True


def lacking(seeds, names, done):
    """From a seed to those of the names that it still lacks, a list; `done` is a set of (seed, name)."""
    left = {seed: [name for name in names if (seed, name) not in done] for seed in seeds}
    return {seed: todo for seed, todo in left.items() if todo}


def _means(rows):
    columns = {k: [row[k] for row in rows] for k, v in rows[0].items() if isinstance(v, float)}
    return "".join(f"  {k} {np.nanmean(v):.3f}" for k, v in columns.items() if not np.isnan(v).all())


def _key(row):
    return tuple(row.get(key, "") for key in KEYS)


def _text(value):
    return f"{value:.6g}" if isinstance(value, float) else value
