"""Execute the chapters (`runner.py execute`) and build the book (`runner.py build`); `make book` does both.

The profile is SEGDET_PROFILE (default laptop). Only the laptop profile renews the committed notebooks, and
only on success; any other executes into _build/notebooks/PROFILE, and the book is built from a staged copy.
"""

import argparse
import base64
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
import yaml
from PIL import Image
from staleness import STATUS, fingerprint

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("smoke", "laptop", "paper")
STORED_PROFILE = "laptop"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# What a kernel must see so that the same code stores the same bytes: no progress bars, plotly as JSON without
# its script, no date inside an SVG.
KERNEL_ENVIRONMENT = {
    "SEGDET_STATIC": "1",
    "PLOTLY_RENDERER": "plotly_mimetype",
    "SOURCE_DATE_EPOCH": "0",
    "PYTHONHASHSEED": "0",
}


class BookError(Exception):
    """A chapter that cannot be executed or a book that cannot be built; the message is for the terminal."""


def chapters(root):
    """The notebooks of the table of contents, in reading order."""
    entries = []

    def collect(part):
        for item in part if isinstance(part, list) else [part]:
            entries.extend([item["file"]] if "file" in item else [])
            for key in ("parts", "chapters", "sections"):
                collect(item.get(key, []))

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    collect([{"file": toc["root"]}, {key: toc.get(key, []) for key in ("parts", "chapters")}])
    paths = []
    for entry in entries:
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

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    BookError
        Naming the notebook, the cell and the error.
    """
    source = nbformat.read(path, as_version=4)
    where = cell_names(source)
    started = time.perf_counter()
    cell = {"index": None, "started": started}

    def on_start(cell_index, **_):
        cell.update(index=cell_index, started=time.perf_counter())

    def on_executed(cell_index, **_):
        seconds = time.perf_counter() - cell["started"]
        say(f"    cell {cell_index + 1:>2}  {seconds:7.2f} s  {where[cell_index]}")

    with tempfile.TemporaryDirectory() as temporary:
        try:
            executed = papermill.execute_notebook(
                path,
                Path(temporary) / path.name,
                kernel_name="python3",
                cwd=path.parent,
                progress_bar=False,
                extra_arguments=["--log-level=ERROR"],  # no warning that the kernel talks over local TCP
                on_cell_start=on_start,
                on_cell_executed=on_executed,
            )
        except papermill.PapermillExecutionError as error:
            raise BookError(
                failure(path, error.cell_index, where, f"{error.ename}: {error.evalue}", error.traceback)
            ) from error
        except Exception as error:  # the kernel died, or did not start
            raise BookError(failure(path, cell["index"], where, f"{type(error).__name__}: {error}")) from error
    for index, done in enumerate(executed.cells):
        if done.cell_type == "code" and done.source.strip() and done.execution_count is None:
            raise BookError(failure(path, index, where, "the cell did not run; does a cell above call exit()?"))
    seconds = time.perf_counter() - started
    normalise(executed)
    executed.metadata["segdet"] = {"hash": fingerprint(source, ROOT), "profile": profile}
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".part")
    nbformat.write(executed, unfinished)
    os.replace(unfinished, target)
    return seconds


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
    return "\n".join(
        [
            f"FAILED {path.name}, {place}",
            *(f"    {line}" for line in lines),
            f"{error}",
            "The stored notebook was not changed. Run this chapter alone with:",
            f"    .venv/bin/python book/_tools/runner.py execute {path.stem}",
        ]
    )


def normalise(notebook):
    """Drop from an executed notebook, in place, what differs between two runs of the same code; pack its pictures."""
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = normalised_outputs(cell.outputs)


def normalised_outputs(outputs):
    """Outputs without live widgets and memory addresses, and with a stream in one piece."""
    kept = []
    for output in outputs:
        if WIDGET_VIEW in output.get("data", {}):
            continue
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = without_addresses(output.text)
            continue
        data = output.get("data", {})
        if "text/plain" in data:
            data["text/plain"] = without_addresses(data["text/plain"])
        if "image/png" in data:
            data["image/png"] = with_palette(data["image/png"])
    return kept


def with_palette(png):
    """A PNG (base64) with 256 colours at most, where that is smaller: speckle fills a picture with noise."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return min(base64.b64encode(buffer.getvalue()).decode() + "\n", png, key=len)


