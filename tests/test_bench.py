"""The benchmarks report what they measured; no test asserts on time."""

import json
import sys
from pathlib import Path

import pytest
import torch

from segdet import bench
from segdet.bench_detector import KEEP, TorchvisionRPN, peak_of_a_step
from segdet.errors import SegdetError
from segdet.rpn import RPN


def test_a_claim_is_judged_by_its_ratio():
    assert bench.Row("a", "b", 1.1, 1.0, limit=1.2).claim == "at most 1.2: holds"
    assert bench.Row("a", "b", 1.3, 1.0, limit=1.2).claim == "at most 1.2: does not hold"
    assert bench.Row("a", "b", 9.0, 1.0).claim == "for reference"


def test_paired_calls_in_turn():
    calls = []
    ours, peer = bench.paired(lambda: calls.append("ours"), lambda: calls.append("peer"), repeats=3)
    assert calls == ["ours", "peer"] * 4
    assert min(ours, peer) > 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_peak_memory_is_that_of_the_code():
    small, large = bench.peak_gib("x = 0"), bench.peak_gib("x = b'.' * 2**29")
    assert large - small == pytest.approx(0.5, abs=0.05)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_the_memory_of_a_step_is_more_than_its_weights(monkeypatch):
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    weights = 3 * 4 * sum(p.numel() for p in RPN().parameters()) / 2**30  # with gradients and momentum
    assert peak_of_a_step(torch.device("cpu"), "ours") > weights + bench.peak_gib("import torch, torchvision")


def test_rows_are_printed_and_written(tmp_path):
    lines = []
    rows = bench.run(["reading"], tmp_path / "bench.json", lines.append)
    assert [row.peer for row in rows] == ["pydicom, bare", "pydicom, places", "pydicom, bare"]
    assert sum("256 x 397 x 192" in line and "pydicom" in line for line in lines) == 3
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [row["ours"] for row in written["rows"]] == [row.ours for row in rows]
    assert written["environment"]["torch"]


def test_the_peer_of_the_detector_finds_the_same_boxes():
    """Same weights, anchors and selection, so the best box of every slice is the same."""
    torch.manual_seed(0)
    ours = RPN().eval()
    peer = TorchvisionRPN(ours).eval()
    slices = torch.rand(3, 96, 64)
    with torch.no_grad():
        theirs, _ = peer(slices)
        found, _ = ours.propose(slices, KEEP)
    torch.testing.assert_close(torch.stack(theirs), found, atol=0.01, rtol=0)


def test_a_missing_peer_is_named_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymust", None)
    lines = []
    assert bench.run(["phantom"], report=lines.append) == []
    assert lines[-1] == "phantom: skipped, pymust is not installed; pip install 'segdet[bench]'"


def test_an_unknown_name_is_refused():
    with pytest.raises(SegdetError, match="'speed'; choose from phantom, reading, detector"):
        bench.run(["speed"])
