"""Files of all formats: geometry against SimpleITK and nibabel, round trips, and bad input."""

import gzip
import os
from dataclasses import replace

import numpy as np
import pytest

from segdet import make_phantom
from segdet.errors import FormatError, GeometryError, LabelError, SegdetError
from segdet.infants.pictures import read_infants
from segdet.io.annotations import load_case, load_mask
from segdet.io.dataset import folder_pairs
from segdet.io.dicom.read import read_dicom
from segdet.io.dicom.write import write_volume
from segdet.io.files import load_volume, save_mask
from segdet.io.itk import write_itk
from segdet.io.stills import read_stills
from segdet.volume import Volume

sitk = pytest.importorskip("SimpleITK")

# Perpendicular axes that are no permutation of x, y, z (a 3-4-5 triangle), as SimpleITK wants them: x, y, z.
DIRECTION = np.array([[0.6, 0.0, 0.8], [0.8, 0.0, -0.6], [0.0, 1.0, 0.0]])
SPACING, ORIGIN = (0.4, 0.22, 0.26), (-31.5, 12.25, 7.0)


def image_of(array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(DIRECTION.ravel())
    return image


@pytest.fixture
def voxels():
    return np.random.default_rng(3).integers(0, 200, (4, 6, 5), dtype=np.uint8)


@pytest.fixture
def scan(voxels):
    affine = np.eye(4)
    affine[:3, :3] = (DIRECTION * SPACING)[:, ::-1]
    affine[:3, 3] = ORIGIN
    return Volume(voxels, affine)


# --------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_geometry_equals_simpleitk(name, voxels, tmp_path):
    image = image_of(voxels)
    sitk.WriteImage(image, str(tmp_path / name))
    volume = load_volume(tmp_path / name)
    assert np.array_equal(volume.voxels, voxels)
    assert np.allclose(volume.spacing, (0.26, 0.22, 0.4), atol=1e-6)
    for i, j, k in ((0, 0, 0), (3, 0, 0), (0, 5, 0), (0, 0, 4), (3, 5, 4)):
        there = image.TransformIndexToPhysicalPoint((k, j, i))
        assert np.allclose((volume.affine @ [i, j, k, 1])[:3], there, atol=1e-4)


def test_nibabel_agrees_on_where_voxels_are(voxels, tmp_path):
    nib = pytest.importorskip("nibabel")
    ras = np.array([[0.0, -0.3, 0.1, 9.0], [0.5, 0, 0, -8.0], [0, 0.1, 0.9, 4.0], [0, 0, 0, 1]])
    ras[:3, 1] = np.cross(ras[:3, 2], ras[:3, 0])
    nib.Nifti1Image(voxels.transpose(2, 1, 0), ras).to_filename(tmp_path / "a.nii.gz")
    volume = load_volume(tmp_path / "a.nii.gz")
    for i, j, k in ((0, 0, 0), (3, 5, 4), (2, 1, 0)):
        x, y, z = (ras @ [k, j, i, 1])[:3]
        assert np.allclose((volume.affine @ [i, j, k, 1])[:3], (-x, -y, z), atol=1e-4)
        assert volume.voxels[i, j, k] == voxels[i, j, k]


def test_nifti_without_orientation_or_unit_is_said(voxels, tmp_path):
    nib = pytest.importorskip("nibabel")
    image = nib.Nifti1Image(voxels.transpose(2, 1, 0), None)
    image.header.set_zooms((0.4, 0.22, 0.26))
    image.header["xyzt_units"] = 0
    image.to_filename(tmp_path / "a.nii")
    volume = load_volume(tmp_path / "a.nii")
    assert np.allclose(volume.spacing, (0.26, 0.22, 0.4))
    assert "LPS directions are unknown" in volume.notes[0]
    assert "mm were assumed" in volume.notes[1]


def test_several_volumes_need_a_choice(real_data):
    path = real_data / "philips_echo/ultrasound_img4d.nii.gz"
    with pytest.raises(FormatError, match=r"ultrasound_img4d\.nii\.gz: holds 3 volumes .* frame=0 to frame=2"):
        load_volume(path)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    volume = load_volume(path, frame=2)
    assert np.array_equal(volume.voxels, truth[2])
    assert volume.meta["time_points"] == 3
    with pytest.raises(FormatError, match="frame=3 does not exist"):
        load_volume(path, frame=3)


def test_single_slice_and_vectors(voxels, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(voxels[0]), str(tmp_path / "flat.mha"))
    flat = load_volume(tmp_path / "flat.mha")
    assert flat.shape == (1, 6, 5)
    assert "unknown thickness" in flat.notes[0]
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([voxels] * 3, -1), isVector=True), str(tmp_path / "rgb.mha"))
    with pytest.raises(FormatError, match="3 values a voxel"):
        load_volume(tmp_path / "rgb.mha")


