"""What a header says of a patient is in the SEG of that patient, as DICOM wants it, and nowhere else."""

import gzip
import json
import logging
import subprocess
import sys
import warnings

import numpy as np
import pydicom
import pytest
from conftest import ROOT
from dicom_samples import ct_voxels, oblique_affine, write_series
from PIL import Image
from pydicom.dataelem import DataElement

from segdet.io.checks import silenced, without_values
from segdet.io.dicom.write import PATIENT_AND_STUDY, write_volume
from segdet.io.files import load_volume, save_mask
from segdet.io.itk import write_itk
from segdet.volume import Volume

# What a header may say, in forms that pydicom and highdicom warn of, and a piece by which it would be known again.
IDENTITY = {
    "PatientName": ("PN", "Zyxwvut^Qpon=b=c=d=e", "Zyxwvut"),
    "PatientID": ("LO", "4711-Kennung-" + "x" * 70, "4711-Kennung"),
    "PatientBirthDate": ("DA", "29.02.2017", "29.02.2017"),
    "PatientAddress": ("LO", "Geheimgasse 3", "Geheimgasse"),
    "PatientComments": ("LT", "Mutter Vwxyz", "Vwxyz"),
    "OtherPatientIDs": ("LO", "alias-0815", "alias-0815"),
    "OtherPatientNames": ("PN", "Alias^Klmnop", "Klmnop"),
    "EthnicGroup": ("SH", "Volk Qrstuv", "Qrstuv"),
    "InstitutionName": ("LO", "Spital Nirgendwo", "Nirgendwo"),
    "InstitutionAddress": ("ST", "Ortlos 1", "Ortlos"),
    "AccessionNumber": ("SH", "zugang-2018-much-too-long", "zugang-2018"),
    "ReferringPhysicianName": ("PN", "Einweiser^Abcdef", "Einweiser"),
    "OperatorsName": ("PN", "Bediener^Ghijkl", "Bediener"),
    "StudyDescription": ("LO", "Studie Mnopqr", "Mnopqr"),
    "SeriesDescription": ("LO", "Serie Stuvwx", "Stuvwx"),
    "StudyID": ("SH", "studie-4712", "studie-4712"),
    "ProtocolName": ("LO", "Protokoll Yzabcd", "Yzabcd"),
    "ImageComments": ("LT", "Bild Efghij", "Efghij"),
    "DeviceSerialNumber": ("LO", "geraet-0042", "geraet-0042"),
}

# Several commands in one process, whose warnings are shown and whose smallest profile is smaller still.
COMMANDS = """
import json, sys
from segdet.cli import main
from segdet.experiments import config
from segdet.rpn import RPN
RPN.load_imagenet = lambda self: "random"
config.PROFILES["smoke"] = config.Profile("smoke", (8, 48, 32), (8, 12, 8), 4, 2, 2, 1, 2, 1, 1, "resnet18")
for line in sys.stdin:
    sys.argv[1:] = json.loads(line)
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    print("code", code, *sys.argv[1:3], flush=True)
"""


def identify(path):
    """Write the identity of a patient into a DICOM file, however invalid it is."""
    ds = pydicom.dcmread(path)
    for keyword, (kind, value, _) in IDENTITY.items():
        tag = pydicom.datadict.tag_for_keyword(keyword)
        ds[tag] = DataElement(tag, kind, value, validation_mode=pydicom.config.IGNORE)
    ds.save_as(path)


@pytest.fixture
def patient(tmp_path):
    """A folder with four annotated scans of a patient, a series, and the series with a file that is cut off."""
    rng, mask = np.random.default_rng(0), np.zeros((8, 24, 16), bool)
    mask[2:6, 8:16, 4:12] = True
    for kind in ("images", "labels"):
        (tmp_path / "scans" / kind).mkdir(parents=True)
    for number in range(4):
        voxels = (rng.integers(0, 50, mask.shape) + 100 * mask).astype(np.uint8)
        volume = Volume(voxels, oblique_affine((1.0, 1.0, 1.0)))
        write_volume(volume, tmp_path / f"scans/images/{number}.dcm")
        identify(tmp_path / f"scans/images/{number}.dcm")
        write_itk(mask.astype(np.uint8), volume, tmp_path / f"scans/labels/{number}.nii.gz")
    for name in ("series", "damaged"):
        for path in write_series(tmp_path / name, ct_voxels(depth=6), oblique_affine((1.0, 1.0, 1.0))).iterdir():
            identify(path)
    path.write_bytes(path.read_bytes()[:-40])
    return tmp_path


