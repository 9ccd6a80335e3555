"""A study on real dask workers: rows come home arm by arm; a lost worker and a failing seed cost only their own."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import parallel_fit
import pytest
import SimpleITK
import torch

from segdet.errors import SegdetError
from segdet.experiments.ablation import run_study
from segdet.experiments.cluster import on_cluster
from segdet.experiments.config import Plan, Profile
from segdet.experiments.fit import fit_cascade
from segdet.experiments.study import Study
from segdet.runtime.tensors import load_tensors
from segdet.training import detector, segmenter
from segdet.training.loop import fit

distributed = pytest.importorskip("distributed")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import the tests

TINY = Profile("tiny", (8, 48, 32), (8, 12, 8), 4, 2, 4, 2, 2, 1, 2, "resnet18")


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of two threads each."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def write_scans(folder):
    """Six annotated scans with one label, 1."""
    rng = np.random.default_rng(0)
    mask = np.zeros((8, 24, 16), np.uint8)
    mask[2:6, 8:16, 4:12] = 1
    for index in range(6):
        voxels = (rng.integers(0, 50, mask.shape) + 100 * mask).astype(np.uint8)
        for kind, array in (("images", voxels), ("labels", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(folder / kind / f"{index}.nii.gz"))


def test_the_real_thing_gives_what_one_process_gives(cluster, tmp_path, monkeypatch):
    """Two seeds at once, from a folder that is named relative to where the study was started."""
    monkeypatch.chdir(tmp_path)
    write_scans(Path("scans"))
    plan, lines = Plan(TINY, ("unet", "box3d"), "scans"), []
    assert run_study(plan, [0, 1], "here", report=str)
    assert run_study(plan, [0, 1], "there", scheduler=cluster, report=lines.append)
    key = lambda row: (row["seed"], row["arm"], row["case"])  # noqa: E731
    here, there = (sorted(Study(name).table("cases"), key=key) for name in ("here", "there"))
    assert len(here) == 2 * 2 * 2
    assert [key(row) for row in here] == [key(row) for row in there]
    np.testing.assert_allclose([row["iou"] for row in here], [row["iou"] for row in there], atol=0.02)
    assert all(row["device"] and row["train"] in ("none", "box3d") for row in Study("there").table("runs"))
    assert len(lines) == 4


def trained(log, dies=None, fails=None):
    """In place of `run_seed`: writes every arm that it trains into a file; dies or fails once at one of them."""

    def run(plan, seed, checkpoints):
        for arm in plan.arms:
            marker = log.with_suffix(".died")
            if (seed, arm) == dies and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if (seed, arm) == fails:
                raise SegdetError("this seed cannot be trained")
            time.sleep(0.3)
            with open(log, "a") as file:
                file.write(f"{seed} {arm}\n")
            yield "cases", [{"seed": seed, "arm": arm, "case": "a", "iou": 0.5}]

    return run


def test_a_killed_worker_loses_the_arm_it_was_on(cluster, tmp_path):
    arms = ("unet", "box3d", "cascade")
    plans = {seed: Plan(TINY, arms) for seed in range(3)}
    run = trained(tmp_path / "log", dies=(1, "cascade"))
    found = [rows[0] for _, rows in on_cluster(plans, cluster, tmp_path / "checkpoints", str, run)]
    expected = sorted((seed, arm) for seed in plans for arm in arms)
    assert sorted((row["seed"], row["arm"]) for row in found) == expected
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines) == [f"{seed} {arm}" for seed, arm in expected]  # each was trained once
    assert (tmp_path / "log.died").exists()


def test_a_worker_keeps_the_detector_that_a_later_stage_needs(cluster, tmp_path):
    def run(plan, seed, checkpoints):
        for name in ("detector", *plan.arms):
            (checkpoints / f"{seed}-{name}.safetensors").touch()
        yield "cases", [{"seed": seed, "arm": plan.arms[0], "case": "a", "iou": 0.5}]

    (tmp_path / "checkpoints").mkdir()
    plans = {seed: Plan(TINY, ("unet", "cascade")) for seed in range(2)}
    assert len(list(on_cluster(plans, cluster, tmp_path / "checkpoints", str, run, needed={1}))) == 2
    assert [path.name for path in tmp_path.glob("checkpoints/*")] == ["1-detector.safetensors"]


def test_a_seed_fails_alone_and_rows_come_as_they_are_ready(cluster, tmp_path):
    plans = {seed: Plan(TINY, ("unet", "box3d")) for seed in range(3)}
    lines, found = [], []
    run = trained(tmp_path / "log", fails=(0, "box3d"))
    study = on_cluster(plans, cluster, tmp_path / "checkpoints", lines.append, run)
    with pytest.raises(SegdetError, match="failed: seed 0; the rows of the others are kept, go on with --resume"):
        found.extend((rows[0]["seed"], rows[0]["arm"]) for _, rows in study)
    assert set(found) == {(0, "unet"), *((seed, arm) for seed in (1, 2) for arm in plans[seed].arms)}
    assert lines == ["seed 0 failed: this seed cannot be trained"]


def test_one_training_a_process(cluster, tmp_path):
    """A worker has two threads and gets four seeds: no two of them train at the same time in one process."""

    def run(plan, seed, checkpoints):
        begun = time.monotonic()
        time.sleep(0.5)
        yield "cases", [{"seed": seed, "arm": "unet", "case": str(os.getpid()), "a": begun, "b": time.monotonic()}]

    plans = {seed: Plan(TINY, ("unet",)) for seed in range(6)}
    rows = [rows[0] for _, rows in on_cluster(plans, cluster, tmp_path / "checkpoints", str, run)]
    for row in rows:
        others = [r for r in rows if r is not row and r["case"] == row["case"]]
        assert not any(r["a"] < row["b"] and row["a"] < r["b"] for r in others)
    assert len(rows) == 6


def test_no_scheduler():
    with pytest.raises(SegdetError, match="no dask scheduler answers there"):
        list(on_cluster({}, "nowhere://1", "x", str, None))


def test_data_are_found_from_anywhere(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(plan, seed, checkpoints):
        yield "cases", [{"seed": seed, "arm": "unet", "case": plan.data}]

    plan = dataclasses.replace(Plan(TINY, ("unet",)), data="scans")
    ((_, rows),) = on_cluster({0: plan}, cluster, "checkpoints", str, run)
    assert rows[0]["case"] == str(tmp_path / "scans")


def test_fit_under_torchrun_is_fit_with_as_many_batches(tmp_path, monkeypatch, in_float32):
    """The command in two processes: one of them speaks and writes, the model is that of one process, which is this."""
    write_scans(tmp_path / "scans")
    script = [Path(parallel_fit.__file__), tmp_path / "scans", tmp_path / "two"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *script]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "SEGDET_DEVICE": "cpu"}
    done = subprocess.run(command, env=os.environ | hidden, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("; IoU on the validation scans") == 1
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    for module in (detector, segmenter):
        monkeypatch.setattr(module, "fit", partial(fit, batches=2))
    score = fit_cascade(parallel_fit.TINY, 0, tmp_path / "one", data=str(tmp_path / "scans"), report=str)
    two, one = (load_tensors(tmp_path / name / "detector.safetensors")[0] for name in ("two", "one"))
    assert two.keys() == one.keys()
    for name, value in one.items():
        if value.is_floating_point():  # not batch normalisation's count of batches, which nobody reads
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("two", "one")]
    assert names[0] == names[1]
    assert float(done.stdout.split("; IoU on the validation scans ")[1].split()[0]) == pytest.approx(score, abs=0.02)
