"""Stored values as they were meant: unused bits, High Bit, lookup tables, and colours that the header gets wrong."""

import io
from itertools import product

import numpy as np
import pydicom
import pytest
from dicom_samples import ct_voxels, encode, image, oblique_affine, write_series
from PIL import Image
from pydicom.dataset import Dataset

from segdet.errors import FormatError, SegdetError
from segdet.io.dicom.write import write_volume
from segdet.io.files import load_volume
from segdet.volume import Volume, axis_aligned_affine

WHERE = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
SYNTAXES = ["ExplicitVRLittleEndian", "RLELossless", "JPEGLSLossless", "JPEG2000Lossless"]


def written(path, cells, syntax, **header):
    """Cells of 16 bits, stored with a syntax as they are."""
    syntax = getattr(pydicom.uid, syntax)
    pixels = [encode(cells, syntax, 16, "MONOCHROME2")] if syntax.is_encapsulated else cells
    header = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11} | WHERE | header
    return image(path, pixels, syntax, Rows=cells.shape[0], Columns=cells.shape[1], **header)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("spare", [0x0000, 0x8000, 0xF000])
def test_the_bits_beyond_those_stored_count_for_nothing(spare, signed, syntax, tmp_path):
    values = np.random.default_rng(3).integers(-2048, 2048, (16, 20)) + 2048 * (1 - signed)
    cells = (values & 0x0FFF).astype(np.uint16) | np.where(np.arange(20) % 3, 0, spare).astype(np.uint16)
    path = written(tmp_path / "a.dcm", cells, syntax, PixelRepresentation=signed)
    assert np.array_equal(load_volume(path).voxels[0], values)


@pytest.mark.parametrize("syntax", SYNTAXES[:2])
def test_values_above_other_bits(syntax, tmp_path):
    """High Bit 15 of 12 bits stored: the lowest four may hold an overlay (PS3.5 of 1993 to 2003)."""
    values = np.random.default_rng(3).integers(0, 4096, (16, 20))
    path = written(tmp_path / "a.dcm", (values << 4 | 5).astype(np.uint16), syntax, HighBit=15)
    volume = load_volume(path)
    assert np.array_equal(volume.voxels[0], values)
    assert "the values were taken from bits 4 to 15, where HighBit puts them" in volume.notes


EMPTY = {"RescaleSlope": None}, {"RescaleIntercept": None}, {"ModalityLUTSequence": []}


@pytest.mark.parametrize("header", [*EMPTY, EMPTY[0] | EMPTY[1] | EMPTY[2]])
def test_empty_elements_are_as_absent(header, tmp_path):
    pixels = np.arange(12, dtype=np.int16).reshape(3, 4)
    header = header | {"SpacingBetweenSlices": None, "SliceThickness": None}
    volume = load_volume(image(tmp_path / "a.dcm", pixels, **WHERE, **header))
    assert volume.voxels.dtype == np.int16
    assert np.array_equal(volume.voxels[0], pixels)
    assert volume.notes == ("a single slice of unknown thickness; 1 mm was assumed",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ds: setattr(ds, "BitsStored", 17), "announces 17 bits stored of 16"),
        (lambda ds: setattr(ds, "PixelSpacing", 0.2), r"pixel spacing \[0.2\] .* expected two sizes"),
        (lambda ds: delattr(ds, "PhotometricInterpretation"), "it lacks PhotometricInterpretation"),
        (lambda ds: delattr(ds, "SamplesPerPixel"), "it lacks SamplesPerPixel"),
    ],
)
@pytest.mark.parametrize("placed", [True, False])
def test_what_a_header_gets_wrong_or_lacks_is_named(placed, change, message, tmp_path):
    where = WHERE if placed else {"PixelSpacing": [1, 1]}
    path = image(tmp_path / "a.dcm", np.arange(12, dtype=np.int16).reshape(3, 4), **where)
    ds = pydicom.dcmread(path)
    change(ds)
    ds.save_as(path)
    with pytest.raises(SegdetError, match=rf"a\.dcm: .*{message}"):
        load_volume(path)


def test_a_scale_that_is_none_or_that_some_slices_lack(tmp_path):
    voxels, affine = ct_voxels(), oblique_affine()
    folder = write_series(tmp_path / "ct", voxels, affine, slope=2)
    path = sorted(folder.iterdir())[1]
    for slope, message in ((0, "its RescaleSlope is 0"), (None, "RescaleSlope is missing in 1 of 5 slices or frames")):
        ds = pydicom.dcmread(path)
        ds.RescaleSlope = slope
        ds.save_as(path)
        with pytest.raises(FormatError, match=f"ct: {message}"):
            load_volume(folder)
    for number, path in enumerate(sorted(folder.iterdir())):  # PET has another in every slice
        ds = pydicom.dcmread(path)
        ds.RescaleSlope = ds.InstanceNumber
        ds.RescaleIntercept = -number
        ds.save_as(path)
        voxels = voxels.astype(float)
        voxels[ds.InstanceNumber - 1] *= ds.InstanceNumber
        voxels[ds.InstanceNumber - 1] -= number
    np.testing.assert_allclose(load_volume(folder).voxels, voxels)


