"""Run the ablation: every arm of Table 1 over seeds x splits, resumable, into a `Study` (chapter 10)."""

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from . import phantom
from .attention import coverage_and_leakage
from .cascade import Cascade, segment
from .errors import SegdetError
from .experiment import (
    ARMS,
    Profile,
    attention_for,
    detect,
    folder_cases,
    folder_split,
    grids_for,
    phantom_split,
    prepare,
    score_boxes,
    score_mask,
    train_detector,
    train_segmenter,
)
from .results import Study, environment
from .training import OutOfTime, default_device


@dataclass(frozen=True)
class Plan:
    """What one seed of a study does; picklable, so that it can run on another machine.

    Attributes
    ----------
    profile : Profile
    arms : tuple of str
        Names out of `segdet.experiment.ARMS`.
    data : str
        "phantom", or a folder with images/ and labels/.
    label : int or None
        Which label of the annotation counts; None means every non-zero one.
    """

    profile: Profile
    arms: tuple[str, ...]
    data: str = "phantom"
    label: int | None = None


def run_seed(plan, seed, checkpoints=None, deadline=None):
    """Train and test the arms of one seed; yields (table, rows) as they are ready.

    Parameters
    ----------
    plan : Plan
    seed : int
        Decides the split, the initial weights and the order of the batches.
    checkpoints : path, optional
        A folder from which an interrupted run goes on.
    """
    profile = plan.profile
    split = _split(plan, seed)
    grids = grids_for(split[0], profile)
    train, validation, test = ([prepare(v, grids) for v in volumes] for volumes in split)

    def checkpoint(name):
        return Path(checkpoints) / f"{seed}-{name}.safetensors" if checkpoints else None

    detector, history = train_detector(
        train, validation, profile, seed, checkpoint=checkpoint("detector"), deadline=deadline
    )
    yield "loss", _loss_rows(seed, "detector", history)
    attention = {}
    for source in {s for a in plan.arms for s in (ARMS[a].train, ARMS[a].test)} | {"detector"}:
        for case in train + validation + test:
            attention[source, case.name] = attention_for(case, source, grids, detector)
    yield (
        "detector",
        [
            {"seed": seed, "part": part, "case": case.name}
            | _score_detector(case, attention["detector", case.name], detector)
            for part, cases in (("train", train), ("test", test))
            for case in cases
        ],
    )
    for arm in (ARMS[name] for name in plan.arms):
        start = time.monotonic()
        segmenter, history = train_segmenter(
            [(c, attention[arm.train, c.name]) for c in train],
            [(c, attention[arm.test, c.name]) for c in validation],
            profile,
            seed,
            checkpoint=checkpoint(arm.name),
            deadline=deadline,
        )
        yield "loss", _loss_rows(seed, arm.name, history)
        rows = []
        for case in test:
            seen = attention[arm.test, case.name]
            mask = segment(segmenter, case.image, seen) >= 0.5
            rows.append({"seed": seed, "arm": arm.name, "case": case.name} | score_mask(mask, case))
        yield (
            "runs",
            [{"seed": seed, "arm": arm.name, "best_step": history.best_step, "seconds": time.monotonic() - start}],
        )
        yield "cases", rows


def _split(plan, seed):
    if plan.data == "phantom":
        return phantom_split(plan.profile, seed)
    return folder_split(folder_cases(plan.data, plan.label), plan.profile, seed)


def _score_detector(case, attention, detector):
    coverage, leakage = coverage_and_leakage(attention, case.mask)
    boxes = score_boxes(detect(detector, case.slices), case.boxes)
    return boxes | {"mask_iou": score_mask(attention, case)["iou"], "coverage": coverage, "leakage": leakage}


def _loss_rows(seed, arm, history, window=10):
    """The loss averaged over windows of ten steps, a row each."""
    curve = history.curve()
    whole = len(curve) // window * window
    means = curve[:whole].reshape(-1, window).mean(1)
    return [{"seed": seed, "arm": arm, "step": (i + 1) * window, "loss": float(m)} for i, m in enumerate(means)]


