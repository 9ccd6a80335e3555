"""Training the detector (chapter 05): from scored boxes to the few that count."""

import torch

from ..proposals import Proposals
from .anchors import some_boxes
from .exercise import FIRST, FURTHER, Check, exercise

SQUARE = [0.0, 0, 10, 10]


def _nms():
    from torchvision.ops import nms as theirs

    near, far = [0.0, 0, 10, 9], [30.0, 0, 40, 10]
    three = torch.tensor([near, far, SQUARE])
    yield Check(
        "the better of two that overlap, and one far off",
        (three, torch.tensor([0.5, 0.6, 0.9]), 0.5),
        torch.tensor([2, 1]),
    )
    # neighbours overlap by 6 / 14, the ends by 2 / 18
    chain = torch.tensor([SQUARE, [4.0, 0, 14, 10], [8.0, 0, 18, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    yield Check("a box that is dropped drops no other", (chain, scores, 0.4), torch.tensor([0, 2]))
    half = torch.tensor([SQUARE, [0.0, 0, 10, 5]])
    yield Check("an IoU of exactly the limit is kept", (half, scores[:2], 0.5), torch.tensor([0, 1]))
    yield Check("no boxes", (torch.zeros(0, 4), torch.zeros(0), 0.5), torch.zeros(0, dtype=torch.long))
    boxes, scores = some_boxes(60, 4), torch.rand(60, generator=torch.Generator().manual_seed(5))
    yield Check("sixty boxes, against torchvision", (boxes, scores, 0.3), theirs(boxes, scores, 0.3))


@exercise(
    FIRST,
    _nms,
    "Go through the boxes from the best score down. Keep a box unless one that was kept overlaps it too much.",
    "Only boxes that were kept suppress. `scores.argsort(descending=True)` gives the order.",
    "Too much means above the limit, not at it. Return indices into `boxes`, as a long Tensor, also for no boxes.",
)
def nms(boxes, scores, limit):
    """Greedy non-maximum suppression.

    Parameters
    ----------
    boxes : Tensor, (N, 4)
    scores : Tensor, (N,)
        All different.
    limit : float
        A box is dropped if its IoU with a better one that is kept is above it.

    Returns
    -------
    integer Tensor
        Indices of the kept boxes, best first.
    """


def _select():
    from torchvision.ops import nms as theirs

    near, far = [0.0, 0, 10, 8], [30.0, 0, 40, 10]
    boxes = torch.tensor([[near, far, SQUARE]])
    scores = torch.tensor([[0.2, 0.6, 0.8]])

    def answer(found, values):
        return torch.tensor([found]), torch.tensor([values])

    plain = Proposals(top_k=2, threshold=0.5, vote=False)
    yield Check("the best two", (boxes, scores, plain), answer([SQUARE, far], [0.8, 0.6]))
    one = Proposals(top_k=3, threshold=0.6, vote=False)
    yield Check(
        "a score at the threshold passes; what is not found is 0",
        (boxes, scores, one),
        answer([SQUARE, far, [0.0] * 4], [0.8, 0.6, 0]),
    )
    none = Proposals(top_k=1, threshold=0.9)
    yield Check("no box passes", (boxes, scores, none), answer([[0.0] * 4], [0.0]))
    # (0.8 x 10 + 0.2 x 8) / 1 = 9.6: the box below the threshold votes, the far one does not, and the score stays
    voted = [0.0, 0, 10, 9.6]
    yield Check("boxes vote with their scores", (boxes, scores, Proposals(threshold=0.5)), answer([voted], [0.8]))
    empty = torch.tensor([[[5.0, 5, 5, 9], SQUARE]])
    yield Check(
        "a box without area is none", (empty, scores[:, 1:].flip(1), plain), answer([SQUARE, [0.0] * 4], [0.6, 0])
    )
    many = torch.stack([some_boxes(40, seed) for seed in (6, 7)])
    values = torch.rand(2, 40, generator=torch.Generator().manual_seed(8))
    kept = [theirs(b, s, 0.5)[:5] for b, s in zip(many, values, strict=True)]
    best = tuple(torch.stack([part[k] for part, k in zip(parts, kept, strict=True)]) for parts in (many, values))
    yield Check("two slices of forty boxes, against torchvision", (many, values, Proposals(5, 0.0, 0.5, False)), best)


@exercise(
    FURTHER,
    _select,
    "Begin with a loop over slices: drop what is below the threshold or has no area, suppress, fill up with 0.",
    "`top_k` turns are enough: take the best box that is left, and drop it and what overlaps it above `nms_iou`.",
    "All boxes that overlap the winner vote, those below the threshold as well. The winner votes too.",
    "A turn that finds nothing left gives a box of 0 and a score of 0.",
)
def select(boxes, scores, proposals):
    """Threshold, non-maximum suppression, voting and the best few, for a batch of slices.

    Parameters
    ----------
    boxes : Tensor, (N, K, 4)
    scores : Tensor, (N, K)
    proposals : segdet.proposals.Proposals
        ``top_k``, ``threshold`` (a score must reach it), ``nms_iou``, and ``vote``: a kept box becomes the mean,
        weighted with the scores, of itself and all boxes that overlap it above ``nms_iou``, whatever their score.

    Returns
    -------
    boxes : Tensor, (N, top_k, 4)
    scores : Tensor, (N, top_k)
        Best first; both 0 where nothing is left.
    """


EXERCISES = (nms, select)
