"""How the detector is trained and scored, and the readings of the paper that can be compared (chapter 05)."""

import math
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F

from .anchors import default_anchors, fit_anchors
from .boxes import area, box_iou, clip, mirror
from .cascade import detect
from .checkpoint import digest
from .errors import TrainingError
from .proposals import Proposals
from .rpn import RPN, Sampling
from .training import default_device, fit, precision, random_state_kept
from .volume import with_neighbours


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


# The book's (chapter 05).
RECIPE = Recipe(sampling=Sampling(positive_iou=0.5, hard_negatives=True), gain=0.2, zoom=0.15, rate=0.004)

# The same with the compact backbone (A21). Halfway through a training on seed 3, which is for development, its rate was
# better than 0.06; others have not been tried.
COMPACT = replace(RECIPE, backbone="resnet18", rate=0.02)
RECIPES = {recipe.backbone: recipe for recipe in (RECIPE, COMPACT)}


@random_state_kept()
def train_detector(train, validation, profile, seed, *, recipe=RECIPE, **fitting):
    """Train the detector on all slices of the training scans (paper section 3.1).

    The paper's SGD: momentum 0.9, weight decay 0.0005. Not the paper's: the learning rate follows a schedule
    (`Recipe.cosine`), gradients are cut at norm 5, and each batch is flipped left to right with probability 1/2 (a
    right hip is the mirror image of a left one). The weights of the best validation box IoU are kept.

    Parameters
    ----------
    train, validation : lists of Case
    profile : Profile
    seed : int
    recipe : Recipe
    **fitting
        ``checkpoint``, ``deadline`` and ``log`` of `segdet.training.fit`.

    Returns
    -------
    detector : RPN
    history : History

    Raises
    ------
    TrainingError
        A box is upside down or leaves its slice, no training scan has any, or the loss is not finite.
    """
    for case in [*train, *validation]:
        check_boxes(case)
    slices = torch.cat([with_neighbours(c.slices) if recipe.neighbours else c.slices for c in train])
    most = max(c.boxes.shape[1] for c in train)
    boxes = torch.cat([F.pad(c.boxes, (0, 0, 0, most - c.boxes.shape[1])) for c in train])
    found = boxes[area(boxes) > 0]
    if not len(found):
        raise TrainingError("no training scan has an annotated slice: there is nothing to detect")
    device = default_device()
    slices, boxes = slices.to(device), boxes.to(device)  # a few hundred MB at most: nothing is left to prefetch
    torch.manual_seed(seed)
    anchors = fit_anchors(found) if recipe.fitted_anchors else default_anchors(slices.shape[-2:])
    detector = RPN(anchors, recipe.sampling, recipe.neighbours, recipe.padded, recipe.backbone)
    initial = detector.load_imagenet() if recipe.imagenet else "random"
    if initial != "random":  # random ones follow from the seed
        initial += f", {digest(*detector.backbone.parameters())}"
    detector.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        [p for p in detector.parameters() if p.requires_grad],
        recipe.rate,
        momentum=0.9,
        weight_decay=0.0005,
    )

    def draw(generator):
        return torch.randperm(len(slices), generator=generator)[: recipe.slices_per_step]

    def batch_names(generator):
        names = [f"{case.name} slice {number}" for case in train for number in range(len(case.slices))]
        return [names[index] for index in draw(generator)]

    def batch_loss(generator):
        chosen = draw(generator)
        inputs, targets = slices[chosen], boxes[chosen]
        if torch.rand((), generator=generator) < 0.5:
            inputs, targets = inputs.flip(-1), mirror(targets, inputs.shape[-1])
        inputs, targets = augment(inputs, targets, generator, recipe.gain, recipe.zoom)
        with precision(device):
            return detector.loss(inputs, targets, generator)

    def schedule(step):
        return min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / profile.detector_steps))

    def validate():
        found = [detect(detector, c.slices, Proposals(threshold=0.0, vote=False))[0] for c in validation]
        return np.nanmean([score_boxes(b, c.boxes)["box_iou"] for b, c in zip(found, validation, strict=True)])

    history = fit(
        detector,
        batch_loss,
        optimizer,
        profile.detector_steps,
        seed=seed,
        identity={
            "scans": [c.name for c in train],
            "validation": [c.name for c in validation],
            "digest of the data": digest(*(c.identity for c in [*train, *validation])),
            "initial weights": initial,
            "recipe": asdict(recipe),
        },
        schedule=schedule if recipe.cosine else None,
        clip_norm=5,
        validate=validate,
        every=max(1, profile.detector_steps // 6),
        label="detector",
        batch_names=batch_names,
        **fitting,
    )
    return detector, history


def check_boxes(case):
    """Raise `TrainingError` for the first box of a case that is no box in its slice; padding has no area."""
    rows, cols = case.slices.shape[1:]
    low, high = case.boxes[..., :2], case.boxes[..., 2:]
    for wrong, what in (
        (~torch.isfinite(case.boxes).all(-1), "is not finite"),
        ((high < low).any(-1), "is upside down; expected (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1"),
        ((low < 0).any(-1) | (high > torch.tensor([cols, rows])).any(-1), f"leaves its slice of {rows} x {cols}"),
    ):
        if wrong.any():
            at, number = wrong.nonzero()[0].tolist()
            raise TrainingError(f"{case.name}, slice {at}: the box {case.boxes[at, number].tolist()} {what}")


def augment(inputs, targets, generator, gain=0.0, zoom=0.0):
    """Change every slice a little, its boxes with it; see `Recipe` for `gain` and `zoom`.

    Parameters
    ----------
    inputs : Tensor, (N, H, W) or (N, 3, H, W)
    targets : Tensor, (N, M, 4)
        Padded with boxes of no area.
    generator : torch.Generator
        Of the CPU, so that every device sees the same.

    Returns
    -------
    inputs, targets : Tensors of the same shapes
    """
    n, (rows, cols) = len(inputs), inputs.shape[-2:]

    def uniform(*shape):  # in (-1, 1)
        return (2 * torch.rand(n, *shape, generator=generator) - 1).to(inputs.device)

    if gain:
        one = (1,) * (inputs.ndim - 1)
        inputs = (inputs * (1 + gain * uniform(*one)) + gain / 2 * uniform(*one)).clamp(0, 1)
    if zoom:
        factor, shift = 1 + zoom * uniform(2), zoom * uniform(2)  # (x, y), in units where a slice runs from -1 to 1
        back = inputs.new_zeros(n, 2, 3)
        back[:, 0, 0], back[:, 1, 1], back[:, :, 2] = 1 / factor[:, 0], 1 / factor[:, 1], shift
        planes = inputs if inputs.ndim == 4 else inputs[:, None]
        grid = F.affine_grid(back, planes.shape, align_corners=False)
        inputs = F.grid_sample(planes, grid, align_corners=False).reshape(inputs.shape)
        size = targets.new_tensor([cols, rows])
        corners = (2 * targets.reshape(n, -1, 2) / size - 1 - shift[:, None]) * factor[:, None]
        moved = clip(((corners + 1) / 2 * size).reshape(targets.shape), (rows, cols))
        kept = area(moved) > 0.25 * area(targets) * factor.prod(1)[:, None]  # what remains of a box is still the object
        targets = torch.where(kept[..., None], moved, torch.zeros_like(targets))
    return inputs, targets


def overlaps(detected, target):
    """IoU of every slice's best detection with the annotated box that it fits best.

    Parameters
    ----------
    detected : Tensor, (D, k, 4), best first
    target : Tensor, (D, M, 4)
        Both padded with boxes of no area.

    Returns
    -------
    overlap : Tensor, (D,)
        0 where there is no detection or nothing to detect.
    holds : bool Tensor, (D,)
        Whether the slice holds an annotated box.
    """
    best = box_iou(detected[:, :1], target)[:, 0]  # (D, M)
    return best.amax(1) if target.shape[1] else best.new_zeros(len(best)), (area(target) > 0).any(1)


def score_boxes(detected, target):
    """How well the best detection of each slice fits; shapes as in `overlaps`.

    Returns
    -------
    dict
        ``box_iou``: mean IoU over the slices that hold a box, a miss counting 0. ``recall50``, ``recall70``: share
        of those slices with IoU at least 0.5, 0.7. ``false_boxes``: share of the empty slices with a detection.
        NaN where there is no such slice.
    """
    overlap, holds = overlaps(detected, target)
    found = area(detected[:, 0]) > 0

    def mean(values):
        return float(values.float().mean()) if len(values) else float("nan")

    return {
        "box_iou": mean(overlap[holds]),
        "recall50": mean(overlap[holds] >= 0.5),
        "recall70": mean(overlap[holds] >= 0.7),
        "false_boxes": mean(found[~holds]),
    }


def choose_threshold(detector, validation, vote=True):
    """The score below which a box does not count, so that slices without the object get none (`facts` B6).

    Tried on the validation scans: the threshold of the best mean over slices of box IoU where there is an object,
    and of 1 for no box, 0 for a false one, where there is none. `vote` as in `Proposals`.

    Returns
    -------
    Proposals
    """
    found = [detect(detector, c.slices, Proposals(threshold=0.0, vote=vote)) for c in validation]
    scores = torch.cat([s[:, 0] for _, s in found])
    overlap, holds = (
        torch.cat(t)
        for t in zip(*[overlaps(b, c.boxes) for (b, _), c in zip(found, validation, strict=True)], strict=True)
    )

    def value(threshold):
        kept = scores >= threshold
        return torch.where(holds, overlap * kept, (~kept).float()).mean().item()

    return Proposals(threshold=max((t / 100 for t in range(5, 100, 5)), key=value), vote=vote)
