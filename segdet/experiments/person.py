"""A person in the detector's place: boxes on some slices, straight lines between, errors (claim 11, chapter 11).

How much a person errs is assumed, not measured, so there are three levels. Each sees the outline as another annotator
would draw it (`segdet.phantom.annotator`), finds the first and the last slice of the object to within some slices, and
sets every box to within some millimetres.
"""

from dataclasses import dataclass

import numpy as np

from ..phantom.annotator import annotate
from ..volume import tight_box


@dataclass(frozen=True)
class Person:
    """How well somebody paints.

    Attributes
    ----------
    dice : float
        With another annotator of the same care, see `annotate`.
    ends_mm : float
        Deviation of where the object seems to begin and to end along the sweep.
    centre_mm : float
        Deviation of a box's centre along either axis.
    size : float
        Deviation of the logarithm of either side.
    """

    dice: float
    ends_mm: float
    centre_mm: float
    size: float


PERSONS = {
    "careful": Person(0.97, 0.5, 0.25, 0.02),
    "ordinary": Person(0.95, 1.0, 0.5, 0.05),
    "hasty": Person(0.90, 2.0, 1.0, 0.10),
}
STEPS = (1, 2, 4, 8, 16)  # of slices from one painted to the next


def seen_by(person, mask, spacing, seed):
    """The object as a person sees it: a mask of the same grid."""
    return annotate(mask, spacing, seed, person.dice)


def paint(person, seen, spacing, every, seed):
    """Boxes of a person who paints the object's first and last slice and every `every`-th between.

    Parameters
    ----------
    person : Person
    seen : ndarray of bool, (D, H, W)
        See `seen_by`. Of several objects in a slice the box holds all.
    spacing : (dz, dy, dx) in mm
    every : int
    seed : int

    Returns
    -------
    boxes : ndarray of float32, (D, 1, 4)
        On a straight line between two painted slices; none outside of them.
    painted : ndarray of int, (n,)
        The painted slices.
    """
    rng, depth = np.random.default_rng([seed, 8]), len(seen)
    held = np.flatnonzero(seen.any((1, 2)))
    if not len(held):
        return along_the_sweep((), (), depth), held
    first, last = np.rint(held[[0, -1]] + rng.normal(0, person.ends_mm / spacing[0], 2)).clip(0, depth - 1).astype(int)
    first, last = min(first, last), max(first, last)
    painted = np.unique([*range(first, last, every), last])
    boxes = np.array([_box(seen[held[np.abs(held - slice_).argmin()]]) for slice_ in painted])
    side, centre = rng.standard_normal((2, len(painted), 2))
    return along_the_sweep(painted, _drawn(person, boxes, spacing, centre, side), depth), painted


def paint_some(person, mask, spacing, count, rng):
    """Boxes of a person who paints a few slices, any, of an object that shows its outline and its ends clearly.

    The object's slices are divided into `count` parts of equal length, and the person paints one slice of each.

    Parameters
    ----------
    person : Person
        Of whom the errors of the boxes count.
    mask : ndarray of bool, (D, H, W)
    spacing : (dz, dy, dx) in mm
    count : int
        Slices that are painted, at most all that hold the object.
    rng : numpy.random.Generator

    Returns
    -------
    boxes : ndarray of float32, (D, 1, 4)
        On a straight line between two painted slices; none outside of them.
    painted : ndarray of int, (n,)
        The painted slices.
    """
    held = np.flatnonzero(mask.any((1, 2)))
    if not count or not len(held):
        return along_the_sweep((), (), len(mask)), held[:0]
    parts = np.array_split(held, min(count, len(held)))
    painted, draws = zip(*[(rng.choice(slices), rng.standard_normal((2, 2))) for slices in parts], strict=True)
    boxes = np.array([_box(mask[slice_]) for slice_ in painted])
    return along_the_sweep(painted, _drawn(person, boxes, spacing, *np.stack(draws, 1)), len(mask)), np.array(painted)


def along_the_sweep(painted, drawn, depth):
    """Boxes of every slice, on straight lines between those that were painted.

    Parameters
    ----------
    painted : array of int, (n,)
        Slices in rising order.
    drawn : array, (n, 4)
        Their boxes.
    depth : int
        Slices in all.

    Returns
    -------
    ndarray of float32, (depth, 1, 4)
        Of no area before the first and behind the last painted slice.
    """
    boxes = np.zeros((depth, 1, 4), np.float32)
    if len(painted):
        inside = np.arange(painted[0], painted[-1] + 1)
        boxes[inside, 0] = np.stack([np.interp(inside, painted, edge) for edge in np.transpose(drawn)], 1)
    return boxes


def _box(plane):
    rows, cols = tight_box(plane)
    return cols.start, rows.start, cols.stop, rows.stop


def _drawn(person, boxes, spacing, centre, side):
    """Boxes (n, 4) as a person sets them; `centre` and `side`, (n, 2), are draws from a standard normal."""
    middle = boxes.reshape(-1, 2, 2).mean(1) + person.centre_mm * centre / (spacing[2], spacing[1])
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * np.exp(person.size * side)
    return np.concatenate([middle - half, middle + half], 1)
