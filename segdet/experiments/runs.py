"""The networks of one seed: how each arm's segmenter is trained and scored (chapters 08 and 10)."""

import zlib
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np

from .. import metrics
from ..attention import attended_region, box3d_mask, boxes_to_mask, shifted, slice_box_mask
from ..cascade import Cascade, detect, segment
from ..proposals import Proposals
from ..runtime.tensors import digest, load_tensors, save_tensors
from ..training.detector import choose_threshold, train_detector
from ..training.recipes import RECIPES
from ..training.segmenter import train_segmenter
from .cases import prepared_split
from .config import ARMS

FOLDS = 5  # detectors for the out-of-fold boxes
DETECTED = {"detector", "out-of-fold", "box3d-detector"}  # sources of attention that a detector feeds


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
        read back, one of other data or settings is refused.
    deadline : float, optional
        As in `segdet.training.loop.fit`.
    log : path, optional
        As in `segdet.training.loop.fit`.
    network : callable, optional
        As in `train_segmenter`.
    shared : bool
        The folder is for trainings of any data and settings, each in a file of its own, and keeps detected boxes too.

    Attributes
    ----------
    grids : Grids
    train, validation, test : lists of Case

    Raises
    ------
    TrainingError
        The training scans, or the validation scans, hold nothing to find.
    """

    def __init__(self, plan, seed, checkpoints=None, deadline=None, log=None, network=None, shared=False):
        self.plan, self.seed, self.network = plan, seed, network
        self.checkpoints, self.shared = checkpoints and Path(checkpoints), shared
        self._fitting = {"deadline": deadline, "log": log}
        self.grids, self.train, self.validation, self.test = prepared_split(plan, seed)
        self._attention, self._boxes = {}, {}

    def checkpoint(self, name):
        """Where the state of the training of this name is kept, as `segdet.training.loop.fit` takes it."""
        if self.shared:
            return lambda identity: self.checkpoints / f"{self.seed}-{name}-{identity}.safetensors"
        return self.checkpoints and self.checkpoints / f"{self.seed}-{name}.safetensors"

    def _trained_detector(self, train, name):
        detector, history = train_detector(
            train,
            self.validation,
            self.plan.profile,
            self.seed,
            recipe=RECIPES[self.plan.profile.backbone],
            checkpoint=self.checkpoint(name),
            **self._fitting,
        )
        return detector, history

    @cached_property
    def _detection(self):
        return self._trained_detector(self.train, "detector")

    @property
    def detector(self):
        """The trained `RPN`."""
        return self._detection[0]

    @property
    def detector_history(self):
        """How its training went."""
        return self._detection[1]

    @cached_property
    def proposals(self):
        """Which of its boxes count, as chosen on the validation scans."""
        _, facts = self._kept(
            "proposals", self.validation, lambda: ({}, asdict(choose_threshold(self.detector, self.validation)))
        )
        return Proposals(**facts)

    def detect(self, case):
        """The boxes of a case, (D, 1, 4), best first."""
        if case not in self._boxes:
            found = self._kept("boxes", [case], lambda: ({"boxes": self._detect(case)}, {}))
            self._boxes[case] = found[0]["boxes"]
        return self._boxes[case]

    def _detect(self, case):
        return detect(self.detector, case.slices, self.proposals)[0]

    def _kept(self, name, cases, find):
        """What ``find()`` says of cases, (tensors, facts); read back where the same detector has said it before."""
        if not self.shared:
            return find()
        asked = digest(*(case.identity for case in cases), *self.detector.state_dict().values())
        path = self.checkpoints / f"{name}-{asked}.safetensors"
        if not path.exists():
            save_tensors(path, *find())
        return load_tensors(path)

    @cached_property
    def sources(self):
        """Where attention can come from: functions of a `Case` that give a mask on the segmenter's grid, by name.

        A case knows both grids and its annotation. For a scan that has only itself see `Cascade.predict`.

        ``detector``: its boxes in every slice. ``out-of-fold``: for a training scan, those of a detector that has
        not seen it (`facts` B11). ``box3d``: the 3D box of the annotation, ``box3d-detector``: of the detected boxes
        (B13). ``slicebox``: the annotation's box in every slice, the ceiling. ``ones`` and ``shifted`` (that ceiling
        in the wrong place) are controls.
        """
        return {
            "detector": lambda case: self._painted(self.detect(case)),
            "out-of-fold": lambda case: self._painted(self._out_of_fold[case.name]),
            "box3d": lambda case: box3d_mask(case.mask),
            "box3d-detector": lambda case: box3d_mask(self.attention(case, "detector")),
            "slicebox": lambda case: self.grids.attention_to_segmenter(slice_box_mask(case.slice_mask)),
            "ones": lambda case: np.ones_like(case.mask),
            "shifted": lambda case: shifted(self.attention(case, "slicebox"), zlib.crc32(case.name.encode())),
        }

    def attention(self, case, source):
        """The attention volume of a case on the segmenter's grid, bool (d, h, w), or None for source "none"."""
        if source == "none":
            return None
        if (case, source) not in self._attention:
            self._attention[case, source] = self.sources[source](case)
        return self._attention[case, source]

    def _painted(self, boxes):
        return self.grids.attention_to_segmenter(boxes_to_mask(boxes, self.plan.profile.detector_shape).numpy())

    @cached_property
    def _out_of_fold(self):
        """The boxes of every training scan from one of `FOLDS` detectors, trained on the scans of the other folds."""
        boxes, folds = {}, min(FOLDS, len(self.train))
        for fold in range(folds):
            rest = [case for number, case in enumerate(self.train) if number % folds != fold]
            detector, _ = self._trained_detector(rest, f"detector-fold{fold}")
            proposals = choose_threshold(detector, self.validation)
            boxes |= {case.name: detect(detector, case.slices, proposals)[0] for case in self.train[fold::folds]}
        return boxes

    def segmenter(self, arm):
        """Train an arm's segmenter, or read it back: (UNet3D, History)."""
        arm, found = ARMS[arm], None
        if {arm.train, arm.test} & DETECTED:
            found = f"{arm.train} and {arm.test} of detector {self.detector_history.identity}"
        return train_segmenter(
            [(c, self.attention(c, arm.train)) for c in self.train],
            [(c, self.attention(c, arm.test)) for c in self.validation],
            self.plan.profile,
            self.seed,
            margin=arm.margin,
            network=self.network,
            attention=found,
            checkpoint=self.checkpoint(arm.name),
            **self._fitting,
        )

    def predict(self, segmenter, arm, case):
        """An arm's mask of a case on the segmenter's grid, bool (d, h, w)."""
        attention = self.attention(case, ARMS[arm].test)
        region = attended_region(attention, case.spacing, ARMS[arm].margin)
        return segment(segmenter, case.image, attention, region) >= 0.5

    def cascade(self):
        """The trained `Cascade`, for scans of any grid."""
        return Cascade(self.detector, self.segmenter("cascade")[0], self.grids, self.proposals)
