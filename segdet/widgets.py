"""Live explorers for a running kernel; in stored pages a figure takes their place (all chapters)."""

import os

import matplotlib.pyplot as plt
import torch

from .anchors import AnchorGrid
from .boxes import box_iou
from .plots import show_plane


def live():
    """Whether a person is at the kernel: not while the book is being executed (the variable SEGDET_STATIC)."""
    return not os.environ.get("SEGDET_STATIC")


def slice_explorer(volume):
    """Leaf through a `Volume` with a slider and a switch for the annotation."""
    from ipywidgets import Checkbox, IntSlider, interactive

    def draw(index, annotation):
        _, ax = plt.subplots(figsize=(4, 4.2))
        mask = volume.mask[index] if annotation and volume.mask is not None else None
        show_plane(ax, volume.voxels[index], volume.spacing[1:], mask, title=f"slice {index}")
        plt.show()

    middle = len(volume.voxels) // 2
    slider = IntSlider(middle, 0, len(volume.voxels) - 1, description="slice")
    return interactive(draw, index=slider, annotation=Checkbox(True, description="annotation"))


def anchor_explorer(plane, spacing, box):
    """Move the anchors' size and ratio and see which cells overlap a box.

    Parameters
    ----------
    plane : array, (H, W)
    spacing : (dy, dx) in mm
    box : array, (4,)
    """
    from ipywidgets import FloatSlider, interactive

    target = torch.as_tensor(box, dtype=torch.float32)[None]

    def draw(size, ratio, positive_iou):
        grid = AnchorGrid([size], [ratio], 16)
        anchors = grid((plane.shape[0] // 16, plane.shape[1] // 16))
        overlap = box_iou(anchors, target)[:, 0]
        _, ax = plt.subplots(figsize=(4, 4.2))
        count = int((overlap > positive_iou).sum())
        title = f"{count} of {len(anchors)} above {positive_iou:.2f}, best {overlap.max():.2f}"
        show_plane(
            ax, plane, spacing, boxes=[*anchors[overlap > positive_iou].tolist(), target[0].tolist()], title=title
        )
        plt.show()

    return interactive(
        draw,
        size=FloatSlider(48, min=12, max=96, step=2, description="size (px)"),
        ratio=FloatSlider(1.8, min=0.5, max=4, step=0.1, description="height/width"),
        positive_iou=FloatSlider(0.7, min=0.3, max=0.9, step=0.05, description="positive"),
    )
