"""A second annotator: deterministic, and as far from the first as was asked."""

import itertools

import numpy as np
import pytest

from segdet.metrics import dice
from segdet.phantom.anatomy import anatomy
from segdet.phantom.annotator import annotate

SPACING = (0.52, 0.44, 0.8)


@pytest.fixture(scope="module")
def head():
    return anatomy(3, (64, 92, 48)).mask


@pytest.mark.parametrize("asked", [0.97, 0.95, 0.9, 0.85])
def test_the_stated_dice(head, asked):
    drawn = [annotate(head, SPACING, seed, asked) for seed in range(10)]
    between = [dice(a, b) for a, b in itertools.combinations(drawn, 2)]
    assert np.mean(between) == pytest.approx(asked, abs=0.012)
    assert np.mean([d.sum() for d in drawn]) == pytest.approx(head.sum(), rel=0.04)  # nobody draws too much on purpose
    assert dice(np.mean(drawn, 0) > 0.5, head) > (1 + asked) / 2  # together they know better


def test_the_same_annotator_draws_the_same(head):
    assert np.array_equal(annotate(head, SPACING, 1), annotate(head, SPACING, 1))
    assert not np.array_equal(annotate(head, SPACING, 1), annotate(head, SPACING, 2))
    assert not annotate(head & False, SPACING, 1).any()
    with pytest.raises(ValueError, match=r"between 0\.7 and 1, not 0\.2"):
        annotate(head, SPACING, 1, 0.2)