def run_study(plan, seeds, out, *, resume=False, max_minutes=None, scheduler=None, report=print):
    """Fill a `Study` with every seed of a plan.

    Parameters
    ----------
    seeds : iterable of int
    out : path
        The study's folder, results/NAME.
    resume : bool
        Go on with a study that is there: what is complete is kept, what was interrupted continues.
    max_minutes : float, optional
        Stop after that time with everything saved.
    scheduler : str, optional
        Address of a dask scheduler whose workers run the seeds; "local" starts one here.

    Returns
    -------
    bool
        Whether the study is complete.
    """
    study = Study(out)
    if study.table("cases") and not resume:
        raise SegdetError(
            f"{out}: holds results already; add --resume to go on with them, or name another --out folder"
        )
    data = "phantom" if plan.data == "phantom" else Path(plan.data).name
    study.describe(
        profile=plan.profile.name,
        settings=asdict(plan.profile),
        data=data if plan.label is None else f"{data}, label {plan.label}",
        phantom_version=phantom.VERSION if plan.data == "phantom" else None,
    )
    deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    todo = {s: tuple(a for a in plan.arms if not study.done(s, a)) for s in seeds}
    todo = {s: arms for s, arms in todo.items() if arms}
    if scheduler:
        runs = _on_cluster(plan, todo, scheduler)
    else:
        runs = (
            (s, run_seed(_with_arms(plan, arms), s, study.folder / "checkpoints", deadline)) for s, arms in todo.items()
        )
    try:
        for seed, run in runs:
            known = any(row["seed"] == seed for row in study.table("detector"))
            for table, rows in run:
                if known and (table == "detector" or (table == "loss" and rows[0]["arm"] == "detector")):
                    continue
                study.add(table, rows)
                if table == "cases":
                    iou = np.array([r["iou"] for r in rows])
                    summary = f"IoU mean {iou.mean():.3f}, best {iou.max():.3f}, worst {iou.min():.3f}"
                    report(f"seed {seed}  {rows[0]['arm']:<10}  {summary}")
            for file in (study.folder / "checkpoints").glob(f"{seed}-*"):
                file.unlink()
    except OutOfTime:
        report(f"stopped after {max_minutes} minutes; go on with --resume")
        return False
    finally:
        study.describe(**environment(default_device()))
    shutil.rmtree(study.folder / "checkpoints", ignore_errors=True)
    return True


def _with_arms(plan, arms):
    return Plan(plan.profile, arms, plan.data, plan.label)


def _collect(plan, seed):
    return list(run_seed(plan, seed))


def _on_cluster(plan, todo, scheduler):
    """Yield (seed, rows) from dask workers as they finish."""
    from dask.distributed import Client, as_completed

    with Client() if scheduler == "local" else Client(scheduler) as client:
        futures = {client.submit(_collect, _with_arms(plan, arms), s, pure=False): s for s, arms in todo.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()


def fit_cascade(profile, seed, out, *, data="phantom", label=None, resume=False, report=print):
    """Train a `Cascade` and save it to the folder `out`; returns its mean IoU on the validation scans."""
    out = Path(out)
    if (out / "cascade.json").exists() or (list(out.glob("*.checkpoint")) and not resume):
        raise SegdetError(
            f"{out}: holds a model or an interrupted training; add --resume for the latter, or name another --out"
        )
    train, validation, _ = _split(Plan(profile, (), data, label), seed)
    grids = grids_for(train, profile)
    train, validation = ([prepare(v, grids) for v in volumes] for volumes in (train, validation))
    report(f"detector: {len(train)} scans, {profile.detector_steps} steps")
    detector, _ = train_detector(train, validation, profile, seed, checkpoint=out / "detector.checkpoint")
    with_attention = [[(c, attention_for(c, "detector", grids, detector)) for c in cs] for cs in (train, validation)]
    report(f"segmenter: {profile.segmenter_steps} steps")
    segmenter, history = train_segmenter(*with_attention, profile, seed, checkpoint=out / "segmenter.checkpoint")
    Cascade(detector, segmenter, grids).save(out)
    for file in out.glob("*.checkpoint"):
        file.unlink()
    return max(value for _, value in history.validation)
