"""Both networks trained anew where the contrast, the noise or the look-alikes are those of the test (chapter 11)."""

from dataclasses import replace

from ..runtime.device import default_device
from ..runtime.provenance import environment
from ..training.checkpoint import forget, shares_done
from .ablation import fixed_facts
from .config import PROBED, Plan
from .cost import work_of_a_study
from .probes import DIALS, dial_row, dial_rows
from .runs import Run
from .study import Study

NETWORKS = "unet", "cascade"
UNTURNED = "no dial", ""  # turned: the scans that hips have by themselves


def run_dials(profile, seeds, out, preset=None, *, resume=False, max_minutes=None, report=print, foretell=None):
    """Fill the table ``dials`` of a `Study`: a row a (seed, network, dial, value, test scan), on terms of protocol 2.

    ``unet`` and ``cascade`` are trained once a seed and meet the dials in the test alone. ``unet-alike`` and
    ``cascade-alike`` are trained for every value of a dial, detector and all, on scans for which it was turned as for
    those of the test. A test scan is the same for all four.

    Parameters
    ----------
    profile : Profile
        Its first `PROBED` test scans are used.
    seeds : iterable of int
    out : path
    preset : str, optional
        As in `Plan`.
    resume, max_minutes, report
        As in `segdet.experiments.study.Study.fill`, whose answer is returned.
    foretell
        As in `segdet.experiments.ablation.run_study`.

    Raises
    ------
    SegdetError
        As `segdet.experiments.protocol.check_terms` and `Study.fill`.
    """
    profile = replace(profile, test=min(PROBED, profile.test))
    plan, study = Plan(profile, NETWORKS, preset=preset, protocol=2), Study(out)
    fixed = fixed_facts("dials", plan, seeds)
    levels = [UNTURNED, *((dial, value) for dial, values in DIALS.items() for value in values)]

    def runs(checkpoints, deadline):
        done = {(run["seed"], run["part"], run["step"]) for run in study.table("runs") if run["arm"] == NETWORKS[-1]}
        left = [(seed, level) for seed in seeds for level in levels if (seed, *level) not in done]
        if foretell and left:
            begun = shares_done(checkpoints, {left[0][0]: NETWORKS}, profile)
            foretell(lambda p: work_of_a_study(replace(p, test=profile.test), len(NETWORKS), len(left)), begun)
        for seed, level in left:
            turned = replace(plan, dial=None if level == UNTURNED else level)
            yield from _run_level(Run(turned, seed, checkpoints, deadline), level, report)

    return study.fill(fixed, runs, resume=resume, max_minutes=max_minutes, report=report)


def _run_level(run, level, report):
    """Train detector and networks on a run's scans; yields (table, rows) as they are ready."""
    names, made_by = {"seed": run.seed, "part": level[0], "step": level[1]}, environment(default_device())
    made = [names | {"arm": run.condition, "seconds": round(run.detector_history.seconds, 1)} | made_by]
    for arm in NETWORKS:
        segmenter, history = run.segmenter(arm)
        if level == UNTURNED:
            rows = dial_rows(run, arm, segmenter)
        else:
            rows = [dial_row(run, arm, segmenter, case, *level) | {"arm": f"{arm}-alike"} for case in run.test]
        yield "dials", [row | {"commit": made_by["commit"]} for row in rows]
        mean = sum(row["iou"] for row in rows) / len(rows)
        report(f"seed {run.seed}  {arm:<8} trained with {' '.join(map(str, level)).strip()}: mean IoU {mean:.3f}")
        made.append(names | {"arm": arm, "seconds": round(history.seconds, 1)} | made_by)
    forget(run.checkpoints, run.seed)
    yield "runs", made  # last: a level whose runs are there is done
