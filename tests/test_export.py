"""An exported cascade says what PyTorch's says, in a process without PyTorch too."""

import copy
import errno
import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from segdet.anchors import AnchorGrid
from segdet.attention import boxes_to_mask
from segdet.cascade import Cascade
from segdet.errors import CheckpointError, SegdetError
from segdet.export import onnx as exporting
from segdet.export.exported import ExportedCascade, open_network
from segdet.export.load import load_cascade
from segdet.export.onnx import Proposer, export
from segdet.io.annotations import load_mask
from segdet.io.itk import write_itk
from segdet.pipeline import Grids
from segdet.proposals import Proposals
from segdet.rpn import RPN
from segdet.runtime.atomic import writing_folder
from segdet.unet3d import UNet3D
from segdet.volume import Volume

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed; pip install 'segdet[export]'")

pytestmark = pytest.mark.usefixtures("in_float32")  # as the engines
MODELS = Path(exporting.__file__).parents[1] / "models"  # those that come with the package
GRIDS = Grids((16, 48, 32), (16, 96, 64), (16, 24, 16))


def random_cascade(margin, **rpn):
    """A cascade whose boxes differ from slice to slice, and whose mask is neither empty nor full."""
    torch.manual_seed(0)
    detector, segmenter = RPN(AnchorGrid((20, 30, 40), (0.8, 1.2, 1.6)), **rpn).eval(), UNet3D(2, 2, 2).eval()
    with torch.no_grad():
        objectness, offsets, _ = detector(torch.rand(4, *(3,) * detector.neighbours, 96, 64))
        detector.scores.weight /= objectness.std()
        detector.offsets.weight *= 0.2 / offsets.std()
        segmenter.head.weight *= 100
        segmenter.head.bias -= segmenter(torch.randn(1, 2, 16, 24, 16)).median(-1)[0].median(-1)[0].median(-1)[0][0]
    return Cascade(detector, segmenter, GRIDS, Proposals(top_k=2, threshold=0.4), margin)


@pytest.fixture(scope="module")
def cascade():
    return random_cascade(margin=2.0, neighbours=True)


@pytest.fixture(scope="module")
def model(cascade, tmp_path_factory):
    """The folder of a trained model that another engine was asked to run."""
    model = tmp_path_factory.mktemp("trained") / "model"
    cascade.save(model)
    said = []
    assert isinstance(load_cascade(model, "onnx", said.append), ExportedCascade)
    assert len(said) == 1
    return model


@pytest.fixture(scope="module")
def folder(model):
    """The export of the model."""
    (folder,) = model.glob("onnx-*")
    return folder


@pytest.fixture(scope="module")
def scan():
    return Volume.from_spacing(np.random.default_rng(0).integers(0, 255, (20, 50, 30), np.uint8), (0.8, 1, 1.2))


def test_what_an_export_holds(cascade, folder):
    assert {path.name for path in folder.iterdir()} == {"detector.onnx", "segmenter.onnx", "exported.json"}
    said = json.loads((folder / "exported.json").read_text())
    assert said["grids"]["detector_spacing"] == [1, 0.5, 0.5]
    for path in (*folder.iterdir(), *MODELS.rglob("*.*")):
        held = path.read_bytes()
        assert not any(trace in held for trace in (b"site-packages", b"unet3d.py", b"rpn.py")), path.name
    assert said["grids"]["segmenter_spacing"] == [1, 2, 2]
    assert said["anchors"] == {"sizes": [20, 30, 40], "ratios": [0.8, 1.2, 1.6], "stride": 16}
    assert said["proposals"] == {"top_k": 2, "threshold": 0.4, "nms_iou": 0.5, "vote": True}
    assert said["margin"] == 2
    assert set(said["differences"]) == {"objectness", "offsets", "segmenter"}
    assert 0 < max(said["differences"].values()) <= 1e-4


@pytest.mark.parametrize("number", [1, 5])
def test_the_detector_takes_any_number_of_slices(cascade, folder, number):
    slices = torch.rand(number, 3, 96, 64, generator=torch.Generator().manual_seed(number))
    found = open_network(folder / "detector.onnx", "onnx")(slices.numpy())
    with torch.no_grad():
        expected = Proposer(cascade.detector, cascade.proposals)(slices)
    for name, value in zip(("objectness", "offsets", "boxes", "scores"), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(found[name]), value, atol=1e-3, rtol=1e-4, msg=name)


@pytest.mark.parametrize("shape", [(16, 24, 16), (17, 19, 21), (24, 16, 40)])
def test_a_cropped_segmenter_takes_any_size(cascade, folder, shape):
    volume = torch.randn(1, 2, *shape)
    found = open_network(folder / "segmenter.onnx", "onnx")(volume.numpy())["logits"]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), cascade.segmenter(volume), atol=1e-4, rtol=1e-4)