def modality_lut():
    lut = Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType = [4096, 0, 16], "HU"
    lut.add_new(0x00283006, "OW", np.arange(4096, dtype=np.uint16).tobytes())
    return [lut]


@pytest.mark.parametrize(
    ("intercept", "slope", "change", "lost", "message"),
    [
        (-1024, 1, {"RescaleIntercept": None}, (), "RescaleIntercept is missing in 1 of 5"),
        (-1024, 1, {}, ("RescaleIntercept",), "RescaleIntercept is missing in 1 of 5"),
        (-1024, 2, {}, ("RescaleIntercept",), "RescaleIntercept is missing in 1 of 5"),
        (None, None, {"ModalityLUTSequence": modality_lut()}, (), "RescaleSlope is missing in 4 of 5"),
        (0, 1, {}, ("RescaleIntercept",), None),
        (0, 3, {}, ("RescaleIntercept",), None),
    ],
)
def test_an_intercept_or_a_table_that_only_some_slices_have(intercept, slope, change, lost, message, tmp_path):
    voxels = np.abs(ct_voxels())
    folder = write_series(tmp_path / "ct", voxels, oblique_affine(), slope=slope, intercept=intercept)
    path = sorted(folder.iterdir())[1]
    ds = pydicom.dcmread(path)
    for keyword, value in change.items():
        setattr(ds, keyword, value)
    for keyword in lost:
        del ds[keyword]
    ds.save_as(path)
    if message is None:
        assert np.array_equal(load_volume(folder).voxels, voxels * slope)
        return
    with pytest.raises(FormatError, match=rf"ct: {message} slices or frames; put it in, or take \w+ out of the oth"):
        load_volume(folder)


def test_slices_that_all_lack_an_intercept_have_none(tmp_path):
    folder = write_series(tmp_path / "ct", ct_voxels(), oblique_affine())
    for path in folder.iterdir():  # as of PET
        ds = pydicom.dcmread(path)
        ds.RescaleSlope = ds.InstanceNumber
        del ds.RescaleIntercept
        ds.save_as(path)
    assert np.array_equal(load_volume(folder).voxels, ct_voxels() * np.arange(1, 6)[:, None, None])


@pytest.mark.parametrize("photometric", ["RGB", "PALETTE COLOR"])
def test_a_slice_in_colour_among_grey_ones_is_refused(photometric, tmp_path):
    folder = write_series(tmp_path / "ct", np.abs(ct_voxels()), oblique_affine())
    path = sorted(folder.iterdir())[1]
    ds = pydicom.dcmread(path)
    ds.PhotometricInterpretation, ds.PlanarConfiguration, ds.PixelRepresentation = photometric, 0, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.SamplesPerPixel = 3 if photometric == "RGB" else 1
    ds.PixelData = bytes(8 * 6 * ds.SamplesPerPixel)
    for colour in range(3 * (photometric != "RGB")):
        ds.add_new(0x00281101 + colour, "US", [256, 0, 8])
        ds.add_new(0x00281201 + colour, "OW", bytes(range(256)))
    ds.save_as(path)
    with pytest.raises(FormatError, match="ct: 1 of 5 slices are in colour, which is no intensity of the others; take"):
        load_volume(folder)


@pytest.mark.parametrize(("announced", "held"), [(5, 6), (None, 2)])
def test_more_uncompressed_frames_than_announced(announced, held, tmp_path):
    path = image(tmp_path / "a.dcm", np.zeros((held, 4, 5), np.uint8), NumberOfFrames=announced)
    message = rf"a\.dcm: announces {announced or 1} frames, but holds {held}; put its NumberOfFrames right"
    with pytest.raises(FormatError, match=message):
        load_volume(path)


