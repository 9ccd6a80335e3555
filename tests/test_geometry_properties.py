"""Geometry on random grids: what is written is read where it was; what is resampled or turned stays in place."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from segdet.io.annotations import load_mask
from segdet.io.files import load_volume, save_mask
from segdet.io.itk import write_itk
from segdet.volume import Volume

pytest.importorskip("SimpleITK")
TRIES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def scans(draw):
    """A scan with a mask: any rotation, any voxel size from 0.05 to 5 mm, left- or right-handed, anywhere."""
    shape = draw(st.tuples(*[st.integers(2, 9)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.05, 5)] * 3))
    axes = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-180, 180)] * 3)), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing * draw(st.sampled_from([(1, 1, 1), (-1, 1, 1)]))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    voxels = rng.integers(0, 256, shape, dtype=np.uint8)
    mask = rng.random(shape) > 0.5
    mask.flat[0] = mask.flat[-1] = True
    return Volume(voxels, affine, mask)


def places(volume, mask):
    """Where the voxels of a mask are in the patient, (N, 3) in mm, in no particular order."""
    found = np.argwhere(mask) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return found[np.lexsort(found.round(2).T)]


@TRIES
@given(scan=scans(), extension=st.sampled_from([".nii", ".nii.gz", ".mha", ".nrrd"]))
def test_a_scan_is_read_where_it_was_written(scan, extension, tmp_path):
    path = tmp_path / f"scan{extension}"
    write_itk(scan.voxels, scan, path)
    found = load_volume(path)
    np.testing.assert_array_equal(found.voxels, scan.voxels)
    np.testing.assert_allclose(found.affine, scan.affine, atol=2e-3)


@TRIES
@given(scan=scans(), extension=st.sampled_from([".dcm", ".nii.gz", ".mha", ".nrrd"]))
def test_a_mask_lies_where_it_was_drawn(scan, extension, tmp_path):
    path = tmp_path / f"mask{extension}"
    save_mask(scan.mask, path, scan)
    mask, affine = load_mask(path)
    found = Volume(mask.astype(np.uint8), affine)  # DICOM slices follow their normal, so the order may be another
    assert mask.sum() == scan.mask.sum()
    np.testing.assert_allclose(places(found, mask).mean(0), places(scan, scan.mask).mean(0), atol=0.01)
    np.testing.assert_allclose(np.ptp(places(found, mask), 0), np.ptp(places(scan, scan.mask), 0), atol=0.01)


@TRIES
@given(scan=scans(), factor=st.tuples(*[st.sampled_from([0.5, 1.0, 2.0])] * 3))
def test_resampling_moves_nothing(scan, factor):
    """A ramp along each axis stays that ramp where the new grid lies inside the old one, by half a voxel or less."""
    shape = tuple(max(1, round(n / f)) for n, f in zip(scan.shape, factor, strict=True))
    for axis in range(3):
        ramp = np.indices(scan.shape)[axis].astype(np.float32)
        new = Volume(ramp, scan.affine).resample(shape, np.multiply(scan.spacing, factor))
        index = np.argwhere(np.ones(shape, bool))
        patient = index @ new.affine[:3, :3].T + new.affine[:3, 3]
        expected = ((patient - scan.affine[:3, 3]) @ np.linalg.inv(scan.affine[:3, :3]).T)[:, axis]
        inside = (expected >= factor[axis] / 2) & (expected <= scan.shape[axis] - 1 - factor[axis] / 2)
        np.testing.assert_allclose(new.voxels.reshape(-1)[inside], expected[inside], atol=1e-3)


@TRIES
@given(scan=scans(), orientation=st.sampled_from(["LPS", "RAS", "SPL", "IAR", "PSL", "ARI"]))
def test_turning_moves_nothing(scan, orientation):
    turned = scan.reoriented(tuple(orientation))
    assert turned.orientation == tuple(orientation)
    np.testing.assert_allclose(places(turned, turned.mask), places(scan, scan.mask), atol=1e-6)
    back = turned.reoriented(scan.orientation)
    np.testing.assert_array_equal(back.voxels, scan.voxels)
    np.testing.assert_allclose(back.affine, scan.affine, atol=1e-9)
