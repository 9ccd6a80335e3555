"""Run the ablation: every arm of Table 1 over seeds x splits, resumable, into a `Study` (chapter 10)."""

from dataclasses import asdict, replace
from pathlib import Path

from ..errors import SegdetError
from ..io.dataset import folder_pairs, names_and_contents
from ..metrics import score_boxes
from ..phantom import acoustics
from ..phantom.hip2 import chain
from ..runtime.device import default_device
from ..runtime.provenance import environment
from ..runtime.tensors import digest
from ..training.checkpoint import forget_arms, shares_done
from .cases import prepared_split
from .cluster import on_cluster, trains_here
from .planning import work_left
from .probes import PROBES
from .protocol import arms_of, check_terms, stages_of
from .runs import DETECTED, Run
from .scores import describe_scan, score_attention
from .study import Study, lacking


def run_seed(plan, seed, checkpoints=None, deadline=None):
    """Train and test the arms of one seed; yields (table, rows) of a `Study` as they are ready.

    In protocol 2 the arms of one detector are run together, each detector with slices of its own.

    Parameters
    ----------
    plan : Plan
    seed : int
    checkpoints : path, optional
        A folder from which an interrupted run goes on.
    deadline : float, optional
        As in `segdet.training.loop.fit`.
    """
    if plan.protocol == 1:
        yield from _run_arms(Run(plan, seed, checkpoints, deadline), plan.arms)
        return
    arms, split, groups = arms_of(plan.protocol), prepared_split(plan, seed), {}
    yield "scans", [{"seed": seed, "case": case.name} | describe_scan(case) for case in split[-1]]
    for name in plan.arms:
        groups.setdefault((arms[name].detector, arms[name].finer), []).append(name)
    for (detector, finer), names in groups.items():
        run = Run(plan, seed, checkpoints, deadline, detector=detector, finer=finer, split=split)
        yield from _run_arms(run, names)


def _run_arms(run, arms):
    """The rows of a run's detector, where an arm looks at it, and of its arms."""
    seed, made_by = run.seed, environment(default_device())
    commit = {"commit": made_by["commit"]}
    used = {source for arm in arms for source in (run.arm(arm).train, run.arm(arm).test)} & DETECTED
    if used:
        history = run.detector_history
        names = {"seed": seed, "arm": run.condition, "best_step": history.best_step}
        yield "runs", [names | {"seconds": round(history.seconds, 1)} | made_by]
        yield "loss", _loss_rows(seed, run.condition, history)
        if "out-of-fold" in used:
            together = sum(each.seconds for each in run.out_of_fold_histories)
            yield "runs", [{"seed": seed, "arm": "out-of-fold", "seconds": round(together, 1)} | made_by]
        sources = [("train", "detector"), ("test", "detector")]
        sources += [("train", "out-of-fold")] if run.plan.protocol == 2 and "out-of-fold" in used else []
        rows = [_score_detector(run, *which, case) | commit for which in sources for case in getattr(run, which[0])]
        yield "detector", rows
    for arm in arms:
        segmenter, history = run.segmenter(arm)
        names = {"seed": seed, "arm": arm}
        yield "loss", _loss_rows(seed, arm, history)
        yield "curves", _curve_rows(seed, arm, history)
        definition = {key: getattr(run.arm(arm), key) for key in ("train", "test", "margin")}
        made = {"best_step": history.best_step, "seconds": round(history.seconds, 1)}
        yield "runs", [names | made | definition | made_by]
        if run.plan.protocol == 2 and arm in PROBES:
            table, rows = PROBES[arm]
            yield table, [row | commit for row in rows(run, arm, segmenter)]
        cases = [names | {"case": case.name} | run.score(segmenter, arm, case) | commit for case in run.test]
        yield "cases", cases  # last, for an arm whose cases are there is done


def phantom_version(plan):
    """Which simulated hips a plan asks for, for the manifest; None where the scans are a folder's."""
    if plan.data != "phantom":
        return None
    return f"{chain.VERSION}, {plan.preset}" if plan.preset else acoustics.VERSION