def with_detector_of(folder, monkeypatch, change=lambda network: network):
    """Let `export` take over the detector that is in a folder, which takes longest, and change the segmenter."""

    def write(network, example, path, *arguments):
        if path.name == "detector.onnx":
            shutil.copy(folder / path.name, path)
        else:
            original(change(network), example, path, *arguments)

    original = exporting.write_onnx
    monkeypatch.setattr(exporting, "write_onnx", write)


def test_a_whole_segmenter_takes_its_grid(folder, tmp_path, scan, monkeypatch):
    whole = random_cascade(margin=None, neighbours=True)  # the same detector, which `export` checks
    with_detector_of(folder, monkeypatch)
    export(whole, tmp_path / "onnx")
    network = open_network(tmp_path / "onnx/segmenter.onnx", "onnx")
    assert network(np.zeros((1, 2, 16, 24, 16), np.float32))["logits"].shape == (1, 2, 16, 24, 16)
    with pytest.raises(Exception, match="invalid dimensions"):
        network(np.zeros((1, 2, 24, 24, 16), np.float32))
    same(ExportedCascade(tmp_path / "onnx").predict(scan), whole.predict(scan))


def same(found, expected):
    """The same boxes to 1e-3 pixels, the same probabilities to 1e-4, of which some are a mask and some are not."""
    assert np.unique(expected.boxes, axis=0).shape[0] > 1
    assert 0 < expected.attention.mean() < 1
    assert 0 < expected.mask.mean() < 1
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-4)
    unsure = abs(expected.probability - 0.5) < 1e-4
    assert np.array_equal(found.mask | unsure, expected.mask | unsure)


