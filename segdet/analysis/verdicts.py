"""What a study may conclude: one difference a seed, the t interval over seeds, and a verdict (protocol 2, chapter 10).

Scans of one seed share their training, so the seed is the unit: whatever is measured on its scans becomes one number,
and the interval is over these. `segdet.analysis.statistics` holds what protocol 1 used.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from .statistics import bootstrap_interval, holm

EQUIVALENT = 0.02  # of IoU; an interval within so much of 0 on both sides: the difference is too small to matter
LEVEL = 0.95  # of every interval and test


@dataclass(frozen=True)
class Finding:
    """A quantity that a claim says is positive.

    Attributes
    ----------
    values : tuple of float
        One a seed.
    interval : (float, float)
        `t_interval` of the values.
    p_holm : float or None
        Two-sided t test over seeds, after Holm's correction for what was judged together; of a quantity that was judged
        alone it is not corrected. It decides nothing. None where nothing was tested.
    bootstrap : (float, float) or None
        The two-level interval over seeds and scans, where there are scans. It decides nothing.
    bound : float or None
        Within which an interval says "equivalent"; None where no such bound was fixed.
    """

    values: tuple[float, ...]
    interval: tuple[float, float]
    p_holm: float | None
    bootstrap: tuple[float, float] | None = None
    bound: float | None = EQUIVALENT

    @property
    def difference(self):
        """The mean over seeds."""
        return float(np.mean(self.values))

    @property
    def verdict(self):
        """See `verdict_of`."""
        return verdict_of(self.interval, self.bound)

    @property
    def side(self):
        """Where the interval lies: "above zero", "below zero", or the verdict where it is neither."""
        return {"reproduced": "above zero", "reversed": "below zero"}.get(self.verdict, self.verdict)


def verdict_of(interval, bound=EQUIVALENT):
    """The verdict on a claim that a quantity is positive, from its 95 % interval.

    "reproduced" above 0, else "reversed" below 0, else "equivalent" inside plus or minus `bound`, else "inconclusive".
    Each of the first three is wrong in at most 2.5 % of studies: where the truth is 0, where it is 0, and where it is
    `bound` away from 0.
    """
    low, high = interval
    if low > 0:
        return "reproduced"
    if high < 0:
        return "reversed"
    return "equivalent" if bound is not None and -bound < low and high < bound else "inconclusive"


def t_interval(values, level=LEVEL):
    """The interval of a mean by Student's t over the last axis, 95 % by default; no limits where that holds one value.

    Parameters
    ----------
    values : array, (..., n)
    level : float

    Returns
    -------
    low, high : float or arrays (...)
    """
    values = np.asarray(values, float)
    n = values.shape[-1]
    mean = values.mean(-1)
    reach = np.full_like(mean, np.inf)
    if n > 1:
        reach = stats.t.ppf((1 + level) / 2, n - 1) * values.std(-1, ddof=1) / math.sqrt(n)
    low, high = mean - reach, mean + reach
    return (float(low), float(high)) if values.ndim == 1 else (low, high)


def seed_means(differences, seeds):
    """The mean of every seed's differences (N,), (seeds,) in ascending order of seed; NaN are left out.

    Of a seed that has nothing else the mean is NaN.
    """
    differences, seeds = np.asarray(differences, float), np.asarray(seeds)
    kept = ~np.isnan(differences)
    found = [differences[kept & (seeds == seed)] for seed in np.unique(seeds)]
    return np.array([values.mean() if len(values) else np.nan for values in found])


def seed_values(differences, seeds):
    """A quantity as one value a seed, (seeds,); of a seed that has none NaN. Both arguments are those of `judge`."""
    return np.asarray(differences, float) if seeds is None else seed_means(differences, seeds)


def judge(quantities, bound=EQUIVALENT):
    """Judge quantities together; each is either differences with their seeds, or one value a seed.

    Parameters
    ----------
    quantities : list of (differences (N,), seeds (N,)) or of (values (n,), None)
    bound : float or None
        See `Finding`.

    Returns
    -------
    list of Finding

    Raises
    ------
    ValueError
        The value of a seed is not finite.
    """
    means = [seed_values(*quantity) for quantity in quantities]
    if not all(np.isfinite(values).all() for values in means):
        raise ValueError("a value of a seed is not finite: an empty mask has no distance and no surface")
    p = [_p(values) for values in means]
    boots = [None if seeds is None else _bootstrap(d, seeds) for d, seeds in quantities]
    return [
        Finding(tuple(values.tolist()), t_interval(values), adjusted, boot, bound)
        for values, adjusted, boot in zip(means, holm(p), boots, strict=True)
    ]


def _p(values):
    if len(values) < 2:
        return 1.0
    if not np.ptp(values):
        return float(values[0] == 0)
    return float(stats.ttest_1samp(values, 0).pvalue)


def _bootstrap(differences, seeds):
    kept = np.isfinite(differences)
    return bootstrap_interval(np.asarray(differences)[kept], np.asarray(seeds)[kept])


def slopes(x, y, seeds):
    """The least-squares slope of `y` over `x` within every seed, (seeds,) in ascending order.

    A seed in which `x` takes one value only has none: NaN.
    """
    x, y, seeds = (np.asarray(array) for array in (x, y, seeds))
    points = [(x[seeds == s], y[seeds == s]) for s in np.unique(seeds)]
    return np.array([stats.linregress(a, b).slope if np.ptp(a) else np.nan for a, b in points])


def power(difference, deviation, seeds):
    """How often a study says "reproduced" of a true difference: the noncentral t distribution.

    Parameters
    ----------
    difference : float
        True mean over all possible seeds.
    deviation : float
        True standard deviation between seeds.
    seeds : int
        At least 2.
    """
    critical = stats.t.ppf((1 + LEVEL) / 2, seeds - 1)
    return float(stats.nct.sf(critical, seeds - 1, difference / deviation * math.sqrt(seeds)))


def smallest_seen(deviation, seeds):
    """The smallest true difference that a study of so many seeds calls "reproduced" with a power of 0.8."""
    return deviation * optimize.brentq(lambda ratio: power(ratio, 1.0, seeds) - 0.8, 0, 50)


def deviation_interval(values):
    """The 95 % interval of the standard deviation between seeds, by chi-square, from one value a seed (n,)."""
    n, spread = len(values), np.std(values, ddof=1)
    tails = stats.chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], n - 1)
    low, high = spread * np.sqrt((n - 1) / tails)
    return float(low), float(high)
