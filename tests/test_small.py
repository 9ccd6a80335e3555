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


# --- the person


@pytest.fixture
def ball():
    """A ball of radius 5 in slices 3 to 13 of 16, and its spacing."""
    z, y, x = np.ogrid[:16, :20, :20]
    return (z - 8) ** 2 + (y - 10) ** 2 + (x - 9) ** 2 <= 25, (1.0, 0.5, 2.0)


def test_a_person_who_paints_every_slice_without_an_error_draws_the_tight_boxes(ball, monkeypatch):
    monkeypatch.setattr(small, "PLACE_MM", 0)
    monkeypatch.setattr(small, "SIZE", 0)
    boxes = small.person_boxes(*ball, 32, np.random.default_rng(0))
    assert boxes.shape == (16, 1, 4)
    assert boxes[8, 0].tolist() == [4, 5, 15, 16]
    assert boxes[3, 0].tolist() == [9, 10, 10, 11]
    assert (boxes[:, 0, 2] > boxes[:, 0, 0]).tolist() == [3 <= z <= 13 for z in range(16)]


def test_between_painted_slices_boxes_lie_on_lines(ball):
    boxes = small.person_boxes(*ball, 2, np.random.default_rng(3))[:, 0]
    (held,) = np.nonzero(boxes[:, 2] > boxes[:, 0])
    first, last = held[0], held[-1]
    assert 3 <= first <= 8 < last <= 13  # one of each half
    assert held.tolist() == list(range(first, last + 1))
    assert boxes[held] == pytest.approx(np.linspace(boxes[first], boxes[last], len(held)), abs=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_few_slices(ball, count):
    boxes = small.person_boxes(*ball, count, np.random.default_rng(0))
    assert ((boxes[..., 2] > boxes[..., 0]).sum()) == count
    assert not small.person_boxes(ball[0] & False, ball[1], 4, np.random.default_rng(0)).any()


def test_errors_are_as_large_as_they_say(ball):
    boxes = np.array([small.person_boxes(*ball, 32, np.random.default_rng(seed))[8, 0] for seed in range(4000)])
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    assert centres.mean(0) == pytest.approx([9.5, 10.5], abs=0.1)
    assert centres.std(0) == pytest.approx([small.PLACE_MM / 2, small.PLACE_MM / 0.5], rel=0.05)  # columns, rows
    assert np.log(sides / 11).mean(0) == pytest.approx([0, 0], abs=0.01)
    assert np.log(sides).std(0) == pytest.approx([small.SIZE] * 2, rel=0.05)


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
    grids, first = small.load_grids(), 1000 * (small.SEED + 1) + small.PROFILE.train + small.PROFILE.validation
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
    boxes = small.person_boxes(hip.mask, hip.spacing, 128, np.random.default_rng(0))[:, 0]
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
