"""DICOM in and out, judged by SimpleITK (GDCM), highdicom, Pillow and values worked out by hand."""

import functools
import importlib.resources
import itertools
import json
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from dicom_samples import ct_voxels, encode, oblique_affine, saved, write_series
from pydicom import examples
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from segdet.errors import FormatError, GeometryError
from segdet.io.annotations import load_case, load_mask
from segdet.io.dicom.pixels import stated_size
from segdet.io.dicom.read import identifying_tags
from segdet.io.dicom.write import write_volume
from segdet.io.files import load_volume, save_mask
from segdet.volume import Volume, axis_aligned_affine

hd = pytest.importorskip("highdicom")
sitk = pytest.importorskip("SimpleITK")


@pytest.fixture
def scan():
    voxels = np.random.default_rng(7).integers(0, 256, (6, 9, 7), dtype=np.uint8)
    return Volume(voxels, oblique_affine())


@pytest.fixture
def enhanced(scan, tmp_path):
    """A scan written as Enhanced US Volume, and its data set to tamper with."""
    write_volume(scan, tmp_path / "scan.dcm")
    return pydicom.dcmread(tmp_path / "scan.dcm")


def reorder(ds, order):
    """The same file with its frames in another order."""
    frames = np.frombuffer(ds.PixelData, np.uint8)[: ds.NumberOfFrames * ds.Rows * ds.Columns]
    frames = frames.reshape(ds.NumberOfFrames, -1)[order].tobytes()
    ds.PixelData = frames + b"\0" * (len(frames) % 2)
    ds.PerFrameFunctionalGroupsSequence = [ds.PerFrameFunctionalGroupsSequence[i] for i in order]
    ds.NumberOfFrames = len(order)
    return ds


# ------------------------------------------------------------------------------------ Enhanced US Volume


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_enhanced_us_round_trip(dtype, tmp_path):
    voxels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (5, 7, 3)).astype(dtype)
    volume = Volume(voxels, oblique_affine(origin=(-123.456789, 0.1, 1e-7)))
    write_volume(volume, tmp_path / "a.dcm")
    read = load_volume(tmp_path / "a.dcm")
    assert read.voxels.dtype == dtype
    assert np.array_equal(read.voxels, voxels)
    assert np.abs(read.affine - volume.affine).max() < 1e-6
    assert read.meta["sop_class"] == "Enhanced US Volume Storage"
    assert read.notes == ()


def test_enhanced_us_is_the_same_file_twice_and_carries_no_patient(scan, tmp_path):
    write_volume(scan, tmp_path / "a.dcm")
    write_volume(scan, tmp_path / "b.dcm")
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    other = Volume(scan.voxels + np.uint8(1), scan.affine)
    write_volume(other, tmp_path / "c.dcm")
    a, c = (pydicom.dcmread(tmp_path / name) for name in ("a.dcm", "c.dcm"))
    assert a.SOPInstanceUID != c.SOPInstanceUID
    assert [*map(str, (a.PatientName, a.PatientID, a.PatientBirthDate, a.AccessionNumber))] == [""] * 4
    assert identifying_tags(tmp_path / "a.dcm") == []
    write_volume(Volume(scan.voxels, scan.affine, meta={"side": "right"}), tmp_path / "r.dcm")
    right = pydicom.dcmread(tmp_path / "r.dcm")
    assert (a.Laterality, right.Laterality) == ("", "R")
    assert a.SOPInstanceUID != right.SOPInstanceUID


def test_highdicom_places_the_enhanced_us_voxels_where_we_do(scan, enhanced, tmp_path):
    other = hd.imread(tmp_path / "scan.dcm").get_volume()
    index = np.array([[0, 0, 0], [5, 8, 6], [2, 3, 4], [4, 0, 5]])
    lps = index @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    theirs = np.linalg.inv(other.affine) @ np.c_[lps, np.ones(4)].T
    theirs = np.rint(theirs[:3]).astype(int)
    assert np.abs(other.affine[:3, :3] @ theirs + other.affine[:3, 3:] - lps.T).max() < 1e-6
    assert np.array_equal(other.array[tuple(theirs)], scan.voxels[tuple(index.T)])


@pytest.mark.parametrize("signs", [*itertools.product((1, -1), repeat=3)])
def test_oblique_and_mirrored_grids_keep_every_corner(signs, scan, tmp_path):
    affine = oblique_affine((0.123456789, 1 / 3, 0.0987654321), (-123.456789012, 1e-7, 299.999999999))
    affine[:3, :3] *= signs
    write_volume(Volume(scan.voxels, affine), tmp_path / "a.dcm")
    read = load_volume(tmp_path / "a.dcm")
    last = 0 if np.prod(signs) == 1 else 5  # slices that run against their normal come back in the opposite order
    assert np.array_equal(read.voxels, scan.voxels if last == 0 else scan.voxels[::-1])
    for i, j, k in itertools.product((0, 5), (0, 8), (0, 6)):
        assert np.abs((read.affine @ [abs(last - i), j, k, 1]) - affine @ [i, j, k, 1]).max() < 1e-6


def test_a_large_file_is_read_from_disk_as_it_is_from_memory(tmp_path):
    """Beyond 1 MiB the pixels are read straight into the array."""
    voxels = np.random.default_rng(2).integers(0, 4096, (5, 400, 300), dtype=np.uint16)
    write_volume(Volume(voxels, oblique_affine()), tmp_path / "a.dcm")
    volume = load_volume(tmp_path / "a.dcm")
    assert np.array_equal(volume.voxels, voxels)
    assert volume.voxels.flags.writeable
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.BitsStored, ds.HighBit, ds.PixelData = 12, 11, (voxels | 0xF000).tobytes()  # the unused bits count for nothing
    assert np.array_equal(load_volume(saved(ds, tmp_path / "b.dcm")).voxels, voxels)
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content[:-2])
    with pytest.raises(FormatError, match=r"cut\.dcm: .* \(1200000 bytes\), the pixel data hold 1199998 bytes"):
        load_volume(tmp_path / "cut.dcm")


