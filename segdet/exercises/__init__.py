"""Exercises that check themselves: a reader writes a function of the book anew, and is told what it does not do yet.

In a terminal ``segdet check 03`` lists what there is to write for chapter 03, and ``segdet check 03 mine.py`` checks
what stands in a file. In a notebook::

    from segdet.exercises import check

    check(box_iou)
"""

import runpy
from pathlib import Path
from shlex import quote

from ..errors import SegdetError
from . import ablation, anchors, attention, attribution, cascade, data, detector, infants, paper, rpn_loss, segmenter
from . import unet3d as network
from .trial import TooLongError, failure, given, in_time, told

_PAGES = (
    paper,
    data,
    anchors,
    rpn_loss,
    detector,
    attention,
    network,
    segmenter,
    cascade,
    ablation,
    attribution,
    infants,
)
READING = 120.0  # seconds for a file, which may import large libraries
CHAPTERS = {number: page.EXERCISES for number, page in enumerate(_PAGES, 1)}


def check(function, name=None, hints=1):
    """Check a function of one's own and print what it does not do yet.

    Parameters
    ----------
    function : callable
    name : str, optional
        Which exercise it solves; by default the one with the function's own name.
    hints : int
        How many hints to print if a check fails.
    """
    name = name or getattr(function, "__name__", "")
    found = [exercise for exercises in CHAPTERS.values() for exercise in exercises if exercise.name == name]
    if not found:
        names = ", ".join(exercise.name for exercises in CHAPTERS.values() for exercise in exercises)
        raise SegdetError(f"no exercise is called {name!r}; name one of {names}")
    print(*report(found[0], function, hints), sep="\n")


def report(exercise, function, hints=1):
    """The lines on every check of an exercise, and the first `hints` hints if one failed."""
    if not callable(function):
        yield f"{exercise.name}\n  FAILED  it is no function but {type(function).__name__}"
        return
    yield exercise.name
    failed = False
    for one in exercise.checks():
        wrong = failure(exercise, one, function)
        failed = failed or wrong is not None
        if wrong is None:
            yield f"  passed  {one.about}"
            continue
        yield f"  FAILED  {one.about}"
        for what, text in zip(("given", "expected", "came out"), (given(exercise, one), *wrong), strict=True):
            yield f"          {what:<8}  {text}"
        if wrong[1] == told(TooLongError()):
            yield "  the other checks were not tried"
            break
    if failed:
        for number, hint in enumerate(exercise.hints[:hints], 1):
            yield f"  hint {number} of {len(exercise.hints)}: {hint}"


def functions_of(path):
    """What a Python file defines, by name.

    Raises
    ------
    SegdetError
        The file is missing, is no Python, or raises an error when it is read.
    """
    path = Path(path)
    if path.is_dir():
        raise SegdetError(f"{path}: is a folder; name a Python file")
    if not path.is_file():
        raise SegdetError(f"{path}: there is no such file; `segdet check NN --write {quote(str(path))}` starts one")
    try:
        return in_time(lambda: runpy.run_path(str(path)), READING)
    except SyntaxError as error:
        raise SegdetError(
            f"{path}: {f'line {error.lineno}' if error.lineno else 'it'} is no Python: {error.msg}"
        ) from None
    except TooLongError:
        raise SegdetError(f"{path}: reading it takes over {READING:.0f} s; keep loops inside the functions") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise SegdetError(f"{path}: reading it raises {told(error)}; nothing was checked") from None
