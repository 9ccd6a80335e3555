"""Folders: which files are DICOM, which are images, which series; and that no message names a patient."""

import shutil

import numpy as np
import pydicom
import pytest
from dicom_samples import ct_voxels, image, oblique_affine, write_series
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from typer.testing import CliRunner

from segdet.cli.app import app
from segdet.errors import FormatError, GeometryError, SegdetError
from segdet.io.annotations import load_case
from segdet.io.files import load_volume, save_mask

AFFINE = oblique_affine((2.5, 0.7, 0.8))


@pytest.fixture
def folder(tmp_path):
    """Five slices, of which 000.dcm is the first and 037.dcm the second."""
    return write_series(tmp_path / "ct", ct_voxels(), AFFINE)


def bare(path, syntax):
    """The file as older programs wrote it: the data set alone."""
    ds = pydicom.dcmread(path)
    del ds.file_meta
    pydicom.dcmwrite(path, ds, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)


def report(path, **header):
    """A structured report: no image."""
    ds = Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = BasicTextSRStorage, "1.2.3", "SR"
    ds.PatientName, ds.SeriesInstanceUID = "Test^Subject", "1.2.4"
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    ds.save_as(path, enforce_file_format=True)


def renumber(folder, numbers):
    """Give the files of every series, in the order of their UIDs, a number and a telling description."""
    files = {file: pydicom.dcmread(file) for file in folder.iterdir()}
    series = sorted({ds.SeriesInstanceUID for ds in files.values()})
    for file, ds in files.items():
        ds.SeriesNumber = numbers[series.index(ds.SeriesInstanceUID)]
        ds.SeriesDescription = "Test Subject's hip"
        ds.save_as(file)
    return series


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_slices_without_the_mark_are_read(syntax, folder, tmp_path):
    for name in ("000.dcm", "047.dcm"):  # the first and the last
        bare(folder / name, syntax)
    volume = load_volume(folder)
    assert np.array_equal(volume.voxels, ct_voxels())
    assert volume.notes == ()
    assert np.array_equal(load_volume(folder / "000.dcm").voxels[0], ct_voxels()[0])
    mask = volume.voxels > 0
    save_mask(mask, tmp_path / "m.dcm", volume, folder)
    assert np.array_equal(load_case(folder, tmp_path / "m.dcm").mask, mask)


@pytest.mark.parametrize(
    "content", [b"\x08\x00\x16\x00UI" + bytes(200), bytes(300), b"\x08\x00" * 200, b"# words\n" * 50]
)
def test_other_files_are_not_taken_for_data_sets(content, folder):
    (folder / "047.dcm").write_bytes(content)
    volume = load_volume(folder)
    assert volume.shape[0] == 4
    assert volume.notes == ("files passed over: 1 x no DICOM",)


def test_what_is_no_image_is_passed_over_and_said(folder, tmp_path):
    report(folder / "sr.dcm")
    report(folder / "sr2.dcm", SeriesInstanceUID=pydicom.dcmread(folder / "000.dcm").SeriesInstanceUID)
    (folder / "read me.txt").write_text("words")
    (folder / ".hidden").write_text("words")
    volume = load_volume(folder)
    assert np.array_equal(volume.voxels, ct_voxels())
    assert volume.notes == ("files passed over: 2 x Basic Text SR Storage, 1 x no DICOM",)
    save_mask(volume.voxels > 0, tmp_path / "m.dcm", volume, folder)
    assert len(pydicom.dcmread(tmp_path / "m.dcm").SourceImageSequence) == 5
    for file in folder.glob("0*.dcm"):
        file.unlink()
    with pytest.raises(FormatError, match=r"no DICOM image in .* it holds 2 x Basic Text SR Storage, 1 x no"):
        load_volume(folder)


def test_a_copy_of_a_slice_counts_once(folder, tmp_path):
    for path in sorted(folder.iterdir())[:2]:
        shutil.copy(path, folder / f"copy of {path.name}")
    volume = load_volume(folder)
    assert np.array_equal(volume.voxels, ct_voxels())
    assert volume.notes == ("files passed over: 2 x copy of another file",)
    assert save_mask(volume.voxels > 0, tmp_path / "m.dcm", volume, folder) == ("refers to the frames of the scan",)
    for path in sorted(folder.iterdir()):  # another image of the same place is none
        ds = pydicom.dcmread(path)
        ds.PixelData = (np.frombuffer(ds.PixelData, np.int16) + path.name.startswith("copy")).tobytes()
        ds.save_as(path)
    with pytest.raises(GeometryError, match="some slice positions occur 2 times and others 1"):
        load_volume(folder)


@pytest.mark.parametrize("length", [300, 350, 420])
def test_a_slice_that_is_cut_off_is_not_passed_over(length, folder):
    path = folder / "047.dcm"  # the last, which nobody would miss
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(SegdetError, match=r"047\.dcm: (is cut off|lacks|cannot be)"):
        load_volume(folder)