def test_each_frame_has_its_own_rescaling(scan, enhanced, tmp_path):
    for index, item in enumerate(enhanced.PerFrameFunctionalGroupsSequence):
        item.PixelValueTransformationSequence = [Dataset()]
        item.PixelValueTransformationSequence[0].RescaleSlope = index + 1
        item.PixelValueTransformationSequence[0].RescaleIntercept = -index
    read = load_volume(saved(reorder(enhanced, [3, 0, 5, 1, 4, 2]), tmp_path / "a.dcm"))
    index = np.arange(6)[:, None, None]
    assert np.array_equal(read.voxels, scan.voxels * (index + 1.0) - index)


@pytest.mark.parametrize("order", [[5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]])
def test_frames_in_any_order(order, scan, enhanced, tmp_path):
    read = load_volume(saved(reorder(enhanced, order), tmp_path / "shuffled.dcm"))
    assert np.array_equal(read.voxels, scan.voxels)
    assert np.abs(read.affine - scan.affine).max() < 1e-6


@pytest.mark.parametrize("distance", [0.26, None])
def test_one_frame_alone(distance, scan, enhanced, tmp_path):
    measures = enhanced.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices, measures.SliceThickness = None, distance
    read = load_volume(saved(reorder(enhanced, [2]), tmp_path / "a.dcm"))
    assert np.array_equal(read.voxels, scan.voxels[2:3])
    assert read.spacing[0] == pytest.approx(distance or 1)
    assert "a single slice" in read.notes[0]


def test_missing_slice_is_refused(enhanced, tmp_path):
    path = saved(reorder(enhanced, [0, 1, 3, 4, 5]), tmp_path / "gap.dcm")
    with pytest.raises(GeometryError, match=r"gap\.dcm.*not evenly spaced, 0\.26 to 0\.52 mm"):
        load_volume(path)


def test_tilted_stack_is_refused(enhanced, tmp_path):
    for index, frame in enumerate(enhanced.PerFrameFunctionalGroupsSequence):
        position = frame.PlanePositionSequence[0]
        position.ImagePositionPatient = [f"{float(v) + 0.1 * index:.8f}" for v in position.ImagePositionPatient]
    with pytest.raises(GeometryError, match="not stacked along their normal"):
        load_volume(saved(enhanced, tmp_path / "tilt.dcm"))


def test_two_time_points_need_a_choice(scan, enhanced, tmp_path):
    first = [pydicom.dcmread(tmp_path / "scan.dcm").PerFrameFunctionalGroupsSequence[i] for i in range(6)]
    later = [pydicom.dcmread(tmp_path / "scan.dcm").PerFrameFunctionalGroupsSequence[i] for i in range(6)]
    for item in later:
        item.FrameContentSequence[0].TemporalPositionIndex = 2
    data = scan.voxels.tobytes()
    enhanced.PerFrameFunctionalGroupsSequence = later + first
    enhanced.PixelData, enhanced.NumberOfFrames = (255 - scan.voxels).tobytes() + data, 12
    path = saved(enhanced, tmp_path / "4d.dcm")
    with pytest.raises(FormatError, match=r"holds 2 volumes .* frame=0 to frame=1"):
        load_volume(path)
    told = load_volume(path, frame=0)
    assert np.array_equal(told.voxels, scan.voxels)
    assert told.notes == ("volume 1 of 2 was read, as frame=0 asked",)
    assert np.array_equal(load_volume(path, frame=1).voxels, 255 - scan.voxels)
    with pytest.raises(FormatError, match="frame=2 does not exist"):
        load_volume(path, frame=2)
    for item in later:  # the same without time indices: repeated positions tell them apart
        del item.FrameContentSequence[0].TemporalPositionIndex
    for item in first:
        del item.FrameContentSequence[0].TemporalPositionIndex
    untold = load_volume(saved(enhanced, path), frame=0)
    assert np.array_equal(untold.voxels, 255 - scan.voxels)
    assert untold.notes == (
        "nothing but their order in the file says which frames of one position belong together",
        "volume 1 of 2 was read, as frame=0 asked",
    )


def test_volume_frame_of_reference_is_said(scan, enhanced, tmp_path):
    for frame in enhanced.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence
    del enhanced.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    read = load_volume(saved(enhanced, tmp_path / "v.dcm"))
    assert np.abs(read.affine - scan.affine).max() < 1e-6
    assert any("LPS directions are unknown" in note for note in read.notes)


@pytest.mark.parametrize(
    ("tamper", "error", "message"),
    [
        (lambda ds: setattr(ds, "NumberOfFrames", 5), FormatError, "announces 5 frames, but describes 6"),
        (lambda ds: setattr(ds, "PixelData", ds.PixelData[:-40]), FormatError, r"\(378 bytes\).* hold 338 bytes"),
        (lambda ds: setattr(ds, "Rows", 60000), FormatError, "6 frames of 60000 x 7"),
        (
            lambda ds: [frame.__delattr__("PlanePositionVolumeSequence") or frame.__delattr__("PlanePositionSequence")
                        for frame in ds.PerFrameFunctionalGroupsSequence],
            GeometryError, "neither ImagePositionPatient nor",
        ),
        (lambda ds: ds.SharedFunctionalGroupsSequence[0].__delattr__("PixelMeasuresSequence"), GeometryError,
         "PixelSpacing is missing"),
        (lambda ds: setattr(ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], "PixelSpacing", [0, 1]),
         GeometryError, "pixel spacing"),
        (lambda ds: setattr(ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0],
                            "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), GeometryError, "not two perpendicular"),
        (lambda ds: setattr(ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0],
                            "ImageOrientationPatient", [1, 0, 0]), GeometryError,
         "bad.dcm: its ImageOrientationPatient is of 3 numbers; expected 6"),
        (lambda ds: setattr(ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], "PixelSpacing", [0.5]),
         GeometryError, "bad.dcm: its PixelSpacing is of 1 number; expected 2"),
        (lambda ds: setattr(ds.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0], "ImagePositionPatient",
                            [1, 2]), GeometryError, "bad.dcm: its ImagePositionPatient is of 2 numbers; expected 3"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(tamper, error, message, enhanced, tmp_path):
    tamper(enhanced)
    with pytest.raises(error, match=message) as caught:
        load_volume(saved(enhanced, tmp_path / "bad.dcm"))
    assert "bad.dcm" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absurd_frame_count_is_refused_before_decoding(tmp_path):
    ds = pydicom.dcmread(examples.get_path("ybr_color"))
    ds.NumberOfFrames = 2_000_000_000
    with pytest.raises(FormatError, match="announces 2000000000 frames"):
        load_volume(saved(ds, tmp_path / "huge.dcm"))


