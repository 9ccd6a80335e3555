"""Training the segmenter (chapter 08): the loss, and how far off a mask is."""

import math

import numpy as np
import torch

from .exercise import FIRST, FURTHER, Check, exercise


def _cross_entropy():
    from scipy.special import logsumexp

    logits = torch.zeros(1, 2, 1, 1, 2)
    labels = torch.tensor([[[[1, 0]]]])
    yield Check("the network says nothing: log 2", (logits, labels), math.log(2))
    sure = logits.clone()
    sure[0, 1, 0, 0] = torch.tensor([math.log(3), math.log(3)])  # p(1) = 3/4 in both voxels
    yield Check(
        "3/4 for the right label and for the wrong one, by hand", (sure, labels), (math.log(4 / 3) + math.log(4)) / 2
    )
    wrong = logits.clone()
    wrong[0, 1, 0, 0] = torch.tensor([1000.0, 1000.0])
    yield Check("logits of 1000: right costs 0, wrong 1000, and nothing is infinite", (wrong, labels), 500.0)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 3, 4, 5, 6, generator=generator)
    y = torch.randint(3, (2, 4, 5, 6), generator=generator)
    chosen = np.take_along_axis(z.numpy(), y.numpy()[:, None], 1)[:, 0]
    yield Check("two scans, three labels, against SciPy", (z, y), float((logsumexp(z.numpy(), 1) - chosen).mean()))


@exercise(
    FIRST,
    _cross_entropy,
    "Of each voxel only the probability of its own label counts: `gather` picks it along the channels.",
    "The channels are axis 1, not the last one.",
    "log softmax is z_y - log(sum(exp(z))). Subtract the largest logit first, or use `torch.logsumexp`.",
)
def cross_entropy(logits, labels):
    """The mean over all voxels of minus the log of the softmax probability of the right label.

    Parameters
    ----------
    logits : Tensor, (N, C, D, H, W)
    labels : integer Tensor, (N, D, H, W)

    Returns
    -------
    Tensor, ()
    """


def _block(start, stop):
    mask = np.zeros((11, 11, 11), bool)
    mask[start:stop, start:stop, start:stop] = True
    return mask


def _dice():
    a, b = _block(2, 5), _block(3, 6)  # 27 voxels each, 8 of them shared
    nothing = np.zeros_like(a)
    yield Check("two cubes of 27 voxels that share 8", (a, b), 16 / 54)
    yield Check("a mask with itself", (a, a), 1.0)
    yield Check("one mask is empty", (a, nothing), 0.0)
    yield Check("both are empty, so they agree", (nothing, nothing), 1.0)
    yield Check("a cube of 27 in one of 125", (_block(3, 6), _block(2, 7)), 54 / 152)


@exercise(
    FIRST,
    _dice,
    "Twice the shared voxels over the voxels of one mask plus those of the other.",
    "Do not divide by the union: that is IoU.",
    "Where both masks are empty there is nothing to divide by.",
)
def dice(a, b):
    """2 TP / (2 TP + FP + FN).

    Parameters
    ----------
    a, b : ndarrays of bool, (D, H, W)

    Returns
    -------
    float
        1 if both masks are empty.
    """


def _hausdorff95():
    a, b = np.zeros((2, 5, 5, 5), bool)
    a[0, 2, 2] = b[3, 2, 2] = True
    yield Check("two voxels three slices of 0.5 mm apart", (a, b, (0.5, 1.0, 1.0)), 1.5)
    yield Check("across a diagonal: 3, 4 and 0 mm", (a, np.roll(b, 2, 1), (1.0, 2.0, 1.0)), 5.0)
    yield Check("a mask with itself", (_block(2, 7), _block(2, 7), (1.0, 1.0, 1.0)), 0.0)
    # one stray voxel is 1 of 99 surface voxels; the other mask has 98
    stray = _block(2, 7)
    stray[10, 10, 10] = True
    yield Check("a stray voxel is less than 5 % of the surface", (_block(2, 7), stray, (1.0, 1.0, 1.0)), 0.0)
    # a line of 20 voxels against its first 10: nothing one way, up to 10 mm the other, whose 95th percentile is 9.05
    line, half = np.zeros((2, 20, 3, 3), bool)
    line[:, 1, 1], half[:10, 1, 1] = True, True
    yield Check("each direction by itself: the larger of 0 and 9.05", (half, line, (1.0, 1.0, 1.0)), 9.05)
    yield Check("the same, the masks exchanged", (line, half, (1.0, 1.0, 1.0)), 9.05)
    nothing = np.zeros_like(a)
    yield Check("both are empty", (nothing, nothing, (1.0, 1.0, 1.0)), 0.0)
    yield Check("one is empty", (a, nothing, (1.0, 1.0, 1.0)), math.inf)


@exercise(
    FURTHER,
    _hausdorff95,
    "A surface voxel is in the mask but not in its erosion by six neighbours: `scipy.ndimage.binary_erosion`.",
    "`distance_transform_edt(~surface, spacing)` has in every voxel the distance to the nearest surface voxel, in mm.",
    "Take the 95th percentile in each direction first, then the larger of the two. Do not pool the distances.",
)
def hausdorff95(a, b, spacing):
    """The larger of the two directed 95th percentiles of the surface distances, in mm.

    A surface voxel belongs to the mask and has a face neighbour that does not; beyond the border lies background.
    Percentiles are interpolated as by `numpy.percentile`.

    Parameters
    ----------
    a, b : ndarrays of bool, (D, H, W)
    spacing : (dz, dy, dx) in mm

    Returns
    -------
    float
        0 if both masks are empty, infinite if one is.
    """


EXERCISES = (cross_entropy, dice, hausdorff95)
