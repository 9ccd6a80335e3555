"""The store of results: rows survive the trip, and a study cannot change under its name."""

import re
import shutil

import numpy as np
import pytest
from conftest import ROOT

from segdet.errors import SegdetError
from segdet.experiments import study
from segdet.experiments.study import Study
from segdet.runtime import provenance


def test_rows_come_back(tmp_path):
    study = Study(tmp_path / "s")
    assert study.table("cases") == []
    study.add("cases", [{"seed": 1, "arm": "unet", "case": "b", "iou": 0.5, "hd95_mm": float("inf")}])
    study.add("cases", [{"seed": 0, "arm": "unet", "case": "a", "iou": 1 / 3, "hd95_mm": 2.0}])
    study.add("cases", [{"seed": 0, "arm": "box3d", "case": "a", "iou": 1, "hd95_mm": float("nan")}])
    rows = study.table("cases")
    assert rows[0] == {"seed": 1, "arm": "unet", "case": "b", "iou": 0.5, "hd95_mm": float("inf")}
    np.testing.assert_allclose(study.column("unet"), [0.333333, 0.5])  # ordered by seed
    assert study.done() == {(1, "unet"), (0, "unet"), (0, "box3d")}


def test_a_study_keeps_its_settings(tmp_path):
    study = Study(tmp_path)
    study.describe(profile="smoke", data="phantom")
    study.describe(profile="smoke", device="cpu")
    assert study.manifest == {"profile": "smoke", "data": "phantom", "device": "cpu"}
    with pytest.raises(SegdetError, match="with profile 'smoke', not 'laptop'; name another"):
        study.describe(profile="laptop")
    assert study.manifest["profile"] == "smoke"


def test_a_study_keeps_its_scans(tmp_path):
    """A manifest holds a digest of them, which would tell a reader nothing."""
    Study(tmp_path).describe(scans="0123456789abcdef")
    with pytest.raises(SegdetError) as refused:
        Study(tmp_path).describe(scans="fedcba9876543210")
    assert str(refused.value) == (
        f"{tmp_path}: holds a study with other scans or pictures, or other annotations or sizes of the same; name "
        "another --out folder"
    )


def test_a_row_of_the_same_name_is_replaced(tmp_path):
    study = Study(tmp_path)
    row = {"seed": 0, "arm": "unet", "case": "001", "iou": 0.5}
    study.add("cases", [row, row | {"case": "1"}])
    study.add("cases", [row | {"iou": 0.75}])
    assert study.table("cases") == [row | {"iou": 0.75}, row | {"case": "1"}]  # "001" is a name, not the number 1


def test_a_broken_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text('{"profile": ')
    with pytest.raises(SegdetError, match=r"manifest\.json: not valid JSON"):
        Study(tmp_path).describe(profile="smoke")
    (tmp_path / "manifest.json").write_text("[1]")
    with pytest.raises(SegdetError, match=r"manifest\.json: is no manifest of a study"):
        Study(tmp_path).describe(profile="smoke")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed,arm,case,iou\n0,unet,a,0.5\n0,unet,b", "row 2 has not one value a column"),
        ("seed,arm,case,iou\n0,unet,a,0.5\n0,unet,b,0.1\n0,un,c,1,2\n", "row 3 has not one value a column"),
        ("seed,arm,case,iou\n0,unet,a,0.5\n0,unet,b,0.", "its last line is cut off"),
        ('seed,arm,case,iou\n0,unet,"a,0.5\n', "line 1 is no CSV"),
        ("seed,arm,case,iou\n0,unet,a,0.5\n0,unet,b,0.5\n0,unet,a,0.6\n", "row 3 has the same names as row 1"),
        ("seed,Arm,case,iou\n0,unet,a,0.5\n", "has no column 'arm'"),
        ("seed;arm;case;iou\n0;unet;a;0.5\n", "has no column 'seed'"),
    ],
)
def test_a_damaged_table_is_named_and_kept(text, message, tmp_path):
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(SegdetError, match=rf"cases\.csv: {message}.*; restore the file"):
        Study(tmp_path).done()
    assert (tmp_path / "cases.csv").read_text() == text


@pytest.mark.parametrize(
    ("cell", "message"),
    [("half", "row 2 has 'half' as its iou; expected a number"), ("", "row 2 has no iou; run that")],
)
def test_a_measure_is_a_number(cell, message, tmp_path):
    (tmp_path / "cases.csv").write_text(f"seed,arm,case,iou\n0,unet,a,0.5\n0,unet,b,{cell}\n")
    with pytest.raises(SegdetError, match=rf"cases\.csv: {message}"):
        Study(tmp_path).column("unet")


def test_a_table_is_read_as_a_spreadsheet_writes_it(tmp_path):
    (tmp_path / "cases.csv").write_bytes(b"\xef\xbb\xbfseed,arm,case,iou\r\n0,unet,h\xc3\xa9,0.5\r\n")
    assert Study(tmp_path).table("cases") == [{"seed": 0, "arm": "unet", "case": "h\u00e9", "iou": 0.5}]


