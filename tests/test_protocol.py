"""Protocol 2: what it refuses, equal terms for every arm, and a whole tiny study that is interrupted and goes on."""

import dataclasses
import subprocess
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy import ndimage

from segdet.errors import SegdetError
from segdet.experiments import ablation, probes, protocol, runs
from segdet.experiments.ablation import run_study
from segdet.experiments.cases import as_coarse_as_the_segmenter, fold_split, grids_for, phantom_requests, prepare
from segdet.experiments.config import ARMS, Plan, Profile, get_profile
from segdet.experiments.planning import work_left
from segdet.experiments.protocol import (
    PRIMARY,
    SECONDARY,
    arms_of,
    check_terms,
    chosen_seeds,
    detector_recipe,
    last_quarter_rise,
    segmenter_recipe,
    stages_of,
    with_steps,
)
from segdet.experiments.scores import FAILURES, attribute, on_own_grid, score_scan
from segdet.experiments.study import Study
from segdet.metrics import iou, roughness
from segdet.phantom import make
from segdet.proposals import Proposals
from segdet.rpn_loss import Sampling
from segdet.runtime import provenance
from segdet.training.augment import augment_volume
from segdet.training.recipes import Recipe, SegmenterRecipe
from segdet.unet3d import UNet3D
from segdet.volume import Volume

TINY = Profile("tiny", (8, 96, 64), (8, 12, 8), 4, 2, 4, 2, 2, 1, 2, "resnet18")
TRIED = Plan(TINY, (), protocol=2)


@pytest.fixture
def tiny_phantoms(small_phantoms, monkeypatch):
    """Small phantoms whose contrast can be changed, and two values of that dial alone."""
    small = make.make_phantom
    monkeypatch.setattr(make, "make_phantom", lambda seed, side=None, contrast_db=6.0, **more: small(seed, side=side))
    monkeypatch.setattr(probes, "DIALS", {"contrast_db": (2.0, 6.0)})
    monkeypatch.setattr(probes, "STEPS", (1, 4))
    monkeypatch.setattr(probes, "DOSES", {"moved-30": probes.DOSES["moved-30"]})


# --- what it refuses


def test_seeds_of_either_kind():
    assert list(chosen_seeds("laptop")) == list(range(100, 110))
    assert list(chosen_seeds("laptop", 2)) == [100, 101]
    assert list(chosen_seeds("laptop", 1)) == [100]
    assert list(chosen_seeds("quick", 2)) == [110, 111]
    assert list(chosen_seeds("quick", 3, development=True)) == [0, 1, 2]
    with pytest.raises(SegdetError, match=r"has 5 development seeds, 0 to 4; found --seeds 6"):
        chosen_seeds("laptop", 6, development=True)
    with pytest.raises(SegdetError, match=r"has 10 confirmatory seeds, 100 to 109; found --seeds 0"):
        chosen_seeds("laptop", 0)


def test_what_is_not_frozen_confirms_nothing(monkeypatch):
    ready = dataclasses.replace(TRIED, preset="iu22")
    monkeypatch.setattr(protocol, "uncommitted", lambda paths: [])
    assert check_terms(ready, range(100, 110)) == "confirmatory"
    assert check_terms(TRIED, [0, 4]) == check_terms(TRIED, range(5)) == "development"
    folder = dataclasses.replace(TRIED, data="scans")
    assert check_terms(folder, range(5)) == "folds"
    with pytest.raises(SegdetError, match="has 5 folds of a folder of scans; found --seeds 6"):
        check_terms(folder, range(6))
    with pytest.raises(SegdetError, match=r"never both in one study; found 4, 100"):
        check_terms(ready, [100, 4])
    with pytest.raises(SegdetError, match="found 110"):
        check_terms(ready, [110])
    quick = dataclasses.replace(ready, profile=get_profile("quick"))
    assert check_terms(quick, range(110, 120)) == "confirmatory"
    with pytest.raises(SegdetError, match="110 to 119 to confirm, never both in one study; found 100"):
        check_terms(quick, [100])
    with pytest.raises(SegdetError, match="decides on hips of the preset iu22, not version 1"):
        check_terms(TRIED, [100])
    monkeypatch.setattr(protocol, "uncommitted", lambda paths: ["segdet/boxes.py", "book/protocol.md"])
    with pytest.raises(SegdetError, match=r"segdet/boxes\.py and 1 more: not committed, so nothing is confirmed"):
        check_terms(ready, [100])
    assert check_terms(ready, [0]) == "development"
    monkeypatch.setattr(protocol, "uncommitted", lambda paths: ["segdet/boxes.py"])
    with pytest.raises(SegdetError, match=r"^segdet/boxes\.py: not committed"):
        check_terms(ready, [100])
    monkeypatch.setattr(protocol, "uncommitted", lambda paths: None)
    with pytest.raises(SegdetError, match="the commit of this code is not known"):
        check_terms(ready, [100])


