"""The benchmarks report what they measured; no test asserts on time."""

import gc
import json
import os
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import heavy_step
import pytest
import torch

from segdet import bench
from segdet.bench import cascade, inference, measure, reading, segmenter, tables, waiting
from segdet.bench.detector import KEEP, TorchvisionRPN, backbone_rows, gflop
from segdet.bench.metrics import bench_metrics
from segdet.errors import SegdetError
from segdet.experiments import cost
from segdet.export.exported import ENGINES
from segdet.phantom.acoustics import make_phantom
from segdet.rpn import RPN
from segdet.runtime import device as runtime_device
from segdet.unet3d import UNet3D


def test_a_claim_is_judged_by_its_ratio():
    assert measure.Row("a", "b", 1.1, 1.0, limit=1.2).claim == "at most 1.2: holds"
    assert measure.Row("a", "b", 1.3, 1.0, limit=1.2).claim == "at most 1.2: does not hold"
    assert measure.Row("a", "b", 9.0, 1.0).claim == "for reference"


def test_paired_calls_in_turn():
    calls = []
    ours, peer = measure.paired(lambda: calls.append("ours"), lambda: calls.append("peer"), repeats=3)
    assert calls == ["ours", "peer"] * 4
    assert min(ours, peer) > 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_peak_memory_is_that_of_the_code():
    small, large = measure.peak_gib("x = 0"), measure.peak_gib("x = b'.' * 2**29")
    assert large - small == pytest.approx(0.5, abs=0.05)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_the_memory_of_a_step_is_that_of_its_weights(monkeypatch):
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(heavy_step.__file__))
    weights = 3 * 4 * heavy_step.WIDTH**2 / 2**30  # with gradients and momentum
    needed = measure.peak_of_a_step(heavy_step.step_of, "ours") - measure.peak_of_a_step(heavy_step.step_of, "nothing")
    assert needed == pytest.approx(weights, rel=0.2)


def test_the_memory_of_a_step_on_a_gpu_is_without_what_else_lies_there(monkeypatch):
    """Networks of 3 GiB are on the card. A step whose network and batch take 1 GiB needs 2 more."""
    card = {"now": 3 * 2**30, "peak": 7 * 2**30}

    def step_of(who):
        card["now"] += 2**30
        return lambda: card.update(peak=max(card["peak"], card["now"] + 2 * 2**30))

    monkeypatch.setattr(measure, "default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: card["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: card["peak"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: card.update(peak=card["now"]))
    assert measure.peak_of_a_step(step_of, "ours") == 3.0


def test_the_networks_of_a_scan_do_not_stay(monkeypatch):
    """They are those of a row, so that the memory of each counts its own."""
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    monkeypatch.setattr(cascade, "RPN", partial(RPN, backbone="resnet18"))
    monkeypatch.setattr(cascade, "UNet3D", partial(UNet3D, base_channels=2))
    weights = weakref.ref(next(cascade.detector_and_segmenters()[1].parameters()))
    gc.collect()
    assert weights() is None


def test_rows_are_printed_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "RAW", (16, 40, 30))
    lines = []
    rows = bench.run(["reading"], tmp_path / "bench.json", lines.append)
    assert [row.peer for row in rows] == ["pydicom, bare", "pydicom, places", "pydicom, bare"]
    assert sum("16 x 40 x 30" in line and "pydicom" in line for line in lines) == 3
    (written,) = json.loads((tmp_path / "bench.json").read_text())["runs"]
    assert [row["ours"] for row in written["rows"]["reading"]] == [row.ours for row in rows]
    assert written["environment"]["torch"]
    assert written["seconds"]["reading"] >= 0


