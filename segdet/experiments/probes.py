"""Further questions to trained networks of protocol 2: worse boxes, a person's boxes, harder scans (chapter 11).

Each is a function of a `Run`, an arm and its segmenter, and gives the rows of a table of the study. A ``part`` names
what was changed and a ``step`` how far.
"""

from ..attention import boxes_to_mask
from ..metrics import iou, score_boxes, surface_dice
from ..phantom.cache import cached_phantoms
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
    for dial, values in DIALS.items():
        for value in values:
            requests = phantom_requests(plan.profile, run.seed, plan.preset, (dial, value))
            volumes = cached_phantoms(requests[-plan.profile.test :][:PROBED], f"{dial} {value}")
            rows += [dial_row(run, arm, segmenter, case, dial, value) for case in map(run.as_case, volumes)]
    return rows


def dial_row(run, arm, segmenter, case, dial, value):
    """What an arm makes of a scan for which a dial was turned, and how good its detector's boxes are there."""
    mask = on_own_grid(run.probability(segmenter, arm, case), case)
    row = {"seed": run.seed, "arm": arm, "part": dial, "step": value, "case": case.name}
    row |= {"iou": iou(mask, case.annotation)}
    if run.arm(arm).test == "detector":
        row["box_iou"] = score_boxes(run.detect(case), case.boxes)["box_iou"]
    return row


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