def test_tracked_sweep_and_reconstruction(real_data):
    sweep = load_volume(real_data / "plus_ultrasound/BoneUltrasound_L14.igs.mha")
    assert sweep.shape == (21, 616, 820)
    assert any("tracked sweep, no volume" in note for note in sweep.notes)
    spine = load_volume(real_data / "plus_ultrasound/SpinePhantomFreehandReconstructed.mha")
    assert (spine.shape, spine.spacing, spine.notes) == ((104, 106, 147), (0.5, 0.5, 0.5), ())


# ------------------------------------------------------------------------------------------ masks, cases


def test_labels_and_scaled_floats(voxels, tmp_path):
    labels = (voxels % 3).astype(np.float32) * np.float32(0.9999)
    sitk.WriteImage(image_of(labels), str(tmp_path / "m.nii.gz"))
    assert np.array_equal(load_mask(tmp_path / "m.nii.gz")[0], voxels % 3 > 0)
    assert np.array_equal(load_mask(tmp_path / "m.nii.gz", 2)[0], voxels % 3 == 2)
    assert np.array_equal(load_volume(tmp_path / "m.nii.gz", label=2).voxels, voxels % 3 == 2)


@pytest.mark.parametrize("kind", [np.int16, np.int64, np.float32])
def test_a_label_is_above_zero(kind, voxels, tmp_path):
    labels = (voxels % 5).astype(kind)
    sitk.WriteImage(image_of(voxels), str(tmp_path / "scan.mha"))
    for lowest in (-1024, -1):  # a background, and what is to be ignored
        sitk.WriteImage(image_of(np.where(labels == 4, np.array(lowest, kind), labels)), str(tmp_path / "m.mha"))
        expected = (labels > 0) & (labels < 4)
        assert np.array_equal(load_mask(tmp_path / "m.mha")[0], expected)
        case = load_case(tmp_path / "scan.mha", tmp_path / "m.mha")
        assert np.array_equal(case.mask, expected)
        assert case.notes[-2:] == (
            f"the annotation holds values below 0, down to {lowest}: they do not count as the object",
            "the annotation holds the labels 1, 2, 3: all count as the object",
        )
        case = load_case(tmp_path / "scan.mha", tmp_path / "m.mha", 3)
        assert np.array_equal(case.mask, labels == 3)
        with pytest.raises(LabelError, match=r"m\.mha: has no label 4; it holds 1, 2, 3$"):
            load_mask(tmp_path / "m.mha", 4)
        with pytest.raises(
            FormatError, match=r"m\.mha: label 0 is no object, 0 is the background; name a label from 1"
        ):
            load_case(tmp_path / "scan.mha", tmp_path / "m.mha", 0)


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_one_label_of_255(kind, voxels, tmp_path):
    sitk.WriteImage(image_of((voxels > 100) * np.array(255, kind)), str(tmp_path / "m.nii.gz"))
    assert np.array_equal(load_mask(tmp_path / "m.nii.gz")[0], voxels > 100)
    assert np.array_equal(load_mask(tmp_path / "m.nii.gz", 255)[0], voxels > 100)
    with pytest.raises(LabelError, match="has no label 1; it holds 255"):
        load_mask(tmp_path / "m.nii.gz", 1)


