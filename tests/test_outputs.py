"""What is never harmed: files that are there, the scan, a study with another writer, the name of a patient."""

import logging
import os
import shutil
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from conftest import ROOT, SHARED
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from segdet.errors import FormatError, SegdetError
from segdet.experiments.config import get_profile
from segdet.experiments.fit import fit_cascade
from segdet.experiments.study import Study
from segdet.io.annotations import load_case, load_mask
from segdet.io.checks import reading, without_values
from segdet.io.dicom.read import identifying_tags
from segdet.io.dicom.write import write_volume
from segdet.io.files import check_mask_path, load_volume, save_mask
from segdet.io.outputs import check_outputs
from segdet.runtime.atomic import locked, remove_leftovers, writing, writing_folder
from segdet.volume import Volume


def write_series(folder, **header):
    """Four CT slices, 3 mm apart, with these attributes, valid or not; returns the folder."""
    folder.mkdir()
    for index in range(4):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=["slice", str(index)])
        ds.StudyInstanceUID, ds.SeriesInstanceUID = (generate_uid(entropy_srcs=[name]) for name in ("study", "series"))
        ds.FrameOfReferenceUID, ds.Modality = generate_uid(entropy_srcs=["frame"]), "CT"
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 3 * index], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness, ds.InstanceNumber = [1, 1], 3, index + 1
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 6, 5, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PixelData = (np.arange(30, dtype="<u2") + index).tobytes()
        with disable_value_validation():
            for keyword, value in header.items():
                setattr(ds, keyword, value)
            ds.save_as(folder / f"{index}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "series", PatientName="Nobody^Test", PatientID="7")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------------------------------ overwriting


@pytest.mark.parametrize("force", [False, True])
def test_the_scan_and_its_series_are_never_written_to(series, tmp_path, force):
    (tmp_path / "linked").symlink_to(series)
    os.link(series / "2.dcm", tmp_path / "hard.dcm")
    volume, before = load_volume(series), content(series)
    for path in (series / "2.dcm", series / "new.dcm", tmp_path / "linked/3.dcm", tmp_path / "hard.dcm"):
        for scan in (series, tmp_path / "linked"):
            with pytest.raises(FormatError, match=r"would (overwrite the scan|become a part of the series)"):
                check_outputs({"a mask": path}, scan, force)
            with pytest.raises(FormatError, match=r"would (overwrite the scan|become a part of the series)"):
                save_mask(np.zeros(volume.shape, bool), path, volume, source=scan)
    assert content(series) == before
    check_outputs({"a mask": series / "mask.nii.gz", "a picture": series / "planes.png"}, series, force)


@pytest.mark.parametrize("force", [False, True])
def test_the_series_of_a_slice_is_never_written_to(force, series, tmp_path, monkeypatch):
    (tmp_path / "linked.dcm").symlink_to(series / "0.dcm")
    (tmp_path / "links").mkdir()
    for file in series.iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    os.link(series / "2.dcm", tmp_path / "hard.dcm")
    volume, before = load_volume(series / "0.dcm"), content(series)
    monkeypatch.chdir(series)
    for scan in (series / "0.dcm", Path("0.dcm"), tmp_path / "linked.dcm", tmp_path / "links/0.dcm"):
        for path in ("0.dcm", "1.dcm", "new.dcm", series / "1.dcm", "NEW.DCM", "../links/1.dcm", "../hard.dcm"):
            refused = r"(dcm: would overwrite the scan or a file beside it|DCM|dcm: would become a part of the series)"
            with pytest.raises(FormatError, match=refused):
                check_outputs({"a mask": path}, scan, force)
            with pytest.raises(FormatError, match=refused):
                save_mask(np.zeros(volume.shape, bool), path, volume, source=scan)
        check_outputs({"a mask": tmp_path / "mask.dcm"}, tmp_path / "series/0.dcm", force)
        check_outputs({"a mask": "mask.nii.gz", "a picture": "planes.png"}, scan, force)
    assert content(series) == before
    with pytest.raises(FormatError, match=r"links/new\.dcm: would become a part of the series in .*links; choose"):
        check_outputs({"a mask": tmp_path / "links/new.dcm"}, tmp_path / "links/0.dcm", force)


def test_a_mask_may_lie_beside_a_whole_scan(series, tmp_path):
    """A file of many frames is no slice of what is beside it, and a lone slice is no series."""
    scan = Volume.from_spacing(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), (1, 1, 1))
    write_volume(scan, tmp_path / "scan.dcm")
    shutil.copy(tmp_path / "scan.dcm", tmp_path / "copy.dcm")
    shutil.copy(series / "0.dcm", tmp_path / "lone.dcm")
    for source in (tmp_path / "scan.dcm", tmp_path / "lone.dcm"):
        volume = load_volume(source)
        for _ in range(2):  # the second replaces the first
            check_outputs({"a mask": tmp_path / "mask.dcm"}, source, force=True)
            save_mask(np.ones(volume.shape, bool), tmp_path / "mask.dcm", volume, source)
    with pytest.raises(FormatError, match=r"copy\.dcm: would overwrite the scan or a file beside it"):
        check_outputs({"a mask": tmp_path / "copy.dcm"}, tmp_path / "scan.dcm", force=True)


