"""What an exercise is: a function to write, checks of what it returns, and hints in steps.

The files of the chapters import other libraries inside their checks, so that a list of exercises comes quickly.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import indent
from typing import Any

FIRST, FURTHER = "first steps", "further"


@dataclass(frozen=True)
class Check:
    """One call of the reader's function.

    Attributes
    ----------
    about : str
        What is tried, in a few words.
    given : tuple
        The arguments.
    expected : number, array, Tensor, or a tuple or dict of them
        Worked out by hand or by somebody else's code.
    read : callable, optional
        What of the result is compared; without it, all of it.
    within : float
        How far numbers may be off, relative and absolute.
    """

    about: str
    given: tuple
    expected: Any
    read: Callable | None = None
    within: float = 1e-4


@dataclass(frozen=True)
class Exercise:
    """A function that the reader writes.

    Attributes
    ----------
    name, signature, text : str
        The function's name, its parameters in brackets, and its docstring: what it must do, with shapes.
    grade : str
        `FIRST` or `FURTHER`; open questions have no checks.
    checks : callable
        Makes the checks, one after the other.
    hints : tuple of str
        Each says more than the one before.
    """

    name: str
    signature: str
    text: str
    grade: str
    checks: Callable
    hints: tuple[str, ...]

    @property
    def parameters(self):
        """The names of the function's parameters."""
        return [part.split("=")[0] for part in self.signature.strip("()").split(", ")]

    @property
    def start(self):
        """The source of the function with everything but its body."""
        inside = indent(self.text, "    ").lstrip()
        ending = "\n    " if "\n" in self.text else ""
        return f'def {self.name}{self.signature}:\n    """{inside}{ending}"""\n    raise NotImplementedError\n'


def exercise(grade, checks, *hints):
    """Make an `Exercise` of an empty function: its name, parameters and docstring are the task."""

    def of(function):
        signature, text = str(inspect.signature(function)), inspect.getdoc(function)
        return Exercise(function.__name__, signature, text, grade, checks, hints)

    return of
