"""Both networks of a cascade as ONNX, and what else it takes to run it without PyTorch (chapter 09)."""

import copy
import json
import warnings
from dataclasses import asdict
from importlib.util import find_spec

import torch
from torch import nn

from .. import __version__
from ..errors import SegdetError
from ..proposals import propose
from ..runtime.atomic import write_text, writing_folder
from .exported import SETTINGS, open_network

DETECTOR_OUTPUTS = ("objectness", "offsets", "boxes", "scores")
SEGMENTER = {  # in exported.json
    "file": "segmenter.onnx",
    "channels": ["scan", "attention: 1 inside a box, else 0"],
    "normalisation": "mean 0 and deviation 1 over the voxels inside the scan",
    "outputs": "logits (background, object) a voxel; the mask is where the probability is at least 0.5",
}
TOLERANCE = 1e-4  # of probabilities and offsets, between ONNX Runtime and PyTorch


class Proposer(nn.Module):
    """A detector together with the choice of its boxes: slices -> objectness, offsets, boxes, scores."""

    def __init__(self, detector, proposals):
        super().__init__()
        self.detector, self.proposals = detector, proposals

    def forward(self, slices):
        """See `segdet.rpn.RPN.forward` and `propose`."""
        objectness, offsets, anchors = self.detector(slices)
        return objectness, offsets, *propose(objectness, offsets, anchors, slices.shape[-2:], self.proposals)


def export(cascade, folder):
    """Write a cascade as detector.onnx, segmenter.onnx and exported.json, and compare both networks with PyTorch's.

    The detector takes any number of slices of its grid. The segmenter takes its grid, or, where the cascade crops, a
    volume of any size. The folder appears when all is written and the comparison holds.

    Parameters
    ----------
    cascade : Cascade
    folder : str or Path
        Must not be there yet.

    Returns
    -------
    dict
        The largest differences between ONNX Runtime and PyTorch: ``objectness`` and ``segmenter`` of probabilities,
        ``offsets`` of the detector's offsets.

    Raises
    ------
    SegdetError
        A package is missing, the folder is there, or the networks differ by more than `TOLERANCE`.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise SegdetError(f"{package} is not installed; pip install 'segdet[export]'")
    detector = _frozen(Proposer(cascade.detector, cascade.proposals))
    segmenter = _frozen(cascade.segmenter)
    slices, volume = _examples(cascade)
    with writing_folder(folder) as temporary:
        write_onnx(detector, slices, temporary / "detector.onnx", "slices", DETECTOR_OUTPUTS, (0,))
        sides = () if cascade.margin is None else (2, 3, 4)
        write_onnx(segmenter, volume, temporary / "segmenter.onnx", "image", ("logits",), sides)
        found = _differences(detector, segmenter, slices, volume, temporary)
        worst = max(found, key=found.get)
        if not found[worst] <= TOLERANCE:
            raise SegdetError(f"{folder}: not written, {worst} of ONNX Runtime is off PyTorch's by {found[worst]:.1e}")
        write_text(temporary / SETTINGS, json.dumps(_settings(cascade, found), indent=2) + "\n")
    return found


def _frozen(network):
    """A copy for inference on the CPU in float32."""
    return copy.deepcopy(network).cpu().float().eval()


def _examples(cascade):
    """Random inputs of the detector and the segmenter, for tracing and for the comparison."""
    generator = torch.Generator().manual_seed(0)
    channels = (3,) if cascade.detector.neighbours else ()
    slices = torch.rand(2, *channels, *cascade.grids.detector_shape[1:], generator=generator)
    shape = cascade.grids.segmenter_shape if cascade.margin is None else (16, 24, 32)
    return slices, torch.randn(1, 2, *shape, generator=generator)


def write_onnx(network, example, path, name, outputs, dynamic, optimize=True):
    """Write one network whose sides `dynamic` may have any length; not optimised, its weights keep their names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about itself
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=[name],
            output_names=outputs,
            dynamic_shapes=(dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC),),
            opset_version=18,
            dynamo=True,
            optimize=optimize,
            external_data=False,
            verbose=False,
        )
    without_traces(path)


def without_traces(path):
    """Take from a file what the exporter notes at every part of a network: the code behind it, with its folders."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


@torch.no_grad()
def _differences(detector, segmenter, slices, volume, folder):
    """What `export` returns."""
    expected = dict(zip(DETECTOR_OUTPUTS, detector(slices), strict=True)) | {"logits": segmenter(volume)}
    found = open_network(folder / "detector.onnx", "onnx")(slices.numpy())
    found |= open_network(folder / "segmenter.onnx", "onnx")(volume.numpy())
    found = {name: torch.from_numpy(value) for name, value in found.items()}

    def difference(name, change=lambda t: t):
        return float((change(found[name]) - change(expected[name])).abs().max())

    return {
        "objectness": difference("objectness", lambda t: t.softmax(-1)),
        "offsets": difference("offsets"),
        "segmenter": difference("logits", lambda t: t.softmax(1)),
    }


def _settings(cascade, differences):
    """What exported.json says; whoever runs the networks elsewhere needs all of it."""
    grids, detector = cascade.grids, cascade.detector
    shapes = {"detector": grids.detector_shape, "segmenter": grids.segmenter_shape}
    anchors = detector.anchors
    return {
        "segdet": __version__,
        "axes": "arrays are (slice, row, column), boxes (x0, y0, x1, y1) in pixels, half-open edges, x along columns; "
        "orientation: where they run in the patient (L, P, S or R, A, I), empty where that is not known",
        "grids": asdict(grids) | {f"{name}_spacing": grids.spacing(shape) for name, shape in shapes.items()},
        "detector": {
            "file": "detector.onnx",
            "neighbours": detector.neighbours,
            "padded": detector.padded,
            "normalisation": "the 0.5 and 99.5 percentiles inside the scan become 0 and 1, the rest is clipped",
            "outputs": "objectness: logits (background, object) an anchor; offsets; boxes and scores, best first",
        },
        "anchors": {"sizes": anchors.sizes, "ratios": anchors.ratios, "stride": anchors.stride},
        "proposals": asdict(cascade.proposals),
        "segmenter": SEGMENTER,
        "margin": cascade.margin,
        "differences": differences,
    }