@pytest.mark.parametrize("label", [None, 1])
@pytest.mark.parametrize(
    ("scale", "named"), [(1 / 255, "0.00392157, 0.00784314"), (0.4, "0.4, 0.8"), (0.998, "0.998,")]
)
def test_fractions_are_no_labels(scale, named, label, voxels, tmp_path):
    sitk.WriteImage(image_of((voxels % 3 * scale).astype(np.float32)), str(tmp_path / "m.nii.gz"))
    with pytest.raises(FormatError, match=f"a label is a whole number, found {named}.*; threshold"):
        load_mask(tmp_path / "m.nii.gz", label)


@pytest.mark.parametrize(("value", "off"), [(1e-7, "1e-07"), (0.9999, "0.0001"), (-1e-4, "0.0001")])
def test_values_that_are_rounded_are_said(value, off, voxels, tmp_path):
    """A probability map of tiny values must not become an empty annotation without a word."""
    sitk.WriteImage(image_of(voxels), str(tmp_path / "scan.mha"))
    sitk.WriteImage(image_of((voxels > 100) * value), str(tmp_path / "m.nii.gz"))
    case = load_case(tmp_path / "scan.mha", tmp_path / "m.nii.gz")
    assert np.array_equal(case.mask, (voxels > 100) & (value > 0.5))
    notes = [f"the annotation holds values up to {off} off a whole number: they were rounded to it"]
    if value < 0.5:
        notes.append("the annotation marks no voxel: the object was taken to be absent")
    assert list(case.notes) == notes


def test_a_mask_may_be_stored_otherwise_than_its_scan(scan, tmp_path):
    mask = scan.voxels > 100
    write_itk(scan.voxels, scan, tmp_path / "scan.nii.gz")
    for orientation in ("LIP", "PRS", "IAR"):
        turned = replace(scan, mask=mask).reoriented(orientation)
        save_mask(turned.mask, tmp_path / "m.nii.gz", turned)
        assert np.array_equal(load_case(tmp_path / "scan.nii.gz", tmp_path / "m.nii.gz").mask, mask)


