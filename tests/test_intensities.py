"""Voxels far outside the others change neither what the networks see elsewhere nor scans that have none."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from segdet.errors import GeometryError
from segdet.intensities import normalise, usual_range
from segdet.io.dataset import folder_pairs, read_cases, tell_notes
from segdet.io.files import load_volume, save_mask
from segdet.io.itk import write_itk
from segdet.pipeline import Grids
from segdet.volume import Volume

CASES = Path(__file__).resolve().parents[2] / "shared/cases"
RNG = np.random.default_rng(8)
PLAIN = RNG.normal(90, 25, (16, 32, 24)).clip(0, 255).round()
SPACING = (1.5, 1.0, 1.0)
GRIDS = Grids((24.0, 32.0, 24.0), (16, 32, 24), (8, 16, 12))
CORNERS, SLAB, ONE = (np.zeros(PLAIN.shape, bool) for _ in range(3))
CORNERS[0, 0, 0] = CORNERS[-1, -1, -1] = SLAB[:4] = ONE[7, 15, 12] = True
MANY = np.zeros(PLAIN.shape, bool)
MANY[6, 10, 4:12] = True


def scan(voxels):
    return Volume.from_spacing(voxels, SPACING, name="scan.nii")


@pytest.fixture(autouse=True)
def no_numpy_warning():
    """An overflow would be an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


SPOILED = [
    (np.int16, -1024, CORNERS),
    (np.int16, -1024, SLAB),
    (np.float32, 9.97e36, CORNERS),
    (np.float32, 1e36, SLAB),
    (np.float32, np.finfo(np.float32).max, CORNERS),
    (np.float32, np.finfo(np.float32).min, CORNERS),
    (np.float64, np.finfo(np.float64).max, CORNERS),
    (np.float64, 1e300, SLAB),
    (np.float64, [1e300, -1e300], CORNERS),
    (np.int32, 1e6, ONE),
    (np.float32, 1e6, ONE),
    (np.float64, 1e6, ONE),
    (np.float32, RNG.uniform(1e4, 1e6, 8), MANY),
]


@pytest.mark.parametrize(("dtype", "value", "where"), SPOILED)
def test_the_rest_of_the_scan_stays_as_it_was(dtype, value, where):
    voxels = PLAIN.astype(dtype)
    voxels[where] = value
    spoiled, plain = scan(voxels), scan(PLAIN)
    for how in ("zscore", "unit"):
        difference = np.abs(spoiled.normalised(how) - plain.normalised(how))[~where]
        assert difference.max() < 0.03
    for seen, expected in zip(GRIDS.inputs(spoiled)[2:], GRIDS.inputs(plain)[2:], strict=True):
        away = np.abs(seen - expected)[4 * len(seen) // 16 + 1 :] if where is SLAB else np.abs(seen - expected)
        assert np.quantile(away, 0.98) < 0.03
        assert np.isfinite(seen).all()
    note = spoiled.limited()[0].notes[-1]
    assert f"range {PLAIN[~where].min():g} to {PLAIN[~where].max():g} of the others: {where.sum()} of 12288" in note


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize(
    "voxels",
    [
        PLAIN,
        np.where(PLAIN < 100, 0, PLAIN + 700),  # a background of zeros, far from the rest
        np.where(RNG.random(PLAIN.shape) < 0.01, PLAIN + 200, PLAIN),  # a bright object
        np.where(PLAIN > 100, 3, 0),  # a label map
        np.where(CORNERS, 4, 3),
        PLAIN[:1, :4, :4],
    ],
)
def test_an_ordinary_scan_is_normalised_as_ever(voxels, dtype):
    volume = scan(voxels.astype(dtype))
    assert volume.limited() == (volume, None)
    z = voxels.astype(np.float32)
    np.testing.assert_allclose(volume.normalised(), (z - z.mean()) / z.std(), rtol=1e-5, atol=1e-6)
    low, high = np.percentile(z, (0.5, 99.5))
    np.testing.assert_allclose(volume.normalised("unit"), np.clip((z - low) / ((high - low) or 1), 0, 1), atol=1e-6)


def test_eight_bits_are_never_far_outside():
    voxels = (PLAIN / 8).astype(np.uint8)  # at most 31
    voxels[CORNERS] = 255
    assert usual_range(voxels) == (voxels.min(), 255)
    assert usual_range(voxels.astype(np.int16)) == (voxels.min(), voxels[~CORNERS].max())


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1, -3.3, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_scan_is_exactly_zero(value, dtype):
    volume = scan(np.full(PLAIN.shape, value, dtype))
    resampled = volume.resample((13, 21, 17), (1.9, 1.3, 1.2))
    *_, slices, image = GRIDS.inputs(volume)
    for seen in (slices, image, *(v.normalised(how) for v in (volume, resampled) for how in ("zscore", "unit"))):
        assert not seen.any()


def test_moments_do_not_depend_on_the_type_or_the_offset():
    far = (PLAIN / 16 + 1e5).astype(np.float32)
    for how in ("zscore", "unit"):
        assert np.array_equal(scan(far).normalised(how), scan(far.astype(np.float64)).normalised(how))
        np.testing.assert_allclose(scan(far).normalised(how), scan(PLAIN).normalised(how), atol=0.1)
    assert normalise(far, "zscore").std() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="how must be"):
        normalise(far, "other")