def test_write_volume_refuses_what_it_cannot_hold(scan, tmp_path):
    with pytest.raises(FormatError, match="uint8 or uint16 voxels, not float64"):
        write_volume(Volume(scan.voxels.astype(float), scan.affine), tmp_path / "a.dcm")
    with pytest.raises(FormatError, match=r"expected a name that ends in \.dcm"):
        write_volume(scan, tmp_path / "a.nii")
    sheared = scan.affine.copy()
    sheared[:3, 0] += 0.1
    with pytest.raises(GeometryError, match="not perpendicular"):
        write_volume(Volume(scan.voxels, sheared), tmp_path / "a.dcm")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------- Philips


def test_philips_cartesian_equals_the_nifti_beside_it(real_data):
    folder = real_data / "philips_echo"
    image = sitk.ReadImage(str(folder / "ultrasound_img4d.nii.gz"))
    truth = np.rint(sitk.GetArrayFromImage(image))  # averages of neighbours; the derived file holds them as uint8
    for frame in range(3):
        volume = load_volume(folder / "philips_cartesian_filled_DERIVED.dcm", frame=frame)
        assert volume.voxels.dtype == np.uint8
        assert np.array_equal(volume.voxels, truth[frame])
    assert np.allclose(volume.spacing, image.GetSpacing()[2::-1], atol=1e-6)
    assert np.allclose(np.diag(volume.affine[:3, 2::-1]), image.GetSpacing()[:3], atol=1e-6)


def test_philips_cartesian_takes_the_first_volume_and_says_so(real_data):
    path = real_data / "philips_echo/philips_cartesian_filled_DERIVED.dcm"
    volume = load_volume(path)
    assert np.array_equal(volume.voxels, load_volume(path, frame=0).voxels)
    notes = " | ".join(volume.notes)
    assert "volume 1 of 3 was read; choose with frame=0 to frame=2" in notes
    assert "declares cm, but the scan would be 2.1 m long: read as mm" in notes
    with pytest.raises(FormatError, match="frame=3 does not exist"):
        load_volume(path, frame=3)


def test_philips_centimetres_are_believed_where_possible(real_data, tmp_path):
    ds = pydicom.dcmread(real_data / "philips_echo/philips_cartesian_filled_DERIVED.dcm")
    ds.PhysicalDeltaX, ds.PhysicalDeltaY, ds[0x3001, 0x1003].value = 0.025, 0.022, 0.026
    volume = load_volume(saved(ds, tmp_path / "p.dcm"))
    assert np.allclose(volume.spacing, (0.26, 0.22, 0.25), rtol=0, atol=1e-9)
    assert any("as the header declares" in note for note in volume.notes)
    assert volume.notes[1].startswith("the file gives no position or orientation")
    ds.ImagePositionPatient = [1, 2, 3]
    assert load_volume(saved(ds, tmp_path / "p.dcm")).notes[1].startswith("the place in the patient was not read")
    ds.PhysicalDeltaX = 400.0
    with pytest.raises(GeometryError, match=r"224\.0 m long in cm and 22\.4 m in mm"):
        load_volume(saved(ds, tmp_path / "p.dcm"))


def test_philips_dummy_is_refused_with_everything_that_is_wrong(real_data):
    with pytest.raises(FormatError) as caught:
        load_volume(real_data / "philips_echo/echo_cartesian_dummy.dcm")
    message = str(caught.value)
    for part in ("echo_cartesian_dummy.dcm", "announces 30 volumes", "56 x 52 x 56", "4892160 bytes", "hold 489212",
                 "4 bytes short of 3 volumes", "99.8% of them 0", "blank"):  # fmt: skip
        assert part in message


# ---------------------------------------------------------------------------------------- clips, images


def test_colour_clip():
    from PIL import Image
    from pydicom.pixels import pixel_array

    path = examples.get_path("ybr_color")
    volume = load_volume(path)
    assert volume.shape == (30, 240, 320)
    assert np.allclose(volume.spacing, (1, 0.5104970559, 0.5104970559))  # PhysicalDelta 0.05104970559 cm
    truth = np.stack([np.asarray(Image.fromarray(rgb).convert("L")) for rgb in pixel_array(path)])
    assert np.abs(volume.voxels.astype(int) - truth).max() <= 1  # Pillow rounds its weights
    notes = " | ".join(volume.notes)
    for part in ("follow each other in time", "distance between slices is unknown", "column 595 and row 414"):
        assert part in notes
    assert np.array_equal(load_volume(path, frame=29).voxels, volume.voxels[29:])


def test_palette_and_single_images():
    palette = load_volume(examples.get_path("palette_color"))
    assert palette.shape == (1, 350, 800)
    grey = load_volume(examples.get_path("rgb_color"))
    assert grey.spacing == (1, 1, 1)
    assert any("pixel size was set to 1 mm" in note for note in grey.notes)


@pytest.mark.parametrize("name", ["ct", "mr"])
def test_single_slice_equals_gdcm(name):
    path = examples.get_path(name)
    volume, image = load_volume(path), sitk.ReadImage(str(path))
    assert np.array_equal(volume.voxels, sitk.GetArrayFromImage(image))
    assert np.allclose(volume.affine[:3, 3], image.GetOrigin())
    assert np.allclose(volume.spacing[1:], image.GetSpacing()[1::-1])
    assert any("a single slice" in note for note in volume.notes)


