"""When does attention help? (chapter 11): which stage a wrong voxel comes from."""

import numpy as np

from .exercise import FIRST, Check, exercise

KINDS = "missed_slice", "cut_off", "overlooked", "leaked", "stray"


def _attribute():
    def check(about, mask, annotation, attention, *counts):
        volumes = [np.array([[list(row)] for row in rows]) == "#" for rows in (mask, annotation, attention)]
        return Check(about, tuple(volumes), dict(zip(KINDS, counts, strict=True)))

    yield check("nothing is wrong", [".##."], [".##."], [".##."], 0, 0, 0, 0, 0)
    yield check(
        "the two slices of the chapter", ["#..##", "....."], [".###.", "..#.."], ["..###", "....."], 1, 1, 1, 1, 1
    )
    yield check("a slice without attention: nothing is cut off there", ["...."], ["###."], ["...."], 3, 0, 0, 0, 0)
    yield check("beside the attention of its slice", ["...."], ["###."], ["...#"], 0, 3, 0, 0, 0)
    yield check(
        "attention in another slice does not count", ["...", "..."], [".#.", "..."], ["...", ".#."], 1, 0, 0, 0, 0
    )
    yield check("too much, within and without", ["####"], ["...."], ["##.."], 0, 0, 0, 2, 2)


@exercise(
    FIRST,
    _attribute,
    "Voxels that the mask lacks are of the first three kinds, voxels that it should not have of the last two.",
    "`attention.any((1, 2), keepdims=True)` says of every slice whether it has attention at all.",
)
def attribute(mask, annotation, attention):
    """Count the wrong voxels by the stage that failed first.

    Parameters
    ----------
    mask, annotation, attention : ndarrays of bool, (D, H, W)

    Returns
    -------
    dict of int
        ``missed_slice``, ``cut_off``, ``overlooked``, ``leaked``, ``stray``: see "The mathematics" of chapter 11.
    """


EXERCISES = (attribute,)
