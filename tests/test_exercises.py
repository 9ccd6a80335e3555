"""`segdet check`: solutions pass, common mistakes are named, and whatever a reader's file does costs one clear line."""

import json
import re
import runpy
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from solutions.mistakes import MISTAKES
from test_cli import here

from segdet import attention, boxes, matching, metrics, proposals, rpn_loss
from segdet.analysis import statistics, verdicts
from segdet.anchors import AnchorGrid
from segdet.errors import SegdetError
from segdet.exercises import CHAPTERS, check, report, trial
from segdet.exercises.compare import difference, short
from segdet.experiments import scores
from segdet.unet3d import UNet3D

SOLUTIONS = Path(__file__).parent / "solutions"
HOME = {exercise.name: (chapter, exercise) for chapter, exercises in CHAPTERS.items() for exercise in exercises}


def checked(tmp_path, source, chapter=3, *options):
    path = tmp_path / "mine.py"
    path.write_text(source, encoding="utf-8")
    return here("check", f"{chapter:02}", path, *options)


def failed(lines):
    return [line.removeprefix("  FAILED  ") for line in lines if line.startswith("  FAILED")]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_solutions_pass(chapter):
    done = here("check", f"{chapter:02}", SOLUTIONS / f"{chapter:02}.py")
    count = len(CHAPTERS[chapter])
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(f"{count} of {count} functions pass\n")
    assert "FAILED" not in done.stdout
    assert "hint" not in done.stdout


