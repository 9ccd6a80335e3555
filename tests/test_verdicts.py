"""The rule of protocol 2: by hand, against scipy, and by simulation under a known truth."""

import numpy as np
import pytest
from scipy import stats

from segdet.analysis.statistics import bootstrap_interval
from segdet.analysis.verdicts import (
    EQUIVALENT,
    deviation_interval,
    judge,
    power,
    slopes,
    smallest_seen,
    t_interval,
    verdict_of,
)

TRIALS, SEEDS = 20_000, 10


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.001, 0.2), "reproduced"),
        ((0.001, 0.01), "reproduced"),  # a small difference that is there is there
        ((-0.2, -0.001), "reversed"),
        ((-0.019, 0.019), "equivalent"),
        ((-0.02, 0.01), "inconclusive"),
        ((-0.01, 0.03), "inconclusive"),
        ((-0.01, 0.02), "inconclusive"),
        ((0.0, 0.1), "inconclusive"),
        ((-0.1, 0.0), "inconclusive"),
        ((-np.inf, np.inf), "inconclusive"),
    ],
)
def test_the_rule(interval, verdict):
    assert verdict_of(interval) == verdict


def test_without_a_bound_nothing_is_equivalent():
    assert verdict_of((-0.001, 0.001), bound=None) == "inconclusive"


def test_the_interval_by_hand_and_as_scipy():
    low, high = t_interval([1.0, 2.0, 3.0])  # 2 -+ 4.302653 * 1 / sqrt(3)
    assert (low, high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    values = np.random.default_rng(0).normal(size=9)
    assert t_interval(values) == pytest.approx(tuple(stats.ttest_1samp(values, 0).confidence_interval(0.95)))
    assert t_interval([1.0, 3.0]) == pytest.approx((2 - 12.706205, 2 + 12.706205))  # 12.706205 * sqrt(2) / sqrt(2)
    assert t_interval([0.3]) == (-np.inf, np.inf)


def test_a_seed_counts_once_however_many_scans_it_has():
    differences, seeds = [0.1, 0.1, 0.1, 0.3, np.nan], [7, 7, 7, 3, 3]
    (found,) = judge([(differences, seeds)])
    assert found.values == pytest.approx((0.3, 0.1))  # in the order of seeds 3, 7
    assert found.difference == pytest.approx(0.2)
    assert found.p_holm == pytest.approx(stats.ttest_1samp([0.3, 0.1], 0).pvalue)
    assert found.bootstrap is not None
    first, second = judge([([0.1, 0.2, 0.3], None), ([0.1, 0.2, 0.4], None)])
    assert first.p_holm == pytest.approx(2 * stats.ttest_1samp([0.1, 0.2, 0.3], 0).pvalue)
    assert first.bootstrap is second.bootstrap is None
    with pytest.raises(ValueError, match="not finite"):
        judge([([0.1, 0.2], None), ([0.1, np.inf], None)])


@pytest.mark.parametrize(("values", "p"), [([0.3], 1), ([0.1, 0.1], 0), ([0.0, 0.0], 1), ([1.0, 3.0], 0.2951672)])
def test_the_chance_of_few_values(values, p):
    """One says nothing, equal ones leave no chance but where they are 0; of two t is 2 and p 1 - 2 atan(2) / pi."""
    (found,) = judge([(values, None)])
    assert found.p_holm == pytest.approx(p)


def test_slopes_by_hand():
    x, y = [0, 1, 2, 0, 1, 2], [1, 3, 5, 0, -1, -2]
    assert slopes(x, y, [4, 4, 4, 2, 2, 2]).tolist() == pytest.approx([-1, 2])
    assert slopes([3, 3, 0, 1], [0, 1, 0, 5], [0, 0, 1, 1]).tolist() == pytest.approx([np.nan, 5], nan_ok=True)


def simulated(truth, between=0.03, within=0.12, trials=TRIALS):
    """Differences of so many studies, (trials, 10 seeds, 49 scans)."""
    rng = np.random.default_rng(0)
    return truth + rng.normal(0, between, (trials, SEEDS, 1)) + rng.normal(0, within, (trials, SEEDS, 49))


def test_coverage_of_the_interval_over_seeds():
    """The truth lies in 93 to 97 % of the intervals; 20 000 studies know that to 0.3 %."""
    rng = np.random.default_rng(1)
    means = 0.05 + rng.normal(0, 0.03, (TRIALS, SEEDS)) + rng.normal(0, 0.12 / 7, (TRIALS, SEEDS))
    low, high = t_interval(means)
    assert 0.945 < np.mean((low < 0.05) & (high > 0.05)) < 0.955
    skewed = rng.exponential(0.03, (TRIALS, SEEDS))  # even where the seeds are far from normal
    low, high = t_interval(skewed)
    assert 0.87 < np.mean((low < 0.03) & (high > 0.03)) < 0.93


def test_the_two_level_bootstrap_covers_less():
    """Beside it, on the same studies: the interval of protocol 1 misses the truth more often than it says."""
    studies = simulated(0.0, trials=400)
    low, high = t_interval(studies.mean(-1))
    of_t = np.mean((low < 0) & (high > 0))
    seeds = np.repeat(np.arange(SEEDS), 49)
    found = [bootstrap_interval(study.ravel(), seeds, repeats=200) for study in studies]
    of_bootstrap = np.mean([low < 0 < high for low, high in found])
    assert 0.93 < of_t < 0.97
    assert 0.88 < of_bootstrap < 0.95
    assert of_bootstrap < of_t


def rates(truth, between):
    """How often each verdict falls."""
    means = truth + np.random.default_rng(2).normal(0, between, (TRIALS, SEEDS))
    verdicts = [verdict_of(interval) for interval in zip(*t_interval(means), strict=True)]
    return {name: verdicts.count(name) / TRIALS for name in ("reproduced", "reversed", "equivalent", "inconclusive")}


def test_the_stated_errors_of_the_verdicts():
    """At most 2.5 % each: a difference that is not there, and one that matters called equivalent."""
    nothing = rates(0.0, 0.03)
    assert 0.02 < nothing["reproduced"] < 0.03
    assert 0.02 < nothing["reversed"] < 0.03
    for between in (0.002, 0.01, 0.02, 0.03):
        assert rates(EQUIVALENT, between)["equivalent"] < 0.028
        assert rates(-EQUIVALENT, between)["equivalent"] < 0.028
    assert rates(0.0, 0.01)["equivalent"] > 0.9  # and where it is true it is found


def test_power_is_what_simulation_finds():
    assert power(0.0, 1.0, SEEDS) == pytest.approx(0.025)
    assert power(0.03, 0.03, SEEDS) == pytest.approx(rates(0.03, 0.03)["reproduced"], abs=0.01)
    least = smallest_seen(0.03, SEEDS)
    assert power(least, 0.03, SEEDS) == pytest.approx(0.8)
    assert smallest_seen(0.06, SEEDS) == pytest.approx(2 * least)
    assert smallest_seen(0.03, 5) > least


def test_the_deviation_between_seeds_is_known_badly_from_five():
    low, high = deviation_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (low, high) == pytest.approx((np.sqrt(10 / 11.1433), np.sqrt(10 / 0.484419)), rel=1e-4)