# ---------------------------------------------------------------------------------------------- series


def test_series_equals_gdcm(tmp_path):
    affine = oblique_affine((2.5, 0.7, 0.8))
    folder = write_series(tmp_path / "ct", ct_voxels(), affine, slope=2, intercept=-1000)
    (folder / "notes.txt").write_text("no DICOM")
    volume = load_volume(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    assert np.array_equal(volume.voxels, sitk.GetArrayFromImage(image))
    assert np.array_equal(volume.voxels, ct_voxels() * 2.0 - 1000)
    assert np.abs(volume.affine - affine).max() < 1e-6
    for index in ((0, 0, 0), (4, 7, 5)):
        there = image.TransformIndexToPhysicalPoint(index[::-1])
        assert np.allclose((volume.affine @ [*index, 1])[:3], there, atol=1e-4)


def test_series_gap_and_mixture_are_refused(tmp_path):
    folder = write_series(tmp_path / "gap", ct_voxels(), oblique_affine((2.5, 0.7, 0.8)))
    (folder / "074.dcm").unlink()  # the third slice
    with pytest.raises(GeometryError, match=r"gap: .*2\.5 to 5 mm"):
        load_volume(folder)
    folder = write_series(tmp_path / "two", ct_voxels(), np.eye(4)[[2, 1, 0, 3]])
    write_series(folder, ct_voxels(2), np.eye(4)[[2, 1, 0, 3]], series="2", start=5)
    with pytest.raises(FormatError, match="holds 2 series"):
        load_volume(folder)


def test_series_with_two_time_points(tmp_path):
    affine = axis_aligned_affine((2, 1, 1))
    folder = write_series(tmp_path / "t", ct_voxels(1), affine)
    write_series(folder, ct_voxels(2), affine, start=5)
    with pytest.raises(FormatError, match="holds 2 volumes"):
        load_volume(folder)
    assert np.array_equal(load_volume(folder, frame=0).voxels, ct_voxels(1))
    assert np.array_equal(load_volume(folder, frame=1).voxels, ct_voxels(2))


# ------------------------------------------------------------------------------------------------- SEG


def seg_equals(path, mask, affine):
    """highdicom, read back on its own, agrees voxel by voxel in space."""
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    at = np.argwhere(np.ones(mask.shape, bool))
    lps = at @ affine[:3, :3].T + affine[:3, 3]
    index = (lps - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T
    assert np.abs(index - np.rint(index)).max() < 1e-3
    assert volume.array.size == mask.size
    assert np.array_equal(volume.array[tuple(np.rint(index).astype(int).T)].astype(bool), mask.ravel())


def test_seg_of_an_enhanced_us_volume(scan, enhanced, tmp_path):
    mask = scan.voxels > 180
    assert save_mask(mask, tmp_path / "m.dcm", scan, tmp_path / "scan.dcm") == ("refers to the frames of the scan",)
    seg_equals(tmp_path / "m.dcm", mask, scan.affine)
    read, affine = load_mask(tmp_path / "m.dcm")
    assert np.array_equal(read, mask)
    assert np.abs(affine - scan.affine).max() < 1e-6
    seg = pydicom.dcmread(tmp_path / "m.dcm")
    assert seg.FrameOfReferenceUID == enhanced.FrameOfReferenceUID
    assert seg.SourceImageSequence[0].ReferencedSOPInstanceUID == enhanced.SOPInstanceUID
    assert seg.SegmentationType == "BINARY"
    assert len(seg.SegmentSequence) == 1


def test_seg_of_a_series_keeps_the_patient(tmp_path):
    affine = oblique_affine((2.5, 0.7, 0.8))
    folder = write_series(tmp_path / "ct", ct_voxels(), affine)
    volume = load_volume(folder)
    mask = volume.voxels > 500
    save_mask(mask, tmp_path / "m.dcm", volume, folder)
    seg_equals(tmp_path / "m.dcm", mask, affine)
    seg = pydicom.dcmread(tmp_path / "m.dcm")
    assert (seg.PatientID, len(seg.SourceImageSequence)) == ("T1", 5)
    case = load_case(folder, tmp_path / "m.dcm")
    assert np.array_equal(case.mask, mask)


def test_seg_of_a_philips_scan(real_data, tmp_path):
    path = real_data / "philips_echo/philips_cartesian_filled_DERIVED.dcm"
    volume = load_volume(path)
    mask = volume.voxels > 90
    (note,) = save_mask(mask, tmp_path / "m.dcm", volume, path)
    assert note == "refers to the scan; its grid was described in memory"
    seg_equals(tmp_path / "m.dcm", mask, volume.affine)
    seg, source = pydicom.dcmread(tmp_path / "m.dcm"), pydicom.dcmread(path)
    reference = seg.SourceImageSequence[0]
    assert reference.ReferencedSOPClassUID == source.SOPClassUID
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert not any(item.DerivationImageSequence for item in seg.PerFrameFunctionalGroupsSequence)


@pytest.mark.parametrize("fill", [0, 1])
def test_seg_without_a_source_also_empty_or_full(fill, scan, tmp_path):
    mask = np.full(scan.shape, bool(fill))
    (note,) = save_mask(mask, tmp_path / "m.dcm", scan)
    assert note.startswith("no DICOM source")
    read, affine = load_mask(tmp_path / "m.dcm")
    assert np.array_equal(read, mask)
    assert np.abs(affine - scan.affine).max() < 1e-6
    assert "SourceImageSequence" not in pydicom.dcmread(tmp_path / "m.dcm")


def test_seg_of_others_with_slices_left_out_and_two_segments(scan, enhanced, tmp_path):
    labels = np.zeros(scan.shape, np.uint8)
    labels[2, 1:4, 1:3], labels[3, 5, 2:6], labels[4, 0, 0] = 1, 2, 2
    code = pydicom.sr.codedict.codes.SCT.Tissue
    describe = [hd.seg.SegmentDescription(n, f"part {n}", code, code, "MANUAL") for n in (1, 2)]
    ds = hd.seg.Segmentation(
        [enhanced], hd.Volume(labels, scan.affine, coordinate_system="PATIENT"), "BINARY", describe, generate_uid(), 1,
        generate_uid(), 1, "a", "b", "c", "d", omit_empty_frames=True,
    )  # fmt: skip
    ds.save_as(tmp_path / "m.dcm")
    assert load_mask(tmp_path / "m.dcm")[0].shape == (3, 9, 7)
    assert np.array_equal(load_case(tmp_path / "scan.dcm", tmp_path / "m.dcm").mask, labels > 0)
    assert np.array_equal(load_case(tmp_path / "scan.dcm", tmp_path / "m.dcm", label=2).mask, labels == 2)
    with pytest.raises(FormatError, match=r"no segment 3; its segments are \[1, 2\]"):
        load_mask(tmp_path / "m.dcm", 3)


def test_seg_of_a_left_handed_scan_lands_on_it(scan, tmp_path):
    affine = scan.affine.copy()
    affine[:3, 0] *= -1
    volume = Volume(scan.voxels, affine)
    mask = scan.voxels > 128
    image = sitk.GetImageFromArray(scan.voxels)
    image.SetSpacing(volume.spacing[::-1])
    image.SetOrigin(affine[:3, 3])
    image.SetDirection((affine[:3, 2::-1] / volume.spacing[::-1]).ravel())
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    save_mask(mask, tmp_path / "m.dcm", volume)
    seg_equals(tmp_path / "m.dcm", mask, affine)
    assert np.array_equal(load_case(tmp_path / "scan.mha", tmp_path / "m.dcm").mask, mask)


# -------------------------------------------------------------------------------------------- identity


def test_identifying_tags_name_attributes_not_values(tmp_path):
    folder = write_series(tmp_path / "ct", ct_voxels(depth=2), np.eye(4))
    found = identifying_tags(folder)
    assert found[1:] == ["PatientID", "PatientName"]
    assert found[0].startswith("BurnedInAnnotation is absent")
    assert "Test" not in " ".join(found)
    (tmp_path / "a.txt").write_text("x")
    assert identifying_tags(tmp_path / "a.txt") == []


def test_a_damaged_header_does_not_leak_into_the_message(tmp_path):
    content = bytearray((write_series(tmp_path / "ct", ct_voxels(depth=1), np.eye(4)) / "000.dcm").read_bytes())
    at = content.index(b"\x08\x00\x16\x00UI") + 6
    content[at : at + 2] = (300).to_bytes(2, "little")  # the SOP class now swallows the patient's name
    assert b"Test^Subject" in content[at : at + 302]
    (tmp_path / "bad.dcm").write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.dcm") as caught:
        load_volume(tmp_path / "bad.dcm")
    assert "Test" not in str(caught.value)
    assert str(caught.value).isprintable()


# ------------------------------------------------------------------------------- transfer syntaxes


def encoded(path, syntax, voxels, photometric="MONOCHROME2"):
    """Write `path`, an Enhanced US Volume, once more with these voxels, (n, rows, columns[, 3]), and syntax."""
    from pydicom.encaps import encapsulate

    ds, bits = pydicom.dcmread(path), voxels.dtype.itemsize * 8
    list(ds.iterall())  # decode every element, so that all can be written in another byte order
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit, ds.PhotometricInterpretation = bits - 1, photometric
    if voxels.ndim == 4:
        ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax.is_encapsulated:
        ds.PixelData = encapsulate([encode(frame, syntax, bits, photometric) for frame in voxels])
    else:
        data = voxels.astype(voxels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
        ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if syntax.is_encapsulated or bits == 8 else "OW"
    ds["PixelData"].is_undefined_length = syntax.is_encapsulated
    other = path.with_name("other.dcm")
    pydicom.dcmwrite(
        other, ds, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian, force_encoding=True
    )
    return other


def smooth(dtype, shape=(4, 40, 32)):
    """Voxels that a lossy codec can hold."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    level = 0.5 + 0.2 * np.sin(z + y / 3.0) + 0.2 * np.cos(x / 4.0)
    return (level * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "syntax",
    ["ExplicitVRLittleEndian", "ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian", "ExplicitVRBigEndian",
     "RLELossless", "JPEG2000Lossless", "JPEGLSLossless"],
)  # fmt: skip
def test_lossless_transfer_syntaxes(syntax, dtype, tmp_path):
    voxels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (4, 40, 32), dtype=dtype)
    scan = Volume(voxels, oblique_affine())
    write_volume(scan, tmp_path / "scan.dcm")
    volume = load_volume(encoded(tmp_path / "scan.dcm", getattr(pydicom.uid, syntax), voxels))
    assert volume.voxels.dtype == dtype
    assert np.array_equal(volume.voxels, voxels)
    assert np.allclose(volume.affine, scan.affine, atol=1e-6)


@pytest.mark.parametrize(("syntax", "worst"), [("JPEGBaseline8Bit", 12), ("JPEG2000", 4), ("JPEGLSNearLossless", 4)])
def test_lossy_transfer_syntaxes(syntax, worst, tmp_path):
    voxels = smooth(np.uint8)
    write_volume(Volume(voxels, oblique_affine()), tmp_path / "scan.dcm")
    volume = load_volume(encoded(tmp_path / "scan.dcm", getattr(pydicom.uid, syntax), voxels))
    assert np.abs(volume.voxels.astype(int) - voxels).max() <= worst


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL_422"])
def test_colour_that_is_really_grey(photometric, tmp_path):
    grey = smooth(np.uint8)
    write_volume(Volume(grey, oblique_affine()), tmp_path / "scan.dcm")
    syntax = "ExplicitVRLittleEndian" if photometric == "RGB" else "JPEGBaseline8Bit"
    colour = np.repeat(grey[..., None], 3, -1)
    volume = load_volume(encoded(tmp_path / "scan.dcm", getattr(pydicom.uid, syntax), colour, photometric))
    assert np.abs(volume.voxels.astype(int) - grey).max() <= (0 if photometric == "RGB" else 12)
    assert any("turned into grey" in note for note in volume.notes)


@pytest.mark.parametrize(
    ("syntax", "named", "way_out"),
    [
        ("JPEGLosslessSV1", "JPEG Lossless, .*Process 14", "pip install pylibjpeg pylibjpeg-libjpeg, or convert"),
        ("HTJ2KLossless", "High-Throughput JPEG 2000", "pip install pylibjpeg pylibjpeg-openjpeg, or convert"),
        ("RLELossless", "RLE Lossless", "pip install pylibjpeg pylibjpeg-rle, or convert"),
        ("MPEG4HP41", "MPEG-4 AVC", "convert"),
    ],
)
def test_a_syntax_without_decoder_is_named(syntax, named, way_out, enhanced, tmp_path, monkeypatch):
    """As where pydicom finds no decoder, whatever is installed here."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.pixels.decoders.pylibjpeg import DECODER_DEPENDENCIES

    if needed := DECODER_DEPENDENCIES.get(getattr(pydicom.uid, syntax)):
        monkeypatch.setattr(get_decoder(getattr(pydicom.uid, syntax)), "_available", {})
        monkeypatch.setattr(get_decoder(getattr(pydicom.uid, syntax)), "_unavailable", {"pylibjpeg": needed})
    enhanced.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    enhanced.PixelData = encapsulate([b"\xff\xd8" * 200] * enhanced.NumberOfFrames)
    enhanced["PixelData"].is_undefined_length = True
    one_line = rf"^\S+a\.dcm: its pixels are stored as {named}.*, for which no decoder is installed; {way_out} [^\n]*$"
    with pytest.raises(FormatError, match=one_line):
        load_volume(saved(enhanced, tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    ("bits", "signed", "stored", "bright"),
    [
        (8, 0, [0, 1, 200, 255], [255, 254, 55, 0]),
        (12, 0, [0, 1, 4095], [4095, 4094, 0]),
        (12, 1, [-2048, -1, 0, 2047], [2047, 0, -1, -2048]),
        (16, 1, [-32768, 5, 32767], [32767, -6, -32768]),
    ],
)
def test_monochrome1_is_inverted_unless_it_is_physical(bits, signed, stored, bright, tmp_path):
    ds = pydicom.dcmread(examples.get_path("ct"))
    ds.PhotometricInterpretation, ds.PixelRepresentation, ds.BitsStored, ds.HighBit = (
        "MONOCHROME1",
        signed,
        bits,
        bits - 1,
    )
    ds.BitsAllocated, ds.Rows, ds.Columns = 8 if bits == 8 else 16, 1, len(stored)
    ds.PixelData = np.array(stored, f"<{'i' if signed else 'u'}{ds.BitsAllocated // 8}").tobytes() + b"\0" * (
        len(stored) % 2
    )
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    volume = load_volume(saved(ds, tmp_path / "a.dcm"))
    assert volume.voxels.ravel().tolist() == bright
    assert any("inverted" in note for note in volume.notes)
    ds.RescaleIntercept = -1000
    volume = load_volume(saved(ds, tmp_path / "a.dcm"))
    assert volume.voxels.ravel().tolist() == [value - 1000 for value in stored]
    assert any("kept, for rescaled values are physical" in note for note in volume.notes)


def test_monochrome1_slices_are_inverted_all_or_none(tmp_path):
    folder = write_series(tmp_path / "a", ct_voxels(depth=2), axis_aligned_affine((2, 1, 1)), slope=2)
    for index, file in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(file)
        ds.PhotometricInterpretation, ds.RescaleSlope = "MONOCHROME1", index + 1
        ds.save_as(file)
    assert np.array_equal(load_volume(folder).voxels, ct_voxels(depth=2) * np.array([1.0, 2.0])[:, None, None])


@pytest.mark.parametrize(("uids", "notes"), [
    (("1.2.3", "1.2.3", ""), ()),
    (("1.2.3", "1.2.3", "1.2.4"), ("its slices are in 2 frames of reference: the same coordinates were assumed",)),
    (("1.2.3", "1.2.5", "1.2.4"), ("its slices are in 3 frames of reference: the same coordinates were assumed",)),
])  # fmt: skip
def test_slices_of_several_frames_of_reference_are_said(uids, notes, tmp_path):
    folder = write_series(tmp_path / "a", ct_voxels(depth=3), axis_aligned_affine((2, 1, 1)))
    for path, uid in zip(sorted(folder.iterdir()), uids, strict=True):
        ds = pydicom.dcmread(path)
        ds.FrameOfReferenceUID = uid
        ds.save_as(path)
    volume = load_volume(folder)
    assert volume.notes == notes
    assert np.array_equal(volume.voxels, ct_voxels(depth=3))


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("ImageOrientationPatient", [1, 0, 0], "3 numbers; expected 6"),
        ("ImagePositionPatient", [1, 2], "2 numbers; expected 3"),  # of all slices they were different times
    ],
)
@pytest.mark.parametrize("files", [["037.dcm"], ["000.dcm", "037.dcm", "074.dcm"]])
def test_a_slice_whose_place_has_not_all_its_numbers_is_refused(files, keyword, value, said, tmp_path):
    folder = write_series(tmp_path / "a", ct_voxels(depth=3), axis_aligned_affine((2, 1, 1)))
    for name in files:
        ds = pydicom.dcmread(folder / name)
        setattr(ds, keyword, value)
        ds.save_as(folder / name)
    with pytest.raises(GeometryError, match=rf"{files[0]}: its {keyword} is of {said}"):
        load_volume(folder)


def test_one_slice_with_a_single_pixel_spacing_differs_from_the_others(tmp_path):
    folder = write_series(tmp_path / "a", ct_voxels(depth=3), axis_aligned_affine((2, 1, 1)))
    ds = pydicom.dcmread(folder / "037.dcm")
    ds.PixelSpacing = [1]
    ds.save_as(folder / "037.dcm")
    with pytest.raises(GeometryError, match="a: PixelSpacing differs between slices"):
        load_volume(folder)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"PixelRepresentation": 0}, "16 bits unsigned, 16 bits signed"),
        ({"BitsStored": 12, "HighBit": 11}, "12 bits signed, 16 bits signed"),
    ],
)
def test_inverted_slices_of_unequal_ranges_are_refused(header, said, tmp_path):
    """Inverted, a 7 of 16 bits is 65528 unsigned and -8 signed: of two scales in one volume."""
    folder = write_series(tmp_path / "a", np.abs(ct_voxels(depth=3)), axis_aligned_affine((2, 1, 1)))
    for name in ("000.dcm", "037.dcm", "074.dcm"):
        ds = pydicom.dcmread(folder / name)
        for keyword, value in (header if name == "037.dcm" else {}).items():
            setattr(ds, keyword, value)
        ds.save_as(folder / name)
    assert np.array_equal(load_volume(folder).voxels, np.abs(ct_voxels(depth=3)))  # as long as none is inverted
    ds = pydicom.dcmread(folder / "000.dcm")
    ds.PhotometricInterpretation = "MONOCHROME1"
    ds.save_as(folder / "000.dcm")
    with pytest.raises(FormatError, match=f"a: its slices hold values of {said}, and some are MONOCHROME1"):
        load_volume(folder)


