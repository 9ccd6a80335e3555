"""Explorers: with ipywidgets in a running kernel, with a script of the book on its pages (all chapters)."""

import html
import json
import os
from threading import Lock

import numpy as np
import torch
from IPython.display import HTML, display
from matplotlib.figure import Figure

from ..anchors import AnchorGrid
from ..boxes import box_iou, decode
from ..rpn_loss import rpn_loss
from .plots import BOX, data_uri, draw_boxes, show_plane


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
    text = json.dumps(facts, separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c")  # cannot end the script element
    return HTML(
        f'<div class="segdet-explorer" role="group" aria-label="{html.escape(alt, quote=True)}">'
        f'<script type="application/json">{text}</script>'
        f'<p class="segdet-fallback">{html.escape(alt)} (To move it, open the built page with JavaScript.)</p></div>'
    )


def _interactive(draw, **dials):
    """``ipywidgets.interactive``, but of two dials that are answered in two threads the last one has the last word."""
    from ipywidgets import interactive

    class InTurn(interactive):
        turn = Lock()

        def update(self, *arguments):
            with self.turn:
                super().update(*arguments)

    return InTurn(draw, **dials)


def _panel():
    """A figure and its axes, without pyplot, whose figures a cell and a dial in another thread would share."""
    figure = Figure(figsize=(4, 4.2))
    return figure, figure.subplots()


def slice_explorer(volume, mask=None):
    """Leaf through a `Volume` with a slider and a switch for its annotation and a predicted mask."""
    from ipywidgets import Checkbox, IntSlider

    def draw(index, outlines):
        figure, ax = _panel()
        predicted, annotation = (m[index] if outlines and m is not None else None for m in (mask, volume.mask))
        show_plane(ax, voxels[index], volume.spacing[1:], predicted, annotation=annotation, title=f"slice {index}")
        display(figure)

    voxels = volume.limited()[0].voxels  # one hot voxel would blacken its slice
    slider = IntSlider(len(voxels) // 2, 0, len(voxels) - 1, description="slice")
    return _interactive(draw, index=slider, outlines=Checkbox(True, description="outlines"))


def anchor_explorer(plane, spacing, box):
    """Move the anchors' size, ratio and stride and see which cells overlap a box.

    Parameters
    ----------
    plane : array, (H, W)
    spacing : (dy, dx) in mm
    box : array, (4,)
    """
    from ipywidgets import FloatSlider, IntSlider

    target = torch.as_tensor(box, dtype=torch.float32)[None]

    def draw(size, ratio, stride, positive_iou):
        grid = AnchorGrid([size], [ratio], stride)
        anchors = grid((plane.shape[0] // stride, plane.shape[1] // stride))
        overlap = box_iou(anchors, target)[:, 0]
        figure, ax = _panel()
        show_plane(ax, plane, spacing, boxes=anchors[overlap > positive_iou], annotated=target)
        display(figure)
        count = int((overlap > positive_iou).sum())
        print(f"{count} of {len(anchors)} above {positive_iou:.2f}, best {overlap.max():.2f}")

    return _interactive(
        draw,
        size=FloatSlider(48, min=12, max=96, step=2, description="size (px)"),
        ratio=FloatSlider(1.8, min=0.5, max=4, step=0.1, description="height/width"),
        stride=IntSlider(16, min=4, max=32, step=4, description="stride (px)"),
        positive_iou=FloatSlider(0.7, min=0.3, max=0.9, step=0.05, description="positive"),
    )


def loss_explorer(plane, spacing, box, anchor):
    """Move what the network says of one anchor, and see its loss and how hard each part of it is pulled.

    Parameters
    ----------
    plane : array, (H, W)
    spacing : (dy, dx) in mm
    box, anchor : arrays, (4,)
        The annotated box, and an anchor that is to be told from background and moved to it.
    """
    from ipywidgets import Checkbox, FloatSlider

    target, anchor = (torch.as_tensor(each, dtype=torch.float32)[None] for each in (box, anchor))

    def draw(positive, score, tx, ty, tw, th):
        scores = torch.tensor([[[0.0, score]]], requires_grad=True)
        offsets = torch.tensor([[[tx, ty, tw, th]]], requires_grad=True)
        kind = torch.tensor([[positive]])
        terms = rpn_loss(scores, offsets, anchor, target[None], kind, ~kind)
        sum(terms.values()).backward()
        moved = decode(offsets.detach()[0], anchor)
        figure, ax = _panel()
        show_plane(ax, plane, spacing, boxes=moved, annotated=target)
        draw_boxes(ax, anchor, BOX, ls=":")
        display(figure)
        pulls = (-torch.cat([scores.grad[0, 0, 1:], offsets.grad[0, 0]])).tolist()
        names = "s", "tx", "ty", "tw", "th"
        named = ", ".join(f"{name} {round(v, 2) + 0:+.2f}" for name, v in zip(names, pulls, strict=True))
        print(f"log loss {terms['log_loss']:.3f}, smooth L1 {terms['smooth_l1']:.3f}, ", end="")
        print(f"IoU {box_iou(moved, target).item():.2f}\npulled by {named}")

    sliders = {
        name: FloatSlider(0, min=-most, max=most, step=step, description=text)
        for name, text, most, step in (
            ("score", "score s", 6, 0.25),
            ("tx", "tx, right", 1, 0.05),
            ("ty", "ty, down", 1, 0.05),
            ("tw", "tw, wider", 1, 0.05),
            ("th", "th, taller", 1, 0.05),
        )
    }
    return _interactive(draw, positive=Checkbox(True, description="positive"), **sliders)
