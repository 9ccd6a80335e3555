"""The claims against a study made by hand, and the file that binds them to its tables."""

import json
import re
import shlex

import numpy as np
import pytest
from conftest import ROOT
from test_protocol import TINY
from typer.main import get_command

from segdet.analysis import measures
from segdet.analysis.claims import (
    CLAIMS,
    as_facts,
    check_claims,
    command_of,
    in_numbers,
    judge_claims,
    write_claims,
)
from segdet.cli.app import app
from segdet.errors import SegdetError
from segdet.experiments.ablation import phantom_version
from segdet.experiments.config import Plan, get_profile
from segdet.experiments.protocol import with_steps
from segdet.experiments.study import Study


@pytest.fixture
def study(tmp_path):
    """Three seeds of four scans: ours gains 0.1, 0.2, 0.3 over the U-Net, and the mask lies 0.5 above both."""
    found = Study(tmp_path / "study")
    found.describe(
        protocol=2, kind="development", profile="tiny", settings={**vars(TINY)}, data="phantom", commit="abc"
    )
    for seed in range(3):
        gain = 0.1 * (seed + 1)
        for arm, score in {"unet": 0.3, "cascade": 0.3 + gain, "box3d": 0.8}.items():
            rough = {"unet": 0.5, "cascade": 0.2, "box3d": 0.1}[arm]
            cases = [{"iou": score + 0.01 * k, "roughness_mm": rough} for k in range(4)]
            if (arm, seed) == ("unet", 1):
                cases[0]["roughness_mm"] = float("nan")  # an empty mask
            found.add("cases", [{"seed": seed, "arm": arm, "case": f"c{k}"} | case for k, case in enumerate(cases)])
        for arm, losses in {"unet": (3.0, 0.3, 0.08, 0.04), "cascade": (0.3, 0.02, 0.02, 0.02)}.items():
            found.add(
                "loss", [{"seed": seed, "arm": arm, "step": 10 * i + 10, "loss": v} for i, v in enumerate(losses)]
            )
        for arm, values in {"unet": (0.2, 0.5, 0.6), "cascade": (0.55, 0.6, 0.7)}.items():
            rows = [{"step": 50 * i + 50, "validation": v, "test": v} for i, v in enumerate(values)]
            found.add("curves", [{"seed": seed, "arm": arm} | row for row in rows])
        for arm in ("unet", "cascade"):  # the gain falls by 0.01 a dB
            rows = [(db, 0.2 + 0.02 * db + (arm == "cascade") * (0.3 - 0.01 * db)) for db in (0.0, 2.0, 8.0)]
            found.add(
                "dials",
                [{"seed": seed, "arm": arm, "part": "contrast_db", "step": x, "case": "c0", "iou": y} for x, y in rows],
            )
    return found


@pytest.mark.parametrize("folder", ["protocol2-laptop", "protocol2-quick", "protocol2-hippocampus"])
def test_the_command_of_a_claim_asks_for_the_same_study(folder):
    study = Study(ROOT / "results" / folder)
    command = shlex.split(command_of(CLAIMS[0], study))
    assert command[:2] == ["segdet", "confirm"]
    asked = get_command(app).commands["confirm"].make_context("confirm", command[2:]).params
    size = with_steps(get_profile(asked["profile"].value), asked["steps"])
    plan = Plan(size, tuple(asked["arms"].split(",")), asked["data"], asked["label"], asked["preset"], 2)
    data = plan.data if plan.label is None else f"{plan.data}, label {plan.label}"
    version = phantom_version(plan) if data == "phantom" else None
    there = study.manifest
    assert (size.name, data, version) == tuple(there[key] for key in ("profile", "data", "phantom_version"))
    assert json.loads(json.dumps(vars(size))) == there["settings"] | {"segmenter_steps": size.segmenter_steps}
    assert (asked["out"], asked["resume"], plan.arms) == (study.folder, True, CLAIMS[0].arms)


def test_the_command_of_a_claim_of_a_development_study(study):
    command = f"--profile tiny --steps {TINY.segmenter_steps} --arms cascade,unet --out {study.folder} --resume"
    assert command_of(CLAIMS[0], study) == f"segdet confirm --development {command}"


