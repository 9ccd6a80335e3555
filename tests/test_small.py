"""The network that comes with the package: what it was trained with, how it is rounded, and that its card is true."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from typer.testing import CliRunner

from segdet import metrics
from segdet.cli.app import app
from segdet.errors import SegdetError
from segdet.experiments import small
from segdet.experiments.cases import phantom_split, prepare
from segdet.experiments.person import paint_some
from segdet.export.exported import open_network
from segdet.export.load import load_cascade
from segdet.export.rounded import rounded, without_norms, write_rounded
from segdet.io.annotations import load_mask
from segdet.io.nifti import write_nifti
from segdet.phantom.cache import cached_phantom
from segdet.unet3d import UNet3D

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; pip install 'segdet[export]'")


def opened(path, **config):
    """The weights of a file of `write_rounded` in PyTorch's network."""
    held = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    network = UNet3D(**config, norm="none").eval()
    state = {}
    for name, weight in network.state_dict().items():
        scale = held.get(f"{name}_scale")
        assert held[name].dtype == (np.float32 if scale is None else np.int8)
        whole = held[name].astype(np.float32)
        state[name] = torch.from_numpy(whole if scale is None else whole * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    network.load_state_dict(state)
    return network


# --- 8 bits


def test_rounded_by_hand():
    whole, scale = rounded(np.array([[[1.27, -0.635]], [[0, 0]], [[-254, 3]]], np.float32))
    assert whole.dtype == np.int8
    assert whole.tolist() == [[[127, -64]], [[0, 0]], [[-127, 2]]]
    assert scale.tolist() == pytest.approx([0.01, 1, 2])


def test_a_rounded_file_against_pytorch(tmp_path):
    torch.manual_seed(0)
    network, x = UNet3D(2, 2, 4).train(), torch.randn(1, 2, 16, 24, 16)
    for _ in range(3):
        network(2 * torch.randn_like(x))  # running averages that are not 0 and 1
    network.eval()
    write_rounded(network, x, tmp_path / "a.onnx")
    held = opened(tmp_path / "a.onnx", in_channels=2, out_channels=2, base_channels=4)
    with torch.no_grad():
        exact, bare, expected = network(x), without_norms(network)(x), held(x)
    assert torch.allclose(bare, exact, atol=1e-5)
    found = open_network(tmp_path / "a.onnx", "onnx")(x.numpy())["logits"]
    assert np.abs(found - expected.numpy()).max() < 1e-4
    assert 1e-4 < (expected - exact).abs().max() < 0.1
    for name, weight in without_norms(network).state_dict().items():
        if weight.ndim > 1:  # at most half a step off, and nothing else was changed
            step = weight.abs().flatten(1).amax(1) / 127
            assert ((held.state_dict()[name] - weight).abs().flatten(1).amax(1) <= 0.501 * step).all()


# --- what is committed


def test_the_file_is_small():
    assert (small.FOLDER / "segmenter.onnx").stat().st_size <= 1.5e6


def test_the_card_is_true():
    """The scores of the first two test hips again, and the means of what is listed."""
    card = json.loads((small.FOLDER / "card.json").read_text())
    for kind, of in card["iou"].items():
        for count, values in of.items():
            assert len(values) == len(card["test"]) == small.PROFILE.test
            assert np.mean(values) == pytest.approx(card["mean iou"][kind][count], abs=1e-4)
    grids = load_cascade(small.NAME).grids
    first = 1000 * (small.SEED + 1) + small.PROFILE.train + small.PROFILE.validation
    assert card["test"][:2] == [f"phantom-{first}", f"phantom-{first + 1}"]
    hips = [cached_phantom(first + i, side=("left", "right")[(first + i) % 2]) for i in range(2)]
    found = small.scores(
        grids, [prepare(hip, grids) for hip in hips], small.in_eight_bits(small.FOLDER / "segmenter.onnx")
    )
    for count, values in found.items():
        assert values == pytest.approx(card["iou"]["int8"][str(count)][:2], abs=2e-3)


def test_boxes_help_and_rounding_does_not_hurt():
    of = json.loads((small.FOLDER / "card.json").read_text())["mean iou"]
    assert min(of["int8"]["4"], of["int8"]["32"]) > of["int8"]["0"]
    assert all(abs(of["int8"][n] - of["float32"][n]) < 0.01 for n in of["int8"])


def test_the_test_hips_were_not_trained_on(small_phantoms):
    train, validation, test = phantom_split(small.PROFILE, small.SEED)
    names = [{volume.name for volume in part} for part in (train, validation, test)]
    assert [len(part) for part in names] == [36, 6, 20]
    assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
    assert json.loads((small.FOLDER / "card.json").read_text())["test"] == sorted(names[2])


# --- segdet predict --model hip-small


def test_predict_where_nothing_was_trained(tmp_path):
    hip = cached_phantom(1042, side="left")
    write_nifti(hip.voxels, hip, tmp_path / "hip.nii.gz")
    boxes = paint_some(small.PERSON, hip.mask, hip.spacing, 128, np.random.default_rng(0))[0][:, 0]
    lines = [f"{z},{','.join(f'{edge:.1f}' for edge in box)}" for z, box in enumerate(boxes) if box[2] > box[0]]
    (tmp_path / "boxes.csv").write_text("\n".join(["slice,x0,y0,x1,y1", *lines]) + "\n")
    command = ["predict", str(tmp_path / "hip.nii.gz"), "--model", "hip-small", "--out", str(tmp_path / "mask.nii.gz")]
    answer = CliRunner().invoke(app, [*command, "--boxes", str(tmp_path / "boxes.csv")])
    assert answer.exit_code == 0, answer.output
    found, _ = load_mask(tmp_path / "mask.nii.gz")
    assert metrics.iou(found, hip.mask) > 0.7
    alone = CliRunner().invoke(app, [*command, "--force"])
    assert isinstance(alone.exception, SegdetError)
    assert str(alone.exception).endswith("has no detector; give it the boxes of a person, with --boxes")


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hip-small").mkdir()
    with pytest.raises(SegdetError, match=r"hip-small: holds no cascade\.json"):
        load_cascade("hip-small")


def test_a_folder_that_is_not_there_is_not_the_shipped_model(tmp_path):
    with pytest.raises(SegdetError, match=r"nowhere/hip-small: holds no cascade\.json"):
        load_cascade(tmp_path / "nowhere/hip-small")
