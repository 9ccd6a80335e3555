"""The prose of the pages: no measured number is typed, and claims are held against the numbers beside them."""

import json
import re

import pytest
import runner
from conftest import ROOT

from segdet.analysis.prose import STORED_PROFILE, written_for
from segdet.analysis.verdicts import judge
from segdet.errors import SegdetError
from segdet.experiments.config import PROFILES
from segdet.experiments.study import Study

PAGES = {path.stem: path for pattern in ("book/*.ipynb", "book/*.md", "README.md") for path in ROOT.glob(pattern)}


def claim(key):
    """The difference and its interval, which README repeats because it cannot be glued there."""
    claims = json.loads((ROOT / "results/protocol2-laptop/claims.json").read_text())["claims"]
    (claim,) = [claim for claim in claims if claim["claim"] == key]
    return numbers(claim["ours"], *claim["interval"])


def compared(first, second):
    """The same of two arms that no claim compares."""
    a, b, seeds = Study(ROOT / "results/protocol2-laptop").pairs(first, second)
    (found,) = judge([(a - b, seeds)])
    return numbers(found.difference, *found.interval)


def numbers(*values):
    return " ".join(f"{abs(value):.3f}" for value in values)


# Numbers that nothing here has measured. Whoever types another one says where it comes from, or glues it.
EVERYWHERE = {
    "the paper: Table 1 and its differences": "0.622 0.709 0.600 8.7 0.087 0.109 0.022",
    "the paper: voxels and training": "0.13 0.11 0.20 0.001 0.9 0.999 0.0005 0.01",
    "thresholds of overlap and score, and the level of intervals and distances": "0.7 0.5 0.3 95",
    "the working grid (B8)": "0.26 0.22 0.40",
}
HERE = {
    "01-paper": {"the simulated studies": "0.1 0.03 0.12"},
    "02-data": {
        "acoustics and display": "60 4 6 8",
        "the width of a shell": "0.2",
        "coverage of the femoral head: Graf's limits in the sources": "58 33",
        "chosen for the page": "0.95 99.5 1 5 12.5",
    },
    "03-anchors": {"184 / 16": "11.5"},
    "04-rpn-loss": {"thresholds that are tried": "0.6 0.8"},
    "05-detector": {
        "the recipe": "0.004 0.02 0.002 20 15",
        "an IoU to aim at, steps of a threshold, the name of a kind of input": "0.95 0.05 2.5",
    },
    "07-unet3d": {"anatomy, a graphics card, a bound": "20 12 0.8"},
    "08-segmenter": {"the toy, percentiles, arithmetic on the paper's average": "1 0.4 5 1.709 0.830"},
    "09-cascade": {"the toy, margins, contrasts, thresholds": "1 2 6 2.5 4.5 6.5 0.2 0.8"},
    "10-ablation": {
        "limits of the protocol, groups of scans, versions": "0.005 0.02 0.05 0.6 0.8 2.11 2.15",
    },
    "first-study": {"percentiles": "2.5 97.5"},
    "11-when-attention-helps": {"an exercise": "3", "groups of scans": "0.6 0.8", "a grid": "1.04", "doses": "0.1 30"},
    "12-real-infants": {
        "licences": "3.0 2.0",
        "the windows, sizes and bounds of the measures": "2 4 3 16",
        "the aims for version 2": "0.80 0.97",
    },
    "protocol": {"the margins that it fixes": "0.005 1 0.02"},
    "gpu": {"bounds and an assumption, named there": "10 25"},
    "intro": {"the paper's averages, rounded": "0.62 0.71"},
    "ledger": {"the recipe": "0.004"},
    "README": {
        "versions, a licence, a download": "3.11 4.0 5",
        "claims of protocol 2": f"{claim('1')} {claim('8a')}",
        "both at their best, and what each gains": " ".join(
            compared(*pair)
            for pair in (("cascade-best", "unet-best"), ("unet-best", "unet"), ("cascade-best", "cascade"))
        ),
    },
}