def test_quantities_by_hand(study):
    values, seeds = measures.difference("cascade", "unet")(study)
    assert values == pytest.approx(np.repeat([0.1, 0.2, 0.3], 4))
    assert seeds.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    # a tenth of the mean start is 0.165; means of two windows: 1.65, 0.19, 0.06 reach it with the third, 0.16 at once
    assert measures.faster_to_a_loss(study) == ([20.0] * 3, None)
    for seed, arm, last in ((7, "unet", 1.0), (7, "cascade", 0.02), (8, "unet", 0.02)):  # seed 8 has one arm alone
        rows = [{"step": 10 * i + 10, "loss": v} for i, v in enumerate([1.0] + [last] * 5)]
        study.add("loss", [{"seed": seed, "arm": arm} | row for row in rows])
    assert measures.faster_to_a_loss(study) == ([20.0] * 3 + [30.0], None)  # all six windows, and three
    study.add("curves", [{"seed": 0, "arm": "unet-best", "step": 25, "validation": 0.1, "test": 0.1}])
    assert measures.faster_to_an_iou(study) == ([50.0] * 3, None)  # 0.6 after 150 and after 100 steps
    alone = {"seed": 3, "arm": "unet", "part": "contrast_db", "step": 0.0, "case": "c0", "iou": 0.5}
    study.add("dials", [alone])
    assert measures.gain_over("contrast_db", -1)(study)[0] == pytest.approx([0.01] * 3)
    assert measures.gain_over("noise_db", 1)(study) == ([], None)
    for arm, step, iou in (("unet", 1, 0.5), ("unet", 3, 0.6), ("cascade", 1, 0.8), ("cascade", 3, 0.7)):
        row = {"seed": 0, "arm": f"{arm}-alike", "part": "noise_db", "step": step, "case": "c0", "iou": iou}
        study.add("dials", [row])
    assert measures.gain_over("noise_db", 1)(study) == ([], None)
    assert measures.gain_over("noise_db", 1, "-alike")(study)[0] == pytest.approx([-0.1])  # from 0.3 to 0.1 in two dB


def test_unrest_by_hand(study):
    """Around a level of 2 the U-Net's loss swings by 0.2 in the last nine windows, ours by nothing; a trend is none."""
    assert measures.calmer(study) == ([], None)  # four windows are too few
    swing = 2 + 0.2 * np.array([1, -1, 0, 0, 0, 0, 0, -1, 1])  # no slope
    for arm, last in (("unet", swing), ("cascade", np.linspace(2, 1, 9))):
        curve = [5.0] * 18 + last.tolist()
        study.add("loss", [{"seed": 7, "arm": arm, "step": 10 * i + 10, "loss": v} for i, v in enumerate(curve)])
    assert measures.calmer(study)[0] == pytest.approx([0.1 * np.sqrt(4 / 9)])
    # of nine windows the last three: sqrt(2) / 3 around 4 / 3, and half of it around 7 / 6; eight are too few
    for seed, count in ((8, 9), (9, 8)):
        for arm, last in (("unet", [1, 2, 1]), ("cascade", [1, 1.5, 1])):
            curve = [5.0] * (count - 3) + last
            study.add("loss", [{"seed": seed, "arm": arm, "step": 10 * i + 10, "loss": v} for i, v in enumerate(curve)])
    assert measures.calmer(study)[0][1:] == pytest.approx([np.sqrt(2) / 4 - np.sqrt(2) / 7])


def test_the_detector_looks_at_every_slice_of_a_scan(study, monkeypatch):
    monkeypatch.setattr(measures, "operations", lambda profile: {"detector_slice": 2.0, "segmenter_volume": 64.0})
    assert measures.work_saved(study) == ([-8 * 2 / 64] * 3, None)  # of 8 slices, in three seeds


def test_boxes_are_compared_on_test_scans(study):
    for arm, part, case, score in (
        ("detector-book", "test", "c0", 0.7),
        ("detector-random", "test", "c0", 0.5),
        ("detector-book", "train", "t0", 0.9),
        ("detector-random", "train", "t0", 0.1),
        ("detector-book", "test", "c1", 0.7),  # the other detector has not seen it
    ):
        study.add("detector", [{"seed": 1, "part": part, "arm": arm, "case": case, "box_iou": score}])
    values, seeds = measures.better_boxes(study)
    assert (values, seeds) == ([pytest.approx(0.2)], [1])
    verdicts = {claim.key: verdict for claim, verdict, _ in judge_claims(study)}
    assert verdicts["8a"] == "not run"  # no masks of that detector
    assert verdicts["8b"] == "inconclusive"  # its boxes are enough, and one seed says nothing


