"""The detector, a region proposal network, and its loss (chapters 04 and 05)."""

import torch
import torch.nn.functional as F
from torch import nn

from .anchors import AnchorGrid
from .backbones import make_backbone
from .proposals import Proposals, propose
from .rpn_loss import Sampling, sampled_loss


class RPN(nn.Module):
    """Region proposal network (paper section 3, detection module).

    A backbone, by default VGG-16 up to conv5_3 (stride 16), a 3 x 3 window of 512 channels, and two 1 x 1 layers: two
    scores and four offsets for every anchor. The backbone starts at random; `load_imagenet` fills it.

    Parameters
    ----------
    anchors : AnchorGrid
    sampling : Sampling
    neighbours : bool
        Whether the three channels are a slice and its two neighbours (`segdet.volume.with_neighbours`) instead of three
        times the slice (`facts` B7).
    padded : bool
        Whether the last row and column are repeated until the stride divides the slice, so that every pixel has a
        cell (`facts` B10).
    backbone : str or nn.Module
        "vgg16", "resnet18", or a module with the attributes of `segdet.backbones.Backbone` (`facts` A21).
    """

    def __init__(self, anchors=None, sampling=None, neighbours=False, padded=False, backbone="vgg16"):
        super().__init__()
        self.backbone = make_backbone(backbone) if isinstance(backbone, str) else backbone
        kind = type(self.backbone).__name__
        for name in ("channels", "stride", "offset"):
            if not hasattr(self.backbone, name):
                raise ValueError(f"{kind} is no backbone: it does not say its {name}")
        self.anchors = AnchorGrid(stride=self.backbone.stride) if anchors is None else anchors
        if self.anchors.stride != self.backbone.stride:
            raise ValueError(f"{kind} has stride {self.backbone.stride}, the anchors {self.anchors.stride}")
        self.sampling = sampling or Sampling()
        for name, value in (("neighbours", neighbours), ("padded", padded)):
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be True or False, not {value!r}")
        self.neighbours, self.padded = neighbours, padded
        self.window = nn.Conv2d(self.backbone.channels, 512, 3, padding=1)
        self.scores = nn.Conv2d(512, 2 * len(self.anchors), 1)
        self.offsets = nn.Conv2d(512, 4 * len(self.anchors), 1)
        for layer in (self.window, self.scores, self.offsets):  # new layers: N(0, 0.01), biases 0 (section 3.1)
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self.initial_weights = "random"

    def forward(self, slices):
        """Score and move every anchor of every slice.

        Parameters
        ----------
        slices : Tensor, (N, H, W) or (N, 3, H, W)
            Intensities in [0, 1]; a single grey value fills the backbone's three channels (`facts` B7).

        Returns
        -------
        objectness : Tensor, (N, K, 2)
            Logits of (background, object); the paper's softmax is over the last axis.
        offsets : Tensor, (N, K, 4)
        anchors : Tensor, (K, 4)
            K = floor(H / 16) * floor(W / 16) * A: 594 for a 184 x 96 slice; the last 8 rows have no cell. With
            `padded`, and always with ResNet-18, the sides are rounded up: 648.
        """
        return self.head(self.features(slices))

    def features(self, slices):
        """What the backbone makes of slices: (N, H, W) or (N, 3, H, W) -> (N, channels, rows, columns of cells).

        Raises
        ------
        ValueError
            The detector looks at neighbouring slices and was given single ones.
        """
        if self.neighbours and slices.ndim == 3:
            raise ValueError("this detector looks at neighbouring slices; give it with_neighbours(slices)")
        x = slices[:, None] if slices.ndim == 3 else slices
        if self.padded:
            stride = self.backbone.stride
            x = F.pad(x, (0, -x.shape[-1] % stride, 0, -x.shape[-2] % stride), mode="replicate")
        x = x.expand(-1, 3, -1, -1)  # grey fills all three channels; with one alone the layout would be lost
        return self.backbone(x.contiguous(memory_format=torch.channels_last))

    def head(self, features):
        """The rest of `forward`, from the features on."""
        x = F.relu(self.window(features))
        scores, offsets = self.scores(x), self.offsets(x)  # (N, A * 2, h, w), (N, A * 4, h, w)
        n, _, h, w = scores.shape

        def per_anchor(t, c):  # (N, A * c, h, w) -> (N, h * w * A, c)
            return t.permute(0, 2, 3, 1).reshape(n, -1, c).float()

        return (
            per_anchor(scores, 2),
            per_anchor(offsets, 4),
            self.anchors((h, w), features.device, self.backbone.offset),
        )

    def loss(self, slices, boxes, generator=None):
        """L = Lreg + Lcls (paper eq. 1) on a sampled mini-batch of anchors.

        Parameters
        ----------
        slices : Tensor, (N, H, W) or (N, 3, H, W)
        boxes : Tensor, (N, M, 4)
            Ground truth, padded with boxes of no area.
        generator : torch.Generator, optional
            Of `segdet.matching.sample`.

        Returns
        -------
        dict of two scalar Tensors
            ``log_loss`` and ``smooth_l1``, see `rpn_loss`. (The paper's text swaps the two names, `facts` B1.)
        """
        return sampled_loss(*self(slices), boxes, slices.shape[-2:], self.sampling, generator)

    @torch.no_grad()
    def propose(self, slices, proposals=None):
        """The detected boxes of every slice.

        Parameters
        ----------
        slices : Tensor, (N, H, W) or (N, 3, H, W)
        proposals : Proposals

        Returns
        -------
        boxes : Tensor, (N, top_k, 4)
            Best first, clipped to the slice, padded with boxes of no area.
        scores : Tensor, (N, top_k)
            Object probabilities; 0 where padded.
        """
        return propose(*self(slices), slices.shape[-2:], proposals or Proposals())

    def load_imagenet(self):
        """Fill the backbone with ImageNet weights, as the paper does (section 3.1).

        Where they are out of reach the backbone stays random and a warning says so.

        Returns
        -------
        str
            Where the weights came from: "file", "torchvision" or "random".
        """
        self.initial_weights = self.backbone.load_imagenet()
        return self.initial_weights
