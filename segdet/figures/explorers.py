"""Explorers: with ipywidgets in a running kernel, with a script of the book on its pages (all chapters)."""

import html
import json
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML

from ..anchors import AnchorGrid
from ..boxes import box_iou
from .plots import data_uri, show_plane


def live():
    """Whether a person is at the kernel: not while the book is being executed (the variable SEGDET_STATIC)."""
    return not os.environ.get("SEGDET_STATIC")


def page_explorer(kind, planes, spacing, alt, **facts):
    """Something to move on the built page, without a kernel: book/_static/explorers.js makes it of this HTML.

    Parameters
    ----------
    kind : str
        "anchors", "sampler" or "proposals".
    planes : array, (H, W) or (D, H, W), in [0, 1]
    spacing : (dy, dx) in mm
    alt : str
        What is to be seen, for who sees neither the page nor the picture.
    facts
        What the kind needs: numbers, lists, arrays or Tensors of boxes; rounded to 0.01.

    Returns
    -------
    IPython.display.HTML
    """
    planes = np.asarray(planes).reshape(-1, *np.shape(planes)[-2:])
    stack = (planes.reshape(-1, planes.shape[2]) * 255).astype(np.uint8)
    facts = {k: np.round(np.asarray(v, np.float64), 2).tolist() for k, v in facts.items()}
    facts |= {"kind": kind, "planes": len(planes), "rows": planes.shape[1], "columns": planes.shape[2]}
    facts |= {
        "spacing": list(spacing),
        "picture": data_uri(stack, "jpeg", quality=60),
    }
    text = json.dumps(facts, separators=(",", ":"), allow_nan=False).replace(
        "<", "\\u003c"
    )  # cannot end the script element
    return HTML(
        f'<div class="segdet-explorer" role="group" aria-label="{html.escape(alt, quote=True)}">'
        f'<script type="application/json">{text}</script>'
        f'<p class="segdet-fallback">{html.escape(alt)} (To move it, open the built page with JavaScript.)</p></div>'
    )


def slice_explorer(volume, mask=None):
    """Leaf through a `Volume` with a slider and a switch for its annotation and a predicted mask."""
    from ipywidgets import Checkbox, IntSlider, interactive

    def draw(index, outlines):
        _, ax = plt.subplots(figsize=(4, 4.2))
        predicted, annotation = (m[index] if outlines and m is not None else None for m in (mask, volume.mask))
        plane, pixel = volume.voxels[index], volume.spacing[1:]
        show_plane(ax, plane, pixel, predicted, annotation=annotation, title=f"slice {index}")
        plt.show()

    middle = len(volume.voxels) // 2
    slider = IntSlider(middle, 0, len(volume.voxels) - 1, description="slice")
    return interactive(draw, index=slider, outlines=Checkbox(True, description="outlines"))


def anchor_explorer(plane, spacing, box):
    """Move the anchors' size, ratio and stride and see which cells overlap a box.

    Parameters
    ----------
    plane : array, (H, W)
    spacing : (dy, dx) in mm
    box : array, (4,)
    """
    from ipywidgets import FloatSlider, IntSlider, interactive

    target = torch.as_tensor(box, dtype=torch.float32)[None]

    def draw(size, ratio, stride, positive_iou):
        grid = AnchorGrid([size], [ratio], stride)
        anchors = grid((plane.shape[0] // stride, plane.shape[1] // stride))
        overlap = box_iou(anchors, target)[:, 0]
        _, ax = plt.subplots(figsize=(4, 4.2))
        count = int((overlap > positive_iou).sum())
        title = f"{count} of {len(anchors)} above {positive_iou:.2f}, best {overlap.max():.2f}"
        show_plane(ax, plane, spacing, boxes=anchors[overlap > positive_iou], annotated=target, title=title)
        plt.show()

    return interactive(
        draw,
        size=FloatSlider(48, min=12, max=96, step=2, description="size (px)"),
        ratio=FloatSlider(1.8, min=0.5, max=4, step=0.1, description="height/width"),
        stride=IntSlider(16, min=4, max=32, step=4, description="stride (px)"),
        positive_iou=FloatSlider(0.7, min=0.3, max=0.9, step=0.05, description="positive"),
    )
