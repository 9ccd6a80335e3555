"""Boxes made worse on purpose: does better detection give better segmentation (claim 6, chapters 10 and 11)?"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dose:
    """One way to spoil the boxes of an annotation, and how much.

    Attributes
    ----------
    title : str
    moved : float
        Each box is moved along either axis by a normal random share of its side, of this deviation.
    shrunk : float
        Each box loses this share of either side, half at each end.
    dropped : float
        The probability that a slice loses its boxes.
    added : float
        The probability that a slice gets a box of the object's own size in a place of its own.
    """

    title: str
    moved: float = 0.0
    shrunk: float = 0.0
    dropped: float = 0.0
    added: float = 0.0


DOSES = {
    "moved-10": Dose("moved by 0.1 of a side", moved=0.1),
    "moved-30": Dose("moved by 0.3 of a side", moved=0.3),
    "shrunk-20": Dose("sides a fifth shorter", shrunk=0.2),
    "shrunk-50": Dose("sides half as long", shrunk=0.5),
    "dropped-20": Dose("missing in a fifth of the slices", dropped=0.2),
    "dropped-50": Dose("missing in half of the slices", dropped=0.5),
    "added-30": Dose("a false box in 30 % of the slices", added=0.3),
    "added-100": Dose("a false box in every slice", added=1.0),
}


def spoil(boxes, shape, dose, seed):
    """Spoil boxes.

    Parameters
    ----------
    boxes : array, (D, M, 4)
        Padded with boxes of no area.
    shape : (rows, columns)
        Of a slice; a false box lies within it.
    dose : Dose
    seed : int

    Returns
    -------
    ndarray of float32, (D, M + 1, 4)
        Last in every slice is the false box, or none.
    """
    boxes, rng = np.asarray(boxes, float), np.random.default_rng([seed, 7])
    sides = boxes[..., 2:] - boxes[..., :2]
    held = sides.min(-1) > 0
    shift = dose.moved * rng.standard_normal(sides.shape) * sides
    cut = dose.shrunk * sides / 2
    moved = np.concatenate([boxes[..., :2] + shift + cut, boxes[..., 2:] + shift - cut], -1)
    lost = rng.random(len(boxes)) < dose.dropped
    moved[lost] = 0
    gained = rng.random(len(boxes)) < dose.added
    size = sides[held].mean(0) if held.any() else np.zeros(2)
    corner = rng.random((len(boxes), 2)) * (np.array(shape[::-1]) - size)
    false = np.where(gained[:, None], np.concatenate([corner, corner + size], -1), 0)
    return np.concatenate([np.where(held[..., None], moved, 0), false[:, None]], 1).astype(np.float32)
