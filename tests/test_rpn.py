"""The detector against torchvision's RegionProposalNetwork on the same scores, offsets and samples."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import nms

from segdet.anchors import AnchorGrid
from segdet.boxes import box_iou, decode, encode
from segdet.errors import SegdetError
from segdet.matching import match
from segdet.proposals import Proposals, propose, select
from segdet.rpn import RPN
from segdet.rpn_loss import Sampling, rpn_loss, sampled_loss


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return RPN().eval()


def test_shapes_and_new_layers(detector):
    objectness, offsets, anchors = detector(torch.rand(2, 184, 96))
    assert objectness.shape == (2, 594, 2)
    assert offsets.shape == (2, 594, 4)
    assert anchors.shape == (594, 4)
    assert objectness.dtype == torch.float32
    # section 3.1: N(0, 0.01) and zero biases. 512 * 512 * 9 draws: the sample deviation is within 0.1 %.
    assert detector.window.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not detector.scores.bias.any()


def test_head_layout_equals_torchvision(detector):
    """Channel order of the head: torchvision flattens (A * C, h, w) to (h * w * A, C) the same way."""
    slices = torch.rand(1, 64, 48, generator=torch.Generator().manual_seed(0))
    objectness, offsets, _ = detector(slices)
    features = detector.backbone(slices[:, None])
    window = F.relu(detector.window(features))
    theirs_scores, theirs_offsets = concat_box_prediction_layers(
        [detector.scores(window)[:, 1::2]], [detector.offsets(window)]
    )
    torch.testing.assert_close(objectness[0, :, 1:], theirs_scores)
    torch.testing.assert_close(offsets[0], theirs_offsets)


def test_loss_by_hand():
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]])
    objectness = torch.tensor([[[0.0, 0], [0, 0], [5, 0]]])
    offsets = torch.zeros(1, 3, 4)
    matched = torch.tensor([[[5.0, 0, 15, 10], [0, 0, 0, 0], [0, 0, 0, 0]]])
    positive, negative = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
    loss = rpn_loss(objectness, offsets, anchors, matched, positive, negative)
    assert loss["log_loss"].item() == pytest.approx(0.693147, abs=1e-5)  # log 2 for either kind
    assert loss["smooth_l1"].item() == pytest.approx(0.5 * 0.5**2)  # tx = 1/2, one positive
    nobody = torch.zeros_like(positive)
    alone = rpn_loss(objectness, offsets, anchors, matched, nobody, ~positive)
    wrong = 5.006715  # log(1 + e^5), of the third anchor if it were an object
    assert alone["log_loss"].item() == pytest.approx((0.693147 + wrong - 5) / 2, abs=1e-5)  # one kind counts alone
    assert alone["smooth_l1"] == 0
    alone = rpn_loss(objectness, offsets, anchors, matched, positive, nobody, per_anchor=True)
    assert alone["log_loss"].item() == pytest.approx(0.693147, abs=1e-5)
    assert alone["smooth_l1"].item() == pytest.approx(0.5 * 0.5**2)


def test_equals_torchvision_s_loss():
    """Two-way softmax is the logistic loss of the difference; as many positives as negatives make both means one."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(1, 50, 2, generator=generator)
    offsets = torch.randn(1, 50, 4, generator=generator)
    positive = torch.arange(50)[None] % 2 == 0
    anchors = AnchorGrid()((3, 2))[:50]
    matched = anchors[None] + torch.tensor([3.0, -2, 5, 4])
    loss = rpn_loss(scores, offsets, anchors, matched, positive, ~positive)
    rpn = RegionProposalNetwork(None, None, 0.7, 0.3, 50, 0.5, {}, {}, 0.7)
    rpn.fg_bg_sampler = lambda labels: ([positive[0]], [~positive[0]])
    targets = rpn.box_coder.encode([matched[0]], [anchors])
    difference = (scores[..., 1] - scores[..., 0]).flatten()[:, None]
    theirs, boxes = rpn.compute_loss(difference, offsets[0], [positive[0].float()], targets)
    torch.testing.assert_close(loss["log_loss"], theirs)
    # Theirs bends at 1/9 instead of 1 and divides by all sampled anchors.
    bent = F.smooth_l1_loss(offsets[positive], targets[0][positive[0]], beta=1 / 9, reduction="sum") / 50
    torch.testing.assert_close(boxes, bent)
    plain = F.smooth_l1_loss(offsets[positive], targets[0][positive[0]], reduction="sum") / 25
    torch.testing.assert_close(loss["smooth_l1"], plain)