@pytest.mark.parametrize("slope", [1, 2])
def test_slices_of_both_senses_are_brought_to_one_or_refused(slope, tmp_path):
    folder = write_series(tmp_path / "a", ct_voxels(depth=3), axis_aligned_affine((2, 1, 1)), slope=slope)
    ds = pydicom.dcmread(folder / "037.dcm")  # the second slice
    ds.PhotometricInterpretation = "MONOCHROME1"
    ds.PixelData = (-1 - ct_voxels(depth=3)[1]).tobytes()
    ds.save_as(folder / "037.dcm")
    if slope == 1:
        assert np.array_equal(load_volume(folder).voxels, ct_voxels(depth=3))
    else:
        with pytest.raises(FormatError, match=r"a: large values are dark in 1 of 3 slices, which are MONOCHROME1, and"):
            load_volume(folder)


# ------------------------------------------------------------------------------------- what a file may become


def announce(path, **values):
    ds = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return saved(ds, path)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless", "JPEGLSLossless", "JPEGBaseline8Bit"])
def test_frames_of_another_size_than_announced_are_not_decoded(syntax, tmp_path):
    voxels = np.random.default_rng(1).integers(0, 256, (4, 40, 32), dtype=np.uint8)
    write_volume(Volume(voxels, oblique_affine()), tmp_path / "scan.dcm")
    path = announce(encoded(tmp_path / "scan.dcm", getattr(pydicom.uid, syntax), voxels), Rows=10)
    holds = r"\d+ bytes, too many to decode safely" if syntax == "RLELossless" else r"\[40, 32, 1\]"
    with pytest.raises(
        FormatError, match=rf"announces \[10, 32, 1\] rows.* compressed frame 1 holds {holds}; the file"
    ):
        load_volume(path)


