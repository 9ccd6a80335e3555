"""NIfTI: where the voxels are as nibabel says, which transform counts, units, and forms of the file."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from segdet.errors import FormatError, GeometryError
from segdet.io.annotations import load_case
from segdet.io.files import check_mask_path, load_volume, save_mask
from segdet.volume import Volume

nib = pytest.importorskip("nibabel")
CASES = Path(__file__).resolve().parents[2] / "shared/cases"
VOXELS = np.random.default_rng(5).integers(-300, 300, (6, 8, 7), dtype=np.int16)
RAS = np.array([[0, 0, 3, 1], [2, 0, 0, 2], [0, 2.5, 0, 3], [0, 0, 0, 1]], float)  # x runs along A, y along S
IN_LPS = np.diag([-1, -1, 1, 1])


def write(path, sform=RAS, qform=None, codes=(0, 1), kind=nib.Nifti1Image, **fields):
    """A NIfTI of VOXELS; `codes` are those of qform and sform, `fields` are set in the header as they are."""
    image = kind(VOXELS.transpose(2, 1, 0), None)
    image.header.set_xyzt_units("mm")
    image.set_qform(RAS if qform is None else qform, codes[0])
    image.set_sform(sform, codes[1])
    image.to_filename(path)
    content = path.read_bytes()
    header = kind.header_class(content[: kind.header_class.sizeof_hdr], check=False)
    for field, value in fields.items():
        header[field] = value
    path.write_bytes(header.binaryblock + content[kind.header_class.sizeof_hdr :])


def nibabel_affine(path):
    return (IN_LPS @ nib.load(path).affine)[:, [2, 1, 0, 3]]


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (1, 2), (2, 1)])
def test_axes_in_any_order_as_nibabel(kind, codes, tmp_path):
    write(tmp_path / "a.nii", codes=codes, kind=kind)
    volume = load_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, nibabel_affine(tmp_path / "a.nii"), atol=1e-5)
    np.testing.assert_allclose(volume.spacing, (3, 2.5, 2), rtol=1e-6)
    assert np.array_equal(volume.voxels, VOXELS)
    assert volume.notes == ()


@pytest.mark.parametrize("angle", [0.1, 1.0, 3.0, np.pi])
@pytest.mark.parametrize("flip", [1, -1])
def test_quaternions_as_nibabel(angle, flip, tmp_path):
    c, s = np.cos(angle), np.sin(angle)
    turned = np.eye(4)
    turned[:3, :3] = [[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]] @ np.array([[1, 0, 0], [0, c, -s], [0, s, c * flip]])
    turned[:3, 2] = flip * np.cross(turned[:3, 0], turned[:3, 1])
    turned[:3, :3] *= (0.4, 0.5, 0.6)
    turned[:3, 3] = (5, -6, 7)
    write(tmp_path / "a.nii", qform=turned, codes=(1, 0))
    volume = load_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, nibabel_affine(tmp_path / "a.nii"), atol=1e-5)
    np.testing.assert_allclose(volume.affine, (IN_LPS @ turned)[:, [2, 1, 0, 3]], atol=1e-3)


def test_the_sform_counts_and_what_disagrees_is_said(tmp_path):
    moved = RAS.copy()
    moved[0, 3] += 5
    write(tmp_path / "a.nii", qform=moved, codes=(1, 1))
    volume = load_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.affine, nibabel_affine(tmp_path / "a.nii"))
    assert volume.notes == ("sform and qform put voxels up to 5 mm apart; the sform counts",)
    write(tmp_path / "b.nii", pixdim=[1, 1, 1, 1, 0, 0, 0, 0])
    volume = load_volume(tmp_path / "b.nii")
    np.testing.assert_array_equal(volume.affine, nibabel_affine(tmp_path / "b.nii"))
    assert volume.notes == ("voxels of 2 x 2.5 x 3 in the sform, 1 x 1 x 1 in pixdim; the sform counts",)


@pytest.mark.parametrize("name", ["m.nii", "m.Nii.GZ"])
@pytest.mark.parametrize("codes", [(0, 1), (1, 2), (1, 0)])
def test_a_mask_lies_on_its_scan_for_nibabel(name, codes, tmp_path):
    write(tmp_path / "a.nii", codes=codes, pixdim=[1, 2, 2.5, 3 if codes[1] == 0 else 1, 0, 0, 0, 0])
    volume = load_volume(tmp_path / "a.nii")
    save_mask(volume.voxels > 0, tmp_path / name, volume)
    (tmp_path / name).rename(tmp_path / name.lower())
    mask = nib.load(tmp_path / name.lower())
    np.testing.assert_allclose(mask.affine, nib.load(tmp_path / "a.nii").affine, atol=1e-5)
    assert np.array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0), VOXELS > 0)


@pytest.mark.parametrize("name", ["m.nii", "m.NII.gz"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_grid_longer_than_16_bits_say_is_refused(name, axis, tmp_path):
    mask = np.ones(np.roll((32767, 1, 2), axis), bool)
    save_mask(mask, tmp_path / name, Volume.from_spacing(mask, (1, 1, 1)))
    assert load_volume(tmp_path / name).shape == mask.shape
    longer = Volume.from_spacing(np.concatenate([mask, mask], axis), (1, 1, 1))
    for refused in (lambda: save_mask(longer.voxels, tmp_path / f"2{name}", longer),
                    lambda: check_mask_path(tmp_path / f"2{name}", longer)):  # fmt: skip
        with pytest.raises(FormatError, match=rf"2{name}: .*65534.* a side above 32767.*; write \.nrrd or \.mha"):
            refused()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    save_mask(longer.voxels, tmp_path / "m.nrrd", longer)
    assert load_volume(tmp_path / "m.nrrd").shape == longer.shape


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz"])
@pytest.mark.parametrize("flip", [1, -1])
def test_a_mask_of_a_slightly_sheared_scan_lies_on_it(name, flip, tmp_path, capfd):
    """A registration leaves axes that are not quite perpendicular; ITK would straighten them."""
    sheared = RAS + 0
    sheared[:3, 0] += 0.01 * sheared[:3, 1]
    sheared[:3, 2] *= flip
    write(tmp_path / "a.nii", sheared)
    volume = load_volume(tmp_path / "a.nii")
    save_mask(volume.voxels > 0, tmp_path / name, volume)
    assert np.array_equal(load_case(tmp_path / "a.nii", tmp_path / name).mask, VOXELS > 0)
    mask = nib.load(tmp_path / name)
    np.testing.assert_allclose(mask.get_sform(), sheared, atol=1e-6)
    np.testing.assert_allclose(mask.get_qform(), sheared, atol=0.02)
    axes = mask.get_qform()[:3, :3] / (2, 2.5, 3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-3)
    assert capfd.readouterr().err == ""


def test_rounded_quaternion_is_not_said(tmp_path):
    write(tmp_path / "a.nii", codes=(1, 1))
    quaternion = nib.load(tmp_path / "a.nii").header["quatern_b"] + 1e-4
    write(tmp_path / "a.nii", codes=(1, 1), quatern_b=quaternion)
    assert load_volume(tmp_path / "a.nii").notes == ()


def test_a_quaternion_that_is_no_rotation(tmp_path):
    for quatern_b in (3, np.nan):
        write(tmp_path / "a.nii", codes=(1, 0), quatern_b=quatern_b)
        with pytest.raises(GeometryError, match=r"a\.nii: the quaternion \[.*\] of its qform is no rotation"):
            load_volume(tmp_path / "a.nii")
    write(tmp_path / "a.nii", codes=(1, 1), quatern_b=np.nan)
    volume = load_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.affine, nibabel_affine(tmp_path / "a.nii"))
    assert volume.notes == ("the qform holds values that are no numbers; the sform counts",)


@pytest.mark.parametrize("codes", [(0, 1), (1, 1)])
def test_sheared_sform_is_refused(codes, tmp_path):
    sheared = np.diag([0.5, 0.5, 1, 1])
    sheared[0, 1] = 0.2
    write(tmp_path / "a.nii", sheared, np.diag([0.5, 0.5, 1, 1]), codes)
    with pytest.raises(GeometryError, match=r"a\.nii: its axes are not perpendicular"):
        load_volume(tmp_path / "a.nii")


@pytest.mark.parametrize(("code", "scale"), [(1, 0.001), (2, 1), (3, 1000), (0, 1)])
@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (0, 0)])
def test_units(code, scale, codes, tmp_path):
    there = np.diag([0.38, 0.4, 0.5, 1])
    there[:3, 3] = (1, 2, 3)
    there[:3] *= scale
    write(tmp_path / "a.nii", there, there, codes, xyzt_units=code + 8)
    volume = load_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.spacing, (0.5, 0.4, 0.38), rtol=1e-6)
    if any(codes):
        np.testing.assert_allclose(volume.affine[:3, 3], (-1, -2, 3), rtol=1e-6)
    assert any("no unit of length" in note for note in volume.notes) == (code == 0)
    assert any("directions are unknown" in note for note in volume.notes) == (codes == (0, 0))


def test_unknown_unit_is_refused(tmp_path):
    write(tmp_path / "a.nii", xyzt_units=5)
    with pytest.raises(FormatError, match=r"a\.nii: its xyzt_units name no unit of length \(5\); expected m, mm or um"):
        load_volume(tmp_path / "a.nii")


def test_missing_voxel_size_is_said(tmp_path):
    write(tmp_path / "a.nii", codes=(0, 0), pixdim=[1, 0.5, 0.5, 0, 0, 0, 0, 0])
    volume = load_volume(tmp_path / "a.nii")
    assert volume.spacing == (1, 0.5, 0.5)
    assert "no voxel size (0.5 x 0.5 x 0); 1 was assumed for 0" in volume.notes[1]


@pytest.mark.parametrize("name", ["a.nii", "a.NII", "a.Nii.Gz", "a.nii.GZ", "a.NII.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", "<>")
def test_names_versions_and_byte_orders(name, kind, order, tmp_path, capfd):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    kind(VOXELS.transpose(2, 1, 0), RAS, header).to_filename(tmp_path / "plain.nii")
    content = (tmp_path / "plain.nii").read_bytes()
    for packed in (content, gzip.compress(content)):  # whatever the name says
        (tmp_path / name).write_bytes(packed)
        volume = load_volume(tmp_path / name)
        assert np.array_equal(volume.voxels, VOXELS)
        assert volume.voxels.dtype == np.int16
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_data_types(kind, tmp_path):
    array = (VOXELS % 100).astype(kind)
    nib.Nifti1Image(array.transpose(2, 1, 0), RAS, dtype=array.dtype).to_filename(tmp_path / "a.nii")
    volume = load_volume(tmp_path / "a.nii")
    assert volume.voxels.dtype == array.dtype
    assert np.array_equal(volume.voxels, array)


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [(0, 5, VOXELS), (np.nan, 5, VOXELS), (1, 0, VOXELS), (1, 5, VOXELS + 5.0), (-0.5, 2, 2 - VOXELS / 2)],
)
def test_scaling(slope, intercept, expected, tmp_path):
    write(tmp_path / "a.nii", scl_slope=slope, scl_inter=intercept)
    assert np.array_equal(load_volume(tmp_path / "a.nii").voxels, expected)
    assert np.array_equal(np.asarray(nib.load(tmp_path / "a.nii").dataobj).transpose(2, 1, 0), expected)


def test_single_slice_and_series(tmp_path):
    image = nib.Nifti1Image(VOXELS[0].T, np.diag([0.4, 0.3, 0.5, 1]))
    image.header.set_xyzt_units("mm")
    for code in (0, 1):
        image.set_qform(image.affine, code)
        image.to_filename(tmp_path / "flat.nii")
        flat = load_volume(tmp_path / "flat.nii")
        assert np.array_equal(flat.voxels, VOXELS[:1])
        assert flat.notes == ("a single slice; its thickness was taken as 0.5 mm",)
    nib.Nifti1Image(VOXELS.reshape(3, 2, 8, 7).T, RAS).to_filename(tmp_path / "series.nii")
    with pytest.raises(FormatError, match="holds 3 volumes"):
        load_volume(tmp_path / "series.nii")
    assert np.array_equal(load_volume(tmp_path / "series.nii", frame=1).voxels, VOXELS[2:4])


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (344, b"ni1\0", "the mark n\\+1 or n\\+2"),
        (40, b"\x01\0", "its dim is"),
        (42, b"\0\0", "its dim is"),
        (70, b"\x80\0", "3 values a voxel"),
        (70, b"\x20\0", "its data type is 32"),
        (108, np.float32(348).tobytes(), "voxels behind it"),  # where the mark of an extension is
        (108, np.float32(1e9).tobytes(), "start at byte 1000000000"),
        (108, np.float32(np.nan).tobytes(), "voxels behind it"),
        (112, np.array([2, np.inf], "<f4").tobytes(), "its scl_inter inf"),
    ],
)
def test_bad_headers(at, value, message, tmp_path):
    write(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[at : at + len(value)] = value
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        load_volume(tmp_path / "a.nii")
    assert str(caught.value).startswith(f"{tmp_path / 'a.nii'}: ")


@pytest.mark.skipif(not CASES.exists(), reason="needs ../shared/cases")
def test_cases_as_nibabel(capfd):
    paths = [path for kind in ("03_nifti_forms", "04_nifti_units") for path in sorted((CASES / kind).glob("*.nii"))]
    for path in paths:
        header = nib.load(path).header
        if "sheared" in path.name:
            with pytest.raises(GeometryError, match="not perpendicular"):
                load_volume(path)
        elif header["qform_code"] or header["sform_code"]:
            expected = nibabel_affine(path)
            expected[:3] *= {1: 1000, 3: 0.001}.get(int(header["xyzt_units"]) % 8, 1)
            np.testing.assert_allclose(load_volume(path).affine, expected, atol=1e-6)
    assert len(paths) > 5
    assert capfd.readouterr() == ("", "")
