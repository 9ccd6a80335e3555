"""Inference on a CPU in ONNX Runtime and OpenVINO: our networks, and one scan the shortest way (chapter 09).

All engines compute in float32 with as many threads as PyTorch has. A network is the one that `segdet export` writes.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ..attention import attended_region, painted
from ..boxes import pad_boxes
from ..cascade import Cascade
from ..experiments.cost import flops_of
from ..export.exported import ENGINES, ExportedCascade, open_network
from ..export.onnx import Proposer, export, write_onnx
from ..phantom.acoustics import make_phantom
from ..pipeline import BATCH, Grids, search
from ..rpn import RPN
from ..unet3d import UNet3D
from ..volume import slice_boxes
from .cascade import MARGIN
from .detector import KEEP
from .measure import MissingPeer, Row, grid, in_precision, paired, rate_note
from .segmenter import PAPER, SHAPES

STEP = 8  # the detector looks at every eighth slice first
WIDTH = 32  # Cicek's, of the scan
NETWORKS = (8, SHAPES[0]), (16, SHAPES[0]), (16, SHAPES[1]), (16, PAPER)


def bench_inference():
    """Rows for both networks in every installed engine, and for one scan at the paper's grid in the fastest."""
    needed = ("onnx", "onnxscript", "onnxruntime")
    if missing := [package for package in needed if find_spec(package) is None]:
        raise MissingPeer(f"{missing[0]} is not installed; pip install 'segdet[export]'")
    engines = {name: package for name, (package, _) in ENGINES.items() if find_spec(package)}
    for base, shape in NETWORKS:
        volume = torch.rand(1, 2, *shape)
        label = f"segmenter, inference, base {base}, {grid(shape)}"
        yield from rows(label, UNet3D(2, 2, base), volume, engines, repeats=9 if shape == SHAPES[0] else 3)
    yield from rows(f"detector, {BATCH} slices", Proposer(RPN(), KEEP), torch.rand(BATCH, *PAPER[1:]), engines, 3)
    yield scan_row(engines)
    if "openvino" not in engines:
        raise MissingPeer("openvino is not installed; pip install 'segdet[bench]'")


def rows(label, network, example, engines, repeats):
    """PyTorch (ours) beside every engine, for one network on one input."""
    ours = in_torch(network, example)
    operations = flops_of(ours)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network.eval(), example, path, "x", None, ())
        for name, package in engines.items():
            peer = open_network(path, name, torch.get_num_threads())
            times = paired(ours, lambda run=peer: run(example.numpy()), repeats)
            with in_precision("float32"):
                note = rate_note(operations, times[0])
            yield Row(label, package, *times, note=note)


def in_torch(network, example):
    """A function that runs a network on an input in PyTorch, channels last, without gradients."""
    layout = torch.channels_last_3d if example.ndim == 5 else torch.contiguous_format
    network, example = network.eval().to(memory_format=layout), example.contiguous(memory_format=layout)
    return torch.no_grad()(lambda: network(example))


def scan_row(engines):
    """The cropped cascade with a searching detector beside the plain 3D U-Net, each in its fastest engine."""
    volume = make_phantom(1)
    grids = Grids(tuple(np.multiply(volume.shape, volume.spacing)), PAPER, PAPER)
    cascade = Cascade(RPN().eval(), UNet3D(2, 2, WIDTH).eval(), grids, KEEP, MARGIN)
    plain = UNet3D(1, 2, WIDTH).eval()
    fine, _, slices, image = grids.inputs(volume)
    example = torch.from_numpy(image)[None, None]
    boxes = pad_boxes(slice_boxes(fine.mask)).numpy()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        export(cascade, folder / "cascade")
        write_onnx(plain, example, folder / "plain.onnx", "x", None, ())
        ours, theirs = {"torch": cascade}, {"torch": in_torch(plain, example)}
        for name, package in engines.items():
            ours[package] = ExportedCascade(folder / "cascade", name, torch.get_num_threads())
            run = open_network(folder / "plain.onnx", name, torch.get_num_threads())
            theirs[package] = lambda run=run: run(example.numpy())
    ways = {name: short_way(pipeline, slices, image, boxes, fine.spacing) for name, pipeline in ours.items()}
    times = {name: paired(ways[name], theirs[name], 1) for name in ways}
    best = [min(times, key=lambda name, i=i: times[name][i]) for i in (0, 1)]
    looked = search(lambda numbers: boxes[numbers], len(slices), STEP)[1].sum()
    note = f"ours in {best[0]}, the peer in {best[1]}; {looked} of {len(slices)} slices; "
    note += ", ".join(f"{name} {a:.2f} s against {b:.2f} s" for name, (a, b) in times.items())
    label = f"a scan, cropped, step {STEP}, {grid(PAPER)}"
    return Row(label, "3D U-Net, fastest", times[best[0]][0], times[best[1]][1], limit=0.15, note=note)


def short_way(pipeline, slices, image, boxes, spacing):
    """A function that takes a scan's slices to its mask; the networks are random, so the boxes are the annotation's."""

    def find(numbers):
        pipeline.propose(slices[numbers])
        return boxes[numbers]

    def run():
        attention = painted(search(find, len(slices), STEP)[0], slices.shape)
        return pipeline.segment(image, attention, attended_region(attention, spacing, pipeline.margin))

    return run