def test_an_image_without_rows_is_not_passed_over(folder):
    ds = pydicom.dcmread(folder / "047.dcm")
    del ds.Rows
    ds.save_as(folder / "047.dcm")
    with pytest.raises(GeometryError, match=r"047\.dcm: lacks Rows"):
        load_volume(folder)


def test_one_of_several_series_is_chosen(folder, tmp_path):
    write_series(folder, ct_voxels(2, depth=4), AFFINE, series="2", start=5)
    uids = renumber(folder, [3, 11])
    voxels = {len(v): v for v in (ct_voxels(), ct_voxels(2, depth=4))}
    with pytest.raises(FormatError, match="holds 2 series; choose one with series: ") as caught:
        load_volume(folder)
    for number, uid in zip((3, 11), uids, strict=True):
        volume = load_volume(folder, series=number)
        assert f"{number} (CT, {len(volume.voxels)} files of 8 x 6)" in str(caught.value)
        assert np.array_equal(volume.voxels, voxels.pop(len(volume.voxels)))
        assert np.array_equal(load_volume(folder, series=uid).voxels, volume.voxels)
        save_mask(volume.voxels > 0, tmp_path / "m.dcm", volume, folder)
        assert len(pydicom.dcmread(tmp_path / "m.dcm").SourceImageSequence) == len(volume.voxels)
        shown = CliRunner().invoke(app, ["info", str(folder), "--series", str(number)]).output
        assert f"{len(volume.voxels)} slices of 8 rows x 6 columns" in shown
    with pytest.raises(FormatError, match="holds 2 series; none is series 7: "):
        load_volume(folder, series=7)
    assert "Test" not in str(caught.value).removeprefix(str(folder))


def test_series_of_one_number_go_by_their_uid(folder):
    write_series(folder, ct_voxels(2), AFFINE, series="2", start=5)
    uids = renumber(folder, [3, 3])
    for wanted in (None, 3):
        with pytest.raises(FormatError, match=r"choose one with series: ") as caught:
            load_volume(folder, series=wanted)
        assert all(f"{uid} (CT, 5 files" in str(caught.value) for uid in uids)
    with pytest.raises(FormatError, match=r"000\.dcm: is one file; series=3 chooses from a folder"):
        load_volume(folder / "000.dcm", series=3)


def test_a_seg_of_a_series_without_a_uid_has_its_own_patient(tmp_path):
    (tmp_path / "two").mkdir()
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    for name, patient, number, uid in (("a", "P2", 2, "1.2"), ("b", "P1", 1, None)):
        header = {"PatientID": patient, "SeriesNumber": number, "SeriesInstanceUID": uid, **place}
        image(tmp_path / "two" / f"{name}.dcm", np.full((3, 4), number, np.uint8), **header)
    for number in (1, 2):
        volume = load_volume(tmp_path / "two", series=number)
        save_mask(volume.voxels > 0, tmp_path / "m.dcm", volume, tmp_path / "two")
        assert pydicom.dcmread(tmp_path / "m.dcm").PatientID == f"P{number}"


def test_an_object_without_an_image_is_not_called_damaged(tmp_path):
    path = image(tmp_path / "a.dcm", np.zeros((3, 4), np.uint8), Modality="US", PixelSpacing=[1, 1])
    ds = pydicom.dcmread(path)
    del ds.Rows, ds.Columns, ds.PixelData
    ds.save_as(path)
    with pytest.raises(FormatError, match=r"a\.dcm: holds no pixel data \(CT Image Storage\); expected a DICOM image"):
        app(["info", str(path)], standalone_mode=False)


def test_a_folder_that_is_this_folder_has_its_own_name(folder, monkeypatch):
    (folder / "below").mkdir()
    for here, path in ((folder, "."), (folder / "below", "..")):
        monkeypatch.chdir(here)
        assert load_volume(path).name == "ct"
        assert CliRunner().invoke(app, ["info", path]).output.splitlines()[0].split() == ["scan:", "ct"]


def test_no_value_of_the_file_is_in_a_note_or_message(tmp_path):
    path = image(tmp_path / "a.dcm", np.zeros((3, 4), np.uint8), FrameOfReferenceUID="1.2.3456")
    path.write_bytes(path.read_bytes().replace(b"1.2.3456", b"O'Brien "))
    notes = " ".join(load_volume(path).notes)
    assert "pydicom: Invalid value for VR UI" in notes
    assert "Brien" not in notes
    path = image(tmp_path / "b.dcm", np.zeros((3, 4), np.uint8), RescaleSlope="1.234567")
    path.write_bytes(path.read_bytes().replace(b"1.234567", b"O'Brien "))
    with pytest.raises(FormatError, match=r"b\.dcm: cannot be understood") as caught:
        load_volume(path)
    assert "Brien" not in str(caught.value)


def test_a_dicomdir_is_called_one(tmp_path):
    path = image(tmp_path / "DICOMDIR", np.zeros((4, 4), np.uint8))
    ds = pydicom.dcmread(path)
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    del ds.PixelData
    ds.save_as(path, enforce_file_format=False)
    with pytest.raises(FormatError, match=r"DICOMDIR: is a DICOMDIR, which only lists files; name one of these, or a"):
        load_volume(path)