def test_a_scan_of_several_times_and_a_mask_of_one(voxels, tmp_path):
    """The mask is that of the time that is read; one of several times has its own for each."""
    times = [voxels, voxels[::-1].copy(), voxels // 2]
    for name, arrays in (("scan", times), ("masks", [(array > 60).astype(np.uint8) for array in times])):
        sitk.WriteImage(sitk.JoinSeries([image_of(array) for array in arrays]), str(tmp_path / f"{name}.nii.gz"))
    mask = voxels > 100
    sitk.WriteImage(image_of(mask.astype(np.uint8)), str(tmp_path / "mask.nii.gz"))
    for frame in range(3):
        case = load_case(tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz", 1, frame=frame)
        assert np.array_equal(case.voxels, times[frame])
        assert np.array_equal(case.mask, mask)
        case = load_case(tmp_path / "scan.nii.gz", tmp_path / "masks.nii.gz", frame=frame)
        assert np.array_equal(case.mask, times[frame] > 60)
    one_line = r"^\S+scan\.nii\.gz: holds 3 volumes .*; choose one with frame=0 to frame=2; to train, store one a file$"
    with pytest.raises(FormatError, match=one_line):
        load_case(tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz")
    with pytest.raises(FormatError, match=r"^\S+scan\.nii\.gz: frame=3 does not exist"):
        load_case(tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz", frame=3)
    sitk.WriteImage(image_of(voxels), str(tmp_path / "one.nii.gz"))
    with pytest.raises(FormatError, match=r"^\S+masks\.nii\.gz: holds 3 volumes"):
        load_case(tmp_path / "one.nii.gz", tmp_path / "masks.nii.gz")


def test_real_masks(real_data):
    with pytest.raises(FormatError, match=r"found 0\.125, 0\.25, .* by the nearest neighbour"):  # interpolated labels
        load_case(*(real_data / f"philips_echo/ultrasound_{kind}4d.nii.gz" for kind in ("img", "seg")), frame=1)
    first = sorted((real_data / "msd_hippocampus/images").glob("*.nii.gz"))[0]
    case = load_case(first, real_data / "msd_hippocampus/labels" / first.name, label=1)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(real_data / "msd_hippocampus/labels" / first.name)))
    assert np.array_equal(case.mask, truth == 1)
    assert case.mask.any()


def test_mask_on_another_grid_is_refused(voxels, tmp_path):
    sitk.WriteImage(image_of(voxels), str(tmp_path / "scan.mha"))
    sitk.WriteImage(image_of(voxels[:3]), str(tmp_path / "short.mha"))
    with pytest.raises(GeometryError, match=r"short\.mha: the mask is \(3, 6, 5\), the scan .* is \(4, 6, 5\)"):
        load_case(tmp_path / "scan.mha", tmp_path / "short.mha")
    for shift, fits in ((0.0005, True), (0.002, False)):
        moved = image_of(voxels)
        moved.SetOrigin((ORIGIN[0] + shift, *ORIGIN[1:]))
        sitk.WriteImage(moved, str(tmp_path / "moved.mha"))
        if fits:
            assert load_case(tmp_path / "scan.mha", tmp_path / "moved.mha").mask.sum() == np.count_nonzero(voxels)
        else:
            with pytest.raises(GeometryError, match=r"moved\.mha: its voxels are up to 0\.002 mm away"):
                load_case(tmp_path / "scan.mha", tmp_path / "moved.mha")


# ---------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz", "m.mha", "m.nrrd", "M.NII.GZ"])
def test_mask_round_trip(name, scan, tmp_path):
    mask = scan.voxels > 100
    assert save_mask(mask, tmp_path / "new" / "folder" / name, scan) == ()
    image = sitk.ReadImage(str(tmp_path / "new" / "folder" / name))
    assert np.array_equal(sitk.GetArrayFromImage(image), mask)
    assert np.allclose(image.GetSpacing(), SPACING)
    assert np.allclose(image.GetOrigin(), ORIGIN)
    assert np.allclose(image.GetDirection(), DIRECTION.ravel(), atol=1e-6)
    read, affine = load_mask(tmp_path / "new" / "folder" / name)
    assert np.array_equal(read, mask)
    assert np.abs(affine - scan.affine).max() < 1e-5
    assert [path.name for path in (tmp_path / "new/folder").iterdir()] == [name]


@pytest.mark.parametrize("name", ["m.png", "m", "m.mhd", "m.gz"])
def test_unknown_extension_is_refused_in_one_line(name, scan, tmp_path):
    with pytest.raises(FormatError, match=r"expected one of \.dcm, \.nii, \.nii\.gz, \.mha, \.nrrd") as caught:
        save_mask(scan.voxels > 0, tmp_path / name, scan)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_shape_and_impossible_folder(scan, tmp_path):
    with pytest.raises(GeometryError, match=r"the mask is \(3, 6, 5\), the scan is \(4, 6, 5\)"):
        save_mask(scan.voxels[:3] > 0, tmp_path / "m.nii", scan)
    (tmp_path / "file").write_text("in the way")
    for name in ("m.nii", "m.dcm"):
        with pytest.raises(FormatError, match="cannot be written"):
            save_mask(scan.voxels > 0, tmp_path / "file" / name, scan)
    (tmp_path / "d.nii").mkdir()
    with pytest.raises(FormatError, match="cannot be written"):
        save_mask(scan.voxels > 0, tmp_path / "d.nii", scan)


@pytest.mark.parametrize("name", ["m.nii.gz", "m.dcm"])
def test_a_failed_write_leaves_the_old_file_alone(name, scan, tmp_path, monkeypatch):
    (tmp_path / name).write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(FormatError, match="No space left on device"):
        save_mask(scan.voxels > 0, tmp_path / name, scan)
    assert (tmp_path / name).read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


# -------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.nii", None, "no such file"),
        ("empty.dcm", b"", "the file is empty"),
        ("empty.nii.gz", b"", "not a readable NIfTI"),
        ("text.dcm", b"this is a text, not a scan\n" * 20, "DICM is missing at byte 128"),
        ("noname", b"abc", "DICM is missing at byte 128"),
        ("scan.jpg", b"\xff\xd8", r"\.jpg is not a format"),
        ("garbage.nii", bytes(range(256)) * 3, "not a readable NIfTI"),
        ("garbage.nii.gz", b"\x1f\x8b" + bytes(range(200)), "not a readable NIfTI"),
        ("garbage.mha", b"ObjectType = Image\nNDims = 3\n", "not a readable MetaImage"),
        ("text.mha", b"NDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n1 2 3 4\n",
         "BinaryData = True"),
        ("far.mhd", b"NDims = 2\nBinaryData = True\nDimSize = 2 2\nElementType = MET_UCHAR\n"
         b"ElementDataFile = ../else.raw\n", "ElementDataFile = LOCAL or a file beside it"),
        ("twice.mhd", b"NDims = 99\nNDims = 2\nBinaryData = True\nDimSize = 2 2\nElementType = MET_UCHAR\n"
         b"ElementDataFile = LOCAL\n1234", "each once"),
        ("garbage.nrrd", b"NRRD0004\ntype: what\n", "not a readable NRRD"),
        ("long.nrrd", b"NRRD0004\ntype: " + b"A" * 2000 + b"\n\n", "at most 512 characters"),
        ("skip.nrrd", b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 1 1 1\nencoding: gzip\nbyte skip: 1000000000\n\n"
         + gzip.compress(bytes(9)), "skip no more than"),
        ("mark.dcm", b"\0" * 128 + b"DICM", "mark.dcm"),
        ("tail.dcm", b"\0" * 128 + b"DICM" + bytes(range(256)), "tail.dcm"),
    ],
)  # fmt: skip
def test_bad_files(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SegdetError, match=message) as caught:
        load_volume(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [load_volume, load_mask, read_dicom, read_stills, folder_pairs, read_infants])