def test_a_confirmatory_study_on_a_changed_tree_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "uncommitted", lambda paths: ["segdet/boxes.py"])
    with pytest.raises(SegdetError, match="not committed"):
        run_study(dataclasses.replace(TRIED, arms=("unet",), preset="iu22"), [100], tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_uncommitted_is_what_git_says(tmp_path, monkeypatch):
    def git(*arguments):
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True
        )

    (tmp_path / "segdet/runtime").mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "segdet/runtime/provenance.py"))
    assert provenance.uncommitted(["segdet"]) is None  # no checkout
    git("init", "-q")
    for name in ("segdet/a.py", "b.py"):
        (tmp_path / name).write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    assert provenance.uncommitted(["segdet"]) == []
    (tmp_path / "b.py").write_text("2\n")
    assert provenance.uncommitted(["segdet"]) == []  # it does not count
    (tmp_path / "segdet/a.py").write_text("2\n")
    (tmp_path / "segdet/new.py").write_text("2\n")
    assert provenance.uncommitted(["segdet"]) == ["segdet/a.py", "segdet/new.py"]


def test_what_is_frozen_is_there():
    for path in protocol.FROZEN:
        assert (ROOT / path).exists()


def test_development_rows_do_not_enter_a_confirmatory_study(tmp_path):
    study = Study(tmp_path)
    study.describe(protocol=2, kind="confirmatory")
    with pytest.raises(SegdetError, match="holds a study with kind 'confirmatory', not 'development'"):
        study.describe(protocol=2, kind="development")


# --- equal terms


def test_folds_share_no_scan():
    profile = get_profile("laptop")
    splits = [fold_split(list(range(260)), profile, fold) for fold in range(5)]
    assert [len(part) for part in splits[0]] == [10, 4, 38]
    used = [scan for split in splits for part in split for scan in part]
    assert len(set(used)) == len(used) == 260
    assert fold_split(list(range(260)), profile, 3) == splits[3]
    with pytest.raises(SegdetError, match="5 folds of a folder of scans, 0 to 4; found 5"):
        fold_split(list(range(260)), profile, 5)


def test_the_detector_sees_no_finer_than_the_segmenter():
    mask = np.zeros((8, 48, 32), bool)
    mask[2:6, 16:32, 8:24] = True
    fine, ramp = np.indices(mask.shape)[1] % 2, np.indices(mask.shape)[2]  # stripes of one row each; a slope
    volume = Volume.from_spacing(100.0 * fine + ramp, (1, 1, 1), mask)
    case = prepare(volume, grids_for([volume], dataclasses.replace(TINY, detector_shape=(8, 48, 32))))
    coarse = as_coarse_as_the_segmenter(case)
    assert coarse.slices.shape == case.slices.shape
    assert case.slices[0, :, 16].diff().abs().min() > 0.5
    assert coarse.slices[0, :, 16].diff().abs().max() < 1e-5  # four rows become one, so the stripes are gone
    inside = slice(4, -4)
    step = coarse.slices[0, 20, inside].diff()
    assert step.max() == pytest.approx(float(step.min()), abs=1e-4)  # and the slope stays, where nothing ends
    assert torch.equal(coarse.boxes, case.boxes)
    assert torch.equal(coarse.image, case.image)
    assert coarse.identity != case.identity


