"""Execute the chapters and build the book: what `make book`, `make refresh` and `make site` do.

A reader's `book` executes into _build/notebooks/PROFILE, goes on where it was interrupted, and builds the pages from
there: the checkout stays as it is. Only `refresh`, the maintainers', renews the notebooks that are committed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
from forecast import beside_networks, choose_profile, foretell
from normal import normalise
from sphinx_external_toc.parsing import parse_toc_yaml
from staleness import STATUS, inputs_of, stamp
from watch import clock, watching

from segdet.analysis.prose import STORED_PROFILE
from segdet.errors import SegdetError
from segdet.runtime.atomic import write_text, writing

ROOT = Path(__file__).resolve().parents[2]
# What a kernel must see so that the same code stores the same bytes: no progress bars, plotly as JSON without
# its script, no date inside an SVG. And threads that sleep while they wait, for a reader's machine does other things too.
KERNEL_ENVIRONMENT = {
    "SEGDET_STATIC": "1",
    "PLOTLY_RENDERER": "plotly_mimetype",
    "SOURCE_DATE_EPOCH": "0",
    "PYTHONHASHSEED": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
}


class BookError(Exception):
    """A chapter that cannot be executed or a book that cannot be built; the message is for the terminal."""


def chapters(root):
    """The notebooks of the table of contents, in reading order."""
    paths = []
    for entry in parse_toc_yaml(root / "_toc.yml"):
        if (root / f"{entry}.ipynb").exists():
            paths.append(root / f"{entry}.ipynb")
        elif not (root / f"{entry}.md").exists():
            raise BookError(f"_toc.yml names {entry}, but there is no {entry}.ipynb or {entry}.md")
    return paths


def execute(path, target, profile, say=print):
    """Execute one notebook with papermill; the normalised result is stored only if every cell ran.

    Parameters
    ----------
    path, target : Path
        The notebook and where the executed one goes (the same file renews it in place).
    profile : str
        Reaches the kernel as SEGDET_PROFILE, so no cell is injected.
    say : callable
        Takes a line: each cell when it is done, and while one works, at least every 20 s, what it does.

    Returns
    -------
    dict
        ``seconds``, and ``gib``, the most memory that the kernel used.

    Raises
    ------
    BookError
        Naming the notebook, the cell and the error; or what was edited during the run, so that nobody can say
        whether the outputs are those of the code before or after.
    """
    content, source = path.read_bytes(), read_notebook(path)
    inputs = inputs_of(source, ROOT)
    started = time.perf_counter()
    executed, gib = run_cells(path, cell_names(source), say)
    facts = {"seconds": round(time.perf_counter() - started, 1), "gib": round(gib, 2)}
    edited = sorted(dict(inputs.items() ^ inputs_of(source, ROOT).items()))
    if not path.exists() or path.read_bytes() != content:
        edited.append(path.name)
    if edited:
        named = ", ".join(edited[:3]) + (f" and {len(edited) - 3} more" if len(edited) > 3 else "")
        raise BookError(f"{path.name}: the outputs are not stored, for {named} changed during the run; run it again")
    normalise(executed)
    executed.metadata["segdet"] = stamp(inputs, executed, profile)
    with writing(target) as temporary:
        nbformat.write(executed, temporary)
    return facts


def run_cells(path, where, say):
    """Execute a notebook whose cells are called `where`: what came of it, and the GiB that its kernel used."""
    cell = {"index": None, "started": time.perf_counter()}

    def on_start(cell_index, **_):
        cell.update(index=cell_index, started=time.perf_counter())
        watch.begin(f"in cell {cell_index + 1} of {len(where)}, {where[cell_index]}")

    def on_executed(cell_index, **_):
        seconds = time.perf_counter() - cell["started"]
        watch.say(f"    cell {cell_index + 1:>2}  {seconds:7.2f} s  {where[cell_index]}")
        watch.look(())  # its memory, too, where it took less than a second

    with tempfile.TemporaryDirectory() as temporary, watching(say) as watch:
        output = Path(temporary) / path.name
        watch.begin("the kernel starts")
        try:
            papermill.execute_notebook(
                path,
                output,
                kernel_name="python3",
                cwd=path.parent,
                progress_bar=False,
                extra_arguments=["--log-level=CRITICAL"],  # it talks over local TCP, and is stopped by Ctrl-C
                on_cell_start=on_start,
                on_cell_executed=on_executed,
            )
        except papermill.PapermillExecutionError as error:
            raise BookError(
                failure(path, error.cell_index, where, f"{error.ename}: {error.evalue}", error.traceback)
            ) from error
        except Exception as error:  # the kernel died, or did not start
            raise BookError(failure(path, cell["index"], where, f"{type(error).__name__}: {error}")) from error
        executed = read_notebook(output)  # as a file gives it back, so that the outputs keep their digest
    for index, done in enumerate(executed.cells):
        if done.cell_type == "code" and done.source.strip() and done.execution_count is None:
            raise BookError(failure(path, index, where, "the cell did not run; does a cell above call exit()?"))
    return executed, watch.gib


def read_notebook(path):
    """A notebook from its file."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises whatever it stumbles over
        raise BookError(
            f"{path}: cannot be read as a notebook; take it from git again, or in _build delete it"
        ) from error


