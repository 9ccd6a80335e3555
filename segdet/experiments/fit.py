"""Train a cascade for use: what `segdet fit` does (chapter 09)."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..cascade import Cascade
from ..errors import SegdetError
from ..io.dataset import folder_pairs
from ..metrics import score_boxes
from ..runtime import distributed
from ..runtime.atomic import locked, remove_leftovers, write_text
from ..runtime.device import default_device
from ..training.checkpoint import shares_done
from ..unet3d import UNet3D
from .config import ARMS, Plan
from .cost import work_of_a_study
from .runs import Run


def fit_cascade(
    profile, seed, out, *, data="phantom", label=None, preset=None, crop=False, checkpointing=False, compiled=False,
    resume=False, report=print, foretell=None,
):  # fmt: skip
    """Train a `Cascade` and save it to the folder `out`; returns its mean IoU on the validation scans.

    No other process can train in the same folder meanwhile.

    Parameters
    ----------
    profile : Profile
    seed : int
    out : path
    data, label, preset
        As in `Plan`.
    crop : bool
        Train the arm cascade-crop instead of cascade.
    checkpointing : bool
        See `UNet3D`.
    compiled : bool
        The segmenter goes through `torch.compile`.
    resume : bool
        Go on with a training of the same settings in `out`.
    report : callable
        Takes a line of progress.
    foretell : callable, optional
        As in `run_study`.
    """
    out, arm = Path(out), "cascade-crop" if crop else "cascade"
    this = {"profile": profile.name, "seed": seed, "data": str(data), "label": label, "preset": preset, "arm": arm}
    if compiled:
        _check_compiler(checkpointing)
    first = distributed.processes()[0] == 0
    report = report if first else lambda line: None

    def network(channels):
        segmenter = UNet3D(channels, 2, profile.base_channels, checkpointing=checkpointing)
        if compiled:
            segmenter.compile()
        return segmenter

    with locked(out) if first else nullcontext():
        begun = _check_begun(out, this, resume)
        there = 0 if data == "phantom" else len(folder_pairs(data))  # is there something to train on?
        if foretell and first:
            foretell(
                lambda p: work_of_a_study(replace(p, test=0), 1, 1, data == "phantom"),
                shares_done(out, {seed: [arm]}, profile),
            )
        used = replace(profile, test=0) if data == "phantom" else profile  # no hip is simulated to be left aside
        run = Run(Plan(used, (arm,), data, label, preset), seed, out, log=out / "logs", network=network)
        distributed.wait()  # until every process has looked at the folder
        if first:
            remove_leftovers(out)
            write_text(begun, json.dumps(this) + "\n")
        score = _train_both(run, arm, report, there)
        if first:
            for name in ("detector", arm):
                (out / f"{seed}-{name}.safetensors").unlink(missing_ok=True)
            begun.unlink()
    return score


def _check_compiler(checkpointing):
    """Refuse --compile where it fails, before the detector is trained."""
    if checkpointing:
        raise SegdetError("--checkpointing and --compile do not go together; leave out one of them")
    try:
        torch.compile(torch.relu)(torch.ones(1, device=default_device()))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise SegdetError(f"--compile does not work here ({reason}); leave it out") from error


def _check_begun(out, this, resume):
    """Refuse a folder that holds anything but a training with these settings; returns where they are written."""
    begun = out / "training.json"
    if (out / "cascade.json").exists():
        raise SegdetError(f"{out}: holds a finished model; name another --out")
    if begun.exists():
        held = begun.read_text().strip()
        if not resume:
            raise SegdetError(
                f"{out}: holds a training that was interrupted or is running; add --resume to go on with it"
            )
        if held != json.dumps(this):
            raise SegdetError(f"{out}: holds a training with {held}; use the same, or another --out")
    elif out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise SegdetError(f"{out}: holds files of something else; name a new folder as --out")
    return begun


def _train_both(run, arm, report, there):
    """Train the networks of a `Run` and save them to its folder; returns the IoU on the validation scans.

    `there` is how many scans the folder holds that those of the run are from.
    """
    parts = len(run.train), len(run.validation), len(run.test)
    of, more = "", ""
    if there > sum(parts):
        of, more = f" of {there}", f"; the profile {run.plan.profile.name} takes no more, and the seed chooses which"
    report(f"{sum(parts)}{of} scans: {parts[0]} to train, {parts[1]} to select, {parts[2]} left aside{more}")
    report(f"detector: {len(run.train)} scans, {run.plan.profile.detector_steps} steps")
    found = np.nanmean([score_boxes(run.detect(c), c.boxes)["box_iou"] for c in run.validation])
    report(f"detector: box IoU on the validation scans {found:.3f}")
    report(f"segmenter: {run.plan.profile.segmenter_steps} steps")
    segmenter, history = run.segmenter(arm)
    distributed.wait()  # until every process has read the checkpoints that go now
    if distributed.processes()[0] == 0:
        Cascade(run.detector, segmenter, run.grids, run.proposals, ARMS[arm].margin).save(run.checkpoints)
    return max(value for _, value in history.validation)
