"""From scored boxes to the few that count: threshold, non-maximum suppression, box voting (chapters 03 and 05)."""

from dataclasses import dataclass
from numbers import Integral

import torch

from .boxes import area, box_iou, clip, decode
from .errors import SegdetError


@dataclass(frozen=True)
class Proposals:
    """Which boxes of a slice become attention (`facts` B6).

    The paper only says that proposals come from the regression path. At most `top_k` boxes a slice are kept, best
    score first, after non-maximum suppression at `nms_iou`, if their object probability reaches `threshold`. With
    `vote` a kept box becomes the mean, weighted with the scores, of itself and all boxes that overlap it by more than
    `nms_iou`, whatever their score; its own score stays (box voting, Gidaris and Komodakis 2015).

    Raises
    ------
    SegdetError
        `top_k` is no whole number from 1 on, or a threshold none from 0 to 1.
    """

    top_k: int = 1
    threshold: float = 0.5
    nms_iou: float = 0.5
    vote: bool = True

    def __post_init__(self):
        if not isinstance(self.top_k, Integral):
            raise SegdetError(f"proposals: top_k boxes a slice must be a whole number, found {self.top_k}")
        if self.top_k < 1:
            raise SegdetError(f"proposals: top_k boxes a slice must be 1 or more, found {self.top_k}")
        for name in ("threshold", "nms_iou"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise SegdetError(f"proposals: {name} must lie between 0 and 1, found {value}")


def propose(objectness, offsets, anchors, shape, proposals):
    """The boxes of every slice from what a detector says of its anchors (paper section 3, regression path).

    Parameters
    ----------
    objectness : Tensor, (N, K, 2)
        Logits of (background, object).
    offsets : Tensor, (N, K, 4)
    anchors : Tensor, (K, 4)
    shape : (rows, columns)
        Of a slice, to which the boxes are clipped.
    proposals : Proposals

    Returns
    -------
    boxes : Tensor, (N, top_k, 4)
    scores : Tensor, (N, top_k)
        As of `select`.
    """
    return select(clip(decode(offsets, anchors), shape), objectness.softmax(-1)[..., 1], proposals)


def select(boxes, scores, proposals):
    """Threshold, non-maximum suppression and top-k for a whole batch of slices at once.

    Greedy suppression takes the best box that is left, drops what overlaps it, and goes on. Only `top_k` boxes are
    wanted, so `top_k` turns are enough, each for all slices together.

    Parameters
    ----------
    boxes : Tensor, (N, K, 4)
    scores : Tensor, (N, K)
    proposals : Proposals

    Returns
    -------
    boxes : Tensor, (N, top_k, 4)
    scores : Tensor, (N, top_k)
        Best first; both 0 where nothing is left.
    """
    if not boxes.shape[1]:
        return boxes.new_zeros(len(boxes), proposals.top_k, 4), scores.new_zeros(len(boxes), proposals.top_k)
    left = (scores >= proposals.threshold) & (area(boxes) > 0)
    chosen, values = [], []
    for _ in range(proposals.top_k):
        best = torch.where(left, scores, -1).argmax(1, keepdim=True)  # (N, 1)
        there = left.gather(1, best)
        box = boxes.gather(1, best[..., None].expand(-1, -1, 4))  # (N, 1, 4)
        near = (box_iou(box, boxes)[:, 0] > proposals.nms_iou).scatter(1, best, True)
        if proposals.vote:
            voters = near[..., None]
            weight = torch.where(voters, scores[..., None].clamp(min=1e-6), 0)
            box = torch.where(voters, weight * boxes, 0).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
            low, high = (torch.where(voters, boxes, end) for end in (torch.inf, -torch.inf))
            box = box.clamp(low.amin(1, True), high.amax(1, True))  # the mean of equal numbers can round beyond them
        chosen.append(torch.where(there, box[:, 0], 0))  # (N, 4)
        values.append(torch.where(there, scores.gather(1, best), 0))  # (N, 1)
        left = left & ~near
    return torch.stack(chosen, 1), torch.cat(values, 1)
