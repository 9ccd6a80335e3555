"""One check of the reader's function, which may do anything: raise, spoil its arguments, or never return."""

import copy
import ctypes
import inspect
import threading
import traceback
from pathlib import Path

import numpy as np
import torch

from .compare import difference, short

SECONDS = 30.0  # for a call that takes milliseconds, on a machine that is busy
_NOT_THE_READERS = str(Path(__file__).parent), str(Path(torch.__file__).parents[1]), "<frozen"
UNWRITTEN = "nothing: the function is still to be written"


class TooLongError(Exception):
    """A call that was given up."""


def in_time(work, seconds):
    """What `work()` returns or raises; `TooLongError` after `seconds`.

    It runs in a thread, which can be left behind on every system and in a notebook. There it is asked to end: a loop in
    Python does so, one call of a library goes on until it returns.
    """
    ended = {}

    def run():
        try:
            ended["result"] = work()
        except BaseException as error:
            ended["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
        raise TooLongError
    if "error" in ended:
        raise ended["error"]
    return ended["result"]


def told(error):
    """An error in one line, with the line of the reader's code where it came up."""
    if isinstance(error, TooLongError):
        return f"nothing within {SECONDS:.0f} s: does a loop never end?"
    if isinstance(error, NotImplementedError) and not str(error):
        return UNWRITTEN
    own = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_NOT_THE_READERS)]
    lines = [frame.lineno for frame in own if frame.filename == own[0].filename]
    message = " ".join(str(error).split())
    message = message if len(message) <= 160 else f"{message[:157]}..."
    return f"{type(error).__name__}{f': {message}' if message else ''}{f' (line {lines[-1]})' if lines else ''}"


def given(exercise, check):
    """The arguments of a check by name, in one line."""
    return ", ".join(f"{name} = {short(value)}" for name, value in zip(exercise.parameters, check.given, strict=False))


def failure(exercise, check, function):
    """What is wrong with one call of a function.

    Returns
    -------
    (str, str) or None
        What was expected and what came out; None where the check passes.
    """
    arguments = copy.deepcopy(check.given)
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return f"{exercise.name}{exercise.signature}", f"{exercise.name}{inspect.signature(function)}"
    except ValueError:
        pass  # a function without a signature in Python
    try:
        found = in_time(lambda: function(*arguments), SECONDS)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return short(check.expected), told(error)
    for name, now, before in zip(exercise.parameters, arguments, check.given, strict=False):
        if _spoilt(now, before):
            return f"{name} is as it was", f"{name} has been changed: work on a copy"
    if check.read is None:
        return difference(found, check.expected, check.within)
    try:
        return difference(in_time(lambda: check.read(found), SECONDS), check.expected, check.within)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return short(check.expected), f"{short(found)}, and using it raises {told(error)}"


def _spoilt(now, before):
    if isinstance(before, list | tuple):
        return len(now) != len(before) or any(map(_spoilt, now, before))
    arrays = isinstance(before, torch.Tensor | np.ndarray)
    return arrays and difference(now, before, 0.0) is not None
