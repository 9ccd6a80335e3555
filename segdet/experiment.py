"""The ablation: profiles, splits, the arms of Table 1, and one run of each (chapter 10, paper section 4)."""

import hashlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou

from . import hip, metrics, phantom
from .anchors import fit_anchors
from .attention import box3d_mask, boxes_to_mask, slice_box_mask
from .boxes import area, pad_boxes
from .cascade import Grids, detect, segment
from .errors import SegdetError, TrainingError
from .rpn import RPN
from .training import default_device, fit, precision, progress_bar
from .unet3d import UNet3D
from .volume import Volume, slice_boxes


@dataclass(frozen=True)
class Profile:
    """How large an experiment is; every notebook and command takes one by name."""

    name: str
    detector_shape: tuple[int, int, int]
    segmenter_shape: tuple[int, int, int]
    base_channels: int
    detector_steps: int  # of 8 slices, 256 anchors
    segmenter_steps: int  # of one volume (A13)
    every: int  # steps between validations of the segmenter (A13)
    train: int  # scans, half left and half right (A5)
    validation: int
    test: int


PROFILES = {
    p.name: p
    for p in (
        Profile("smoke", (8, 184, 96), (16, 24, 16), 8, 8, 20, 10, 2, 2, 2),
        Profile("laptop", (32, 184, 96), (32, 46, 24), 16, 480, 600, 50, 10, 4, 49),
        Profile("paper", (128, 184, 96), (128, 184, 96), 32, 8000, 30000, 1000, 10, 4, 49),
    )
}
DETECTOR_LEARNING_RATE = 0.001
SLICES_PER_STEP = 8


@dataclass(frozen=True)
class Arm:
    """One row of the comparison: which attention the segmenter sees while training and while tested (`facts` B11, B13).

    Attention is ``"none"``, ``"detector"``, ``"box3d"`` (3D box of the annotation) or ``"slicebox"`` (its box in
    every slice).
    """

    name: str
    title: str
    train: str
    test: str


ARMS = {
    a.name: a
    for a in (
        Arm("unet", "3D U-Net", "none", "none"),
        Arm("box3d", "3D mask", "box3d", "box3d"),
        Arm("cascade", "Segmentation-by-detection", "detector", "detector"),
        Arm("cascade-gt", "Cascade, trained on annotation boxes", "slicebox", "detector"),
        Arm("slicebox", "Annotation boxes in every slice (ceiling)", "slicebox", "slicebox"),
    )
}


def get_profile(name=None):
    """The profile of that name; None means the variable SEGDET_PROFILE, else "laptop"."""
    name = name or os.environ.get("SEGDET_PROFILE") or "laptop"
    if name not in PROFILES:
        raise SegdetError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


@dataclass(frozen=True, eq=False)
class Case:
    """One annotated scan on both working grids, ready for the networks."""

    name: str
    slices: torch.Tensor  # (D, H, W) in [0, 1]: the detector's input
    slice_mask: np.ndarray  # (D, H, W) bool
    boxes: torch.Tensor  # (D, M, 4): the tight boxes of the annotation, padded
    image: torch.Tensor  # (d, h, w), zero mean, unit deviation: the segmenter's input
    mask: np.ndarray  # (d, h, w) bool
    spacing: tuple[float, float, float]  # mm, of the segmenter's grid


def prepare(volume, grids):
    """An annotated `Volume` as a `Case`."""
    if volume.mask is None:
        raise SegdetError(f"{volume.name}: has no annotation to train on or compare with")
    fine, coarse = grids.to_detector(volume), grids.to_segmenter(volume)
    return Case(
        volume.name,
        torch.from_numpy(fine.normalised("unit")),
        fine.mask,
        pad_boxes(slice_boxes(fine.mask)),
        torch.from_numpy(coarse.normalised()),
        coarse.mask,
        coarse.spacing,
    )


def cache_folder():
    """Where phantoms and trained networks are kept: the variable SEGDET_CACHE, else ~/.cache/segdet."""
    return Path(os.environ.get("SEGDET_CACHE") or Path.home() / ".cache/segdet")