def test_the_voxels_beside_a_header_are_never_replaced(tmp_path):
    for name in ("scan.mhd", "voxels.nrrd"):
        (tmp_path / name).touch()
    with pytest.raises(FormatError, match="would overwrite the scan or a file beside it"):
        check_outputs({"a mask": tmp_path / "voxels.nrrd"}, tmp_path / "scan.mhd", force=True)
    check_outputs({"a mask": tmp_path / "mask.nrrd"}, tmp_path / "scan.mhd")


def test_a_scan_that_cannot_be_looked_at_is_named_and_not_the_output(series, tmp_path, monkeypatch):
    (tmp_path / "m.nii.gz").touch()
    check_outputs({"a mask": tmp_path / "m.nii.gz"}, tmp_path / "nowhere/a.mhd", force=True)  # its reader names it
    with pytest.raises(FormatError, match=r"nowhere/a\.mhd: no such file or folder"):
        load_volume(tmp_path / "nowhere/a.mhd")
    (tmp_path / "scan.mhd").touch()
    monkeypatch.setattr(Path, "iterdir", lambda folder: os.scandir(folder / "gone"))
    for scan, folder in ((series, series), (series / "0.dcm", series), (tmp_path / "scan.mhd", tmp_path)):
        with pytest.raises(FormatError) as caught:
            check_outputs({"a mask": tmp_path / "m.dcm"}, scan)
        assert str(caught.value) == f"{folder}: cannot be read: No such file or directory"


def test_what_is_there_is_replaced_only_by_force(tmp_path):
    kinds = {"a mask": "m.nii.gz", "a phantom": "p.dcm", "a picture": "p.png", "measurements": "b.json"}
    for kind, name in kinds.items():
        check_outputs({kind: tmp_path / name})
        (tmp_path / name).touch()
        with pytest.raises(SegdetError, match=f"{name}: is there already; add --force"):
            check_outputs({kind: tmp_path / name})
        check_outputs({kind: tmp_path / name}, force=True)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("dangling.png", "pipe.png"):
        with pytest.raises(SegdetError, match="no regular file"):
            check_outputs({"a picture": tmp_path / name}, force=True)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("a mask", "m.png", r"cannot write a mask as \.png; expected one of \.dcm"),
        ("a picture", "m.jpg", r"cannot write a picture as \.jpg; expected \.png"),
        ("a picture", "deep/m.png", "its folder does not exist"),
        ("a picture", "folder.png", "is a folder"),
        ("a picture", "x" * 252 + ".png", "File name too long"),
    ],
)
def test_what_cannot_be_written_is_known_before(kind, name, message, tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SegdetError, match=message):
        check_outputs({kind: tmp_path / name}, force=True)


@pytest.mark.parametrize("suffix", [".nii.gz", ".dcm", ".nrrd"])
def test_a_name_of_255_bytes_is_written(suffix, tmp_path):
    path = tmp_path / ("ü" * 120 + "x" * (15 - len(suffix)) + suffix)
    scan = Volume.from_spacing(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), (1, 1, 1))
    save_mask(scan.voxels > 30, path, scan)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert np.array_equal(load_mask(path)[0], scan.voxels > 30)


def test_a_mask_holds_0_and_1(tmp_path):
    scan = Volume.from_spacing(np.zeros((2, 3, 4), np.uint8), (1, 1, 1))
    for values in (np.full(scan.shape, 0.3), np.full(scan.shape, np.nan), np.full(scan.shape, -1)):
        with pytest.raises(FormatError, match="values other than 0 and 1; write a threshold"):
            save_mask(values, tmp_path / "m.nii", scan)
    assert not any(tmp_path.iterdir())
    save_mask(np.ones(scan.shape), tmp_path / "m.nii", scan)
    assert load_mask(tmp_path / "m.nii")[0].all()


