"""The ablation (chapter 10): one number a seed, and how sure the mean of a few seeds is."""

import numpy as np

from .exercise import FURTHER, Check, exercise


def _seed_means():
    yield Check(
        "two seeds with two scans each", (np.array([0.1, 0.3, 0.0, 0.1]), np.array([0, 0, 1, 1])), np.array([0.2, 0.05])
    )
    yield Check(
        "seeds mixed, in ascending order", (np.array([1.0, 5.0, 3.0]), np.array([7, 2, 7])), np.array([5.0, 2.0])
    )
    few = np.array([1.0, np.nan, 4.0]), np.array([0, 0, 1])
    yield Check("a scan without a number is left out", few, np.array([1.0, 4.0]))


@exercise(
    FURTHER,
    _seed_means,
    "`np.unique(seeds)` gives each seed once, in ascending order; select with `seeds == seed`.",
    "`np.nanmean` leaves NaN out.",
)
def seed_means(differences, seeds):
    """The mean of every seed's differences.

    Parameters
    ----------
    differences : ndarray, (N,)
        NaN where a scan has no number; it does not count.
    seeds : ndarray of int, (N,)

    Returns
    -------
    ndarray, (seeds,)
        In ascending order of seed.
    """


def _t_interval():
    from scipy import stats

    def scipy(values, level=0.95):
        return tuple(map(float, stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))))

    # mean 2, deviation 1, t = 4.303 for two degrees of freedom
    yield Check(
        "three values, from a table of t", (np.array([1.0, 2.0, 3.0]),), (2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5)
    )
    gains = np.array([0.09, 0.06, 0.12, 0.08, 0.11])
    yield Check("five seeds, against SciPy", (gains,), scipy(gains))
    yield Check("at a level of 0.9 it is narrower", (gains, 0.9), scipy(gains, 0.9))
    yield Check("equal values leave no width", (np.full(4, 0.25),), (0.25, 0.25))
    yield Check("one value has no limits", (np.array([0.3]),), (-np.inf, np.inf))


@exercise(
    FURTHER,
    _t_interval,
    "Mean plus and minus t times s / sqrt(n). The deviation s divides by n - 1: `ddof=1`.",
    "Two sides share what is left out: t is the quantile at (1 + level) / 2, not at the level.",
    "`scipy.stats.t.ppf(q, n - 1)`, with one degree of freedom less than values. A single value has no spread at all.",
)
def t_interval(values, level=0.95):
    """The interval of a mean by Student's t.

    Parameters
    ----------
    values : ndarray, (n,)
    level : float

    Returns
    -------
    low, high : float
        Minus and plus infinity for a single value.
    """


def _holm():
    yield Check(
        "0.01, 0.04, 0.03: times 3, 1 and 2, never falling", ([0.01, 0.04, 0.03],), np.array([0.03, 0.06, 0.06])
    )
    yield Check("no more than 1", ([0.6, 0.7],), np.array([1.0, 1.0]))
    yield Check("one comparison needs no correction", ([0.2],), np.array([0.2]))
    yield Check("four, in any order", ([0.04, 0.001, 0.2, 0.012],), np.array([0.08, 0.004, 0.2, 0.036]))


@exercise(
    FURTHER,
    _holm,
    "Sort. Of m values multiply the smallest by m, the next by m - 1, and so on.",
    "A larger p may not end below a smaller one: take the running maximum (`np.maximum.accumulate`).",
    "Put the results back in the order of the input: `result[order] = adjusted`.",
)
def holm(p_values):
    """Holm's step-down adjustment of p-values.

    Parameters
    ----------
    p_values : list of float

    Returns
    -------
    ndarray, (n,)
        In the order given, none above 1.
    """


EXERCISES = (seed_means, t_interval, holm)
