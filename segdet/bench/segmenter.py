"""The segmenter beside four other 3D U-Nets, built to its widths, depth and normalisation (chapter 07).

Everything is measured in every precision that the device has: float32, and bfloat16 where it is native. A peer runs as
its authors leave it, contiguous and with PyTorch's default Adam; a second row (*) gives it our memory layout and the
fused Adam. A claim is made only where its FLOPs are within 10 % of ours, counted as the network is written. On a CPU
ours needs fewer (`segdet.folding`); a note gives both counts.

On a GPU the first width is Cicek's 32. On a CPU it is 16, and there is no training at 128 x 184 x 96, where one step
of each network takes 3 TFLOP (13 at width 32): beside four peers at two settings that would be a quarter of an hour
on two cores with bfloat16.
"""

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import nn

from ..experiments.cost import flops_of, training_step
from ..runtime.device import default_device, precision
from ..unet3d import UNet3D, deepest_side
from .measure import (
    MissingPeer,
    Row,
    bench_memory,
    grid,
    in_precision,
    paired,
    precisions,
    rate_note,
    require,
    seconds,
)

PAPER = (128, 184, 96)
SHAPES = (32, 46, 24), (64, 92, 48), PAPER


def bench_segmenter():
    """Rows for the memory and time of a training step and the time of an inference, beside every installed peer."""
    device = default_device()
    models, missing = ours_and_peers(first_width())
    peers = [name + star for name in models if name != "ours" for star in ("", " *")]
    for name in precisions(device):
        with in_precision(name):
            yield from bench_memory(f"segmenter, {name}, memory of a training step", step_of, peers)
            yield from bench_memory(f"segmenter with checkpointing, {name}, memory", checkpointed_step_of, ["without"])
            for shape in SHAPES:
                yield from rows(models, shape, device)
            try:
                yield compiled_row(models["ours"], SHAPES[0], device)
            except MissingPeer as error:
                missing.append(str(error))
    if missing:
        raise MissingPeer("; ".join(dict.fromkeys(missing)))


def rows(models, shape, device):
    """The rows of all `models` beside "ours" at one shape (D, H, W), in the precision that is set."""
    ours, written = models["ours"], flops(models["ours"], shape)
    repeats = 9 if device.type == "cuda" else 5 if shape == SHAPES[0] else 3
    done = executed(ours, shape, device)
    for name, star in itertools.product([name for name in models if name != "ours"], ("", " *")):
        share = flops(models[name], shape) / written
        limit = (1.0 if star else 0.8) if abs(share - 1) <= 0.1 else None
        pairs = zip(at_work(ours, shape, device), at_work(models[name], shape, device, tuned=bool(star)), strict=True)
        for (what, work), pair in zip(done.items(), pairs, strict=True):
            if work is None:
                continue
            times = paired(*pair, repeats)
            whole = written * (3 if what == "training" else 1)  # two products backward for each one forward
            note = f"{whole / 1e9:.0f} GFLOP as written, ours does {work / whole:.3f} of that, the peer {share:.3f}"
            note += f"; {rate_note(work, times[0])}; {PEERS[name][1]}"
            if device.type == "cuda" and (shape, what) == (PAPER, "training"):
                note += f"; the paper's 30,000 iterations in {30_000 * times[0] / 3600:.1f} h"
            label = f"segmenter, {precisions(device)[0]}, {what}, {grid(shape)}"
            yield Row(label, name + star, *times, limit=limit, note=note)


def flops(model, shape):
    """FLOPs of one forward pass over two channels of this shape as written, counted without computing anything."""
    return flops_of(lambda: copy.deepcopy(model).to("meta")(torch.empty(1, 2, *shape, device="meta")))


def executed(ours, shape, device):
    """FLOPs that a "training" step and an "inference" of ours really do here; None for what is not measured here."""
    training, inference = at_work(ours, shape, device)
    on_cpu = device.type != "cuda" and shape == PAPER
    done = {"training": None if on_cpu else flops_of(training)}
    inference()  # makes the kernels that are kept
    return done | {"inference": flops_of(inference)}


def at_work(model, shape, device, tuned=True):
    """(training step, inference): functions that run `model` on one volume (D, H, W), at our settings if `tuned`."""
    layout = torch.channels_last_3d if tuned else torch.contiguous_format
    model = model.to(device, memory_format=layout)
    volume = torch.rand(1, 2, *shape, device=device).contiguous(memory_format=layout)
    mask = (volume[:, 0] > 0.5).long()

    def logits():
        with precision(device, deepest_side(shape)):
            return model(volume).float()

    @torch.no_grad()
    def inference():
        model.eval()
        return logits().softmax(1)[0, 1].cpu()  # waits for a GPU

    optimizer = torch.optim.Adam(model.parameters(), 0.001, fused=tuned)
    return training_step(model, lambda: F.cross_entropy(logits(), mask), optimizer), inference


