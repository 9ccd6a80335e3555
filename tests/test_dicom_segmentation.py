"""DICOM SEG of every kind, made and judged by highdicom."""

import numpy as np
import pydicom
import pytest
from dicom_samples import ct_voxels, oblique_affine, write_series
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from segdet.errors import FormatError, GeometryError
from segdet.io.annotations import load_case, load_mask
from segdet.io.files import load_volume, save_mask
from segdet.volume import Volume

hd = pytest.importorskip("highdicom")

AFFINE = oblique_affine((3, 0.7, 0.8))
FIRST = np.zeros((8, 8, 6), bool)  # slices, rows, columns of the scan
FIRST[2:5, 1:4, 1:5] = True
SECOND = np.zeros_like(FIRST)
SECOND[3:6, 3:6, 2:4] = True


@pytest.fixture
def scan(tmp_path):
    return write_series(tmp_path / "ct", ct_voxels(depth=8), AFFINE)


def segment(path, scan, pixels, kind, segments=(1, 2), **options):
    """Write `pixels`, (slices, rows, columns[, segments]), as a SEG of the scan; returns its data set."""
    slices = sorted(map(pydicom.dcmread, scan.iterdir()), key=lambda ds: ds.InstanceNumber)
    for ds in slices:  # which highdicom wants to find
        ds.PatientBirthDate = ds.PatientSex = ds.StudyDate = ds.StudyTime = ds.StudyID = ds.AccessionNumber = ""
        ds.ReferringPhysicianName = ""
    describe = [hd.seg.SegmentDescription(n, f"part {n}", codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
                for n in segments]  # fmt: skip
    ds = hd.seg.Segmentation(
        slices, pixels, kind, describe, generate_uid(), 7, generate_uid(), 1, "a", "b", "c", "d", **options
    )
    ds.save_as(path)
    return pydicom.dcmread(path)


def both():
    return np.stack([FIRST, SECOND], -1).astype(np.uint8)


def check(scan, path, truth, label=None):
    """The mask on the scan, and highdicom's on its own grid, hold the same voxels."""
    assert np.array_equal(load_case(scan, path, label).mask, truth)
    mask, affine = load_mask(path, label)
    assert mask.sum() == truth.sum()
    there = np.linalg.inv(AFFINE) @ affine @ np.c_[np.argwhere(mask), np.ones(mask.sum())].T
    assert np.array_equal(np.rint(there[:3]).T, np.argwhere(truth))


@pytest.mark.parametrize("omit", [True, False])
def test_overlapping_segments(omit, scan, tmp_path):
    path = tmp_path / "m.dcm"
    segment(path, scan, both(), "BINARY", omit_empty_frames=omit)
    check(scan, path, FIRST | SECOND)
    check(scan, path, FIRST, 1)
    check(scan, path, SECOND, 2)
    assert any("segments overlap" in note for note in load_volume(path).notes)
    assert not any("segments overlap" in note for note in load_volume(path, label=1).notes)
    with pytest.raises(FormatError, match=r"m\.dcm: has no segment 3; its segments are \[1, 2\]"):
        load_mask(path, 3)


def test_a_folder_hands_the_label_on(scan, tmp_path):
    (tmp_path / "seg").mkdir()
    segment(tmp_path / "seg/m.dcm", scan, both(), "BINARY")
    check(scan, tmp_path / "seg", SECOND, 2)
    with pytest.raises(FormatError, match=r"m\.dcm: has no segment 3; its segments are \[1, 2\]"):
        load_mask(tmp_path / "seg", 3)
    segment(tmp_path / "seg/n.dcm", scan, both(), "BINARY")
    with pytest.raises(FormatError, match="holds 2 series; choose one with series"):
        load_mask(tmp_path / "seg")
    uid = pydicom.dcmread(tmp_path / "seg/n.dcm").SeriesInstanceUID
    assert load_mask(tmp_path / "seg", 2, series=uid)[0].sum() == SECOND.sum()


@pytest.mark.parametrize("kind", ["PROBABILITY", "OCCUPANCY"])
@pytest.mark.parametrize("most", [255, 100, 1])
def test_fractions_count_from_half_on(most, kind, scan, tmp_path):
    fractions = FIRST * 1.0
    fractions[3], fractions[4] = FIRST[3] * 0.5, FIRST[4] * 0.49
    ds = segment(tmp_path / "m.dcm", scan, fractions, "FRACTIONAL", [1], fractional_type=kind,
                 max_fractional_value=100)  # fmt: skip
    stored = np.frombuffer(ds.PixelData, np.uint8).astype(float) * most / 100
    ds.MaximumFractionalValue, ds.PixelData = most, np.ceil(stored).astype(np.uint8).tobytes()
    ds.save_as(tmp_path / "m.dcm")
    truth = FIRST.copy()
    truth[4] = most == 1  # where every fraction is 1
    truth &= FIRST
    check(scan, tmp_path / "m.dcm", truth)
    notes = " ".join(load_volume(tmp_path / "m.dcm").notes)
    said = f"its values are fractions ({kind}): a voxel is inside from half on, {most / 2:g} of {most}"
    assert (said in notes) == (most > 1)
    assert (f"the annotation: {said}" in load_case(scan, tmp_path / "m.dcm").notes) == (most > 1)


def paint(ds, background, *colours):
    """Give a label map a palette, and its background a number."""
    pixels = np.frombuffer(ds.PixelData, np.uint8)
    ds.PixelData = np.where(pixels == 0, background, pixels).astype(np.uint8).tobytes()
    ds.PhotometricInterpretation, ds.PixelPaddingValue = "PALETTE COLOR", background
    for index, name in enumerate(("Red", "Green", "Blue")):
        data = bytes(colour[index] for colour in colours)
        ds.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [len(colours), 0, 8])
        setattr(ds, f"{name}PaletteColorLookupTableData", data + b"\0" * (len(data) % 2))


