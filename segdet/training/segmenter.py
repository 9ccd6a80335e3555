"""How the segmenter is trained (chapter 08)."""

from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F

from .. import metrics
from ..attention import attended_region
from ..cascade import segment, stacked
from ..runtime.device import default_device, precision, random_state_kept
from ..runtime.tensors import digest
from ..unet3d import UNet3D, deepest_side
from .augment import augment_volume
from .loop import fit
from .recipes import SegmenterRecipe


@random_state_kept()
def train_segmenter(
    train, validation, profile, seed, *, margin=None, network=None, attention=None, recipe=None, **fitting
):
    """Train a 3D U-Net (paper section 3.1): Adam 0.001, one volume a step, best validation IoU kept.

    Parameters
    ----------
    train, validation : list of (Case, attention or None)
    profile : Profile
    seed : int
    margin : float or None
        See `segdet.attention.attended_region`.
    network : callable, optional
        ``network(in_channels)`` builds another segmenter: an `nn.Module` that gives logits (N, 2, D, H, W) for inputs
        (N, in_channels, D, H, W).
    attention : str, optional
        What the attention masks follow from, for the identity of the training; by default they are hashed. Boxes that a
        network found differ by roundings between processors.
    recipe : SegmenterRecipe, optional
        What is added to the paper's training.
    **fitting
        ``watch``, ``checkpoint``, ``deadline``, ``batches`` and ``log`` of `segdet.training.loop.fit`.

    Returns
    -------
    segmenter : nn.Module
    history : History
    """
    device, recipe = default_device(), recipe or SegmenterRecipe()
    torch.manual_seed(seed)
    channels = 1 if train[0][1] is None else 2
    segmenter = network(channels) if network else UNet3D(channels, 2, profile.base_channels, norm=recipe.norm)
    segmenter.to(device, memory_format=torch.channels_last_3d)
    inputs, targets = _on_device(train, margin, device, recipe)  # and stay there: nothing is left to prefetch
    optimizer = torch.optim.Adam(segmenter.parameters(), 0.001, betas=(0.9, 0.999))

    # of another network we do not know how often it pools
    depth = len(segmenter.down) - 1 if isinstance(segmenter, UNet3D) else 5

    def draw(generator):
        return int(torch.randint(len(inputs), (), generator=generator))

    def batch_loss(generator):
        index = draw(generator)
        seen, target = augment_volume(inputs[index], targets[index], generator, recipe)
        with precision(device, deepest_side(seen.shape[2:], depth)):
            logits = segmenter(seen)
        return {"cross_entropy": F.cross_entropy(logits.float(), target)}

    def validate():
        shown = [(c, recipe.shown(a), attended_region(a, c.spacing, margin)) for c, a in validation]
        return np.mean([metrics.iou(segment(segmenter, c.image, a, region) >= 0.5, c.mask) for c, a, region in shown])

    history = fit(
        segmenter,
        batch_loss,
        optimizer,
        recipe.effort * profile.segmenter_steps,
        seed=seed,
        identity={
            "scans": [c.name for c, _ in train],
            "validation": [c.name for c, _ in validation],
            "digest of the data": digest(*(c.identity for c, _ in [*train, *validation])),
            "attention": attention or digest(*(a for _, a in [*train, *validation] if a is not None)),
            "margin": margin,
        }
        | ({"recipe": asdict(recipe)} if recipe != SegmenterRecipe() else {}),  # as checkpoints of before have it
        validate=validate,
        every=profile.every,
        label="segmenter",
        batch_names=lambda generator: [train[draw(generator)][0].name],
        **fitting,
    )
    return segmenter, history


def _on_device(pairs, margin, device, recipe):
    """What the segmenter sees of each scan, (1, C, d, h, w), and the labels there, (1, d, h, w): two lists."""
    inputs, targets = [], []
    for case, seen in pairs:
        region = attended_region(seen, case.spacing, margin)
        inputs.append(stacked(case.image, recipe.shown(seen), region, device))
        targets.append(torch.as_tensor(case.mask[region], dtype=torch.long, device=device)[None])
    return inputs, targets