def test_more_frames_than_announced(tmp_path):
    ds = pydicom.dcmread(examples.get_path("ybr_color"))
    ds.NumberOfFrames = 29
    with pytest.raises(FormatError, match=r"a\.dcm: announces 29 frames, but holds 30"):
        load_volume(saved(ds, tmp_path / "a.dcm"))


def test_blank_frames_that_compress_well_are_read(tmp_path):
    voxels = np.zeros((4, 1024, 1024), np.uint8)
    write_volume(Volume(voxels, oblique_affine()), tmp_path / "scan.dcm")
    path = encoded(tmp_path / "scan.dcm", pydicom.uid.JPEG2000Lossless, voxels)
    assert path.stat().st_size < voxels.size / 500
    assert np.array_equal(load_volume(path).voxels, voxels)


def test_a_deflated_file_is_not_inflated_beyond_reason(enhanced, tmp_path):
    enhanced.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    enhanced.PixelData = bytes(65 << 20)
    path = saved(enhanced, tmp_path / "a.dcm")
    assert path.stat().st_size < 1 << 20
    for read in (load_volume, identifying_tags):
        with pytest.raises(FormatError, match=r"a\.dcm: its deflated content is larger than 67108864 bytes"):
            read(path)


def test_more_frames_than_can_be_read_in_time(enhanced, tmp_path, monkeypatch):
    monkeypatch.setattr("segdet.io.dicom.groups.MOST_FRAMES", 5)
    with pytest.raises(FormatError, match="has 6 frames, expected at most 5"):
        load_volume(tmp_path / "scan.dcm")


