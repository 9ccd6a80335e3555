"""The simulated infant hip: a contract on its arrays, and its physics against numbers worked out by hand."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import stats

from segdet.errors import SegdetError
from segdet.phantom import make
from segdet.phantom.acoustics import attenuate, focus, image, make_phantom, scatter, stages
from segdet.phantom.anatomy import Anatomy, anatomy
from segdet.phantom.hip2.parameters import Hip2Parameters
from segdet.phantom.hip2.scanners import Scanner
from segdet.phantom.parameters import DYSPLASTIC, HipParameters

SMALL = (32, 46, 24)
P = HipParameters()


def slab(echogenicity_db, attenuation=0.0, spacing=(0.26, 0.22, 0.40)):
    """An anatomy of scatterers only, with the given echogenicity map."""
    echo = np.asarray(echogenicity_db, float)
    zero = np.zeros(echo.shape)
    return Anatomy(
        labels=zero.astype(np.uint8),
        tissues=("muscle",),
        mask=zero > 0,
        echogenicity_db=echo,
        attenuation=zero + attenuation,
        specular=zero,
        spacing=spacing,
        side="left",
        age_days=50,
        head_radius_mm=8.0,
        head_centre_mm=(0, 0, 0),
    )


def envelope(scatterers, spacing=(0.26, 0.22, 0.40), parameters=None):
    return focus(scatterers, spacing, parameters).abs().numpy()


def decibels(power):
    return 10 * np.log10(power)


def test_default_grid_is_the_papers():
    scan = make_phantom(7)
    assert scan.shape == scan.mask.shape == (128, 184, 96)
    assert scan.voxels.dtype == np.uint8
    assert scan.mask.dtype == bool
    np.testing.assert_allclose(scan.spacing, (0.26, 0.22, 0.40))
    assert scan.name == "phantom-0007"
    assert scan.meta["phantom_version"] == "1"
    assert scan.meta["seed"] == 7
    assert scan.meta["contrast_db"] == 6.0
    assert 0.02 < scan.mask.mean() < 0.10
    assert not scan.mask[[0, -1]].any()
    assert np.mean(scan.voxels == 255) < 0.02


@pytest.mark.parametrize("shape", [SMALL, (16, 24, 16), (8, 8, 8)])
def test_every_grid_shows_the_same_hip(shape):
    small, large = make_phantom(3, shape), anatomy(3, (64, 92, 48))
    assert small.shape == shape
    np.testing.assert_allclose(np.array(small.spacing) * shape, (33.28, 40.48, 38.40))
    # the volume in mm3 differs by the voxels on the surface only
    volumes = [m.sum() * np.prod(s) for m, s in ((small.mask, small.spacing), (large.mask, large.spacing))]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.15 if min(shape) == 8 else 0.03)


def test_same_seed_same_bytes_and_other_seeds_differ():
    first, again, other = make_phantom(5, SMALL), make_phantom(5, SMALL), make_phantom(6, SMALL)
    assert first.voxels.tobytes() == again.voxels.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()
    assert not np.array_equal(first.voxels, other.voxels)
    assert not np.array_equal(first.mask, other.mask)


@pytest.mark.parametrize("version", [1, 2])
def test_threads_do_not_change_the_bytes(version):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = make.make_phantom(5, SMALL, version=version).voxels
        torch.set_num_threads(2)
        np.testing.assert_array_equal(one, make.make_phantom(5, SMALL, version=version).voxels)
    finally:
        torch.set_num_threads(threads)


def test_streams_are_independent():
    base, faint = stages(4, SMALL, contrast_db=6.0), stages(4, SMALL, contrast_db=3.0)
    a, b = base["anatomy"], faint["anatomy"]
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.mask, b.mask)
    # the head alone is 3 dB brighter, and the scatterers are the same random numbers
    nucleus = a.tissues.index("nucleus")
    cartilage = a.mask & (a.labels != nucleus)
    np.testing.assert_allclose((b.echogenicity_db - a.echogenicity_db)[cartilage], 3.0)
    muscle = a.labels == a.tissues.index("muscle")
    np.testing.assert_array_equal(base["scatterers"][muscle], faint["scatterers"][muscle])
    # asking for the side that would be drawn changes nothing
    np.testing.assert_array_equal(make_phantom(4, SMALL, side=a.side).voxels, base["volume"].voxels)
    # other scanner settings leave the hip alone
    settings = replace(P, frequency_mhz=5.0, texture_mm=4.0, noise_db=-40.0)
    np.testing.assert_array_equal(anatomy(4, SMALL, parameters=settings).labels, a.labels)


@pytest.mark.parametrize("seed", range(3))
def test_the_number_of_look_alikes_moves_no_other_tissue(seed):
    """A dial of its own: with none, few or many of them, all other tissue stays where it is."""
    many, default, none = (
        anatomy(seed, SMALL, parameters=replace(P, look_alikes=count)) for count in ((40, 40), P.look_alikes, (0, 0))
    )
    pockets = [body.labels == body.tissues.index("look-alike") for body in (many, default, none)]
    assert pockets[0].sum() > 1.5 * pockets[1].sum() > 0 == pockets[2].sum()
    extra = np.isin(many.labels, [many.tissues.index(name) for name in ("look-alike", "vessel")])
    for body in (default, none):
        np.testing.assert_array_equal(body.labels[~extra], many.labels[~extra])
        np.testing.assert_array_equal(body.mask, many.mask)
        same = ~extra & np.isin(many.labels, [many.tissues.index(name) for name in ("muscle", "fat", "head")])
        np.testing.assert_array_equal(body.echogenicity_db[same], many.echogenicity_db[same])


def test_what_was_changed_travels_with_the_scan():
    assert "changed" not in make_phantom(4, SMALL).meta
    assert make_phantom(4, SMALL, parameters=replace(P, noise_db=-50.0)).meta["changed"] == "noise_db=-50.0"
    assert (
        make_phantom(4, SMALL, parameters=DYSPLASTIC).meta["changed"].startswith("coverage=(0.33, 0.05), displacement")
    )


def test_noise_is_a_dial():
    """Where only noise is heard, 10 dB more of it are 10 dB of grey; where the echo is strong nothing changes."""
    quiet, loud = (make_phantom(4, SMALL, parameters=replace(P, noise_db=level)) for level in (-60.0, -50.0))
    body = anatomy(4, SMALL)
    shadow = np.cumsum(body.labels == body.tissues.index("bone"), axis=1) * body.spacing[1] > 5
    unclipped = shadow & (quiet.voxels > 0) & (loud.voxels < 255)
    rise = loud.voxels[unclipped].astype(float) - quiet.voxels[unclipped]
    assert unclipped.sum() > 500
    assert np.median(rise) == pytest.approx(255 * 10 / P.dynamic_range_db, rel=0.1)
    shallow = (slice(None), slice(0, 8))
    assert np.abs(loud.voxels[shallow].astype(float) - quiet.voxels[shallow]).mean() < 2


def covered_share(body):
    """The share of the head's depth below the ilium's line, read off in the slice where the head is largest."""
    index = np.argmax(body.mask.sum((1, 2)))
    head, bone = body.mask[index], body.labels[index] == body.tissues.index("bone")
    rows, columns = (np.flatnonzero(head.any(axis)) for axis in (1, 0))
    ilium = slice(columns[0] - round(5 / body.spacing[2]), columns[0] - round(3 / body.spacing[2]))
    line = np.median(np.argmax(bone[:, ilium], axis=0))
    return (rows[-1] + 1 - line) / len(rows)


def test_a_dysplastic_hip_is_covered_less():
    shares = [
        [covered_share(anatomy(seed, (32, 184, 96), side="left", parameters=p)) for seed in range(12)]
        for p in (P, DYSPLASTIC)
    ]
    normal, dysplastic = np.mean(shares, axis=1)
    assert normal == pytest.approx(0.58, abs=0.15)  # the tilt makes single hips deviate by 0.17: 3 standard errors
    assert dysplastic < min(0.33, normal - 0.2)  # below Morin's share, for the head also rides higher
    heads = [anatomy(3, SMALL, parameters=p).mask for p in (P, DYSPLASTIC)]
    assert np.mean(heads[0] != heads[1]) < 0.01  # the pelvis differs, the femur hardly


@pytest.mark.parametrize("kind", [HipParameters, Hip2Parameters, Scanner])
def test_every_parameter_has_a_unit_and_a_source(kind):
    for entry in fields(kind):
        assert entry.metadata["unit"], entry.name
        assert entry.metadata["source"], entry.name
        assert entry.metadata["kind"] in ("", "mean, deviation", "range"), entry.name


@pytest.mark.parametrize(
    ("dial", "found"),
    [
        ({"noise_db": float("nan")}, "noise_db must be finite, found nan"),
        ({"noise_db": -301.0}, "noise_db is -301; expected -300 to 40 dB"),
        ({"coverage": ("much", 0.1)}, "coverage must be a number, found 'much'"),
        ({"look_alikes": (5, 3)}, "look_alikes must run from less to more"),
        ({"look_alikes": (-3, -3)}, "look_alikes counts, so 0 or more"),
        ({"look_alikes": (0.5, 0.5)}, "look_alikes counts"),
        ({"coverage": 0.4}, "coverage must be a pair"),
    ],
)
def test_impossible_dials_are_named(dial, found):
    with pytest.raises(SegdetError, match=found):
        replace(P, **dial)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_shows_the_same_image():
    for seed in range(3):
        cpu, gpu = (make_phantom(seed, (64, 92, 48), device=device) for device in ("cpu", "cuda"))
        np.testing.assert_array_equal(cpu.mask, gpu.mask)
        off = np.abs(cpu.voxels.astype(int) - gpu.voxels)
        assert off.max() <= 1
        assert np.mean(off > 0) < 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_left_is_right_mirrored(seed):
    left, right = (anatomy(seed, (32, 46, 25), side=side) for side in ("left", "right"))
    np.testing.assert_array_equal(left.mask, right.mask[:, :, ::-1])
    np.testing.assert_array_equal(left.labels, right.labels[:, :, ::-1])
    np.testing.assert_allclose(left.echogenicity_db, right.echogenicity_db[:, :, ::-1], atol=1e-9)
    middle = 38.40 / 2
    assert left.head_centre_mm[2] - middle == pytest.approx(middle - right.head_centre_mm[2])


def test_the_mask_is_where_the_anatomy_says():
    body = anatomy(2, (64, 92, 48), side="left")
    centroid = (np.argwhere(body.mask).mean(0) + 0.5) * body.spacing
    assert np.linalg.norm(centroid - body.head_centre_mm) < 1.5  # the growth plate cuts a cap off
    volume = body.mask.sum() * np.prod(body.spacing)
    assert volume == pytest.approx(4 / 3 * np.pi * body.head_radius_mm**3, rel=0.2)
    assert {body.tissues[i] for i in np.unique(body.labels[body.mask])} <= {"head", "nucleus"}


def test_the_head_grows_with_age():
    def diameters(age):
        return [2 * anatomy(seed, (16, 24, 16), age_days=age).head_radius_mm for seed in range(20)]

    young, old = diameters(4), diameters(111)
    np.testing.assert_allclose(np.subtract(old, young), 107 * 0.03)  # the same infants, 107 days later
    assert np.mean(young) == pytest.approx(15.8 + 4 * 0.03, abs=0.7)  # three standard errors of 20 draws


def test_an_ossific_nucleus_comes_with_age():
    def share(age):
        bodies = [anatomy(seed, SMALL, age_days=age) for seed in range(40)]
        return np.mean([(b.labels == b.tissues.index("nucleus")).any() for b in bodies])

    assert share(10) == 0  # none before two weeks
    assert 0.25 < share(111) < 0.7  # 0.485 in the mean; 40 draws have a deviation of 0.08


def test_a_slice_of_the_head_is_taller_than_wide():
    ratios = []
    for seed in range(8):
        plane = anatomy(seed, (16, 184, 96)).mask
        plane = plane[np.argmax(plane.sum((1, 2)))]
        ratios.append(np.ptp(np.flatnonzero(plane.any(1))) / np.ptp(np.flatnonzero(plane.any(0))))
    assert np.mean(ratios) == pytest.approx(0.40 / 0.22, rel=0.12)


def test_contrast_is_the_ratio_of_mean_power():
    echo = np.zeros((64, 92, 48))
    echo[:, :, 24:] = -6.0
    power = envelope(scatter(slab(echo), 1)) ** 2
    assert decibels(power[:, :, :20].mean() / power[:, :, 28:].mean()) == pytest.approx(6.0, abs=0.2)
    assert power[:, :, :20].mean() == pytest.approx(1.0, rel=0.03)  # the blur keeps the mean power


def test_contrast_of_a_whole_hip():
    quiet = replace(P, texture_db=0.0, stripe_db=(0.0, 0.0), capsule_amplitude=0.0)
    for contrast in (0.0, 6.0, 12.0):
        body = anatomy(1, (64, 92, 48), contrast_db=contrast, parameters=quiet, age_days=4)
        power = scatter(body, 1).abs().numpy() ** 2
        muscle = (body.labels == body.tissues.index("muscle")) & (body.specular == 0)
        assert decibels(power[muscle].mean() / power[body.mask].mean()) == pytest.approx(contrast, abs=0.25)


def test_fully_developed_speckle_over_many_volumes():
    """Rayleigh with a known scale: the p-values of independent volumes are uniform; mean / deviation is 1.913."""
    p_values, ratios = [], []
    for seed in range(30):
        speckle = envelope(scatter(slab(np.zeros((64, 46, 48))), seed))
        apart = speckle[::16, ::4, ::8].ravel()  # further than the point-spread function reaches
        p_values.append(stats.kstest(apart, stats.rayleigh(scale=np.sqrt(0.5)).cdf).pvalue)
        ratios.append(speckle.mean() / speckle.std())
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(ratios) == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), abs=0.01)


def test_autocorrelation_of_speckle_is_that_of_the_point_spread_function():
    """A Gaussian of deviation s along an axis correlates speckle as exp(-lag^2 / 4 s^2) there."""
    spacing, shape = (0.26, 0.11, 0.20), (64, 60, 96)
    here = replace(P, focus_mm=shape[1] / 2 * spacing[1])
    slabs = [scatter(slab(np.zeros(shape), spacing=spacing), seed) for seed in range(8)]
    fields = np.stack([focus(scatterers, spacing, here).numpy() for scatterers in slabs])
    wavelength = 1540 / 9e3  # mm
    for axis, width in enumerate((5.0 * wavelength, wavelength / 1.2, 2.5 * wavelength)):
        deviation2 = (width / 2.3548) ** 2 + spacing[axis] ** 2 / 12
        near = np.moveaxis(fields if axis == 1 else fields[:, :, 22:38], axis + 1, 0)  # beams widen off the focus
        for lag in range(1, 5):
            found = abs((near[lag:] * near[:-lag].conj()).mean()) / (np.abs(near) ** 2).mean()
            assert found == pytest.approx(np.exp(-((lag * spacing[axis]) ** 2) / (4 * deviation2)), abs=0.05)


@pytest.mark.parametrize("contrast", [3.0, 6.0, 12.0])
def test_contrast_to_noise_ratio(contrast):
    """(mean - mean) / sqrt(var + var) of two Rayleigh envelopes, 1.913 (1 - r) / sqrt(1 + r^2) with r in amplitude."""
    levels = ((5, 0.0), (6, -contrast))
    muscle, lesion = (envelope(scatter(slab(np.full((96, 92, 96), level)), seed)) for seed, level in levels)
    ratio = 10 ** (-contrast / 20)
    found = (muscle.mean() - lesion.mean()) / np.hypot(muscle.std(), lesion.std())
    assert found == pytest.approx(1.913 * (1 - ratio) / np.hypot(1, ratio), rel=0.05)
    assert decibels((muscle**2).mean() / (lesion**2).mean()) == pytest.approx(contrast, abs=0.15)


def test_speckle_is_as_wide_as_the_point_spread_function():
    spacing = (0.1, 0.1, 0.1)
    echo = torch.zeros((61, 61, 61), dtype=torch.complex128)
    echo[30, 30, 30] = 1
    at_focus = replace(P, focus_mm=3.05)
    spot = envelope(echo, spacing, at_focus)
    wavelength = 1540 / 9e3  # mm
    expected = (5.0 * wavelength, wavelength / 1.2, 2.5 * wavelength)  # lambda F, c / 2B, lambda F
    for axis, fwhm in enumerate(expected):
        line = np.moveaxis(spot, axis, 0).reshape(61, -1)[:, 30 * 61 + 30] / spot.max()
        position = (np.arange(61) - 30) * 0.1
        width = 2.3548 * np.sqrt((line * position**2).sum() / line.sum())
        assert width == pytest.approx(np.hypot(fwhm, 2.3548 * 0.1 / np.sqrt(12)), rel=0.04)
    defocused = envelope(echo, spacing, replace(P, focus_mm=30.0))
    assert (defocused > 0.5 * defocused.max()).sum() > 2 * (spot > 0.5 * spot.max()).sum()


def test_attenuation_in_and_out():
    body = slab(np.zeros((8, 100, 8)), attenuation=0.5, spacing=(1.0, 0.2, 1.0))
    left = attenuate(body, torch.ones((8, 100, 8), dtype=torch.complex128)).numpy()
    # 0.5 dB/cm/MHz x 9 MHz x 2 x 2 cm = 18 dB at the last row
    np.testing.assert_allclose(20 * np.log10(np.abs(left[:, -1])), -18.0)


def test_noise_grows_with_depth_and_the_grey_scale_is_60_db():
    flat = replace(P, tgc_db_per_cm_mhz=(0.85, 0.0), tgc_ripple_db=0.0, contact_db=0.0)
    silent = image(torch.zeros((16, 184, 16), dtype=torch.complex128), (0.26, 0.22, 0.40), 0, flat).astype(float)
    gain = 2 * 0.85 * 9 * (np.array((120, 170)) + 0.5) * 0.022
    slope = (silent[:, 165:176].mean() - silent[:, 115:126].mean()) / (gain[1] - gain[0])
    assert slope == pytest.approx(255 / 60, rel=0.08)
    echo = torch.full((8, 8, 8), 10.0, dtype=torch.complex128)  # 20 dB over muscle
    shallow = image(echo, (0.26, 1e-6, 0.40), 0, flat)
    assert np.all(np.abs(shallow - 255 * (0.45 + 20 / 60)) < 1.5)


def test_the_ilium_casts_a_shadow():
    step = stages(0, (64, 92, 48), side="left")
    body, voxels = step["anatomy"], step["volume"].voxels.astype(float)
    bone = body.labels == body.tissues.index("bone")
    behind = np.cumsum(bone, axis=1) * body.spacing[1] > 4  # 4 mm inside bone
    cranial = (body.head_centre_mm[2] - body.head_radius_mm - 3) / body.spacing[2]
    behind[:, :, int(cranial) :] = False  # the ilium's side, away from the femur
    clear = ~bone[:, :80].any(axis=1)[:, None, :] & np.ones_like(bone)
    rows = slice(55, 80)  # the same depths, so the same gain
    assert min(clear[:, rows].sum(), behind[:, rows].sum()) > 1000
    assert voxels[:, rows][clear[:, rows]].mean() > voxels[:, rows][behind[:, rows]].mean() + 25


@pytest.mark.parametrize("seed", range(4))
def test_shadow_falls_behind_bone_and_nowhere_else(seed):
    """Along the beam alone: what loses more than the strongest soft tissue could has bone or a nucleus above it."""
    body = anatomy(seed, (32, 92, 48))
    left = attenuate(body, torch.ones(body.labels.shape, dtype=torch.complex128)).abs().numpy()
    lost = -20 * np.log10(np.maximum(left, 1e-300))
    hard = np.isin(body.labels, [body.tissues.index(name) for name in ("bone", "nucleus")])
    above = np.cumsum(hard, axis=1)
    depth_cm = (np.arange(92)[None, :, None] + 1) * body.spacing[1] / 10
    dark = lost > 2 * 9 * 1.57 * depth_cm + 1e-6
    assert above[dark].min() > 0
    deep_in_bone = np.cumsum(body.labels == body.tissues.index("bone"), axis=1) * body.spacing[1] > 4
    assert dark[deep_in_bone].all()
    assert lost[deep_in_bone].min() > 2 * 9 * 15 * 0.4  # 4 mm of bone, in and out


def test_look_alikes_never_touch_the_head():
    for seed in range(5):
        body = anatomy(seed, (64, 92, 48))
        at = (np.argwhere(body.labels == body.tissues.index("look-alike")) + 0.5) * body.spacing
        assert len(at)
        assert np.linalg.norm(at - body.head_centre_mm, axis=1).min() > body.head_radius_mm


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"side": "Left"}, "'Left'"),
        ({"shape": (32, 4, 32)}, r"\(32, 4, 32\)"),
        ({"shape": (32, 32)}, r"\(32, 32\)"),
        ({"shape": (32.0, 32, 32)}, "32.0"),
        ({"contrast_db": float("nan")}, "nan"),
        ({"contrast_db": float("inf")}, "inf"),
        ({"contrast_db": "6"}, "contrast_db must be a number, found '6'"),
        ({"contrast_db": -1e5}, "contrast_db is -100000; expected -100 to 100 dB"),
        ({"age_days": "30"}, "age_days must be a number, found '30'"),
        ({"age_days": 400}, "400"),
        ({"seed": -1}, "-1"),
        ({"seed": 1.5}, "1.5"),
    ],
)
def test_wrong_arguments_are_named(arguments, found):
    with pytest.raises(SegdetError, match=found):
        make_phantom(**{"seed": 0, "shape": SMALL} | arguments)
