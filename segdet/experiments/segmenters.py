"""What each open choice of the 3D U-Net costs or gains: one changed at a time, over seeds (chapter 07)."""

from dataclasses import dataclass, replace
from functools import partial

from .. import metrics
from ..runtime.device import default_device
from ..runtime.provenance import environment
from ..training.checkpoint import shares_done
from ..training.recipes import SegmenterRecipe
from ..training.segmenter import train_segmenter
from ..unet3d import UNet3D
from .ablation import fixed_facts
from .cases import renormalised
from .config import Plan, check_names
from .cost import work_of_a_study
from .protocol import BEST
from .runs import Run
from .scores import on_own_grid
from .study import Study, lacking

MIRRORED = SegmenterRecipe(mirrored=True)


@dataclass(frozen=True)
class SegmenterVariant:
    """One reading of the paper; the defaults are the book's.

    Attributes
    ----------
    row : str
        Of the ledger.
    title : str
    width : float
        Times the profile's base channels.
    depth : int
    how : str
        Of the voxels that it sees: ``"zscore"``, or ``"unit"`` as the detector's slices.
    recipe : SegmenterRecipe
        How it is trained, and its normalisation.
    """

    row: str
    title: str
    width: float = 1.0
    depth: int = 3
    how: str = "zscore"
    recipe: SegmenterRecipe = MIRRORED


VARIANTS = {
    "unet": SegmenterVariant("", "the book's: batch normalisation, three poolings, mean 0 and deviation 1"),
    "no-norm": SegmenterVariant("B9", "no normalisation between layers", recipe=replace(MIRRORED, norm="none")),
    "instance": SegmenterVariant("B9", "instance normalisation", recipe=replace(MIRRORED, norm=BEST.norm)),
    "group": SegmenterVariant("B9", "group normalisation", recipe=replace(MIRRORED, norm="group")),
    "narrow": SegmenterVariant("B9", "half as wide", width=0.5),
    "wide": SegmenterVariant("B9", "twice as wide", width=2.0),
    "shallow": SegmenterVariant("B9", "two poolings", depth=2),
    "unit": SegmenterVariant("B16", "grey between percentiles, in [0, 1]", how="unit"),
    # What `segdet.experiments.protocol.BEST` adds, beside instance normalisation:
    "varied": SegmenterVariant(
        "B14", "scans varied in grey and size", recipe=replace(MIRRORED, gain=BEST.gain, zoom=BEST.zoom)
    ),
    "long": SegmenterVariant("A13", "four times the steps", recipe=replace(MIRRORED, effort=BEST.effort)),
}


def run_segmenters(
    profile, seeds, out, names=None, preset=None, *, resume=False, max_minutes=None, report=print, foretell=None
):
    """Fill the table ``cases`` of a `Study`: a row a (seed, variant, test scan), on terms of protocol 2.

    ``iou`` is on the scan's own grid, ``grid_iou`` on the segmenter's (`facts` A15).

    Parameters
    ----------
    profile : Profile
    seeds : iterable of int
    out : path
    names : sequence of str, optional
        Keys of `VARIANTS`; all by default.
    preset : str, optional
        As in `Plan`.
    resume, max_minutes, report
        As in `segdet.experiments.study.Study.fill`, whose answer is returned.
    foretell
        As in `segdet.experiments.ablation.run_study`.

    Raises
    ------
    SegdetError
        There is no such variant, or as `segdet.experiments.protocol.check_terms` and `Study.fill`.
    """
    names = tuple(dict.fromkeys(VARIANTS if names is None else names))
    check_names(names or [""], VARIANTS, "variant")
    plan, study = Plan(profile, (), preset=preset, protocol=2), Study(out)
    fixed = fixed_facts("segmenters", plan, seeds)

    def runs(checkpoints, deadline):
        left = lacking(seeds, names, study.done())
        if foretell and left:
            every = [VARIANTS[name] for todo in left.values() for name in todo]
            efforts = sum(variant.recipe.effort for variant in every)
            foretell(
                lambda p: replace(
                    work_of_a_study(p, len(every) / len(left), len(left), detectors=0), segmenters=efforts
                ),
                shares_done(checkpoints, left, profile),
            )
        for seed, todo in left.items():
            run = Run(plan, seed, checkpoints, deadline)
            for name in todo:
                yield from _run_variant(run, name, deadline)

    return study.fill(fixed, runs, resume=resume, max_minutes=max_minutes, report=report)


def _run_variant(run, name, deadline):
    """Train and test a variant on a run's scans; yields (table, rows) as they are ready."""
    variant, made_by = VARIANTS[name], environment(default_device())

    def shown(cases):
        return cases if variant.how == "zscore" else [renormalised(case, "image", variant.how) for case in cases]

    segmenter, history = train_segmenter(
        *([(case, run.attention(case, "none")) for case in shown(part)] for part in (run.train, run.validation)),
        run.plan.profile,
        run.seed,
        network=partial(_network, variant, run.plan.profile.base_channels),
        recipe=variant.recipe,
        checkpoint=run.checkpoint(name),
        deadline=deadline,
    )
    rows = []
    for case in shown(run.test):
        probability = run.probability(segmenter, "unet", case)
        row = {"seed": run.seed, "arm": name, "case": case.name}
        row |= {"iou": metrics.iou(on_own_grid(probability, case), case.annotation)}
        rows.append(row | {"grid_iou": metrics.iou(probability >= 0.5, case.mask), "commit": made_by["commit"]})
    made = {"best_step": history.best_step, "seconds": round(history.seconds, 1)}
    yield "runs", [{"seed": run.seed, "arm": name} | made | made_by]
    yield "cases", rows  # last, for a variant whose cases are there is done


def _network(variant, base_channels, channels):
    return UNet3D(channels, 2, round(base_channels * variant.width), variant.depth, variant.recipe.norm)