def test_seg_that_spans_ten_kilometres(scan, tmp_path):
    save_mask(scan.voxels > 99, tmp_path / "m.dcm", Volume(scan.voxels, axis_aligned_affine((1, 1, 1))))
    ds = pydicom.dcmread(tmp_path / "m.dcm")
    ds.PerFrameFunctionalGroupsSequence[5].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 10_000_000]
    with pytest.raises(FormatError, match=r"its few frames span \(10000000, 9, 7\) voxels; a position must be wrong"):
        load_mask(saved(ds, tmp_path / "m.dcm"))


def test_segmented_palette(tmp_path):
    ds = pydicom.dcmread(examples.get_path("palette_color"))
    plain = load_volume(examples.get_path("palette_color")).voxels
    for colour in ("Red", "Green", "Blue"):
        data = ds[f"{colour}PaletteColorLookupTableData"].value
        del ds[f"{colour}PaletteColorLookupTableData"]
        setattr(ds, f"Segmented{colour}PaletteColorLookupTableData", b"\0\0\0\1" + data)  # one segment of 256 values
    assert np.array_equal(load_volume(saved(ds, tmp_path / "a.dcm")).voxels, plain)
    ramps = b"\0\0\1\0\0\0" + b"\1\0\xff\xff\5\0" * 8000  # a value, then 8000 times 65535 of them
    ds.SegmentedBluePaletteColorLookupTableData = ramps
    with pytest.raises(FormatError, match="repeats segments or exceeds 65536 colours"):
        load_volume(saved(ds, tmp_path / "a.dcm"))