def step_of(who):
    """A training step of ours or of a peer, for its memory; `who` as in the report.

    All networks are built, so that the process of each holds the same packages.
    """
    model = ours_and_peers(first_width())[0][who.removesuffix(" *")]
    return memory_step(model, tuned=who == "ours" or who.endswith("*"))


def checkpointed_step_of(who):
    """As `step_of` for ours, with activation checkpointing or "without"."""
    return memory_step(UNet3D(2, 2, first_width(), checkpointing=who == "ours"))


def memory_step(model, tuned=True):
    """A training step of a network on the largest grid that this device trains in the benchmark."""
    device = default_device()
    return at_work(model, PAPER if device.type == "cuda" else SHAPES[1], device, tuned)[0]


def first_width():
    """Channels of the first convolution, see above."""
    return 32 if default_device().type == "cuda" else 16


def compiled_row(model, shape, device):
    """A training step through `torch.compile` beside the same without; to compile is not part of it."""
    compiled = copy.deepcopy(model)
    compiled.compile()
    steps = [at_work(m, shape, device)[0] for m in (compiled, model)]
    try:
        begun = seconds(steps[0])
    except RuntimeError as error:
        raise MissingPeer(f"torch.compile does not work here ({str(error).splitlines()[0]})") from error
    note = f"the first step, which compiles, took {begun:.0f} s"
    label = f"segmenter compiled, {precisions(device)[0]}, training, {grid(shape)}"
    return Row(label, "not compiled", *paired(*steps, repeats=9), note=note)


def ours_and_peers(base):
    """Ours and the installed peers for a first width of `base`: (dict of nn.Module, why the others are missing)."""
    models, missing = {"ours": UNet3D(2, 2, base)}, []
    for name, (build, _) in PEERS.items():
        try:
            models[name] = build([2 * base, 4 * base, 8 * base, 16 * base])
        except MissingPeer as error:
            missing.append(str(error))
    return models, missing


def pytorch3dunet(widths):
    """pytorch3dunet's UNet3D, with batch normalisation after the convolution and ReLU, as logits."""
    peer = require("pytorch3dunet.unet3d.model").UNet3D
    return peer(2, 2, f_maps=widths, layer_order="cbr", is_segmentation=False)


def basic_unet(widths):
    """MONAI's BasicUNet, which is always five levels deep, without its fifth."""
    peer = require("monai.networks.nets").BasicUNet
    model = peer(3, 2, 2, (*widths, widths[-1], widths[0]), act=("relu", {"inplace": True}), norm="batch")
    model.down_4, model.upcat_4 = nn.Identity(), FromBelow()
    return model


def dyn_unet(widths):
    """MONAI's DynUNet."""
    peer, relu = require("monai.networks.nets").DynUNet, ("relu", {"inplace": True})
    return Padded(peer(3, 2, 2, (3,) * 4, (1, 2, 2, 2), (2, 2, 2), widths, norm_name="batch", act_name=relu))


def plain_conv_unet(widths):
    """nnU-Net's network, PlainConvUNet."""
    peer = require("dynamic_network_architectures.architectures.unet").PlainConvUNet
    layers = {"norm_op": nn.BatchNorm3d, "norm_op_kwargs": {}, "nonlin": nn.ReLU, "nonlin_kwargs": {"inplace": True}}
    return Padded(peer(2, 4, widths, nn.Conv3d, 3, [1, 2, 2, 2], 2, 2, 2, **layers))


class FromBelow(nn.Module):
    """An up-path's level that only hands on what comes from below."""

    def forward(self, x, skip):
        """`x`."""
        return x


class Padded(nn.Module):
    """A network that takes only sides that 8 divides, behind the padding that ours has inside."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        """(N, C, D, H, W) -> (N, labels, D, H, W)."""
        size = x.shape[2:]
        x = F.pad(x, [p for n in reversed(size) for p in (0, -n % 8)])
        return self.network(x)[:, :, : size[0], : size[1], : size[2]]


PEERS = {
    "pytorch3dunet": (pytorch3dunet, "it repeats voxels where we have up-convolutions"),
    "BasicUNet": (basic_unet, "without its fifth level, both convolutions of a level equally wide"),
    "DynUNet": (dyn_unet, "strides where we have poolings, padded as we pad"),
    "PlainConvUNet": (plain_conv_unet, "strides where we have poolings, padded as we pad"),
}