def test_an_empty_path_is_not_the_current_folder(read, tmp_path, monkeypatch):
    scan = make_phantom(1, shape=(8, 24, 16))
    for folder in (tmp_path, tmp_path / "images", tmp_path / "labels"):
        folder.mkdir(exist_ok=True)
        write_volume(scan, folder / "scan.dcm")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError, match=r"^the path is empty; name a file or folder \(\. is this folder\)$"):
        read("")
    assert load_volume(".").shape == (8, 24, 16)


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links and pipes")
@pytest.mark.parametrize("suffix", [".dcm", ".nii.gz", ""])
def test_links_to_nothing_and_pipes(suffix, tmp_path):
    dangling, loop, pipe = (tmp_path / f"{name}{suffix}" for name in ("dangling", "loop", "pipe"))
    dangling.symlink_to(tmp_path / "gone")
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    for path in (dangling, loop, pipe):
        with pytest.raises(FormatError, match=f"{path.name}: no such file or folder"):
            load_volume(path)
    assert os.listdir(tmp_path)
    with pytest.raises(FormatError, match="no DICOM file in this folder"):  # they are passed over
        load_volume(tmp_path)


def test_folder_without_dicom(tmp_path):
    with pytest.raises(FormatError, match="no DICOM file in this folder"):
        load_volume(tmp_path)