# ---------------------------------------------------------------------------------------------- conformance


def source_of(kind, request, tmp_path):
    if kind == "Enhanced US Volume":
        return tmp_path / "scan.dcm"
    if kind == "CT slice":
        return examples.get_path("ct")
    if kind == "CT series":
        return write_series(tmp_path / "ct", ct_voxels(), oblique_affine((2.5, 0.7, 0.8)))
    return request.getfixturevalue("real_data") / "philips_echo/philips_cartesian_filled_DERIVED.dcm"


@pytest.fixture(
    params=["uint8", "uint16", "left-handed", "SEG alone", "SEG of Enhanced US Volume", "SEG of CT slice",
            "SEG of CT series", "SEG of Philips scan"]
)  # fmt: skip
def written(request, scan, enhanced, tmp_path):
    """Everything that we write."""
    kind, path = request.param, tmp_path / "written.dcm"
    if kind == "left-handed":
        write_volume(Volume(scan.voxels, scan.affine * [-1, 1, 1, 1]), path)
    elif kind == "SEG alone":
        save_mask(scan.voxels > 99, path, scan)
    elif kind.startswith("SEG of "):
        source = source_of(kind.removeprefix("SEG of "), request, tmp_path)
        volume = load_volume(source)
        save_mask(volume.voxels > 99, path, volume, source)
    else:
        write_volume(Volume(scan.voxels.astype(kind), scan.affine, meta={"side": "left"}), path)
    return path


HONEST = (
    "needed to build DICOMDIR",  # a phantom is nobody's, and a study of its own
    "Unrecognized defined term <PATIENT>",  # newer than dciodvfy: PS3.3, C.8.24.2
    "<Frame Acquisition Duration>",  # a simulated sweep takes no time
    "<Laterality>",  # empty: the scan does not say which side it shows
    "<Patient's Weight>",  # zero in pydicom's example of a CT
)


def dciodvfy(path):
    """What David Clunie's validator says about a file, line by line."""
    if not shutil.which("dciodvfy"):
        pytest.skip("needs dciodvfy: apt-get install dicom3tools")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
    return (done.stdout + done.stderr).splitlines()


def test_dciodvfy_finds_no_error(written):
    lines = dciodvfy(written)
    assert {"EnhancedUltrasoundVolume", "Segmentation"} & set(lines)
    assert [line for line in lines if line.startswith("Error")] == []
    assert [line for line in lines if line.startswith("Warning") and not any(map(line.count, HONEST))] == []


@functools.cache
def standard(name):
    """A table of PS3.3 as highdicom ships it."""
    return json.loads((importlib.resources.files("highdicom") / "_standard" / f"{name}.json").read_text())


MACROS = {  # the functional groups that tables A.59-2 and A.51-2 require of our files
    "enhanced-us-volume": ("FrameContent", "PixelMeasures", "PlanePosition", "PlaneOrientation", "FrameVOILUT",
                           "PlanePositionVolume", "PlaneOrientationVolume", "ImageDataType", "USImageDescription"),
    "segmentation": ("FrameContent", "PixelMeasures", "PlanePosition", "PlaneOrientation", "SegmentIdentification",
                     "DerivationImage"),
}  # fmt: skip


def missing(ds):
    """The attributes of type 1 and 2, at any depth, that a data set lacks, and those of type 1 that are empty."""
    iod, found = standard("sop_class_iod_map")[ds.SOPClassUID], set()
    modules = [module["key"] for module in standard("iod_module_map")[iod] if module["usage"] == "M"]
    for attribute in itertools.chain(*(standard("module_attribute_map").get(module, []) for module in modules)):
        keyword, kind, path, items = attribute["keyword"], attribute["type"], attribute["path"], [ds]
        for sequence in path:
            items = [inner for item in items for inner in item.get(sequence) or []]
        if kind in ("1", "2") and not (len(path) == 1 and path[0].endswith("FunctionalGroupsSequence")):
            bad = any(keyword not in item or (kind == "1" and item[keyword].is_empty) for item in items)
            found |= {".".join([*path, keyword])} if bad else set()
    shared = ds.get("SharedFunctionalGroupsSequence", [{}])[0]
    for macro in (f"{name}Sequence" for name in MACROS[iod]):
        if macro not in shared and any(macro not in item for item in ds.get("PerFrameFunctionalGroupsSequence", [])):
            found.add(macro)
    return sorted(found)


def test_nothing_that_the_standard_requires_is_missing(written):
    assert missing(pydicom.dcmread(written)) == []


@pytest.mark.parametrize("lost", ["MechanicalIndex", "Modality", "SharedFunctionalGroupsSequence.PixelMeasuresSequence",
                                  "DimensionIndexSequence.DimensionIndexPointer"])  # fmt: skip
def test_the_validators_miss_what_is_missing(lost, enhanced, tmp_path):
    *path, keyword = lost.split(".")
    del functools.reduce(lambda ds, sequence: ds[sequence][0], path, enhanced)[keyword]
    assert any(lost.endswith(name) for name in missing(enhanced))
    assert any(line.startswith("Error") for line in dciodvfy(saved(enhanced, tmp_path / "a.dcm")))


def test_the_size_in_a_jpeg_is_found_behind_fill_bytes():
    """ITU T.81, B.1.1.2: any marker may be led by 0xFF; B.2.2: length, precision, rows, columns, components."""
    start, tables = b"\xff\xd8", b"\xff\xdb\x00\x04\x00\x00"
    frame = b"\x00\x0b\x08\x01\x02\x00\x60\x01\x01\x11\x00"
    for marker in (b"\xc0", b"\xc2", b"\xf7"):
        assert stated_size(start + tables + b"\xff\xff\xff" + marker + frame) == [258, 96, 1]
    assert stated_size(start + tables + b"\xff\xda\x00\x04\x00\x00") == "no size"
