"""3D U-Net: parameters and shapes against a table worked out by hand and against Cicek's published count."""

import pytest
import torch

from segdet.unet3d import UNet3D, UpConv, deepest_side


def conv(c_in, c_out, k=3):
    return c_in * c_out * k**3 + c_out


# Weights and biases of every convolution at base 32, one input, two labels, from Cicek et al., Fig. 2.
CONVOLUTIONS = [
    *(conv(1, 32), conv(32, 64)),
    *(conv(64, 64), conv(64, 128)),
    *(conv(128, 128), conv(128, 256)),
    *(conv(256, 256), conv(256, 512)),
    *(conv(512, 512, 2), conv(512 + 256, 256), conv(256, 256)),
    *(conv(256, 256, 2), conv(256 + 128, 128), conv(128, 128)),
    *(conv(128, 128, 2), conv(128 + 64, 64), conv(64, 64)),
    conv(64, 2, 1),
]
NORMALISED = 32 + 64 + 64 + 128 + 128 + 256 + 256 + 512 + 2 * (256 + 128 + 64)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters_by_hand():
    assert parameters(UNet3D(1, 2, norm="none")) == sum(CONVOLUTIONS)
    assert parameters(UNet3D(1, 2, norm="batch")) == sum(CONVOLUTIONS) + 2 * NORMALISED
    assert parameters(UNet3D(2, 2, norm="none")) - parameters(UNet3D(1, 2, norm="none")) == 32 * 27


def test_cicek_s_published_count():
    """19,069,955 in their paper for 3 inputs and 3 labels; their up-convolutions had no bias and their batch
    normalisation no scale and shift."""
    ours = parameters(UNet3D(3, 3, norm="none"))
    assert ours - (512 + 256 + 128) == 19_069_955


@pytest.mark.parametrize(("size", "side"), [((16, 24, 16), 2), ((13, 21, 9), 2), ((25, 46, 24), 3), ((1, 1, 1), 1)])
def test_the_deepest_side_is_that_of_the_deepest_feature_map(size, side):
    found, model = [], UNet3D(1, 2, 2).eval()  # as deep as `deepest_side` takes it to be
    model.down[-1].register_forward_hook(lambda module, x, y: found.append(min(y.shape[2:])))
    model(torch.zeros(1, 1, *size))
    assert found == [side]
    assert deepest_side(size) == side
    assert deepest_side((16, 24, 16), 2) == 4


@pytest.mark.parametrize("size", [(16, 24, 16), (8, 8, 8), (13, 21, 9), (5, 46, 24), (1, 1, 1)])
@pytest.mark.parametrize("norm", ["none", "batch", "instance", "group"])
def test_any_size(size, norm):
    model = UNet3D(2, 3, base_channels=4, norm=norm).eval()
    if norm == "instance" and max(size) <= 8:
        with pytest.raises(ValueError, match="more than 1 spatial element"):  # one voxel has no deviation
            model(torch.randn(1, 2, *size))
        return
    with torch.no_grad():
        assert model(torch.randn(1, 2, *size)).shape == (1, 3, *size)


def test_padding_does_not_change_a_grid_that_fits():
    torch.manual_seed(0)
    model = UNet3D(1, 2, base_channels=4).eval()
    x = torch.randn(1, 1, 8, 16, 8)
    with torch.no_grad():
        cut = model(x[:, :, :, :13])
        padded = model(torch.cat([x[:, :, :, :13], torch.zeros(1, 1, 8, 3, 8)], 3))[:, :, :, :13]
    torch.testing.assert_close(cut, padded)


def test_levels_and_skips():
    """Each level halves the grid and doubles the channels; the decoder gets them back."""
    model = UNet3D(1, 2, base_channels=8).eval()
    shapes = {}
    for name, module in [
        *((f"down{i}", m) for i, m in enumerate(model.down)),
        *((f"up{i}", m) for i, m in enumerate(model.up)),
    ]:
        module.register_forward_hook(lambda _m, _i, o, name=name: shapes.__setitem__(name, tuple(o.shape[1:])))
    model(torch.zeros(1, 1, 16, 24, 8))
    assert shapes == {
        "down0": (16, 16, 24, 8),
        "down1": (32, 8, 12, 4),
        "down2": (64, 4, 6, 2),
        "down3": (128, 2, 3, 1),
        "up0": (64, 4, 6, 2),
        "up1": (32, 8, 12, 4),
        "up2": (16, 16, 24, 8),
    }


@pytest.mark.parametrize("size", [(2, 3, 4), (1, 1, 1)])
def test_up_convolution_is_pytorch_s(size):
    torch.manual_seed(0)
    ours, peer = UpConv(5), torch.nn.ConvTranspose3d(5, 5, 2, stride=2)
    peer.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, *size, requires_grad=True)
    weights = torch.randn(peer(x).shape)
    found, expected = (
        (up(x), *torch.autograd.grad((up(x) * weights).sum(), [x, *up.parameters()])) for up in (ours, peer)
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_unknown_normalisation():
    with pytest.raises(ValueError, match="none, batch, instance or group"):
        UNet3D(norm="layer")


def test_group_norm_where_8_does_not_divide_the_channels():
    assert UNet3D(1, 2, base_channels=12, norm="group")(torch.randn(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_checkpointing_saves_memory_and_changes_nothing(norm):
    states, kept = [], []
    x = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = UNet3D(2, 2, 4, depth=2, norm=norm, checkpointing=checkpointing)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        storages = {}

        def pack(tensor, storages=storages):
            if tensor.ndim == 5 and len(tensor) == 1:  # not a weight
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        for _ in range(2):
            optimizer.zero_grad()
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
        states.append(model.state_dict())
        kept.append(sum(storages.values()))
        assert all(m.momentum == 0.1 for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d))
    assert kept[1] < 0.6 * kept[0]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