def fixed_facts(study, plan, seeds):
    """What makes a study of a plan this one and no other, for `Study.fill`; `study` says of what kind it is.

    Raises
    ------
    SegdetError
        As `segdet.experiments.protocol.check_terms`.
    """
    data = "phantom" if plan.data == "phantom" else Path(plan.data).resolve().name
    fixed = {
        "study": study,
        "protocol": plan.protocol,
        "profile": plan.profile.name,
        "settings": asdict(plan.profile),
        "data": data if plan.label is None else f"{data}, label {plan.label}",
        "phantom_version": phantom_version(plan),
    }
    if plan.data != "phantom":
        fixed["scans"] = digest(*names_and_contents(folder_pairs(plan.data)))
    if plan.protocol != 1:
        fixed["kind"] = check_terms(plan, seeds)
    return fixed


def _score_detector(run, part, source, case):
    """How good the detector's boxes of a case are, or those of the fold's detector that has not seen it."""
    names = {"seed": run.seed, "part": part, "case": case.name}
    if run.plan.protocol == 2:
        names |= {"arm": run.condition if source == "detector" else source}
    attention, boxes = run.attention(case, source), run.boxes(case, source)
    found = score_boxes(boxes, case.boxes) | score_attention(attention, case.mask)
    made_by = {"threshold": run.threshold(case, source), "initial_weights": run.detector.initial_weights}
    return names | found | made_by


def _loss_rows(seed, arm, history):
    """The loss averaged over windows of ten steps, a row each."""
    curve = history.curve()
    whole = len(curve) // 10 * 10
    means = curve[:whole].reshape(-1, 10).mean(1)
    return [{"seed": seed, "arm": arm, "step": 10 * (i + 1), "loss": float(m)} for i, m in enumerate(means)]


def _curve_rows(seed, arm, history):
    """Validation and test IoU where both were looked at (`facts` B12), a row a step."""
    both = zip(history.validation, history.watched, strict=False)
    return [{"seed": seed, "arm": arm, "step": step, "validation": v, "test": t} for (step, v), (_, t) in both]


def run_study(plan, seeds, out, *, resume=False, max_minutes=None, scheduler=None, report=print, foretell=None):
    """Fill a `Study` with every seed of a plan.

    Parameters
    ----------
    plan : Plan
    seeds : iterable of int
    out : path
        The study's folder, results/NAME.
    resume, max_minutes, report
        As in `segdet.experiments.study.Study.fill`, whose answer is returned.
    scheduler : str, optional
        Address of a dask scheduler whose workers run the seeds; "local" starts one here.
    foretell : callable, optional
        ``foretell(work, done)`` is called before the work; ``work(profile)`` is the `segdet.experiments.cost.Work` of
        the rows that are missing, of which the interrupted trainings have `done` behind them
        (`segdet.training.checkpoint.shares_done`).

    Raises
    ------
    SegdetError
        A deadline for workers elsewhere, seeds that protocol 2 does not allow, or as `Study.fill`.
    """
    if scheduler and max_minutes is not None:
        raise SegdetError("--max-minutes stops a study on this machine; leave it out with --scheduler")
    study, fixed = Study(out), fixed_facts("ablation", plan, seeds)

    def runs(checkpoints, deadline):
        stages = [_left(study, plan, arms, seeds) for arms in stages_of(plan)]
        if foretell and any(stages) and trains_here(scheduler):
            arms = {seed: [a for plans in stages if seed in plans for a in plans[seed].arms] for seed in seeds}
            foretell(
                lambda profile: work_left(replace(plan, profile=profile), arms),
                shares_done(checkpoints, arms, plan.profile),
            )
        for number, plans in enumerate(stages):
            needed = set().union(*stages[number + 1 :])  # seeds whose detector a later stage asks for
            if scheduler:
                yield from on_cluster(plans, scheduler, checkpoints, report, run_seed, needed)
                continue
            for seed, left in plans.items():
                yield from run_seed(left, seed, checkpoints, deadline)
                forget_arms(checkpoints, seed, left.arms, seed in needed)

    return study.fill(fixed, runs, resume=resume, max_minutes=max_minutes, report=report)


def _left(study, plan, arms, seeds):
    """From a seed to the plan of those of the arms that it still lacks."""
    return {seed: replace(plan, arms=tuple(left)) for seed, left in lacking(seeds, arms, study.done()).items()}
