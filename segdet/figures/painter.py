"""Boxes that a person paints over the slices of a scan in a running kernel, and their mask (chapter 09)."""

import html
import io
from functools import wraps
from pathlib import Path
from threading import RLock

import anywidget
import numpy as np
import traitlets
from ipywidgets import HTML, Button, Checkbox, HBox, IntSlider, VBox
from matplotlib.figure import Figure

from ..attention import painted
from ..errors import SegdetError
from ..experiments.person import along_the_sweep
from ..metrics import dice
from .plots import BOX, show_plane

SIDE = 460  # of a slice's picture, its longer one, in pixels of the screen
HELP = (
    "Drag to paint a box, drag it to move it, an edge or a corner to resize it. Keys: Enter paints, arrows move, with "
    "Shift they resize, Page Up and Page Down change the slice, Delete removes."
)


class _Slice(anywidget.AnyWidget):
    """A picture with at most one box over it, which a person can paint and change (painter.js).

    Attributes
    ----------
    picture : bytes
        PNG, without a margin.
    size : list of 2 int
        Columns and rows.
    width : int
        On the screen, in its pixels, where there is room.
    entry : list
        [slice, x0, y0, x1, y1], the box in pixels of the scan, or [slice] where it has none.
    between : bool
        Whether the box is dashed.
    """

    _esm = Path(__file__).with_name("painter.js")
    _css = f"""
.segdet-painter {{ position: relative; width: 100%; touch-action: none; user-select: none; overflow: hidden }}
.segdet-painter:focus-visible {{ outline: 2px solid currentColor; outline-offset: -2px }}
.segdet-painter img {{ display: block; width: 100% }}
.segdet-painter div {{ position: absolute; box-sizing: border-box; border: 2px solid {BOX} }}
.segdet-painter .between {{ border-style: dashed }}
"""
    picture = traitlets.Bytes().tag(sync=True)
    size = traitlets.List(traitlets.Int()).tag(sync=True)
    width = traitlets.Int().tag(sync=True)
    help = traitlets.Unicode(HELP).tag(sync=True)
    entry = traitlets.List([0]).tag(sync=True)
    between = traitlets.Bool().tag(sync=True)


def _in_turn(method):
    """Let a painter do one thing at a time: ipykernel may call what different widgets do in different threads."""

    @wraps(method)
    def called(self, *arguments):
        with self._turn:
            return method(self, *arguments)

    return called


