"""What a study costs before it begins: trainings, operations, time, memory (`segdet plan`, page "On a GPU")."""

from ..runtime.device import default_device
from ..runtime.progress import in_words
from .config import ARMS, PROBED
from .cost import Work, measure, work_of_a_study
from .memory import available_gib, predicted
from .probes import DIALS
from .protocol import arms_of, segmenter_recipe
from .runs import DETECTED, OUT_OF_FOLD

UNITS = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP")


def cells(profile, arms, seeds):
    """The parts of a study: a dict of `Work`, the detector with the scans and then an arm each.

    A cropped arm is counted as if it saw the whole scan: how much it sees depends on the boxes.
    """
    found = {"detector": work_of_a_study(profile, 0, seeds, detectors=len(_feeding(arms, ARMS)))}
    for arm in arms:
        folds = OUT_OF_FOLD * seeds * _has_folds([arm], ARMS)
        found[arm] = Work(detectors=folds, segmenters=seeds, volumes=seeds * profile.test)
    return found


def _feeding(names, known):
    """The detectors that feed arms, each trained once a seed."""
    return {(known[n].detector, known[n].finer) for n in names if {known[n].train, known[n].test} & DETECTED}


def _has_folds(names, known):
    """Whether an arm needs the detectors that have not seen a fold of the training scans."""
    return any(known[name].train == "out-of-fold" for name in names)


def work_left(plan, arms):
    """What is left of a study, as `Work`.

    Parameters
    ----------
    plan : Plan
    arms : dict
        From a seed to the names of the arms that it still lacks.
    """
    arms, profile, known = {seed: names for seed, names in arms.items() if names}, plan.profile, arms_of(plan.protocol)
    simulated = plan.data == "phantom"
    detectors = sum(len(_feeding(n, known)) + OUT_OF_FOLD * _has_folds(n, known) for n in arms.values())
    every = [name for names in arms.values() for name in names]
    if plan.protocol == 1:
        seeds = max(len(arms), 1)
        return work_of_a_study(profile, len(every) / seeds, len(arms), simulated, detectors / seeds)
    segmenters = sum(segmenter_recipe(known[name], 2).effort for name in every)
    scans = profile.train + profile.validation + profile.test
    probed = min(PROBED, profile.test)
    looks = segmenters * profile.segmenter_steps / profile.every * probed  # the curves of test IoU
    dialled = probed * sum(map(len, DIALS.values()))
    phantoms = len(arms) * scans + dialled * sum(not {"unet", "cascade"}.isdisjoint(names) for names in arms.values())
    return Work(
        detectors, segmenters, detectors * scans * profile.detector_shape[0], looks + len(every) * profile.test,
        phantoms * simulated,
    )  # fmt: skip


def plan_lines(profile, arms, seeds):
    """The plan of a study as lines of text, each as soon as it is known.

    Parameters
    ----------
    profile : Profile
    arms : sequence of str
        Names out of `ARMS`.
    seeds : int
    """
    device = default_device()
    needs = {part: need.gib(device) for part, need in predicted(profile).items()}
    yield f"{'training':<15} {'how often':>9} {'operations':>12} {'time here':>10} {'memory':>9}"
    speed, total, time = measure(profile), 0, 0
    for name, work in cells(profile, arms, seeds).items():
        flop, seconds = sum(work.operations(profile).values()), work.seconds(profile, speed)
        part = "detector" if name == "detector" else "segmenter"
        total, time = total + flop, time + seconds
        yield f"{name:<15} {seeds:>9} {in_flop(flop):>12} {in_words(seconds):>10} {needs[part]:>5.2f} GiB"
    yield f"{'all':<15} {'':>9} {in_flop(total):>12} {in_words(time):>10} {max(needs.values()):>5.2f} GiB"
    there = available_gib(device)
    if there is None:
        yield f"how much memory is left here ({device}) is not known"
    elif max(needs.values()) <= there:
        yield f"{there:.1f} GiB are available here ({device}): that suffices"
    else:
        less = max(need.gib(device) for need in predicted(profile, checkpointing=True).values())
        yield f"{there:.1f} GiB are available here ({device}): too little; `fit --checkpointing` needs {less:.1f} GiB"


def in_flop(operations):
    """A number of operations as text: 1.3 PFLOP."""
    power = 0
    while operations >= 1000 and power < len(UNITS) - 1:
        operations, power = operations / 1000, power + 1
    return f"{operations:.3g} {UNITS[power]}"