def test_a_frame_without_the_scale_of_the_others(tmp_path):
    write_volume(Volume.from_spacing(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), (1, 1, 1)), tmp_path / "a.dcm")
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.SharedFunctionalGroupsSequence[0].pop("PixelValueTransformationSequence", None)
    for frame in ds.PerFrameFunctionalGroupsSequence[1:]:
        frame.PixelValueTransformationSequence = [Dataset()]
        frame.PixelValueTransformationSequence[0].RescaleSlope = 2
        frame.PixelValueTransformationSequence[0].RescaleIntercept = 1
    ds.save_as(tmp_path / "a.dcm")
    with pytest.raises(FormatError, match=r"a\.dcm: RescaleSlope is missing in 1 of 3 slices or frames"):
        load_volume(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("keyword", "kind", "vr"), [("FloatPixelData", "<f4", "OF"), ("DoubleFloatPixelData", "<f8", "OD")]
)
def test_pixels_that_are_floats(keyword, kind, vr, tmp_path):
    voxels = ct_voxels() / 7
    folder = write_series(tmp_path / "ct", ct_voxels(), oblique_affine())
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
        ds.BitsAllocated = 8 * np.dtype(kind).itemsize
        ds.add_new(keyword, vr, voxels[ds.InstanceNumber - 1].astype(kind).tobytes())
        ds.save_as(path)
    volume = load_volume(folder)
    assert np.array_equal(volume.voxels, voxels.astype(kind))
    assert np.array_equal(load_volume(path).voxels[0], pydicom.dcmread(path).pixel_array)
    ds[keyword].value = ds[keyword].value[:-8]
    ds.save_as(path)
    with pytest.raises(FormatError, match=rf"{keyword} holds \d+ bytes; expected \(1, 8, 6\) pixels of float"):
        load_volume(path)


@pytest.mark.parametrize(
    ("samples", "photometric"),
    [(3, "HSV"), (4, "ARGB"), (3, "MONOCHROME2"), (1, "RGB"), (1, None), (None, "MONOCHROME2")],
)
def test_colours_that_the_samples_contradict(samples, photometric, tmp_path):
    header = {"SamplesPerPixel": samples, "PhotometricInterpretation": photometric, "PlanarConfiguration": 0}
    path = image(tmp_path / "a.dcm", np.zeros((3, 4 * (samples or 1)), np.uint8), Columns=4, **WHERE, **header)
    with pytest.raises(
        FormatError, match=rf"a\.dcm: SamplesPerPixel is {samples}, .* {photometric or 'empty'}; expected"
    ):
        load_volume(path)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_modality_lut_is_applied(photometric, tmp_path):
    """Values below the first of the table take its first entry, those beyond its last the last (PS3.3, C.11.1.1.1)."""
    lut = Dataset()
    lut.add_new("LUTDescriptor", "SS", [4, -1, 16])
    lut.add_new("LUTData", "US", [50, 1000, 7, 65000])
    pixels = np.array([[-32768, -2, -1], [0, 1, 2], [3, 4, 32767]], np.int16)
    header = {"ModalityLUTSequence": [lut], "PhotometricInterpretation": photometric}
    volume = load_volume(image(tmp_path / "a.dcm", pixels, **WHERE, **header))
    assert volume.voxels[0].tolist() == [[50, 50, 50], [1000, 7, 65000], [65000, 65000, 65000]]
    assert "its Modality LUT was applied" in volume.notes
    assert any("kept" in note for note in volume.notes) == (photometric == "MONOCHROME1")


def test_a_palette_with_an_odd_number_of_colours(tmp_path):
    tables = {}
    for name, data in zip(("Red", "Green", "Blue"), (b"\x00\xff\x00\x00", b"\x00\x00\x80\x00", bytes(4)), strict=True):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [3, 0, 8]
        tables[f"{name}PaletteColorLookupTableData"] = data
    pixels = np.array([[0, 1], [2, 1]], np.uint8)
    path = image(tmp_path / "a.dcm", pixels, PhotometricInterpretation="PALETTE COLOR", **WHERE, **tables)
    assert load_volume(path).voxels[0].tolist() == [[0, 76], [75, 76]]  # 0.299 * 255, 0.587 * 128


def test_a_palette_of_indices_above_other_bits(tmp_path):
    tables = {f"{name}PaletteColorLookupTableDescriptor": [3, 0, 8] for name in ("Red", "Green", "Blue")}
    tables |= {f"{name}PaletteColorLookupTableData": b"\x00\x64\xc8\x00" for name in ("Red", "Green", "Blue")}
    cells = (np.array([[0, 1], [2, 1]]) << 4 | 5).astype(np.uint16)
    header = {"PhotometricInterpretation": "PALETTE COLOR", "HighBit": 15, **tables}
    volume = load_volume(written(tmp_path / "a.dcm", cells, "ExplicitVRLittleEndian", **header))
    assert volume.voxels[0].tolist() == [[0, 100], [200, 100]]
    assert volume.notes[:2] == (
        "the values were taken from bits 4 to 15, where HighBit puts them",
        "the colours were turned into grey (BT.601 luma)",
    )


