"""How far simulated slices look like real ones: greys, speckle, contrast, and what a classifier tells (chapter 12).

Everything but the profiles by depth is measured in a window of one size around the head, `Infant.windowed`, whose greys
are stretched anew to [0, 1], so that neither a scanner's field of view nor its brightness decides.
"""

import numpy as np
import torch
from scipy import ndimage, optimize, special, stats

from ..boxes import area
from ..intensities import normalise
from .pictures import GIVEN, Infant

WINDOW_MM = 35.0, 36.5  # rows, columns; within the field of view of every scanner
BINS = 16  # of the histogram of greys
GREYS = (np.arange(BINS) + 0.5) / BINS  # their middles
LAGS_MM = 0.22, 0.44, 0.66, 0.88, 1.32, 1.76, 2.64  # at which the autocorrelation is read along rows
DETAIL_MM = 3.0  # what is wider does not count as texture
FURTHEST_MM = 8.0  # at which the autocorrelation is looked for at a half
DEPTH_EDGES = np.arange(-0.5, 1.51, 0.25)  # of the steps of a profile by depth, in heights of the head from its top
PENALTY = 1.0  # of the classifier's weights, squared, in units of one scan


def simulated_infants(cases, spacing):
    """Simulated scans, a list of `Case`, as `Infant`: their slices with a head; `spacing` (dy, dx) in mm."""
    found = []
    for case in cases:
        largest = area(case.boxes).argmax(1)
        boxes = case.boxes[torch.arange(len(largest)), largest][:, None]
        found.append(Infant(case.name, case.slices, boxes, tuple(spacing), GIVEN))
    return found


def windows(infant):
    """The labelled pictures of an `Infant` in their windows: greys (P, h, w) in [0, 1] and boxes (P, 4)."""
    shape = tuple(round(mm / step) for mm, step in zip(WINDOW_MM, infant.spacing, strict=True))
    cut = infant.windowed(shape)
    return np.stack([normalise(p, "unit") for p in cut.slices.numpy()]), cut.boxes[:, 0].numpy()


def measures(infant):
    """The measures of every labelled picture of an `Infant`.

    Returns
    -------
    dict of ndarray
        ``histogram`` (P, 16): shares of the greys. ``along_depth``, ``along_width`` (P, 7): autocorrelation of the
        texture at the distances `LAGS_MM`. ``texture_depth_mm``, ``texture_width_mm`` (P,): where it falls to a half.
        ``contrast`` (P,): mean grey of the soft tissue above the head minus that of the head's inner half.
        ``shadow`` (P,): mean grey beside the lower half of the head, behind ilium and femur, over that of the tissue
        above the head.
    """
    greys, boxes = windows(infant)
    found = [_measured(picture, box, infant.spacing) for picture, box in zip(greys, boxes, strict=True)]
    return {name: np.array([row[name] for row in found]) for name in found[0]}


