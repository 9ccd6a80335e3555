"""A 3D U-Net as a small ONNX file: normalisation absorbed, weights in 8 bits a channel (chapter 09)."""

import copy

import numpy as np
import torch
from torch import nn

from ..folding import absorb
from ..runtime.atomic import writing
from ..unet3d import TwoConv
from .onnx import write_onnx


def write_rounded(segmenter, example, path):
    """Write a `UNet3D` with batch normalisation as ONNX whose weights take a byte each.

    A weight w of channel c (its first axis) is stored as the integer q = round(w / s), where the scale s of the channel
    is its largest weight over 127, and becomes q s again when an engine opens the file: it computes in float32.
    Initialisers are called as in the state dict, q as ``NAME``, s as ``NAME_scale``. Biases stay as they are.

    Parameters
    ----------
    segmenter : UNet3D
    example : Tensor, (1, C, D, H, W)
        The file takes inputs of its shape.
    path : Path
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    with writing(path) as temporary:
        write_onnx(without_norms(segmenter), example, temporary, "image", ("logits",), (), optimize=False)
        model = onnx.load(temporary)
        kept, opening = [], []
        for tensor in model.graph.initializer:
            if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
                kept.append(tensor)
                continue
            whole, scale = rounded(numpy_helper.to_array(tensor))
            names = [tensor.name, f"{tensor.name}_scale"]
            kept += [numpy_helper.from_array(array, name) for array, name in zip((whole, scale), names, strict=True)]
            opening.append(helper.make_node("DequantizeLinear", names, [f"{tensor.name}_opened"], axis=0))
        opened = {node.input[0]: node.output[0] for node in opening}
        for node in model.graph.node:
            node.input[:] = [opened.get(name, name) for name in node.input]
        nodes = [*opening, *model.graph.node]
        graph = helper.make_graph(nodes, "unet3d", model.graph.input, model.graph.output, kept)
        onnx.save(helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version), temporary)


def rounded(weight):
    """(q, s) of `write_rounded`: int8 of the weight's shape and float32 (channels,); a channel of zeros has s = 1."""
    scale = np.abs(weight).reshape(len(weight), -1).max(1) / np.float32(127)
    scale[scale == 0] = 1
    return np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8), scale


@torch.no_grad()
def without_norms(segmenter):
    """A copy for inference, on the CPU, whose convolutions have taken in the batch normalisation behind them."""
    segmenter = copy.deepcopy(segmenter).cpu().float().eval()
    for part in segmenter.modules():
        for number in (0, 3) if isinstance(part, TwoConv) else ():
            conv = part[number]
            weight, bias, part[number + 1] = absorb(conv, part[number + 1])
            conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return segmenter
