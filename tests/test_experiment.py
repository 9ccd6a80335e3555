"""Profiles, splits, scores, and one whole tiny ablation that is interrupted and goes on."""

import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest
import SimpleITK
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from monai.networks.nets import BasicUNet
from torch import nn

from segdet.attention import attended_region, box3d_mask, boxes_to_mask, shifted
from segdet.cascade import Cascade, segment
from segdet.errors import CheckpointError, SegdetError
from segdet.experiments import runs
from segdet.experiments.ablation import phantom_version, run_study
from segdet.experiments.cases import folder_split, grids_for, phantom_split, prepare, split_scans
from segdet.experiments.config import ARMS, Plan, Profile, get_profile
from segdet.experiments.fit import fit_cascade
from segdet.experiments.protocol import PRIMARY, SECONDARY
from segdet.experiments.study import Study
from segdet.metrics import iou, score_boxes
from segdet.phantom import acoustics
from segdet.phantom.acoustics import make_phantom
from segdet.pipeline import Grids
from segdet.proposals import Proposals
from segdet.rpn import RPN
from segdet.runtime.tensors import digest, load_tensors
from segdet.training.loop import OutOfTime
from segdet.unet3d import UNet3D
from segdet.volume import Volume, slice_boxes

TINY = Profile("tiny", (8, 96, 64), (8, 12, 8), 4, 2, 4, 2, 2, 1, 2, "resnet18")

MODEL = {"cascade.json", "detector.safetensors", "logs", "segmenter.safetensors"}


def test_profiles(monkeypatch):
    monkeypatch.delenv("SEGDET_PROFILE", raising=False)
    assert get_profile().name == "laptop"
    monkeypatch.setenv("SEGDET_PROFILE", "smoke")
    assert get_profile().name == "smoke"
    assert get_profile("paper").detector_shape == (128, 184, 96)
    with pytest.raises(SegdetError, match="choose one of smoke, quick, laptop, paper"):
        get_profile("huge")


def test_phantom_split_is_balanced_and_disjoint(small_phantoms):
    first, second = (phantom_split(TINY, seed) for seed in (0, 1))
    assert [len(part) for part in first] == [2, 1, 2]
    names = [v.name for split in (first, second) for part in split for v in part]
    assert len(set(names)) == 10
    again = phantom_split(TINY, 0)  # now from the cache
    assert np.array_equal(again[0][0].voxels, first[0][0].voxels)
    assert np.array_equal(again[2][1].mask, first[2][1].mask)


def test_phantoms_of_version_2_are_asked_for_by_their_scanner(small_phantoms):
    train, validation, test = split_scans(Plan(TINY, (), preset="varied"), 0)
    assert [v.meta["side"] for v in (*train, *validation, *test)] == ["left", "right", "left", "right", "left"]
    assert {(v.meta["phantom_version"], v.meta["preset"]) for v in train + validation + test} == {("2", "varied")}
    assert len({v.meta["changed"] for v in train + validation + test}) == 5
    plans = Plan(TINY, ()), Plan(TINY, (), preset="iu22"), Plan(TINY, (), "scans")
    assert [phantom_version(plan) for plan in plans] == ["1", "2, iu22", None]


def test_folder_split():
    cases = list(range(200))
    train, validation, test = folder_split(cases, get_profile("laptop"), 3)
    assert [len(train), len(validation), len(test)] == [10, 4, 49]
    assert len({*train, *validation, *test}) == 63
    assert folder_split(cases, get_profile("laptop"), 3)[0] == train != folder_split(cases, get_profile("laptop"), 4)[0]
    assert [len(part) for part in folder_split(list(range(7)), TINY, 0)] == [2, 1, 2]
    with pytest.raises(SegdetError, match="at least 4 annotated scans"):
        folder_split([1, 2, 3], TINY, 0)


