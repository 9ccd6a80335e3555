"""What came out beside what was expected, both in a few words."""

import reprlib

import numpy as np
import torch

SHOWN = 16  # numbers of an array that are printed; of larger ones shape and type


def short(value):
    """A value in one line."""
    array = _array(value) if isinstance(value, torch.Tensor | np.ndarray) else None
    if array is not None:
        if array.size > SHOWN:
            return f"{_kind(value)} of shape {array.shape}"
        array = array.astype(int) if array.dtype == bool else array
        text = np.array2string(array, precision=4, separator=", ", suppress_small=True, max_line_width=10**6)
        return " ".join(text.split())
    if isinstance(value, float | np.floating):
        return f"{value:.5g}"
    if isinstance(value, list | tuple):
        return f"({', '.join(short(v) for v in value[:6])}{', ...' if len(value) > 6 else ''})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {short(v)}' for key, v in value.items())}}}"
    return " ".join(reprlib.repr(value).split())


def difference(found, expected, within):
    """Where a result is not what was expected.

    Numbers must agree within `within`, relative and absolute. Shapes must be equal, and so must the kinds of numbers:
    bool, integer, float or complex. For a Tensor a Tensor is expected, for a plain number any array of one.

    Returns
    -------
    (str, str) or None
        What was expected and what came out; None where nothing differs.
    """
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            return f"a dict of {', '.join(map(str, expected))}", _told(found)
        parts = [(f"{key!r}: ", found[key], expected[key]) for key in expected]
    elif isinstance(expected, tuple):
        if not isinstance(found, tuple | list) or len(found) != len(expected):
            return f"{len(expected)} values", _told(found)
        parts = [(f"value {i + 1}: ", *pair) for i, pair in enumerate(zip(found, expected, strict=True))]
    else:
        return _of_numbers(found, expected, within)
    for name, *pair in parts:
        if worse := difference(*pair, within):
            return name + worse[0], name + worse[1]
    return None


def _of_numbers(found, expected, within):
    plain = not isinstance(expected, torch.Tensor | np.ndarray)
    if not plain and not isinstance(found, type(expected)):
        return _kind(expected), _told(found)
    there, wanted = _array(found), _array(expected)
    if there is None:
        return short(expected), _told(found)
    if there.shape != wanted.shape:
        return f"shape {wanted.shape}", f"shape {there.shape}"
    if not plain and there.dtype.kind != wanted.dtype.kind:
        return f"numbers of type {wanted.dtype}", f"{there.dtype}"
    wrong = ~np.isclose(there, wanted, rtol=within, atol=within, equal_nan=True)
    if not wrong.any():
        return None
    if wanted.size <= SHOWN:
        return short(expected), short(found)
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{wanted[at]:.5g} at {list(at)}", f"{there[at]:.5g}; {wrong.sum()} of {wrong.size} values differ"


def _array(value):
    """The numbers of a value as an array; None if it has none."""
    try:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    except (ValueError, TypeError, RuntimeError):
        return None  # ragged, sparse, without storage, or of a type that NumPy lacks
    return array if array.dtype.kind in "biufc" else None


def _kind(value):
    if isinstance(value, torch.Tensor | np.ndarray):
        name = "a Tensor" if isinstance(value, torch.Tensor) else "an array"
        return f"{name} of {str(value.dtype).removeprefix('torch.')}"
    return f"{type(value).__name__}"


def _told(value):
    """A value of the wrong type."""
    if value is None:
        return "None: is there a `return`?"
    return f"{_kind(value)}: {short(value)}"