def contents(path):
    """The bytes of a file, and what is packed in it."""
    yield path.read_bytes()
    if path.suffix == ".gz":
        yield gzip.decompress(path.read_bytes())
    if path.suffix == ".png":
        yield repr(Image.open(path).info).encode()


def told(content):
    """The attributes of the identity that bytes tell."""
    return {keyword for keyword, (_, _, piece) in IDENTITY.items() if piece.encode() in content}


def texts(ds):
    """The values of a data set and of all its items by keyword, as text."""
    for element in ds.iterall():
        if not isinstance(element.value, pydicom.Sequence) and element.keyword != "PixelData":
            yield element.keyword, str(element.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("invalid value 'Zyxwvut^Qpon' for PN"), "invalid value"),
        (ValueError('cannot be read: b"Zyxwvut"'), "cannot be read"),
        (ValueError("the patient's age is no number: `Zyxwvut`"), "the patient's age is no number"),
        (KeyError("Zyxwvut"), "KeyError"),
        (AttributeError("Zyxwvut", name="PixelData"), "it lacks PixelData"),
        (ValueError("nothing\nis quoted"), "nothing is quoted"),
    ],
)
def test_an_error_ends_where_it_quotes_the_file(error, said):
    assert without_values(error) == said


def test_libraries_are_silenced_and_heard_again(caplog):
    logger = logging.getLogger("pydicom")
    with silenced() as caught:
        logger.critical("Zyxwvut")
        warnings.warn("of Zyxwvut", stacklevel=1)
    assert caplog.messages == []
    assert [str(warning.message) for warning in caught] == ["of Zyxwvut"]
    logger.critical("afterwards")
    assert caplog.messages == ["afterwards"]


def test_a_seg_takes_over_patient_and_study_alone(tmp_path):
    source = write_series(tmp_path / "series", ct_voxels(depth=6), oblique_affine((1.0, 1.0, 1.0)))
    for path in source.iterdir():
        identify(path)
    volume = load_volume(source)
    save_mask(volume.voxels > 50, tmp_path / "m.dcm", volume, source)
    where = {keyword for keyword, text in texts(pydicom.dcmread(tmp_path / "m.dcm")) if told(text.encode())}
    assert {"PatientName", "PatientID"} <= where <= set(PATIENT_AND_STUDY)


def test_no_command_tells_who_the_patient_is(patient):
    out = patient / "out"
    out.mkdir()
    scan, model = patient / "scans/images/0.dcm", out / "model"
    commands = [
        ["info", scan, "--png", out / "planes.png"],
        ["info", patient / "series"],
        ["info", patient / "damaged"],
        ["fit", "--data", patient / "scans", "--profile", "smoke", "--out", model],
        *(["predict", scan, "--model", model, "--out", out / name] for name in ("a.nii.gz", "a.mha", "a.dcm")),
        ["predict", patient / "series", "--model", model, "--out", out / "b.dcm", "--png", out / "b.png"],
        ["predict", patient / "damaged", "--model", model, "--out", out / "c.dcm"],
        ["phantom", "--out", scan],
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", COMMANDS],
        input="".join(json.dumps([str(word) for word in command]) + "\n" for command in commands),
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    codes = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("code ")]
    assert codes == ["0", "0", "2", "0", "0", "0", "0", "0", "2", "2"], done.stdout + done.stderr
    assert "no valid DICOM" in done.stdout
    assert "privacy" in done.stdout
    assert told((done.stdout + done.stderr).encode()) == set()

    written = [path for path in out.rglob("*") if path.is_file()]
    assert {"a.dcm", "a.nii.gz", "a.mha", "planes.png", "b.dcm", "b.png", "cascade.json"} <= {p.name for p in written}
    segs = [path for path in written if path.suffix == ".dcm"]
    for path in written:
        if path not in segs:
            assert all(told(content) == set() for content in contents(path)), path
    for path in segs:
        where = {keyword for keyword, text in texts(pydicom.dcmread(path)) if told(text.encode())}
        assert where <= set(PATIENT_AND_STUDY), path
        assert {"PatientName", "PatientID"} <= where, path
        assert told(path.read_bytes()) <= where, path
