"""Training and prediction on `cuda` without a GPU: every tensor is where the others are (see `fake_cuda`)."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_cuda import CHOSEN, FakeCuda, replace_what_needs_a_context
from torch._subclasses.fake_tensor import FakeTensor

from segdet.anchors import AnchorGrid
from segdet.attention import boxes_to_mask
from segdet.backbones import BACKBONES
from segdet.cascade import Cascade, detect, segment
from segdet.experiments.cases import Case
from segdet.experiments.config import PROFILES
from segdet.experiments.fit import fit_cascade
from segdet.phantom.acoustics import make_phantom
from segdet.pipeline import Grids
from segdet.proposals import Proposals
from segdet.rpn import RPN
from segdet.rpn_loss import Sampling
from segdet.runtime import device
from segdet.training import detector
from segdet.training.detector import augment, choose_threshold, glance, train_detector
from segdet.training.recipes import Recipe, SegmenterRecipe
from segdet.training.segmenter import train_segmenter
from segdet.unet3d import UNet3D

SHORT = replace(PROFILES["smoke"], detector_steps=4, segmenter_steps=3, every=2)
OTHER = "to be on the same device"
BOX = [30.0, 60.0, 66.0, 126.0]


@pytest.fixture
def cuda(monkeypatch):
    """The device of the fake GPU, which is also the default device."""
    replace_what_needs_a_context(monkeypatch)
    monkeypatch.setenv("SEGDET_DEVICE", "cuda")
    monkeypatch.setenv("SEGDET_STATIC", "1")
    monkeypatch.setattr(RPN, "load_imagenet", lambda self: "random")
    with FakeCuda():
        yield torch.device("cuda")


def on_gpu(*tensors):
    return all(isinstance(t, FakeTensor) and t.device.type == "cuda" for t in tensors)


def real(*tensors):
    return all(not isinstance(t, FakeTensor) and t.device.type == "cpu" for t in tensors)


def detector_on(device, **options):
    with torch.device(device):  # nothing is drawn for a weight without values
        detector = RPN(**options)
    return detector.to(device, memory_format=torch.channels_last)


def segmenter_on(device, **options):
    return UNet3D(2, 2, 4, **options).to(device, memory_format=torch.channels_last_3d)


def case(name, side=(184, 96)):
    """A case whose tensors lie on the CPU, as `prepare` makes them."""
    slices = torch.rand(4, *side)
    boxes = torch.tensor([BOX, BOX, BOX, [0.0] * 4])[:, None]
    mask = np.zeros((16, 24, 16), bool)
    mask[4:12, 6:18, 4:12] = True
    boxed = boxes_to_mask(boxes, slices.shape).numpy()
    return Case(name, slices, boxed, boxes, torch.randn(mask.shape), mask, (1.0, 1.0, 1.0))


# --- the fake GPU itself: it sees what a GPU would refuse


def test_two_devices_in_one_operation_are_refused(cuda):
    with pytest.raises(RuntimeError, match=OTHER):
        torch.rand(3, device=cuda) + torch.rand(3)
    with pytest.raises(RuntimeError, match=OTHER):
        torch.rand(3, device=cuda).copy_(torch.rand(3)) @ torch.rand(3)
    with pytest.raises(RuntimeError, match="indices on cuda"):
        torch.rand(3)[torch.tensor([0], device=cuda)]
    with pytest.raises(RuntimeError, match="indices on cuda"):
        torch.rand(3)[torch.rand(3, device=cuda) > 0.5] = 1
    with pytest.raises(RuntimeError, match="not supported"):
        torch.rand(3, device=cuda).numpy()


def test_what_python_asks_of_the_gpu(cuda):
    x = torch.rand(4, 5, device=cuda)
    assert x[x > 0.5].shape == (CHOSEN,)
    assert x.sum().item() == 1.0
    assert bool((x > 0.5).any()) is True
    assert real(x.cpu())
    assert x.cpu().numpy().tolist() == np.arange(20.0).reshape(4, 5).tolist()
    torch.testing.assert_close(torch.ones(3) + 1, torch.full((3,), 2.0))  # what stays on the CPU is computed


def test_a_misplaced_weight_is_found(cuda):
    detector = detector_on(cuda)
    detector.scores.bias = torch.nn.Parameter(torch.zeros(18))
    with pytest.raises(RuntimeError, match=OTHER):
        detector(torch.rand(2, 184, 96, device=cuda))


def test_a_misplaced_tensor_in_the_loss_is_found(cuda, monkeypatch):
    original = AnchorGrid.__call__
    monkeypatch.setattr(AnchorGrid, "__call__", lambda self, grid, device, *at: original(self, grid, None, *at))
    with pytest.raises(RuntimeError, match=OTHER):
        detector_on(cuda).loss(torch.rand(2, 184, 96, device=cuda), torch.tensor([[BOX]] * 2, device=cuda))


def test_a_misplaced_tensor_in_a_training_is_found(cuda, monkeypatch):
    monkeypatch.setattr(detector, "mirror", lambda boxes, cols: boxes.cpu())
    with pytest.raises(RuntimeError, match=OTHER):
        train_detector([case("a"), case("b")], [case("c")], SHORT, 0)


# --- the detector


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("options", [{}, {"neighbours": True}, {"padded": True}], ids=str)
def test_the_detector(cuda, backbone, options):
    detector = detector_on(cuda, backbone=backbone, **options)
    slices = torch.rand(2, 184, 96, device=cuda)
    slices = slices[:, None].expand(-1, 3, -1, -1) if detector.neighbours else slices
    for model in (detector.train(), detector.eval()):
        objectness, offsets, anchors = model(slices)
        assert on_gpu(objectness, offsets, anchors)
        assert objectness.dtype == torch.float32
        assert objectness.shape[1] == len(anchors)
    assert on_gpu(*detector.propose(slices))


def test_precision_is_bfloat16(cuda):
    with device.precision(cuda):
        features = detector_on(cuda).features(torch.rand(2, 184, 96, device=cuda))
    assert features.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(best_anchor=False, positives_only=True),
        Sampling(positive_iou=0.5, hard_negatives=True),
        Sampling(inside=True, box_weight=10.0, per_anchor=True),
    ],
    ids=("plain", "literal", "hard negatives", "Faster R-CNN's"),
)
@pytest.mark.parametrize("boxes", [0, 1, 2])
def test_the_loss_of_the_detector(cuda, sampling, boxes):
    detector = detector_on(cuda, sampling=sampling)
    target = torch.tensor([[BOX] * 2] * 2, device=cuda)[:, :boxes]
    with device.precision(cuda):
        terms = detector.loss(torch.rand(2, 184, 96, device=cuda), target, torch.Generator().manual_seed(0))
    assert on_gpu(*terms.values())


@pytest.mark.parametrize("proposals", [Proposals(), Proposals(top_k=3, vote=False)], ids=str)
def test_detection_ends_on_the_cpu(cuda, proposals, monkeypatch):
    monkeypatch.setattr("segdet.cascade.BATCH", 2)
    boxes, scores = detect(detector_on(cuda), torch.rand(5, 184, 96), proposals)
    assert real(boxes, scores)
    assert boxes.shape == (5, proposals.top_k, 4)


@pytest.mark.parametrize("shape", [(2, 184, 96), (2, 3, 184, 96)], ids=str)
def test_augmentation(cuda, shape):
    inputs, targets = torch.rand(shape, device=cuda), torch.tensor([[BOX]] * 2, device=cuda)
    assert on_gpu(*augment(inputs, targets, torch.Generator().manual_seed(0), 0.2, 0.15))


@pytest.mark.parametrize(
    "recipe",
    [detector.RECIPE, Recipe(neighbours=True, fitted_anchors=False, backbone="resnet18")],
    ids=("book", "other"),
)
def test_the_training_of_the_detector(cuda, recipe, tmp_path):
    cases, checkpoint = [case("a"), case("b"), case("c")], tmp_path / "detector.safetensors"
    detector, history = train_detector(cases[:2], cases[2:], SHORT, 0, recipe=recipe, checkpoint=checkpoint)
    assert on_gpu(*detector.parameters(), *detector.buffers())
    assert len(history.loss) == SHORT.detector_steps
    again, _ = train_detector(cases[:2], cases[2:], SHORT, 0, recipe=recipe, checkpoint=checkpoint)  # reads it back
    assert on_gpu(*again.parameters())
    assert choose_threshold(detector, cases[2:]).vote
    film = partial(glance, case=cases[2], index=0)
    from_another, history = train_detector(cases[:2], [], SHORT, 0, recipe=recipe, start=detector, watch=film)
    assert on_gpu(*from_another.parameters(), *from_another.buffers())
    assert history.watched


# --- the segmenter


@pytest.mark.parametrize("norm", ["none", "batch", "instance", "group"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=("kept", "checkpointing"))
def test_the_segmenter(cuda, norm, checkpointing):
    segmenter = segmenter_on(cuda, norm=norm, checkpointing=checkpointing)
    volume = torch.rand(1, 2, 16, 23, 17, device=cuda)
    for model in (segmenter.train(), segmenter.eval()):
        with device.precision(cuda):
            logits = model(volume)
        assert logits.shape == volume.shape
        assert logits.dtype == torch.bfloat16
        assert on_gpu(
            logits, F.cross_entropy(logits.float(), torch.zeros(1, 16, 23, 17, dtype=torch.long, device=cuda))
        )


@pytest.mark.parametrize("attention", [None, np.ones((16, 24, 16), bool)], ids=("alone", "attention"))
def test_segmentation_ends_on_the_cpu(cuda, attention):
    segmenter = UNet3D(1 if attention is None else 2, 2, 4).to(cuda)
    region = (slice(0, 16), slice(4, 20), slice(0, 16))
    probability = segment(segmenter, torch.randn(16, 24, 16), attention, region)
    assert isinstance(probability, np.ndarray)
    assert probability.shape == (16, 24, 16)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"margin": 1.0},
        {"recipe": SegmenterRecipe(True, 0.2, 0.15, "instance")},
        {"recipe": SegmenterRecipe(blind=True)},
    ],
    ids=("paper", "cropped", "protocol 2", "blind"),
)
def test_the_training_of_the_segmenter(cuda, options, tmp_path):
    pairs, checkpoint = [(c, c.mask) for c in (case("a"), case("b"))], tmp_path / "segmenter.safetensors"

    def looked_at(model):
        return float(segment(model, pairs[1][0].image, pairs[1][1]).mean())

    options = {"checkpoint": checkpoint, "watch": looked_at, **options}
    segmenter, history = train_segmenter(pairs[:1], pairs[1:], SHORT, 0, **options)
    assert on_gpu(*segmenter.parameters(), *segmenter.buffers())
    assert len(history.loss) == SHORT.segmenter_steps
    assert [step for step, _ in history.watched] == [2, 3]
    again, _ = train_segmenter(pairs[:1], pairs[1:], SHORT, 0, **options)
    assert on_gpu(*again.parameters())


# --- the cascade


def test_the_cascade(cuda, tmp_path):
    volume = make_phantom(0, (8, 48, 32))
    extent = tuple(n * s for n, s in zip(volume.shape, volume.spacing, strict=True))
    grids = Grids(extent, (8, 184, 96), (16, 24, 16))
    Cascade(detector_on("cpu"), segmenter_on("cpu"), grids, margin=1.0).save(tmp_path)
    cascade = Cascade.load(tmp_path)
    assert on_gpu(*cascade.detector.parameters(), *cascade.segmenter.parameters())
    for attention, step in ((None, 1), (None, 4), (lambda scan: volume.mask, 1)):
        prediction = cascade.predict(volume, attention, step=step)
        assert prediction.mask.shape == volume.shape


def test_the_command_fit(cuda, small_phantoms, tmp_path):
    fit_cascade(SHORT, 0, tmp_path / "model", crop=True, checkpointing=True, report=lambda line: None)
    assert (tmp_path / "model" / "cascade.json").exists()