# ------------------------------------------------------------------------------------------------ JPEG

COLOURS = np.array([[200, 30, 60], [20, 180, 90], [40, 60, 220], [128, 128, 128]], np.uint8)
ADOBE_YCC = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"


def jpeg(kind):
    """Four blocks of colour, as a JPEG that says what it holds in one way or another."""
    pixels = np.repeat(np.repeat(COLOURS.reshape(2, 2, 3), 8, 0), 8, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100, subsampling=0, keep_rgb=kind.startswith("rgb"))
    code = buffer.getvalue()
    length = int.from_bytes(code[4:6])  # of the first segment, JFIF or Adobe
    bare = code[:2] + code[4 + length :]
    if kind == "ycc, Adobe":
        return bare[:2] + ADOBE_YCC + bare[2:]
    if kind == "rgb, numbered from 0":
        for number, letter in enumerate(b"RGB"):
            bare = bare.replace(bytes([letter, 0x11]), bytes([number, 0x11]), 1)
            at = bare.index(b"\xff\xda") + 5 + 2 * number  # the component in the header of the scan
            assert bare[at] == letter
            bare = bare[:at] + bytes([number]) + bare[at + 1 :]
    return bare if kind.endswith(("bare", "from 0")) else code


KINDS = "ycc, JFIF", "ycc, bare", "ycc, Adobe", "rgb, Adobe", "rgb, bare"
HEADERS = "RGB", "YBR_FULL", "YBR_FULL_422"


@pytest.mark.parametrize(("kind", "header"), [*product(KINDS, HEADERS), ("rgb, numbered from 0", "RGB")])
def test_a_jpeg_says_itself_which_colours_it_holds(kind, header, tmp_path):
    options = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    path = image(tmp_path / "a.dcm", [jpeg(kind)], pydicom.uid.JPEGBaseline8Bit, Rows=16, Columns=16,
                 PhotometricInterpretation=header, **options)  # fmt: skip
    volume = load_volume(path)
    grey = COLOURS @ [0.299, 0.587, 0.114]
    assert np.abs(volume.voxels[0, ::8, ::8].ravel() - grey).max() <= 2
    differs = (header == "RGB") != kind.startswith("rgb")
    assert any("the JPEG itself" in note for note in volume.notes) == differs


PADDED = "4 of 100 voxels are padding, by the header: they were made as dark as the darkest others"


@pytest.mark.parametrize(
    ("header", "padding", "expected"),
    [
        ({"PixelPaddingValue": -2000}, (-2000, -2000), 4),
        ({"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": None}, (-2000, -2000), 4),
        ({"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}, (-2000, -1990), 4),
        ({"PixelPaddingValue": 30000}, (30000, 30000), 4),
        ({"PixelPaddingValue": -2000, "PhotometricInterpretation": "MONOCHROME1"}, (-2000, -2000), -1 - 99),
        ({"PixelPaddingValue": -2000, "RescaleSlope": -1, "RescaleIntercept": 0}, (-2000, -2000), -99),
    ],
)
def test_padding_is_no_measurement(tmp_path, header, padding, expected):
    pixels = np.arange(100, dtype=np.int16).reshape(10, 10)
    pixels[0, :4] = np.repeat(padding, 2)
    volume = load_volume(image(tmp_path / "a.dcm", pixels, **WHERE, **header))
    assert (volume.voxels[0, 0, :4] == expected).all()
    assert len(np.unique(volume.voxels)) == 96
    assert PADDED in volume.notes


def test_a_series_is_filled_as_one(tmp_path):
    """With what is darkest in the scan, not in the slice, and where a slice is nothing but padding."""
    voxels = np.arange(300, dtype=np.int16).reshape(3, 10, 10)
    voxels[0], voxels[1, 0] = -2000, -2000
    write_series(tmp_path / "a", voxels, axis_aligned_affine((2, 1, 1)))
    for path in (tmp_path / "a").iterdir():
        ds = pydicom.dcmread(path)
        ds.add_new("PixelPaddingValue", "US", 65536 - 2000)  # as files say it whose writer forgot the sign
        ds.save_as(path)
    volume = load_volume(tmp_path / "a")
    assert (volume.voxels[0] == 110).all()
    assert (volume.voxels[1, 0] == 110).all()
    assert (volume.voxels[1:].ravel()[10:] == np.arange(110, 300)).all()


def test_labels_are_not_taken_for_padding(tmp_path):
    pixels = np.zeros((10, 10), np.int16)
    pixels[2:5], pixels[5:8] = 1, 2
    path = image(tmp_path / "a.dcm", pixels, PixelPaddingValue=0, **WHERE)
    assert (load_volume(path).voxels[0] == pixels).all()
