"""The two backbones: where their cells look, what they cost, where their weights come from."""

import http.client

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from segdet.anchors import AnchorGrid
from segdet.backbones import BACKBONES, make_backbone
from segdet.bench.detector import gflop
from segdet.errors import CheckpointError, SegdetError
from segdet.rpn import RPN


def test_the_compact_backbone_does_an_eighth_of_the_operations():
    """With the head, on a slice of the book's size; VGG-16's by hand from (channels, outputs, block) of each layer."""
    large, small = (gflop(RPN(backbone=name).eval(), torch.rand(1, 184, 96)) for name in ("vgg16", "resnet18"))
    pixels = [184 * 96, 92 * 48, 46 * 24, 23 * 12, 11 * 6]
    layers = [(3, 64, 0), (64, 64, 0), (64, 128, 1), (128, 128, 1), (128, 256, 2), *[(256, 256, 2)] * 2]
    layers += [(256, 512, 3), *[(512, 512, 3)] * 2, *[(512, 512, 4)] * 4]  # the last is the window
    products = sum(9 * before * after * pixels[block] for before, after, block in layers) + 512 * 54 * pixels[4]
    assert large == pytest.approx(2 * products / 1e9)
    assert large / small > 8


@pytest.mark.parametrize(("name", "channels", "cells"), [("vgg16", 512, (11, 6)), ("resnet18", 256, (12, 6))])
def test_shapes(name, channels, cells):
    torch.manual_seed(0)
    detector = RPN(backbone=name).eval()
    slices = torch.rand(2, 184, 96)
    assert detector.features(slices).shape == (2, channels, *cells)
    objectness, offsets, anchors = detector(slices)
    assert objectness.shape == (2, 9 * cells[0] * cells[1], 2)
    assert offsets.shape == (2, len(anchors), 4)
    padded = RPN(backbone=name, neighbours=True, padded=True).eval()
    assert len(padded(torch.rand(1, 3, 184, 96))[2]) == 9 * 12 * 6


@pytest.mark.parametrize("name", BACKBONES)
def test_anchors_are_centred_where_their_cell_looks(name):
    """The receptive field of a cell, measured: with means for maxima every pixel that it sees counts."""
    backbone = make_backbone(name).eval()
    for parameter in backbone.parameters():
        parameter.data.fill_(1 / parameter[0].numel())
    for index, layer in enumerate(backbone):
        if isinstance(layer, torch.nn.MaxPool2d):
            backbone[index] = torch.nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
    backbone.mean.zero_()  # no input is below 0, so no ReLU cuts anything off
    picture = torch.ones(1, 3, 304, 304).requires_grad_()
    row, col = 9, 10  # far from the border
    backbone(picture)[0, 0, row, col].backward()
    seen = picture.grad[0, 0] > 0
    ends = [seen.any(axis).nonzero()[[0, -1], 0].tolist() for axis in (0, 1)]  # first and last column, and row
    x, y = ((first + last + 1) / 2 for first, last in ends)
    assert (x, y) == (col * backbone.stride + backbone.offset, row * backbone.stride + backbone.offset)
    anchor = AnchorGrid([32], [1.0])((row + 1, 19), offset=backbone.offset)[row * 19 + col]
    assert anchor.tolist() == [x - 16, y - 16, x + 16, y + 16]


def test_each_brings_its_own_input():
    """The layers see what their weights were trained on: Caffe's 0 to 255 minus its mean, torchvision's z-scores."""
    colour = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    seen = []
    for name in BACKBONES:
        backbone = make_backbone(name)
        next(iter(backbone)).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        backbone.eval()(colour.repeat(1, 1, 4, 4))
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([0.0, -0.5, -0.41], abs=0.01)  # 123.7, 116.3, 103.5
    assert not seen[1].any()


def test_fixed_blocks_store_nothing_and_change_no_gradient():
    """Of conv1_x and conv2_x, at 64 x 48 and 32 x 24 pixels, nothing is kept for the gradient of the others."""

    def trained():
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape[2:]) or t, lambda t: t):
            value = backbone(pictures).square().mean()
        backbone.zero_grad()
        value.backward()
        return value.detach(), {tuple(size) for size in kept}, [p.grad.clone() for p in list(backbone)[10].parameters()]

    torch.manual_seed(0)
    backbone, pictures = make_backbone("vgg16"), torch.rand(2, 1, 64, 48)
    value, kept, gradients = trained()
    backbone.freeze()
    fixed_value, fixed_kept, fixed_gradients = trained()
    torch.testing.assert_close(fixed_value, value)
    torch.testing.assert_close(fixed_gradients, gradients)
    assert kept >= {(64, 48), (32, 24), (16, 12)}
    assert not fixed_kept & {(64, 48), (32, 24)}
    assert (16, 12) in fixed_kept


