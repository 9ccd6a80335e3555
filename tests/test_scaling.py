"""Stored values times slope plus intercept: float32, but not where that makes one of two."""

import nibabel as nib
import numpy as np
import pytest
from dicom_samples import image, write_series

from segdet.io.files import load_volume
from segdet.io.scaling import rescaled
from segdet.volume import axis_aligned_affine

STORED = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "kind"),
    [
        (np.int16, 0.5, -1024, np.float32),
        (np.int16, -0.5, 0, np.float32),
        (np.uint8, 1, 2.0**24 - 24, np.float32),  # the largest is 2^24 - 1, below which float32 has every whole number
        (np.uint8, 1, 2.0**24, np.float64),
        (np.int16, -1e-5, 1e6, np.float64),
        (np.int16, -1, -(2.0**24) + 12, np.float64),  # down to -2^24 - 11
        (np.int16, 1e300, 0, np.float64),
        (np.float32, 2, 1, np.float32),
        (np.float32, 1e-5, 1e6, np.float64),
        (np.float32, 1, 3000, np.float32),  # 16 bits of a range of 23 are 3.5e-4, the steps of float32 there 2.4e-4
        (np.float32, 1, 1e4, np.float64),  # and here 9.8e-4
        (np.float64, 2, 1, np.float64),
    ],
)
def test_the_steps_of_whole_numbers_are_kept(stored, slope, intercept, kind):
    found = rescaled(STORED.astype(stored), [(slope, intercept)] * 2)
    assert found.dtype == kind
    assert len(np.unique(found)) == 24
    np.testing.assert_allclose(found, STORED * float(slope) + intercept, rtol=1e-7)


def test_large_stored_values_whose_intercept_takes_them_back():
    stored = STORED.astype(np.uint32) + 2**31
    assert np.array_equal(rescaled(stored, [(1, -(2.0**31))] * 2), STORED)


def test_every_slice_has_its_own_scale():
    found = rescaled(STORED, [(1, 0), (2, -1)])
    assert np.array_equal(found, [STORED[0], STORED[1] * 2.0 - 1])
    assert rescaled(STORED, [(1, 0)] * 2) is STORED
    assert rescaled(STORED, [(1e-5, 1e6), (1, 0)]).dtype == np.float64  # the finest steps decide
    assert rescaled(STORED.astype(np.float32) + 100, [(1, 1e4)] * 2).dtype == np.float64  # a range of 23, not 123


def nifti(path):
    scan = nib.Nifti1Image(STORED.transpose(2, 1, 0), np.eye(4))
    scan.to_filename(path / "a.nii")
    content = bytearray((path / "a.nii").read_bytes())
    content[112:120] = np.array([1e-5, 1e6], "<f4").tobytes()  # scl_slope and scl_inter
    (path / "a.nii").write_bytes(content)
    return path / "a.nii"


def metaimage(path):
    fields = (
        "NDims = 3\nDimSize = 4 3 2\nBinaryData = True\nElementToIntensityFunctionSlope = 1e-5\n"
        "ElementToIntensityFunctionOffset = 1e6\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    (path / "a.mha").write_bytes(fields.encode() + STORED.tobytes())
    return path / "a.mha"


def series(path):
    return write_series(path / "a", STORED, axis_aligned_affine((2, 1, 1)), slope=1e-5, intercept=1e6)


def clip(path):
    return image(path / "a.dcm", STORED, RescaleSlope=1e-5, RescaleIntercept=1e6)


@pytest.mark.parametrize("write", [nifti, metaimage, series, clip])
def test_a_scan_far_from_zero_is_not_read_as_constant(write, tmp_path):
    volume = load_volume(write(tmp_path))
    np.testing.assert_allclose((volume.voxels - 1e6) / 1e-5, STORED, atol=1e-3)
    assert not any("every voxel has the value" in note for note in volume.notes)