def test_other_benchmarks_and_machines_stay_in_the_file(tmp_path, monkeypatch):
    path, lines = tmp_path / "bench.json", []
    names = {name: [measure.Row(name, "peer", 1.0, 2.0)] for name in ("first", "second")}
    monkeypatch.setattr(bench, "BENCHES", {name: lambda rows=rows: rows for name, rows in names.items()})
    monkeypatch.setattr(bench, "seconds_of_a_phantom", lambda: 2.0)
    machine = {"device": "one", "torch": "9", "commit": "a"}
    monkeypatch.setattr(bench, "environment", lambda device: machine)
    bench.run([], path, lines.append)
    assert not any("about" in line for line in lines)
    written = json.loads(path.read_text())
    written["runs"][0]["seconds"]["first"] = 30
    path.write_text(json.dumps(written))
    names["first"][0] = measure.Row("first", "peer", 5.0, 2.0)
    monkeypatch.setattr(bench, "seconds_of_a_phantom", lambda: 4.0)
    monkeypatch.setattr(bench, "environment", lambda device: machine | {"commit": "b"})
    bench.run(["first"], path, lines.append)
    assert "about 60 s here, if nothing else runs" in lines  # a phantom takes twice as long now
    monkeypatch.setattr(bench, "environment", lambda device: machine | {"device": "two"})
    bench.run(["second"], path, lines.append)
    one, two = json.loads(path.read_text())["runs"]
    assert [one["rows"][name][0]["ours"] for name in ("first", "second")] == [5.0, 1.0]
    assert list(two["rows"]) == ["second"]
    assert one["commits"] == {"first": "b", "second": "a"}
    assert "commit b and a." in tables.table(path, "").split("\n")[0]


@pytest.fixture
def measuring(tmp_path, monkeypatch):
    """Measure one benchmark into a file: the rows of these peers, all that it has or those of which none is missing."""
    path, lines = tmp_path / "bench.json", []

    def measure_rows(name, peers, torch, commit, phantom=2.0, missing=False, value=1.0):
        def benchmark():
            yield from (measure.Row(f"{name}, step", peer, value, 2.0) for peer in peers)
            if missing:
                raise measure.MissingPeer("openvino is not installed")

        monkeypatch.setattr(bench, "BENCHES", {name: benchmark})
        monkeypatch.setattr(bench, "seconds_of_a_phantom", lambda: phantom)
        made = {"device": "one", "torch": torch, "commit": commit}
        monkeypatch.setattr(bench, "environment", lambda device: made)
        bench.run([name], path, lines.append)
        return json.loads(path.read_text())["runs"][0]

    measure_rows.path, measure_rows.lines = path, lines
    monkeypatch.delenv("SEGDET_PRECISION", raising=False)
    return measure_rows


def test_rows_whose_peer_is_missing_now_stay(measuring):
    measuring("inference", ["onnxruntime", "openvino"], "9", "a")
    path = measuring.path
    written = json.loads(path.read_text())
    written["runs"][0]["seconds"]["inference"] = 30
    path.write_text(json.dumps(written))
    assert measuring("inference", [], "10", "b", missing=True) == written["runs"][0]  # nothing was measured
    kept = measuring("inference", ["onnxruntime"], "10", "b", missing=True, value=5.0)
    assert [(row["peer"], row["ours"]) for row in kept["rows"]["inference"]] == [("onnxruntime", 5), ("openvino", 1)]
    assert (kept["seconds"], kept["phantoms"]) == ({"inference": 30}, {"inference": 2.0})
    head = tables.table(path, "inference").split("\n")[0]
    assert head == "Measured on one with PyTorch 10, commit b, and with PyTorch 9, commit a."
    measuring("inference", ["onnxruntime"], "11", "c", missing=True)
    assert "PyTorch 11, commit c, and with PyTorch 9, commit a." in tables.table(path, "inference")
    kept = measuring("inference", ["onnxruntime", "openvino"], "10", "b")
    assert "with PyTorch 10, commit b." in tables.table(path, "inference")
    assert kept["seconds"]["inference"] == 0


def test_a_part_of_a_benchmark_foretells_nothing(measuring):
    kept = measuring("inference", ["onnxruntime"], "9", "a", missing=True)
    assert kept["seconds"] == {}


