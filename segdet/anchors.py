"""Anchors: the reference boxes that the detector scores and moves (chapter 03, paper section 3)."""

import math

import numpy as np
import torch

from .boxes import as_rows
from .errors import SegdetError


class AnchorGrid:
    """The same few anchors at every cell of a feature map.

    Anchors are centred on the receptive cell, at (cell + 1/2) * stride pixels unless the backbone looks elsewhere, and
    are not rounded. (torchvision centres them on the cell's top-left corner and rounds their sides.)

    Parameters
    ----------
    sizes : sequence of float
        Square roots of the anchors' areas, in pixels.
    ratios : sequence of float
        Height over width.
    stride : int
        Pixels of the slice per cell of the feature map; 16 for VGG-16 up to conv5_3 and ResNet-18's third stage.

    Raises
    ------
    SegdetError
        There is no size or no ratio, one is not positive and finite, or the stride is below 1.
    """

    def __init__(self, sizes=(32.0, 48.0, 64.0), ratios=(1.0, 1.8, 2.6), stride=16):
        if isinstance(sizes, str) or isinstance(ratios, str):  # whose letters would be numbers
            raise SegdetError(f"anchors need sizes and ratios that are numbers, found {sizes!r} and {ratios!r}")
        self.sizes, self.ratios, self.stride = tuple(map(float, sizes)), tuple(map(float, ratios)), int(stride)
        for name, values in (("sizes", self.sizes), ("ratios", self.ratios)):
            if not values or not all(math.isfinite(value) and value > 0 for value in values):
                raise SegdetError(f"anchors need {name} that are positive and finite, at least one; found {values}")
        if self.stride < 1:
            raise SegdetError(f"anchors need a stride of 1 pixel or more, found {stride}")

    def __len__(self):
        """Anchors per location, A."""
        return len(self.sizes) * len(self.ratios)

    @property
    def shapes(self):
        """Widths and heights of the A anchors in pixels, (A, 2): all sizes of the first ratio, then of the next."""
        return torch.tensor([(s / r**0.5, s * r**0.5) for r in self.ratios for s in self.sizes])

    def __call__(self, grid, device=None, offset=None):
        """Anchors of a feature map of `grid` = (rows, columns) cells: (rows * columns * A, 4), row by row.

        `offset` is the centre of the first cell in pixels along either axis, by default stride / 2.
        """
        rows, cols = grid
        offset = self.stride / 2 if offset is None else offset
        y = torch.arange(rows, device=device) * self.stride + offset
        x = torch.arange(cols, device=device) * self.stride + offset
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)  # (rows, cols, 2)
        half = self.shapes.to(device) / 2
        centres = centres[:, :, None]  # (rows, cols, 1, 2) against (A, 2)
        return torch.cat([centres - half, centres + half], -1).reshape(-1, 4)


def fit_anchors(boxes):
    """An `AnchorGrid` whose sizes and ratios follow the training boxes (reading of `facts` B4).

    Sizes and ratios are the 1/6, 3/6 and 5/6 quantiles of sqrt(w h) and h / w: each anchor stands for an equal share
    of the boxes.

    Parameters
    ----------
    boxes : array, (N, 4), N > 0

    Returns
    -------
    AnchorGrid

    Raises
    ------
    SegdetError
        There is no box, one has no area, or what is given are no rows of four edges.
    """
    boxes = as_rows(np.asarray(boxes, np.float64))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    fit = np.count_nonzero((width > 0) & (height > 0))
    if not len(boxes) or fit < len(boxes):
        raise SegdetError(f"anchors are fitted to boxes with an area, found {fit} of {len(boxes)}; leave out the rest")
    at = 1 / 6, 3 / 6, 5 / 6
    return AnchorGrid(np.quantile(np.sqrt(width * height), at), np.quantile(height / width, at))


def default_anchors(shape):
    """Faster R-CNN's anchors scaled to a slice of `shape` (rows, columns) (the other reading of `facts` B4).

    Sizes 128, 256, 512 and ratios 1/2, 1, 2 were chosen for images whose shorter side is 600 pixels; here 600
    becomes the slice's shorter side.
    """
    scale = min(shape) / 600
    return AnchorGrid([128 * scale, 256 * scale, 512 * scale], (0.5, 1.0, 2.0))
