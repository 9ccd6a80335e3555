"""How the detector can be trained: what the paper leaves open (chapter 05)."""

from dataclasses import dataclass, field, replace

import numpy as np

from ..rpn_loss import Sampling


@dataclass(frozen=True)
class Recipe:
    """What the paper leaves open about the detector; the defaults are the plain one of chapter 05, `RECIPE` the book's.

    Attributes
    ----------
    sampling : Sampling
        Which anchors the loss sees (`facts` B2, B3, B5).
    slices_per_step : int
        Whose anchors make the batch (`facts` B3).
    fitted_anchors : bool
        Anchors after the training boxes, else Faster R-CNN's scaled to the slice (`facts` B4).
    imagenet : bool
        Start from ImageNet weights, as the paper does, or at random.
    neighbours, padded : bool
        See `RPN` (`facts` B7, B10).
    gain : float
        Augmentation (`facts` B14): each slice's grey is stretched by up to this share and shifted by half of it.
    zoom : float
        Augmentation: each slice is stretched along either axis by up to this share, and moved by half of it.
    rate : float
        The largest learning rate.
    cosine : bool
        The rate rises in 20 steps and falls to 0 along a cosine; else it stays, as the paper's.
    backbone : str
        A name in `segdet.backbones.BACKBONES` (`facts` A21).
    """

    sampling: Sampling = field(default_factory=Sampling)
    slices_per_step: int = 8
    fitted_anchors: bool = True
    imagenet: bool = True
    neighbours: bool = False
    padded: bool = False
    gain: float = 0.0
    zoom: float = 0.0
    rate: float = 0.002
    cosine: bool = True
    backbone: str = "vgg16"


@dataclass(frozen=True)
class SegmenterRecipe:
    """What a segmenter's training adds to the paper's; the defaults add nothing.

    Attributes
    ----------
    mirrored : bool
        Each volume is flipped left to right with probability 1/2, as the detector's slices are.
    gain, zoom : float
        As of `Recipe`, for a volume as a whole, in deviations of its grey.
    norm : str
        Of `segdet.unet3d.UNet3D` (`facts` B9).
    effort : int
        How many times the profile's steps.
    blind : bool
        The network sees zeros in place of the attention, which then only cuts the region.
    """

    mirrored: bool = False
    gain: float = 0.0
    zoom: float = 0.0
    norm: str = "batch"
    effort: int = 1
    blind: bool = False

    def shown(self, attention):
        """What the network sees of an attention volume, ndarray (d, h, w) or None."""
        return np.zeros_like(attention) if self.blind else attention


# The book's (chapter 05).
RECIPE = Recipe(sampling=Sampling(positive_iou=0.5, hard_negatives=True), gain=0.2, zoom=0.15, rate=0.004)


# The same with the compact backbone (A21). Halfway through a training on seed 3, which is for development, its rate was
# better than 0.06; others have not been tried.
COMPACT = replace(RECIPE, backbone="resnet18", rate=0.02)


RECIPES = {recipe.backbone: recipe for recipe in (RECIPE, COMPACT)}
