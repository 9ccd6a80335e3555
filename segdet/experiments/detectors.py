"""What each open choice of the detector costs or gains: one changed at a time, over seeds (chapters 03 to 05)."""

from dataclasses import asdict, dataclass, field, replace

from ..attention import boxes_to_mask
from ..cascade import detect
from ..metrics import score_boxes
from ..phantom.acoustics import VERSION
from ..proposals import Proposals
from ..rpn_loss import Sampling
from ..runtime.device import default_device
from ..runtime.provenance import environment
from ..training.checkpoint import forget, shares_done
from ..training.detector import choose_threshold, train_detector
from ..training.recipes import COMPACT, RECIPE, Recipe
from .cases import prepared_split, renormalised
from .config import Plan, check_names
from .cost import work_of_a_study
from .scores import score_attention
from .study import Study, lacking


@dataclass(frozen=True)
class Variant:
    """One reading of the paper, or one idea.

    Attributes
    ----------
    row : str
        Of the ledger.
    title : str
    recipe : Recipe
    proposals : Proposals or None
        Which boxes count; None chooses the threshold on the validation scans.
    vote : bool
        See `Proposals`; for the chosen threshold.
    standardised : bool
        The slices have mean 0 and deviation 1 over a scan, as the segmenter's volumes, instead of lying in [0, 1], to
        which `Recipe.gain` would cut them.
    """

    row: str
    title: str
    recipe: Recipe = field(default_factory=Recipe)
    proposals: Proposals | None = None
    vote: bool = False
    standardised: bool = False

    @property
    def training(self):
        """What decides its network; variants that share it share the network."""
        return self.recipe, self.standardised


LITERAL = Sampling(positives_only=True, best_anchor=False)
HALF = Sampling(positive_iou=0.5)
AUGMENTED = Recipe(gain=0.2, zoom=0.15)


def compact_half(**changes):
    """The `COMPACT` recipe with drawn negatives, as `HALF`, and what else changes its sampling."""
    return replace(COMPACT, sampling=replace(HALF, **changes))


ZOOMED = replace(compact_half(), gain=0.0)
VARIANTS = {
    "plain": Variant("", "plain: above 0.7, negatives drawn, mirrored only"),
    "literal": Variant("B2", "positive anchors only, above 0.7 only", Recipe(LITERAL)),
    "one-slice": Variant("B3", "256 anchors of one slice a step", Recipe(Sampling(per_slice=256), 1)),
    "scaled-anchors": Variant("B4", "Faster R-CNN's anchors, scaled", Recipe(fitted_anchors=False)),
    "no-best-anchor": Variant("B5", "positive above 0.7 only", Recipe(Sampling(best_anchor=False))),
    "positive-half": Variant("B5", "positive above 0.5 instead of 0.7", Recipe(HALF)),
    "no-threshold": Variant("B6", "the best box of every slice", proposals=Proposals(threshold=0.0, vote=False)),
    "threshold-half": Variant("B6", "the best box above 0.5", proposals=Proposals(threshold=0.5, vote=False)),
    "top-three": Variant("B6", "three boxes above 0.5 after NMS", proposals=Proposals(3, 0.5, vote=False)),
    "paper-rate": Variant("A9", "the paper's learning rate, 0.001 throughout", Recipe(rate=0.001, cosine=False)),
    "random": Variant("A9", "no ImageNet weights", Recipe(imagenet=False)),
    "neighbours": Variant("B7", "the slices beside it as channels", Recipe(neighbours=True)),
    "padded": Variant("B10", "184 rows padded to 192", Recipe(padded=True)),
    "augmented": Variant("B14", "grey and size varied", AUGMENTED),
    "half-augmented": Variant("", "above 0.5, augmented", replace(AUGMENTED, sampling=HALF)),
    "hard-negatives": Variant("", "above 0.5, augmented, hard negatives", replace(RECIPE, rate=0.002)),
    "faster": Variant("", "above 0.5, augmented, twice the rate", replace(RECIPE, sampling=HALF)),
    "no-vote": Variant("", "above 0.5, augmented, hard negatives, twice the rate", RECIPE),
    "book": Variant("", "the book's: all that and voting", RECIPE, vote=True),
    "compact": Variant("A21", "the book's with ResNet-18 for VGG-16", COMPACT, vote=True),
    "compact-half": Variant("", "ResNet-18, above 0.5, augmented", compact_half()),
    "compact-zoomed": Variant("B16", "ResNet-18, above 0.5, size varied", ZOOMED),
    "compact-standardised": Variant("B16", "the same, mean 0 and deviation 1", ZOOMED, standardised=True),
    "inside": Variant("B17", "the same, no anchors across the border", compact_half(inside=True)),
    "box-weight": Variant("B17", "the same, the boxes' term times 10", compact_half(box_weight=10.0)),
    "per-anchor": Variant("B17", "the same, both terms over all sampled anchors", compact_half(per_anchor=True)),
}