@pytest.mark.parametrize(
    ("dtype", "offset", "scale"),
    [(np.float64, 1e9, 1), (np.float64, -1e7, 1e-3), (np.int32, 2_000_000_000, 1), (np.int64, 2**60, 1),
     (np.uint64, 2**63, 1), (np.float64, 0, 1e-300), (np.float64, 1e-290, 1e-300), (np.float32, 5, 1e-3)],
)  # fmt: skip
def test_steps_that_float32_would_lose(dtype, offset, scale):
    """Neither how a scan is offset nor its unit changes what the networks see."""
    voxels = PLAIN.astype(dtype) + dtype(offset) if scale == 1 else (PLAIN * scale + offset).astype(dtype)
    expected = (PLAIN - PLAIN.mean()) / PLAIN.std()
    np.testing.assert_allclose(scan(voxels).normalised(), expected, atol=1e-3)
    for seen, plain in zip(GRIDS.inputs(scan(voxels))[2:], GRIDS.inputs(scan(PLAIN))[2:], strict=True):
        np.testing.assert_allclose(seen, plain, atol=1e-3)


def test_rounding_of_a_constant_is_no_step():
    for value in (0.1, 1e9 + 0.3):
        voxels = np.full(PLAIN.shape, value)
        voxels[::2] = np.nextafter(value, 2 * value)
        assert not scan(voxels).normalised().any()


def test_only_some_voxels_may_decide():
    voxels = PLAIN.astype(np.float32)
    voxels[CORNERS] = 1e36
    over = np.zeros(voxels.shape, bool)
    over[:8] = True
    counted = voxels[over & ~CORNERS]
    z = normalise(voxels, "zscore", over & ~CORNERS)
    np.testing.assert_allclose(z[1], (voxels[1] - counted.mean()) / counted.std(), atol=1e-4)


def test_a_working_voxel_that_holds_a_clipped_one_does_not_count():
    voxels = PLAIN.astype(np.float32)
    voxels[ONE] = 1e6
    seen = voxels.clip(max=voxels[~ONE].max())
    coarse, clipped = (a.reshape(8, 2, 16, 2, 12, 2) for a in (seen, ONE))
    coarse, clipped = coarse.mean((1, 3, 5)), clipped.any((1, 3, 5))
    *_, image = GRIDS.inputs(scan(voxels))
    counted = coarse[~clipped]
    np.testing.assert_allclose(image, (coarse - counted.mean()) / counted.std(), atol=1e-4)
    assert abs(image[~clipped].mean(dtype=float)) < 1e-6 < abs(image.mean(dtype=float))


def test_intensities_beyond_float32_are_refused():
    with pytest.raises(GeometryError, match=r"scan\.nii: its intensities, 0 to .*e\+302, are too large; rescale it"):
        GRIDS.inputs(scan(PLAIN * 1e300))
    voxels = np.where(CORNERS, 1e300, PLAIN)  # one that the networks would see clipped
    with pytest.raises(GeometryError, match=r"scan\.nii: its intensities, .* to 1e\+300, are too large"):
        scan(voxels).resample((8, 16, 12), (3, 2, 2))


def test_files_say_it_and_training_names_the_scan(tmp_path):
    for number in range(3):
        voxels = PLAIN.astype(np.float32)
        if number == 1:
            voxels[CORNERS] = 9.97e36
        write_itk(voxels, scan(voxels), tmp_path / f"s{number}.nii")
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / f"s{number}.nii").rename(tmp_path / f"images/s{number}.nii")
        save_mask(PLAIN > 100, tmp_path / f"labels/s{number}.nii", scan(PLAIN))
    volume = load_volume(tmp_path / "images/s1.nii")
    assert volume.voxels.max() == np.float32(9.97e36)  # as in the file
    assert "2 of 12288, up to 9.97e+36" in volume.notes[-1]
    assert load_volume(tmp_path / "images/s0.nii").notes == ()
    with pytest.warns(UserWarning, match="far outside") as caught:
        tell_notes(read_cases(folder_pairs(tmp_path)))
    assert [str(warning.message) for warning in caught] == [f"s1.nii: {volume.notes[-1]}"]


@pytest.mark.skipif(not CASES.exists(), reason="needs ../shared/cases")
def test_cases_with_a_fill_value():
    plain, filled = (load_volume(CASES / "60_predict" / name) for name in ("plain.mha", "float64_max.nii.gz"))
    assert "up to 1e+300" in filled.notes[-1]
    same = plain.voxels == filled.voxels
    assert same.mean() > 0.99
    for seen, expected in zip(GRIDS.inputs(filled)[2:], GRIDS.inputs(plain)[2:], strict=True):
        assert np.quantile(np.abs(seen - expected), 0.98) < 0.01