def test_normalised_per_anchor_it_is_torchvision_s_loss_whatever_the_numbers():
    generator = torch.Generator().manual_seed(2)
    scores, offsets = torch.randn(1, 50, 2, generator=generator), torch.randn(1, 50, 4, generator=generator)
    anchors = AnchorGrid()((3, 2))[:50]
    matched = anchors[None] + torch.tensor([3.0, -2, 5, 4])
    positive = torch.arange(50)[None] < 7
    negative = torch.arange(50)[None] >= 20  # thirteen are not sampled
    loss = rpn_loss(scores, offsets, anchors, matched, positive, negative, per_anchor=True)
    rpn = RegionProposalNetwork(None, None, 0.7, 0.3, 50, 0.5, {}, {}, 0.7)
    rpn.fg_bg_sampler = lambda labels: ([positive[0]], [negative[0]])
    targets = rpn.box_coder.encode([matched[0]], [anchors])
    difference = (scores[..., 1] - scores[..., 0]).flatten()[:, None]
    theirs, _ = rpn.compute_loss(difference, offsets[0], [positive[0].float()], targets)
    torch.testing.assert_close(loss["log_loss"], theirs)
    boxes = F.smooth_l1_loss(offsets[positive], targets[0][positive[0]], reduction="sum") / 37
    torch.testing.assert_close(loss["smooth_l1"], boxes)
    nobody = torch.zeros_like(positive)
    empty = rpn_loss(scores, offsets, anchors, matched, nobody, nobody, per_anchor=True)
    assert (empty["log_loss"], empty["smooth_l1"]) == (0, 0)


def test_anchors_across_the_border_do_not_count():
    """B17: of three anchors the best one crosses the border, so the next best is the box's."""
    anchors = torch.tensor([[-2.0, 0, 10, 12], [0.0, 0, 8, 12], [20, 20, 32, 30]])
    boxes = torch.tensor([[[0.0, 0, 10, 12]]])
    given = torch.zeros(1, 3, 2), torch.zeros(1, 3, 4).requires_grad_(), anchors, boxes, (30, 32)
    for inside, taught in ((False, [True, True, False]), (True, [False, True, False])):
        loss = sampled_loss(*given, Sampling(inside=inside))
        (gradient,) = torch.autograd.grad(loss["smooth_l1"], given[1])
        assert gradient[0].abs().sum(1).bool().tolist() == taught
    assert given[2][2, 2] == 32  # an edge at the border is inside: half-open boxes


def test_the_boxes_term_has_a_weight():
    anchors, boxes = torch.tensor([[0.0, 0, 8, 12]]), torch.tensor([[[0.0, 0, 10, 12]]])
    given = torch.zeros(1, 1, 2), torch.zeros(1, 1, 4), anchors, boxes, (30, 32)
    one, ten = (sampled_loss(*given, Sampling(box_weight=weight)) for weight in (1.0, 10.0))
    assert ten["log_loss"] == one["log_loss"]
    assert ten["smooth_l1"].item() == pytest.approx(10 * one["smooth_l1"].item())
    assert one["smooth_l1"].item() == pytest.approx((0.125**2 + math.log(10 / 8) ** 2) / 2)  # tx and tw