def test_one_precision_leaves_the_rows_of_the_other(measuring, monkeypatch):
    measuring("segmenter, float32", ["DynUNet", "BasicUNet"], "9", "a")
    monkeypatch.setenv("SEGDET_PRECISION", "bfloat16")
    kept = measuring("segmenter, float32", ["DynUNet"], "10", "b", value=5.0)
    assert [row["ours"] for row in kept["rows"]["segmenter, float32"]] == [5.0, 1.0]


def test_a_benchmark_keeps_the_environment_that_it_was_measured_in(measuring):
    """Also one from before, when a machine had one environment and one phantom."""
    row = {"what": "first, step", "peer": "p", "ours": 1.0, "theirs": 1.0, "limit": None, "note": "", "unit": "s"}
    before = {
        "environment": {"device": "one", "torch": "9", "commit": "b"},
        "phantom": 4.0,
        "seconds": {"first": 30, "second": 10},
        "rows": {"first": [row], "second": [row | {"what": "second, step"}]},
        "commits": {"first": "a", "second": "b"},
    }
    measuring.path.write_text(json.dumps({"runs": [before]}))
    kept = measuring("second", ["p"], "10", "c", phantom=2.0)
    assert "about 5 s here, if nothing else runs" in measuring.lines
    assert kept["environments"]["first"] == {"device": "one", "torch": "9", "commit": "a"}
    assert kept["environments"]["second"] == kept["environment"] == {"device": "one", "torch": "10", "commit": "c"}
    assert kept["phantoms"] == {"first": 4.0, "second": 2.0}
    assert tables.table(measuring.path, "first").startswith("Measured on one with PyTorch 9, commit a.\n")
    assert tables.table(measuring.path, "second").startswith("Measured on one with PyTorch 10, commit c.\n")
    measuring("first", ["p"], "10", "c", phantom=2.0)
    assert "about 15 s here, if nothing else runs" in measuring.lines


def test_a_machine_that_was_never_measured_is_foretold(monkeypatch):
    """On an AVX2 processor of 169 GFLOP/s a phantom took 0.81 s, the detector 420 s, the metrics 6 s."""
    rates = {torch.float32: 169e9}
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    monkeypatch.setattr(bench, "BENCHES", {name: lambda: () for name in bench.SUBJECTS})
    monkeypatch.setattr(bench, "seconds_of_a_phantom", lambda: 0.81)
    monkeypatch.setattr(bench, "matmul_rate", lambda device, dtype: rates[dtype])
    monkeypatch.setattr(bench, "precisions", lambda device: ["float32"])
    assert bench.foretold(["detector"], 0.81) == pytest.approx(420, rel=0.01)
    assert bench.foretold(["metrics"], 0.81) == pytest.approx(6, rel=0.1)
    lines = []
    bench.run(report=lines.append)
    assert "about 59 min here, if nothing else runs" in lines
    monkeypatch.setattr(bench, "precisions", lambda device: ["float32", "bfloat16"])
    rates[torch.bfloat16] = 338e9
    assert bench.foretold(["detector"], 0.81) == pytest.approx(210, rel=0.01)
    assert bench.foretold(["segmenter"], 0.81) == pytest.approx(1.5 * 1410, rel=0.01)
    assert bench.foretold(["inference"], 0.81) == pytest.approx(476, rel=0.01)


