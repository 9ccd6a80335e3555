"""Boxes, matching, sampling and selection hold on whatever hypothesis thinks of; torchvision is the judge."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou as torchvision_iou

from segdet.anchors import AnchorGrid
from segdet.boxes import MAX_LOG_SCALE, area, box_iou, clip, decode, encode, mirror, pad_boxes
from segdet.matching import IGNORED, NEGATIVE, POSITIVE, match, sample
from segdet.proposals import Proposals, select
from segdet.rpn_loss import rpn_loss

ROWS, COLUMNS = 184, 96
ANCHORS = AnchorGrid()((11, 6))
MANY = settings(max_examples=150, deadline=None, derandomize=True)

whole = st.integers(-30, 220).map(float)  # a coarse grid makes ties
fine = st.floats(-30, 220, width=32)
huge = st.floats(-(2.0**30), 2.0**30, width=32)


def boxes(corner, side):
    """Boxes inside, outside and across the slice."""
    return st.tuples(corner, corner, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


solid = st.one_of(boxes(whole, st.integers(1, 200).map(float)), boxes(fine, st.floats(0.125, 200, width=32)))
flat = st.one_of(boxes(whole, st.sampled_from([0.0, 5.0, -3.0])), boxes(huge, st.sampled_from([0.0, -1.0])))
slices = st.lists(st.lists(solid, max_size=6), min_size=1, max_size=4)  # empty ones among them


@MANY
@given(st.lists(solid, max_size=8).map(tensor), st.lists(solid, max_size=8).map(tensor))
def test_iou_is_torchvision_s(a, b):
    ours = box_iou(a, b)
    torch.testing.assert_close(ours, torchvision_iou(a, b), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours, box_iou(b, a).T)
    assert ((ours >= 0) & (ours <= 1)).all()
    torch.testing.assert_close(box_iou(a, a).diagonal(), torch.ones(len(a)))


@MANY
@given(st.lists(st.one_of(solid, flat, boxes(huge, huge.map(abs))), min_size=1, max_size=8).map(tensor))
def test_iou_is_a_number_whatever_the_box(found):
    ours = box_iou(found, found)
    assert ((ours >= 0) & (ours <= 1)).all()
    assert not ours[area(found) == 0].any()


@MANY
@given(st.lists(st.tuples(solid, solid), min_size=1, max_size=8))
def test_encode_is_torchvision_s_and_decode_inverts_it(pairs):
    target, anchors = (tensor(rows) for rows in zip(*pairs, strict=True))
    offsets = encode(target, anchors)
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(offsets, coder.encode_single(target, anchors), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(decode(offsets, anchors), coder.decode_single(offsets, anchors), atol=1e-2, rtol=1e-4)
    reachable = (offsets[:, 2:] <= MAX_LOG_SCALE).all(1)
    torch.testing.assert_close(decode(offsets, anchors)[reachable], target[reachable], atol=2e-2, rtol=1e-4)


@MANY
@given(st.lists(st.tuples(solid, st.tuples(*[st.floats(-(2.0**100), 2.0**100, width=32)] * 4)), min_size=1, max_size=8))
def test_decoded_and_clipped_boxes_lie_in_the_slice(pairs):
    anchors, offsets = (tensor(rows) for rows in zip(*pairs, strict=True))
    found = clip(decode(offsets, anchors), (ROWS, COLUMNS))
    assert torch.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= torch.tensor([COLUMNS, ROWS, COLUMNS, ROWS])).all()


@MANY
@given(slices)
def test_mirrored_twice_is_the_same(batch):
    found = pad_boxes([tensor(rows) for rows in batch])
    torch.testing.assert_close(mirror(mirror(found, COLUMNS), COLUMNS), found, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(area(mirror(found, COLUMNS)), area(found), atol=1e-1, rtol=1e-4)


@MANY
@given(slices, st.booleans(), st.sampled_from([(0.7, 0.3), (0.5, 0.5), (0.6, 0.1)]))
def test_matching_a_batch_is_torchvision_s_slice_by_slice(batch, best_anchor, thresholds):
    batch = [tensor(rows) for rows in batch]
    labels, matched = match(ANCHORS, pad_boxes(batch), *thresholds, best_anchor)
    matcher = Matcher(*thresholds, allow_low_quality_matches=best_anchor)
    for label, box, found in zip(labels, matched, batch, strict=True):
        # torchvision calls every anchor the best one of a box that no anchor touches; such a box teaches nothing
        found = found[box_iou(found, ANCHORS).amax(1) > 0]
        if not len(found):
            assert (label == NEGATIVE).all()
            continue
        iou = box_iou(found, ANCHORS)
        theirs = matcher(iou)
        expected = torch.where(theirs >= 0, POSITIVE, torch.where(theirs == -1, NEGATIVE, IGNORED))
        off = (iou - thresholds[0]).abs().amin(0) > 1e-6  # the paper: "higher than"; torchvision: at least
        assert torch.equal(label.long()[off], expected[off])
        positive = (label == POSITIVE) & off
        overlap = box_iou(box[positive][:, None], ANCHORS[positive][:, None]).flatten()
        torch.testing.assert_close(overlap, iou.amax(0)[positive], atol=1e-6, rtol=1e-5)  # a tie may go either way


@MANY
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 600), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans(),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)  # fmt: skip
def test_a_sample_is_as_large_as_it_can_be(seed, per_slice, fraction, positives_only, shares):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.choice([POSITIVE, NEGATIVE, IGNORED], (3, 594), p=simplex(shares))).to(torch.int8)
    generator = torch.Generator().manual_seed(seed)
    positive, negative = sample(labels, per_slice, fraction, positives_only, generator)
    assert (labels[positive] == POSITIVE).all()
    assert (labels[negative] == NEGATIVE).all()
    there = [(labels == kind).sum(1) for kind in (POSITIVE, NEGATIVE)]
    most = per_slice if positives_only else int(per_slice * fraction)
    assert torch.equal(positive.sum(1), there[0].clamp(max=most))
    wanted = 0 if positives_only else per_slice - positive.sum(1)
    assert torch.equal(negative.sum(1), torch.minimum(there[1], torch.as_tensor(wanted).expand(3)))
    again = sample(labels, per_slice, fraction, positives_only, torch.Generator().manual_seed(seed))
    assert torch.equal(again[0], positive)
    assert torch.equal(again[1], negative)


def simplex(shares):
    low, high = sorted(shares)
    return [low, high - low, 1 - high]


@MANY
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 8),
    st.sampled_from([0.0, 0.3, 0.9, 1.0]), st.sampled_from([0.1, 0.5, 0.9]),
)  # fmt: skip
def test_selection_is_torchvision_s_filter(seed, count, top_k, threshold, nms_iou):
    generator = torch.Generator().manual_seed(seed)
    found = decode(torch.randn(count, len(ANCHORS), 4, generator=generator) * 0.7, ANCHORS)
    ranks = torch.stack([torch.randperm(len(ANCHORS), generator=generator) for _ in range(count)])
    scores = (ranks + 1) / (len(ANCHORS) + 1)  # no two are equal
    most = {"training": len(ANCHORS), "testing": len(ANCHORS)}
    keep = {"training": top_k, "testing": top_k}
    rpn = RegionProposalNetwork(None, None, 0.7, 0.3, 256, 0.5, most, keep, nms_iou, threshold).eval()
    rpn.min_size = 0.0
    logits = torch.logit(scores.double())
    theirs = rpn.filter_proposals(found.double(), logits, [(ROWS, COLUMNS)] * count, [len(ANCHORS)])
    clipped = clip(found, (ROWS, COLUMNS))
    ours, our_scores = select(clipped, scores, Proposals(top_k, threshold, nms_iou, vote=False))
    for row, (expected, expected_scores) in enumerate(zip(*theirs, strict=True)):
        solid_ones = area(expected) > 0  # ours never returns a box without area
        if not solid_ones.all():
            continue
        torch.testing.assert_close(ours[row][: len(expected)].double(), expected, atol=1e-3, rtol=1e-5)
        torch.testing.assert_close(our_scores[row][: len(expected)].double(), expected_scores, atol=1e-6, rtol=1e-6)
        assert not ours[row][len(expected) :].any()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.tuples(solid, solid), min_size=2, max_size=5), st.integers(0, 2**32 - 1))
def test_gradients_of_loss_and_boxes(pairs, seed):
    target, anchors = (tensor(rows).double() for rows in zip(*pairs, strict=True))
    count, generator = len(anchors), torch.Generator().manual_seed(seed)
    scores = torch.randn(1, count, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    offsets = torch.randn(1, count, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    kind = torch.rand(1, count, generator=generator)
    positive, negative = kind < 0.5, kind > 0.7

    def loss(objectness, moved):
        return sum(rpn_loss(objectness, moved, anchors, target[None], positive, negative).values())

    bend = (offsets[positive] - encode(target[None], anchors)[positive]).abs() - 1
    if not bend.numel() or bend.abs().min() > 1e-4:  # smooth L1 has no second derivative where it bends
        assert torch.autograd.gradcheck(loss, (scores, offsets))
    small = (offsets.detach() * 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda moved: decode(moved, anchors), small)


def test_growth_is_limited():
    anchors = torch.tensor([[0.0, 0, 10, 10]])
    grown = decode(torch.tensor([[0.0, 0, 99, 99]]), anchors)
    torch.testing.assert_close(grown[0, 2] - grown[0, 0], torch.tensor(10 * math.exp(MAX_LOG_SCALE)))
