"""The backbones of the detector: VGG-16, the paper's, and ResNet-18, a compact one in its place (chapter 05, A21)."""

import os
import socket
import warnings
from collections import OrderedDict
from contextlib import redirect_stdout
from http.client import HTTPException
from io import StringIO
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from .errors import CheckpointError, SegdetError


class Backbone(nn.Sequential):
    """Layers that turn slices into features, and what an `RPN` must know of them.

    Parameters
    ----------
    layers : OrderedDict of nn.Module
    mean, scale : sequences of 3 floats
        The layers see (RGB - mean) * scale, RGB in [0, 1].

    Attributes
    ----------
    channels : int
        Of the features.
    stride : int
        Pixels of the slice per cell.
    offset : float
        Where the receptive field of the first cell is centred, in pixels from the slice's corner, along either axis.
    """

    def __init__(self, layers, mean, scale):
        super().__init__(layers)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1), persistent=False)

    def forward(self, images):
        """RGB in [0, 1], (N, 3, H, W), or grey for all three, (N, 1, H, W) -> (N, channels, rows, columns)."""
        return super().forward((images - self.mean) * self.scale)

    def load_imagenet(self):
        """Fill in weights that were trained on ImageNet, where they can be reached.

        Returns
        -------
        str
            Where they came from: "file", "torchvision", or "random" with a warning where they did not.
        """
        raise NotImplementedError


class VGG16(Backbone):
    """VGG-16 up to relu5_3, the paper's backbone (section 3.1); the fifth pooling would make stride 32.

    Every pooling halves the rows and columns and drops an odd last one: 184 x 96 pixels have 11 x 6 cells.
    """

    channels, stride, offset = 512, 16, 8.0

    def __init__(self):
        from torchvision.models import vgg16  # as long an import as torch, which not all who import this need

        layers = OrderedDict(vgg16(weights=None).features[:30].named_children())
        # Mean of ImageNet as the Caffe model knows it, RGB; it saw grey values up to 255.
        super().__init__(layers, [123.68 / 255, 116.779 / 255, 103.939 / 255], [255.0] * 3)

    def load_imagenet(self):
        """Fill in the weights that the paper's Caffe model started from.

        They come from the safetensors file that the variable SEGDET_VGG16 names, else through torchvision's
        download, and the first blocks are then kept as they are, see `freeze`.

        Returns
        -------
        str
            "file", "torchvision", or "random".

        Raises
        ------
        CheckpointError
            The file is not safetensors or holds other layers.
        """
        from torchvision.models import VGG16_Weights

        named = os.environ.get("SEGDET_VGG16")
        if named:
            source, weights = "file", _caffe_weights(named)
        else:
            way_out = "Set SEGDET_VGG16 to a safetensors file of VGG-16's convolutions to use them."
            source, weights = _download(VGG16_Weights.IMAGENET1K_FEATURES, way_out)
        if weights is None:
            return source
        expected = {f"features.{k}": v.shape for k, v in self.state_dict().items()}
        found = {k: v.shape for k, v in weights.items() if k.startswith("features.")}
        if found != expected:
            odd = sorted(set(found.items()) ^ set(expected.items()))[0]
            file = Path(named or source).name
            raise CheckpointError(f"{file}: not VGG-16's 13 convolutions; first difference: {odd[0]} {tuple(odd[1])}")
        self.load_state_dict({k.removeprefix("features."): v for k, v in weights.items() if k in expected})
        self.freeze()
        return source

    def freeze(self):
        """Keep the first two blocks (conv1_x, conv2_x) as they are, as in Faster R-CNN's VGG-16.

        No gradient reaches them, so none of their activations is stored.
        """
        for layer in list(self)[:10]:
            layer.requires_grad_(False)


class ResNet18(Backbone):
    """ResNet-18 up to its third stage (He et al. 2016): a tenth of VGG-16's operations.

    Its strided layers are padded, so an odd last row or column is kept, 184 x 96 pixels have 12 x 6 cells, and the
    first cell looks at the first pixel, not at the middle of its 16.

    Nothing is kept fixed, and batch normalisation uses the statistics of the batch while it trains, with ImageNet
    weights too: eight slices have hundreds of cells a channel, and ultrasound's statistics are not those of
    photographs. (torchvision's detectors freeze them, because their batch is two photographs.)
    """

    channels, stride, offset = 256, 16, 0.5

    def __init__(self):
        from torchvision.models import resnet18

        network = resnet18(weights=None)
        names = "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"
        layers = OrderedDict((name, getattr(network, name)) for name in names)
        super().__init__(layers, [0.485, 0.456, 0.406], [1 / 0.229, 1 / 0.224, 1 / 0.225])

    def load_imagenet(self):
        """Fill in torchvision's weights; see `Backbone.load_imagenet`."""
        from torchvision.models import ResNet18_Weights

        published = ResNet18_Weights.IMAGENET1K_V1
        way_out = f"Put {published.url} into the folder checkpoints of `torch.hub.get_dir()` to use them."
        source, weights = _download(published, way_out)
        if weights is not None:
            self.load_state_dict({k: weights[k] for k in self.state_dict()})
        return source


BACKBONES = {"vgg16": VGG16, "resnet18": ResNet18}


def make_backbone(name):
    """A backbone with random weights by its name in `BACKBONES`."""
    if name not in BACKBONES:
        raise SegdetError(f"there is no backbone {name!r}; choose from {', '.join(BACKBONES)}")
    return BACKBONES[name]()


def _caffe_weights(path):
    """The state dict of a safetensors file for BGR minus the mean, as one for RGB."""
    try:
        weights = {k: v.float() for k, v in load_file(path).items()}
    except MemoryError:
        raise
    except Exception as error:
        raise CheckpointError(f"{Path(path).name}: SEGDET_VGG16 must name a safetensors file ({error})") from error
    if "features.0.weight" in weights:
        weights["features.0.weight"] = weights["features.0.weight"].flip(1)
    return weights


def _download(published, way_out):
    """("torchvision", state dict), or ("random", None) and a warning that ends with the way out."""
    timeout = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(10)
        with redirect_stdout(StringIO()):  # where torch.hub says what it downloads and to which folder
            return "torchvision", published.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, HTTPException):  # no network, a portal instead of the file, a cut download
        warnings.warn(
            "ImageNet weights are out of reach: the detector starts from random weights and will be worse. " + way_out,
            stacklevel=4,
        )
        return "random", None
    finally:
        socket.setdefaulttimeout(timeout)
