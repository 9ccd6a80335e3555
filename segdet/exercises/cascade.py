"""The cascade on one scan (chapter 09): grids about one centre, and the part of a grid that is worth computing."""

import numpy as np

from .exercise import FIRST, FURTHER, Check, exercise


def _places():
    yield Check("five voxels of 2 mm on ten of 1 mm", (5, 2.0, 10, 1.0), np.array([0.5, 2.5, 4.5, 6.5, 8.5]))
    yield Check("three of 2 mm keep the centre", (3, 2.0, 10, 1.0), np.array([2.5, 4.5, 6.5]))
    yield Check("the same grid", (4, 0.4, 4, 0.4), np.array([0.0, 1, 2, 3]))
    yield Check("a finer grid reaches beyond the outer centres", (4, 0.5, 2, 1.0), np.array([-0.25, 0.25, 0.75, 1.25]))
    yield Check(
        "the paper's 184 rows on its 397: the first is row 15", (184, 0.22, 397, 0.11), 2 * np.arange(184) + 15.0
    )


@exercise(
    FIRST,
    _places,
    "The centre of n voxels is at index (n - 1) / 2, on both grids.",
    "Count from the centre of the working grid, stretch by the ratio of the voxels, and add the centre of the scan.",
)
def places(count, step, scan_count, scan_step):
    """Where the voxels of a working grid lie on an axis of the scan; both have the same centre.

    Parameters
    ----------
    count : int
        Voxels of the working grid.
    step : float
        Their size in mm.
    scan_count, scan_step : int, float
        The same of the scan.

    Returns
    -------
    ndarray of float, (count,)
        In voxels of the scan; 0 is the centre of its first voxel.
    """


def _attended_region():
    def check(about, box, shape, spacing, margin, expected):
        attention = np.zeros(shape, bool)
        if box:
            attention[tuple(slice(*side) for side in box)] = True
        ends = lambda region: tuple(part.indices(n)[:2] for part, n in zip(region, shape, strict=True))  # noqa: E731
        return Check(about, (attention, spacing, margin), expected, ends)

    grid, mm = (64, 64, 64), (1.0, 1.0, 1.0)
    middle = ((24, 40), (24, 40), (24, 40))
    yield check("16 voxels and no margin", middle, grid, mm, 0.0, middle)
    yield check("4 mm on every side: 24", middle, grid, mm, 4.0, ((20, 44),) * 3)
    yield check(
        "the margin is in mm: 8, 4 and 2 voxels", middle, grid, (0.5, 1.0, 2.0), 4.0, ((16, 48), (20, 44), (20, 44))
    )
    yield check("a part of a voxel counts as a whole one", middle, grid, mm, 4.1, ((16, 48),) * 3)
    yield check(
        "13 voxels grow to 16: two before and one after",
        ((24, 37), *middle[1:]),
        grid,
        mm,
        0.0,
        ((22, 38), *middle[1:]),
    )
    yield check("three voxels grow to 16", ((30, 33), *middle[1:]), grid, mm, 0.0, ((23, 39), *middle[1:]))
    yield check(
        "at the border it moves inwards", ((0, 4), (60, 64), (24, 40)), grid, mm, 0.0, ((0, 16), (48, 64), (24, 40))
    )
    yield check("no larger than the grid", middle, (64, 64, 44), mm, 20.0, ((4, 60), (4, 60), (0, 44)))
    yield check("no box: the whole grid", None, grid, mm, 4.0, ((0, 64),) * 3)


@exercise(
    FURTHER,
    _attended_region,
    "`np.flatnonzero(attention.any((1, 2)))` are the slices with attention; rows and columns likewise.",
    "The margin is ceil(margin / spacing) voxels. Length with both: a multiple of 8, from 16 up to the grid.",
    "Share what was added between both sides: start = (first + end - length) // 2, then move it into the grid.",
)
def attended_region(attention, spacing, margin):
    """The cuboid around the attention that a cropped cascade looks at.

    Parameters
    ----------
    attention : ndarray of bool, (D, H, W)
    spacing : (dz, dy, dx) in mm
    margin : float
        In mm, on every side, rounded up to voxels. Then each side grows to a multiple of 8 voxels, at least 16 and at
        most the grid's, by as much before as after (an odd voxel comes before), and is moved to lie in the grid.

    Returns
    -------
    tuple of three slices
        The whole grid if there is no attention.
    """


EXERCISES = (places, attended_region)