def cell_names(notebook):
    """For each cell, its section and its first line, to say where the execution is."""
    names, section = [], ""
    for cell in notebook.cells:
        lines = [line.strip() for line in cell.source.splitlines() if line.strip()]
        if cell.cell_type == "markdown":
            headings = [line.lstrip("# ") for line in lines if re.match(r"#+ ", line)]
            section = headings[-1] if headings else section
        first = next((line for line in lines if not line.startswith("#")), "")
        names.append(f"{section} | {first}"[:100] if section else first[:100])
    return names


def failure(path, index, where, error, traceback=()):
    """The message for a chapter that failed."""
    place = "before its first cell" if index is None else f"cell {index + 1} ({where[index]})"
    lines = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traceback)).splitlines()[-20:]
    again = f"SEGDET_PROFILE={os.environ.get('SEGDET_PROFILE', 'quick')}"
    return "\n".join(
        [
            f"FAILED {path.name}, {place}",
            *(f"    {line}" for line in lines),
            f"{error}",
            "What was stored before is as it was. Run this chapter alone with:",
            f"    {again} .venv/bin/python book/_tools/runner.py execute {path.stem}",
        ]
    )


def run_conditions():
    """What the status page says about a run: device, commit, versions."""
    from segdet.runtime.device import default_device
    from segdet.runtime.provenance import environment

    return environment(default_device()) | {"commit": commit()}


def commit():
    """The commit that is checked out, marked where the code in the working tree differs from it."""
    try:
        git = ["git", "-C", str(ROOT)]
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "segdet", "book"], capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "not under version control"
    return head.stdout.strip() + (" + changes" if changed.stdout.strip() else "")


def execute_chapters(wanted, folder, status_path, profile, foretold, more=lambda name, seconds: {}):
    """Execute chapters in reading order into a folder and note each run, and `more` of it, for the status page.

    `foretold` has the seconds that each was to take; what a row has from before and this run does not know stays.
    """
    os.environ.update(KERNEL_ENVIRONMENT, SEGDET_PROFILE=profile)
    conditions = run_conditions()
    started = time.perf_counter()
    for number, path in enumerate(wanted, 1):
        print(
            f"[{number}/{len(wanted)}] {path.stem} ({profile}, at {clock(time.perf_counter() - started)})", flush=True
        )
        facts = execute(path, folder / path.name, profile, say=lambda line: print(line, flush=True))
        facts["foretold"] = round(foretold[path.stem], 1)
        print(
            f"[{number}/{len(wanted)}] {path.stem} took {facts['seconds']:.0f} s, {facts['foretold']:.0f} s foretold",
            flush=True,
        )
        status = json.loads(status_path.read_text()) if status_path.exists() else {}
        row = {"profile": profile, **facts, **conditions, **more(path.stem, facts["seconds"])}
        status[path.stem] = status.get(path.stem, {}) | row
        write_text(status_path, json.dumps(status, indent=1, sort_keys=True) + "\n")
    print(f"{len(wanted)} chapters executed in {clock(time.perf_counter() - started)}", flush=True)


def chosen(names):
    """The chapters of these names, or all."""
    unknown = set(names) - {path.stem for path in chapters(ROOT)}
    if unknown:
        raise BookError(f"no such chapter in _toc.yml: {', '.join(sorted(unknown))}")
    return [path for path in chapters(ROOT) if not names or path.stem in names]


def is_fresh(executed, source, profile):
    """Whether an executed notebook holds the outputs of the code of `source` at a profile."""
    if not executed.exists():
        return False
    stored = read_notebook(executed)
    return stored.metadata.get("segdet") == stamp(inputs_of(read_notebook(source), ROOT), stored, profile)


def read_book(names, profile):
    """Execute what a reader's book lacks at a profile (None: what fits this machine), into _build, and build it."""
    executed = ROOT / "_build/notebooks"

    def left(profile):
        return [path for path in chosen(names) if names or not is_fresh(executed / profile / path.name, path, profile)]

    profile, foretold = choose_profile(ROOT, profile, left)
    folder, wanted = executed / profile, left(profile)
    kept = [path.stem for path in chosen(names) if path not in wanted]
    if kept:
        print(f"executed before and kept: {', '.join(kept)} (make clean forgets them)", flush=True)
    os.environ["SEGDET_READER"] = "1"
    try:
        execute_chapters(wanted, folder, folder / STATUS, profile, foretold)
    finally:
        del os.environ["SEGDET_READER"]
    if not names:
        build(stage(profile))


def refresh(names):
    """Execute the chapters whose committed outputs are stale, or those named, in place, and build the book."""
    wanted = [path for path in chosen(names) if names or not is_fresh(path, path, STORED_PROFILE)]
    foretold, rest = foretell(ROOT, STORED_PROFILE, wanted), beside_networks(STORED_PROFILE, wanted)
    execute_chapters(wanted, ROOT / "book", ROOT / "results" / STATUS, STORED_PROFILE, foretold, rest)
    build(ROOT)


