import numpy as np
from scipy import stats


def seed_means(differences, seeds):
    return np.array([np.nanmean(differences[seeds == seed]) for seed in np.unique(seeds)])


def t_interval(values, level=0.95):
    n = len(values)
    if n == 1:
        return -np.inf, np.inf
    reach = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return values.mean() - reach, values.mean() + reach


def holm(p_values):
    p = np.array(p_values)
    order = p.argsort()
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    result = np.empty(len(p))
    result[order] = adjusted
    return result
