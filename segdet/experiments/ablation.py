"""Run the ablation: every arm of Table 1 over seeds x splits, resumable, into a `Study` (chapter 10)."""

import time
from dataclasses import asdict, replace
from pathlib import Path

from ..attention import coverage_and_leakage
from ..errors import SegdetError
from ..metrics import iou, score_boxes
from ..phantom import acoustics
from ..phantom.hip2 import chain
from ..runtime.device import default_device
from ..runtime.provenance import environment
from ..training.checkpoint import forget
from .cluster import on_cluster
from .config import ARMS
from .cost import work_of_a_study
from .runs import DETECTED, Run, score_mask
from .study import Study


def run_seed(plan, seed, checkpoints=None, deadline=None):
    """Train and test the arms of one seed; yields (table, rows) of a `Study` as they are ready.

    Parameters
    ----------
    plan : Plan
    seed : int
    checkpoints : path, optional
        A folder from which an interrupted run goes on.
    deadline : float, optional
        As in `segdet.training.loop.fit`.
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
        definition = {key: getattr(ARMS[arm], key) for key in ("train", "test", "margin")}
        yield "runs", [names | {"best_step": history.best_step, "seconds": seconds} | definition | made_by]
        yield (
            "cases",
            [names | {"case": case.name} | score_mask(run.predict(segmenter, arm, case), case) for case in run.test],
        )


def phantom_version(plan):
    """Which simulated hips a plan asks for, for the manifest; None where the scans are a folder's."""
    if plan.data != "phantom":
        return None
    return f"{chain.VERSION}, {plan.preset}" if plan.preset else acoustics.VERSION


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


def _loss_rows(seed, arm, history):
    """The loss averaged over windows of ten steps, a row each."""
    curve = history.curve()
    whole = len(curve) // 10 * 10
    means = curve[:whole].reshape(-1, 10).mean(1)
    return [{"seed": seed, "arm": arm, "step": 10 * (i + 1), "loss": float(m)} for i, m in enumerate(means)]


def run_study(plan, seeds, out, *, resume=False, max_minutes=None, scheduler=None, report=print, foretell=None):
    """Fill a `Study` with every seed of a plan.

    Parameters
    ----------
    seeds : iterable of int
    out : path
        The study's folder, results/NAME.
    resume, max_minutes, report
        As in `segdet.experiments.study.Study.fill`, whose answer is returned.
    scheduler : str, optional
        Address of a dask scheduler whose workers run the seeds; "local" starts one here.
    foretell : callable, optional
        ``foretell(work)`` is called before the work; ``work(profile)`` is the `segdet.experiments.cost.Work` that is
        left.
    """
    if scheduler and max_minutes is not None:
        raise SegdetError("--max-minutes stops a study on this machine; leave it out with --scheduler")
    study = Study(out)
    data = "phantom" if plan.data == "phantom" else Path(plan.data).name
    fixed = {
        "profile": plan.profile.name,
        "settings": asdict(plan.profile),
        "data": data if plan.label is None else f"{data}, label {plan.label}",
        "phantom_version": phantom_version(plan),
    }

    def runs(checkpoints, deadline):
        todo = {s: tuple(a for a in plan.arms if not study.done(s, a)) for s in seeds}
        plans = {s: replace(plan, arms=arms) for s, arms in todo.items() if arms}
        if scheduler:
            yield from on_cluster(plans, scheduler, checkpoints, report, run_seed)
            return
        if foretell and plans:
            each = sum(len(left.arms) for left in plans.values()) / len(plans)
            foretell(lambda profile: work_of_a_study(profile, each, len(plans), plan.data == "phantom"))
        for seed, left in plans.items():
            yield from run_seed(left, seed, checkpoints, deadline)
            forget(checkpoints, seed)

    return study.fill(fixed, runs, resume=resume, max_minutes=max_minutes, report=report)
