"""What a claim of the paper is measured by: one number a seed, or one a scan, from the tables of a study (chapter 10).

Each function takes a `segdet.experiments.study.Study` and gives a quantity that is positive where the claim holds:
(differences, their seeds), or (one value a seed, None).
"""

import numpy as np

from ..errors import SegdetError
from ..experiments.config import Profile
from ..experiments.cost import operations
from .statistics import iterations_to
from .verdicts import slopes


def difference(first, second, column="iou"):
    """The measure of one arm minus another, scan by scan."""

    def quantity(study):
        a, b, seeds = study.pairs(first, second, column)
        return a - b, seeds

    return quantity


def curves(study, arm, table, column):
    """One column of an arm's curves, by seed: a dict of arrays in the order of steps."""
    rows = sorted((row["seed"], row["step"], row[column]) for row in study.table(table) if row["arm"] == arm)
    return {seed: np.array([value for s, _, value in rows if s == seed]) for seed in sorted({row[0] for row in rows})}


def _both(study, table, column):
    first, second = (curves(study, arm, table, column) for arm in ("unet", "cascade"))
    return [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]


def faster_to_a_loss(study):
    """Steps that ours saves on the way to a tenth of the mean starting loss; one that never gets there took all."""
    found = []
    for pair in _both(study, "loss", "loss"):
        level = 0.1 * np.mean([curve[0] for curve in pair])
        unet, ours = (iterations_to(curve, level, window=2) or len(curve) for curve in pair)
        found.append(10.0 * (unet - ours))
    return found, None


def faster_to_an_iou(study):
    """Steps that ours saves on the way to the validation IoU that both arms of a seed reach."""
    steps = sorted({row["step"] for row in study.table("curves") if row["arm"] == "unet"})
    found = []
    for pair in _both(study, "curves", "validation"):
        level = min(curve.max() for curve in pair)
        unet, ours = (steps[int(np.argmax(curve >= level))] for curve in pair)
        found.append(float(unet - ours))
    return found, None


def calmer(study):
    """How much smaller the deviation of our loss is around its trend, over its mean, in the last third of the steps.

    Fewer than 90 steps have no trend there.
    """

    def unrest(curve):
        last = curve[len(curve) * 2 // 3 :]
        at = np.arange(len(last))
        return (last - np.polyval(np.polyfit(at, last, 1), at)).std() / last.mean()

    long = [pair for pair in _both(study, "loss", "loss") if len(pair[0]) >= 9]
    return [unrest(unet) - unrest(ours) for unet, ours in long], None


def smoother(study):
    """How much rougher the U-Net's masks are than ours, in mm, scan by scan; an empty mask has no surface."""
    return difference("unet", "cascade", "roughness_mm")(study)


def gain_from_better_boxes(study):
    """The slope of segmentation IoU over the IoU of the attention, both means over a seed's scans, by dose."""
    rows = study.table("doses")
    return _slope([(row["seed"], row["part"], row["attention_iou"], row["iou"]) for row in rows])


def gain_from_better_boxes_in_training_too(study):
    """The same of networks that were trained with boxes as bad as those of the test."""
    rows = {(row["seed"], row["part"], row["case"]): row["attention_iou"] for row in study.table("doses")}
    found = []
    for row in study.table("cases"):
        dose = "none" if row["arm"] == "slicebox" else row["arm"]
        if (key := (row["seed"], dose, row["case"])) in rows:
            found.append((row["seed"], dose, rows[key], row["iou"]))
    return _slope(found)


def _slope(rows):
    """Slopes of the last column over the third, whose means over a (seed, name) are the points of a seed.

    A seed that lacks one of the names, because the study still runs, has none.
    """
    if not rows:
        return [], None
    points, names = {}, {}
    for seed, name, x, y in rows:
        points.setdefault((seed, name), []).append((x, y))
        names.setdefault(seed, set()).add(name)
    most = max(map(len, names.values()))
    points = {key: np.mean(found, 0) for key, found in points.items() if len(names[key[0]]) == most}
    x, y = np.array(list(points.values())).T
    return slopes(x, y, [seed for seed, _ in points]), None


def gain_over(dial, sign, trained=""):
    """The slope of the gain of ours over the 3D U-Net along a dial of the phantom, times `sign`.

    With ``trained="-alike"`` of the networks that were trained anew at every value of the dial.
    """

    def quantity(study):
        keys = "seed", "step", "case"
        iou = {f"unet{trained}": {}, f"cascade{trained}": {}}
        for row in study.table("dials"):
            if row["part"] == dial and row["arm"] in iou:
                iou[row["arm"]][tuple(row[key] for key in keys)] = row["iou"]
        unet, ours = iou.values()
        both = sorted(unet.keys() & ours.keys())
        return _slope([(k[0], k[1], sign * k[1], ours[k] - unet[k]) for k in both])

    return quantity


def better_boxes(study):
    """Box IoU on test scans with ImageNet weights minus that without."""
    tested = [row for row in study.table("detector") if row["part"] == "test"]
    rows = {(row["arm"], row["seed"], row["case"]): row["box_iou"] for row in tested}
    pairs = [(a, s, c) for a, s, c in rows if a == "detector-book" and ("detector-random", s, c) in rows]
    return [rows[key] - rows["detector-random", *key[1:]] for key in pairs], [seed for _, seed, _ in pairs]


def work_saved(study):
    """Operations that ours saves on a scan, detector included, as a share of the U-Net's; counted, so of no luck."""
    settings = study.manifest["settings"]
    try:
        profile = Profile(**{key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()})
    except TypeError as error:
        raise SegdetError(f"{settings.path}: its settings are no profile's ({error}); restore the file") from error
    one = operations(profile)
    more = profile.detector_shape[0] * one["detector_slice"] / one["segmenter_volume"]
    return [-more] * len(set(study.column("cascade", "seed"))), None