def test_slopes_of_doses_by_hand(study):
    for seed, slope in ((0, 0.5), (1, 1.5)):
        rows = [("none", 1.0, "c0"), ("none", 0.9, "c1"), ("moved-10", 0.8, "c0"), ("moved-30", 0.5, "c0")]
        study.add(
            "doses",
            [
                {
                    "seed": seed,
                    "arm": "slicebox",
                    "part": part,
                    "case": case,
                    "attention_iou": x,
                    "iou": slope * x + 0.1,
                }
                for part, x, case in rows
            ],
        )
    study.add("doses", [{"seed": 2, "arm": "slicebox", "part": "none", "case": "c0", "attention_iou": 1.0, "iou": 1.0}])
    assert measures.gain_from_better_boxes(study)[0] == pytest.approx([0.5, 1.5])  # seed 2 has one point yet
    for seed in (0, 1):
        found = {"slicebox": 0.95, "moved-10": 0.7, "moved-30": 0.4}
        study.add("cases", [{"seed": seed, "arm": arm, "case": "c0", "iou": y} for arm, y in found.items()])
    slope = (0.7 / 3 * 0.8 / 3 + 0.1 / 3 * 0.05 / 3 + 0.8 / 3 * 0.85 / 3) / ((0.49 + 0.01 + 0.64) / 9)
    assert measures.gain_from_better_boxes_in_training_too(study)[0] == pytest.approx([slope, slope])  # 1.092


def test_verdicts(study):
    found = {claim.key: (verdict, finding) for claim, verdict, finding in judge_claims(study)}
    assert found.keys() == {claim.key for claim in CLAIMS}
    verdict, finding = found["1"]
    assert finding.difference == pytest.approx(0.2)
    low, high = finding.interval  # 0.2 -+ 4.302653 * 0.1 / sqrt(3)
    assert (low, high) == pytest.approx((0.2 - 0.248414, 0.2 + 0.248414), abs=1e-5)
    assert verdict == "inconclusive"
    assert found["2"][0] == "reversed"
    assert found["2b"][0] == "reversed"
    assert found["2b"][1].p_holm >= 0  # all equal: no chance
    assert found["7"][1].values == pytest.approx((0.3, 0.3, 0.3))  # without the empty mask
    assert found["10"][0] == "reversed"  # a detector beside the segmenter is more work
    assert found["9b"][0] == "not run"  # no scan with another noise was looked at
    assert found["11"] == ("not run", None)


def test_no_dial_turns_a_real_scan(study):
    path = study.folder / "manifest.json"
    path.write_text(json.dumps(study.manifest | {"data": "a folder"}))
    assert {claim.key: verdict for claim, verdict, _ in judge_claims(study)}["9b"] == "untestable"


def test_the_file_is_bound_to_the_tables(study, tmp_path):
    path = tmp_path / "claims.json"
    facts = write_claims(study, path)
    assert facts["tables"].keys() == {"cases.csv", "loss.csv", "curves.csv", "dials.csv"}
    check_claims(path)
    study.add("persons", [{"seed": 0, "arm": "person", "case": "c0", "iou": 0.9}])
    with pytest.raises(SegdetError, match=r"persons\.csv is not the table"):
        check_claims(path)
    write_claims(study, path)
    lied = json.loads(path.read_text())
    lied["claims"][0]["verdict"] = "reproduced"
    path.write_text(json.dumps(lied))
    with pytest.raises(SegdetError, match="claim 1 does not follow from its tables"):
        check_claims(path)
    write_claims(study, path)
    study.add("cases", [{"seed": 0, "arm": "unet", "case": "c0", "iou": 0.9}])
    with pytest.raises(SegdetError, match=r"cases\.csv is not the table"):
        check_claims(path)


def test_a_list_of_claims_that_is_not_whole_is_one_line(study, tmp_path):
    path = tmp_path / "claims.json"
    facts = write_claims(study, path)
    order = "1, 2, 2b, 3a, 3b, 4a, 4b, 5, 6a, 6b, 7, 8a, 8b, 9a, 9b, 10, 11"
    for kept, told in ((facts["claims"][1:], order[3:]), (facts["claims"] * 2, f"{order}, {order}"), ([], "none")):
        path.write_text(json.dumps(facts | {"claims": kept}))
        with pytest.raises(SegdetError) as error:
            check_claims(path)
        assert str(error.value) == f"{path}: its claims are {told}; expected {order}; run `segdet claims`"


