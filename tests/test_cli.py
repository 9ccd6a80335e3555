"""The commands as a user types them: what they print, and what a mistake costs."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO

import nibabel
import numpy as np
import pytest
import SimpleITK
from typer.main import get_command

from segdet.cli import main

COMMANDS = (
    "info",
    "phantom",
    "download",
    "fit",
    "predict",
    "export",
    "ablate",
    "confirm",
    "dials",
    "claims",
    "plan",
    "detectors",
    "segmenters",
    "transfer",
    "bench",
    "check",
)


def segdet(*arguments):
    return subprocess.run(
        [sys.executable, "-c", "from segdet.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
    )


def here(*arguments, **environment):
    """What `segdet` gives, from this process, which has imported PyTorch already."""
    out, err, code = StringIO(), StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["segdet", *map(str, arguments)])
        patch.delitem(sys.modules, "ipykernel", raising=False)  # of a plugin of pytest; a command is no notebook
        patch.setattr(warnings, "formatwarning", warnings.formatwarning)  # which `main` replaces
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def test_help_names_every_command():
    shown = segdet("--help")
    assert shown.returncode == 0
    for command in COMMANDS:
        assert command in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_its_parameters_have_help(command):
    from segdet.cli.app import app

    described = get_command(app).commands[command]
    shown = here(command, "--help", COLUMNS="300")
    assert shown.returncode == 0
    text = " ".join(shown.stdout.replace("│", " ").split())
    for item in (described, *described.params):
        assert item.help, item.name
        assert " ".join(item.help.split()) in text, item.name
    for parameter in described.params:
        assert (parameter.opts[0] if parameter.param_type_name == "option" else parameter.name) in text.lower()


def test_help_names_every_arm_and_benchmark():
    from segdet.bench import BENCHES
    from segdet.experiments.config import ARMS

    for command, names in (("ablate", ARMS), ("bench", BENCHES)):
        shown = " ".join(here(command, "--help", COLUMNS="300").stdout.replace("│", " ").split())
        assert all(name in shown for name in names), command


def test_phantom_info_predict(tmp_path):
    hip = tmp_path / "hip.dcm"
    made = segdet("phantom", "--seed", 3, "--out", hip, "--mask", tmp_path / "truth.nii.gz")
    assert made.returncode == 0, made.stderr
    shown = here("info", hip, "--png", tmp_path / "planes.png")
    assert shown.returncode == 0, shown.stderr
    values = [re.match(r"[^:]+: +", line).end() for line in shown.stdout.splitlines() if not line.startswith("wrote")]
    assert set(values) == {len("frame of reference uid: ")}  # the longest key; all values begin in one column
    assert "128 slices of 184 rows x 96 columns" in shown.stdout
    assert "0.26 mm between slices, 0.22 x 0.4 mm pixels" in shown.stdout
    assert (tmp_path / "planes.png").stat().st_size > 10_000
    for again in (("info", hip, "--png", tmp_path / "planes.png"), ("phantom", "--seed", 4, "--out", hip)):
        refused = here(*again)
        assert refused.returncode == 2
        assert f"{again[-1]}: is there already; add --force to replace it" in refused.stderr

    from segdet.io.annotations import load_mask
    from segdet.io.files import load_volume
    from segdet.phantom.acoustics import make_phantom

    phantom = make_phantom(3)
    assert np.array_equal(load_volume(hip).voxels, phantom.voxels)
    assert np.array_equal(load_mask(tmp_path / "truth.nii.gz")[0], phantom.mask)


def test_a_phantom_of_version_2(tmp_path):
    hip, truth = tmp_path / "hip.dcm", tmp_path / "truth.nii.gz"
    made = here("phantom", "--version", 2, "--preset", "logiq-e9", "--seed", 3, "--out", hip, "--mask", truth)
    assert made.returncode == 0, made.stderr

    from segdet.io.annotations import load_mask
    from segdet.io.files import load_volume
    from segdet.phantom.make import make_phantom

    phantom = make_phantom(3, version=2, preset="logiq-e9")
    assert np.array_equal(load_volume(hip).voxels, phantom.voxels)
    assert np.array_equal(load_mask(truth)[0], phantom.mask)
    for wrong, said in (
        (("phantom", "--preset", "iu22"), "version 1 has one scanner"),
        (
            ("phantom", "--version", 2, "--preset", "iu23"),
            'must be one of iu22, l12-5, l12-5-deep, logiq-e9, logiq-p9 or "varied"',
        ),
        (("phantom", "--version", 2, "--noise-db", "nan"), "noise_db must be finite, found nan"),
        (("phantom", "--noise-db", "40.5"), "noise_db is 40.5; expected -300 to 40 dB"),
        (("phantom", "--contrast-db", "-1e9"), "contrast_db is -1e+09; expected -100 to 100 dB"),
        (("fit", "--preset", "iu23"), "found 'iu23'"),
        (("fit", "--data", tmp_path, "--preset", "iu22"), "--preset is for simulated hips"),
        (("ablate", "--data", tmp_path, "--preset", "iu22"), "--preset is for simulated hips"),
    ):
        refused = here(*wrong, "--out", tmp_path / "x.dcm")
        assert refused.returncode == 2
        assert said in " ".join(refused.stderr.split())
    assert not (tmp_path / "x.dcm").exists()


def test_many_phantoms_are_a_data_set(tmp_path):
    made = here("phantom", "--count", 2, "--seed", 8, "--look-alikes", 0, "--dysplastic", "--out", tmp_path / "hips")
    assert made.returncode == 0, made.stderr

    from segdet.io.dataset import folder_pairs, read_cases
    from segdet.phantom.acoustics import make_phantom
    from segdet.phantom.parameters import DYSPLASTIC

    for volume, seed in zip(read_cases(folder_pairs(tmp_path / "hips")), (8, 9), strict=True):
        expected = make_phantom(seed, parameters=replace(DYSPLASTIC, look_alikes=(0, 0)))
        np.testing.assert_array_equal(volume.voxels, expected.voxels)
        np.testing.assert_array_equal(volume.mask, expected.mask)
    assert here("phantom", "--count", 2, "--out", tmp_path / "hips").returncode == 2  # it is there already
    assert [path.name for path in tmp_path.iterdir()] == ["hips"]


def test_fit_predict_ablate(tmp_path):
    """The smoke profile, from nothing to a mask and to a study; the answers mean nothing, the files are whole."""
    fitted = segdet("fit", "--profile", "smoke", "--out", tmp_path / "model")
    assert fitted.returncode == 0, fitted.stderr
    assert "left aside" in fitted.stdout
    again = here("fit", "--profile", "smoke", "--out", tmp_path / "model")
    assert again.returncode == 2
    assert "holds a finished model" in again.stderr
    scan = tmp_path / "hip.dcm"
    assert here("phantom", "--seed", 3, "--out", scan).returncode == 0
    before = scan.read_bytes()
    for name, run in (("mask.dcm", segdet), ("mask.nii.gz", here)):
        png = tmp_path / f"{name}.png"
        made = run("predict", scan, "--model", tmp_path / "model", "--out", tmp_path / name, "--png", png)
        assert made.returncode == 0, made.stderr
        assert f"wrote {tmp_path / name}" in made.stdout
        assert png.stat().st_size > 10_000

    from segdet.io.annotations import load_mask

    masks = [load_mask(tmp_path / name)[0] for name in ("mask.dcm", "mask.nii.gz")]
    assert masks[0].shape == (128, 184, 96)
    assert np.array_equal(*masks)
    drawn = tmp_path / "boxes.csv"
    drawn.write_text("slice,x0,y0,x1,y1\n" + "".join(f"{n},20,60,70,130\n" for n in range(40, 90)))
    own = ("predict", scan, "--model", tmp_path / "model", "--out", tmp_path / "own.nii", "--boxes", drawn, "--force")
    made = here(*own)
    assert made.returncode == 0, made.stderr
    assert "boxes on 4 of 8 slices" in made.stdout  # of the detector's grid
    assert "hold no box" not in made.stdout
    drawn.write_text("slice,x0,y0,x1,y1\n40,20,60,70,130\n44,20,60,70,130\n")
    assert "note: 3 slices between the first and the last of" in here(*own).stdout
    drawn.write_text("slice,x0,y0,x1,y1\n128,20,60,70,130\n")
    refused = here(*own)
    assert refused.returncode == 2
    assert "boxes.csv, line 2: slice 128, but the scan has slices 0 to 127" in refused.stderr
    refused = here("predict", scan, "--model", tmp_path / "model", "--out", scan, "--force")
    assert refused.returncode == 2
    assert "would overwrite the scan" in refused.stderr
    assert scan.read_bytes() == before

    flat = tmp_path / "flat.nii.gz"
    SimpleITK.WriteImage(SimpleITK.Image(40, 50, 1, SimpleITK.sitkUInt8), str(flat))
    refused = here("predict", flat, "--model", tmp_path / "model", "--out", tmp_path / "m.nii")
    assert refused.returncode == 2
    assert "flat.nii.gz: its 1 x 50 x 40 mm lie between the working voxels" in refused.stderr

    study = ("ablate", "--profile", "smoke", "--arms", "unet", "--seeds", 1, "--out", tmp_path / "study")
    done = here(*study)
    assert done.returncode == 0, done.stderr
    assert "complete: " in done.stdout
    assert not (tmp_path / "study/detector.csv").exists()  # no arm of it looks at a detector
    assert here(*study).returncode == 2
    assert here(*study, "--resume").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "missing.dcm"), "missing.dcm"),
        (("predict", "missing.dcm", "--model", "nowhere", "--out", "m.dcm"), "holds no cascade.json"),
        (("predict", "scan.dcm", "--model", "nowhere", "--out", "m.jpg"), "cannot write a mask as .jpg"),
        (("predict", "scan.nii", "--model", "nowhere", "--out", "scan.nii"), "would overwrite the scan"),
        (
            ("predict", "scan.nii", "--model", "nowhere", "--out", "m.nii", "--png", "m.tga"),
            "cannot write a picture as .tga",
        ),
        (("phantom", "--out", "m.dcm", "--mask", "./m.dcm"), "is named for a phantom and a mask"),
        (("fit", "--out", __file__), "is a file; --out must be a folder"),
        (("ablate", "--out", __file__), "is a file; --out must be a folder"),
        (("fit", "--out", "m", "--label", "3"), "a simulated hip has one label only"),
        (("predict", "scan.nii", "--model", "nowhere", "--out", "deep/m.nii"), "its folder does not exist"),
        (("ablate", "--out", "s", "--max-minutes", "1", "--scheduler", "local"), "leave it out with --scheduler"),
        (("ablate", "--out", "s", "--arms", "unet,magic"), "there is no arm 'magic'; choose from unet"),
        (("ablate", "--out", "s", "--data", "nowhere", "--profile", "smoke"), "images/"),
        (("fit", "--out", "d/images/m", "--data", "d"), "lies among the scans of d"),
        (
            ("confirm", "--out", "s"),
            "protocol 2 decides on hips of the preset iu22, not version 1; try it on development",
        ),
        (("confirm", "--out", "s", "--steps", "5"), "--steps is for --development; to confirm, protocol 2 has chosen"),
        (("confirm", "--out", "s", "--scheduler", "local", "--max-minutes", 1), "leave it out with --scheduler"),
        (("confirm", "--out", "s", "--arms", "unet,magic"), "there is no arm 'magic'; choose from unet, box3d"),
        (
            ("confirm", "--out", "s", "--development", "--seeds", "6"),
            "has 5 development seeds, 0 to 4; found",
        ),
        (("claims", "nowhere"), "nowhere: holds no study of protocol 2; make one with `segdet confirm`"),
        (("transfer", "--data", "nowhere", "--out", "s"), "nowhere: is no folder; get them with `segdet download"),
        (("transfer", "--data", "d", "--out", "s", "--infants", "1,two"), "whole numbers from 1 on, not 'two'"),
        (("transfer", "--data", "d", "--out", "s", "--variants", "magic"), "there is no variant 'magic'"),
        (
            ("transfer", "--data", "d", "--out", "s", "--variants", "compact-standardised"),
            "there is no variant 'compact-standardised'",
        ),
        (
            ("segmenters", "--out", "s", "--variants", "magic"),
            "no variant 'magic'; choose from unet, no-norm, instance",
        ),
        (("transfer", "--data", "d", "--out", "s", "--preset", "iu23"), "found 'iu23'"),
        (
            ("transfer", "--data", "d", "--out", "s", "--pixel-mm", "a=0"),
            "takes NAME=MM, such as 72628=0.07, not 'a=0'",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGDET_STATIC", "1")  # a busy machine would tell of its progress, too
    failed = here(*arguments)
    assert failed.returncode == 2
    assert message in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert failed.stderr.startswith("segdet: ")
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "before"),
    [
        (("info", ""), "info"),
        (("info", "--png", "", "scan.nii"), "--png"),
        (("predict", "", "--model", "m", "--out", "m.nii"), "predict"),
        (("predict", "scan.nii", "--model", "", "--out", "m.nii"), "--model"),
        (("predict", "scan.nii", "--model=", "--out", "m.nii"), "--model="),
        (("transfer", "--infants", "--data=", "--out", "o"), "--data="),
        (("fit", "--out", "", "--profile", "smoke"), "--out"),
        (("fit", "--data", "", "--out", "m"), "--data"),
        (("claims", ""), "claims"),
        (("check", "03", ""), "03"),
        (("export", "", "--out", "m"), "export"),
    ],
)
def test_an_empty_path_is_not_this_folder(arguments, before, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = here(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"segdet: what follows {before} is empty; name a file or folder, or whatever is meant (. is this folder)\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_command_to_copy_holds_a_name_with_spaces_in_quotes(tmp_path):
    file, model = tmp_path / "my own.py", tmp_path / "my model"
    assert f"segdet check 03 '{file}'" in here("check", "03", "--write", file).stdout
    other = tmp_path / "not there.py"
    assert f"`segdet check NN --write '{other}'` starts one" in here("check", "03", other).stderr
    refused = here("predict", file, "--model", model, "--out", tmp_path / "mask.mha")
    assert f"`segdet fit --out '{model}'`" in refused.stderr


@pytest.mark.parametrize("empty", [("--infants", ""), ("--infants=",)])
def test_an_empty_list_of_infants_is_an_answer(empty, tmp_path):
    nothing = tmp_path / "nothing"
    refused = here("transfer", "--data", nothing, *empty, "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"segdet: {nothing}: ")


@pytest.fixture
def transfers(monkeypatch, tmp_path):
    """A function that runs `segdet transfer` with so many infants up to the study: what it prints, and its plan."""
    from segdet.infants import pictures, transfer

    def run(count, *arguments):
        plans, named = [], [f"infant-{index}" for index in range(count)]
        monkeypatch.setattr(pictures, "read_infants", lambda folder, pixel_mm: (named, ["a note"]))
        monkeypatch.setattr(transfer, "run_transfer", lambda plan, *_, **__: plans.append(plan) or True)
        done = here("transfer", "--data", "d", "--profile", "smoke", "--out", tmp_path / "s", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[:-1], plans[0]

    return run


def test_it_trains_on_as_many_infants_as_there_are(transfers):
    """`segdet download hips` brings seven that have labels."""
    lines, plan = transfers(7)
    assert plan.counts == (1, 3, 5)
    assert lines == ["a note", "trainings on 7 infants are left out: they take one more to test, found 7"]
    lines, plan = transfers(4)
    assert plan.counts == (1, 3)
    assert lines[1] == "trainings on 5, 7 infants are left out: they take one more to test, found 4"
    assert transfers(8)[0] == ["a note"]
    assert transfers(8)[1].counts == (1, 3, 5, 7)
    for named, counts in (("2,7", (2, 7)), ("", ())):  # what is named is kept, and `run_transfer` looks at it
        lines, plan = transfers(7, "--infants", named)
        assert (lines, plan.counts) == (["a note"], counts)


@pytest.mark.parametrize(
    ("given", "preset"), [((), "varied"), (("--preset", "none"), None), (("--preset", "iu22"), "iu22")]
)
def test_detectors_of_infants_have_seen_varied_hips(given, preset, transfers):
    assert transfers(8, *given)[1].preset == preset


def test_predict_says_on_a_terminal_what_it_does_and_nothing_in_a_log(tmp_path, monkeypatch):
    from segdet.pipeline import Grids, Prediction

    class Model:
        grids = Grids((4.0, 5.0, 6.0), (4, 5, 6), (4, 5, 6))

        def predict(self, volume, attention, step):
            none = np.zeros(volume.shape, bool)
            return Prediction(none, none, none, np.zeros((4, 0, 4)), ())

    monkeypatch.setattr("segdet.export.load.load_cascade", lambda *_: Model())
    scan = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(np.arange(120, dtype=np.uint8).reshape(6, 5, 4), np.eye(4)), scan)
    command = "predict", scan, "--model", "hips", "--force", "--out", tmp_path / "mask.nii"
    assert here(*command).stderr == ""
    terminal = type("Terminal", (StringIO,), {"isatty": lambda _: True})
    monkeypatch.setitem(globals(), "StringIO", terminal)
    for name in ("SEGDET_PROGRESS", "SEGDET_STATIC"):  # as `make test` sets them
        monkeypatch.delenv(name, raising=False)
    said = here(*command).stderr
    stages = [said.find(stage) for stage in ("reading hips: ", "reading scan.nii: ", "segmenting 4 x 5 x 6 voxels: ")]
    assert -1 < stages[0] < stages[1] < stages[2]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 9.00 GiB.")])
def test_too_little_memory_for_a_scan_names_what_helps(error, tmp_path, monkeypatch):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("segdet.export.load.load_cascade", full)
    failed = here("predict", "scan.nii", "--model", "m", "--out", tmp_path / "mask.nii")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        "segdet: memory does not suffice; close other programs, or crop the scan or resample it to larger voxels; if "
        "it was a GPU's, set SEGDET_DEVICE=cpu\n"
    )


def test_import_is_light():
    """The path of phantoms and ablation needs neither the readers nor plotly (design: imports stay light)."""
    heavy = ("pydicom", "SimpleITK", "highdicom", "plotly", "dask", "ipywidgets", "matplotlib")
    code = f"import sys, segdet.experiments.ablation; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["phantom"], ["Missing option '--out'", "segdet phantom --help"]),
        (["phantom", "--shape", "3"], ["No such option: --shape", "segdet phantom --help"]),
        (["phantom", "--version", "3", "--out", "a.dcm"], ["'--version'", "2", "segdet phantom --help"]),
        (["fit", "--profile", "huge"], ["'--profile'", "'huge' is not one of", "segdet fit --help"]),
        (["phantoms"], ["No such command 'phantoms'", "segdet --help"]),
        (["info", "a", "b"], ["unexpected extra argument", "segdet info --help"]),
    ],
)
def test_a_mistake_in_the_use_of_a_command_is_one_line(arguments, said):
    refused = here(*arguments)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert refused.stderr.startswith("segdet: ")
    assert all(part in refused.stderr for part in said)


def test_without_a_command_their_list_is_shown():
    shown = here()
    assert (shown.returncode, shown.stderr) == (2, "")
    assert "Usage: " in shown.stdout
    assert "ablate" in shown.stdout


def test_ctrl_c_costs_one_line(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("from pathlib import Path\nPath(__file__).with_name('begun').touch()\nwhile True:\n    pass\n")
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from segdet.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "check", "03", str(mine)], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (tmp_path / "begun").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error.startswith("segdet: interrupted; what was saved is kept")
    assert error.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_command_that_is_told_to_end_leaves_nothing_half_written(number, code, tmp_path):
    """As a batch system tells it whose time is up, `timeout`, or a terminal that is closed."""
    # under nohup, which these tests may run under, SIGHUP is ignored on purpose
    code_of_it = f"import signal; signal.signal({int(number)}, signal.SIG_DFL); from segdet.cli import main; main()"
    command = [sys.executable, "-c", code_of_it, "phantom", "--count", "99", "--out", str(tmp_path / "hips")]
    environment = os.environ | {"SEGDET_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    while process.poll() is None and not list(tmp_path.glob(".segdet-*.part")):
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == code
    assert error.startswith("segdet: interrupted; what was saved is kept")
    assert error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_what_the_library_says_of_arguments_is_said_of_options(tmp_path, capsys, monkeypatch):
    write_nifti = nibabel.Nifti1Image(np.zeros((4, 5, 6, 3), np.uint8), np.diag([1.0, 1, 1, 1]))
    nibabel.save(write_nifti, tmp_path / "four.nii.gz")
    monkeypatch.setattr("sys.argv", ["segdet", "info", str(tmp_path / "four.nii.gz")])
    with pytest.raises(SystemExit):
        main()
    assert "choose one with --frame 0 to --frame 2; to train" in capsys.readouterr().err