def test_a_table_of_what_was_written(tmp_path):
    path = tmp_path / "bench.json"
    rows = [
        {"what": "a scan, whole", "peer": "b", "ours": 1.0, "theirs": 4.0, "limit": 0.2, "note": "n", "unit": "GiB"},
        {"what": "another", "peer": "b", "ours": 1.0, "theirs": 1.0, "limit": None, "note": "", "unit": "s"},
    ]
    runs = [
        {"environment": {"device": f"a {kind}", "torch": "9"}, "rows": {"x": rows}, "commits": {"x": "c"}}
        for kind in ("CPU", "GPU")
    ]
    path.write_text(json.dumps({"runs": runs}))
    whole = tables.table(path, "a scan, ")
    assert "Measured on a GPU with PyTorch 9, commit c." in whole
    head, *_, last = whole.split("\n\nMeasured on a GPU")[0].splitlines()
    assert head == "Measured on a CPU with PyTorch 9, commit c."
    assert last == "| whole | b | 1 GiB | 4 GiB | 0.25 | at most 0.2: does not hold | n |"
    assert tables.ratios(path, "a").splitlines()[-1] == "| b | **0.25** | (1.00) |"
    for run in runs:
        run["rows"]["x"].append(rows[1] | {"peer": "c"})
    path.write_text(json.dumps({"runs": runs}))
    assert tables.ratios(path, "a").splitlines()[-1] == "| c | – | (1.00) |"


@pytest.mark.parametrize("text", ["[]", "{", '{"runs": 3}', '{"runs": [{}]}'])
def test_a_file_of_something_else_is_not_written_to(text, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(SegdetError, match=r"bench\.json: holds no measurements of `segdet bench`"):
        bench.run(["metrics"], path, report=str)
    assert path.read_text() == text


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


def test_rows_of_the_two_backbones(monkeypatch):
    monkeypatch.setattr("segdet.bench.detector.example", lambda device: (torch.rand(2, 64, 48), torch.zeros(2, 1, 4)))
    loop, proposals = backbone_rows(torch.device("cpu"))
    assert (loop.peer, proposals.peer) == ("VGG-16", "VGG-16")
    assert min(loop.ours, loop.theirs, proposals.ours, proposals.theirs) > 0
    # conv3_1 of VGG-16 alone: 16 x 12 cells of 256 channels, each 9 * 128 products and sums
    layer = torch.nn.Conv2d(128, 256, 3, padding=1)
    assert gflop(layer, torch.rand(1, 128, 16, 12)) == pytest.approx(2 * 16 * 12 * 256 * 9 * 128 / 1e9)
    assert "GFLOP a slice" in loop.note


def test_the_peers_of_the_segmenter_do_equal_work():
    models, missing = segmenter.ours_and_peers(16)
    assert not missing
    for shape in segmenter.SHAPES:
        work = {name: segmenter.flops(model, shape) for name, model in models.items()}
        for name in segmenter.PEERS:
            assert work[name] == pytest.approx(work["ours"], rel=0.1), (name, shape)
    volume = torch.rand(1, 2, 16, 22, 8)
    for name, model in models.items():
        norms = {m for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d)}
        assert len(norms) == 14, name  # two a level, four levels down and three up
        assert model.eval()(volume).shape == (1, 2, 16, 22, 8), name


