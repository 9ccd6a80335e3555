"""The command that checks a reader's own functions."""

from pathlib import Path
from shlex import quote
from textwrap import indent
from typing import Annotated

import typer

from ..errors import SegdetError
from .app import app


@app.command()
def check(
    chapter: Annotated[int, typer.Argument(min=1, max=12, help="The number of a chapter, such as 03.")],
    file: Annotated[
        Path | None, typer.Argument(help="Your Python file. Without it the functions to write are listed.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Start a file with the empty functions of the chapter.")] = None,
    hints: Annotated[int, typer.Option(min=0, help="How many hints to show where a check fails.")] = 1,
):
    """Check the functions that you wrote for a chapter's exercises, each by itself.

    The exit code is 0 if all pass, 1 if one fails or is missing, and 2 if the file cannot be read.
    """
    from ..exercises import CHAPTERS

    exercises = CHAPTERS[chapter]
    if file and write:
        raise SegdetError("give a file to check or --write a new one, not both")
    if write:
        _start(write, exercises)
        print(f"wrote {write}; fill in the functions, then: segdet check {chapter:02} {quote(str(write))}")
    elif file:
        _check(file, exercises, hints)
    else:
        for exercise in exercises:
            print(f"{exercise.name}{exercise.signature}  [{exercise.grade}]\n{indent(exercise.text, '    ')}\n")
        print(f"start a file: segdet check {chapter:02} --write mine.py; check it: segdet check {chapter:02} mine.py")


def _start(path, exercises):
    from ..runtime.atomic import write_text

    if path.exists():
        raise SegdetError(f"{path}: exists and is left as it is; name another file")
    write_text(path, "\n\n".join(["import numpy as np\nimport torch\n", *(exercise.start for exercise in exercises)]))


def _check(path, exercises, hints):
    from ..exercises import functions_of, report

    own = functions_of(path)
    good = []
    for exercise in exercises:
        if exercise.name not in own:
            print(f"{exercise.name}\n  FAILED  {path} has no function of this name")
            continue
        lines = []
        for line in report(exercise, own[exercise.name], hints):
            print(line, flush=True)
            lines.append(line)
        good += [exercise.name] * (not any("FAILED  " in line for line in lines))
    print(f"{len(good)} of {len(exercises)} functions pass")
    if len(good) < len(exercises):
        raise typer.Exit(1)