def cached_phantom(seed, side=None):
    """`make_phantom(seed, side=side)`, kept in the cache under a name that changes with the phantom's code."""
    code = hashlib.sha256((inspect.getsource(hip) + inspect.getsource(phantom)).encode()).hexdigest()[:12]
    path = cache_folder() / f"phantoms-{code}" / f"{seed}-{side}.npz"
    if path.exists():
        kept = np.load(path)
        mask = np.unpackbits(kept["mask"], count=kept["voxels"].size).reshape(kept["voxels"].shape).astype(bool)
        return Volume(kept["voxels"], kept["affine"], mask, name=str(kept["name"]))
    volume = phantom.make_phantom(seed, side=side)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez(temporary, voxels=volume.voxels, affine=volume.affine, mask=np.packbits(volume.mask), name=volume.name)
    os.replace(temporary, path)
    return volume


def phantom_split(profile, seed):
    """Training, validation and test phantoms of a split, as three lists of `Volume`; no two splits share a scan.

    Training scans are half left, half right (A5); of the test scans the first nine stand for the paper's nine.
    """
    total = profile.train + profile.validation + profile.test
    first = 1000 * (seed + 1)
    bar = progress_bar(range(total), f"split {seed}: phantoms")
    volumes = [cached_phantom(first + i, ("left", "right")[i % 2]) for i in bar]
    return volumes[: profile.train], volumes[profile.train : -profile.test], volumes[-profile.test :]


def folder_cases(folder, label=None):
    """Every annotated scan of a folder: images/NAME beside labels/NAME, as a list of `Volume` sorted by name."""
    from .files import load_case

    folder = Path(folder)
    images = sorted(p for p in (folder / "images").glob("*") if not p.name.startswith("."))
    if not images:
        raise SegdetError(
            f"{folder}: expected scans in its folder images/ and their masks, of the same names, in its folder labels/"
        )
    return [load_case(path, folder / "labels" / path.name, label) for path in progress_bar(images, "reading")]