@pytest.fixture
def tiny_segmenters(monkeypatch):
    """Small networks and volumes; the second is the one that a CPU does not train on. No memory, no compiler."""
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    monkeypatch.setattr(segmenter, "SHAPES", ((16, 14, 8), (16, 16, 16)))
    monkeypatch.setattr(segmenter, "PAPER", (16, 16, 16))
    monkeypatch.setattr(segmenter, "bench_memory", lambda *_: ())
    monkeypatch.setattr(segmenter, "compiled_row", lambda *_: measure.Row("compiled", "not compiled", 1.0, 1.0))
    build = segmenter.ours_and_peers
    monkeypatch.setattr(segmenter, "ours_and_peers", lambda base: build(base // 8))
    monkeypatch.setattr(measure, "matmul_rate", lambda device, dtype: 1e11)
    monkeypatch.setenv("SEGDET_PRECISION", "float32")


@pytest.mark.usefixtures("tiny_segmenters")
def test_rows_of_the_segmenter():
    rows = bench.run(["segmenter"], report=lambda line: None)
    expected = ["training, 16 x 14 x 8", "inference, 16 x 14 x 8", "inference, 16 x 16 x 16"]
    for name in segmenter.PEERS:
        for peer in (name, f"{name} *"):
            assert [row.what for row in rows if row.peer == peer] == [
                f"segmenter, float32, {what}" for what in expected
            ]
    assert len(rows) == 2 * 3 * len(segmenter.PEERS) + 1
    assert all("of a matrix product" in row.note for row in rows[:-1])
    assert rows[-1].peer == "not compiled"
    assert {row.limit for row in rows[:-1] if "*" in row.peer} <= {1.0, None}
    assert {row.limit for row in rows[:-1] if "*" not in row.peer} <= {0.8, None}


@pytest.mark.usefixtures("tiny_segmenters")
def test_a_missing_segmenter_leaves_the_others(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch3dunet.unet3d.model", None)
    lines = []
    rows = bench.run(["segmenter"], report=lines.append)
    assert {row.peer.removesuffix(" *") for row in rows[:-1]} == {"BasicUNet", "DynUNet", "PlainConvUNet"}
    assert rows[-1].peer == "not compiled"
    assert lines[-1] == "segmenter: skipped, pytorch3dunet is not installed; pip install 'segdet[bench]'"


@pytest.mark.usefixtures("tiny_segmenters")
def test_every_precision_has_its_rows(monkeypatch):
    """As on a processor with bfloat16 instructions; the precision reaches the networks and the processes for memory."""
    monkeypatch.setenv("SEGDET_PRECISION", "")
    monkeypatch.setattr(runtime_device, "bfloat16_is_native", lambda device: True)

    def row(models, shape, device):
        used = type(runtime_device.precision(device)).__name__
        yield measure.Row(used, os.environ["SEGDET_PRECISION"], 1.0, 1.0)

    monkeypatch.setattr(segmenter, "rows", row)
    rows = bench.run(["segmenter"], report=lambda line: None)
    found = [(row.what, row.peer) for row in rows if row.what != "compiled"]
    assert found == [("nullcontext", "float32")] * 2 + [("autocast", "bfloat16")] * 2
    assert os.environ["SEGDET_PRECISION"] == ""


def test_operations_as_written_and_as_done():
    """One pooling, base 2, 8 x 8 x 8. Written, in products a voxel: 27 (2*2 + 2*4) down, 27 (4*4 + 4*8) / 8 below,
    8*8*8 / 8 up-convolution, 27 (12*4 + 4*4) up, 2*4 head. Ours meets the 8 channels from below with 64 * 8*4 / 8, and
    once a volume the bias of the up-convolution meets 27 * 8*4 weights."""
    written = 27 * 12 + 27 * 48 / 8 + 64 + 27 * 64 + 8
    ours = written - 64 - 27 * 8 * 4 + 64 * 8 * 4 / 8 + 27 * 8 * 4 / 512
    model = UNet3D(2, 2, 2, depth=1)
    assert segmenter.flops(model, (8, 8, 8)) == 2 * 512 * written
    assert segmenter.executed(model, (8, 8, 8), torch.device("cpu"))["inference"] == 2 * 512 * ours


def test_share_of_the_rate_of_a_matrix_product(monkeypatch):
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    monkeypatch.setenv("SEGDET_PRECISION", "float32")
    monkeypatch.setattr(measure, "matmul_rate", lambda device, dtype: {torch.float32: 200e9}[dtype])
    assert measure.rate_note(300e9, 2.0) == "ours at 75% of the 200 GFLOP/s of a matrix product"


def test_flops_of_a_product():
    assert cost.flops_of(lambda: torch.zeros(3, 5) @ torch.zeros(5, 7)) == 2 * 3 * 5 * 7


def test_the_rate_of_a_product_is_measured_once():
    first = cost.matmul_rate(torch.device("cpu"), torch.float32)
    assert first > 1e8
    assert cost.matmul_rate(torch.device("cpu"), torch.float32) == first


def test_rows_of_the_cascade(monkeypatch):
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    shape = (16, 24, 16)
    monkeypatch.setattr(cascade, "SHAPES", (shape,))
    monkeypatch.setattr(cascade, "PAPER", (16, 96, 64))
    monkeypatch.setattr(cascade, "bench_memory", lambda *_: ())
    small = RPN(backbone="resnet18"), UNet3D(1, 2, 2), UNet3D(2, 2, 2)
    monkeypatch.setattr(cascade, "detector_and_segmenters", lambda: small)
    rows = list(cascade.bench_cascade())
    assert [row.peer for row in rows] == ["box by box", "3D U-Net", "cascade", "3D U-Net", "cascade"]
    assert "GFLOP whole" in rows[-1].note
    ways, _ = cascade.scan_of(shape, 16)
    found = {name: way() for name, way in ways.items()}
    assert found["cropped"].shape == shape
    assert (found["cropped"] == 0).any()
    assert not (found["cascade"] == 0).any()


def test_rows_of_the_metrics():
    rows = list(bench_metrics((16, 18, 12)))
    assert [row.what.split(",")[0] for row in rows] == ["IoU", "Dice", "HD95", "surface distance"]
    assert all(float(row.note) > 0 for row in rows)


def test_rows_of_the_inference(monkeypatch):
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.setattr(inference, "ENGINES", {"onnx": ENGINES["onnx"]})
    monkeypatch.setattr(inference, "PAPER", (32, 48, 32))
    monkeypatch.setattr(inference, "make_phantom", partial(make_phantom, shape=(32, 48, 32)))
    monkeypatch.setattr(inference, "NETWORKS", ((2, (16, 22, 8)),))
    monkeypatch.setattr(inference, "WIDTH", 2)
    monkeypatch.setattr(inference, "RPN", partial(RPN, backbone="resnet18"))
    lines = []
    rows = bench.run(["inference"], report=lines.append)
    assert [row.peer for row in rows] == ["onnxruntime", "onnxruntime", "3D U-Net, fastest"]
    assert rows[0].what == "segmenter, inference, base 2, 16 x 22 x 8"
    assert rows[2].limit == 0.15
    assert " of 32 slices; torch " in rows[2].note
    assert lines[-1] == "inference: skipped, openvino is not installed; pip install 'segdet[bench]'"
    monkeypatch.setattr(inference, "find_spec", lambda package: None)
    with pytest.raises(measure.MissingPeer, match=r"onnx is not installed; pip install 'segdet\[export\]'"):
        next(inference.bench_inference())


def test_rows_of_the_waiting_threads(monkeypatch):
    """Each way in a process of its own, whose threads sleep or are left as PyTorch has them, beside busy programs."""
    running, asked = [], []

    class Program:
        def __init__(self, command):
            running.append(self)

        def kill(self):
            running.remove(self)

        def wait(self):
            pass

    def run(command, env, **_):
        asked.append((env.get("OMP_WAIT_POLICY"), len(running)))
        return subprocess.CompletedProcess(command, 0, stdout="0.5\n" if "OMP_WAIT_POLICY" in env else "2.0\n")

    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(waiting.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(waiting.subprocess, "Popen", Program)
    monkeypatch.setattr(waiting.subprocess, "run", run)
    rows = list(waiting.bench_waiting())
    assert [(row.what.split(", ")[-1], row.ratio, row.limit) for row in rows] == [
        ("alone", 0.25, None),
        ("beside 2 busy", 0.25, 1),
    ]
    assert asked == [("PASSIVE", 0), (None, 0), ("PASSIVE", 2), (None, 2)]
    assert running == []


def test_a_missing_peer_is_named_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymust", None)
    lines = []
    assert bench.run(["phantom"], report=lines.append) == []
    assert lines[-1] == "phantom: skipped, pymust is not installed; pip install 'segdet[bench]'"


def test_an_unknown_name_is_refused():
    with pytest.raises(
        SegdetError,
        match="'speed'; choose from phantom, reading, detector, segmenter, waiting, cascade, metrics, inference",
    ):
        bench.run(["speed"])