def _measured(picture, box, spacing):
    texture = picture - ndimage.gaussian_filter(picture, np.divide(DETAIL_MM, spacing))
    depth, width = (_autocorrelation(texture, axis, spacing[axis]) for axis in (0, 1))
    x0, y0, x1, y1 = np.round(box).astype(int)
    row, col = (y1 - y0) // 4, (x1 - x0) // 4
    head = picture[y0 + row : y1 - row, x0 + col : x1 - col].mean()
    above = picture[round(1 / spacing[0]) : max(y0, round(2 / spacing[0]))].mean()
    gap = round(1 / spacing[1])
    beside = np.delete(picture[(y0 + y1) // 2 : y1], slice(max(0, x0 - gap), x1 + gap), 1)
    return {
        "histogram": np.histogram(picture, BINS, (0, 1))[0] / picture.size,
        "along_depth": depth(LAGS_MM),
        "along_width": width(LAGS_MM),
        "texture_depth_mm": _half(depth),
        "texture_width_mm": _half(width),
        "contrast": above - head,
        "shadow": beside.mean() / above,
    }


def _autocorrelation(texture, axis, step):
    """The autocorrelation along an axis as a function of a distance in mm, linear between pixels."""
    texture = texture - texture.mean()
    n = texture.shape[axis]
    lags = range(round(FURTHEST_MM / step) + 2)
    parts = [(texture.take(range(n - k), axis) * texture.take(range(k, n), axis)).mean() for k in lags]
    return lambda mm: np.interp(mm, np.array(lags) * step, np.array(parts) / parts[0])


def _half(correlation):
    """The distance in mm at which an autocorrelation first falls to a half."""
    mm = np.arange(0, FURTHEST_MM, 0.01)
    below = correlation(mm) <= 0.5
    return mm[below.argmax()] if below.any() else FURTHEST_MM


def depth_profiles(picture, box):
    """Mean grey by depth, through the head and beside it, in the steps between `DEPTH_EDGES`.

    One profile runs through the middle quarter of the head's width, the other beside the head, from a quarter to half
    of its width away on either side.

    Parameters
    ----------
    picture : ndarray, (H, W)
        0 where nothing was recorded.
    box : (x0, y0, x1, y1)
        Of the head, in pixels.

    Returns
    -------
    ndarray, (2, 8)
        Through the head and beside it, in the unit of the picture; NaN in steps that the picture does not reach. Rows
        below the last that holds anything do not count, nor do columns beside the head that hold nothing.
    """
    x0, y0, x1, y1 = box
    quarter = (x1 - x0) / 4
    row, column = (np.arange(n) + 0.5 for n in picture.shape)
    step = np.digitize((row - y0) / (y1 - y0), DEPTH_EDGES) - 1
    step[np.flatnonzero(picture.any(1)).max(initial=-1) + 1 :] = -1
    off = np.abs(column - (x0 + x1) / 2)
    bands = off < quarter / 2, (off > 3 * quarter) & (off < 4 * quarter) & picture.any(0)
    parts = [[picture[step == k][:, band] for k in range(len(DEPTH_EDGES) - 1)] for band in bands]
    return np.array([[part.mean() if part.size else np.nan for part in band] for band in parts])


def depth_rows(infant):
    """The means of `depth_profiles` over the labelled pictures of an `Infant`.

    Returns
    -------
    list of dict
        ``part``: "through" or "beside". ``depth``: where the step begins, in heights of the head from its top.
        ``grey``: in percent of a picture's scale; NaN where no picture reaches.
    """
    pictures, boxes = infant.slices[infant.labelled].numpy(), infant.boxes[infant.labelled][:, 0].tolist()
    found = [depth_profiles(*pair) for pair in zip(pictures, boxes, strict=True)]
    grey = 100 * np.ma.masked_invalid(found).mean(0).filled(np.nan)
    return [
        {"part": part, "depth": float(depth), "grey": float(value)}
        for part, row in zip(("through", "beside"), grey, strict=True)
        for depth, value in zip(DEPTH_EDGES[:-1], row, strict=True)
    ]


def distances(real, simulated):
    """How far two groups are apart, measure by measure; the unit is the infant and the simulated scan.

    Parameters
    ----------
    real, simulated : lists of dict
        `measures` of each infant and each scan.

    Returns
    -------
    dict of dict
        For each measure that is one number the means ``real`` and ``simulated``, their standard deviations ``real_sd``
        and ``simulated_sd``, and ``apart``: the difference of the means over the real deviation. For ``histogram``
        the means are mean greys, the deviations the mean Wasserstein distance of one infant, or scan, from all others
        of its group, and ``apart`` is that of the two groups over ``real_sd``.
    """
    found = {}
    for name in ("texture_depth_mm", "texture_width_mm", "contrast", "shadow"):
        a, b = (np.array([each[name].mean() for each in group]) for group in (real, simulated))
        row = {"real": a.mean(), "real_sd": a.std(ddof=1), "simulated": b.mean(), "simulated_sd": b.std(ddof=1)}
        found[name] = row | {"apart": (b.mean() - a.mean()) / a.std(ddof=1)}
    a, b = (np.array([each["histogram"].mean(0) for each in group]) for group in (real, simulated))
    a_sd, b_sd = _spread(a), _spread(b)
    a, b = a.mean(0), b.mean(0)
    row = {"real": a @ GREYS, "real_sd": a_sd, "simulated": b @ GREYS, "simulated_sd": b_sd}
    found["histogram"] = row | {"apart": _moved(a, b) / a_sd}
    return {name: {key: float(value) for key, value in row.items()} for name, row in found.items()}


def _spread(histograms):
    """The mean Wasserstein distance of one histogram from the mean of the others, (n, 16)."""
    return np.mean([_moved(row, np.delete(histograms, i, 0).mean(0)) for i, row in enumerate(histograms)])


def _moved(a, b):
    """The Wasserstein distance of two histograms of greys."""
    return stats.wasserstein_distance(GREYS, GREYS, a, b)


def told_apart(real, simulated):
    """How often a logistic regression on a picture's measures tells a real picture from a simulated slice.

    It sees histogram and autocorrelation, 30 numbers. One infant is left out at a time, and with it the share of the
    simulated scans whose turn it is; every infant and every scan weighs the same, whatever its number of pictures.

    Parameters
    ----------
    real, simulated : lists of dict
        `measures` of each infant and each scan; at least two infants, and as many scans as infants.

    Returns
    -------
    dict
        ``infants`` (n,): share of the left-out pictures of each infant that it calls real. ``scans`` (m,): share of the
        left-out slices of each scan that it calls simulated.
    """
    groups = [[_features(each) for each in group] for group in (real, simulated)]
    turns = [np.arange(len(groups[0])), np.arange(len(groups[1])) % len(groups[0])]
    shares = [np.zeros(len(group)) for group in groups]
    for turn in range(len(groups[0])):
        pairs = zip(groups, turns, strict=True)
        says = _classifier(*([x for x, t in zip(*pair, strict=True) if t != turn] for pair in pairs))
        for sign, group, own, share in zip((1, -1), groups, turns, shares, strict=True):
            for i in np.flatnonzero(own == turn):
                share[i] = (sign * says(group[i]) > 0).mean()
    return {"infants": shares[0], "scans": shares[1]}


def _features(found):
    return np.concatenate([np.sqrt(found["histogram"]), found["along_depth"], found["along_width"]], 1)


def _classifier(real, simulated):
    """A function of features (n, 30) that is positive where it says real; trained on lists of such."""
    x = np.concatenate([*real, *simulated])
    y = np.concatenate([np.full(len(part), sign) for group, sign in ((real, 1), (simulated, -1)) for part in group])
    weight = np.concatenate([np.full(len(p), 0.5 / len(p) / len(group)) for group in (real, simulated) for p in group])
    mean, deviation = x.mean(0), x.std(0) + 1e-9
    x = np.c_[(x - mean) / deviation, np.ones(len(x))]
    penalty = np.r_[np.full(x.shape[1] - 1, PENALTY / (len(real) + len(simulated))), 0]

    def loss(w):
        margin = y * (x @ w)
        slope = -(weight * y * special.expit(-margin)) @ x
        return weight @ np.logaddexp(0, -margin) + penalty @ w**2 / 2, slope + penalty * w

    w = optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return lambda features: np.c_[(features - mean) / deviation, np.ones(len(features))] @ w
