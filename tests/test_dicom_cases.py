"""DICOM files made after public bug reports, where they lie beside the project (../shared/cases)."""

import numpy as np
import pytest
from conftest import SHARED

from segdet.io.annotations import load_case
from segdet.io.files import load_volume

CASES = SHARED / "cases"


def case(name):
    """The path of a case, or a skip that names it."""
    if not (CASES / name).exists():
        pytest.skip(f"needs ../shared/cases/{name}")
    return CASES / name


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("10_signed12", "10_signed12/truth.npy"),
        ("15_no_preamble", "15_no_preamble/truth.npy"),
        ("20_lut_and_padding/high_bit_15.dcm", None),
        ("22_multiframe_with_distance/cbct.dcm", "22_multiframe_with_distance/truth.npy"),
        ("22_multiframe_with_distance/us_3d.dcm", "22_multiframe_with_distance/truth.npy"),
        ("25_compressed/overlay_j2k.dcm", "25_compressed/overlay_j2k.npy"),
        ("25_compressed/signed12_j2k.dcm", "25_compressed/signed12_j2k.npy"),
        ("25_compressed/signed16_j2k.dcm", "25_compressed/signed16_j2k.npy"),
    ],
)
def test_voxels(name, truth):
    voxels = load_volume(case(name)).voxels
    right = np.load(case(truth)) if truth else np.load(case("11_overlay_high_bits/truth.npy"))[:1]
    assert np.array_equal(voxels.squeeze(), right.squeeze())


@pytest.mark.parametrize("name", ["raw_rgb", "raw_ybr_full", "says_rgb_jfif", "says_ybr_is_rgb_adobe", "ybr422_jfif"])
def test_grey(name):
    voxels = load_volume(case(f"14_us_colour/{name}.dcm")).voxels[0].astype(int)
    assert np.abs(voxels - np.load(case("14_us_colour/luma.npy"))).max() <= 1


@pytest.mark.parametrize(
    "name", ["12_empty_rescale/both.dcm", "12_empty_rescale/slope.dcm", "13_negative_spacing/one.dcm"]
)
def test_empty_and_negative_elements(name):
    volume = load_volume(case(name))
    assert (volume.voxels.min(), volume.voxels.max()) == (-899, 898)
    assert volume.spacing[0] == pytest.approx(4.418 if "spacing" in name else 1, abs=1e-3)


def test_a_presentation_state_beside_the_slices():
    volume = load_volume(case("16_presentation_state"))
    assert np.array_equal(volume.voxels, np.load(case("15_no_preamble/truth.npy")))
    assert volume.notes == ("files passed over: 1 x Grayscale Softcopy Presentation State Storage",)


@pytest.mark.parametrize(
    ("name", "truth"),
    [("binary", "labels"), ("labelmap_palette", "labels"), ("labelmap_palette_grey_background", "labels"),
     ("one_slice", "one"), ("every_second_no_spacing", "second"), ("gap_no_spacing", "hole"), ("overlapping", "over")],
)  # fmt: skip
@pytest.mark.parametrize("label", [None, 1])
def test_segments(label, name, truth):
    mask = load_case(case("21_seg/scan"), case(f"21_seg/{name}.dcm"), label).mask
    right = np.load(case(f"21_seg/{truth}.npy"))
    if right.ndim == 4:
        right = right.any(-1) if label is None else right[..., 0]
    assert np.array_equal(mask, right > 0 if label is None else right == label)
