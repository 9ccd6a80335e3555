"""Run the ablation: every arm of Table 1 over seeds x splits, resumable, into a `Study` (chapter 10)."""

import json
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from . import distributed
from .atomic import locked, remove_leftovers, write_text
from .attention import coverage_and_leakage
from .cascade import Cascade
from .checkpoint import forget
from .cluster import on_cluster
from .cost import work_of_a_study
from .detection import score_boxes
from .errors import SegdetError
from .experiment import ARMS, Plan
from .metrics import iou
from .phantom import VERSION
from .results import Study, environment
from .runs import DETECTED, Run, score_mask
from .training import default_device
from .unet3d import UNet3D


def run_seed(plan, seed, checkpoints=None, deadline=None):
    """Train and test the arms of one seed; yields (table, rows) of a `Study` as they are ready.

    Parameters
    ----------
    plan : Plan
    seed : int
    checkpoints : path, optional
        A folder from which an interrupted run goes on.
    deadline : float, optional
        As in `segdet.training.fit`.
    """
    run, made_by = Run(plan, seed, checkpoints, deadline), environment(default_device())
    if any(ARMS[arm].test in DETECTED for arm in plan.arms):
        parts = [(part, case) for part in ("train", "test") for case in getattr(run, part)]
        yield "loss", _loss_rows(seed, "detector", run.detector_history)
        yield "detector", [_score_detector(run, part, case) for part, case in parts]
    for arm in plan.arms:
        start = time.monotonic()
        segmenter, history = run.segmenter(arm)
        seconds = round(time.monotonic() - start, 1)
        yield "loss", _loss_rows(seed, arm, history)
        names = {"seed": seed, "arm": arm}
        yield "runs", [names | {"best_step": history.best_step, "seconds": seconds} | definition(arm) | made_by]
        yield (
            "cases",
            [names | {"case": case.name} | score_mask(run.predict(segmenter, arm, case), case) for case in run.test],
        )


def definition(arm):
    """What an arm of this name is, as a row of the table ``runs`` keeps it."""
    return {key: value for key, value in asdict(ARMS[arm]).items() if key in ("train", "test", "margin")}


def _score_detector(run, part, case):
    attention = run.attention(case, "detector")
    coverage, leakage = coverage_and_leakage(attention, case.mask)
    names = {"seed": run.seed, "part": part, "case": case.name}
    more = {
        "mask_iou": iou(attention, case.mask),
        "coverage": coverage,
        "leakage": leakage,
        "threshold": run.proposals.threshold,
        "initial_weights": run.detector.initial_weights,
    }
    return names | score_boxes(run.detect(case), case.boxes) | more


def _loss_rows(seed, arm, history, window=10):
    """The loss averaged over windows of ten steps, a row each."""
    curve = history.curve()
    whole = len(curve) // window * window
    means = curve[:whole].reshape(-1, window).mean(1)
    return [{"seed": seed, "arm": arm, "step": (i + 1) * window, "loss": float(m)} for i, m in enumerate(means)]


def run_study(plan, seeds, out, *, resume=False, max_minutes=None, scheduler=None, report=print, foretell=None):
    """Fill a `Study` with every seed of a plan.

    Parameters
    ----------
    seeds : iterable of int
    out : path
        The study's folder, results/NAME.
    resume, max_minutes, report
        As in `segdet.results.Study.fill`, whose answer is returned.
    scheduler : str, optional
        Address of a dask scheduler whose workers run the seeds; "local" starts one here.
    foretell : callable, optional
        ``foretell(work)`` is called before the work; ``work(profile)`` is the `segdet.cost.Work` that is left.
    """
    if scheduler and max_minutes is not None:
        raise SegdetError("--max-minutes stops a study on this machine; leave it out with --scheduler")
    study = Study(out)
    data = "phantom" if plan.data == "phantom" else Path(plan.data).name
    fixed = {
        "profile": plan.profile.name,
        "settings": asdict(plan.profile),
        "data": data if plan.label is None else f"{data}, label {plan.label}",
        "phantom_version": VERSION if plan.data == "phantom" else None,
    }

    def runs(checkpoints, deadline):
        todo = {s: tuple(a for a in plan.arms if not study.done(s, a)) for s in seeds}
        plans = {s: replace(plan, arms=arms) for s, arms in todo.items() if arms}
        if scheduler:
            yield from on_cluster(plans, scheduler, checkpoints, report)
            return
        if foretell and plans:
            each = sum(len(left.arms) for left in plans.values()) / len(plans)
            foretell(lambda profile: work_of_a_study(profile, each, len(plans), plan.data == "phantom"))
        for seed, left in plans.items():
            yield from run_seed(left, seed, checkpoints, deadline)
            forget(checkpoints, seed)

    return study.fill(fixed, runs, resume=resume, max_minutes=max_minutes, report=report)


def fit_cascade(
    profile, seed, out, *, data="phantom", label=None, crop=False, checkpointing=False, compiled=False, resume=False,
    report=print, foretell=None,
):  # fmt: skip
    """Train a `Cascade` and save it to the folder `out`; returns its mean IoU on the validation scans.

    No other process can train in the same folder meanwhile.

    Parameters
    ----------
    profile : Profile
    seed : int
    out : path
    data, label
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
    this = {"profile": profile.name, "seed": seed, "data": str(data), "label": label, "arm": arm}
    if checkpointing and compiled:
        raise SegdetError("--checkpointing and --compile do not go together; leave out one of them")
    if compiled:  # before the detector is trained
        try:
            torch.compile(torch.relu)(torch.ones(1, device=default_device()))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise SegdetError(f"--compile does not work here ({reason}); leave it out") from error
    first = distributed.processes()[0] == 0
    report = report if first else lambda line: None

    def network(channels):
        segmenter = UNet3D(channels, 2, profile.base_channels, checkpointing=checkpointing)
        if compiled:
            segmenter.compile()
        return segmenter

    with locked(out) if first else nullcontext():
        begun = _check_begun(out, this, resume)
        if foretell and first:
            foretell(lambda p: work_of_a_study(replace(p, test=0), 1, 1, data == "phantom"))
        used = replace(profile, test=0) if data == "phantom" else profile  # no hip is simulated to be left aside
        run = Run(Plan(used, (arm,), data, label), seed, out, log=out / "logs", network=network)
        distributed.wait()  # until every process has looked at the folder
        if first:
            remove_leftovers(out)
            write_text(begun, json.dumps(this) + "\n")
        score = _train_both(run, arm, report)
        if first:
            for name in ("detector", arm):
                (out / f"{seed}-{name}.safetensors").unlink(missing_ok=True)
            begun.unlink()
    return score


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


def _train_both(run, arm, report):
    """Train the networks of a `Run` and save them to its folder; returns the IoU on the validation scans."""
    used, spare = len(run.train) + len(run.validation), len(run.test)
    report(f"{used + spare} scans: {len(run.train)} to train, {len(run.validation)} to select, {spare} left aside")
    report(f"detector: {len(run.train)} scans, {run.plan.profile.detector_steps} steps")
    found = np.nanmean([score_boxes(run.detect(c), c.boxes)["box_iou"] for c in run.validation])
    report(f"detector: box IoU on the validation scans {found:.3f}")
    report(f"segmenter: {run.plan.profile.segmenter_steps} steps")
    segmenter, history = run.segmenter(arm)
    distributed.wait()  # until every process has read the checkpoints that go now
    if distributed.processes()[0] == 0:
        Cascade(run.detector, segmenter, run.grids, run.proposals, ARMS[arm].margin).save(run.checkpoints)
    return max(value for _, value in history.validation)
