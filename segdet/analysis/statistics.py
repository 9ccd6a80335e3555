"""Is a difference more than luck? Paired inference over test volumes, with the rule fixed beforehand (chapter 10).

And what curves say: when a loss is low enough (chapter 08), what each painted slice is worth (chapter 11).
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.integrate import trapezoid


@dataclass(frozen=True)
class Comparison:
    """A paired difference of two arms.

    Attributes
    ----------
    difference : float
        Mean of first minus second over all (seed, case) pairs.
    interval : (float, float)
        95 % bootstrap interval of that mean.
    p : float
        Wilcoxon signed-rank, two-sided, on the differences.
    p_holm : float
        `p` after Holm's correction for the comparisons made together.
    pairs, seeds : int
    """

    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    pairs: int
    seeds: int

    @property
    def verdict(self):
        """ "reproduced", "reversed" or "inconclusive" for a claim that the difference is positive (`facts` C)."""
        low, high = self.interval
        return "reproduced" if low > 0 else "reversed" if high < 0 else "inconclusive"


def bootstrap_interval(differences, seeds, repeats=10_000):
    """95 % percentile interval of the mean difference, resampling seeds and then cases within each.

    Volumes of one seed share their training run, so they are not independent. Drawing whole seeds first and cases
    second keeps that dependence; drawing (seed, case) pairs as if independent would give a narrower interval.

    Parameters
    ----------
    differences : array, (N,)
    seeds : array, (N,)
        The run that each difference belongs to.
    repeats : int

    Notes
    -----
    With few seeds the interval is too narrow: simulated with a deviation of 0.03 between seeds and 0.12 within,
    49 cases each, it held the truth in 86 % of trials at 3 seeds and 91 % at 5.

    Returns
    -------
    (low, high)
    """
    rng = np.random.default_rng(0)
    groups = [np.asarray(differences)[np.asarray(seeds) == s] for s in np.unique(seeds)]
    # The mean of a resampled group, many times over, then sums over resampled groups.
    means = np.stack([rng.choice(g, (repeats * len(groups), len(g))).mean(1) for g in groups])
    drawn = rng.integers(len(groups), size=(repeats, len(groups)))
    column = np.arange(repeats * len(groups)).reshape(repeats, len(groups))
    weights = np.array([len(g) for g in groups])[drawn]
    totals = (means[drawn, column] * weights).sum(1) / weights.sum(1)
    return tuple(float(q) for q in np.quantile(totals, (0.025, 0.975)))


def holm(p_values):
    """Holm's step-down adjustment of a list of p-values."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(adjusted, 1)
    return result.tolist()


def compare(comparisons):
    """Compare arms case by case.

    Parameters
    ----------
    comparisons : list of (first, second, seeds)
        Arrays (N,) of the same cases in the same order, and the run of each, as `segdet.experiments.study.Study.pairs`
        joins them. Their p-values are corrected together.

    Returns
    -------
    list of Comparison

    Raises
    ------
    ValueError
        A difference is not finite.
    """
    differences = [np.asarray(first, float) - np.asarray(second, float) for first, second, _ in comparisons]
    groups = [np.asarray(seeds) for *_, seeds in comparisons]
    if not all(np.isfinite(d).all() for d in differences):
        raise ValueError("a difference is not finite: distances of empty masks cannot be compared case by case")
    p = [float(stats.wilcoxon(d).pvalue) if np.any(d) else 1.0 for d in differences]
    return [
        Comparison(float(d.mean()), bootstrap_interval(d, seeds), raw, adjusted, len(d), len(np.unique(seeds)))
        for d, seeds, raw, adjusted in zip(differences, groups, p, holm(p), strict=True)
    ]


def iterations_to(loss, level, window=20):
    """The first iteration at which the running mean of a loss curve is at or below `level`; None if never."""
    loss = np.asarray(loss, float)
    if len(loss) < window:
        return None
    running = np.convolve(loss, np.ones(window) / window, "valid")
    below = np.flatnonzero(running <= level)
    return int(below[0]) + window if len(below) else None


def area_under(painted, scores):
    """The mean score between the fewest and the most painted slices: the area under the curve over its width."""
    order = np.argsort(painted)
    x, y = np.asarray(painted, float)[order], np.asarray(scores, float)[order]
    return float(trapezoid(y, x) / (x[-1] - x[0]))


def slices_to_reach(painted, scores, level):
    """The fewest painted slices at which a curve, straight between its points, reaches a level; None if it never does.

    Parameters
    ----------
    painted, scores : arrays, (n,)
    level : float
        The detector's score.
    """
    order = np.argsort(painted)
    x, y = np.asarray(painted, float)[order], np.asarray(scores, float)[order]
    above = np.flatnonzero(y >= level)
    if not len(above):
        return None
    i = above[0]
    return float(x[0] if i == 0 else x[i - 1] + (level - y[i - 1]) / (y[i] - y[i - 1]) * (x[i] - x[i - 1]))
