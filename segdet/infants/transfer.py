"""Do detectors of simulated hips find real heads, and how many infants is a simulator worth? (chapter 12)

The tables of its `Study`: ``simulated`` has a row a (seed, scale, variant, infant) for detectors that have seen
simulated hips alone; ``curve`` a row a (seed, number of infants, start, infant) for detectors trained on real infants,
each scored on infants that it has not seen; ``outlines`` a row an infant, how far the labels are from the visible edge;
``profiles`` a row an (infant, part, depth), how grey the pictures are through the head and beside it;
``realism`` a row a (seed, measure) and ``told_apart`` a row a (seed, infant or scan): do simulated slices look real?
"""

from dataclasses import asdict, dataclass, replace

import numpy as np

from ..errors import SegdetError
from ..experiments.ablation import phantom_version
from ..experiments.cases import prepared_split
from ..experiments.config import Plan, Profile, check_names
from ..experiments.cost import work_of_a_study
from ..experiments.detectors import VARIANTS
from ..experiments.study import Study
from ..proposals import Proposals
from ..runtime.device import default_device
from ..runtime.provenance import environment
from ..runtime.tensors import digest
from ..training.checkpoint import forget, shares_done
from ..training.detector import choose_threshold, train_detector
from ..training.recipes import RECIPES
from .outlines import outline_row
from .realism import depth_rows, distances, measures, simulated_infants, told_apart
from .scores import score

NAMES = ("plain", "literal", "random", "augmented", "book")  # of chapter 05's table, by default
INFANTS = (1, 3, 5, 7)  # how many a detector is trained on
STARTS = ("random", "imagenet", "simulator")  # what it starts from; the simulator's began as the variant "book" does
TRUE, USUAL = "true", "usual"  # heads in their own size, as the scale says, or all enlarged or reduced to `HEAD_MM`
SHORTER = 4  # trainings on infants take so many times fewer steps; one that goes on has so many times less of the rate


def recipe_of(name, backbone):
    """The recipe of a variant of chapter 05 with another backbone; its rate changes as the book's does."""
    recipe = VARIANTS[name].recipe
    return replace(recipe, backbone=backbone, rate=recipe.rate * RECIPES[backbone].rate / RECIPES[recipe.backbone].rate)


def counts_for(infants):
    """Those of `INFANTS` that leave one of so many infants to test, and a list of notes, which names the others."""
    kept = tuple(count for count in INFANTS if count < infants)
    if kept == INFANTS:
        return kept, []
    left = ", ".join(str(count) for count in INFANTS if count not in kept)
    return kept, [f"trainings on {left} infants are left out: they take one more to test, found {infants}"]