def test_prepare_puts_both_grids_over_the_same_place():
    mask = np.zeros((16, 48, 32), bool)
    mask[4:12, 12:24, 8:16] = True
    volume = Volume.from_spacing(mask * 100.0, (1, 1, 1), mask)
    grids = grids_for([volume], TINY)
    assert grids.extent == (16, 48, 32)
    case = prepare(volume, grids)
    assert case.spacing == (2, 4, 4)
    assert case.mask.sum() == 4 * 3 * 2
    assert case.boxes[3, 0].tolist() == [16, 24, 32, 48]  # 96 x 64 pixels of 0.5 mm
    assert case.slices.max() == 1
    with pytest.raises(SegdetError, match="no annotation"):
        prepare(Volume.from_spacing(np.zeros((2, 2, 2)), (1, 1, 1)), grids)


def test_annotation_outside_the_grids_is_refused():
    mask = np.zeros((16, 48, 32), bool)
    mask[4:12, 12:24, 0:4] = True
    volume = Volume.from_spacing(mask * 100.0, (1, 1, 1), mask)
    with pytest.raises(SegdetError, match=r"reaches 16\.0 mm from the scan's centre, beyond the 8\.0 mm"):
        prepare(volume, Grids((16, 48, 16), (8, 96, 64), (8, 12, 8)))


def test_voxels_outside_the_scan_do_not_count_in_the_normalisation():
    voxels = np.random.default_rng(0).uniform(50, 100, (16, 48, 32))
    volume = Volume.from_spacing(voxels, (1, 1, 1))
    _, _, exact_slices, exact = Grids((16, 48, 32), (16, 48, 32), (16, 48, 32)).inputs(volume)
    fine, coarse, slices, image = Grids((32, 96, 64), (32, 96, 64), (32, 96, 64)).inputs(volume)
    assert fine.shape == coarse.shape == (32, 96, 64)
    inside = (slice(8, 24), slice(24, 72), slice(16, 48))
    torch.testing.assert_close(image[inside], exact)
    torch.testing.assert_close(slices[inside], exact_slices)


def test_the_segmenter_takes_arrays_that_run_backwards():
    image = np.random.default_rng(0).random((8, 16, 8), np.float32)
    network = UNet3D(1, base_channels=2, depth=1)
    assert np.array_equal(segment(network, image[::-1]), segment(network, image[::-1].copy()))


def test_score_boxes_by_hand():
    none = [0.0, 0, 0, 0]
    target = torch.tensor([[[0.0, 0, 10, 10]], [[0, 0, 10, 10]], [none], [none], [[0, 0, 10, 10]]])
    found = torch.tensor([[[0.0, 0, 10, 8]], [[0, 0, 10, 6]], [[1, 1, 5, 5]], [none], [none]])
    scores = score_boxes(found, target)
    assert scores["box_iou"] == pytest.approx((0.8 + 0.6 + 0) / 3)
    assert scores["recall50"] == pytest.approx(2 / 3)
    assert scores["recall70"] == pytest.approx(1 / 3)
    assert scores["false_boxes"] == 0.5


def test_study_from_start_to_end(small_phantoms, tmp_path):
    plan = Plan(TINY, ("unet", "box3d", "cascade"))
    lines = []
    assert run_study(plan, [0], tmp_path / "whole", report=lines.append)
    study = Study(tmp_path / "whole")
    assert len(study.table("cases")) == 3 * 2
    assert {row["arm"] for row in study.table("cases")} == {"unet", "box3d", "cascade"}
    assert [row["part"] for row in study.table("detector")] == ["train", "train", "test", "test"]
    assert not (tmp_path / "whole/checkpoints").exists()
    assert len(lines) == 3
    assert all(" iou 0." in line and " hd95_mm " in line for line in lines)
    assert study.manifest["phantom_version"] == "1"
    with pytest.raises(SegdetError, match="holds results already; add --resume"):
        run_study(plan, [0], tmp_path / "whole")
    study.describe(commit="earlier")
    assert run_study(plan, [0], tmp_path / "whole", resume=True)
    assert study.manifest["commit"] == "earlier"  # nothing was added, so nobody else made it

    for _ in range(12):  # the same study, stopped after every step
        if run_study(plan, [0], tmp_path / "parts", resume=True, max_minutes=0, report=lines.append):
            break
    else:
        run_study(plan, [0], tmp_path / "parts", resume=True, report=lines.append)
    assert any("stopped after" in line for line in lines)
    for table in ("cases", "detector", "loss"):
        assert Study(tmp_path / "parts").table(table) == study.table(table)