def test_few_positives_count_as_much_as_many_negatives():
    scores = torch.zeros(1, 100, 2)
    scores[0, 0] = torch.tensor([1.0, -1.0])  # the only positive, and wrong
    positive = torch.arange(100)[None] == 0
    anchors = AnchorGrid()((4, 3))[:100]
    loss = rpn_loss(scores, torch.zeros(1, 100, 4), anchors, anchors[None], positive, ~positive)
    wrong, undecided = 2.126928, 0.693147  # -log softmax(1, -1)[1], -log 1/2
    assert loss["log_loss"].item() == pytest.approx((wrong + undecided) / 2, abs=1e-5)


def test_empty_batch_has_zero_loss_and_gradients(detector):
    literal = RPN(sampling=Sampling(positives_only=True, best_anchor=False))
    literal.load_state_dict(detector.state_dict())
    loss = literal.loss(torch.rand(1, 64, 48), torch.zeros(1, 0, 4))
    total = sum(loss.values())
    total.backward()
    assert total.item() == 0
    assert not literal.scores.weight.grad.any()


def test_loss_is_reproducible_and_uses_every_term(detector):
    slices = torch.rand(2, 96, 64, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[[10.0, 10, 40, 70]], [[0, 0, 0, 0]]])
    first, second = (detector.loss(slices, boxes, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first["log_loss"] == second["log_loss"] > 0
    assert first["smooth_l1"] > 0


def test_select_equals_nms_slice_by_slice():
    generator = torch.Generator().manual_seed(4)
    boxes = torch.rand(6, 200, 4, generator=generator) * 60
    boxes[..., 2:] += boxes[..., :2]
    scores = torch.rand(6, 200, generator=generator)
    scores[5] = 0.1  # nothing reaches the threshold here
    found_boxes, found_scores = select(boxes, scores, Proposals(5, 0.3, 0.4, vote=False))
    for row in range(5):
        good = scores[row] >= 0.3
        kept = nms(boxes[row][good], scores[row][good], 0.4)[:5]
        torch.testing.assert_close(found_boxes[row][: len(kept)], boxes[row][good][kept])
        torch.testing.assert_close(found_scores[row][: len(kept)], scores[row][good][kept])
    assert not found_boxes[5].any()
    assert not found_scores[5].any()


def test_voting_averages_what_a_box_suppresses():
    generator = torch.Generator().manual_seed(5)
    boxes = torch.rand(6, 200, 4, generator=generator) * 60
    boxes[..., 2:] += boxes[..., :2]
    scores = torch.rand(6, 200, generator=generator)
    plain, plain_scores = select(boxes, scores, Proposals(5, 0.3, 0.4, vote=False))
    voted, voted_scores = select(boxes, scores, Proposals(5, 0.3, 0.4, vote=True))
    torch.testing.assert_close(voted_scores, plain_scores)  # who is chosen does not change
    for row, (before, after) in enumerate(zip(plain, voted, strict=True)):
        for old, new in zip(before, after, strict=True):
            voters = box_iou(old[None], boxes[row])[0] > 0.4
            torch.testing.assert_close(new.numpy(), np.average(boxes[row][voters], 0, scores[row][voters]))
    assert (voted != plain).any()
    nothing, none = select(boxes, torch.zeros(6, 200), Proposals(1, 0.0))
    assert torch.isfinite(nothing).all()
    assert not none.any()
    scores[0, 7], boxes[0, 7] = 0, float("nan")  # overlaps nothing, so it must not vote
    torch.testing.assert_close(select(boxes, scores, Proposals(1, 0.3, 0.4))[0][0], voted[0, :1])


def test_hard_negatives_count_by_their_probability():
    generator = torch.Generator().manual_seed(6)
    scores = torch.randn(2, 54, 2, generator=generator, requires_grad=True)
    anchors, positive = AnchorGrid()((3, 2)), torch.zeros(2, 54, dtype=torch.bool)
    positive[0, :3] = True
    arguments = torch.zeros(2, 54, 4), anchors, anchors.expand(2, -1, -1), positive, ~positive
    hard = rpn_loss(scores, *arguments, hard=True)["log_loss"]
    p = scores.detach().softmax(-1)[..., 1].double().numpy()
    kinds = -np.log(p[positive]).mean(), np.average(-np.log(1 - p[~positive]), weights=p[~positive])
    assert hard.item() == pytest.approx(np.mean(kinds), rel=1e-5)
    hard.backward()  # the weights are constants: the gradient is theirs times p
    weight = p[~positive] / p[~positive].sum() / 2
    np.testing.assert_allclose(scores.grad[..., 1].numpy()[~positive], weight * p[~positive], rtol=1e-4)
    equal = torch.zeros(2, 54, 2)
    assert rpn_loss(equal, *arguments, hard=True)["log_loss"] == rpn_loss(equal, *arguments)["log_loss"]


def test_hard_negatives_need_negatives():
    with pytest.raises(ValueError, match="leave out positives_only"):
        Sampling(positives_only=True, hard_negatives=True)
    with pytest.raises(ValueError, match="leave out per_anchor"):
        Sampling(per_anchor=True, hard_negatives=True)


def test_the_usual_sampling_is_that_of_the_paper_and_of_faster_r_cnn():
    """0.7 and 0.3, 32 anchors of each of 8 slices, half of them positive, and the best anchor of every box."""
    usual = Sampling(0.7, 0.3, True, 32, 0.5, False, False, False, False, 1.0)
    assert Sampling() == usual
    assert RPN(backbone="resnet18").sampling == usual


def test_all_negatives_are_looked_at_for_the_hard_ones(detector):
    """No draw is left in the loss of a slice with few positives."""
    everyone = RPN(sampling=Sampling(hard_negatives=True))
    everyone.load_state_dict(detector.state_dict())
    slices, boxes = torch.rand(1, 96, 64), torch.tensor([[[10.0, 10, 40, 70]]])
    losses = {
        model: [model.loss(slices, boxes, torch.Generator().manual_seed(s)) for s in (1, 2)]
        for model in (detector, everyone)
    }
    same = {model: first["log_loss"] == second["log_loss"] for model, (first, second) in losses.items()}
    assert same == {detector: False, everyone: True}


def test_the_hard_negatives_are_all_negatives_and_nothing_else():
    """Of four anchors one is the box, one half of it and so ignored, and two lie elsewhere, one of them wrong."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30], [16, 16, 26, 26]])
    scores = torch.tensor([[[0.0, 0], [0, 9], [0, 0], [0, 2]]])
    sampling = Sampling(hard_negatives=True, per_slice=2)
    loss = sampled_loss(scores, torch.zeros(1, 4, 4), anchors, anchors[None, :1], (30, 32), sampling)
    negatives = (0.5 * 0.693147 + 0.880797 * 2.126928) / (0.5 + 0.880797)  # p and -log(1 - p) of either
    assert loss["log_loss"].item() == pytest.approx((0.693147 + negatives) / 2, abs=1e-5)
    assert loss["smooth_l1"] == 0


def test_a_box_is_selected_once():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [20, 20, 30, 30]]])
    found, scores = select(boxes, torch.tensor([[0.9, 0.8]]), Proposals(top_k=3, threshold=0.0, nms_iou=1.0))
    torch.testing.assert_close(found[0, :2], boxes[0])
    assert scores.tolist() == [[pytest.approx(0.9), pytest.approx(0.8), 0]]


def test_propose_stays_inside(detector):
    boxes, scores = detector.propose(torch.rand(3, 184, 96), Proposals(top_k=4, threshold=0.0))
    assert boxes.shape == (3, 4, 4)
    assert boxes.min() >= 0
    assert boxes[..., 2].max() <= 96
    assert boxes[..., 3].max() <= 184
    assert (scores.diff(dim=1) <= 0).all()


def test_a_vote_of_boxes_at_the_edge_stays_there():
    """A weighted mean of numbers that are all 96 can be 96.00001 in float32."""
    generator = torch.Generator().manual_seed(0)
    edge, scores = torch.tensor([[10.0, 20, 96, 184]]).repeat(200, 31, 1), torch.rand(200, 31, generator=generator)
    edge[:, 30], scores[:, 30] = torch.tensor([0.0, 0, 5, 5]), 0  # one has no vote
    found, _ = select(edge, scores, Proposals(threshold=0.0, vote=True))
    torch.testing.assert_close(found, edge[:, :1].expand_as(found) * (found > 0), rtol=0, atol=0)


def test_proposing_by_hand():
    """Of four anchors one crosses the border, one overlaps it by just a half, one has no area, one is below a pixel."""
    anchors = torch.tensor([[-5.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 20, 25], [25, 25, 25.5, 25.5]])
    logits = torch.tensor([[[-3.0, 0], [-2, 0], [-1, 0], [0, 0]]])
    boxes, scores = propose(logits, torch.zeros(1, 4, 4), anchors, (30, 32), Proposals(4, 0.5, 0.5))
    assert boxes.tolist() == [[[0, 0, 10, 10], [0, 0, 10, 5], [25, 25, 25.5, 25.5], [0, 0, 0, 0]]]
    expected = [0.952574, 0.880797, 0.5, 0]  # 1 / (1 + e^-3), 1 / (1 + e^-2), and a threshold that is just reached
    assert scores[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_nothing_to_choose_from():
    found, scores = select(torch.zeros(3, 0, 4), torch.zeros(3, 0), Proposals(top_k=2))
    assert found.shape == (3, 2, 4)
    assert scores.shape == (3, 2)
    assert not found.any()
    assert not scores.any()
    labels, matched = match(torch.zeros(0, 4), torch.ones(3, 1, 4))
    assert labels.shape == (3, 0)
    assert matched.shape == (3, 0, 4)


def test_descending_the_loss_moves_anchors_onto_the_box():
    """Free offsets, no network: the minimum of the loss is where the decoded boxes equal their targets."""
    box = torch.tensor([[[30.0, 40, 62, 100]]])
    anchors = AnchorGrid([40], [1.8])((9, 6))
    offsets = torch.zeros(1, len(anchors), 4, requires_grad=True)
    labels, matched = match(anchors, box)
    optimizer = torch.optim.SGD([offsets], 0.3)
    for _ in range(200):
        loss = rpn_loss(torch.zeros(1, len(anchors), 2), offsets, anchors, matched, labels == 1, labels == 0)
        optimizer.zero_grad()
        loss["smooth_l1"].backward()
        optimizer.step()
    positive = labels[0] == 1
    torch.testing.assert_close(decode(offsets[0], anchors)[positive], matched[0][positive], atol=0.5, rtol=0)
    torch.testing.assert_close(offsets[0][positive], encode(matched[0], anchors)[positive], atol=0.02, rtol=0)


def test_anchors_of_another_stride_are_refused():
    with pytest.raises(ValueError, match="stride 16, the anchors 8"):
        RPN(AnchorGrid([40], [1.0], stride=8))


def test_proposals_of_no_box_are_refused():
    with pytest.raises(SegdetError, match="top_k boxes a slice must be 1 or more, found 0"):
        Proposals(top_k=0)
    for top_k in (1.5, 2.0, float("nan")):  # of which 2.0 is whole, but counts nothing: range(2.0) fails
        with pytest.raises(SegdetError, match=f"top_k boxes a slice must be a whole number, found {top_k}"):
            Proposals(top_k=top_k)
    assert Proposals(top_k=np.int64(2)).top_k == 2
    for name, value in (("threshold", -0.1), ("threshold", 1.1), ("nms_iou", 1.1), ("nms_iou", float("nan"))):
        with pytest.raises(SegdetError, match=f"{name} must lie between 0 and 1, found {value}"):
            Proposals(**{name: value})
    assert Proposals() == Proposals(top_k=1, threshold=0.5, nms_iou=0.5, vote=True)