FENCES = re.compile(
    r"^(`{3,})(?!\{(?:exercise|solution|admonition|glossary|list-table|segdet-question)).*?^\1\s*$",
    re.DOTALL | re.MULTILINE,
)
NO_PROSE = [
    FENCES,
    *map(re.compile, (r"\$\$[^$]*\$\$", r"\$[^$]+\$", r"\{[a-z:]+\}`[^`]*`", r"`[^`\n]*`", r"https?://[^\s)]+")),
]
UNITS = "%|times|points|dB|GiB|GB|mm|ms|s|ml"
NUMBER = re.compile(rf"(?<![\w.:])\d+\.\d+(?!\.?\d)|(?<![\w.,-])\d+(?= ?(?:{UNITS})\b| ?%)")


def typed(text):
    """The numbers of a text with a decimal point or a unit, outside of code, formulas, roles and links."""
    for pattern in NO_PROSE:
        text = pattern.sub(" ", text)
    return NUMBER.findall(text)


def markdown(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return [text]
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a box IoU of 0.546, and 0.71.", ["0.546", "0.71"]),
        ("needs 7.6 GiB, 12 GB and 30 % more", ["7.6", "12", "30"]),
        ("it took 5.7 times longer, or 4 times", ["5.7", "4"]),
        ("of {glue:text}`a:.2f` % and `0.5` and $x = 0.3$", []),
        ("$$\nx = 0.215\n$$ and ten scans of 3 seeds, in 2018", []),
        ("```python\nx = 0.7\n```\n", []),
        ("version 1.2.3, row B2, 128 x 184 x 96", []),
        ("```{solution} ex-a\n:class: dropdown\nAbout 0.18.\n```", ["0.18"]),
    ],
)
def test_what_counts_as_a_typed_number(text, found):
    assert typed(text) == found


@pytest.mark.parametrize("page", sorted(PAGES))
def test_no_measured_number_is_typed(page):
    known = {
        number for told in (EVERYWHERE, HERE.get(page, {})) for numbers in told.values() for number in numbers.split()
    }
    found = {number for text in markdown(PAGES[page]) for number in typed(text)}
    assert sorted(found - known) == [], "glue them from a cell, or say in this file where they come from"


def test_every_known_number_is_still_there():
    for page, told in HERE.items():
        found = {number for text in markdown(PAGES[page]) for number in typed(text)}
        known = {number for numbers in told.values() for number in numbers.split()}
        assert sorted(known - found) == [], page


def test_claims_hold_at_the_stored_profile(capsys):
    assert runner.STORED_PROFILE == STORED_PROFILE
    claims = {"two is more than one": 2 > 1, "one is more than two": 1 > 2}
    for profile in (None, PROFILES[STORED_PROFILE]):
        with pytest.raises(SegdetError, match=r"^the prose claims .*: one is more than two; change the prose$"):
            written_for(claims, profile)
    written_for(claims, PROFILES["smoke"])
    said = "as the text says: two is more than one\nnot so at the profile smoke: one is more than two\n"
    assert capsys.readouterr().out == said


def test_a_reader_s_book_is_told_what_does_not_hold_in_its_run(monkeypatch, capsys):
    """Trainings differ between processors, and a book is not thrown away for one sentence; results/ are the same."""
    monkeypatch.setenv("SEGDET_READER", "1")
    written_for({"two is more than one": True, "one is more than two": False}, PROFILES[STORED_PROFILE])
    said = "as the text says: two is more than one\nnot so in this run: one is more than two\n"
    assert capsys.readouterr().out == said
    with pytest.raises(SegdetError, match="one is more than two; change the prose"):
        written_for({"one is more than two": False})


@pytest.mark.parametrize("path", runner.chapters(ROOT), ids=lambda path: path.stem)
def test_a_chapter_folds_its_plumbing_and_ends_in_what_to_remember(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and ("plots.use_style()" in source or source.startswith("profile = None")):
            assert {"hide-input", "remove-input"} & set(cell["metadata"].get("tags", [])), source
    if path.stem[:2].isdigit():
        text = "\n".join(markdown(path))
        assert "What you will be able to do" in text
        assert "## What to remember" in text


@pytest.mark.parametrize("path", runner.chapters(ROOT), ids=lambda path: path.stem)
def test_no_page_shows_how_python_writes_an_object(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    for output in (output for cell in cells for output in cell["outputs"]):
        texts = [output.get("text", ""), *(text for kind, text in output.get("data", {}).items() if "plain" in kind)]
        shown = "\n".join("".join(text) for text in texts)
        assert re.findall(r"<.* at 0x.*>|\bnp\.\w+\(.*\)|^.*\{'[^']+': .*", shown, re.MULTILINE) == []
