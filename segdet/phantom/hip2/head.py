"""The femoral head of version 2: cartilage with vascular canals, capsule, nucleus (chapter 02)."""

import numpy as np

from ..anatomy import draw_normal

POINTS = 21  # that a canal is drawn by


def paint_head(canvas, rng, p, frame, femur, age):
    """Paint the head up to the growth plate; returns its mask, bool (D, H, W)."""
    centre, radius = frame.centre, frame.radius
    ratio = np.array([draw_normal(rng, *p.head_axis_ratio) for _ in range(3)])
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    bumps = p.head_irregularity * rng.standard_normal((3, 3))
    crop, offsets, rho = canvas.ellipsoid(centre, radius * ratio / ratio.mean(), axes, bumps)
    _paint_capsule(canvas, frame, crop, offsets)
    inside = (rho < 1) & ~femur[crop]
    canvas.paint(inside, "head", crop)
    canvas.offset_db[crop][inside] = canvas.specular[crop][inside] = 0.0
    canvas.shell(crop, offsets, np.where(femur[crop], np.inf, rho), radius, p.capsule_amplitude)
    mask = np.zeros(canvas.labels.shape, bool)
    mask[crop] = inside
    _paint_canals(canvas, rng, p, frame, mask)
    chance = np.clip((age - p.nucleus_from_days) * p.nucleus_per_day, 0, 1)
    place, size = centre + 0.15 * radius * rng.uniform(-1, 1, 3), rng.uniform(*p.nucleus_radius_mm)
    if rng.random() < chance:
        crop, _, rho = canvas.ellipsoid(place, (size, 0.8 * size, size), np.eye(3))
        canvas.paint(rho < 1, "nucleus", crop)
    return mask


def _paint_capsule(canvas, frame, crop, offsets):
    """The bright band over the head, and the fat in the corner between muscle, ilium and head."""
    depth = canvas.y[:, crop[1]] - frame.floor[crop[0], :, crop[2]]
    across2 = offsets[0] ** 2 + offsets[2] ** 2
    free = (depth > 0) & (canvas.labels[crop] == canvas.names.index("deep tissue"))
    canvas.paint(free & (depth < 4.0) & (offsets[2] < 0), "pericapsular fat", crop)
    canvas.paint(free & (depth < frame.capsule) & (across2 < (1.3 * frame.radius) ** 2), "capsule", crop)


def _paint_canals(canvas, rng, p, frame, mask):
    """Short bright streaks that spread from the lower middle of the head, drawn voxel by voxel along their lines."""
    low, high = p.canals
    number, strength = int(rng.integers(low, high, endpoint=True)), draw_normal(rng, *p.canal_db)
    place = rng.standard_normal((high, 3))  # always as many draws: the number moves nothing else
    place *= 0.95 * rng.uniform(size=(high, 1)) ** (1 / 3) / np.linalg.norm(place, axis=1, keepdims=True)
    way = place + rng.uniform((0, -1.2, 0), (0, -0.3, 0), (high, 3)) + 0.3 * rng.standard_normal((high, 3))
    way *= (1, 0.45, 1)  # those across the beam are the ones that echo
    way *= rng.uniform(*p.canal_mm, (high, 1)) / np.linalg.norm(way, axis=1, keepdims=True)
    along = np.linspace(-0.5, 0.5, POINTS)[:, None]
    points = (frame.centre + frame.radius * place[:, None] + along * way[:, None])[:number].reshape(-1, 3)
    level = np.repeat((strength + 3.0 * rng.standard_normal(high))[:number], POINTS)
    lines = [line.ravel() for line in (canvas.z, canvas.y, canvas.x)]
    at = [np.rint((q - line[0]) / (line[1] - line[0])).astype(int) for q, line in zip(points.T, lines, strict=True)]
    kept = np.all([(i >= 0) & (i < n) for i, n in zip(at, mask.shape, strict=True)], axis=0)
    kept[kept] = mask[tuple(i[kept] for i in at)]
    at = tuple(i[kept] for i in at)
    canvas.labels[at] = canvas.names.index("canal")
    canvas.offset_db[at] = level[kept]
