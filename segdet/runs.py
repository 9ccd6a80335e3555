"""The networks of one seed: how the detector and each arm's segmenter are trained and scored (chapters 05, 08, 10)."""

import hashlib
import math
import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from . import metrics
from .anchors import fit_anchors
from .attention import box3d_mask, boxes_to_mask, slice_box_mask
from .boxes import area, box_iou, mirror
from .cascade import Cascade, detect, segment
from .errors import TrainingError
from .experiment import ARMS, Plan, get_profile, grids_for, prepare, split_scans
from .phantom_cache import cache_folder
from .rpn import RPN, Proposals
from .training import default_device, fit, precision
from .unet3d import UNet3D

DETECTOR_LEARNING_RATE = 0.002
SLICES_PER_STEP = 8
# The modules whose code decides what a trained network is.
TRAINED_BY = (
    *(
        "volume",
        "canvas",
        "hip_parameters",
        "hip",
        "phantom",
        "boxes",
        "anchors",
        "matching",
        "rpn",
        "attention",
        "unet3d",
        "metrics",
    ),
    *("training", "cascade", "experiment", "runs"),
)


def train_detector(train, validation, profile, seed, *, sampling=None, checkpoint=None, deadline=None):
    """Train the detector on all slices of the training scans (paper section 3.1).

    The paper's SGD: momentum 0.9, weight decay 0.0005, 256 anchors a step (from 8 slices). Not the paper's: the
    learning rate rises to 0.002 in 20 steps and falls to 0 along a cosine, gradients are cut at norm 5, and each
    batch is flipped left to right with probability 1/2 (a right hip is the mirror image of a left one). The weights
    of the best validation box IoU are kept.

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
        inputs, targets = slices[chosen], boxes[chosen]
        if torch.rand((), generator=generator) < 0.5:
            inputs, targets = inputs.flip(-1), mirror(targets, inputs.shape[-1])
        with precision(device):
            return detector.loss(inputs.to(device), targets.to(device), generator)

    def schedule(step):
        return min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / profile.detector_steps))

    def validate():
        found = [detect(detector, c.slices, Proposals(threshold=0.0))[0] for c in validation]
        return np.nanmean([score_boxes(b, c.boxes)["box_iou"] for b, c in zip(found, validation, strict=True)])

    history = fit(
        detector,
        batch_loss,
        optimizer,
        profile.detector_steps,
        seed=seed,
        identity={
            "scans": [c.name for c in train],
            "grid": profile.detector_shape,
            "initial weights": detector.initial_weights,
        },
        schedule=schedule,
        clip_norm=5,
        validate=validate,
        every=max(1, profile.detector_steps // 6),
        checkpoint=checkpoint,
        label="detector",
        deadline=deadline,
    )
    return detector, history


def overlaps(detected, target):
    """IoU of every slice's best detection with the annotated box that it fits best.

    Parameters
    ----------
    detected : Tensor, (D, k, 4), best first
    target : Tensor, (D, M, 4)
        Both padded with boxes of no area.

    Returns
    -------
    overlap : Tensor, (D,)
        0 where there is no detection or nothing to detect.
    holds : bool Tensor, (D,)
        Whether the slice holds an annotated box.
    """
    best = box_iou(detected[:, :1], target)[:, 0]  # (D, M)
    return best.amax(1) if target.shape[1] else best.new_zeros(len(best)), (area(target) > 0).any(1)


def score_boxes(detected, target):
    """How well the best detection of each slice fits; shapes as in `overlaps`.

    Returns
    -------
    dict
        ``box_iou``: mean IoU over the slices that hold a box, a miss counting 0. ``recall50``, ``recall70``: share
        of those slices with IoU at least 0.5, 0.7. ``false_boxes``: share of the empty slices with a detection.
        NaN where there is no such slice.
    """
    overlap, holds = overlaps(detected, target)
    found = area(detected[:, 0]) > 0

    def mean(values):
        return float(values.float().mean()) if len(values) else float("nan")

    return {
        "box_iou": mean(overlap[holds]),
        "recall50": mean(overlap[holds] >= 0.5),
        "recall70": mean(overlap[holds] >= 0.7),
        "false_boxes": mean(found[~holds]),
    }


def choose_threshold(detector, validation):
    """The score below which a box does not count, so that slices without the object get none (`facts` B6).

    Tried on the validation scans: the threshold of the best mean over slices of box IoU where there is an object,
    and of 1 for no box, 0 for a false one, where there is none.

    Returns
    -------
    Proposals
    """
    found = [detect(detector, c.slices, Proposals(threshold=0.0)) for c in validation]
    scores = torch.cat([s[:, 0] for _, s in found])
    overlap, holds = (
        torch.cat(t)
        for t in zip(*[overlaps(b, c.boxes) for (b, _), c in zip(found, validation, strict=True)], strict=True)
    )

    def value(threshold):
        kept = scores >= threshold
        return torch.where(holds, overlap * kept, (~kept).float()).mean().item()

    return Proposals(threshold=max((t / 100 for t in range(5, 100, 5)), key=value))


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

    smallest = min(profile.segmenter_shape) // 8

    def batch_loss(generator):
        index = int(torch.randint(len(inputs), (), generator=generator))
        with precision(device, smallest):
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
        identity={"scans": [c.name for c, _ in train], "grid": profile.segmenter_shape},
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


class Run:
    """One seed of a plan: its scans on the working grids, its detector, and the segmenter of every arm.

    Everything is made when it is first asked for, in the order in which the paper trains it.

    Parameters
    ----------
    plan : Plan
    seed : int
        Decides the split, the initial weights and the order of the batches.
    checkpoints : path, optional
        A folder for the state of every training. An interrupted training goes on from there, a finished one is
        read back.
    deadline : float, optional
        As in `segdet.training.fit`.

    Attributes
    ----------
    grids : Grids
    train, validation, test : lists of Case

    Raises
    ------
    TrainingError
        No training scan holds anything to learn.
    """

    def __init__(self, plan, seed, checkpoints=None, deadline=None):
        self.plan, self.seed, self.checkpoints, self.deadline = plan, seed, checkpoints, deadline
        split = split_scans(plan, seed)
        self.grids = grids_for(split[0], plan.profile)
        self.train, self.validation, self.test = ([prepare(v, self.grids) for v in part] for part in split)
        self._attention, self._boxes = {}, {}
        if not any(case.mask.any() for case in self.train):
            what = "a mask that is not empty" if plan.label is None else f"label {plan.label}"
            raise TrainingError(f"{plan.data}: none of the {len(self.train)} training scans holds {what}; see --label")

    def _checkpoint(self, name):
        return Path(self.checkpoints) / f"{self.seed}-{name}.safetensors" if self.checkpoints else None

    @cached_property
    def _detection(self):
        detector, history = train_detector(
            self.train,
            self.validation,
            self.plan.profile,
            self.seed,
            checkpoint=self._checkpoint("detector"),
            deadline=self.deadline,
        )
        return detector, history, choose_threshold(detector, self.validation)

    @property
    def detector(self):
        """The trained `RPN`."""
        return self._detection[0]

    @property
    def detector_history(self):
        """How its training went."""
        return self._detection[1]

    @property
    def proposals(self):
        """Which of its boxes count, as chosen on the validation scans."""
        return self._detection[2]

    def detect(self, case):
        """The boxes of a case, (D, 1, 4), best first."""
        if case.name not in self._boxes:
            self._boxes[case.name] = detect(self.detector, case.slices, self.proposals)[0]
        return self._boxes[case.name]

    def attention(self, case, source):
        """The attention volume of a case on the segmenter's grid, bool (d, h, w), or None for source "none"."""
        if source == "none":
            return None
        if (case.name, source) not in self._attention:
            if source == "box3d":
                mask = box3d_mask(case.mask)
            elif source == "slicebox":
                mask = self.grids.attention_to_segmenter(slice_box_mask(case.slice_mask))
            else:
                mask = self.grids.attention_to_segmenter(boxes_to_mask(self.detect(case), case.slices.shape).numpy())
            self._attention[case.name, source] = mask
        return self._attention[case.name, source]

    def segmenter(self, arm):
        """Train an arm's segmenter, or read it back: (UNet3D, History)."""
        arm = ARMS[arm]
        return train_segmenter(
            [(c, self.attention(c, arm.train)) for c in self.train],
            [(c, self.attention(c, arm.test)) for c in self.validation],
            self.plan.profile,
            self.seed,
            checkpoint=self._checkpoint(arm.name),
            deadline=self.deadline,
        )

    def predict(self, segmenter, arm, case):
        """An arm's mask of a case on the segmenter's grid, bool (d, h, w)."""
        return segment(segmenter, case.image, self.attention(case, ARMS[arm].test)) >= 0.5

    def cascade(self):
        """The trained `Cascade`, for scans of any grid."""
        return Cascade(self.detector, self.segmenter("cascade")[0], self.grids, self.proposals)


def chapter_run(profile=None):
    """The run that the chapters share: seed 0 with the paper's nine test scans, its networks kept in the cache.

    The first chapter that needs a network trains it; the others read it back. A change of the code that it depends
    on, of the profile or of the file that SEGDET_VGG16 names starts anew.
    """
    profile = get_profile(profile)
    code = hashlib.sha256(b"".join(Path(__file__).with_name(f"{m}.py").read_bytes() for m in TRAINED_BY))
    code.update(os.path.basename(os.environ.get("SEGDET_VGG16", "")).encode())
    folder = cache_folder() / f"networks-{code.hexdigest()[:12]}" / profile.name
    return Run(Plan(replace(profile, test=min(profile.test, 9)), tuple(ARMS)), 0, folder)