def test_a_module_of_one_s_own():
    strided = torch.nn.Conv2d(3, 8, 16, 8)
    with pytest.raises(ValueError, match="Conv2d is no backbone: it does not say its channels"):
        RPN(backbone=strided)
    strided = torch.nn.Sequential(strided)
    strided.channels, strided.stride, strided.offset = 8, 8, 8.0
    detector = RPN(AnchorGrid([40], [1.0], stride=8), backbone=strided)
    anchors = detector(torch.rand(1, 32, 24))[2]
    assert len(anchors) == 3 * 2
    assert anchors[0].tolist() == [8 - 20, 8 - 20, 8 + 20, 8 + 20]
    with pytest.raises(ValueError, match="stride 8, the anchors 16"):
        RPN(AnchorGrid(), backbone=strided)
    with pytest.raises(SegdetError, match="no backbone 'vgg19'; choose from vgg16, resnet18"):
        RPN(backbone="vgg19")


def test_imagenet_weights_fold_the_caffe_layout(vgg16_weights, monkeypatch):
    """The file's BGR convolution on BGR - mean equals ours on RGB in [0, 1], the zero-padded rim included."""
    from safetensors.torch import load_file

    monkeypatch.setenv("SEGDET_VGG16", str(vgg16_weights))
    detector = RPN()
    assert detector.load_imagenet() == "file"
    raw = load_file(vgg16_weights)
    image = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(5))
    bgr = (image * 255).flip(1) - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    expected = F.conv2d(bgr, raw["features.0.weight"].float(), raw["features.0.bias"].float(), padding=1)
    ours = detector.backbone[0]((image - detector.backbone.mean) * detector.backbone.scale)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-2)
    assert [p.requires_grad for p in detector.backbone[0].parameters()] == [False, False]
    assert all(p.requires_grad for p in detector.backbone[10].parameters())


def test_foreign_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGDET_VGG16", str(tmp_path / "w.safetensors"))
    (tmp_path / "w.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match=r"w\.safetensors: SEGDET_VGG16 must name a safetensors file"):
        RPN().load_imagenet()
    save_file({"features.0.weight": torch.zeros(64, 3, 5, 5)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"w\.safetensors: not VGG-16's 13 convolutions"):
        RPN().load_imagenet()


def test_torchvision_s_resnet_is_the_same(monkeypatch):
    """With its weights the features are those of torchvision's network, and nothing is kept fixed."""
    from torchvision.models import ResNet18_Weights, resnet18

    network = resnet18(weights=None).eval()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda *_, **__: network.state_dict())
    detector = RPN(backbone="resnet18").eval()
    assert detector.load_imagenet() == detector.initial_weights == "torchvision"
    pictures = torch.rand(2, 3, 64, 64)
    normalised = ResNet18_Weights.IMAGENET1K_V1.transforms(crop_size=64, resize_size=64)(pictures)
    x = network.maxpool(network.relu(network.bn1(network.conv1(normalised))))
    expected = network.layer3(network.layer2(network.layer1(x)))
    torch.testing.assert_close(detector.features(pictures), expected, rtol=1e-3, atol=1e-4)
    assert all(p.requires_grad for p in detector.parameters())


@pytest.mark.parametrize(
    "failure",
    [OSError("no route to host"), RuntimeError("invalid hash value"), http.client.IncompleteRead(b"")],
)
@pytest.mark.parametrize(("name", "way_out"), [("vgg16", "Set SEGDET_VGG16"), ("resnet18", "resnet18-f37072fd.pth")])
def test_no_network_warns_and_stays_random(monkeypatch, failure, name, way_out):
    from torchvision.models import ResNet18_Weights, VGG16_Weights

    def unreachable(*_, **__):
        raise failure

    monkeypatch.delenv("SEGDET_VGG16", raising=False)
    for published in (VGG16_Weights, ResNet18_Weights):
        monkeypatch.setattr(published, "get_state_dict", unreachable)
    detector = RPN(backbone=name)
    before = detector.backbone[0].weight.clone()
    with pytest.warns(UserWarning, match=f"starts from random weights.*{way_out}") as caught:
        assert detector.load_imagenet() == "random"
    assert len(caught) == 1
    assert torch.equal(detector.backbone[0].weight, before)
    assert all(p.requires_grad for p in detector.parameters())