def test_a_full_disk_is_one_line_whoever_writes(tmp_path):
    """pydicom puts a traceback into the message of its error."""
    scan = "np.zeros((200, 40, 40), np.uint8), np.eye(4)"
    write = f"""
import resource, numpy as np
from segdet.errors import SegdetError
from segdet.io.dicom.write import write_volume
from segdet.volume import Volume
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_volume(Volume({scan}), {str(tmp_path / "p.dcm")!r})
except SegdetError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", write], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said == f"{tmp_path / 'p.dcm'}: cannot be written (File too large); what was there before is kept\n"
    assert not any(tmp_path.iterdir())


def test_only_what_segdet_left_is_deleted(tmp_path):
    kept = (".settings.json", ".segdet-note", ".segdet-lock", ".0123abcd.mine.csv")
    for name in (*kept, ".segdet-0123abcd.part.csv", ".segdet-89abcdef.part"):
        (tmp_path / name).touch()
    for name in (".segdet-0_23abcz.part", "labels", ".segdet-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.dcm").touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "labels", ".segdet-mine"}
    seen = []
    for path in ("rows.csv", "m.NII.GZ", "model"):
        with writing(tmp_path / path) as temporary:
            temporary.touch()
            seen.append(temporary.name)
            assert temporary in tmp_path.glob(".segdet-????????.part*")
    assert seen[1].endswith(".part.nii.gz")


def test_a_folder_that_cannot_be_made_is_known_before(tmp_path):
    (tmp_path / "there").mkdir()
    with writing_folder(tmp_path / "new") as temporary:
        assert temporary in tmp_path.glob(".segdet-????????.part")
    for name, message in (("x" * 256, "File name too long"), ("there", "is there already")):
        with pytest.raises(SegdetError, match=message), writing_folder(tmp_path / name):
            pytest.fail("the work began")


# ------------------------------------------------------------------------------------ SEG and its header


@pytest.mark.parametrize(
    ("header", "expected", "note"),
    [
        ({"PatientSex": "U"}, "", "left out"),
        ({"PatientSex": "f"}, "F", "put right"),
        ({"PatientBirthDate": "00000000"}, "", "left out"),
        ({"PatientBirthDate": "19800231"}, "", "left out"),
        ({"PatientBirthDate": "1980"}, "", "left out"),
        ({"StudyDate": "2018.01.31"}, "20180131", "put right"),
        ({"StudyTime": "12:30:45"}, "123045", "put right"),
        ({"StudyTime": "12:30:45.5"}, "123045.5", "put right"),
        ({"StudyTime": "midday"}, "", "left out"),
    ],
)
def test_a_seg_repairs_patient_and_study_or_leaves_them_out(header, expected, note, tmp_path):
    folder = write_series(tmp_path / "series", PatientName="Nobody^Test", **header)
    volume, (keyword,) = load_volume(folder), header
    notes = save_mask(volume.voxels > 12, tmp_path / "m.dcm", volume, folder)
    assert notes == ("refers to the frames of the scan", f"{keyword} of the scan is no valid DICOM: {note}")
    assert pydicom.dcmread(tmp_path / "m.dcm")[keyword].value == expected
    assert np.array_equal(load_mask(tmp_path / "m.dcm")[0], volume.voxels > 12)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 100", "Äneas^Rüdiger"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (None, "Plain^Name"),
    ],
)
def test_a_seg_keeps_the_name_in_any_character_set(charset, name, tmp_path):
    more = {"SpecificCharacterSet": charset} if charset else {}
    folder = write_series(tmp_path / "series", **more, PatientName=name)
    assert str(pydicom.dcmread(folder / "0.dcm").PatientName) == name
    volume = load_volume(folder)
    save_mask(volume.voxels > 12, tmp_path / "m.dcm", volume, folder)
    assert str(pydicom.dcmread(tmp_path / "m.dcm").PatientName) == name


def test_a_seg_says_where_a_name_could_not_be_decoded(tmp_path):
    folder = write_series(tmp_path / "series", SpecificCharacterSet="ISO_IR 192", PatientName="Ann^One")
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"Ann^One", b"A\xfcn^One"))
    volume = load_volume(folder)
    notes = save_mask(volume.voxels > 12, tmp_path / "m.dcm", volume, folder)
    assert notes[1:] == ("PatientName of the scan is no valid DICOM: a part of it could not be decoded",)


def test_a_seg_of_slices_with_one_uid_refers_to_the_scan(tmp_path):
    folder = write_series(tmp_path / "series", SOPInstanceUID="1.2.3")
    volume = load_volume(folder)
    (note,) = save_mask(volume.voxels > 12, tmp_path / "m.dcm", volume, folder)
    assert note == "refers to the scan; its grid was described in memory"
    seg = pydicom.dcmread(tmp_path / "m.dcm")
    assert [item.ReferencedSOPInstanceUID for item in seg.SourceImageSequence] == ["1.2.3"]
    assert np.array_equal(load_mask(tmp_path / "m.dcm")[0], volume.voxels > 12)


def test_a_header_that_allows_no_seg_is_known_before(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("Patient 'Ann^One' is not allowed")

    monkeypatch.setattr(highdicom.seg, "Segmentation", refuse)
    scan = Volume.from_spacing(np.zeros((3, 4, 5), np.uint8), (1, 1, 1))
    with pytest.raises(FormatError, match=r"m\.dcm: no DICOM SEG can refer to scan: Patient; write \.nii\.gz instead"):
        check_mask_path(tmp_path / "m.dcm", scan)
    check_mask_path(tmp_path / "m.nii", scan)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["18_charset", "26_headers"])
def test_headers_from_public_reports(kind, tmp_path):
    if not (SHARED / "cases" / kind).exists():
        pytest.skip(f"needs ../shared/cases/{kind}")
    for folder in sorted((SHARED / "cases" / kind).iterdir()):
        volume, path = load_volume(folder), tmp_path / f"{folder.name}.dcm"
        save_mask(volume.voxels > volume.voxels.mean(), path, volume, folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = [str(pydicom.dcmread(file).PatientName) for file in (path, next(folder.iterdir()))]
        assert names[0] == names[1]
        assert np.array_equal(load_mask(path)[0], volume.voxels > volume.voxels.mean())


# ---------------------------------------------------------------------------------------------- privacy

INVENTED = "O'Quillfeather"


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("name", [INVENTED, f'"{INVENTED}"', f"{INVENTED}^" * 9, f"{INVENTED}=a=b=c=d"])
def test_no_name_leaves_the_patient_module(name, tmp_path, capfd, caplog):
    wrong = {"PatientBirthDate": INVENTED, "StudyTime": INVENTED, "PatientSex": INVENTED, "StudyID": INVENTED * 5}
    folder = write_series(tmp_path / "series", PatientName=name, PatientID=name, **wrong)
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        volume = load_volume(folder)
        said = [*volume.notes, *volume.meta.values(), *identifying_tags(folder)]
        try:
            said += save_mask(volume.voxels > 12, tmp_path / "m.dcm", volume, folder)
            said += load_case(folder, tmp_path / "m.dcm").notes
        except FormatError as error:
            said.append(error)
    said += [*capfd.readouterr(), caplog.text, *(warning.message for warning in caught)]
    assert "Quillfeather" not in " ".join(map(str, said))


def test_no_name_in_what_a_library_says():
    for quoted in (repr(INVENTED), f"'{INVENTED}'", f'"{INVENTED}"', f"b'{INVENTED}'", f"`{INVENTED}"):
        assert without_values(f"Invalid value for VR DA: {quoted}. See 'here'") == "Invalid value for VR DA"
    assert without_values(UserWarning(f"'{INVENTED}' is no name")) == "UserWarning"
    assert without_values("the patient's file can't be read") == "the patient's file can't be read"
    with pytest.raises(FormatError, match=r"damaged: could not convert string to float$") as caught, reading("a.dcm"):
        float("O'Quill" + "feather")
    assert INVENTED not in "".join(traceback.format_exception(caught.value))


# ------------------------------------------------------------------------------------------------ locks

FILL = """
import sys, time
from itertools import chain
from segdet.experiments.study import Study