@pytest.mark.parametrize("row", MISTAKES, ids=lambda row: f"{row[0]}: {row[3]}")
def test_a_mistake_is_noticed(row, tmp_path):
    name, right, wrong, about = row
    chapter, exercise = HOME[name]
    source = (SOLUTIONS / f"{chapter:02}.py").read_text(encoding="utf-8")
    start = source.find(f"def {name}(")
    start = start if start >= 0 else 0  # a class, with what stands before it
    at = source.find(right, start)
    assert at >= 0, right
    (tmp_path / "wrong.py").write_text(source[:at] + wrong + source[at + len(right) :], encoding="utf-8")
    own = runpy.run_path(str(tmp_path / "wrong.py"))
    lines = list(report(exercise, own[name]))
    assert any(about in line for line in failed(lines)), "\n".join(lines)
    assert lines[-1] == f"  hint 1 of {len(exercise.hints)}: {exercise.hints[0]}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_five_exercises_with_grades(chapter):
    """One of them is open, all others have a solution, and the functions to write are named with their command."""
    (path,) = (ROOT / "book").glob(f"{chapter:02}-*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = re.findall(r"```\{exercise\} (First steps|Further|Open): .+\n:label: (\S+)\n((?:.+\n)+?)```", text)
    assert len(found) == text.count("```{exercise}") >= 5
    assert [grade for grade, *_ in found].count("Open") == 1
    solved = set(re.findall(r"```\{solution(?:-start)?\} (\S+)", text))
    assert solved == {label for grade, label, _ in found if grade != "Open"}
    for exercise in CHAPTERS[chapter]:
        grades = [grade.lower() for grade, _, body in found if re.search(rf"`{exercise.name}[`(]", body)]
        assert exercise.grade in grades
    assert f"`segdet check {chapter:02} mine.py`" in text.replace("\n", " ")


def test_every_exercise_has_two_mistakes_and_three_checks():
    for name, (_, exercise) in HOME.items():
        assert sum(row[0] == name for row in MISTAKES) >= 2, name
        assert len(list(exercise.checks())) >= 3, name
        assert len(exercise.hints) >= 2, name
    assert len(HOME) == sum(map(len, CHAPTERS.values())), "two exercises share a name"


def unet(in_channels, out_channels, base_channels, depth):
    return UNet3D(in_channels, out_channels, base_channels, depth, norm="none")


LIBRARY = {
    "iou": metrics.iou,
    "box_iou": boxes.box_iou,
    "encode": boxes.encode,
    "anchor_grid": lambda sizes, ratios, stride, cells: AnchorGrid(sizes, ratios, stride)(cells),
    "match": matching.match,
    "rpn_loss": rpn_loss.rpn_loss,
    "select": proposals.select,
    "boxes_to_mask": attention.boxes_to_mask,
    "coverage_and_leakage": attention.coverage_and_leakage,
    "UNet3D": unet,
    "dice": metrics.dice,
    "hausdorff95": metrics.hausdorff95,
    "attended_region": attention.attended_region,
    "seed_means": verdicts.seed_means,
    "t_interval": verdicts.t_interval,
    "holm": lambda p_values: np.array(statistics.holm(p_values)),
    "attribute": scores.attribute,
}


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_passes_too(name):
    """The checks ask for what the book's own code does, though their values come from elsewhere."""
    assert failed(report(HOME[name][1], LIBRARY[name])) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_is_listed_and_a_file_is_started(chapter, tmp_path):
    listed = here("check", f"{chapter:02}")
    assert listed.returncode == 0
    path = tmp_path / "mine.py"
    started = here("check", chapter, "--write", path)
    assert started.returncode == 0
    source = path.read_text(encoding="utf-8")
    for exercise in CHAPTERS[chapter]:
        assert f"{exercise.name}{exercise.signature}  [{exercise.grade}]" in listed.stdout
        assert f"def {exercise.name}{exercise.signature}:" in source
        assert exercise.text == runpy.run_path(str(path))[exercise.name].__doc__ or "\n" in exercise.text
    assert str(path) in started.stdout

    path.write_text(source + "# mine\n", encoding="utf-8")
    again = here("check", chapter, "--write", path)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == f"segdet: {path}: exists and is left as it is; name another file\n"
    assert path.read_text(encoding="utf-8").endswith("# mine\n")

    empty = here("check", chapter, path)
    assert empty.returncode == 1
    assert empty.stdout.count(f"came out  {trial.UNWRITTEN}") == empty.stdout.count("FAILED") > 0


WRONG_IOU = """
import torch

def box_iou(a, b):
    sides = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])
    shared = sides.prod(-1)
    area = lambda x: (x[:, 2:] - x[:, :2]).prod(-1)
    return shared / (area(a)[:, None] + area(b)[None] - shared)
"""


def test_a_failure_says_what_went_in_and_out(tmp_path):
    done = checked(tmp_path, WRONG_IOU)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = lines.index("  FAILED  apart along both axes")
    assert lines[at + 1 : at + 4] == [  # 1 x 3 pixels "shared" of two times 8
        "          given     a = [[0., 0., 4., 2.]], b = [[5., 5., 9., 7.]]",
        "          expected  [[0.]]",
        "          came out  [[0.2308]]",
    ]
    assert "encode\n  FAILED" in done.stdout
    assert "has no function of this name" in done.stdout
    assert done.stdout.endswith("0 of 3 functions pass\n")


def test_hints_come_in_steps(tmp_path):
    hints = HOME["box_iou"][1].hints
    for count in (0, 1, 2, 9):
        shown = [
            line for line in checked(tmp_path, WRONG_IOU, 3, "--hints", count).stdout.splitlines() if "hint " in line
        ]
        assert shown == [f"  hint {i} of {len(hints)}: {hint}" for i, hint in enumerate(hints[:count], 1)]


BODIES = {
    "return None": "None: is there a `return`?",
    "pass": "None: is there a `return`?",
    "return 1 / 0": "ZeroDivisionError: division by zero (line 4)",
    "return helper(a)": "ValueError: deep down (line 7)",
    "return a.numpy()": "an array of float32: [[0., 0., 4., 2.]]",
    "return a[0]": "shape (4,)",
    "return torch.zeros(1, 1, dtype=torch.long)": "int64",
    "return torch.full((1, 1), float('nan'))": "[[nan]]",
    "return 'a box'": "str: 'a box'",
    "a += 1; return torch.ones(1, 1)": "a has been changed: work on a copy",
    "raise SystemExit": "SystemExit",
    "raise NotImplementedError": trial.UNWRITTEN,
    "return box_iou(a, b)": "RecursionError: maximum recursion depth exceeded",
}


@pytest.mark.parametrize("body", BODIES)
def test_what_comes_out_is_told_in_one_line(body, tmp_path):
    source = f"import torch\n\ndef box_iou(a, b):\n    {body}\n\ndef helper(a):\n    raise ValueError('deep\\ndown')\n"
    done = checked(tmp_path, source)
    assert done.returncode == 1
    told = [line for line in done.stdout.splitlines() if line.startswith("          came out  ")]
    assert told[0].startswith(f"          came out  {BODIES[body]}")
    assert done.stderr == ""


@pytest.mark.parametrize("parameters", ["a", "a, b, c", "*, a, b", ""])
def test_other_parameters_are_named(parameters, tmp_path):
    done = checked(tmp_path, f"def box_iou({parameters}):\n    return 1\n")
    assert "          expected  box_iou(a, b)\n" in done.stdout
    assert f"          came out  box_iou({parameters})\n" in done.stdout


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def box_iou(a, b:\n    return 1\n", "mine.py: line 1 is no Python: '(' was never closed"),
        ("import torch\nx = 1 / 0\n", "reading it raises ZeroDivisionError: division by zero (line 2); nothing"),
        ("import no_such_module\n", "reading it raises ModuleNotFoundError: No module named 'no_such_module' (line 1)"),
        ("raise SystemExit(0)\n", "reading it raises SystemExit: 0 (line 1)"),
        ("x = '\0'\n", "mine.py: it is no Python: source code string cannot contain null bytes"),
    ],
)
def test_a_file_that_cannot_be_read_costs_one_line(source, message, tmp_path):
    done = checked(tmp_path, source)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.startswith(f"segdet: {tmp_path}")
    assert done.stderr.count("\n") == 1


