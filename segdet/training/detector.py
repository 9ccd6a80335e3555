"""How the detector is trained and scored, and the readings of the paper that can be compared (chapter 05)."""

import copy
import math
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F

from ..anchors import default_anchors, fit_anchors
from ..boxes import area, clip, decode, mirror
from ..cascade import detect
from ..errors import TrainingError
from ..metrics import overlaps, score_boxes
from ..proposals import Proposals
from ..rpn import RPN
from ..runtime.device import default_device, precision, random_state_kept
from ..runtime.tensors import digest
from ..volume import with_neighbours
from .loop import fit
from .recipes import RECIPE


@random_state_kept()
def train_detector(train, validation, profile, seed, *, recipe=RECIPE, start=None, **fitting):
    """Train the detector on all slices of the training scans (paper section 3.1).

    The paper's SGD: momentum 0.9, weight decay 0.0005. Not the paper's: the learning rate follows a schedule
    (`Recipe.cosine`), gradients are cut at norm 5, and each batch is flipped left to right with probability 1/2 (a
    right hip is the mirror image of a left one). The weights of the best validation box IoU are kept, without any
    validation scan the last ones.

    Parameters
    ----------
    train, validation : lists of Case
    profile : Profile
    seed : int
    recipe : Recipe
    start : RPN, optional
        A trained detector to go on from, which stays as it is. Its layers, anchors, weights and what it sees of a slice
        are taken over; which anchors the loss sees, the recipe says.
    **fitting
        ``watch``, ``checkpoint``, ``deadline`` and ``log`` of `segdet.training.loop.fit`.

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
    device = default_device()
    stacked = _stacked(train, (start or recipe).neighbours)
    slices, boxes = (t.to(device) for t in stacked)  # a few hundred MB: nothing is left to prefetch
    torch.manual_seed(seed)
    detector, initial = _new_detector(boxes, slices.shape[-2:], recipe, start)
    trained = [p for p in detector.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, recipe.rate, momentum=0.9, weight_decay=0.0005)

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
        validate=validate if validation else None,
        every=max(1, profile.detector_steps // 6),
        label="detector",
        batch_names=batch_names,
        **fitting,
    )
    return detector, history


def _stacked(cases, neighbours):
    """All slices, (N, H, W) or with their neighbours (N, 3, H, W), and their boxes, (N, M, 4), padded to the most."""
    slices = torch.cat([with_neighbours(c.slices) if neighbours else c.slices for c in cases])
    most = max(c.boxes.shape[1] for c in cases)
    return slices, torch.cat([F.pad(c.boxes, (0, 0, 0, most - c.boxes.shape[1])) for c in cases])


def _new_detector(boxes, shape, recipe, start):
    """A detector for slices of `shape` on the device of the boxes (N, M, 4), and where its weights come from."""
    found = boxes[area(boxes) > 0].cpu()
    if not len(found):
        raise TrainingError("no training scan has an annotated slice: there is nothing to detect")
    if start:
        detector, initial = copy.deepcopy(start), f"a trained detector, {digest(*start.state_dict().values())}"
        detector.sampling = recipe.sampling
        return detector.to(boxes.device, memory_format=torch.channels_last), initial
    anchors = fit_anchors(found) if recipe.fitted_anchors else default_anchors(shape)
    detector = RPN(anchors, recipe.sampling, recipe.neighbours, recipe.padded, recipe.backbone)
    initial = detector.load_imagenet() if recipe.imagenet else "random"
    if initial != "random":  # random ones follow from the seed
        initial += f", {digest(*detector.backbone.parameters())}"
    return detector.to(boxes.device, memory_format=torch.channels_last), initial


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
    gain, zoom : float

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


@torch.no_grad()
def glance(detector, case, index):
    """What a detector says of one slice of a case, as `watch` of `segdet.training.loop.fit` may keep it.

    Returns
    -------
    list
        Rows of the best P(object) among the anchors of every cell, and the box of the best anchor in pixels.
    """
    slices = with_neighbours(case.slices) if detector.neighbours else case.slices
    shown = slices[index : index + 1].to(next(detector.parameters()).device)
    with precision(shown.device):
        features = detector.features(shown)
        objectness, offsets, anchors = detector.head(features)
    scores = objectness[0].softmax(-1)[:, 1]
    best = int(scores.argmax())
    box = clip(decode(offsets[0, best], anchors[best]), shown.shape[-2:])
    cells = scores.reshape(*features.shape[-2:], -1).amax(-1)
    return [found.cpu().round(decimals=3).tolist() for found in (cells, box)]


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