def run(seed):
    for n in range(20):
        time.sleep(float(sys.argv[2]))
        yield "cases", [{"seed": seed, "arm": f"{n}", "case": "a", "iou": 0.5}]

try:
    Study(sys.argv[1]).fill({"profile": "x"}, lambda *_: chain(run(0), run(1)), resume=True, report=str)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def fill(folder, pause):
    command = [sys.executable, "-c", FILL, str(folder), str(pause)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path):
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.1)
    pytest.fail(f"{path.name} did not appear")


def test_two_processes_cannot_fill_one_study(tmp_path):
    both = [fill(tmp_path / "s", 0.05) for _ in range(2)]
    errors = [process.communicate(timeout=300)[1] for process in both]
    codes = [process.returncode for process in both]
    rows = Study(tmp_path / "s").table("cases")
    assert len(rows) == 40
    if codes != [0, 0]:  # else one was done before the other began, and nothing was left for that one
        ((code, error),) = [pair for pair in zip(codes, errors, strict=True) if pair[0]]
        winner = both[codes.index(0)].pid
        assert code == 1
        assert f"SegdetError: {tmp_path / 's'}: is being written by process {winner} " in error
    assert not (tmp_path / "s/.segdet-lock").exists()


def test_a_killed_writer_leaves_no_lock(tmp_path):
    held = fill(tmp_path / "s", 0.2)
    wait_for(tmp_path / "s/cases.csv")
    with pytest.raises(SegdetError, match=rf"s: is being written by process {held.pid} \(-c"):
        Study(tmp_path / "s").fill({"profile": "x"}, lambda *_: (), resume=True)
    held.kill()
    held.communicate()
    assert (tmp_path / "s/.segdet-lock").exists()
    (tmp_path / "s/.segdet-0123abcd.part.csv").touch()
    assert Study(tmp_path / "s").fill({"profile": "x"}, lambda *_: (), resume=True)
    assert not [path for path in (tmp_path / "s").iterdir() if path.name.startswith(".")]


