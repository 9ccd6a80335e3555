"""The loss of the region proposal network: which anchors it sees, and its two terms (chapter 04)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .boxes import encode
from .matching import NEGATIVE, match, sample


@dataclass(frozen=True)
class Sampling:
    """Which anchors the loss sees (`facts` B2, B3, B5); see `segdet.matching` for the meaning of each.

    ``Sampling(positives_only=True, best_anchor=False)`` is the paper taken literally. With `hard_negatives` no
    negatives are drawn: all count, each with the weight that `rpn_loss` gives it.

    Raises
    ------
    ValueError
        `hard_negatives` with `positives_only`.
    """

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    best_anchor: bool = True
    per_slice: int = 32
    positive_fraction: float = 0.5
    positives_only: bool = False
    hard_negatives: bool = False

    def __post_init__(self):
        if self.positives_only and self.hard_negatives:
            raise ValueError("hard_negatives needs negatives: leave out positives_only")


def sampled_loss(objectness, offsets, anchors, boxes, sampling, generator=None):
    """`rpn_loss` of the anchors that `match` and `sample` choose.

    Parameters
    ----------
    objectness : Tensor, (N, K, 2)
    offsets : Tensor, (N, K, 4)
    anchors : Tensor, (K, 4)
    boxes : Tensor, (N, M, 4)
        Ground truth, padded with boxes of no area.
    sampling : Sampling
    generator : torch.Generator, optional
        Of `sample`.

    Returns
    -------
    dict
        As `rpn_loss`.
    """
    labels, matched = match(anchors, boxes, sampling.positive_iou, sampling.negative_iou, sampling.best_anchor)
    positive, negative = sample(
        labels, sampling.per_slice, sampling.positive_fraction, sampling.positives_only, generator
    )
    if sampling.hard_negatives:
        negative = labels == NEGATIVE
    return rpn_loss(objectness, offsets, anchors, matched, positive, negative, sampling.hard_negatives)


def rpn_loss(objectness, offsets, anchors, matched, positive, negative, hard=False):
    """The two terms of the loss for chosen anchors; shapes as in `RPN.forward`, `match` and `sample`.

    Positives are few: some three in a slice with the object, none in the others. So the log loss is the mean over
    the positives and the mean over the negatives, averaged: the two kinds count 1:1 whatever their number, and where
    one is missing the other counts alone. Smooth L1 is summed over the four offsets and averaged over the positives.
    (Dividing both by the 256 anchors, as torchvision's Faster R-CNN does, leaves the positives a few percent of the
    weight.)

    With `hard` the mean over the negatives is weighted with the object probability that the network gives each of
    them: what it already knows to be background counts little. This is the weight of the focal loss with exponent 1
    (Lin 2017), divided by its sum.

    Parameters
    ----------
    objectness : Tensor, (N, K, 2)
    offsets, matched : Tensors, (N, K, 4)
    anchors : Tensor, (K, 4)
    positive, negative : bool Tensors, (N, K)
    hard : bool

    Returns
    -------
    dict
        ``log_loss`` and ``smooth_l1``; 0 where there is nothing to average.
    """
    weight = torch.ones_like(objectness[..., 1])
    if hard:
        weight = torch.where(negative, objectness.detach().softmax(-1)[..., 1], weight)
    kinds = [
        (F.cross_entropy(objectness[kind], positive[kind].long(), reduction="none") * weight[kind]).sum()
        / weight[kind].sum().clamp(min=1e-6)
        for kind in (positive, negative)
    ]
    present = positive.any().float() + negative.any().float()
    target = encode(matched[positive], anchors.expand_as(matched)[positive])
    smooth_l1 = F.smooth_l1_loss(offsets[positive], target, reduction="sum") / positive.sum().clamp(min=1)
    return {"log_loss": sum(kinds) / present.clamp(min=1), "smooth_l1": smooth_l1}