def run_detectors(profile, seeds, out, names=None, *, resume=False, max_minutes=None, report=print, foretell=None):
    """Fill the table ``detector`` of a `Study`: a row a (seed, variant, test scan).

    Variants that differ only in which boxes count share a trained network.

    Parameters
    ----------
    profile : Profile
    seeds : iterable of int
    out : path
    names : sequence of str, optional
        Keys of `VARIANTS`; all by default.
    resume, max_minutes, report
        As in `segdet.experiments.study.Study.fill`, whose answer is returned.
    foretell
        As in `segdet.experiments.ablation.run_study`.

    Raises
    ------
    SegdetError
        There is no such variant, or as `Study.fill`.
    """
    names = tuple(dict.fromkeys(VARIANTS if names is None else names))
    check_names(names or [""], VARIANTS, "variant")
    study = Study(out)
    fixed = {"study": "detectors", "profile": profile.name, "settings": asdict(profile)}
    fixed |= {"data": "phantom", "phantom_version": VERSION}

    def runs(checkpoints, deadline):
        scored, ran = ({(row["seed"], row["arm"]) for row in study.table(name)} for name in ("detector", "runs"))
        left = lacking(seeds, names, scored & ran)
        if foretell and left:
            each = sum(len({VARIANTS[name].training for name in todo}) for todo in left.values()) / len(left)
            foretell(
                lambda p: work_of_a_study(p, 0, len(left), detectors=each), shares_done(checkpoints, left, profile)
            )
        for seed, todo in left.items():
            yield from _run_seed(profile, seed, todo, checkpoints, deadline)
            forget(checkpoints, seed)

    return study.fill(fixed, runs, resume=resume, max_minutes=max_minutes, report=report)


def _run_seed(profile, seed, names, checkpoints, deadline):
    """Train the networks that the variants need and yield ("detector", rows), variant by variant."""
    _, *parts = prepared_split(Plan(profile, ()), seed)
    trainings, made_by = {}, environment(default_device())
    for name in names:
        trainings.setdefault(VARIANTS[name].training, []).append(name)
    for (recipe, standardised), sharing in trainings.items():
        owner = next(name for name, variant in VARIANTS.items() if variant.training == (recipe, standardised))
        train, validation, test = (
            [renormalised(case, "slices", "zscore") for case in part] if standardised else part for part in parts
        )
        detector, history = train_detector(
            train,
            validation,
            profile,
            seed,
            recipe=recipe,
            checkpoint=checkpoints / f"{seed}-{owner}.safetensors",
            deadline=deadline,
        )
        made = {"best_step": history.best_step, "seconds": round(history.seconds, 1)} | made_by
        for name in sharing:
            yield "detector", _score(detector, name, seed, validation, test)
            run = {"seed": seed, "arm": name, "recipe": owner} | made
            yield "runs", [run]  # last: an arm whose run is there is done


def _score(detector, name, seed, validation, test):
    """A variant's boxes on the test scans: a list of rows."""
    proposals = VARIANTS[name].proposals or choose_threshold(detector, validation, VARIANTS[name].vote)
    rows = []
    for case in test:
        boxes, _ = detect(detector, case.slices, proposals)
        mask = boxes_to_mask(boxes, case.slices.shape).numpy()
        row = {"seed": seed, "arm": name, "case": case.name} | score_boxes(boxes, case.boxes)
        row |= score_attention(mask, case.slice_mask)
        rows.append(row | {"threshold": proposals.threshold, "initial_weights": detector.initial_weights})
    return rows
