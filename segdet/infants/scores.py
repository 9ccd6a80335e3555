"""How well a detector finds the heads of one real infant (chapter 12)."""

from dataclasses import replace

import numpy as np
import torch

from ..analysis.verdicts import t_interval
from ..boxes import area, box_iou
from ..cascade import detect
from .pictures import ASSUMED

BESIDE = 0.1  # a box that overlaps the head's by less lies where there is no head


def score(detector, proposals, infant):
    """How well a detector finds the heads of one infant.

    Parameters
    ----------
    detector : RPN
    proposals : Proposals
        Its threshold and whether boxes vote.
    infant : Infant

    Returns
    -------
    dict
        ``box_iou``: mean over the pictures with a labelled head of the IoU of the best box, whatever its score.
        ``recall50``, ``recall70``: share of them with at least 0.5, 0.7. ``kept``: share whose best box reaches the
        threshold. ``false_boxes``: share with a box that reaches it, and is among the best three, where there is no
        head (IoU below `BESIDE`). ``centre_mm``: median distance of the centres. ``width_mm``, ``height_mm``: median
        of detected minus labelled. ``diameter_mm``, ``label_mm``: medians of (width + height) / 2. ``off_mm``: median
        over the pictures of the difference of the two diameters, without its sign. The mm are NaN where the scale was
        taken from the label itself. ``empty_pictures``: number of pictures of which a person says that they show no
        head. ``empty_found``: share of them with a box that reaches the threshold; None for none.
    """
    truth, slices = infant.boxes[infant.labelled], infant.slices[infant.labelled]
    best, scores = detect(detector, slices, replace(proposals, top_k=3, threshold=0.0))
    found, value = best[:, :1], scores[:, 0]
    overlap = box_iou(found, truth)[:, 0, 0]
    beside = (box_iou(best, truth)[..., 0] < BESIDE) & (scores >= proposals.threshold) & (area(best) > 0)
    row = {
        "pictures": len(truth),
        "box_iou": overlap.mean().item(),
        "recall50": (overlap >= 0.5).float().mean().item(),
        "recall70": (overlap >= 0.7).float().mean().item(),
        "kept": (value >= proposals.threshold).float().mean().item(),
        "false_boxes": beside.any(1).float().mean().item(),
    }
    return row | _millimetres(found[:, 0], truth[:, 0], infant) | _on_empty(detector, proposals, infant)


def _on_empty(detector, proposals, infant):
    """The part of `score` that pictures without a head give."""
    row = {"empty_pictures": len(infant.empty), "empty_found": None}
    if infant.empty:
        best, scores = detect(detector, infant.slices[list(infant.empty)], replace(proposals, top_k=3, threshold=0.0))
        kept = (scores >= proposals.threshold) & (area(best) > 0)
        row["empty_found"] = kept.any(1).float().mean().item()
    return row


def _millimetres(found, truth, infant):
    """The part of `score` that is measured in mm, from boxes (P, 4)."""
    unit = torch.tensor([*infant.spacing[::-1]] * 2) * (torch.nan if infant.scale == ASSUMED else 1)
    found, truth = found * unit, truth * unit
    size, wanted = (b[:, 2:] - b[:, :2] for b in (found, truth))
    away = (found[:, :2] + found[:, 2:] - truth[:, :2] - truth[:, 2:]) / 2
    measures = {
        "centre_mm": away.norm(dim=1),
        "width_mm": (size - wanted)[:, 0],
        "height_mm": (size - wanted)[:, 1],
        "diameter_mm": size.mean(1),
        "label_mm": wanted.mean(1),
        "off_mm": (size - wanted).mean(1).abs(),
    }
    return {name: float(np.median(values.numpy())) for name, values in measures.items()}


def over_infants(rows, column):
    """The mean of a measure over infants, and its 95 % t interval.

    Infants are the sample: pictures of one infant, and detectors of several seeds, are repeated looks at the same hip.
    So each infant counts with the mean of its rows. With eight of them a bootstrap would be too narrow
    (`segdet.analysis.statistics.bootstrap_interval`).

    Parameters
    ----------
    rows : list of dict
        Of the table ``simulated`` or ``curve``.
    column : str
        Rows without a number in it do not count.

    Returns
    -------
    mean : float
    low, high : float
        Infinite for a single infant, all NaN for none.
    infants : int
    """
    found = {}
    for row in rows:
        if _is_number(row[column]):
            found.setdefault(row["case"], []).append(row[column])
    values = np.array([np.mean(each) for each in found.values()])
    if not len(values):
        return np.nan, np.nan, np.nan, 0
    return float(values.mean()), *t_interval(values), len(values)


def gains(rows, others, column):
    """One group of rows minus another, where seed and infant are the same: a list of dict for `over_infants`.

    Rows without a number in the column do not count.
    """
    rows, others = ([row for row in group if _is_number(row[column])] for group in (rows, others))
    known = {(row["seed"], row["case"]): row[column] for row in others}
    pairs = [(row, known.get((row["seed"], row["case"]))) for row in rows]
    return [{"case": row["case"], column: row[column] - other} for row, other in pairs if other is not None]


def _is_number(value):
    """Whether it is a finite number: an empty cell of a table is the text "", and what was not measured NaN."""
    return isinstance(value, int | float) and np.isfinite(value)