def test_each_p_value_says_what_corrects_it(study):
    for seed, slope in enumerate((0.01, -0.01, 0.02)):  # of the gain with the noise
        for arm, db in (("unet", -60.0), ("unet", -50.0), ("cascade", -60.0), ("cascade", -50.0)):
            row = {"seed": seed, "arm": arm, "part": "noise_db", "step": db, "case": "c0"}
            study.add("dials", [row | {"iou": 0.5 + (arm == "cascade") * slope * (db + 60)}])
    claims = {claim["claim"]: claim for claim in as_facts(study)["claims"]}
    p = {key: claim["p_holm"] for key, claim in claims.items() if "p_holm" in claim}
    assert p.keys() == {"1", "2", "2b"}
    assert p["1"] == pytest.approx(0.0741799)  # t = 0.2 / (0.1 / sqrt(3)) = 3.4641, the largest of the three
    assert p["2"] == pytest.approx(2 * 0.0350987)  # t = -0.3 / (0.1 / sqrt(3)), the next
    alone = {key: claim["p"] for key, claim in claims.items() if "p" in claim}
    assert alone.pop("9b") == pytest.approx(0.528595)  # 1 - t / sqrt(2 + t^2), t = sqrt(4 / 7), alone
    assert alone == {"4a": 0, "4b": 0, "7": 0, "9a": pytest.approx(0, abs=1e-9), "10": None}
    assert [(key, claim["seeds"]) for key, claim in claims.items() if claim.get("seeds", 3) != 3] == [("10", None)]


def test_one_seed_has_no_interval_and_a_count_needs_none(study):
    path = study.folder / "cases.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *(row for row in rows if row.startswith("0,"))]) + "\n")
    claims = {claim["claim"]: claim for claim in as_facts(study)["claims"]}
    assert (claims["1"]["interval"], claims["1"]["verdict"]) == (None, "inconclusive")
    assert in_numbers(claims["1"]) == "IoU, cascade - unet: +0.100 (one seed, no interval)"
    low, high = claims["10"]["interval"]
    assert (low, claims["10"]["verdict"]) == (high, "reversed")
    narrow = {"measure": "IoU", "ours": 0.03, "interval": [0.02996, 0.03004], "seeds": 3}
    assert in_numbers(narrow) == "IoU: +0.030 (+0.030 to +0.030)"
    assert in_numbers(narrow | {"seeds": None}) == "IoU: +0.030 (counted)"


NO_CLAIMS = [
    '{"claims": []}',
    '{"study": "a", "tables": [], "claims": []}',
    '{"study": "a", "tables": {}, "claims": [1]}',
]


