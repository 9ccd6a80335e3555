"""The attention mask (chapter 06): boxes become a volume, which keeps some voxels and lets others in."""

import numpy as np
import torch

from .anchors import some_boxes
from .exercise import FIRST, FURTHER, Check, exercise


def _boxes_to_mask():
    def check(about, boxes, *rows):
        mask = torch.tensor([[[pixel == "#" for pixel in row] for row in rows]])
        return Check(about, (torch.tensor([boxes]), tuple(mask.shape)), mask)

    yield check("whole edges: columns 1 and 2 of row 1", [[1.0, 1, 3, 2]], ".....", ".##..", ".....")
    yield check("a box of one pixel", [[0.0, 0, 1, 1]], "#..", "...")
    yield check("a pixel belongs where its centre does", [[0.4, 0.4, 2.6, 1.6]], "###.", "###.", "....")
    yield check("a centre on the first edge is in, on the last one out", [[0.5, 0.5, 2.5, 1.5]], "##..", "....")
    yield check("beyond the border it is cut", [[-1.0, 1, 2, 9]], "...", "##.", "##.")
    yield check("outside altogether", [[5.0, 0, 9, 2]], "...", "...")
    yield check("two boxes overlap: the union", [[0.0, 0, 3, 2], [1.0, 1, 4, 3]], "###.", "####", ".###")
    yield check("the same box twice is still a box", [[0.0, 0, 2, 1], [0.0, 0, 2, 1]], "##.", "...")
    yield check("no area and upside down paint nothing", [[1.0, 0, 1, 2], [3.0, 0, 1, 2]], "....", "....")
    boxes = torch.stack([some_boxes(6, seed) - 8 for seed in range(4)])
    y, x = torch.arange(40) + 0.5, torch.arange(50) + 0.5
    x0, y0, x1, y1 = boxes[..., None, None].unbind(2)
    inside = (x0 <= x) & (x < x1) & (y0 <= y[:, None]) & (y[:, None] < y1)
    yield Check("four slices with six boxes each, pixel by pixel", (boxes, (4, 40, 50)), inside.any(1))


@exercise(
    FURTHER,
    _boxes_to_mask,
    "Column c has its centre at c + 1/2. It belongs to a box where x0 <= c + 1/2 < x1; rows likewise.",
    "So the box starts at column ceil(x0 - 1/2) and ends before ceil(x1 - 1/2). `round` would take halves to even.",
    "Cut at the border before you use a number as an index: a negative one counts from the end.",
    "For no loop over pixels: add +1 and -1 at the four corners of each box, then two cumulative sums.",
)
def boxes_to_mask(boxes, shape):
    """The union of every slice's boxes as a binary volume.

    A pixel belongs to a box when its centre does; of the box's edges the first belong to it, the last do not.

    Parameters
    ----------
    boxes : Tensor, (D, M, 4)
        (x0, y0, x1, y1) in pixels; boxes of no area paint nothing.
    shape : (D, H, W)

    Returns
    -------
    bool Tensor, (D, H, W)
    """


def _coverage_and_leakage():
    annotation, attention, nothing = np.zeros((3, 2, 4, 5), bool)
    annotation[0, 1:3, 1:3] = True  # 4 voxels
    attention[0, 1:3, 2:5] = True  # 6 voxels, 2 of them shared
    yield Check("2 of 4 are kept, 4 of 6 are something else", (attention, annotation), (0.5, 4 / 6))
    yield Check("the annotation itself", (annotation, annotation), (1.0, 0.0))
    yield Check("attention everywhere keeps all: 4 of 40 are the object", (~nothing, annotation), (1.0, 0.9))
    yield Check("no attention misses all and lets nothing in", (nothing, annotation), (0.0, 0.0))
    yield Check("nothing to keep: nothing is missed", (attention, nothing), (1.0, 1.0))


@exercise(
    FIRST,
    _coverage_and_leakage,
    "Both count the shared voxels; coverage divides by the annotation's, leakage by the attention's.",
    "Leakage is the share of the attention that is *not* shared.",
    "An empty annotation is covered, and an empty attention leaks nothing.",
)
def coverage_and_leakage(attention, annotation):
    """How much of the annotation is kept, and how much of the attention is something else.

    Parameters
    ----------
    attention, annotation : ndarrays of bool, (D, H, W)

    Returns
    -------
    coverage : float
        1 for an empty annotation.
    leakage : float
        0 for an empty attention.
    """


EXERCISES = (coverage_and_leakage, boxes_to_mask)
