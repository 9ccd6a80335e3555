"""The paper and the question (chapter 01): the measure of the whole book."""

import numpy as np

from .exercise import FIRST, Check, exercise


def _iou():
    first, second, nothing = np.zeros((3, 1, 6, 6), bool)
    first[0, 1:4, 1:4], second[0, 2:5, 2:5] = True, True
    yield Check("two squares of 3 x 3, one moved by a row and a column: 4 / 14", (first, second), 4 / 14)
    yield Check("a mask with itself", (first, first), 1.0)
    yield Check("masks that do not touch", (first & ~second, second & ~first), 0.0)
    yield Check("one mask is empty", (first, nothing), 0.0)
    yield Check("both are empty, so they agree", (nothing, nothing), 1.0)
    yield Check("grey masks, 0 and 255 beside 0 and 1", (first * np.uint8(255), second.astype(np.uint8)), 4 / 14)


@exercise(
    FIRST,
    _iou,
    "Count the voxels that are in both masks, and those that are in at least one.",
    "Make both masks bool first: any number but 0 is inside.",
    "Where the union is empty there is nothing to divide by: both masks are empty, and equal.",
)
def iou(a, b):
    """Intersection over union of two masks.

    Parameters
    ----------
    a, b : ndarrays, (D, H, W)
        Any number but 0 is inside.

    Returns
    -------
    float
        1 if both masks are empty.
    """


EXERCISES = (iou,)
