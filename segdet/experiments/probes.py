"""Further questions to trained networks of protocol 2: worse boxes, a person's boxes, harder scans (chapter 11).

Each is a function of a `Run`, an arm and its segmenter, and gives the rows of a table of the study. A ``part`` names
what was changed and a ``step`` how far.
"""

from dataclasses import replace

from ..attention import boxes_to_mask
from ..metrics import iou, score_boxes, surface_dice
from ..phantom.cache import cached_phantoms
from ..phantom.make import parameters_of
from .cases import phantom_requests
from .config import PROBED
from .person import PERSONS, STEPS
from .perturb import DOSES
from .scores import TOLERANCE_MM, on_own_grid

DIALS = {
    "contrast_db": (1.0, 2.0, 4.0, 6.0, 8.0, 10.0),
    "noise_db": (-60.0, -50.0, -40.0, -30.0),
    "look_alikes": (0, 13, 26, 40),
}


def dose_rows(run, arm, segmenter):
    """Segmentation with the annotation's boxes made worse, a row a (dose, test scan); the first dose is none."""
    rows = []
    for case in run.test:
        for name in ("none", *DOSES):
            boxes = case.boxes if name == "none" else run.spoilt(case, name)
            rows.append(_row(run, arm, segmenter, case, boxes, part=name))
    return rows


def person_rows(run, arm, segmenter):
    """Segmentation with the boxes of persons, a row a (level of care, slices from one painted to the next, scan)."""
    rows = []
    for case in run.test[:PROBED]:
        for level in PERSONS:
            for step in STEPS:
                boxes, painted = run.person(case, level, step)
                rows.append(_row(run, arm, segmenter, case, boxes, part=level, step=step, painted=len(painted)))
    return rows


def dial_rows(run, arm, segmenter):
    """Segmentation of the same hips with another contrast, noise or look-alikes: a row a (dial, value, scan)."""
    plan, rows = run.plan, []
    if plan.data != "phantom":
        return rows
    requests = phantom_requests(plan.profile, run.seed, plan.preset)[-plan.profile.test :][:PROBED]
    for dial, values in DIALS.items():
        for value in values:
            change = _dialled(dial, value, plan.preset)
            volumes = cached_phantoms([(seed, options | change) for seed, options in requests], f"{dial} {value}")
            for case in map(run.as_case, volumes):
                mask = on_own_grid(run.probability(segmenter, arm, case), case)
                names = {"seed": run.seed, "arm": arm, "part": dial, "step": value, "case": case.name}
                rows.append(names | {"iou": iou(mask, case.annotation)})
    return rows


def _dialled(dial, value, preset):
    """The option of `make_phantom` that turns a dial."""
    if dial != "look_alikes":
        return {dial: value}
    parameters = parameters_of(2, preset) if preset else parameters_of()
    return {"parameters": replace(parameters, look_alikes=(value, value))}


def _row(run, arm, segmenter, case, boxes, **names):
    """What a segmenter makes of a test scan with these boxes, and how good they are; on the scan's own grid."""
    fine = boxes_to_mask(boxes, case.slices.shape).numpy()
    attention = run.grids.attention_to_segmenter(fine)
    mask = on_own_grid(run.probability(segmenter, arm, case, attention), case)
    return {
        "seed": run.seed,
        "arm": arm,
        "case": case.name,
        **names,
        "box_iou": score_boxes(boxes, case.boxes)["box_iou"],
        "attention_iou": iou(fine, boxes_to_mask(case.boxes, case.slices.shape).numpy()),
        "iou": iou(mask, case.annotation),
        "surface_dice": surface_dice(mask, case.annotation, case.own_spacing, TOLERANCE_MM),
    }


PROBES = {"slicebox": ("doses", dose_rows), "person": ("persons", person_rows)}
PROBES |= dict.fromkeys(("unet", "cascade"), ("dials", dial_rows))