def test_texts_survive_other_rows(tmp_path):
    """A commit of digits is no number (12e4567 would be infinite), and a case has any name that a file has."""
    study, names = Study(tmp_path), ["a,b", 'a"b', "a\nb", "a=b", "\u00e9", "\udce9", "a\u2028b"]
    rows = [{"seed": 0, "arm": "unet", "case": name, "commit": "12e4567", "torch": "2.10"} for name in names]
    study.add("cases", rows)
    study.add("cases", [{"seed": 1, "arm": "unet", "case": "c", "commit": "0123456", "torch": "2.10"}])
    assert study.table("cases")[:-1] == rows
    assert study.table("cases")[-1]["commit"] == "0123456"


def test_only_a_study_of_its_kind_is_filled(tmp_path):
    study, run = Study(tmp_path / "s"), [("detector", [{"seed": 0, "arm": "book", "case": "a", "iou": 0.5}])]
    assert study.fill({"study": "detectors"}, lambda *_: run, report=str)
    with pytest.raises(SegdetError, match="holds a study with study 'detectors', not 'ablation'; name another"):
        study.fill({"study": "ablation"}, lambda *_: run, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cascade.json").write_text("{}")
    with pytest.raises(SegdetError, match="holds files of something else; name a new folder"):
        Study(tmp_path / "other").fill({"study": "detectors"}, lambda *_: run, resume=True)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["cascade.json"]


def test_arms_are_joined_by_seed_and_case(tmp_path):
    """The rows come in any order and each arm has a seed that the other lacks; position would pair others."""
    study = Study(tmp_path / "s")
    found = {("unet", 0): "ab", ("unet", 1): "cd", ("cascade", 1): "dc", ("cascade", 2): "ef"}
    for (arm, seed), cases in found.items():
        study.add(
            "cases", [{"seed": seed, "arm": arm, "case": c, "iou": ord(c) / 100 + (arm == "unet")} for c in cases]
        )
    first, second, seeds = study.pairs("unet", "cascade")
    np.testing.assert_allclose(first, [1.99, 2.0])
    np.testing.assert_allclose(second, [0.99, 1.0])
    assert seeds.tolist() == [1, 1]
    other = Study(tmp_path / "other")
    other.add("cases", [{"seed": 2, "arm": "cascade", "case": c, "iou": 0.5} for c in "fe"])
    first, second, _ = other.pairs("cascade", "cascade", other=study)
    np.testing.assert_allclose(second, [1.01, 1.02])
    other.add("cases", [{"seed": 2, "arm": "cascade", "case": "g", "iou": 0.5}])
    with pytest.raises(SegdetError, match=r"cascade in .*s lacks case g of seed 2"):
        other.pairs("cascade", "cascade", other=study)
    with pytest.raises(SegdetError, match=rf"cascade in {re.escape(str(study.folder))} lacks case g of seed 2"):
        study.pairs("cascade", "cascade", other=other)
    with pytest.raises(SegdetError, match="no seed in common"):
        study.pairs("unet", "cascade", other=other)


def test_a_new_column_is_empty_in_the_rows_before_it(tmp_path):
    study, row = Study(tmp_path), {"seed": 0, "arm": "unet", "case": "a", "iou": 0.5}
    study.add("cases", [row])
    study.add("cases", [row | {"case": "b", "dice": 0.75}])
    study.add("cases", [{"seed": 0, "arm": "unet", "case": "c", "iou": 0.25}])
    assert [row["dice"] for row in study.table("cases")] == ["", 0.75, ""]
    assert study.column("unet").tolist() == [0.5, 0.5, 0.25]


def test_rows_of_other_code_are_not_mixed(tmp_path, monkeypatch):
    def rows(arm):
        return lambda *_: [("cases", [{"seed": 0, "arm": arm, "case": "a", "iou": 0.5}])]

    whole = Study(tmp_path / "s")
    assert whole.fill({"profile": "x"}, rows("unet"), report=str)
    assert whole.fill({"profile": "x"}, rows("box3d"), resume=True, report=str)
    commit = whole.manifest["commit"]
    monkeypatch.setattr(study, "code_digest", lambda: "another")
    before = (tmp_path / "s/manifest.json").read_bytes()
    with pytest.raises(SegdetError, match=r"made by other code \(commit .*\); check that out to go on, or name"):
        whole.fill({"profile": "x", "study": "new"}, rows("cascade"), resume=True, report=str)
    assert (tmp_path / "s/manifest.json").read_bytes() == before
    assert {row["arm"] for row in whole.table("cases")} == {"unet", "box3d"}
    assert whole.manifest["commit"] == commit


def test_the_code_is_that_of_what_decides_results(tmp_path, monkeypatch):
    package = tmp_path / "segdet"
    shutil.copytree(ROOT / "segdet", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "__file__", str(package / "runtime/provenance.py"))
    digest = provenance.code_digest.__wrapped__
    before = digest()
    for name, same in (("figures/plots.py", True), ("cli/app.py", True), ("boxes.py", False)):
        (package / name).write_text((package / name).read_text() + "X = 1\n")
        assert (digest() == before) is same, name