@pytest.mark.usefixtures("a_second_a_step", "small_phantoms")
def test_an_arm_added_to_a_study_leaves_the_seconds_of_its_detector(tmp_path):
    study, seconds = Study(tmp_path / "study"), {"detector": TINY.detector_steps}
    for arm, more in (("cascade", {}), ("cascade-oof", {"out-of-fold": TINY.train * TINY.detector_steps})):
        assert run_study(Plan(TINY, (arm,)), [0], study.folder, resume=True, report=str)
        seconds |= more | {arm: TINY.segmenter_steps}
        assert {row["arm"]: row["seconds"] for row in study.table("runs")} == seconds


def test_every_source_of_attention(small_phantoms, monkeypatch):
    seen_by, train = {}, runs.train_detector

    def remember(scans, *rest, **more):
        detector, history = train(scans, *rest, **more)
        seen_by[detector] = {case.name for case in scans}
        return detector, history

    monkeypatch.setattr(runs, "train_detector", remember)
    # In place of boxes: the training scans of the detector that was asked, and the case that it was asked about.
    monkeypatch.setattr(runs, "detect", lambda detector, slices, _: [(seen_by[detector], slices)])
    monkeypatch.setattr(runs.Run, "_painted", lambda self, answer: answer)
    monkeypatch.setattr(runs, "choose_threshold", lambda *_: Proposals())
    run = runs.Run(Plan(TINY, ()), 0)
    first, second = run.train
    for source, case, scans in (
        ("detector", first, {first.name, second.name}),
        ("out-of-fold", first, {second.name}),
        ("out-of-fold", second, {first.name}),
    ):
        trained_on, slices = run.attention(case, source)
        assert trained_on == scans
        assert slices is case.slices
    case = run.test[0]
    ceiling, wrong = run.attention(case, "slicebox"), run.attention(case, "shifted")
    assert ceiling[case.mask].mean() > 0.9
    assert wrong.sum() == ceiling.sum()
    assert iou(wrong, ceiling) < 0.5
    assert run.attention(case, "ones").all()
    assert (run.attention(case, "box3d") >= case.mask).all()
    assert run.attention(case, "none") is None
    monkeypatch.setattr(run, "_attention", {case: {"detector": case.mask}})
    assert np.array_equal(run.attention(case, "box3d-detector"), box3d_mask(case.mask))
    arms = [*ARMS.values(), *PRIMARY.values(), *SECONDARY.values()]
    assert {source for arm in arms for source in (arm.train, arm.test)} == {"none", *run.sources}