class BoxPainter(VBox):
    """Paint one box a slice, on as many slices as you like, and let a cascade segment the scan with them.

    Between two painted slices boxes run on straight lines (`segdet.experiments.person.along_the_sweep`), drawn dashed.
    Such a box is painted as soon as it is changed. A change of the boxes takes the mask away, which belongs to others.

    Parameters
    ----------
    volume : Volume
        Its annotation, where there is one, can be shown and is what the mask is compared with.
    cascade : Pipeline
        Such as a `Cascade`, or what `segdet.export.load.load_cascade` gives.

    Attributes
    ----------
    drawn : dict
        {slice: [x0, y0, x1, y1]} of the painted slices, in pixels of the scan.
    prediction : Prediction or None
        What the cascade said of the boxes as they are now.

    Raises
    ------
    GeometryError
        The volume holds still pictures.

    Examples
    --------
    >>> painter = BoxPainter(volume, cascade)  # as the last line of a cell it is shown
    >>> cascade.predict(volume, painter.attention).mask  # what its button does
    """

    def __init__(self, volume, cascade):
        volume.check_scan()
        self.volume, self.cascade, self.drawn, self.prediction = volume, cascade, {}, None
        self._turn = RLock()
        self._voxels = volume.limited()[0].voxels
        (depth, rows, columns), (_, dy, dx) = volume.shape, volume.spacing
        self._inches = np.array([columns * dx, rows * dy]) / max(columns * dx, rows * dy) * SIDE / 100
        self._slider = IntSlider(depth // 2, 0, depth - 1, description="slice")
        self._annotation = Checkbox(False, description="annotation", indent=False, disabled=volume.mask is None)
        self._slice = _Slice(size=[columns, rows], width=round(100 * self._inches[0]), layout={"width": "100%"})
        self._said = HTML()
        actions = {"Paint": self._paint_here, "Remove": self._remove, "Segment": self._segment}
        buttons = [Button(description=name, layout={"width": "auto"}) for name in actions]
        for button, action in zip(buttons, actions.values(), strict=True):
            button.on_click(action)
        row = HBox([*buttons, self._annotation], layout={"flex_flow": "row wrap"})
        help_ = HTML(f'<p style="max-width: 60ch; line-height: 1.4">{HELP}</p>')
        super().__init__([self._slider, row, self._slice, self._said, help_])
        self._show()
        self._slider.observe(self._show, "value")
        self._annotation.observe(self._show, "value")
        self._slice.observe(self._changed, "entry")
        self._slice.on_msg(self._key)

    @property
    def boxes(self):
        """The boxes of all slices, painted and between, float32 (D, 1, 4); of no area where there is none."""
        slices = sorted(self.drawn)
        return along_the_sweep(slices, [self.drawn[number] for number in slices], len(self.volume.voxels))

    def attention(self, volume):
        """The boxes as a mask of the volume's grid, bool (D, H, W): the second argument of `Pipeline.predict`."""
        return painted(self.boxes, volume.shape)

    # --- what a person does

    @_in_turn
    def _changed(self, change):
        """Take over a box from the picture, with the slice that was shown then: the slider may have moved since."""
        if change.new != self._entry:
            number, *box = change.new
            self._paint(number, box)

    @_in_turn
    def _key(self, _, key, __):
        if key == "Enter":
            self._paint_here()
        else:
            self._slider.value += {"PageUp": -1, "PageDown": 1}[key]  # the slider stops at either end

    @_in_turn
    def _paint_here(self, *_):
        """Paint what is shown; else the box of the nearest painted slice, or a third of the picture, in its middle."""
        nearest = min(self.drawn, key=lambda number: abs(number - self._slider.value), default=None)
        columns, rows = self._slice.size
        middle = [columns / 3, rows / 3, 2 * columns / 3, 2 * rows / 3]
        self._paint(self._slider.value, self._entry[1:] or self.drawn.get(nearest, middle))

    @_in_turn
    def _remove(self, _):
        self._paint(self._slider.value, [])

    def _paint(self, number, box):
        """Set the box of a slice, or remove it: `box` is empty then."""
        self.drawn.pop(number, None)
        if box:
            self.drawn[number] = box
        self.prediction = None
        self._show()

    @_in_turn
    def _segment(self, _):
        self._said.value = "segmenting …"
        try:
            self.prediction = self.cascade.predict(self.volume, self.attention)
        except SegdetError as error:
            self._said.value = html.escape(str(error))
        else:
            self._show()

    # --- what a person sees

    @_in_turn
    def _show(self, *_):
        """The slice with its box, and the numbers."""
        here = self._slider.value
        between = self.boxes[here, 0].tolist() if here not in self.drawn else []
        self._entry = [here, *(self.drawn.get(here) or (between if any(between) else []))]
        with self._slice.hold_sync():
            self._slice.picture = self._picture(here)
            self._slice.between = here not in self.drawn
            self._slice.entry = self._entry
        self._said.value = self._numbers()

    def _picture(self, here):
        figure = Figure(self._inches, dpi=100, layout="none")
        ax = figure.add_axes((0, 0, 1, 1))
        annotation = self.volume.mask[here] if self._annotation.value else None
        mask = self.prediction and self.prediction.mask[here]
        show_plane(ax, self._voxels[here], self.volume.spacing[1:], mask, annotation=annotation)
        ax.set(aspect="auto")
        ax.set_axis_off()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()

    def _numbers(self):
        reach = int((self.boxes[:, 0, 2] > self.boxes[:, 0, 0]).sum())
        text = f"slices painted: {len(self.drawn)}; slices with a box: {reach} of {len(self.volume.voxels)}"
        if self.prediction:
            mask, truth = self.prediction.mask, self.volume.mask
            voxel = np.prod(self.volume.spacing) / 1000
            text += f"; mask {mask.sum() * voxel:.2f} ml"
            text += "" if truth is None else f", annotated {truth.sum() * voxel:.2f} ml, Dice {dice(mask, truth):.3f}"
        return text