def make_book(page, profile):
    """What `make book` does, with CHAPTER or without."""
    read_page(page, profile) if page else read_book([], profile)


def read_page(name, profile):
    """Show an edit of one page: execute its chapter where the code has changed, and build the pages that changed.

    Without a profile it is the one whose book was built last, or the one of the committed outputs.
    """
    pages = [path for path in sorted((ROOT / "book").glob("*")) if path.suffix in (".ipynb", ".md")]
    found = [path for path in pages if path.stem == name] or [path for path in pages if path.stem.startswith(name)]
    if len(found) != 1:
        which = "no page" if not found else "more than one page"
        raise BookError(f"CHAPTER={name} is {which} of {', '.join(path.stem for path in found or pages)}")
    built = sorted((ROOT / "_build").glob("stage-*"), key=lambda folder: folder.stat().st_mtime)
    profile = profile or (built[-1].name.removeprefix("stage-") if built else STORED_PROFILE)
    folder, (page,) = ROOT / "_build/notebooks" / profile, found
    if page in chapters(ROOT) and not any(is_fresh(ran, page, profile) for ran in (folder / page.name, page)):
        execute_chapters(found, folder, folder / STATUS, profile, foretell(ROOT, profile, found))
    build(stage(profile), page=page.stem)


def build(source, target=ROOT, page=None):
    """Build the book of a folder into _build/html of another; a warning is an error.

    With the name of a `page`, only what has changed since the last time, which takes a tenth as long.
    """
    html = target / "_build/html"
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "--quiet", *([] if page else ["--all"])]
    command += ["--warningiserror", "--nitpick", "--keep-going", "--path-output", str(target), str(source)]
    if not page:
        shutil.rmtree(html, ignore_errors=True)
    if subprocess.run(command).returncode != 0:
        raise BookError("the book was not built: every warning above is an error")
    shown = html / (f"book/{page}.html" if page else "index.html")
    print(f"Open {os.path.relpath(shown, ROOT)} in a browser.", flush=True)


def stage(profile):
    """A copy of the book's sources with the outputs of `profile`, or else those committed; the prose is that of today.

    A file that is as it was keeps its date, by which Sphinx sees what has changed.
    """
    executed, folder = ROOT / "_build/notebooks" / profile, ROOT / "_build" / f"stage-{profile}"
    with tempfile.TemporaryDirectory() as temporary:
        fresh = Path(temporary)
        for name in ("book", "segdet", "results"):  # pages read results, too
            left_out = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "checkpoints", ".segdet-*")
            shutil.copytree(ROOT / name, fresh / name, ignore=left_out)
        for name in ("_config.yml", "_toc.yml"):
            shutil.copy2(ROOT / name, fresh / name)
        for path in chapters(ROOT):
            if is_fresh(executed / path.name, path, profile):
                nbformat.write(with_outputs(path, executed / path.name), fresh / "book" / path.name)
        status = [ROOT / "results" / STATUS, executed / STATUS]
        rows = [json.loads(path.read_text(encoding="utf-8")) for path in status if path.exists()]
        write_text(fresh / "results" / STATUS, json.dumps({k: v for row in rows for k, v in row.items()}, indent=1))
        mirror(fresh, folder)
    return folder


def with_outputs(path, executed):
    """The notebook of a path with the outputs of the executed one, whose code is the same."""
    notebook, ran = read_notebook(path), read_notebook(executed)
    codes = [[cell for cell in each.cells if cell.cell_type == "code"] for each in (notebook, ran)]
    for cell, done in zip(*codes, strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    notebook.metadata = ran.metadata
    return notebook


def mirror(source, target):
    """Make a folder as another is, and leave alone what is as it should be."""
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for path in [path for path in target.rglob("*") if path.is_file() and path.relative_to(target) not in wanted]:
        path.unlink()
    for name in wanted:
        if not (target / name).is_file() or (target / name).read_bytes() != (source / name).read_bytes():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
    os.utime(target)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("book", help="execute what is missing into _build and build _build/html")
    run.add_argument("page", nargs="?", help="only what an edit of this page has changed; a name, or how it begins: 03")
    run.set_defaults(do=lambda options: make_book(options.page, os.environ.get("SEGDET_PROFILE")))
    run = commands.add_parser("execute", help="execute these chapters into _build")
    run.add_argument("chapters", nargs="+", help="names such as 03-anchors")
    run.set_defaults(do=lambda options: read_book(options.chapters, os.environ.get("SEGDET_PROFILE")))
    run = commands.add_parser("refresh", help="renew the committed outputs where they are stale, or of these chapters")
    run.add_argument("chapters", nargs="*", help="names such as 03-anchors")
    run.set_defaults(do=lambda options: refresh(options.chapters))
    run = commands.add_parser("build", help="build the book from the committed outputs")
    run.add_argument("target", nargs="?", type=Path, default=ROOT, help="a folder that gets _build/html")
    run.set_defaults(do=lambda options: build(ROOT, options.target.resolve()))
    options = parser.parse_args()
    try:
        options.do(options)
    except (BookError, SegdetError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("interrupted; chapters and trainings are kept, and the same command goes on from there", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
