"""The loss of the region proposal network: which anchors it sees, and its two terms (chapter 04)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .boxes import clip, encode
from .matching import NEGATIVE, match, sample


@dataclass(frozen=True)
class Sampling:
    """Which anchors the loss sees (`facts` B2, B3, B5, B17); see `segdet.matching` for the meaning of the first six.

    ``Sampling(positives_only=True, best_anchor=False)`` is the paper taken literally. With `hard_negatives` no
    negatives are drawn: all count, each with the weight that `rpn_loss` gives it. With `inside` no anchor counts that
    crosses the border of the slice. `per_anchor` is the normalisation of Faster R-CNN (`rpn_loss`). The term of the
    boxes is multiplied by `box_weight`.

    Raises
    ------
    ValueError
        `hard_negatives` with `positives_only` or `per_anchor`.
    """

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    best_anchor: bool = True
    per_slice: int = 32
    positive_fraction: float = 0.5
    positives_only: bool = False
    hard_negatives: bool = False
    inside: bool = False
    per_anchor: bool = False
    box_weight: float = 1.0

    def __post_init__(self):
        if self.positives_only and self.hard_negatives:
            raise ValueError("hard_negatives needs negatives: leave out positives_only")
        if self.per_anchor and self.hard_negatives:
            raise ValueError("hard_negatives gives every anchor a weight of its own: leave out per_anchor")


def sampled_loss(objectness, offsets, anchors, boxes, shape, sampling, generator=None):
    """`rpn_loss` of the anchors that `match` and `sample` choose.

    Parameters
    ----------
    objectness : Tensor, (N, K, 2)
    offsets : Tensor, (N, K, 4)
    anchors : Tensor, (K, 4)
    boxes : Tensor, (N, M, 4)
        Ground truth, padded with boxes of no area.
    shape : (rows, columns)
        Of a slice.
    sampling : Sampling
    generator : torch.Generator, optional
        Of `sample`.

    Returns
    -------
    dict
        As `rpn_loss`.
    """
    if sampling.inside:
        inside = (clip(anchors, shape) == anchors).all(-1)
        objectness, offsets, anchors = objectness[:, inside], offsets[:, inside], anchors[inside]
    labels, matched = match(anchors, boxes, sampling.positive_iou, sampling.negative_iou, sampling.best_anchor)
    positive, negative = sample(
        labels, sampling.per_slice, sampling.positive_fraction, sampling.positives_only, generator
    )
    if sampling.hard_negatives:
        negative = labels == NEGATIVE
    kinds = {"hard": sampling.hard_negatives, "per_anchor": sampling.per_anchor}
    loss = rpn_loss(objectness, offsets, anchors, matched, positive, negative, **kinds)
    return loss | {"smooth_l1": sampling.box_weight * loss["smooth_l1"]}


def rpn_loss(objectness, offsets, anchors, matched, positive, negative, hard=False, per_anchor=False):
    """The two terms of the loss for chosen anchors; shapes as in `RPN.forward`, `match` and `sample`.

    Positives are few: some three in a slice with the object, none in the others. So the log loss is the mean over
    the positives and the mean over the negatives, averaged: the two kinds count 1:1 whatever their number, and where
    one is missing the other counts alone. Smooth L1 is summed over the four offsets and averaged over the positives.

    With `per_anchor` both sums are divided by the number of chosen anchors, as in torchvision's Faster R-CNN, whose
    paper comes to nearly the same with a weight of 10 and the number of places. That leaves the positives a few percent
    of the weight.

    With `hard` the mean over the negatives is weighted with the object probability that the network gives each of
    them: what it already knows to be background counts little. This is the weight of the focal loss with exponent 1
    (Lin 2017), divided by its sum.

    Parameters
    ----------
    objectness : Tensor, (N, K, 2)
    offsets, matched : Tensors, (N, K, 4)
    anchors : Tensor, (K, 4)
    positive, negative : bool Tensors, (N, K)
    hard, per_anchor : bool

    Returns
    -------
    dict
        ``log_loss`` and ``smooth_l1``; 0 where there is nothing to average.
    """
    chosen = positive | negative
    target = encode(matched[positive], anchors.expand_as(matched)[positive])
    smooth_l1 = F.smooth_l1_loss(offsets[positive], target, reduction="sum")
    if per_anchor:
        count = chosen.sum().clamp(min=1)
        log_loss = F.cross_entropy(objectness[chosen], positive[chosen].long(), reduction="sum")
        return {"log_loss": log_loss / count, "smooth_l1": smooth_l1 / count}
    weight = torch.ones_like(objectness[..., 1])
    if hard:
        weight = torch.where(negative, objectness.detach().softmax(-1)[..., 1], weight)
    kinds = [
        (F.cross_entropy(objectness[kind], positive[kind].long(), reduction="none") * weight[kind]).sum()
        / weight[kind].sum().clamp(min=1e-6)
        for kind in (positive, negative)
    ]
    present = positive.any().float() + negative.any().float()
    return {"log_loss": sum(kinds) / present.clamp(min=1), "smooth_l1": smooth_l1 / positive.sum().clamp(min=1)}