def folder_split(cases, profile, seed):
    """A random split of a list of annotated volumes, as three lists; at most as many as the profile asks for."""
    if len(cases) < 4:
        raise SegdetError(
            f"an ablation needs at least 4 annotated scans (2 to train, 1 to select, 1 to test), found {len(cases)}"
        )
    order = np.random.default_rng(seed).permutation(len(cases))
    train = min(profile.train, len(cases) // 2)
    validation = min(profile.validation, max(1, len(cases) // 6))
    test = min(profile.test, len(cases) - train - validation)
    picked = [cases[i] for i in order[: train + validation + test]]
    return picked[:train], picked[train : train + validation], picked[train + validation :]


def grids_for(volumes, profile):
    """Working grids that hold the largest of the training scans, at the profile's shapes."""
    extent = np.max([np.multiply(v.shape, v.spacing) for v in volumes], 0)
    return Grids(tuple(float(round(e, 6)) for e in extent), profile.detector_shape, profile.segmenter_shape)


def train_detector(train, validation, profile, seed, *, sampling=None, checkpoint=None, deadline=None):
    """Train the detector on all slices of the training scans (paper section 3.1).

    SGD with momentum 0.9 and weight decay 0.0005, learning rate 0.001 that falls to 0 along a cosine; 8 slices and
    256 anchors a step; the weights of the best validation box IoU are kept.

    Returns
    -------
    detector : RPN
    history : History
    """
    slices = torch.cat([c.slices for c in train])
    most = max(c.boxes.shape[1] for c in train)
    boxes = torch.cat([F.pad(c.boxes, (0, 0, 0, most - c.boxes.shape[1])) for c in train])
    found = boxes[area(boxes) > 0]
    if not len(found):
        raise TrainingError("no training scan has an annotated slice: there is nothing to detect")
    device = default_device()
    torch.manual_seed(seed)
    detector = RPN(fit_anchors(found), sampling)
    detector.load_imagenet()
    detector.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        [p for p in detector.parameters() if p.requires_grad],
        DETECTOR_LEARNING_RATE,
        momentum=0.9,
        weight_decay=0.0005,
    )

    def batch_loss(generator):
        chosen = torch.randperm(len(slices), generator=generator)[:SLICES_PER_STEP]
        with precision(device):
            return detector.loss(slices[chosen].to(device), boxes[chosen].to(device), generator)

    def validate():
        return np.mean([s["box_iou"] for c in validation for s in [score_boxes(detect(detector, c.slices), c.boxes)]])

    history = fit(
        detector,
        batch_loss,
        optimizer,
        profile.detector_steps,
        seed=seed,
        schedule=lambda step: 0.5 * (1 + np.cos(np.pi * step / profile.detector_steps)),
        validate=validate,
        every=max(1, profile.detector_steps // 6),
        checkpoint=checkpoint,
        label="detector",
        deadline=deadline,
    )
    return detector, history


def score_boxes(detected, target):
    """How well the best detection of each slice fits.

    Parameters
    ----------
    detected : Tensor, (D, k, 4), best first
    target : Tensor, (D, M, 4)

    Returns
    -------
    dict
        ``box_iou``: IoU of the best detection with the best-fitting annotated box, mean over the slices that have
        one, a miss counting 0. ``recall50``, ``recall70``: share of those slices with IoU at least 0.5, 0.7.
        ``false_boxes``: share of the empty slices with a detection. NaN where there is no such slice.
    """
    holds, found = (area(target) > 0).any(1), area(detected[:, 0]) > 0
    overlap = torch.stack(
        [
            box_iou(d[None], t[area(t) > 0]).max() if h and f else torch.tensor(0.0)
            for d, t, h, f in zip(detected[:, 0], target, holds, found, strict=True)
        ]
    )

    def mean(values):
        return float(values.float().mean()) if len(values) else float("nan")

    return {
        "box_iou": mean(overlap[holds]),
        "recall50": mean(overlap[holds] >= 0.5),
        "recall70": mean(overlap[holds] >= 0.7),
        "false_boxes": mean(found[~holds]),
    }


def attention_for(case, source, grids, detector=None, proposals=None):
    """The attention volume of a case on the segmenter's grid, bool (d, h, w), or None for "none"."""
    if source == "none":
        return None
    if source == "box3d":
        return box3d_mask(case.mask)
    if source == "slicebox":
        return grids.attention_to_segmenter(slice_box_mask(case.slice_mask))
    boxes = detect(detector, case.slices, proposals)
    return grids.attention_to_segmenter(boxes_to_mask(boxes, case.slices.shape).numpy())


def train_segmenter(train, validation, profile, seed, *, checkpoint=None, deadline=None):
    """Train a 3D U-Net (paper section 3.1): Adam 0.001, one volume a step, best validation IoU kept.

    Parameters
    ----------
    train, validation : list of (Case, attention or None)

    Returns
    -------
    segmenter : UNet3D
    history : History
    """
    device = default_device()
    torch.manual_seed(seed)
    channels = 1 if train[0][1] is None else 2
    segmenter = UNet3D(channels, 2, profile.base_channels).to(device, memory_format=torch.channels_last_3d)
    inputs = [
        torch.stack([case.image] + ([] if a is None else [torch.as_tensor(a, dtype=torch.float32)])).to(device)
        for case, a in train
    ]
    targets = [torch.as_tensor(case.mask, dtype=torch.long, device=device) for case, _ in train]
    optimizer = torch.optim.Adam(segmenter.parameters(), 0.001, betas=(0.9, 0.999))

    def batch_loss(generator):
        index = int(torch.randint(len(inputs), (), generator=generator))
        with precision(device):
            logits = segmenter(inputs[index][None].contiguous(memory_format=torch.channels_last_3d))
        return {"cross_entropy": F.cross_entropy(logits.float(), targets[index][None])}

    def validate():
        return np.mean([metrics.iou(segment(segmenter, case.image, a) >= 0.5, case.mask) for case, a in validation])

    history = fit(
        segmenter,
        batch_loss,
        optimizer,
        profile.segmenter_steps,
        seed=seed,
        validate=validate,
        every=profile.every,
        checkpoint=checkpoint,
        label="segmenter",
        deadline=deadline,
    )
    return segmenter, history


def score_mask(mask, case):
    """The metrics of one prediction on the segmenter's grid (`facts` section C)."""
    return {
        "iou": metrics.iou(mask, case.mask),
        "dice": metrics.dice(mask, case.mask),
        "hd95_mm": metrics.hausdorff95(mask, case.mask, case.spacing),
        "assd_mm": metrics.average_surface_distance(mask, case.mask, case.spacing),
    }
