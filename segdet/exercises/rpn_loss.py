"""The RPN loss (chapter 04): which anchors count, and what they cost."""

import math

import torch

from .exercise import FURTHER, Check, exercise

SQUARE = [0.0, 0, 10, 10]


def _match():
    def labelled(answer):
        """The labels, and the boxes of the positive anchors; those of others mean nothing."""
        labels, matched = answer
        return labels.long(), matched[labels == 1]

    def check(about, anchors, boxes, labels, matched):
        expected = torch.tensor(labels), torch.tensor(matched, dtype=torch.float32).reshape(-1, 4)
        return Check(about, (torch.tensor(anchors), torch.tensor(boxes)), expected, labelled)

    beside = [[1.0, 0, 11, 10], [4.0, 0, 14, 10], [20.0, 0, 30, 10]]
    yield check("IoU 9/11, 6/14 and 0, by hand", beside, [[SQUARE]], [[1, -1, 0]], [SQUARE])
    yield check("a slice without a box: padded with a box of no area", beside, [[[0.0] * 4]], [[0, 0, 0]], [])
    yield check("no anchor reaches 0.7: the best one is positive", beside[1:], [[SQUARE]], [[1, 0]], [SQUARE])
    tied = [[5.0, 0, 15, 10], [-5.0, 0, 5, 10]]
    yield check("two anchors tie for the best: both are positive", tied, [[SQUARE]], [[1, 1]], [SQUARE, SQUARE])
    yield check("no anchor touches the box: none is the best", beside[2:], [[SQUARE]], [[0]], [])
    exact = [SQUARE, [0.0, 0, 10, 7], [0.0, 0, 10, 3]]
    yield check("exactly 0.7 is not above, exactly 0.3 is not below", exact, [[SQUARE]], [[1, -1, -1]], [SQUARE])
    far = [20.0, 0, 30, 10]
    yield check("two boxes: each anchor gets its own", beside, [[far, SQUARE]], [[1, -1, 1]], [SQUARE, far])
    yield check("two slices, the second empty", beside, [[SQUARE], [[0.0] * 4]], [[1, -1, 0], [0, 0, 0]], [SQUARE])


@exercise(
    FURTHER,
    _match,
    "Start from the IoU of every anchor with every box of its slice, (N, K, M). Its maximum over the boxes decides.",
    "Then the other way: the largest IoU that any anchor has with a box. Anchors that reach it are positive too.",
    "A box of no area has IoU 0 with every anchor. All of them tie for the best, so demand that the best is above 0.",
    "`torchvision.ops.box_iou` serves one slice at a time. `boxes.gather(1, index)` picks a box for each anchor.",
)
def match(anchors, boxes, positive_iou=0.7, negative_iou=0.3):
    """Label every anchor of every slice.

    An anchor is positive (1) above `positive_iou` with some box, negative (0) below `negative_iou` with all of them,
    ignored (-1) between. Anchors that overlap a box most, at least a little, are positive too, all that tie for it.

    Parameters
    ----------
    anchors : Tensor, (K, 4)
    boxes : Tensor, (N, M, 4)
        Of N slices; a box of no area stands for none.

    Returns
    -------
    labels : integer Tensor, (N, K)
    matched : Tensor, (N, K, 4)
        The box that each anchor overlaps most; anything where the label is not positive.
    """


def _rpn_loss():
    def case(odds, offsets, kinds):
        """One slice; P(object) is odds / (1 + odds); kinds: 1 positive, 0 negative, -1 neither."""
        n, kinds = len(odds), torch.tensor([kinds])
        objectness = torch.zeros(1, n, 2)
        objectness[0, :, 1] = torch.log(torch.tensor(odds))
        anchors = torch.tensor([SQUARE]).repeat(n, 1) + torch.tensor([1.0, 0, 1, 0])
        matched = torch.tensor([[SQUARE] * n])  # tx = -1/10, everything else 0
        return objectness, torch.tensor([offsets]), anchors, matched, kinds == 1, kinds == 0

    zero = [0.0] * 4
    log2 = math.log(2)

    def terms(log_loss, smooth_l1):
        return {"log_loss": log_loss, "smooth_l1": smooth_l1}

    yield Check("the three anchors of the chapter", case([1.0, 1, 3], [zero] * 3, [1, -1, 0]), terms(1.5 * log2, 0.005))
    yield Check(
        "one positive and three negatives weigh the same: (log 2 + log 4) / 2",
        case([1.0, 3, 3, 3], [zero] * 4, [1, 0, 0, 0]),
        terms(1.5 * log2, 0.005),
    )
    yield Check("no positive: negatives alone, and no box", case([3.0, 1], [zero] * 2, [0, 0]), terms(1.5 * log2, 0.0))
    yield Check("no negative: positives alone", case([1.0], [zero], [1]), terms(log2, 0.005))
    yield Check("nothing chosen: 0 and not NaN", case([1.0, 3], [zero] * 2, [-1, -1]), terms(0.0, 0.0))
    far = [[-0.1, 3.0, -2.0, 0.5], [-0.1, 0.0, 0.0, 0.0]]  # 2.5 + 1.5 + 0.125 over two positives
    yield Check(
        "far off it is linear; four offsets are summed, anchors averaged",
        case([1.0, 1], far, [1, 1]),
        terms(log2, 2.0625),
    )
    sure = case([1.0, 1], [zero] * 2, [1, 0])
    sure[0][0, :, 1] = torch.tensor([-200.0, 200.0])
    yield Check("a confident mistake costs its scores, not infinity", sure, terms(200.0, 0.005))


@exercise(
    FURTHER,
    _rpn_loss,
    "Take the mean log loss of the positives and that of the negatives, then the mean of those two that exist.",
    "The targets are the offsets from the anchors to their boxes (`encode` of chapter 03), of positive anchors only.",
    "Sum smooth L1 over the four offsets and divide by the number of positives, at least 1.",
    "Log of a softmax overflows for large scores: `torch.nn.functional.cross_entropy` takes the scores as they are.",
)
def rpn_loss(objectness, offsets, anchors, matched, positive, negative):
    """The two terms of the loss for chosen anchors.

    Log loss: the mean over the positives and the mean over the negatives, averaged; one kind alone where the other is
    missing. Smooth L1 with its bend at 1: summed over the four offsets, averaged over the positives. Both are 0 where
    there is nothing to average.

    Parameters
    ----------
    objectness : Tensor, (N, K, 2)
        Scores of background and object.
    offsets : Tensor, (N, K, 4)
    anchors : Tensor, (K, 4)
    matched : Tensor, (N, K, 4)
    positive, negative : bool Tensors, (N, K)

    Returns
    -------
    dict
        ``log_loss`` and ``smooth_l1``.
    """


EXERCISES = (match, rpn_loss)