def without_addresses(text):
    """Replace the memory address in a default `repr`."""
    return re.sub(r"\bat 0x[0-9a-fA-F]{6,}", "at 0x...", text)


def run_conditions():
    """What the status page says about a run: device, commit, versions."""
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        device = f"Apple GPU ({platform.machine()})"
    else:
        device = f"CPU, {os.cpu_count()} cores ({platform.machine()})"
    return {
        "device": device,
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


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


def execute_all(profile, only=(), stale_only=False):
    """Execute the chapters in reading order at a profile and note each run for the status page."""
    os.environ.update(KERNEL_ENVIRONMENT, SEGDET_PROFILE=profile)
    in_place = profile == STORED_PROFILE
    folder = ROOT / "book" if in_place else ROOT / "_build/notebooks" / profile
    status_path = ROOT / "results" / STATUS if in_place else folder / STATUS
    wanted = [path for path in chapters(ROOT) if not only or path.stem in only]
    unknown = set(only) - {path.stem for path in wanted}
    if unknown:
        raise BookError(f"no such chapter in _toc.yml: {', '.join(sorted(unknown))}")
    if stale_only:
        wanted = [path for path in wanted if not is_fresh(path, ROOT)]
    conditions = run_conditions()
    started = time.perf_counter()
    for number, path in enumerate(wanted, 1):
        print(f"[{number}/{len(wanted)}] {path.stem} ({profile})", flush=True)
        seconds = execute(path, folder / path.name, profile, say=lambda line: print(line, flush=True))
        print(f"[{number}/{len(wanted)}] {path.stem} took {seconds:.0f} s", flush=True)
        status = json.loads(status_path.read_text()) if status_path.exists() else {}
        status[path.stem] = {"profile": profile, "seconds": round(seconds), **conditions}
        status_path.parent.mkdir(exist_ok=True)
        status_path.write_text(json.dumps(status, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(wanted)} chapters executed in {time.perf_counter() - started:.0f} s", flush=True)


def is_fresh(path, root):
    """Whether the stored outputs of a notebook are those of its code at the laptop profile."""
    notebook = nbformat.read(path, as_version=4)
    expected = {"hash": fingerprint(notebook, root), "profile": STORED_PROFILE}
    return notebook.metadata.get("segdet") == expected


def build(profile):
    """Build the book into _build/html from the notebooks of a profile; a warning is an error."""
    source = ROOT if profile == STORED_PROFILE else stage(profile)
    shutil.rmtree(ROOT / "_build/html", ignore_errors=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "--quiet", "--all"]
    command += ["--warningiserror", "--nitpick", "--keep-going", "--path-output", str(ROOT), str(source)]
    if subprocess.run(command).returncode != 0:
        raise BookError("the book was not built: every warning above is an error")
    print("Open _build/html/index.html in a browser.", flush=True)


def stage(profile):
    """A copy of the book's sources with the notebooks that were executed at `profile`."""
    executed, folder = ROOT / "_build/notebooks" / profile, ROOT / "_build" / f"stage-{profile}"
    missing = [path.stem for path in chapters(ROOT) if not (executed / path.name).exists()]
    if missing:
        raise BookError(f"not yet executed at the profile {profile}: {', '.join(missing)}; run make book")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    shutil.copytree(ROOT / "segdet", folder / "segdet", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, folder / name)
    for path in chapters(ROOT):
        shutil.copy(executed / path.name, folder / "book" / path.name)
    (folder / "results").mkdir()
    shutil.copy(executed / STATUS, folder / "results" / STATUS)
    return folder


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("execute", help="execute chapters at SEGDET_PROFILE")
    run.add_argument("chapters", nargs="*", help="names such as 03-anchors; all when none is given")
    run.add_argument("--stale", action="store_true", help="only those whose stored outputs are stale")
    commands.add_parser("build", help="build _build/html from the executed chapters")
    options = parser.parse_args()
    profile = os.environ.get("SEGDET_PROFILE") or STORED_PROFILE
    try:
        if profile not in PROFILES:
            raise BookError(f"SEGDET_PROFILE is {profile!r}; it must be one of {', '.join(PROFILES)}")
        if options.command == "execute":
            execute_all(profile, options.chapters, options.stale)
        else:
            build(profile)
    except BookError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
