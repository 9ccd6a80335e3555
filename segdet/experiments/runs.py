"""The networks of one seed: how each arm's segmenter is trained and scored (chapters 08 and 10)."""

import json
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch

from .. import metrics
from ..attention import attended_region, box3d_mask, boxes_to_mask, shifted, slice_box_mask
from ..boxes import area
from ..cascade import Cascade, detect, segment
from ..proposals import Proposals
from ..runtime.tensors import digest, load_tensors, save_tensors
from ..training.detector import choose_threshold, glance, train_detector
from ..training.recipes import RECIPES
from ..training.segmenter import train_segmenter
from .cases import as_coarse_as_the_segmenter, prepare, prepared_split, with_annotation
from .config import PROBED
from .person import PERSONS, paint, seen_by
from .perturb import DOSES, spoil
from .protocol import arms_of, detector_recipe, segmenter_recipe
from .scores import compare_masks, score_scan

OUT_OF_FOLD = 5  # detectors for the boxes of training scans that they have not seen
DETECTED = {"detector", "out-of-fold", "box3d-detector"}  # sources of attention that a detector feeds
PERSON = "ordinary", 4  # who paints for the segmenter's training, and from how many slices to the next


def score_mask(mask, case):
    """The metrics of one prediction on the segmenter's grid (`facts` section C)."""
    return compare_masks(mask, case.mask, case.spacing)


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
    detector : str
        In protocol 2: which, see `segdet.experiments.protocol.detector_recipe`.
    finer : bool
        In protocol 2: whether it sees its slices as fine as they are.
    split : optional
        What `prepared_split` gives, where another run of the seed has it.

    Attributes
    ----------
    grids : Grids
    train, validation, test : lists of Case

    Raises
    ------
    TrainingError
        The training scans, or the validation scans, hold nothing to find.
    """

    def __init__(
        self, plan, seed, checkpoints=None, deadline=None, log=None, network=None, shared=False, detector="book",
        finer=False, split=None,
    ):  # fmt: skip
        self.plan, self.seed, self.network = plan, seed, network
        self.checkpoints, self.shared = checkpoints and Path(checkpoints), shared
        self._fitting = {"deadline": deadline, "log": log}
        self.grids, *parts = split or prepared_split(plan, seed)
        self.finer, self.condition = finer, "detector"
        self.recipe, self.vote = RECIPES[plan.profile.backbone], True
        if plan.protocol == 2:
            self.condition = f"detector-{detector}{'-finer' * finer}"
            self.recipe, self.vote = detector_recipe(detector, plan.profile.backbone)
            if not finer:
                parts = [[as_coarse_as_the_segmenter(case) for case in part] for part in parts]
        self.train, self.validation, self.test = parts
        self._attention, self._boxes, self._seen = (WeakKeyDictionary() for _ in range(3))  # by case, and gone with it

    def as_case(self, volume):
        """Another annotated scan as the networks of this run see a test scan."""
        volume = self.grids.oriented(volume)
        case = with_annotation(prepare(volume, self.grids), volume)
        return as_coarse_as_the_segmenter(case) if self.plan.protocol == 2 and not self.finer else case

    def checkpoint(self, name):
        """Where the state of the training of this name is kept, as `segdet.training.loop.fit` takes it."""
        if self.shared:
            return lambda identity: self.checkpoints / f"{self.seed}-{name}-{identity}.safetensors"
        return self.checkpoints and self.checkpoints / f"{self.seed}-{name}.safetensors"

    def _trained_detector(self, train, name, **watching):
        options = {"recipe": self.recipe, "checkpoint": self.checkpoint(name), **watching}
        return train_detector(train, self.validation, self.plan.profile, self.seed, **options, **self._fitting)

    @cached_property
    def _detection(self):
        if not self.shared:
            return self._trained_detector(self.train, self.condition)
        # filmed whichever chapter trains it; under a name of its own, for a state from before holds no film
        case, index = self.filmed
        return self._trained_detector(
            self.train, f"{self.condition}-filmed", watch=partial(glance, case=case, index=index)
        )

    @property
    def filmed(self):
        """What the detector's training is filmed on: a validation scan, and which of its slices has the largest box."""
        case = self.validation[0]
        return case, int(area(case.boxes).amax(1).argmax())

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
        return Proposals(**self._kept("proposals", self.validation, self.vote, self._chosen)[1])

    def _chosen(self):
        return {}, asdict(choose_threshold(self.detector, self.validation, self.vote))

    def detect(self, case):
        """The boxes of a case, (D, 1, 4), best first."""
        if case not in self._boxes:
            settings = asdict(self.proposals)
            found = self._kept("boxes", [case], settings, lambda: ({"boxes": self._detect(case)}, {}))
            self._boxes[case] = found[0]["boxes"]
        return self._boxes[case]

    def boxes(self, case, source):
        """The boxes of a case from the source "detector", or "out-of-fold" for a training scan."""
        return self.detect(case) if source == "detector" else self._out_of_fold[0][case.name][0]

    def threshold(self, case, source):
        """The score from which `boxes` count; the detector of each fold has its own."""
        return self.proposals.threshold if source == "detector" else self._out_of_fold[0][case.name][1]

    def _detect(self, case):
        return detect(self.detector, case.slices, self.proposals)[0]

    def _kept(self, name, cases, settings, find):
        """What ``find()`` says of cases, (tensors, facts); read back where the same detector has said it before.

        `settings` is what else decides it, anything that JSON holds.
        """
        if not self.shared:
            return find()
        known = *(case.identity for case in cases), *self.detector.state_dict().values(), json.dumps(settings)
        asked = digest(*known)
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
        in the wrong place) are controls. ``person``: those of a simulated person; and the names of
        `segdet.experiments.perturb.DOSES`, the annotation's boxes made worse.
        """
        return {
            "detector": lambda case: self._painted(self.boxes(case, "detector")),
            "out-of-fold": lambda case: self._painted(self.boxes(case, "out-of-fold")),
            "box3d": lambda case: box3d_mask(case.mask),
            "box3d-detector": lambda case: box3d_mask(self.attention(case, "detector")),
            "slicebox": lambda case: self.grids.attention_to_segmenter(slice_box_mask(case.slice_mask)),
            "ones": lambda case: np.ones_like(case.mask),
            "shifted": lambda case: shifted(self.attention(case, "slicebox"), case.number),
            "person": lambda case: self._painted(self.person(case, *PERSON)[0]),
            **{name: lambda case, name=name: self._painted(self.spoilt(case, name)) for name in DOSES},
        }

    def spoilt(self, case, dose):
        """The annotation's boxes of a case, made worse by the dose of that name, (D, M + 1, 4)."""
        return torch.from_numpy(spoil(case.boxes.numpy(), case.slices.shape[1:], DOSES[dose], case.number))

    def person(self, case, level, every):
        """What a simulated person paints on a case, see `segdet.experiments.person.paint`: boxes (D, 1, 4), slices."""
        spacing = self.grids.spacing(self.grids.detector_shape)
        seen = self._seen.setdefault(case, {})
        if level not in seen:
            seen[level] = seen_by(PERSONS[level], case.slice_mask, spacing, case.number)
        boxes, painted = paint(PERSONS[level], seen[level], spacing, every, case.number)
        return torch.from_numpy(boxes), painted

    def attention(self, case, source):
        """The attention volume of a case on the segmenter's grid, bool (d, h, w).

        From the source "none" it is None, and in protocol 2 empty, so that every arm has the same two channels.
        """
        if source == "none":
            return None if self.plan.protocol == 1 else np.zeros_like(case.mask)
        known = self._attention.setdefault(case, {})
        if source not in known:
            known[source] = self.sources[source](case)
        return known[source]

    def _painted(self, boxes):
        return self.grids.attention_to_segmenter(boxes_to_mask(boxes, self.plan.profile.detector_shape).numpy())

    @property
    def out_of_fold_histories(self):
        """How the trainings of the detectors for boxes "out-of-fold" went."""
        return self._out_of_fold[1]

    @cached_property
    def _out_of_fold(self):
        """The boxes of every training scan from one of `OUT_OF_FOLD` detectors, trained on the other folds' scans.

        Boxes and their threshold by the name of the scan, and the `History` of every detector.
        """
        found, histories, folds = {}, [], min(OUT_OF_FOLD, len(self.train))
        for fold in range(folds):
            rest = [case for number, case in enumerate(self.train) if number % folds != fold]
            detector, history = self._trained_detector(rest, f"{self.condition}-fold{fold}")
            histories.append(history)
            proposals = choose_threshold(detector, self.validation, self.vote)
            for case in self.train[fold::folds]:
                found[case.name] = detect(detector, case.slices, proposals)[0], proposals.threshold
        return found, histories

    def segmenter(self, arm):
        """Train an arm's segmenter, or read it back: (UNet3D, History)."""
        arm, found = self.arm(arm), None
        if {arm.train, arm.test} & DETECTED:
            found = f"{arm.train} and {arm.test} of detector {self.detector_history.identity}"
        probed = self.test[: PROBED * (self.plan.protocol == 2)]

        def on_test_scans(segmenter):
            return float(np.mean([metrics.iou(self.predict(segmenter, arm.name, c), c.mask) for c in probed]))

        return train_segmenter(
            [(c, self.attention(c, arm.train)) for c in self.train],
            [(c, self.attention(c, arm.test)) for c in self.validation],
            self.plan.profile,
            self.seed,
            margin=arm.margin,
            network=self.network,
            attention=found,
            recipe=segmenter_recipe(arm, self.plan.protocol),
            watch=on_test_scans if probed else None,
            checkpoint=self.checkpoint(arm.name),
            **self._fitting,
        )

    def arm(self, name):
        """The `Arm` of that name in the plan's protocol."""
        return arms_of(self.plan.protocol)[name]

    def probability(self, segmenter, arm, case, attention=None):
        """An arm's probability on the segmenter's grid, float32 (d, h, w), with its own attention or another."""
        arm = self.arm(arm)
        attention = self.attention(case, arm.test) if attention is None else attention
        region = attended_region(attention, case.spacing, arm.margin)
        shown = segmenter_recipe(arm, self.plan.protocol).shown(attention)
        return segment(segmenter, case.image, shown, region)

    def predict(self, segmenter, arm, case):
        """An arm's mask of a case on the segmenter's grid, bool (d, h, w)."""
        return self.probability(segmenter, arm, case) >= 0.5

    def score(self, segmenter, arm, case):
        """An arm's metrics on a test scan: in protocol 1 on the segmenter's grid, in protocol 2 on the scan's own."""
        probability = self.probability(segmenter, arm, case)
        if self.plan.protocol == 1:
            return score_mask(probability >= 0.5, case)
        return score_scan(probability, case, self.attention(case, self.arm(arm).test))

    def cascade(self):
        """The trained `Cascade`, for scans of any grid."""
        return Cascade(self.detector, self.segmenter("cascade")[0], self.grids, self.proposals)
