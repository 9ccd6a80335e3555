"""From simulated to real infants (chapter 12): the sample are infants, not pictures."""

import numpy as np

from .exercise import FURTHER, Check, exercise


def _over_infants():
    from scipy import stats

    # means 0.6 and 0.8: mean 0.7, deviation 0.1414, error 0.1, t = 12.706 for one degree of freedom
    two = np.array([0.5, 0.7, 0.6, 0.8]), ["a", "a", "a", "b"]
    yield Check(
        "three pictures of one, one of another: each infant counts once", two, (0.7, 0.7 - 1.2706, 0.7 + 1.2706)
    )
    names = [f"infant-{i}" for i in (3, 1, 2, 1, 3, 3, 0, 2)]
    values = np.array([0.71, 0.42, 0.63, 0.5, 0.69, 0.55, 0.8, 0.61])
    means = [values[[n == name for n in names]].mean() for name in sorted(set(names))]
    low, high = stats.t.interval(0.95, 3, np.mean(means), stats.sem(means))
    yield Check("four infants, mixed, against SciPy", (values, names), (float(np.mean(means)), float(low), float(high)))
    missing = np.array([0.5, np.nan, 0.7]), ["a", "a", "b"]
    yield Check("a picture without a number does not count", missing, (0.6, 0.6 - 1.2706, 0.6 + 1.2706))
    yield Check(
        "one infant: no limits, however many pictures", (np.array([0.4, 0.6]), ["a", "a"]), (0.5, -np.inf, np.inf)
    )


@exercise(
    FURTHER,
    _over_infants,
    "Average the pictures of each infant first; then there are as many numbers as infants.",
    "The mean is that of the infants' means, not of all pictures, and n is the number of infants.",
    "Then it is `t_interval` of chapter 10. Leave NaN out before averaging.",
)
def over_infants(values, infants):
    """The mean over infants and its 95 % t interval.

    Parameters
    ----------
    values : ndarray, (N,)
        A number a picture; NaN does not count.
    infants : list of str, (N,)
        Whose picture it is.

    Returns
    -------
    mean, low, high : float
        The limits are infinite for a single infant.
    """


EXERCISES = (over_infants,)