@pytest.mark.parametrize("background", [0, 200])
@pytest.mark.parametrize("colours", [((0, 0, 0), (255, 0, 0), (0, 128, 0)),
                                     ((128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255))])  # fmt: skip
def test_the_colours_of_a_label_map_are_no_intensities(colours, background, scan, tmp_path):
    path = tmp_path / "m.dcm"
    labels = np.where(SECOND, 2, FIRST * 1).astype(np.uint8)
    ds = segment(path, scan, labels, "LABELMAP")
    paint(ds, background, *colours)
    if background:  # of which highdicom describes the one it wrote, 0
        ds.SegmentSequence = [item for item in ds.SegmentSequence if item.SegmentNumber]
    ds.save_as(path)
    check(scan, path, labels > 0)
    check(scan, path, labels == 1, 1)
    assert load_volume(path).notes[0] == "segment numbers: 1 = part 1, 2 = part 2"
    with pytest.raises(FormatError, match=r"no segment 200; its segments are \[1, 2\]"):
        load_mask(path, 200)


def test_a_label_map_of_some_slices_and_large_numbers(scan, tmp_path):
    labels = np.where(SECOND, 300, FIRST * 7).astype(np.uint16)
    segment(tmp_path / "m.dcm", scan, labels, "LABELMAP", (7, 300), omit_empty_frames=True)
    assert len(load_mask(tmp_path / "m.dcm")[0]) == 4
    check(scan, tmp_path / "m.dcm", labels > 0)
    check(scan, tmp_path / "m.dcm", SECOND, 300)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ds: ds.SegmentSequence.pop(), r"has frames of the segments \[2\], but describes \[1\] only"),
        (lambda ds: setattr(ds, "SegmentationType", "SOLID"), "is a segmentation of type SOLID; expected BINARY, FRAC"),
        (lambda ds: setattr(ds, "NumberOfFrames", 5), "announces 5 frames, but describes 6"),
    ],
)
def test_a_seg_that_contradicts_itself(change, message, scan, tmp_path):
    ds = segment(tmp_path / "m.dcm", scan, both(), "BINARY")
    change(ds)
    ds.save_as(tmp_path / "m.dcm")
    with pytest.raises(FormatError, match=rf"m\.dcm: {message}"):
        load_mask(tmp_path / "m.dcm")


def test_a_label_map_with_a_segment_0(scan, tmp_path):
    ds = segment(tmp_path / "m.dcm", scan, FIRST.astype(np.uint8), "LABELMAP", [1])
    ds.PixelPaddingValue = 9  # highdicom describes 0, its background
    ds.save_as(tmp_path / "m.dcm")
    with pytest.raises(FormatError, match="describes a segment 0, which is no background"):
        load_mask(tmp_path / "m.dcm")


# ----------------------------------------------------------------------------------------- sparse frames


