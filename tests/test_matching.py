"""Matching and sampling against torchvision's Matcher and BalancedPositiveNegativeSampler, and by hand."""

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from segdet.anchors import AnchorGrid
from segdet.boxes import pad_boxes
from segdet.matching import IGNORED, NEGATIVE, POSITIVE, match, sample

ANCHORS = AnchorGrid()((11, 6))


def slices_of_boxes(seed, slices=40):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(slices):
        count = int(torch.randint(0, 5, (), generator=generator))
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([90.0, 170.0])
        found.append(torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 90], 1))
    return found


@pytest.mark.parametrize("best_anchor", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_equals_torchvision(seed, best_anchor):
    boxes = slices_of_boxes(seed)
    labels, matched = match(ANCHORS, pad_boxes(boxes), best_anchor=best_anchor)
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=best_anchor)
    for row, (label, box) in enumerate(zip(labels, matched, strict=True)):
        if not len(boxes[row]):
            assert (label == NEGATIVE).all()
            continue
        iou = box_iou(boxes[row], ANCHORS)
        theirs = matcher(iou)
        expected = torch.where(theirs >= 0, POSITIVE, torch.where(theirs == -1, NEGATIVE, IGNORED))
        at_threshold = (iou == 0.7).any(0)  # the paper says "higher than 0.7", torchvision takes 0.7 itself
        assert torch.equal(label.long()[~at_threshold], expected[~at_threshold])
        positive = label == POSITIVE
        torch.testing.assert_close(box[positive], boxes[row][theirs.clamp(min=0)][positive])


def test_by_hand():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60], [0, 0, 9, 10]])
    box = torch.tensor([[[0.0, 0, 10, 10]]])
    assert match(anchors, box)[0].tolist() == [[POSITIVE, IGNORED, NEGATIVE, POSITIVE]]
    far = torch.tensor([[[48.0, 48, 60, 60]]])  # IoU with the third anchor: 100 / 144 = 0.69
    assert match(anchors, far)[0].tolist() == [[NEGATIVE, NEGATIVE, POSITIVE, NEGATIVE]]
    assert match(anchors, far, best_anchor=False)[0].tolist() == [[NEGATIVE, NEGATIVE, IGNORED, NEGATIVE]]
    beyond = torch.tensor([[[80.0, 80, 90, 90]]])  # the best of anchors that do not touch it is none
    assert match(anchors, beyond)[0].tolist() == [[NEGATIVE] * 4]


def test_an_overlap_of_just_a_threshold_is_neither():
    """The paper says "higher than 0.7"; float32 holds the overlaps of half a box and of a quarter exactly."""
    anchors = torch.tensor([[0.0, 0, 8, 4], [0, 0, 4, 4], [0, 0, 8, 8]])
    labels, _ = match(anchors, anchors[None, 2:], positive_iou=0.5, negative_iou=0.25, best_anchor=False)
    assert labels.tolist() == [[IGNORED, IGNORED, POSITIVE]]


def test_the_best_anchor_of_a_box_smaller_than_a_pixel():
    anchors = torch.tensor([[0.0, 0, 2, 2], [8, 8, 10, 10]])
    assert match(anchors, torch.tensor([[[0.5, 0.5, 1, 1]]]))[0].tolist() == [[POSITIVE, NEGATIVE]]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.int64])
def test_boxes_of_few_bits_and_whole_numbers(kind):
    anchors = torch.tensor([[0, 0, 300, 300], [0, 0, 300, 150], [0, 0, 10, 10]]).to(kind)
    labels, matched = match(anchors, anchors[None, :1])
    assert labels.tolist() == [[1, -1, 0]]
    assert torch.equal(matched, anchors[None, :1].expand(1, 3, 4))


def test_no_boxes_anywhere():
    labels, matched = match(ANCHORS, torch.zeros(3, 0, 4))
    assert (labels == NEGATIVE).all()
    assert matched.shape == (3, 594, 4)


def test_sample_counts():
    labels = torch.full((4, 594), NEGATIVE, dtype=torch.int8)
    labels[0, :100] = POSITIVE  # more than fit
    labels[1, :5] = POSITIVE  # fewer: negatives fill the slice's share
    labels[3, 3:] = IGNORED  # hardly anything to choose from
    positive, negative = sample(labels, generator=torch.Generator().manual_seed(0))  # 32 a slice, half of them
    assert positive.sum(1).tolist() == [16, 5, 0, 0]
    assert negative.sum(1).tolist() == [16, 27, 32, 3]
    assert (labels[positive] == POSITIVE).all()
    assert (labels[negative] == NEGATIVE).all()


def test_positives_only_is_the_literal_reading():
    labels = torch.full((2, 594), NEGATIVE, dtype=torch.int8)
    labels[0, :40] = POSITIVE
    positive, negative = sample(labels, 32, positives_only=True)
    assert positive.sum(1).tolist() == [32, 0]
    assert not negative.any()


def test_every_candidate_is_equally_likely():
    labels = torch.full((4000, 20), NEGATIVE, dtype=torch.int8)
    _, negative = sample(labels, 5, generator=torch.Generator().manual_seed(1))
    share = negative.float().mean(0)
    assert (share - 0.25).abs().max() < 5 * (0.25 * 0.75 / 4000) ** 0.5