def test_every_arm_starts_equal_and_sees_the_same_batches(small_phantoms):
    """D7 of the first study: 0 of 18 weights agreed between networks of one and of two channels."""
    starts, seen = [], []

    def network(channels):
        built = UNet3D(channels, 2, 4)
        starts.append([p.detach().clone() for p in built.parameters()])
        order = []
        built.register_forward_pre_hook(lambda m, x: order.append(x[0].clone()) if m.training else None)
        seen.append(order)
        return built

    run = runs.Run(TRIED, 0, network=network)
    names = ("unet", "box3d", "slicebox")
    for name in names:
        run.segmenter(name)
    for weights, order in zip(starts[1:], seen[1:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(starts[0], weights, strict=True))
        assert len(order) == TINY.segmenter_steps
        assert all(torch.equal(a[:, :1], b[:, :1]) for a, b in zip(seen[0], order, strict=True))
    assert not any(x[:, 1].any() for x in seen[0])  # no attention is a channel of zeros
    assert all(x[:, 1].any() for x in seen[1])


def test_arms_at_their_best_and_blind_ones(small_phantoms, monkeypatch):
    found = []
    monkeypatch.setattr(runs, "train_segmenter", lambda *_, **more: found.append(more["recipe"]))
    run = runs.Run(TRIED, 0)
    monkeypatch.setattr(runs.Run, "attention", lambda *_: None)
    monkeypatch.setattr(runs.Run, "detector_history", dataclasses.make_dataclass("H", ["identity"])("x"))
    for name in ("cascade", "unet-best", "crop"):
        run.segmenter(name)
    usual, best, blind = found
    assert usual == SegmenterRecipe(mirrored=True)
    assert (best.effort, best.mirrored, best.blind) == (4, True, False)
    assert blind == SegmenterRecipe(mirrored=True, blind=True)
    attention = np.ones((2, 2, 2), bool)
    assert not blind.shown(attention).any()
    assert usual.shown(attention) is attention


def test_augmentation_moves_image_attention_and_annotation_together():
    torch.manual_seed(0)
    target = torch.zeros(1, 12, 16, 20, dtype=torch.long)
    target[:, 3:8, 4:12, 2:9] = 1
    x = torch.stack([target[0].float() * 3, target[0].float()])[None]
    for recipe in (SegmenterRecipe(mirrored=True), SegmenterRecipe(mirrored=True, zoom=0.15)):
        for seed in range(6):
            y, moved = augment_volume(x, target, torch.Generator().manual_seed(seed), recipe)
            assert y.shape == x.shape
            assert torch.equal(y[:, 1], moved.float())
            assert iou((y[0, 0] > 1.5).numpy(), moved[0].numpy()) > 0.85
    flipped = [
        torch.equal(
            augment_volume(x, target, torch.Generator().manual_seed(s), SegmenterRecipe(mirrored=True))[1], target
        )
        for s in range(400)
    ]
    assert 165 < sum(flipped) < 235
    same = augment_volume(x, target, torch.Generator(), SegmenterRecipe())
    assert same[0] is x
    assert same[1] is target
    grey, _ = augment_volume(x, target, torch.Generator().manual_seed(1), SegmenterRecipe(gain=0.2))
    assert torch.equal(grey[:, 1], x[:, 1])
    line = np.polyfit(x[0, 0].flatten(), grey[0, 0].flatten(), 1)
    assert 0.8 < line[0] < 1.2
    assert -0.1 < line[1] < 0.1


def test_how_a_volume_is_stretched_by_hand():
    """Grey by a draw of a factor and of half a shift; places by three draws of a stretch and three of a move."""
    generator = torch.Generator().manual_seed(5)
    x, target = torch.rand(1, 2, 12, 16, 20, generator=generator), torch.arange(3840).view(1, 12, 16, 20)
    grey, same = augment_volume(x, target, torch.Generator().manual_seed(1), SegmenterRecipe(gain=0.2))
    factor, shift = 0.2 * (2 * torch.rand(2, generator=torch.Generator().manual_seed(1)) - 1)
    torch.testing.assert_close(grey[:, :1], x[:, :1] * (1 + factor) + shift / 2)
    assert same is target
    zoomed, moved = augment_volume(x, target, torch.Generator().manual_seed(2), SegmenterRecipe(zoom=0.15))
    generator.manual_seed(2)
    stretch, move = (0.15 * (2 * torch.rand(3, generator=generator).double().numpy() - 1) for _ in range(2))
    places = []
    for n, wide, away in zip((12, 16, 20), stretch[::-1], move[::-1], strict=True):  # drawn in the order x, y, z
        at = ((2 * np.arange(n) + 1) / n - 1) / (1 + wide) + away
        places.append(((at + 1) * n - 1) / 2)
    at = np.meshgrid(*places, indexing="ij")
    linear = ndimage.map_coordinates(x[0, 0].double().numpy(), at, order=1, mode="nearest")
    np.testing.assert_allclose(zoomed[0, 0], linear, atol=1e-4)
    inside = [(p > -0.5) & (p < n - 0.5) for p, n in zip(places, (12, 16, 20), strict=True)]
    nearest = target[0].numpy()[np.ix_(*(np.rint(p).astype(int).clip(0, len(p) - 1) for p in places))]
    np.testing.assert_array_equal(moved[0], np.where(np.einsum("i,j,k->ijk", *inside), nearest, 0))


def test_scores_are_on_the_scan_s_own_grid(small_phantoms):
    run = runs.Run(TRIED, 0)
    case = run.test[0]
    assert case.annotation.shape == (16, 48, 32)
    perfect = on_own_grid(case.mask.astype(np.float32), case)
    assert perfect.shape == case.annotation.shape
    assert 0.5 < iou(perfect, case.annotation) < 1  # the coarse grid alone costs so much
    assert run.train[0].annotation is None


def test_wrong_voxels_by_stage():
    annotation, mask, attention = np.zeros((3, 3, 2, 2), bool)[:, :, :, :]
    annotation[0], annotation[1] = True, True  # of the third slice nothing is the object
    attention[1, 0], attention[2] = True, True
    mask[1, 0, 0], mask[2, 0] = True, True
    mask[0, 0, 0] = True
    found = attribute(mask, annotation, attention)
    assert found == {"missed_slice": 3, "cut_off": 2, "overlooked": 1, "leaked": 2, "stray": 0}
    rng = np.random.default_rng(0)
    mask, annotation, attention = rng.random((3, 4, 5, 6)) < 0.4
    assert sum(attribute(mask, annotation, attention).values()) == np.count_nonzero(mask ^ annotation)


def test_the_row_of_a_scan_by_hand():
    """Of a square of 4 x 4 voxels two columns are found with just 0.5, two are not, and a voxel below is too much."""
    annotation, probability = np.zeros((3, 8, 8), bool), np.zeros((3, 8, 8), np.float32)
    annotation[1, 2:6, 2:6] = True
    probability[1, 2:6, 2:6] = 0.5, 0.5, 0.49, 0.49
    probability[1, 6, 2] = 0.6
    case = SimpleNamespace(spacing=(1, 1, 1), own_spacing=(1, 1, 1), annotation=annotation, mask=annotation)
    found = score_scan(probability, case, annotation)
    assert (found["iou"], found["dice"]) == (8 / 17, 16 / 25)
    # of 16 annotated voxels, all on the surface, 4 are 1 mm away and 4 are 2 mm; of the 9 found one is 1 mm
    assert found["surface_dice"] == pytest.approx(21 / 25)  # at most 1 mm
    assert found["assd_mm"] == pytest.approx((4 * 1 + 4 * 2 + 1) / 25)
    assert found["hd95_mm"] == 2
    assert found["roughness_mm"] == roughness(probability >= 0.5, (1, 1, 1))
    assert {name: found[name] for name in FAILURES} == dict.fromkeys(FAILURES, 0) | {"overlooked": 8, "stray": 1}


# --- the whole of it


def test_a_study_from_start_to_end(tiny_phantoms, tmp_path, monkeypatch):
    arms = ("unet", "cascade", "slicebox", "person", "cascade-literal")
    plan, lines = dataclasses.replace(TRIED, arms=arms), []
    order = []
    original = ablation.run_seed
    monkeypatch.setattr(
        ablation, "run_seed", lambda plan, seed, *more: order.append((seed, plan.arms)) or original(plan, seed, *more)
    )
    assert run_study(plan, [0, 1], tmp_path / "whole", report=lines.append)
    assert order == [(0, arms[:2]), (1, arms[:2]), (0, arms[2:]), (1, arms[2:])]  # primary arms first, over all seeds
    study = Study(tmp_path / "whole")
    assert (study.manifest["protocol"], study.manifest["kind"]) == (2, "development")
    assert not (tmp_path / "whole/checkpoints").exists()
    cases = study.table("cases")
    assert len(cases) == 2 * len(arms) * 2
    assert {"surface_dice", "roughness_mm", "commit", *FAILURES} <= cases[0].keys()
    assert all(row["annotation_roughness_mm"] > 0 for row in study.table("scans"))
    assert {row["commit"] for row in cases} == {study.manifest["commit"]}
    assert all(row["device"] and row["seconds"] >= 0 for row in study.table("runs"))
    assert {row["arm"] for row in study.table("detector")} == {"detector-book", "detector-literal"}
    curves = [row for row in study.table("curves") if (row["arm"], row["seed"]) == ("unet", 0)]
    assert [row["step"] for row in curves] == [2, 4]
    assert all(0 <= row["test"] <= 1 for row in curves)
    assert last_quarter_rise(study).keys() == set(arms)
    doses = [row for row in study.table("doses") if row["part"] == "none"]
    assert (len(doses), len(study.table("doses"))) == (4, 8)
    assert all(row["attention_iou"] == 1 for row in doses)
    persons = study.table("persons")
    assert {(row["part"], row["step"]) for row in persons} == {(p, s) for p in probes.PERSONS for s in (1, 4)}
    assert len(study.table("dials")) == 2 * 2 * 2 * 2  # seeds, arms, values, scans

    parts = dataclasses.replace(plan, arms=arms[:3])
    for _ in range(30):  # the same, stopped after every step
        if run_study(parts, [0], tmp_path / "parts", resume=True, max_minutes=0, report=lines.append):
            break
    else:
        pytest.fail("thirty steps do not end it")
    again = Study(tmp_path / "parts")
    for table in ("cases", "curves", "doses", "dials", "loss"):
        expected = [r for r in study.table(table) if r["seed"] == 0 and r["arm"] in (*arms[:3], "detector-book")]
        assert again.table(table) == expected, table


@pytest.mark.usefixtures("a_second_a_step", "tiny_phantoms")
def test_the_seconds_of_a_run_are_those_of_its_training(tmp_path):
    """Also of a detector that the second stage reads back, and of those for boxes out of fold, one a training scan."""
    plan = dataclasses.replace(TRIED, arms=("unet", "cascade", "cascade-oof", "unet-best"))
    assert run_study(plan, [0], tmp_path / "study", report=str)
    seconds = {row["arm"]: row["seconds"] for row in Study(tmp_path / "study").table("runs")}
    steps = dict.fromkeys(("unet", "cascade", "cascade-oof"), TINY.segmenter_steps)
    steps |= {"unet-best": 4 * TINY.segmenter_steps, "detector-book": TINY.detector_steps}
    assert seconds == steps | {"out-of-fold": TINY.train * TINY.detector_steps}


@pytest.mark.parametrize("preset", [None, "iu22"])
def test_every_dial_turns_the_hips_of_either_version(preset):
    for dial, values in probes.DIALS.items():
        options = [phantom_requests(TINY, 0, preset, (dial, value))[0][1] for value in values[::3]]
        scans = [make.make_phantom(5, (16, 48, 32), **of_one) for of_one in options]
        assert (scans[0].voxels != scans[1].voxels).mean() > 0.01, dial
        if dial == "noise_db":  # more of it lies deeper, where the gain is larger, and nothing else moves
            np.testing.assert_array_equal(scans[0].mask, scans[1].mask)
            louder = np.mean([scan.voxels[:, -8:].mean() for scan in scans[1:]]) - scans[0].voxels[:, -8:].mean()
            assert louder > 20


def test_a_scan_that_is_looked_at_once_is_let_go(monkeypatch):
    """The dials make some 160 scans a seed, of 5 MB each at the profile laptop."""
    monkeypatch.setattr(runs.Run, "proposals", Proposals())
    monkeypatch.setattr(runs.Run, "_detect", lambda run, case: case.boxes)
    scan = Volume.from_spacing(np.zeros((8, 96, 64), np.uint8), (1, 1, 1), np.zeros((8, 96, 64), bool))
    scan.mask[2:5, 30:60, 20:40] = scan.voxels[2:5, 30:60, 20:40] = 1
    run = runs.Run(TRIED, 0, split=(grids_for([scan], TINY), [], [], []))
    case = run.as_case(scan)
    assert run.attention(case, "detector") is run.attention(case, "detector")  # kept as long as the scan
    assert (run.attention(case, "detector") == case.mask).all()
    run.person(case, "careful", 4)
    assert [len(kept) for kept in (run._attention, run._boxes, run._seen)] == [1, 1, 1]
    gone = weakref.ref(case)
    del case
    assert gone() is None


def test_the_boxes_of_a_fold_are_told_with_the_threshold_of_its_detector(monkeypatch):
    thresholds = {"ab": 0.5, "b": 0.2, "a": 0.3}  # by the scans that a detector was trained on

    def train(scans, *rest, **more):
        return SimpleNamespace(trained_on="".join(case.name for case in scans), initial_weights="random"), None

    monkeypatch.setattr(runs, "train_detector", train)
    monkeypatch.setattr(runs, "choose_threshold", lambda detector, *_: Proposals(1, thresholds[detector.trained_on]))
    monkeypatch.setattr(runs, "detect", lambda _, slices, __: [torch.zeros(len(slices), 1, 4)])
    mask = np.zeros((8, 96, 64), bool)
    mask[2:5, 30:60, 20:40] = True
    scans = [Volume.from_spacing(mask.astype(np.uint8), (1, 1, 1), mask, name=name) for name in "ab"]
    grids = grids_for(scans, TINY)
    run = runs.Run(TRIED, 0, split=(grids, [prepare(scan, grids) for scan in scans], [], []))
    told = {
        source: [ablation._score_detector(run, "train", source, case)["threshold"] for case in run.train]
        for source in ("detector", "out-of-fold")
    }
    assert told == {"detector": [0.5, 0.5], "out-of-fold": [0.2, 0.3]}


def test_the_rise_over_the_last_quarter_by_hand(tmp_path):
    study = Study(tmp_path / "study")
    curves = {0: (0.1, 0.2, 0.4, 0.5), 1: (0.3, 0.4, 0.6, 0.9)}  # means 0.2, 0.3, 0.5, 0.7
    for seed, values in curves.items():
        rows = [{"step": 100 * i, "validation": v, "test": 0} for i, v in enumerate(values, 1)]
        study.add("curves", [{"seed": seed, "arm": "unet"} | row for row in rows])
    assert last_quarter_rise(study) == pytest.approx({"unet": 0.2})
    assert last_quarter_rise(study, 400) == last_quarter_rise(study)
    assert last_quarter_rise(study, 200) == pytest.approx({"unet": 0.1})  # 100 and 200 are as near to 150: the first


def test_the_work_of_protocol_2():
    arms = {100: ("unet", "cascade", "cascade-oof"), 101: ("unet-best",)}
    work = work_left(TRIED, arms)
    assert work.detectors == 1 + 5
    assert work.segmenters == 3 + 4
    assert work.slices == 6 * 5 * 8
    assert work.volumes == (3 + 4) * 2 * 2 + 4 * 2  # test scans at both looks of every training, and the end
    assert work.phantoms == 2 * 5 + 2 * sum(map(len, probes.DIALS.values()))  # seed 100 turns the dials


def test_what_every_detector_is_trained_with():
    """ "best" alone is stretched and zoomed; "literal" and "plain" do not vote."""
    book = Recipe(Sampling(positive_iou=0.5, hard_negatives=True), rate=0.004)
    assert detector_recipe("book", "vgg16") == (book, True)
    assert detector_recipe("best", "vgg16") == (dataclasses.replace(book, gain=0.2, zoom=0.15), True)
    compact = dataclasses.replace(book, backbone="resnet18", rate=0.02, imagenet=False)
    assert detector_recipe("random", "resnet18") == (compact, True)
    assert detector_recipe("plain", "resnet18") == (Recipe(backbone="resnet18"), False)
    paper = Sampling(positives_only=True, best_anchor=False)
    assert detector_recipe("literal", "resnet18") == (
        Recipe(paper, rate=0.001, cosine=False, backbone="resnet18"),
        False,
    )


def test_what_every_segmenter_is_trained_with():
    assert segmenter_recipe(PRIMARY["cascade"], 1) == SegmenterRecipe()
    assert segmenter_recipe(PRIMARY["cascade"], 2) == SegmenterRecipe(mirrored=True)
    assert segmenter_recipe(SECONDARY["cascade-best"], 2) == SegmenterRecipe(True, 0.2, 0.15, "instance", 4)
    steps = {name: with_steps(get_profile(name)).segmenter_steps for name in ("smoke", "quick", "laptop")}
    assert steps == {"smoke": 20, "quick": 600, "laptop": 1200}
    assert with_steps(TINY, 7) == dataclasses.replace(TINY, segmenter_steps=7)


def test_the_primary_arms_come_first():
    plan = dataclasses.replace(TRIED, arms=("person", "cascade", "unet"))
    assert stages_of(plan) == [("cascade", "unet"), ("person",)]
    assert stages_of(dataclasses.replace(plan, protocol=1)) == [("person", "cascade", "unet")]
    assert arms_of(1) == ARMS
    assert arms_of(2) == PRIMARY | SECONDARY


def test_arms_by_name():
    assert list(PRIMARY) == ["unet", "box3d", "cascade"]
    assert not PRIMARY.keys() & SECONDARY.keys()
    assert {arm.detector for arm in SECONDARY.values()} == {"book", "literal", "plain", "random", "best"}
