"""Pelvis and femur of version 2, and the cartilage and fat between them (chapter 02)."""

import numpy as np

from ..anatomy import draw_normal
from ..canvas import smooth_field


def paint_pelvis(canvas, rng, texture, p, frame):
    """Ilium up to its rim, the bony roof from there to the lower limb, ischium; roof cartilage, labrum, fossa fat.

    Returns
    -------
    ilium, ischium : ndarrays of bool, (D, H, W)
        Which voxels are bone of ilium and roof, and of the ischium.
    """
    cup, reach, radius = frame.cup, frame.reach, frame.radius
    rim = cup + np.array((0, frame.rim_height, -np.sqrt(max(reach**2 - frame.rim_height**2, 0))))
    crop, offsets = canvas.local(cup, 1.05 * reach)
    rho = np.sqrt(sum(o**2 for o in offsets)) / reach
    inside, caudal = rho < 1, np.broadcast_to(frame.caudal[crop[0], :, crop[2]], rho.shape)
    joint = canvas.y[:, crop[1]] > frame.floor[crop[0], :, crop[2]] + frame.capsule
    canvas.paint(inside & joint & (caudal < 0.3 * radius), "roof cartilage", crop)
    pad = inside & (offsets[1] > 0.6 * reach * rho) & (np.abs(caudal) < 0.75 * radius)
    canvas.paint(pad, "fossa fat", crop)
    place = cup + radius * np.array((0, 1.08, 0.1))
    crop2, _, rho2 = canvas.ellipsoid(place, radius * np.array((0.8, rng.uniform(0.12, 0.3), 0.55)), np.eye(3))
    canvas.paint(rho2 < 1, "fossa fat", crop2)

    end = -rng.uniform(*p.roof_end_radii) * radius
    ilium = (canvas.y > frame.ilium) & (frame.caudal < end)
    ilium[crop] &= ~inside
    wedge = canvas.ellipsoid(rim + np.array((0, -0.6, 0.6)), (0.9 * radius, rng.uniform(*p.labrum_mm), 1.3), np.eye(3))
    canvas.paint(wedge[2] < 1, "labrum", wedge[0])
    ischium = _ischium(canvas, rng, p, frame)
    canvas.paint(ilium | ischium, "bone")

    amplitude = draw_normal(rng, *p.bone_amplitude)
    patchy = np.exp(0.4 * smooth_field(texture, (canvas.z, canvas.x), 3.0)[:, None, :])
    top = np.where(ilium.any(1, keepdims=True) & ~_cut(canvas, ilium, frame), frame.ilium, -99.0)
    canvas.sheet(top, amplitude * patchy * (top > 0))
    roof = (caudal < end) & (canvas.y[:, crop[1]] > frame.ilium[crop[0], :, crop[2]])
    canvas.shell(crop, offsets, np.where(roof, rho, np.inf), reach, amplitude / 2)
    return ilium, ischium


def _cut(canvas, ilium, frame):
    """Columns whose first bone is the roof, not the ilium's outer face; (D, 1, W)."""
    first = np.argmax(ilium, axis=1)[:, None, :] * canvas.spacing[1]
    return first > frame.ilium + 2 * canvas.spacing[1]


def _ischium(canvas, rng, p, frame):
    """A rounded bar below the head, with cartilage around it; returns which voxels are its bone."""
    radius = frame.radius
    width = rng.uniform(*p.ischium_width_radii)
    semi = radius * np.array((1.3, rng.uniform(0.4, 0.7), width))
    place = frame.cup + radius * np.array((0, rng.uniform(*p.ischium_depth_radii), 0))
    place += (0, semi[1], radius * draw_normal(rng, *p.ischium_caudal_radii))
    crop, _, rho = canvas.ellipsoid(place, semi + 1.0, np.eye(3))
    canvas.paint(rho < 1, "roof cartilage", crop)
    crop, offsets, rho = canvas.ellipsoid(place, semi, np.eye(3))
    bone = np.zeros(canvas.labels.shape, bool)
    bone[crop] = rho < 1
    canvas.offset_db[crop][rho < 1] = (-p.ischium_side_db * (offsets[2] / semi[2]) ** 2 + 0 * rho)[rho < 1]
    canvas.shell(crop, offsets, rho, semi.mean(), draw_normal(rng, *p.bone_amplitude) / 2)
    return bone


def paint_femur(canvas, rng, p, frame):
    """The metaphysis, a rounded bar that leaves the standard plane, and the trochanter's cartilage around it.

    Returns
    -------
    ndarray of bool, (D, H, W)
        Which voxels are bone of the femur; it ends at the growth plate.
    """
    radius, neck = frame.radius, frame.neck
    place = frame.centre + radius * (1.1 * neck + (0, -0.35, 0.3))
    crop, _, rho = canvas.ellipsoid(place, radius * rng.uniform(0.5, 0.85, 3), np.eye(3))
    canvas.paint((rho < 1) & (canvas.y[:, crop[1]] > frame.floor[crop[0], :, crop[2]]), "trochanter", crop)
    crop, offsets = canvas.local(frame.metaphysis, 4 * radius)
    beyond = np.maximum(sum(n * o for n, o in zip(neck, offsets, strict=True)), 0)
    from_axis = [o - beyond * n for n, o in zip(neck, offsets, strict=True)]
    rho = np.sqrt(sum(o**2 for o in from_axis)) / frame.thick
    rho[canvas.y[:, crop[1]] < frame.floor[crop[0], :, crop[2]] + 1] = np.inf
    bone = np.zeros(canvas.labels.shape, bool)
    bone[crop] = rho < 1
    canvas.paint(bone, "bone")
    canvas.shell(crop, from_axis, rho, frame.thick, draw_normal(rng, *p.bone_amplitude))
    return bone