@pytest.mark.parametrize(("engine", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
@pytest.mark.parametrize("step", [1, 4])
def test_every_engine_predicts_the_same(cascade, folder, scan, engine, package, step):
    pytest.importorskip(package)
    same(ExportedCascade(folder, engine, threads=1).predict(scan, step=step), cascade.predict(scan, step=step))


WITHOUT_TORCH = """
import sys

class NotInstalled:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
from segdet.cli import main
main()
"""


@pytest.mark.parametrize("drawn", [{}, {4: [[3, 10, 20, 40]], 5: [[3, 10, 20, 40], [15.4, 20, 28, 45.6]]}])
def test_a_scan_becomes_a_mask_without_pytorch(drawn, cascade, folder, scan, tmp_path):
    write_itk(scan.voxels, scan, tmp_path / "scan.nii.gz")
    arguments = ["predict", tmp_path / "scan.nii.gz", "--model", folder, "--out", tmp_path / "mask.nii.gz"]
    attention = None
    if drawn:
        lines = [",".join(map(str, (number, *box))) for number, boxes in drawn.items() for box in boxes]
        (tmp_path / "boxes.csv").write_text("\n".join(["slice,x0,y0,x1,y1", *lines]))
        arguments += ["--boxes", tmp_path / "boxes.csv"]
        attention = boxes_to_mask([np.reshape(drawn.get(i, []), (-1, 4)) for i in range(20)], scan.shape).numpy()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    prediction = cascade.predict(scan, (lambda _: attention) if drawn else None)
    found, _ = load_mask(tmp_path / "mask.nii.gz")
    assert (found != prediction.mask)[abs(prediction.probability - 0.5) > 1e-4].sum() == 0


def test_a_trained_model_in_another_engine(cascade, model, folder, scan):
    again = load_cascade(model, "onnx", pytest.fail)  # which would be a report of another export
    same(again.predict(scan), cascade.predict(scan))
    assert isinstance(load_cascade(model), Cascade)
    assert isinstance(load_cascade(folder), ExportedCascade)
    with pytest.raises(CheckpointError, match="which PyTorch does not run; use --engine onnx"):
        load_cascade(folder, "torch")


def test_two_first_uses_of_an_engine_make_one_export(cascade, folder, tmp_path, monkeypatch):
    cascade.save(tmp_path / "model")
    begun, made, said = threading.Event(), [], []

    def slow(_, inside):
        made.append(inside.name)
        begun.set()
        time.sleep(0.5)  # in which the second comes
        with writing_folder(inside) as temporary:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)

    monkeypatch.setattr(exporting, "export", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(load_cascade, tmp_path / "model", "onnx", said.append)
        assert begun.wait(60)
        second = pool.submit(load_cascade, tmp_path / "model", "onnx", said.append)
        assert all(isinstance(waiting.result(), ExportedCascade) for waiting in (first, second))
    assert made == [folder.name]
    assert len(said) == 1
    assert not list((tmp_path / "model").glob(".*"))


def test_a_model_on_a_disk_that_is_only_read_says_where_its_export_can_be(cascade, tmp_path, monkeypatch):
    def refuse(dir):  # root may write to everything but such a disk
        raise OSError(errno.EROFS, "Read-only file system", str(dir))

    cascade.save(tmp_path)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(CheckpointError) as refused:
        load_cascade(tmp_path, "onnx", pytest.fail)
    assert str(refused.value) == (
        f"{tmp_path}: its export cannot be written into it (Read-only file system); write it elsewhere with "
        f"`segdet export {tmp_path} --out FOLDER`, and name FOLDER as the model"
    )
    assert sorted(tmp_path.iterdir()) == before


def test_an_engine_makes_no_folder_where_no_model_is(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere: holds no cascade\.json; train a model"):
        load_cascade(tmp_path / "nowhere", "onnx")
    assert not list(tmp_path.iterdir())


def test_an_export_is_not_loaded_as_a_trained_model(folder):
    with pytest.raises(CheckpointError, match=r"it holds an export, which segdet\.export\.load\.load_cascade reads"):
        Cascade.load(folder)


def test_a_folder_that_is_there_is_refused(cascade, folder):
    before = (folder / "exported.json").read_bytes()
    with pytest.raises(SegdetError, match="is there already"):
        export(cascade, folder)
    assert (folder / "exported.json").read_bytes() == before


def test_networks_that_differ_are_not_written(cascade, folder, tmp_path, monkeypatch):
    def change(network):
        network = copy.deepcopy(network)
        network.head.bias.data += torch.tensor([0.0, 0.01])
        return network

    with_detector_of(folder, monkeypatch, change)
    with pytest.raises(SegdetError, match=r"not written, segmenter of ONNX Runtime is off PyTorch's by 2\.5e-03"):
        export(cascade, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_one_line(cascade, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "find_spec", lambda package: None)
    with pytest.raises(SegdetError, match=r"onnx is not installed; pip install 'segdet\[export\]'"):
        export(cascade, tmp_path / "onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SegdetError, match="onnxruntime is not installed; pip install onnxruntime"):
        ExportedCascade(folder)
    with pytest.raises(SegdetError, match="no engine 'speed'; choose from onnx, openvino"):
        ExportedCascade(folder, "speed")


def test_what_is_no_export_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no exported\.json"):
        ExportedCascade(tmp_path)
    (tmp_path / "exported.json").write_text('{"grids": {}}')
    with pytest.raises(CheckpointError, match="not what `segdet export` wrote"):
        ExportedCascade(tmp_path)
    settings = json.loads((folder / "exported.json").read_text())
    for changed, reason in (
        ({"margin": "5"}, "the margin is '5'; expected None or a number of mm"),
        ({"grids": settings["grids"] | {"extent": [1, 2]}}, r"its extent is \[1, 2\]; expected three numbers above 0"),
        ({"detector": {}, "margin": -1}, "the margin is -1"),
        ({"detector": {"file": "detector.onnx"}}, "KeyError.*neighbours"),
        ({"detector": "detector.onnx"}, "TypeError"),
    ):
        (tmp_path / "exported.json").write_text(json.dumps(settings | changed))
        with pytest.raises(CheckpointError, match=rf"exported\.json: not what `segdet export` wrote \(.*{reason}"):
            ExportedCascade(tmp_path)
    (tmp_path / "exported.json").write_text(json.dumps({k: v for k, v in settings.items() if k != "detector"}))
    with pytest.raises(CheckpointError, match=r"not what `segdet export` wrote \(KeyError\('detector'\)\)"):
        ExportedCascade(tmp_path)
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    grids = settings["grids"] | {"detector_shape": [16, 96, 65]}
    (whole / "exported.json").write_text(json.dumps(settings | {"grids": grids}))
    with pytest.raises(CheckpointError, match=r"detector\.onnx: onnxruntime cannot run it on an input of .*65\)"):
        ExportedCascade(whole).propose(np.zeros((2, 3, 96, 65), np.float32))
    (tmp_path / "exported.json").write_bytes((folder / "exported.json").read_bytes())
    (tmp_path / "detector.onnx").write_bytes((folder / "detector.onnx").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"detector\.onnx: onnxruntime cannot read it"):
        ExportedCascade(tmp_path)


@pytest.mark.parametrize("part", ["detector", "segmenter"])
def test_weights_that_are_no_numbers_are_the_fault_of_the_model(part, folder, scan, tmp_path):
    import onnx

    shutil.copytree(folder, tmp_path / "m")
    path = tmp_path / "m" / f"{part}.onnx"
    network = onnx.load(path)
    for tensor in network.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 3:
            values = np.full_like(onnx.numpy_helper.to_array(tensor), np.nan)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(network, path)
    with pytest.raises(CheckpointError) as caught:
        load_cascade(tmp_path / "m").predict(scan)
    assert str(caught.value) == f"{path}: finds values that are NaN or infinite; train and export the model again"