def folds(names, count, seed):
    """Who is trained on and who is tested, so that each infant is tested once by a detector that has not seen it.

    Parameters
    ----------
    names : list
    count : int
        How many to train on.
    seed : int
        Draws the order.

    Returns
    -------
    list of (train, test)
        Lists of names. With `count` all but one, one infant is left out at a time; with fewer, several are tested
        together: as many trainings as it takes.

    Raises
    ------
    SegdetError
        There are not so many infants and one more.
    """
    if not 0 < count < len(names):
        raise SegdetError(
            f"to train on {count} infants and test on others takes {count + 1}, found {len(names)}; name smaller "
            'numbers as --infants, or "" for none'
        )
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    parts = np.array_split(np.arange(len(order)), -(-len(order) // (len(order) - count)))
    found = []
    for part in parts:
        after = [(part[-1] + 1 + i) % len(order) for i in range(count)]
        found.append(([order[i] for i in after], [order[i] for i in part]))
    return found


@dataclass(frozen=True)
class TransferPlan:
    """What one seed of the study does.

    Attributes
    ----------
    profile : Profile
        Its backbone is that of every detector.
    names : sequence of str
        Variants, keys of `segdet.experiments.detectors.VARIANTS`, trained on simulated hips alone; but for B16's.
    counts : sequence of int
        Numbers of real infants to train on; none leaves out the curve.
    starts : sequence of str
        What the trainings on infants start from, out of `STARTS`.
    preset : str or None
        Of the simulated hips, as in `Plan`.

    Raises
    ------
    SegdetError
        An unknown name.
    """

    profile: Profile
    names: tuple[str, ...] = NAMES
    counts: tuple[int, ...] = INFANTS
    starts: tuple[str, ...] = STARTS
    preset: str | None = None

    def __post_init__(self):
        variants = [name for name, variant in VARIANTS.items() if not variant.standardised]  # pictures are in [0, 1]
        check_names(self.names, variants, "variant")
        check_names(self.starts, STARTS, "start")

    @property
    def simulated(self):
        """The `Plan` of the simulated scans, without those to test, for infants are tested."""
        return Plan(_untested(self.profile), (), preset=self.preset)


def run_transfer(plan, seeds, infants, out, *, resume=False, max_minutes=None, report=print, foretell=None):
    """Fill a `Study`.

    Parameters
    ----------
    plan : TransferPlan
    seeds : iterable of int
    infants : list of Stills
        Of `segdet.infants.pictures.read_infants`.
    out : path
    resume, max_minutes, report, foretell
        As in `segdet.experiments.detectors.run_detectors`.

    Returns
    -------
    bool
        Whether the study is complete.

    Raises
    ------
    SegdetError
        Fewer infants than two or than a count needs, or as `Study.fill`.
    """
    if len(infants) < 2:
        raise SegdetError(f"a study of infants takes two or more, found {len(infants)}")
    for count in plan.counts:
        folds(range(len(infants)), count, 0)
    study = Study(out)
    fixed = {"study": "transfer", "profile": plan.profile.name, "settings": asdict(plan.profile), "data": "phantom"}
    fixed |= {"phantom_version": phantom_version(plan.simulated)}
    fixed |= {"infants": {infant.name: len(infant.pictures) for infant in infants}}
    fixed |= {"scans": digest(*(infant.identity for infant in infants))}

    def runs(checkpoints, deadline):
        left = {seed: _left(study, seed, plan) for seed in seeds}
        left = {seed: parts for seed, parts in left.items() if any(parts)}
        if foretell and left:
            each = sum(_trainings(*parts, len(infants)) for parts in left.values()) / len(left)
            variants = {seed: names for seed, (names, _) in left.items()}
            done = shares_done(checkpoints, variants, plan.profile)
            foretell(lambda p: work_of_a_study(_untested(p), 0, len(left), detectors=each), done)
        if not study.table("outlines"):
            yield "outlines", [{"case": infant.name} | outline_row(infant) for infant in infants if infant.outlined]
        for seed, parts in left.items():
            trainings = _Seed(plan.simulated, seed, infants, checkpoints, deadline)
            if not study.table("profiles"):
                yield "profiles", trainings.profiles()
            yield from trainings.looks()
            yield from trainings.rows(*parts)
            forget(checkpoints, seed)

    return study.fill(fixed, runs, resume=resume, max_minutes=max_minutes, report=report)


def _untested(profile):
    return replace(profile, test=0)


def _left(study, seed, plan):
    """The variants, and the (start, count), whose scores or run are not there yet."""
    runs = {(row["arm"], row["part"]) for row in study.table("runs") if row["seed"] == seed}
    simulated = {(row["arm"], "simulated") for row in study.table("simulated") if row["seed"] == seed} & runs
    real = {(row["arm"], row["part"]) for row in study.table("curve") if row["seed"] == seed} & runs
    pairs = [(start, count) for count in plan.counts for start in plan.starts]
    names = [name for name in plan.names if (name, "simulated") not in simulated]
    return names, [(start, count) for start, count in pairs if (start, str(count)) not in real]


def _trainings(simulated, real, infants):
    """How many whole trainings some work amounts to."""
    own = any(start == "simulator" for start, _ in real) and "book" not in simulated
    return len(simulated) + own + sum(len(folds(range(infants), count, 0)) for _, count in real) / SHORTER


class _Seed:
    """The trainings of one seed, all on the grid of its simulated training scans."""

    def __init__(self, plan, seed, infants, checkpoints, deadline):
        self.profile, self.seed, self.made_by = plan.profile, seed, environment(default_device())
        self.saved, self.fitting = checkpoints, {"deadline": deadline}
        grids, self.train, self.validation, _ = prepared_split(plan, seed)
        self.spacing = spacing = grids.spacing(grids.detector_shape)[1:]
        self.infants = {infant.name: infant.on_grid(spacing) for infant in infants}
        self.usual = {infant.name: infant.with_usual_head().on_grid(spacing) for infant in infants}

    def profiles(self):
        """The rows of the table ``profiles``, on the grid of the simulated slices."""
        return [{"case": name} | row for name, infant in self.infants.items() for row in depth_rows(infant)]

    def looks(self):
        """Yield (table, rows): how far this seed's simulated scans look like the infants."""
        scans = simulated_infants([*self.train, *self.validation], self.spacing)
        groups = [[measures(each) for each in group] for group in (self.infants.values(), scans)]
        yield "realism", [{"seed": self.seed, "arm": name} | row for name, row in distances(*groups).items()]
        told, names = told_apart(*groups), {"infants": list(self.infants), "scans": [scan.name for scan in scans]}
        rows = [
            {"seed": self.seed, "part": part, "case": name, "right": float(share)}
            for part, shares in told.items()
            for name, share in zip(names[part], shares, strict=True)
        ]
        yield "told_apart", rows

    def rows(self, simulated, real):
        """Yield (table, rows) as `Study.fill` takes them, training by training."""
        for name in simulated:
            detector, history = self.simulated(name)
            proposals = choose_threshold(detector, self.validation, VARIANTS[name].vote)
            found = self._scores(detector, proposals, self.infants, {"part": TRUE, "arm": name})
            yield "simulated", found + self._scores(detector, proposals, self.usual, {"part": USUAL, "arm": name})
            yield self._run("simulated", name, [history])  # last: an arm whose run is there is done
        for begin, count in real:
            found, histories = [], []
            for number, (train, test) in enumerate(folds(list(self.infants), count, self.seed)):
                detector, history = self.real(begin, count, number, [self.infants[name] for name in train])
                histories.append(history)
                tested = {name: self.infants[name] for name in test}
                found += self._scores(detector, Proposals(), tested, {"part": str(count), "arm": begin})
            yield "curve", found
            yield self._run(str(count), begin, histories)

    def simulated(self, name):
        """A variant trained on simulated hips: (detector, history)."""
        recipe = recipe_of(name, self.profile.backbone)
        path = self.saved / f"{self.seed}-{name}.safetensors"
        return train_detector(
            self.train, self.validation, self.profile, self.seed, recipe=recipe, checkpoint=path, **self.fitting
        )

    def real(self, begin, count, number, infants):
        """A detector trained on some infants, from one of `STARTS`: (detector, history)."""
        start = self.simulated("book")[0] if begin == "simulator" else None
        recipe = RECIPES[self.profile.backbone]
        recipe = replace(recipe, imagenet=begin == "imagenet", rate=recipe.rate / (SHORTER if start else 1))
        shape = self.profile.detector_shape[1:]
        return train_detector(
            [infant.windowed(shape) for infant in infants],
            [],
            replace(self.profile, detector_steps=max(1, self.profile.detector_steps // SHORTER)),
            self.seed,
            recipe=recipe,
            start=start,
            checkpoint=self.saved / f"{self.seed}-{begin}-{count}-{number}.safetensors",
            **self.fitting,
        )

    def _scores(self, detector, proposals, infants, facts):
        known = {"threshold": proposals.threshold, "initial_weights": detector.initial_weights}
        return [
            {"seed": self.seed} | facts | {"case": name} | score(detector, proposals, infant) | known
            for name, infant in infants.items()
        ]

    def _run(self, part, arm, histories):
        seconds = round(sum(history.seconds for history in histories), 1)
        made = {"best_step": histories[-1].best_step, "seconds": seconds} | self.made_by
        return "runs", [{"seed": self.seed, "part": part, "arm": arm} | made]
