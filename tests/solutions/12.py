import numpy as np
from scipy import stats


def over_infants(values, infants):
    of = {}
    for value, infant in zip(values, infants, strict=True):
        if np.isfinite(value):
            of.setdefault(infant, []).append(value)
    means = np.array([np.mean(pictures) for pictures in of.values()])
    n = len(means)
    if n == 1:
        return means[0], -np.inf, np.inf
    reach = stats.t.ppf(0.975, n - 1) * means.std(ddof=1) / np.sqrt(n)
    return means.mean(), means.mean() - reach, means.mean() + reach