@pytest.mark.parametrize("reason", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_unreadable_file(reason, tmp_path, monkeypatch):
    (tmp_path / "a.dcm").write_bytes(b"\0" * 200)

    def refuse(*_, **__):
        raise reason

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(FormatError, match=rf"a\.dcm: cannot be read: {reason.strerror}"):
        load_volume(tmp_path / "a.dcm")


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise MemoryError("no room")

    (tmp_path / "a.dcm").write_bytes(b"\0" * 200)
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(MemoryError, match="no room"):
        load_volume(tmp_path / "a.dcm")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"\0" * 200)
    (tmp_path / "a.dcm").chmod(0)
    with pytest.raises(FormatError, match="Permission denied"):
        load_volume(tmp_path / "a.dcm")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize(("value", "dtype"), [(np.nan, np.float32), (np.inf, np.float64)])
def test_values_that_are_not_finite(name, value, dtype, tmp_path):
    array = np.zeros((2, 3, 4), dtype)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
    assert load_volume(tmp_path / name).shape == (2, 3, 4)
    array[1, 1, 1] = value
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
    with pytest.raises(GeometryError, match=f"{name}: the voxels hold NaN or infinity"):
        load_volume(tmp_path / name)


def test_big_endian_nifti(voxels, tmp_path):
    nib = pytest.importorskip("nibabel")
    array = voxels.transpose(2, 1, 0).astype(">f4")
    nib.Nifti1Image(array, np.eye(4), nib.Nifti1Header(endianness=">")).to_filename(tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    assert np.array_equal(load_volume(tmp_path / "a.nii").voxels, voxels)


def test_blank_scan_is_said(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 3, 4), 5, np.uint8)), str(tmp_path / "a.nii"))
    assert load_volume(tmp_path / "a.nii").notes[-1] == "every voxel has the value 5"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd", "a.dcm"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kept", [0.99, 0.5])
def test_truncated_voxels_never_become_zeros(name, compressed, kept, tmp_path):
    array = np.random.default_rng(0).integers(1, 255, (20, 20, 20), dtype=np.uint8)
    if name == "a.dcm":
        write_volume(Volume(array, np.eye(4)[[2, 1, 0, 3]]), tmp_path / name)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name), compressed)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(FormatError, match=name):
        load_volume(tmp_path / name)


def test_announced_size_is_checked_before_memory_is_asked_for(voxels, tmp_path):
    sitk.WriteImage(image_of(voxels), str(tmp_path / "a.nii"))
    header = bytearray((tmp_path / "a.nii").read_bytes())
    header[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(header)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(header)))
    text = f"NDims = 3\nBinaryData = True\nDimSize = {'30000 ' * 3}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "c.mha").write_bytes(text.encode() + b"\0" * 100)
    for name in ("a.nii", "b.nii.gz", "c.mha"):
        with pytest.raises(FormatError, match="announces 30000 x 30000 x 30000 voxels"):
            load_volume(tmp_path / name)


def test_what_a_compressed_nifti_may_become(tmp_path, monkeypatch):
    blank = np.zeros((64, 256, 256), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(blank), str(tmp_path / "a.nii.gz"))
    assert (tmp_path / "a.nii.gz").stat().st_size < blank.size / 500
    assert load_volume(tmp_path / "a.nii.gz").shape == blank.shape
    content = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content + bytes(9 << 20)))
    assert load_volume(tmp_path / "b.nii.gz").shape == blank.shape
    monkeypatch.setattr("segdet.io.itk.SMALL", 8 << 20)  # 256 MiB otherwise, slow to make
    with pytest.raises(FormatError, match=r"b\.nii\.gz: holds 8388608 bytes more than its header announces"):
        load_volume(tmp_path / "b.nii.gz")
    monkeypatch.setattr("segdet.io.itk.SMALL", 3 << 20)
    with pytest.raises(FormatError, match=r"announces 256 x 256 x 64 voxels \(4194304 bytes\), its file holds"):
        load_volume(tmp_path / "a.nii.gz")