def peers():
    """Other people's 3D U-Nets of our signature, by name."""

    def monai(channels):
        return BasicUNet(3, channels, 2, features=(4, 4, 8, 8, 8, 4), norm="batch")

    def nnunet(channels):
        layers = {"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"affine": True}}
        layers |= {"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}}
        return PlainConvUNet(channels, 3, (4, 8, 8), nn.Conv3d, 3, [1, 2, 2], 2, 2, 2, **layers)

    def dropping(channels):  # draws random numbers while it trains
        return nn.Sequential(nn.Dropout(0.5), nn.Conv3d(channels, 2, 1))

    return {"monai": monai, "nnunet": nnunet, "dropping": dropping}


@pytest.mark.parametrize("name", ["monai", "nnunet", "dropping"])
def test_any_network_trains_and_goes_on(name, small_phantoms, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")  # where the same seed gives the same bytes
    build = peers()[name]
    profile = dataclasses.replace(TINY, segmenter_shape=(32, 32, 32))
    run = runs.Run(Plan(profile, ()), 0, network=build)
    whole, history = run.segmenter("slicebox")
    assert type(whole) is type(build(2))
    assert len(history.loss) == profile.segmenter_steps

    data = [[(case, run.attention(case, "slicebox")) for case in part] for part in (run.train, run.validation)]
    path = tmp_path / "state.safetensors"
    for _ in range(profile.segmenter_steps - 1):  # stopped after every step
        with pytest.raises(OutOfTime):
            runs.train_segmenter(*data, profile, 0, network=build, checkpoint=path, deadline=0)
    resumed, _ = runs.train_segmenter(*data, profile, 0, network=build, checkpoint=path)
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
    prediction = run.predict(whole, "slicebox", run.test[0])
    assert prediction.shape == profile.segmenter_shape
    with pytest.raises(CheckpointError, match="only a UNet3D can be loaded again, not a"):
        Cascade(RPN(), whole, run.grids).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_of_other_data_is_refused(small_phantoms, tmp_path):
    run = runs.Run(Plan(TINY, ()), 0)
    path = tmp_path / "state.safetensors"
    pairs = [(case, run.attention(case, "slicebox")) for case in (*run.train, *run.validation)]
    with pytest.raises(OutOfTime):
        runs.train_segmenter(pairs[:2], pairs[2:], TINY, 0, checkpoint=path, deadline=0)
    changed = [(case, ~attention) for case, attention in pairs]
    with pytest.raises(CheckpointError, match="made with attention"):
        runs.train_segmenter(changed[:2], changed[2:], TINY, 0, checkpoint=path)


def test_a_cropped_segmenter_sees_the_region_only(small_phantoms):
    profile = dataclasses.replace(TINY, segmenter_shape=(32, 32, 32))
    run = runs.Run(Plan(profile, ()), 0)
    case = run.test[0]
    attention = run.attention(case, "slicebox")
    region = attended_region(attention, case.spacing, 4.0)
    sizes = []

    def segmenter(channels):
        network = UNet3D(channels, 2, 4)
        network.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
        return network

    network, _ = runs.train_segmenter(
        [(case, attention)], [(case, attention)], profile, 0, margin=4.0, network=segmenter
    )
    inside = case.mask[region].shape
    assert set(sizes) == {inside}
    assert np.prod(inside) < case.mask.size
    probability = segment(network, case.image, attention, region)
    everywhere = np.zeros(case.mask.shape, bool)
    everywhere[region] = True
    assert probability[everywhere].min() > 0
    assert (probability[~everywhere] == 0).all()


def test_boxes_of_a_person_take_the_detector_s_place(small_phantoms):
    torch.manual_seed(0)
    scan = acoustics.make_phantom(3)
    cascade = Cascade(None, UNet3D(2, 2, 4), grids_for([scan], TINY))
    drawn = slice_boxes(scan.mask)
    prediction = cascade.predict(scan, lambda volume: boxes_to_mask(drawn, volume.shape).numpy())
    assert prediction.boxes.shape == (TINY.detector_shape[0], 0, 4)
    assert iou(prediction.attention, prepare(scan, cascade.grids).slice_mask) > 0.5
    whole = cascade.predict(scan, lambda volume: np.ones(volume.shape, bool))
    assert whole.attention.all()
    assert not np.array_equal(whole.probability, prediction.probability)


def test_a_shifted_mask_is_elsewhere():
    mask = np.zeros((16, 24, 20), bool)
    mask[6:10, 9:15, 8:12] = True
    moved = [shifted(mask, seed) for seed in range(8)]
    assert all(m.sum() == mask.sum() and not (m & mask).any() for m in moved)
    assert len({m.tobytes() for m in moved}) > 4  # not one way that could be undone
    point = np.zeros((16, 24, 20), bool)
    point[0, 0, 0] = True
    places = np.array([np.argwhere(shifted(point, seed))[0] for seed in range(200)])
    assert places.min(0).tolist() == [4, 6, 5]  # a quarter of every axis
    assert places.max(0).tolist() == [12, 18, 15]


def test_fitting_a_cropped_cascade(small_phantoms, tmp_path, monkeypatch):
    model = tmp_path / "model"
    with pytest.raises(SegdetError, match="leave out one of them"):
        fit_cascade(TINY, 0, model, checkpointing=True, compiled=True)
    assert not model.exists()
    fit_cascade(TINY, 0, model, crop=True, checkpointing=True, report=str)
    cascade = Cascade.load(model)
    assert cascade.margin == ARMS["cascade-crop"].margin
    scan = make_phantom(1)
    drawn = np.zeros(scan.shape, bool)
    drawn[40:80, 60:120, 30:60] = True
    margins = []
    monkeypatch.setattr("segdet.pipeline.attended_region", lambda *a: margins.append(a[2]) or attended_region(*a))
    cascade.predict(scan, lambda _: drawn)
    assert margins == [cascade.margin]
    with pytest.raises(ValueError, match="True and False, found float64"):
        cascade.predict(scan, lambda _: drawn * 0.01)


def test_compiling_is_tried_before_the_detector_is_trained(tmp_path, monkeypatch):
    def broken(function):
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(SegdetError, match=r"--compile does not work here \(no C\+\+ compiler\); leave it out"):
        fit_cascade(TINY, 0, tmp_path / "model", compiled=True)


def test_a_compiled_segmenter_is_the_same(small_phantoms, tmp_path, monkeypatch):
    original = nn.Module.compile
    calls = []

    def without_a_compiler(module):  # the graph is captured, then run as it is
        calls.append(type(module))
        original(module, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", without_a_compiler)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    for name in ("plain", "compiled"):
        fit_cascade(TINY, 0, tmp_path / name, compiled=name == "compiled", report=str)
    assert calls == [UNet3D]
    states = [load_tensors(tmp_path / name / "segmenter.safetensors")[0] for name in ("plain", "compiled")]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value)


def test_fit_save_load_predict(small_phantoms, tmp_path):
    score = fit_cascade(TINY, 0, tmp_path / "model", report=str)
    assert 0 <= score <= 1
    assert {p.name for p in (tmp_path / "model").iterdir()} == MODEL
    with pytest.raises(SegdetError, match="holds a finished model"):
        fit_cascade(TINY, 0, tmp_path / "model", report=str)
    first, second = Cascade.load(tmp_path / "model"), Cascade.load(tmp_path / "model")
    assert first.grids == Grids((33.28, 40.48, 38.4), TINY.detector_shape, TINY.segmenter_shape, ("S", "P", "L"))
    scan = Volume.from_spacing(np.random.default_rng(0).integers(0, 255, (20, 50, 30), dtype=np.uint8), (1, 1, 1))
    prediction, again = first.predict(scan), second.predict(scan)
    assert prediction.mask.shape == prediction.probability.shape == scan.shape
    assert prediction.attention.shape == TINY.detector_shape
    assert np.array_equal(prediction.probability, again.probability)
    assert np.array_equal(prediction.mask, prediction.probability >= 0.5)
    settings = json.loads((tmp_path / "model/cascade.json").read_text())
    del settings["grids"]["orientation"]  # as models of before have it
    (tmp_path / "model/cascade.json").write_text(json.dumps(settings))
    old = Cascade.load(tmp_path / "model")
    assert old.grids.orientation == ()
    assert np.array_equal(old.predict(scan).probability, prediction.probability)


@pytest.fixture
def folder(tmp_path):
    """Six annotated scans with one label, 1."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "scans" / kind).mkdir(parents=True)
    for index in range(6):
        mask = np.zeros((8, 24, 16), np.uint8)
        mask[2:6, 8:16, 4:12] = 1
        voxels = (rng.integers(0, 50, mask.shape) + 100 * mask).astype(np.uint8)
        for kind, array in (("images", voxels), ("labels", mask)):
            image = SimpleITK.GetImageFromArray(array)
            SimpleITK.WriteImage(image, str(tmp_path / f"scans/{kind}/{index}.nii.gz"))
    return tmp_path / "scans"


def test_a_label_that_is_not_there(folder, small_phantoms, tmp_path):
    plan = Plan(TINY, ("unet",), str(folder), 7)
    with pytest.raises(SegdetError, match=r"gz: has no label 7; it holds 1; nor does any other of the 5 .* --label"):
        run_study(plan, [0], tmp_path / "s")
    assert not (tmp_path / "s").exists()  # so that the corrected command can use the name
    with pytest.raises(SegdetError, match="has no label 7"):
        fit_cascade(TINY, 0, tmp_path / "m", data=str(folder), label=7, report=str)
    assert run_study(dataclasses.replace(plan, label=1), [0], tmp_path / "s", report=str)


def test_an_interrupted_fit_goes_on_as_it_began_or_not_at_all(folder, small_phantoms, tmp_path, monkeypatch):
    class Interrupt(Exception):
        pass

    def interrupt(*_, **__):
        raise Interrupt

    original = runs.Run.segmenter
    monkeypatch.setattr(runs.Run, "segmenter", interrupt)
    options = {"data": str(folder), "report": str}
    with pytest.raises(Interrupt):
        fit_cascade(TINY, 0, tmp_path / "m", label=1, **options)
    with pytest.raises(SegdetError, match="was interrupted or is running; add --resume"):
        fit_cascade(TINY, 0, tmp_path / "m", label=1, **options)
    for seed, label in ((0, None), (1, 1)):
        with pytest.raises(SegdetError, match="use the same, or another --out"):
            fit_cascade(TINY, seed, tmp_path / "m", label=label, resume=True, **options)
    monkeypatch.setattr(runs.Run, "segmenter", original)
    (tmp_path / "m/.segdet-0123abcd.part.json").touch()  # what a kill leaves of a file that was being written
    lines = []
    fit_cascade(TINY, 0, tmp_path / "m", label=1, resume=True, **options | {"report": lines.append})
    assert lines[0] == (
        "5 of 6 scans: 2 to train, 1 to select, 2 left aside; "
        "the profile tiny takes no more, and the seed chooses which"
    )
    names = {p.name for p in (tmp_path / "m").iterdir()}
    assert names == MODEL


def test_loading_what_is_not_a_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no cascade\.json"):
        Cascade.load(tmp_path)
    (tmp_path / "cascade.json").write_text('{"anchors": {}}')
    with pytest.raises(CheckpointError, match="not a model"):
        Cascade.load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"margin": "5"}, "the margin is '5'; expected None or a number of mm from 0 up"),
        ({"margin": -1}, "the margin is -1; expected"),
        ({"margin": float("nan")}, "the margin is nan; expected"),
        ({"grids": {"extent": [1, 2]}}, r"its extent is \[1, 2\]; expected three numbers above 0"),
        ({"grids": {"extent": [1, 2, "3"]}}, "its extent is .*; expected three numbers above 0"),
        ({"grids": {"extent": [1, 2, 0]}}, "its extent is .*; expected three numbers above 0"),
        ({"grids": {"detector_shape": [8, 96.5, 64]}}, "its detector_shape is .*; expected three whole numbers"),
        ({"grids": {"segmenter_shape": 8}}, "not iterable"),
        ({"grids": {"orientation": ["S", "P", "P"]}}, "its orientation is .*; expected a letter an axis"),
        ({"grids": {"orientation": ["S", "P", "A"]}}, "its orientation is .*; expected a letter an axis"),
        ({"grids": {"orientation": ["S", "P"]}}, "its orientation is .*; expected a letter an axis"),
        ({"grids": {"orientation": ["S", "P", "LR"]}}, "its orientation is .*; expected a letter an axis"),
        ({"proposals": {"top_k": 1.5}}, "top_k boxes a slice must be a whole number, found 1.5"),
        ({"proposals": {"threshold": float("nan")}}, "threshold must lie between 0 and 1, found nan"),
        ({"proposals": {"nms_iou": -0.1}}, "nms_iou must lie between 0 and 1, found -0.1"),
        ({"anchors": {"sizes": "123"}}, "anchors need sizes and ratios that are numbers, found '123'"),
        ({"rpn": {"padded": "no"}}, "padded must be True or False, not 'no'"),
        ({"unet3d": {"depth": -1}}, "index"),
    ],
)
def test_a_model_with_settings_that_are_none_is_refused(changed, reason, tmp_path):
    grids = Grids((8, 96, 64), (8, 96, 64), (8, 24, 16))
    Cascade(RPN(backbone="resnet18"), UNet3D(2, 2, 4), grids, margin=5).save(tmp_path)
    assert Cascade.load(tmp_path).margin == 5
    settings = json.loads((tmp_path / "cascade.json").read_text())
    for name, value in changed.items():
        settings[name] = settings[name] | value if isinstance(value, dict) else value
    (tmp_path / "cascade.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=rf"not a model that this version .* saved \(.*{reason}") as caught:
        Cascade.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ")


@pytest.mark.parametrize("name", ["detector", "segmenter"])
def test_a_model_whose_weights_are_not_finite_is_refused(name, tmp_path):
    grids = Grids((8, 96, 64), (8, 96, 64), (8, 24, 16))
    cascade = Cascade(RPN(backbone="resnet18"), UNet3D(2, 2, 4), grids)
    next(getattr(cascade, name).parameters()).data.view(-1)[3] = torch.nan
    cascade.save(tmp_path)
    with pytest.raises(CheckpointError, match=rf"{name}\.safetensors: weights that are NaN or infinite; train"):
        Cascade.load(tmp_path)


def test_a_model_with_a_file_missing_or_cut_off_says_what_helps(tmp_path):
    grids = Grids((8, 96, 64), (8, 96, 64), (8, 24, 16))
    Cascade(RPN(backbone="resnet18"), UNet3D(2, 2, 4), grids).save(tmp_path)
    weights = tmp_path / "segmenter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    way_out = "; copy the whole folder of the model again, or train it again in a new one"
    with pytest.raises(CheckpointError, match=rf"{weights.name}: not a checkpoint of segdet .*{way_out}$"):
        Cascade.load(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=f"{weights.name}: no such file{way_out}$"):
        Cascade.load(tmp_path)


def test_resume_refuses_another_profile(small_phantoms, tmp_path):
    Study(tmp_path / "s").describe(profile="tiny", settings={"name": "other"})
    with pytest.raises(SegdetError, match="holds a study with settings"):
        run_study(Plan(dataclasses.replace(TINY, train=3), ("unet",)), [0], tmp_path / "s", resume=True)


def test_a_study_of_a_folder_is_not_gone_on_with_on_another_of_its_name(folder, tmp_path):
    other = tmp_path / "other" / "scans"
    shutil.copytree(folder, other)
    size = dataclasses.replace(TINY, segmenter_steps=1, every=1)
    assert run_study(Plan(size, ("unet",), str(folder)), [0], tmp_path / "s", report=str)
    assert run_study(Plan(size, ("unet",), str(other)), [0], tmp_path / "s", resume=True, report=str)  # a copy
    name = other / "labels" / "0.nii.gz"
    kept = name.read_bytes()
    name.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))  # edited, of the same size
    with pytest.raises(SegdetError, match="holds a study with other scans or pictures"):
        run_study(Plan(size, ("unet",), str(other)), [0, 1], tmp_path / "s", resume=True)
    name.write_bytes(kept)
    (other / "images" / "0.nii.gz").rename(other / "images" / "7.nii.gz")
    (other / "labels" / "0.nii.gz").rename(other / "labels" / "7.nii.gz")
    with pytest.raises(SegdetError, match="holds a study with other scans or pictures"):
        run_study(Plan(size, ("unet",), str(other)), [0, 1], tmp_path / "s", resume=True)


def test_a_case_is_known_by_its_source(tmp_path):
    """Rounding on the way to the working grids leaves it the same; a voxel, a shape or another grid does not."""
    rng = np.random.default_rng(0)
    voxels, mask = rng.integers(0, 255, (8, 24, 16), dtype=np.uint8), np.zeros((8, 24, 16), bool)
    mask[2:6, 8:16, 4:12] = True
    volume = Volume.from_spacing(voxels, (1.0, 1.0, 1.0), mask)
    grids = grids_for([volume], TINY)
    case = prepare(volume, grids)
    assert dataclasses.replace(case, image=case.image + 1e-6).identity == case.identity
    for changed in (
        dataclasses.replace(volume, voxels=np.where(mask, voxels, voxels ^ 1)),
        dataclasses.replace(volume, mask=mask & (np.arange(16) < 11)),
        dataclasses.replace(volume, affine=volume.affine * [1, 1, 1.1, 1]),
    ):
        assert prepare(changed, grids).identity != case.identity
    assert prepare(volume, dataclasses.replace(grids, segmenter_shape=(8, 12, 9))).identity != case.identity
    by_hand = dataclasses.replace(case, source="")
    assert dataclasses.replace(by_hand, boxes=case.boxes + 1).identity != by_hand.identity
    assert digest(np.zeros((2, 3))) != digest(np.zeros((3, 2)))
    assert digest(np.zeros(2, np.int32)) != digest(np.zeros(2, np.float32))


def test_training_leaves_the_callers_random_state(small_phantoms):
    run = runs.Run(Plan(TINY, ()), 0)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert run.detector is not None
    run.segmenter("slicebox")
    assert torch.equal(torch.random.get_rng_state(), before)
