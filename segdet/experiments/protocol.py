"""Protocol 2: its seeds, its arms, its terms, and what it refuses (the page "The protocol", chapter 10)."""

from dataclasses import replace

from ..errors import SegdetError
from ..runtime.provenance import uncommitted
from ..training.recipes import RECIPES, Recipe, SegmenterRecipe
from .cases import FOLDS
from .config import ARMS, Arm
from .detectors import LITERAL
from .perturb import DOSES

DEVELOPMENT = range(5)
CONFIRMATORY = range(100, 110)
REHEARSAL = range(110, 120)  # the same at the profile quick, whose seeds are not those of the study that decides
PRESET = "iu22"  # it decides on simulated hips of version 2, as the paper's scanner shows them
FROZEN = ("segdet", "book/protocol.md")  # what must be committed before a confirmatory row
STEPS = {"quick": 600, "laptop": 1200}  # of the segmenter, fixed on development seeds; else the profile's own
BEST = SegmenterRecipe(mirrored=True, gain=0.2, zoom=0.15, norm="instance", effort=4)

PRIMARY = {name: ARMS[name] for name in ("unet", "box3d", "cascade")}

SECONDARY = {
    a.name: a
    for a in (
        ARMS["slicebox"],
        Arm("person", "Boxes of a simulated person", "person", "person"),
        ARMS["box3d-detector"],
        ARMS["cascade-oof"],
        ARMS["cascade-crop"],
        Arm("crop", "Cropped, without the attention channel", "detector", "detector", 1.0, blind=True),
        Arm("cascade-literal", "Cascade, the detector to the letter", "detector", "detector", detector="literal"),
        Arm("cascade-plain", "Cascade, the plain detector", "detector", "detector", detector="plain"),
        Arm("cascade-random", "Cascade, no ImageNet weights", "detector", "detector", detector="random"),
        Arm("cascade-finer", "Cascade, the detector sees finer slices", "detector", "detector", finer=True),
        Arm("unet-best", "3D U-Net at its best", "none", "none", best=True),
        Arm("cascade-best", "Cascade at its best", "detector", "detector", detector="best", finer=True, best=True),
        *(Arm(name, f"Annotation boxes, {dose.title}", name, name) for name, dose in DOSES.items()),
    )
}


def arms_of(protocol):
    """The arms of a protocol, by name."""
    return ARMS if protocol == 1 else PRIMARY | SECONDARY


def detector_recipe(name, backbone):
    """How a detector of protocol 2 is trained, and whether its boxes vote: (Recipe, bool).

    All are mirrored and, but for "best", changed in no other way, as the segmenters are. "literal" is A8, A9 and B2 of
    the ledger to the letter, "plain" the plain one of chapter 05, "random" the book's without ImageNet weights.
    """
    book = replace(RECIPES[backbone], gain=0.0, zoom=0.0)
    found = {
        "book": book,
        "literal": Recipe(LITERAL, rate=0.001, cosine=False, backbone=backbone),
        "plain": Recipe(backbone=backbone),
        "random": replace(book, imagenet=False),
        "best": RECIPES[backbone],
    }
    return found[name], name not in ("literal", "plain")


def segmenter_recipe(arm, protocol):
    """How the segmenter of an `Arm` is trained."""
    if protocol == 1:
        return SegmenterRecipe()
    return replace(BEST if arm.best else SegmenterRecipe(mirrored=True), blind=arm.blind)


def with_steps(profile, steps=None):
    """The profile with so many steps of the segmenter; None means those that were chosen for it."""
    steps = steps or STEPS.get(profile.name, profile.segmenter_steps)
    return replace(profile, segmenter_steps=steps)


def stages_of(plan):
    """The plan's arms in the order in which they are run: those of a stage over all seeds, then the next."""
    if plan.protocol == 1:
        return [plan.arms]
    return [tuple(arm for arm in plan.arms if arm in group) for group in (PRIMARY, SECONDARY)]


def confirmatory_seeds(profile):
    """The seeds that confirm at a profile, by its name."""
    return REHEARSAL if profile == "quick" else CONFIRMATORY


def chosen_seeds(profile, count=None, development=False):
    """The first seeds of the one kind or the other at a profile, by its name; None means all.

    Raises
    ------
    SegdetError
        There are not so many.
    """
    confirming = confirmatory_seeds(profile)
    kind, name = (DEVELOPMENT, "development") if development else (confirming, "confirmatory")
    count = len(kind) if count is None else count
    if not 1 <= count <= len(kind):
        raise SegdetError(f"protocol 2 has {len(kind)} {name} seeds, {kind[0]} to {kind[-1]}; found --seeds {count}")
    return kind[:count]


def check_terms(plan, seeds):
    """Which kind of study of protocol 2 this is: "development", "confirmatory" or, of a folder of scans, "folds".

    Raises
    ------
    SegdetError
        The seeds are of both kinds or of neither. Or the study is not for development and the protocol does not allow
        its rows: the hips are others, or what decides results is not committed.
    """
    seeds, confirming = set(seeds), confirmatory_seeds(plan.profile.name)
    if plan.data != "phantom":
        kind = "folds"
        if not seeds <= set(range(FOLDS)):
            raise SegdetError(f"protocol 2 has {FOLDS} folds of a folder of scans; found --seeds {len(seeds)}")
    elif seeds <= set(DEVELOPMENT):
        return "development"
    elif seeds <= set(confirming):
        kind = "confirmatory"
    else:
        raise SegdetError(
            f"protocol 2 has seeds {DEVELOPMENT[0]} to {DEVELOPMENT[-1]} for development and {confirming[0]} to "
            f"{confirming[-1]} to confirm, never both in one study; found {', '.join(map(str, sorted(seeds)))}"
        )
    if kind == "confirmatory" and plan.preset != PRESET:
        found = plan.preset or "version 1"
        raise SegdetError(
            f"protocol 2 decides on hips of the preset {PRESET}, not {found}; try it on development seeds"
        )
    changed = uncommitted(FROZEN)
    if changed is None:
        raise SegdetError("the commit of this code is not known, so nothing is confirmed; run it in a git checkout")
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise SegdetError(f"{changed[0]}{more}: not committed, so nothing is confirmed; commit it first")
    return kind


def last_quarter_rise(study, steps=None):
    """How much the mean validation IoU rises over the last quarter of the first `steps`, by arm; None means of all.

    The rule for the number of steps: the smallest at which no arm rises by 0.005.

    Parameters
    ----------
    study : Study
        Of development seeds, with its table ``curves``.
    steps : int, optional
    """
    found = {}
    for row in study.table("curves"):
        found.setdefault(row["arm"], {}).setdefault(row["step"], []).append(row["validation"])
    rises = {}
    for arm, curve in found.items():
        last = steps or max(curve)
        start = min(curve, key=lambda step, last=last: abs(step - 0.75 * last))
        rises[arm] = sum(curve[last]) / len(curve[last]) - sum(curve[start]) / len(curve[start])
    return rises