@pytest.mark.parametrize("text", ["[]", "{}", "no JSON", *NO_CLAIMS])
def test_a_file_of_something_else_holds_no_claims(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(SegdetError, match=r"other\.json: holds no claims; write them with `segdet claims`"):
        check_claims(path)


def test_cases_of_another_study_make_no_verdict(study):
    """Rows that no run made, rows of another commit, and an overlap that is none."""
    runs = [{"seed": s, "arm": a, "commit": "abc"} for s, a in sorted(study.done())]
    study.add("runs", runs)
    judge_claims(study)
    cases = study.folder / "cases.csv"
    kept = cases.read_text()
    study.add("cases", [{"seed": 99, "arm": "unet", "case": "c0", "iou": 0.9}])
    with pytest.raises(SegdetError, match=r"cases\.csv: row \d+: seed 99, unet is no run of runs\.csv; restore both"):
        judge_claims(study)
    for value in ("1.7", "-3", "nan"):
        cases.write_text(kept)
        study.add("cases", [dict(study.table("cases")[0]) | {"iou": float(value)}])
        with pytest.raises(SegdetError, match=rf"cases\.csv: row 1: its iou is {value}.*; expected 0 to 1"):
            judge_claims(study)
    cases.write_text(kept)
    study.add("cases", [dict(row) | {"commit": "abc"} for row in study.table("cases")])
    judge_claims(study)
    study.add("cases", [dict(study.table("cases")[0]) | {"commit": "def"}])
    with pytest.raises(SegdetError, match=r"cases\.csv: row 1: .* is no run of runs\.csv"):
        judge_claims(study)


@pytest.mark.parametrize(("key", "value"), [("data", 5), ("phantom_version", 5), ("settings", "x")])
def test_a_manifest_of_other_types_is_one_line(study, key, value):
    path = study.folder / "manifest.json"
    path.write_text(json.dumps(study.manifest | {key: value}))
    with pytest.raises(SegdetError, match=rf"manifest\.json: its {key} is {value!r}; restore it"):
        judge_claims(study)


def test_claims_replace_claims_alone(study, tmp_path):
    write_claims(study, tmp_path / "claims.json")
    write_claims(study, tmp_path / "claims.json")
    before = (study.folder / "manifest.json").read_bytes()
    with pytest.raises(SegdetError, match=r"manifest\.json: is there already and holds no claims"):
        write_claims(study, study.folder / "manifest.json")
    assert (study.folder / "manifest.json").read_bytes() == before


def test_the_command_names_the_unit_of_each_number(study, capsys):
    get_command(app).main(["claims", str(study.folder)], standalone_mode=False)
    told = capsys.readouterr().out.splitlines()
    assert told[0].split("  ") == ["1", " ours is better than the 3D U-Net", *[""] * 9, " inconclusive"]
    assert told[1] == "    IoU, cascade - unet: +0.200 (-0.048 to +0.448)"
    assert "    steps saved to a common validation IoU: +50.0 (+50.0 to +50.0)" in told  # three seeds agree
    assert "    fall of the gain with contrast, IoU a dB: +0.010 (+0.010 to +0.010)" in told
    assert not [line for line in told if re.search(r"[+-]\d", line) and not re.match(r"    [^:+]{3,}: ", line)]
    assert told[-1] == "development seeds, commit abc"


def test_only_protocol_2_has_claims(tmp_path):
    with pytest.raises(SegdetError, match=r"results/laptop: holds no study of protocol 2; make one with"):
        write_claims(Study("results/laptop"), tmp_path / "c.json")


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("**/claims.json")), ids=str)
def test_the_claims_that_the_book_prints_follow_from_its_tables(path):
    check_claims(path, ROOT)


def test_masks_that_are_all_empty_make_one_claim_untestable(study):
    before = {claim.key: (verdict, finding) for claim, verdict, finding in judge_claims(study)}
    iou = {row["case"]: row["iou"] for row in study.table("cases") if (row["arm"], row["seed"]) == ("unet", 1)}
    empty = {"seed": 1, "arm": "unet", "roughness_mm": float("nan")}
    study.add("cases", [empty | {"case": case, "iou": value} for case, value in iou.items()])
    after = {claim.key: (verdict, finding) for claim, verdict, finding in judge_claims(study)}
    assert after.pop("7") == ("untestable", None)
    assert before.pop("7")[0] == "reproduced"
    assert after == before  # Holm's correction of the primary three as well


def test_arms_without_a_common_seed_are_not_compared(study):
    study.add("cases", [{"seed": 9, "arm": "person", "case": "c0", "iou": 0.9, "roughness_mm": 0.1}])
    found = {claim.key: verdict for claim, verdict, _ in judge_claims(study)}
    assert (found["11"], found["2"]) == ("not run", "reversed")


def test_a_dial_that_was_turned_to_one_value_has_no_slope(study):
    for arm in ("unet", "cascade"):
        row = {"seed": 0, "arm": arm, "part": "noise_db", "step": -60.0, "case": "c0", "iou": 0.5}
        study.add("dials", [row])
    assert {claim.key: verdict for claim, verdict, _ in judge_claims(study)}["9b"] == "untestable"


@pytest.mark.parametrize("key", ["data", "kind", "settings", "profile"])
def test_a_manifest_that_lacks_a_fact_is_named(study, tmp_path, key):
    path = study.folder / "manifest.json"
    path.write_text(json.dumps({name: value for name, value in study.manifest.items() if name != key}))
    with pytest.raises(SegdetError, match=rf"study/manifest\.json: does not say '{key}'; restore the file"):
        write_claims(study, tmp_path / "claims.json")


def test_a_manifest_that_lacks_a_setting_is_named(study):
    settings = {name: value for name, value in study.manifest["settings"].items() if name != "segmenter_steps"}
    (study.folder / "manifest.json").write_text(json.dumps(study.manifest | {"settings": settings}))
    with pytest.raises(SegdetError, match=r"manifest\.json: does not say 'segmenter_steps'; restore the file"):
        command_of(CLAIMS[0], study)
    with pytest.raises(SegdetError, match=r"its settings are no profile's \(.*'segmenter_steps'\); restore the file"):
        judge_claims(study)
