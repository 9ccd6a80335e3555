"""Which anchors count, and what for: anchors to ground truth, and the sampled mini-batch (chapter 04)."""

import torch

from .boxes import box_iou

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


def match(anchors, boxes, positive_iou=0.7, negative_iou=0.3, best_anchor=True):
    """Label every anchor of every slice against that slice's ground-truth boxes.

    An anchor is positive above `positive_iou` with some box (the paper's 0.7), negative below `negative_iou` with
    all of them, ignored between. With `best_anchor` the anchor (or tied anchors) that overlap a box most are
    positive too, so that a box that no anchor fits still teaches (Faster R-CNN's rule (i); the paper is silent,
    `facts` B5).

    Parameters
    ----------
    anchors : Tensor, (K, 4)
    boxes : Tensor, (N, M, 4)
        Padded with boxes of no area (`segdet.boxes.pad_boxes`); a slice may hold none.
    positive_iou, negative_iou : float
    best_anchor : bool

    Returns
    -------
    labels : int8 Tensor, (N, K)
        `POSITIVE`, `NEGATIVE` or `IGNORED`.
    matched : Tensor, (N, K, 4)
        The box that each anchor overlaps most; meaningless where the label is not positive.
    """
    slices, most = boxes.shape[:2]
    if most == 0 or not len(anchors):
        shape = (slices, len(anchors))
        return torch.full(shape, NEGATIVE, dtype=torch.int8, device=boxes.device), boxes.new_zeros(*shape, 4)
    iou = box_iou(anchors, boxes)  # (N, K, M)
    best_iou, best_box = iou.max(-1)
    labels = torch.full_like(best_iou, IGNORED, dtype=torch.int8)
    labels[best_iou < negative_iou] = NEGATIVE
    labels[best_iou > positive_iou] = POSITIVE
    if best_anchor:
        reached = iou.amax(1, keepdim=True)  # (N, 1, M): how well each box is matched at all
        labels[((iou == reached) & (reached > 0)).any(-1)] = POSITIVE
    return labels, boxes.gather(1, best_box[..., None].expand(-1, -1, 4))


def sample(labels, per_slice=32, positive_fraction=0.5, positives_only=False, generator=None):
    """Choose the anchors of a mini-batch at random.

    At most ``per_slice * positive_fraction`` positives a slice; negatives fill the rest. With `positives_only` no
    negative is taken, which is what the paper says literally (`facts` B2).

    Parameters
    ----------
    labels : int8 Tensor, (N, K)
    per_slice : int
        8 slices of 32 anchors make the paper's batch of 256 (`facts` B3).
    positive_fraction : float
        In [0, 1].
    positives_only : bool
    generator : torch.Generator, optional
        On the CPU; the choice is then the same on every device.

    Returns
    -------
    positive, negative : bool Tensors, (N, K)
    """
    keys = torch.rand(labels.shape, generator=generator).to(labels.device)

    def lowest(candidates, limit):
        rank = keys.masked_fill(~candidates, 2).argsort(1).argsort(1)
        return candidates & (rank < limit)

    if positives_only:
        positive = lowest(labels == POSITIVE, per_slice)
        return positive, torch.zeros_like(positive)
    positive = lowest(labels == POSITIVE, int(per_slice * positive_fraction))
    return positive, lowest(labels == NEGATIVE, per_slice - positive.sum(1, keepdim=True))
