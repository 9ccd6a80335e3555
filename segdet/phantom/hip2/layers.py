"""Skin, fat and muscle as layers that are stretched between the skin and the joint (chapter 02)."""

import numpy as np

from ..anatomy import draw_normal
from ..canvas import smooth_field

SHEETS = 14, 36, 40  # of fibres that are told apart: in the fat, in the muscle, below it
DEEP_MM = 20.0  # over which the last are spread


def paint_layers(canvas, rng, texture, p, frame):
    """Paint all soft tissue outside the joint.

    Parameters
    ----------
    canvas : Canvas
    rng, texture : numpy Generators
    p : Hip2Parameters
    frame : Frame
        Its `floor`, (D, 1, W), is the depth in mm where muscle ends and the joint begins.

    Returns
    -------
    ndarray, (D, H, W)
        dB to add to the level of these tissues: how fibres differ, and what they lose where they slope.
    """

    def wave(height, length=9.0):
        return height * smooth_field(texture, (canvas.z, canvas.x), length)[:, None, :]

    floor = frame.floor
    skin = rng.uniform(*p.skin_mm) + wave(0.1)
    fat = np.minimum(rng.uniform(*p.fat_mm) + wave(0.5), floor - 2.5)
    skin = np.minimum(skin, fat - 1.0)
    canvas.paint(canvas.y > floor, "deep tissue")
    canvas.paint(canvas.y < fat, "fat")
    canvas.paint(canvas.y < skin, "skin")

    count = int(rng.integers(*p.fasciae, endpoint=True))
    heights = np.sort(rng.uniform(0.12, 0.88, count))
    amplitude = draw_normal(rng, *p.fascia_amplitude)
    for share in (0.0, *heights, 1.0):
        surface = fat + share * (floor - fat) + wave(0.15, 4.0)
        for apart, strength in ((0.0, 1.0), (0.25, 0.6)):  # a fascia is two sheets with fluid between
            canvas.sheet(surface + apart, strength * amplitude * np.exp(0.6 * wave(1.0, 4.0)))
    for share in rng.uniform(0.15, 0.9, 4):
        septum = skin + share * (fat - skin) + wave(0.45, 5.0)
        canvas.sheet(np.clip(septum, skin, fat), p.septum_amplitude * np.exp(0.8 * wave(1.0, 4.0)))
    return _fibres(canvas, rng, texture, p, skin, fat, floor, heights)


def _fibres(canvas, rng, texture, p, skin, fat, floor, heights):
    """Levels in dB of long fibres that run along the layers.

    A fibre is a sheet of constant share of the layer's thickness. Its level changes slowly along the sheet and
    freely from sheet to sheet; where muscle slopes it echoes less (anisotropy).
    """
    in_fat, in_muscle, below = SHEETS
    length = rng.uniform(*p.fibre_mm)
    knots = np.arange(-30.0, 60.0, length), np.arange(-30.0, 60.0, length)
    levels = texture.standard_normal((len(knots[0]), sum(SHEETS), len(knots[1])))
    for axis, (line, places) in enumerate(zip((canvas.x, canvas.z), knots, strict=True)):
        basis = np.exp(-(((line.ravel()[:, None] - places) / length) ** 2))
        basis /= np.linalg.norm(basis, axis=1, keepdims=True)
        levels = np.tensordot(basis, levels, axes=(1, 2 if axis == 0 else 1))
    levels = draw_normal(rng, *p.fibre_db) * (levels + 0.4 * (levels**2 - 1))  # (D, W, sheets); few are bright
    share = (np.arange(in_muscle) + 0.5) / in_muscle
    level_of_muscle = p.layer_db * rng.standard_normal(len(heights) + 1)
    levels[..., in_fat : in_fat + in_muscle] += level_of_muscle[np.searchsorted(heights, share)]

    levels[..., in_fat + in_muscle :] *= 0.5  # below the muscle less is ordered
    levels = levels.astype(np.float32).transpose(0, 2, 1)

    y, skin, fat, floor = (array.astype(np.float32) for array in (canvas.y, skin, fat, floor))
    depth = (y - fat) / (floor - fat)  # in the muscle, as a share
    sheet = in_fat + in_muscle * np.minimum(depth, 1) + np.maximum(y - floor, 0) * np.float32(below / DEEP_MM)
    sheet = np.where(depth < 0, (y - skin) * (in_fat / (fat - skin)), sheet)
    found = np.take_along_axis(levels, np.clip(sheet, 0, sum(SHEETS) - 1).astype(np.intp), 1)
    dz, _, dx = canvas.spacing
    slope2 = np.gradient(floor, dz, axis=0) ** 2 + np.gradient(floor, dx, axis=2) ** 2
    steep = 2 * draw_normal(rng, *p.anisotropy) * slope2 / (1 + slope2)  # dB; at 45 degrees slope2 is 1
    return found - steep.astype(np.float32) * np.clip(depth, 0, 1)
