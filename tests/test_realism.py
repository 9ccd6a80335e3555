"""Measures of realism on pictures whose greys, texture and contrast are known."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from segdet.infants import realism
from segdet.infants.pictures import GIVEN, Infant

SPACING = 0.22, 0.4


def scan(seed, width_mm=1.0, dark=0.2, pictures=4):
    """Smoothed noise around a darker head, as an `Infant`."""
    rng = np.random.default_rng(seed)
    slices, boxes = [], []
    for _ in range(pictures):
        noise = ndimage.gaussian_filter(rng.standard_normal((184, 96)), np.divide(width_mm, SPACING) / 2)
        grey = 0.6 + 0.1 * noise / noise.std()
        grey[60:130, 30:70] -= dark
        slices.append(torch.tensor(grey.clip(0, 1), dtype=torch.float32))
        boxes.append([[30.0, 60, 70, 130]])
    return Infant(f"{seed}", torch.stack(slices), torch.tensor(boxes), SPACING, GIVEN)


def test_contrast_follows_the_darkness_of_the_head():
    plain, dark = (realism.measures(scan(0, dark=d))["contrast"].mean() for d in (0.0, 0.2))
    assert abs(plain) < 0.05
    assert dark > plain + 0.2


def test_a_step_gives_its_contrast_and_shadow_exactly():
    grey = torch.full((1, 184, 96), 0.5)
    grey[:, 60:130, 30:70] = 0.25  # the head
    grey[:, 95:130, :27] = 0.125  # half dark beside it
    infant = Infant("a", grey, torch.tensor([[[30.0, 60, 70, 130]]]), SPACING, GIVEN)
    window, boxes = realism.windows(infant)
    assert window.shape == (1, 159, 91)
    assert boxes[0].tolist() == [28, 60, 68, 130]  # two columns are cut off at the left
    found = realism.measures(infant)
    assert found["contrast"][0] == pytest.approx((0.5 - 0.25) / 0.375)  # 0.125 and 0.5, the ends, become 0 and 1
    # beside the head, 2 columns away from it, lie 26 columns at the left, 25 of them black, and 21 bright ones
    assert found["shadow"][0] == pytest.approx(22 / 47)


def test_profiles_run_through_the_head_and_beside_it():
    """A head of 8 x 8 pixels: steps of two rows, and bands of two columns, two beside it."""
    picture = np.full((24, 20), 0.5, np.float32)
    picture[:, :2] = picture[22:] = 0  # not recorded
    picture[6:14, 6:14] = 0.25  # the head
    picture[10:12, 9:11] = 0.125  # in the middle quarter, columns 9 and 10
    picture[12:14, [2, 3, 16, 17]] = 1, 1, 0.25, 0.25  # beside
    picture[12:14, [4, 5, 15, 18]] = 0.75  # next to these bands
    found = realism.depth_profiles(picture, (6, 6, 14, 14))
    through, beside = [0.5, 0.5, 0.25, 0.25, 0.125, 0.25, 0.5, 0.5], [0.5] * 5 + [0.625, 0.5, 0.5]
    np.testing.assert_array_equal(found, [through, beside])
    np.testing.assert_array_equal(realism.depth_profiles(picture[:, 2:], (4, 6, 12, 14)), found)
    one_side = realism.depth_profiles(np.where(np.arange(20) < 6, 0, picture), (6, 6, 14, 14))
    np.testing.assert_array_equal(one_side, [through, [0.5] * 5 + [0.25, 0.5, 0.5]])  # the other was not recorded
    deep = realism.depth_profiles(picture, (6, 14, 14, 22))  # 22 and deeper holds nothing
    assert np.isnan(deep).tolist() == [[False] * 6 + [True] * 2] * 2
    assert np.isnan(realism.depth_profiles(np.zeros_like(picture), (6, 6, 14, 14))).all()


def test_an_infant_has_the_mean_profile_of_its_labelled_pictures():
    slices = torch.full((3, 24, 20), 0.5)
    slices[1] = 0.25
    slices[1, 14:] = 0  # ends with the head
    slices[2] = 1  # has no label
    boxes = torch.tensor([[[6.0, 6, 14, 14]], [[6, 6, 14, 14]], [[0, 0, 0, 0]]])
    rows = realism.depth_rows(Infant("a", slices, boxes, SPACING, GIVEN))
    assert [row["part"] for row in rows] == ["through"] * 8 + ["beside"] * 8
    assert [row["depth"] for row in rows] == [-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1.25] * 2
    assert [row["grey"] for row in rows] == ([37.5] * 6 + [50] * 2) * 2
    slices[0, 16:] = 0
    assert np.isnan(realism.depth_rows(Infant("a", slices, boxes, SPACING, GIVEN))[7]["grey"])


@pytest.mark.parametrize("width", [0.8, 1.6])
def test_the_texture_is_as_wide_as_it_was_made(width):
    """White noise under a Gaussian of deviation s has the autocorrelation exp(-d^2 / 4 s^2): half at 1.665 s."""
    found = realism.measures(scan(1, width_mm=width, dark=0.0, pictures=12))
    expected = 1.665 * width / 2
    assert found["texture_depth_mm"].mean() == pytest.approx(expected, rel=0.2)
    assert found["texture_width_mm"].mean() == pytest.approx(expected, rel=0.25)


def test_equal_groups_are_not_apart_and_different_ones_are():
    a, b = ([realism.measures(scan(10 * k + i)) for i in range(6)] for k in (1, 2))
    other = [realism.measures(scan(30 + i, width_mm=2.0, dark=0.35)) for i in range(6)]
    same, apart = realism.distances(a, b), realism.distances(a, other)
    assert apart["texture_depth_mm"]["apart"] > 5
    assert apart["contrast"]["real"] < apart["contrast"]["simulated"]
    assert same["histogram"]["apart"] < apart["histogram"]["apart"]
    assert same["contrast"]["real"] == pytest.approx(np.mean([m["contrast"].mean() for m in a]))


def test_the_classifier_tells_only_what_differs():
    """Left-out scans of the same kind are told apart no better than by chance, of other kinds nearly always."""
    a, b = ([realism.measures(scan(100 * k + i, pictures=3)) for i in range(10)] for k in (1, 2))
    other = [realism.measures(scan(300 + i, width_mm=2.0, pictures=3)) for i in range(10)]
    told = realism.told_apart(a, other)
    assert told["infants"].shape == told["scans"].shape == (10,)
    assert min(told["infants"].mean(), told["scans"].mean()) > 0.9
    chance = realism.told_apart(a, b)
    assert 0.2 < (chance["infants"].mean() + chance["scans"].mean()) / 2 < 0.8
