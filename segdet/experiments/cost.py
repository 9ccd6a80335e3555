"""What trainings cost: operations, counted without computing them, and their seconds here (page "On a GPU")."""

import os
import statistics
import time
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from ..phantom.acoustics import make_phantom
from ..rpn import RPN
from ..runtime.device import default_device, precision
from ..runtime.progress import in_words
from ..unet3d import UNet3D, deepest_side
from .config import PROFILES

ENOUGH = 5e10  # FLOP of a detector's step that is measured; of a large network it has fewer than 8 slices
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

    def less(self, detectors, segmenters):
        """What is left when so many trainings are done, as `segdet.training.checkpoint.shares_done` counts them."""
        return replace(
            self, detectors=max(0, self.detectors - detectors), segmenters=max(0, self.segmenters - segmenters)
        )

    def operations(self, profile):
        """FLOP of the networks of a profile, by the attributes of `Speed`."""
        one = operations(profile)
        looks = profile.detector_steps / max(1, profile.detector_steps // 6) + 1  # and one for the threshold
        looked = self.detectors * looks * profile.validation * profile.detector_shape[0] + self.slices
        validated = self.segmenters * profile.segmenter_steps / profile.every * profile.validation + self.volumes
        return {
            "detector_step": self.detectors * profile.detector_steps * one["detector_step"],
            "detector_slice": looked * one["detector_slice"],
            "segmenter_step": self.segmenters * profile.segmenter_steps * one["segmenter_step"],
            "segmenter_volume": validated * one["segmenter_volume"],
        }

    def seconds(self, profile, speed):
        """How long it takes on a machine of this `Speed`."""
        work = self.operations(profile)
        return sum(flop / getattr(speed, name) for name, flop in work.items()) + self.phantoms * speed.phantom


def work_of_a_study(profile, arms, seeds, phantoms=True, detectors=1):
    """The `Work` of a study.

    Parameters
    ----------
    profile : Profile
    arms : float
        Every seed trains a segmenter for each of the arms and tests it; where seeds differ, their mean.
    seeds : int
    phantoms : bool
        Whether its scans are simulated.
    detectors : float
        That each seed trains and tests; where seeds differ, their mean.
    """
    test = profile.test
    scans = profile.train + profile.validation + test
    slices = detectors * scans * profile.detector_shape[0]
    return Work(*(seeds * n for n in (detectors, arms, slices, arms * test, scans if phantoms else 0)))


def forecast(profile, work, done=(0, 0)):
    """A line that says how long some work will take here, part by part, and how long at the profile quick.

    Parameters
    ----------
    profile : Profile
    work : callable
        ``work(profile)`` is the whole `Work` at a profile.
    done : (detectors, segmenters)
        Trainings that are done already, see `Work.less`.
    """
    speed, parts = measure(profile), work(profile).less(*done)
    shares = [(name, replace(Work(), **{name: getattr(parts, name)})) for name in Work.__dataclass_fields__]
    said = [f"{name} {in_words(share.seconds(profile, speed))}" for name, share in shares if share != Work()]
    line = f"about {in_words(parts.seconds(profile, speed))} here: {', '.join(said)}"
    if any(done):
        line += f"; {sum(done):.2g} trainings are done"
    quick = PROFILES["quick"]
    if profile.name in ("laptop", "paper"):
        line += f"; --profile quick takes about {in_words(work(quick).seconds(quick, measure(quick)))}"
    return line


@cache
def operations(profile):
    """FLOP of a step of 8 slices, a slice, a segmenter's step and a volume, by the attributes of `Speed`."""
    detector, segmenter = networks_of(profile, "meta")
    slices, volume = (8, *profile.detector_shape[1:]), (1, 2, *profile.segmenter_shape)
    return {
        "detector_step": count(detector, slices, training=True),
        "detector_slice": count(detector, slices) / 8,
        "segmenter_step": count(segmenter, volume, training=True),
        "segmenter_volume": count(segmenter, volume),
    }


def count(model, shape, training=False):
    """FLOP of one pass of a network on the device "meta" over such an input, with its gradients if `training`."""
    model.train(training)

    @torch.set_grad_enabled(training)
    def once():
        found = model(torch.empty(shape, device="meta"))
        if training:
            parts = found if isinstance(found, tuple) else (found,)
            sum(part.sum() for part in parts if part.requires_grad).backward()

    return flops_of(once)


@cache
def matmul_rate(device, dtype):
    """FLOP/s of a product of two square matrices here, the best of five; measured once a run.

    Parameters
    ----------
    device : torch.device
    dtype : torch.dtype
    """
    side = 8192 if device.type == "cuda" else 2048
    a, b = torch.rand(2, side, side, device=device).to(dtype)

    def product():
        return (a @ b)[0, 0].item()  # waits for a GPU

    return 2 * side**3 / min(_seconds(product, 1) for _ in range(5))


def flops_of(function):
    """FLOPs of the products and convolutions that a call does."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def networks_of(profile, device):
    """The untrained detector and segmenter of a profile.

    VGG-16's first blocks are fixed where SEGDET_VGG16 names ImageNet weights; without them they are trained, too.
    """
    with torch.device(device):
        detector, segmenter = RPN(backbone=profile.backbone), UNet3D(2, 2, profile.base_channels)
    if os.environ.get("SEGDET_VGG16") and hasattr(detector.backbone, "freeze"):
        detector.backbone.freeze()
    return detector, segmenter


@cache
def measure(profile):
    """Train and predict for a few seconds with the networks of a `Profile`, on parts of its grids: a `Speed`."""
    device, cut = default_device(), profile.segmenter_shape
    while cut[0] * cut[1] * cut[2] > LARGEST:
        cut = tuple(n // 2 for n in cut)
    detector, segmenter = networks_of(profile, device)
    detector.to(memory_format=torch.channels_last)
    segmenter.to(memory_format=torch.channels_last_3d)
    one = operations(profile)
    count = max(1, min(8, round(8 * ENOUGH / one["detector_step"])))
    slices = torch.rand(count, *profile.detector_shape[1:], device=device)
    boxes = torch.tensor([[[30.0, 60.0, 66.0, 126.0]]], device=device).expand(count, 1, 4)
    volume = torch.rand(1, 2, *cut, device=device).contiguous(memory_format=torch.channels_last_3d)
    mask = (volume[:, 0] > 0.5).long()

    def detector_loss():
        with precision(device):
            return sum(detector.loss(slices, boxes).values())

    def segmenter_loss():
        with precision(device, deepest_side(cut)):
            return F.cross_entropy(segmenter(volume).float(), mask)

    @torch.no_grad()
    def detect():
        detector.eval()
        with precision(device):
            return detector.propose(slices)[0].sum().item()  # waits for a GPU

    @torch.no_grad()
    def segment():
        segmenter.eval()
        return segmenter_loss().item()

    share = np.prod(cut) / np.prod(profile.segmenter_shape)
    return Speed(
        one["detector_step"] * count / 8 / _seconds(training_step(detector, detector_loss), 2),
        one["detector_slice"] * count / _seconds(detect, 2),
        one["segmenter_step"] * share / _seconds(training_step(segmenter, segmenter_loss), 2),
        one["segmenter_volume"] * share / _seconds(segment, 2),
        seconds_of_a_phantom(),
    )


@cache
def seconds_of_a_phantom():
    """How long a simulated scan takes here: the measure of what is not a network. Taken once a run."""
    return _seconds(lambda: make_phantom(0), 3)


def training_step(model, loss, optimizer=None):
    """A function that trains a network for one step on what ``loss()`` returns, by default with Adam."""
    optimizer = optimizer or torch.optim.Adam([p for p in model.parameters() if p.requires_grad])

    def step():
        model.train()
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimizer.step()
        return value.item()  # waits for a GPU

    return step


def _seconds(function, repeats):
    """Median seconds of a call, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