def test_a_lock_leaves_no_folder_and_can_be_waited_for(tmp_path):
    with locked(tmp_path / "new"), pytest.raises(SegdetError, match="is being written"), locked(tmp_path / "new"):
        pytest.fail("two have the folder")
    assert not (tmp_path / "new").exists()
    with locked(tmp_path / "new", wait=5):
        (tmp_path / "new/file").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    with pytest.raises(SegdetError, match="cannot be locked"), locked(tmp_path / "new/file"):
        pytest.fail("a file was locked")


def test_a_study_touches_only_its_own(tmp_path):
    study, run = Study(tmp_path / "s"), [("cases", [{"seed": 0, "arm": "a", "case": "b", "iou": 0.5}])]
    foreign = tmp_path / "s/checkpoints/my-own.safetensors"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    with pytest.raises(SegdetError, match="holds results already"):
        study.fill({"profile": "x"}, lambda *_: run)
    assert study.fill({"profile": "x"}, lambda *_: run, resume=True, report=str)
    assert foreign.exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/cases.csv").write_text("mine\n1\n")
    with pytest.raises(SegdetError, match="its tables are of no study"):
        Study(tmp_path / "other").fill({"profile": "x"}, lambda *_: run, resume=True)
    assert (tmp_path / "other/cases.csv").read_text() == "mine\n1\n"


def test_two_trainings_do_not_share_a_folder(tmp_path):
    profile = get_profile("smoke")
    for resume in (False, True):
        with locked(tmp_path / "m"), pytest.raises(SegdetError, match=f"is being written by process {os.getpid()} "):
            fit_cascade(profile, 0, tmp_path / "m", resume=resume, report=str)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/detector.safetensors").touch()
    for resume in (False, True):
        with pytest.raises(SegdetError, match="notes: holds files of something else"):
            fit_cascade(profile, 0, tmp_path / "notes", resume=resume, report=str)


def test_only_fit_runs_under_torchrun(tmp_path):
    command = [sys.executable, "-m", "segdet", "ablate", "--out", tmp_path / "s"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TORCHELASTIC_RUN_ID": "1"}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "segdet: torchrun is for `segdet fit` only; start `segdet ablate` without it\n"


def test_what_cannot_be_written_into_a_new_folder_is_named_as_it_would_be_called(tmp_path):
    with (
        pytest.raises(FormatError, match=f"^{tmp_path}/new/images/a.dcm: cannot be written .No space left on device."),
        writing_folder(tmp_path / "new") as folder,
        writing(folder / "images" / "a.dcm"),
    ):
        raise OSError(28, "No space left on device")
    assert not any(tmp_path.iterdir())