def test_other_bad_input_costs_one_line(tmp_path):
    missing = here("check", "03", tmp_path / "no.py")
    assert missing.returncode == 2
    assert missing.stderr.startswith(f"segdet: {tmp_path}/no.py: there is no such file; `segdet check NN --write")
    folder = here("check", "03", tmp_path)
    assert (folder.returncode, folder.stderr) == (2, f"segdet: {tmp_path}: is a folder; name a Python file\n")
    assert "0 of 3" in checked(tmp_path, "").stdout
    assert "it is no function but int" in checked(tmp_path, "box_iou = 3\n").stdout
    both = here("check", "03", tmp_path / "a.py", "--write", tmp_path / "b.py")
    assert both.stderr == "segdet: give a file to check or --write a new one, not both\n"
    for chapter in ("0", "13", "three"):
        assert here("check", chapter).returncode == 2


@pytest.mark.parametrize("body", ["while True:\n        pass", "import time\n    time.sleep(1e6)"])
def test_a_loop_that_never_ends_is_given_up(body, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "SECONDS", 0.3)
    done = checked(tmp_path, f"def iou(a, b):\n    {body}\n", 1)
    assert done.returncode == 1
    assert done.stdout.count("came out  nothing within 0 s: does a loop never end?") == 1
    assert "  the other checks were not tried\n  hint 1 of 3" in done.stdout


def test_a_loop_in_a_notebook_ends_with_its_check():
    turns = []

    def endless():
        while True:
            turns.append(1)
            time.sleep(0.001)

    with pytest.raises(trial.TooLongError):
        trial.in_time(endless, 0.2)
    time.sleep(0.5)
    before = len(turns)
    time.sleep(0.2)
    assert len(turns) == before > 0


def test_check_in_a_notebook(capsys):
    def iou(a, b):
        return (np.asarray(a, bool) & np.asarray(b, bool)).sum() / (np.asarray(a, bool) | np.asarray(b, bool)).sum()

    check(iou, hints=3)
    shown = capsys.readouterr().out
    assert "  FAILED  both are empty, so they agree\n" in shown
    assert "          expected  1\n          came out  nan\n" in shown
    assert shown.endswith(HOME["iou"][1].hints[2] + "\n")
    check(lambda a, b: metrics.iou(a, b), "iou")
    assert "FAILED" not in capsys.readouterr().out
    with pytest.raises(SegdetError, match="no exercise is called '<lambda>'; name one of iou, grey"):
        check(lambda a, b: 0)


@pytest.mark.parametrize(
    ("found", "expected", "told"),
    [
        (torch.tensor(1.00001), 1.0, None),
        (1, 1.0, None),
        (np.float32(0.5), 0.5, None),
        (0.51, 0.5, ("0.5", "0.51")),
        ((1.0, 2.0), (1.0, 2.0), None),
        ([1.0, 2.5], (1.0, 2.0), ("value 2: 2", "value 2: 2.5")),
        (1.0, (1.0, 2.0), ("2 values", "float: 1")),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, ("a dict of a, b", "dict: {a: 1}")),
        ({"a": 1.0, "b": 3.0}, {"a": 1.0, "b": 2.0}, ("'b': 2", "'b': 3")),
        (np.inf, np.inf, None),
        (np.nan, 0.0, ("0", "nan")),
        (np.ones((2, 2)), np.ones((2, 2), bool), ("numbers of type bool", "float64")),
        ([[1.0], [1.0, 2.0]], 0.5, ("0.5", "list: ((1), (1, 2))")),
        (np.zeros(100), np.arange(100.0), ("1 at [1]", "0; 99 of 100 values differ")),
    ],
)
def test_the_difference_of_two_values(found, expected, told):
    assert difference(found, expected, 1e-4) == told


def test_values_in_one_line():
    expected, found = difference(torch.ones(2, device="meta"), torch.ones(2), 1e-4)
    assert (expected, found[:27]) == ("[1., 1.]", "a Tensor of float32: tensor")
    assert short(torch.nn.Sequential(torch.nn.ReLU())) == "Sequential( (0): ReLU() )"
    assert short(torch.tensor([[True, False]])) == "[[1, 0]]"
    assert short(np.zeros((40, 50))) == "an array of float64 of shape (40, 50)"
    assert short(torch.arange(6.0).reshape(2, 3)) == "[[0., 1., 2.], [3., 4., 5.]]"
    assert short((1, 0.123456789, [2] * 9)) == "(1, 0.12346, (2, 2, 2, 2, 2, 2, ...))"
