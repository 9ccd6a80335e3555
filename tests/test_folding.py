"""The identities of `segdet.folding` against the convolutions as they are written."""

import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from segdet import folding
from segdet.unet3d import UNet3D

SIZES = [(8, 8, 8), (13, 21, 9), (16, 24, 18), (1, 1, 9)]


@pytest.fixture(params=["where it pays", "everywhere"])
def folded(request, monkeypatch):
    if request.param == "everywhere":
        monkeypatch.setattr(folding, "pays", lambda x, weight: True)


@pytest.fixture
def as_written(monkeypatch):
    """A function that calls another one with the modules as they are."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(folding, "applies", lambda x, conv: False)
            return function()

    return call


def assert_same_gradients(found, expected, inputs, **tolerances):
    weights = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), inputs) for y in (found, expected))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, **tolerances)


def along_one_axis(numbers):
    """A kernel that is `numbers` along the last axis and, in the middle of the others or at their start, 1."""
    kernel = torch.zeros(1, 1, len(numbers), len(numbers), len(numbers))
    kernel[0, 0, len(numbers) // 2, len(numbers) // 2] = torch.tensor(numbers)
    return kernel


def test_composition_by_hand():
    """K = (1, 10, 100) and W = (2, 3): C = (100*2, 10*2 + 100*3, 1*2 + 10*3, 1*3)."""
    conv, up = along_one_axis([1.0, 10.0, 100.0]), torch.zeros(1, 1, 2, 2, 2)
    up[0, 0, 0, 0] = torch.tensor([2.0, 3.0])
    found = folding.composition(up, conv)
    assert found.shape == (1, 1, 4, 4, 4)
    assert found[0, 0, 1, 1].tolist() == [200, 320, 32, 3]
    assert found.sum() == 555  # nothing outside that line


@pytest.mark.parametrize("size", [(2, 2, 2), (4, 2, 6)])
def test_response_to_ones(size):
    torch.manual_seed(0)
    kernel = torch.randn(3, 3, 3, 5, dtype=torch.float64)
    expected = F.conv3d(torch.ones(1, 1, *size, dtype=torch.float64), kernel.permute(3, 0, 1, 2)[:, None], padding=1)
    torch.testing.assert_close(folding.response_to_ones(kernel, size), expected)


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 1), (4, 6, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_up_convolution_and_convolution_in_one(size, bias, monkeypatch):
    """Values and all gradients, in float64, beside PyTorch's own two modules."""
    monkeypatch.setattr(folding, "applies", lambda x, conv: True)
    monkeypatch.setattr(folding, "pays", lambda x, weight: True)
    torch.manual_seed(0)
    up, conv = nn.ConvTranspose3d(5, 5, 2, stride=2).double(), nn.Conv3d(3 + 5, 4, 3, padding=1).double()
    if not bias:
        up.bias.data.zero_()
    x = torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True)
    skip = torch.randn(2, 3, *(2 * n for n in size), dtype=torch.float64, requires_grad=True)
    expected = conv(torch.cat([skip, up(x)], 1))
    found = folding.up_conv_norm(up, conv, nn.Identity(), x, skip)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    inputs = [x, skip, *up.parameters(), *conv.parameters()]
    for ours, theirs in zip(
        *(torch.autograd.grad((y * weights).sum(), inputs) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "shape", [(1, 3, 8, 5, 7), (1, 3, 10, 4, 3), (1, 3, 9, 4, 3), (2, 3, 8, 4, 3), (1, 200, 16, 8, 2)]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_a_batch_of_one_by_halves(shape, layout):
    torch.manual_seed(0)
    conv = nn.Conv3d(shape[1], 4, 3, padding=1).to(memory_format=layout)
    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    found, expected = folding.convolve(x, conv.weight, conv.bias), conv(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(expected)
    inputs = [x, *conv.parameters()]
    for ours, theirs in zip(
        *(torch.autograd.grad((y * weights).sum(), inputs) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_which_convolutions_go_by_halves(monkeypatch):
    """A small batch of one with an even number of slices, from eight on; no other."""
    batches, conv3d = [], F.conv3d
    monkeypatch.setattr(F, "conv3d", lambda x, *rest, **more: batches.append(len(x)) or conv3d(x, *rest, **more))
    weight, bias = torch.zeros(1, 2, 3, 3, 3), torch.zeros(1)
    for shape in [(1, 2, 8, 4, 4), (1, 2, 9, 4, 4), (1, 2, 6, 4, 4), (1, 2, 128, 81, 1), (1, 2, 128, 80, 1)]:
        folding.convolve(torch.zeros(shape), weight, bias)
    assert batches == [2, 1, 1, 1, 2]


def warm(norm, depth=2):
    """A network whose batch normalisations have seen a few volumes."""
    torch.manual_seed(0)
    model = UNet3D(2, 3, base_channels=8, depth=depth, norm=norm)
    for _ in range(3):
        model(torch.randn(1, 2, 16, 16, 16) + 0.5)
    return model


@pytest.mark.usefixtures("folded")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("norm", ["none", "batch", "instance", "group"])
@pytest.mark.parametrize("training", [True, False])
def test_the_network_gives_what_is_written(size, norm, training, as_written):
    model = warm(norm).train(training)
    x = torch.randn(1, 2, *size)
    state = {name: value.clone() for name, value in model.state_dict().items()}

    def logits_and_gradients():
        model.load_state_dict(state)
        logits = model(x)
        return [logits, *torch.autograd.grad(logits.square().mean(), [*model.parameters()])]

    found, expected = logits_and_gradients(), as_written(logits_and_gradients)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5 * max(1.0, theirs.abs().max().item()))


@pytest.mark.usefixtures("folded")
@pytest.mark.parametrize("training", [True, False])
def test_in_bfloat16_it_is_as_near_to_float32_as_what_is_written(training, as_written):
    """Logits and gradients, by the length of the error; both round operands to 8 bits, at other places."""
    model, x = warm("batch").train(training), torch.randn(1, 2, 16, 24, 16)

    def logits_and_gradients():
        logits = model(x).float()
        gradients = torch.autograd.grad(logits.square().mean(), [*model.parameters()])
        return [logits.detach().flatten(), torch.cat([g.flatten() for g in gradients])]

    exact = as_written(logits_and_gradients)
    with torch.autocast("cpu", torch.bfloat16):
        found, written = logits_and_gradients(), as_written(logits_and_gradients)
    for ours, theirs, right in zip(found, written, exact, strict=True):
        assert 0 < (ours - right).norm() < 1.3 * (theirs - right).norm() < 0.1 * right.norm()


def test_a_kept_composition_is_of_the_precision_in_use(as_written):
    model, x = warm("batch").eval(), torch.randn(1, 2, 16, 16, 16)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x)
        torch.testing.assert_close(model(x), as_written(lambda: model(x)), rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(x), half)


CHANGES = {
    "in place": lambda p: p.mul_(1.1),
    "behind autograd's back": lambda p: p.data.mul_(1.1),
    "another tensor": lambda p: setattr(p, "data", p.data * 1.1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_kept_composition_is_never_stale(change, as_written):
    model, x = warm("batch").eval(), torch.randn(1, 2, 16, 16, 16)
    with torch.no_grad():
        before = model(x)
        assert torch.equal(model(x), before)
        for name, p in model.named_parameters():
            if name.startswith(("up.", "upsample.")):
                CHANGES[change](p)
        after = model(x)
        assert (after - before).abs().max() > 0.01
        torch.testing.assert_close(after, as_written(lambda: model(x)), rtol=1e-4, atol=1e-4)


def test_what_is_kept_ends_with_the_network_or_the_next_training():
    model, x = warm("none").eval(), torch.randn(1, 2, 8, 8, 8)
    convolutions = [level[0] for level in model.up]
    composed = []
    for _ in range(3):
        with torch.no_grad():
            model(x)
        composed.append([folding._kept[conv][-1] for conv in convolutions])
    assert all(kernel is composed[0][level] for kernels in composed for level, kernel in enumerate(kernels))
    assert model(x).requires_grad
    assert not any(conv in folding._kept for conv in convolutions)
    with torch.no_grad():
        model(x)
    gc.collect()  # what other tests left behind
    before = len(folding._kept)
    del model, convolutions
    gc.collect()
    assert len(folding._kept) == before - 2


def test_without_numbers():
    """A fake network, which has shapes alone, takes the same way on a CPU."""
    with FakeTensorMode():
        model = UNet3D(2, 2, 8, depth=2)
        for training in (True, False):
            with torch.set_grad_enabled(training):
                assert model.train(training)(torch.empty(1, 2, 16, 13, 16)).shape == (1, 2, 16, 13, 16)


def test_where_the_identities_apply():
    conv = nn.Conv3d(2, 2, 3, padding=1)
    x = torch.zeros(1, 2, 4, 4, 4)
    assert folding.applies(x, conv)
    assert not folding.applies(x.to("meta"), conv)
    assert not folding.applies(x.double(), conv.double())
    conv.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert folding.applies(x, conv)
        assert folding.applies(x.bfloat16(), conv)
        assert not folding.applies(x.bfloat16(), conv.bfloat16())
    with torch.autocast("cpu", torch.float16):
        assert not folding.applies(x, conv.float())


def test_composing_pays_where_it_saves_twice_what_it_costs():
    """128 channels to 64: (8*128 + 152*64) v saved, twice 216*128*64 spent: from 330 voxels on."""
    weight = torch.zeros(64, 192, 3, 3, 3)
    assert not folding.pays(torch.zeros(1, 128, 1, 1, 329), weight)
    assert folding.pays(torch.zeros(1, 128, 1, 1, 330), weight)
    assert folding.pays(torch.zeros(2, 128, 1, 1, 165), weight)


def test_export_has_the_network_as_written():
    exported = torch.export.export(UNet3D(1, 2, 4, depth=1).eval(), (torch.randn(1, 1, 16, 16, 16),))
    called = [str(node.target) for node in exported.graph.nodes]
    assert called.count("aten.conv3d.default") == 7  # two a level, down, at the bottom and up, and the head
    assert not any("conv_transpose3d" in name for name in called)
