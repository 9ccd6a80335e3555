"""What trainings cost: operations, counted without computing them, and the seconds that they take on this machine."""

import copy
import os
import statistics
import time
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from .phantom import make_phantom
from .rpn import RPN
from .training import default_device, precision
from .unet3d import UNet3D

SLICES = 4  # of a detector's step that is measured; a real one has 8
LARGEST = 32 * 48 * 24  # voxels of a segmenter's step that is measured; a larger grid is cut to this


@dataclass(frozen=True)
class Speed:
    """What a machine makes of the networks of a profile and of a phantom.

    Attributes
    ----------
    detector_step, detector_slice, segmenter_step, segmenter_volume : float
        FLOP a second while it trains and while it predicts.
    phantom : float
        Seconds for one.
    """

    detector_step: float
    detector_slice: float
    segmenter_step: float
    segmenter_volume: float
    phantom: float


@dataclass(frozen=True)
class Work:
    """An amount of work with the networks of a profile, in units that can be added up.

    Attributes
    ----------
    detectors, segmenters : float
        Whole trainings, with what they predict for validation.
    slices, volumes : float
        Predicted by a trained detector and a trained segmenter.
    phantoms : float
        Simulated scans.
    """

    detectors: float = 0
    segmenters: float = 0
    slices: float = 0
    volumes: float = 0
    phantoms: float = 0

    def operations(self, profile):
        """FLOP of the networks of a profile, by the attributes of `Speed`."""
        detector, segmenter = networks(profile)
        slices, volume = (8, *profile.detector_shape[1:]), (1, 2, *profile.segmenter_shape)
        looks = profile.detector_steps / max(1, profile.detector_steps // 6) + 1  # and one for the threshold
        looked = self.detectors * looks * profile.validation * profile.detector_shape[0] + self.slices
        validated = self.segmenters * profile.segmenter_steps / profile.every * profile.validation + self.volumes
        return {
            "detector_step": self.detectors * profile.detector_steps * count(detector, slices, training=True),
            "detector_slice": looked * count(detector, slices) / 8,
            "segmenter_step": self.segmenters * profile.segmenter_steps * count(segmenter, volume, training=True),
            "segmenter_volume": validated * count(segmenter, volume),
        }

    def seconds(self, profile, speed):
        """How long it takes on a machine of this `Speed`."""
        work = self.operations(profile)
        return sum(flop / getattr(speed, name) for name, flop in work.items()) + self.phantoms * speed.phantom


def study(profile, arms, seeds, phantoms=True):
    """The `Work` of an ablation: every seed makes its scans, trains a detector and a segmenter for each of the arms."""
    test = profile.test
    scans = profile.train + profile.validation + test
    one = {"detectors": 1, "segmenters": arms, "slices": scans * profile.detector_shape[0], "volumes": arms * test}
    return Work(**{name: seeds * n for name, n in (one | {"phantoms": scans if phantoms else 0}).items()})


def count(model, shape, training=False):
    """FLOP of one pass of a network over an input of this shape, with that of its gradients if `training`."""
    model = copy.deepcopy(model).to("meta").train(training)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
        found = model(torch.empty(shape, device="meta"))
        if training:
            sum(
                part.sum() for part in (found if isinstance(found, tuple) else (found,)) if part.requires_grad
            ).backward()
    return counter.get_total_flops()


def matmul_rate(device=None, size=2048):
    """FLOP a second of a product of two square matrices, in the precision that trainings use on this device."""
    device = device or default_device()
    a = torch.rand(size, size, device=device)
    with torch.no_grad(), precision(device):
        return 2 * size**3 / _seconds(lambda: (a @ a)[0, 0].item(), 3)


def networks(profile):
    """The untrained detector and segmenter of a profile, on the CPU.

    VGG-16's first blocks are fixed where SEGDET_VGG16 names ImageNet weights; without them they are trained, too.
    """
    detector = RPN(backbone=profile.backbone)
    if os.environ.get("SEGDET_VGG16") and hasattr(detector.backbone, "freeze"):
        detector.backbone.freeze()
    return detector, UNet3D(2, 2, profile.base_channels)


@cache
def measure(profile):
    """Train and predict for a few seconds with the networks of a `Profile`, on parts of its grids: a `Speed`."""
    device, cut = default_device(), profile.segmenter_shape
    while cut[0] * cut[1] * cut[2] > LARGEST:
        cut = tuple(n // 2 for n in cut)
    detector, segmenter = networks(profile)
    detector.to(device, memory_format=torch.channels_last)
    segmenter.to(device, memory_format=torch.channels_last_3d)
    slices = torch.rand(SLICES, *profile.detector_shape[1:], device=device)
    boxes = torch.tensor([[[30.0, 60.0, 66.0, 126.0]]], device=device).expand(SLICES, 1, 4)
    volume = torch.rand(1, 2, *cut, device=device).contiguous(memory_format=torch.channels_last_3d)
    mask = (volume[:, 0] > 0.5).long()

    def detector_loss():
        with precision(device):
            return sum(detector.loss(slices, boxes).values())

    def segmenter_loss():
        with precision(device, -(-min(cut) // 8)):
            return F.cross_entropy(segmenter(volume).float(), mask)

    rates = []
    for model, loss, shape in ((detector, detector_loss, slices.shape), (segmenter, segmenter_loss, volume.shape)):
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
        step, predict = partial(_step, model, loss, optimizer), partial(_predict, model, loss)
        rates += [count(model, shape, training=True) / _seconds(step, 2), count(model, shape) / _seconds(predict, 2)]
    return Speed(*rates, _seconds(lambda: make_phantom(0), 1))


def _step(model, loss, optimizer):
    model.train()
    optimizer.zero_grad(set_to_none=True)
    value = loss()
    value.backward()
    optimizer.step()
    return value.item()  # waits for a GPU


@torch.no_grad()
def _predict(model, loss):
    model.eval()
    return loss().item()


def _seconds(function, repeats):
    """Median seconds of a call, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