@pytest.mark.parametrize("spacing", ["stated", "negative", "absent", "wrong"])
@pytest.mark.parametrize("slices", [[4], [1, 2, 3], [1, 3, 5], [0, 2, 3], [0, 2, 5], [7, 1]])
def test_frames_are_put_at_their_places(slices, spacing, scan, tmp_path):
    """Slices 3 mm apart, said to be 2 mm thick."""
    pixels = np.zeros((8, 8, 6), np.uint8)
    pixels[slices, 2:5, 1:4] = 1
    ds = segment(tmp_path / "m.dcm", scan, pixels, "BINARY", [1], omit_empty_frames=True)
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SliceThickness = 2
    measures.SpacingBetweenSlices = {"stated": 3, "negative": -3, "absent": None, "wrong": 2}[spacing]
    ds.save_as(tmp_path / "m.dcm")
    if spacing == "wrong" and slices in ([1, 3, 5], [7, 1]):  # which 2 mm fit by chance
        with pytest.raises(GeometryError, match=r"m\.dcm: the mask is .* resample it"):
            load_case(scan, tmp_path / "m.dcm")
        return
    case = load_case(scan, tmp_path / "m.dcm")
    assert np.array_equal(case.mask, pixels > 0)
    notes = " ".join(load_volume(tmp_path / "m.dcm").notes)
    assert ("SpacingBetweenSlices is absent" in notes) == (spacing == "absent")
    assert ("SpacingBetweenSlices (2 mm) does not fit" in notes) == (spacing == "wrong" and len(slices) > 1)


def test_frames_beside_the_slices_of_the_scan(scan, tmp_path):
    for share in (0.5, 1 / 3):
        ds = segment(tmp_path / "m.dcm", scan, both(), "BINARY")
        for frame in ds.PerFrameFunctionalGroupsSequence:
            position = frame.PlanePositionSequence[0].ImagePositionPatient
            moved = np.array(position, float) + share * AFFINE[:3, 0]
            frame.PlanePositionSequence[0].ImagePositionPatient = [f"{value:.8f}" for value in moved]
        ds.save_as(tmp_path / "m.dcm")
        with pytest.raises(GeometryError, match=r"m\.dcm: .* its frames do not lie on the slices"):
            load_case(scan, tmp_path / "m.dcm")


def test_another_frame_of_reference_is_said(scan, tmp_path):
    ds = segment(tmp_path / "m.dcm", scan, both(), "BINARY")
    assert not any("frame of reference" in note for note in load_case(scan, tmp_path / "m.dcm").notes)
    ds.FrameOfReferenceUID = generate_uid()
    ds.save_as(tmp_path / "m.dcm")
    case = load_case(scan, tmp_path / "m.dcm")
    assert np.array_equal(case.mask, FIRST | SECOND)
    assert any("is in another frame of reference than the scan" in note for note in case.notes)


def test_frames_on_no_grid(scan, tmp_path):
    ds = segment(tmp_path / "m.dcm", scan, FIRST.astype(np.uint8), "BINARY", [1], omit_empty_frames=True)
    position = ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    position.ImagePositionPatient = [float(v) + 0.4 for v in position.ImagePositionPatient]
    ds.save_as(tmp_path / "m.dcm")
    with pytest.raises(GeometryError, match=r"m\.dcm: its frames lie on no regular grid"):
        load_mask(tmp_path / "m.dcm")


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (1, 1), (3, 3), (1, 7)])
@pytest.mark.parametrize("sign", [1, -1])
def test_frames_of_a_few_pixels(sign, shape, tmp_path):
    """Bits of one frame follow those of the one before within a byte (PS3.5, 8.1.1)."""
    mask = np.random.default_rng(2).random((5, *shape)) > 0.4
    scan = Volume(mask * np.uint8(9), AFFINE * [sign, 1, 1, 1])
    save_mask(mask, tmp_path / "m.dcm", scan)
    ds = pydicom.dcmread(tmp_path / "m.dcm")
    assert len(ds.PixelData) == 2 * -(-mask.size // 16)
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")[: mask.size].reshape(mask.shape)
    for item, plane in zip(ds.PerFrameFunctionalGroupsSequence, bits, strict=True):
        position = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float)
        assert np.array_equal(plane, mask[round(np.linalg.solve(scan.affine[:3, :3], position - AFFINE[:3, 3])[0])])
    read, affine = load_mask(tmp_path / "m.dcm")
    assert np.array_equal(read, mask[::sign])
    assert np.allclose(affine[:3, 0], AFFINE[:3, 0], atol=1e-6)


def test_a_mask_lies_on_a_scan_whose_header_was_rounded(scan, tmp_path):
    """The axes are perpendicular to about a thousandth, which is less than highdicom asks of a grid."""
    for file in scan.iterdir():
        ds = pydicom.dcmread(file)
        ds.ImageOrientationPatient = [round(float(value), 3) for value in ds.ImageOrientationPatient]
        ds.save_as(file)
    volume = load_volume(scan)
    assert save_mask(FIRST, tmp_path / "m.dcm", volume, scan) == ("refers to the frames of the scan",)
    mask, affine = load_mask(tmp_path / "m.dcm")
    assert np.array_equal(mask, FIRST)
    np.testing.assert_allclose(affine, volume.affine, atol=1e-6)
    assert np.array_equal(load_case(scan, tmp_path / "m.dcm").mask, FIRST)
