"""The infant hip that the phantom simulates: what is where (chapter 02)."""

import math
from dataclasses import dataclass
from operator import index

import numpy as np

from ..errors import SegdetError
from .canvas import Canvas, smooth_field
from .parameters import HipParameters, check_number


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What is where, on the scan's grid.

    Attributes
    ----------
    labels : ndarray of uint8, (D, H, W)
        Index into `tissues`.
    tissues : tuple of str
    mask : ndarray of bool, (D, H, W)
        The femoral head: cartilage and ossific nucleus, to the growth plate.
    echogenicity_db : ndarray, (D, H, W)
        Mean scattered power, dB relative to muscle.
    attenuation : ndarray, (D, H, W)
        dB/cm/MHz, one way.
    specular : ndarray, (D, H, W)
        Amplitude of the interfaces, relative to muscle's scattering.
    spacing : (dz, dy, dx) in mm
    side, age_days, head_radius_mm, head_centre_mm
        What the seed drew; the centre is (elevation, depth, column) in mm from the first voxel's corner.
    """

    labels: np.ndarray
    tissues: tuple
    mask: np.ndarray
    echogenicity_db: np.ndarray
    attenuation: np.ndarray
    specular: np.ndarray
    spacing: tuple
    side: str
    age_days: int
    head_radius_mm: float
    head_centre_mm: tuple


def random_stream(seed, name):
    """Independent generators: what one draws never moves another."""
    streams = ("identity", "shape", "texture", "speckle", "noise", "gain", "look-alikes")
    return np.random.default_rng([seed, streams.index(name)])


def draw_normal(rng, mean, deviation):
    """A normal number, cut at two deviations."""
    return mean + deviation * float(np.clip(rng.standard_normal(), -2, 2))


def check_request(seed, shape, contrast_db, side, age_days, p):
    """Seed and shape of a hip as whole numbers, where the arguments of `anatomy` are what the phantom models.

    Raises
    ------
    SegdetError
        One is not; the first is named.
    """
    try:
        seed, shape = index(seed), tuple(index(n) for n in shape)
    except TypeError:
        raise SegdetError(f"phantom: seed and shape must be whole numbers, found {seed!r}, {shape!r}") from None
    if seed < 0:
        raise SegdetError(f"phantom: the seed must be 0 or more, found {seed}")
    if len(shape) != 3 or min(shape) < 8:
        raise SegdetError(f"phantom: shape must be (slices, rows, columns), each 8 or more; found {shape}")
    check_number("contrast_db", contrast_db)
    if side not in (None, "left", "right"):
        raise SegdetError(f'phantom: side must be "left", "right" or None (drawn), found {side!r}')
    if age_days is not None:
        check_number("age_days", age_days)
    if age_days is not None and not p.age_days[0] <= age_days <= p.age_days[1]:
        low, high = p.age_days
        raise SegdetError(f"phantom: age_days must be {low} to {high} (the paper's), found {age_days}")
    return seed, shape


def anatomy(seed, shape=(128, 184, 96), contrast_db=6.0, side=None, age_days=None, parameters=None):
    """Draw an infant hip: where every tissue is and how it scatters.

    The geometry is a function of millimetres: a seed gives the same hip on any grid and at any contrast.

    Parameters
    ----------
    seed : int
        0 or more.
    shape : (D, H, W)
        At least 8 voxels an axis; the field of view stays, so the spacing follows.
    contrast_db : float
        How far the head scatters below the muscle around it, dB of mean power; all cartilage and the look-alikes
        go with it.
    side : "left", "right" or None
        The right hip is the left one mirrored along the columns; None draws it.
    age_days : int or None
        Sets the size of the head and the chance of an ossific nucleus; None draws it.
    parameters : HipParameters, optional

    Returns
    -------
    Anatomy

    Raises
    ------
    SegdetError
        If an argument is outside what the phantom models.
    """
    p = parameters or HipParameters()
    seed, shape = check_request(seed, shape, contrast_db, side, age_days, p)
    who, rng, texture = (random_stream(seed, name) for name in ("identity", "shape", "texture"))
    drawn_side, drawn_age = ("left", "right")[who.integers(2)], int(who.integers(*p.age_days, endpoint=True))
    side, age = side or drawn_side, drawn_age if age_days is None else int(age_days)
    names, levels, losses = zip(*p.tissues, strict=True)
    canvas = Canvas(shape, p.field_of_view_mm, side, names, p.specular_power)

    radius = (draw_normal(rng, *p.head_diameter_mm) + p.head_growth_mm_per_day * age) / 2
    centre = np.array([draw_normal(rng, *v) for v in (p.head_elevation_mm, p.head_depth_mm, p.head_caudal_mm)])
    room = np.array(p.field_of_view_mm)[[0, 2]] / 2 - 1.2 * radius  # the head stays inside the sweep
    centre[[0, 2]] = np.clip(centre[[0, 2]], -room, room)
    tilt = [math.tan(math.radians(draw_normal(rng, *p.tilt_degrees))) for _ in range(2)]
    plane = tilt[0] * (canvas.z - centre[0]) + tilt[1] * (canvas.x - centre[2])

    _paint_layers(canvas, rng, texture, p, centre, radius, plane)
    _paint_look_alikes(canvas, rng, random_stream(seed, "look-alikes"), p, centre, radius)
    cup = centre - [draw_normal(rng, *v) for v in p.displacement_mm]
    _paint_pelvis(canvas, rng, texture, p, cup, radius, plane)
    head = _paint_femur(canvas, rng, p, centre, radius, age)

    level = np.array([-contrast_db if v == "head" else v for v in levels])
    echo = level[canvas.labels] + canvas.offset_db
    echo += p.texture_db * smooth_field(texture, (canvas.z, canvas.y, canvas.x), p.texture_mm)
    echo += np.where(canvas.labels == names.index("muscle"), _fascicles(canvas, rng, texture, p), 0.0)
    corner = centre * (1, 1, 1 if side == "left" else -1) + np.array(p.field_of_view_mm) * (0.5, 0, 0.5)
    return Anatomy(
        canvas.labels, names, head, echo, np.array(losses)[canvas.labels], canvas.specular, canvas.spacing,
        side, age, radius, tuple(corner.tolist()),
    )  # fmt: skip


def _paint_layers(canvas, rng, texture, p, centre, radius, plane):
    """Skin, fat and the gluteal muscles, parted by wavy fasciae that drape over the head."""

    def wave(height):
        return height * smooth_field(texture, (canvas.z, canvas.x), 9.0)[:, None, :]

    skin = rng.uniform(*p.skin_mm) + wave(0.1)
    fat = skin + rng.uniform(*p.fat_mm) + 0.3 * plane + wave(0.5)
    septum = fat + rng.uniform(*p.gluteus_mm) + 0.5 * plane + wave(0.6)
    from_axis2 = (canvas.z - centre[0]) ** 2 + (canvas.x - centre[2]) ** 2
    over_head = centre[1] - 1.1 * radius + from_axis2 / (2.5 * radius)
    fat, septum = np.minimum(fat, over_head - 2.5), np.minimum(septum, over_head - 0.5)
    skin = np.minimum(skin, fat - 1.0)
    canvas.paint(canvas.y < fat, "fat")
    canvas.paint(canvas.y < skin, "skin")
    for surface in (fat, septum):
        canvas.paint(np.abs(canvas.y - surface) < 0.3, "fascia")
        canvas.sheet(surface, p.fascia_amplitude * np.exp(0.5 * wave(1.0)))


def _paint_look_alikes(canvas, rng, more, p, centre, radius):
    """Pockets and vessels in the muscle that could be taken for the head; they never touch it.

    The stream of the shapes always gives as many as the default asks for, so that a dial of their number moves
    no other tissue: fewer are the first of them, and `more` gives the others. (Bone, roof cartilage and fossa fat that
    cover a pocket keep its offset, up to 4 dB, and its rim: a fault of version 1.)
    """
    least, most = HipParameters.look_alikes
    drawn = int(rng.integers(least, most, endpoint=True))
    low, high = p.look_alikes
    count = low + round((drawn - least) / (most - least) * (high - low))
    for turn in range(max(count, drawn)):
        crop, offsets, rho, semi, level, rim = _look_alike(canvas, rng if turn < drawn else more, p, centre, radius)
        if turn >= count:
            continue
        inside = (rho < 1) & (canvas.labels[crop] == canvas.names.index("muscle"))
        canvas.paint(inside, "vessel" if level is None else "look-alike", crop)
        canvas.offset_db[crop][inside] = level or 0.0
        canvas.shell(crop, offsets, rho, semi.mean(), p.capsule_amplitude * rim)


def _look_alike(canvas, rng, p, centre, radius):
    """Where one look-alike lies, how it scatters (None for a vessel) and how bright its rim is."""
    half = np.array(p.field_of_view_mm) / 2
    semi = rng.uniform(*p.look_alike_radius_mm) * np.exp(0.2 * rng.standard_normal(3))
    place = rng.uniform((-half[0], 9.0, -half[2]), (half[0], 33.0, half[2]))
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    level, rim, vessel = p.look_alike_db * rng.standard_normal(), rng.uniform(0, 1), rng.random() < 0.2
    if vessel:
        semi = np.array((1.2, 1.4, 12.0)) * rng.uniform(0.8, 1.4)
    away = place - centre
    place = centre + away * max(1.0, (radius + semi.max() + 1) / np.linalg.norm(away))
    return *canvas.ellipsoid(place, semi, axes), semi, None if vessel else level, rim


def _paint_pelvis(canvas, rng, texture, p, cup, radius, plane):
    """Ilium, bony roof, floor and ischium as the first bone a beam meets; roof cartilage and labrum."""
    gap = rng.uniform(*p.cartilage_gap_mm)
    turn = math.radians(draw_normal(rng, *p.turn_degrees))
    dz, dx = canvas.z - cup[0], canvas.x - cup[2]
    caudal = math.cos(turn) * dx + math.sin(turn) * dz
    across = math.cos(turn) * dz - math.sin(turn) * dx
    ilium = cup[1] - (draw_normal(rng, *p.coverage) - 0.5) * 2 * radius + plane
    ilium = ilium + draw_normal(rng, *p.ilium_curvature_per_mm) * across**2
    ilium = ilium + 0.4 * smooth_field(texture, (canvas.z, canvas.x), 12.0)[:, None, :]
    ischium = cup[1] + rng.uniform(0.7, 1.3) * radius + rng.uniform(0.1, 0.6) * caudal + 0.03 * across**2
    reach = radius + gap
    ring2 = dz**2 + dx**2
    bowl = cup[1] + np.sqrt(np.maximum(reach**2 - ring2, 0))
    step = 1 / (1 + np.exp((2.0 - caudal) / 1.0))  # from ilium to ischium over some millimetres
    outside = ilium + step * np.maximum(ischium - ilium, 0)
    bone = np.where(ring2 < reach**2, np.maximum(bowl, ilium), outside)
    # the triradiate cartilage lets the beam through the floor of the cup
    gate = (np.abs(caudal + 0.1 * radius) < 1.2) & (np.abs(across) < 0.5 * radius)
    bone = np.where(gate, 99.0, bone)
    crop, offsets = canvas.local(cup, reach)
    in_cup = (sum(o**2 for o in offsets) < reach**2) & (canvas.y[:, crop[1]] > ilium[crop[0], :, crop[2]])
    canvas.paint(in_cup & (caudal[crop[0], :, crop[2]] < 0.2 * radius), "roof cartilage", crop)
    canvas.paint(in_cup & (offsets[1] > 0.75 * radius), "fossa fat", crop)
    canvas.paint(canvas.y > bone, "bone")
    patchy = np.exp(0.5 * smooth_field(texture, (canvas.z, canvas.x), 3.0)[:, None, :])
    canvas.sheet(bone, p.bone_amplitude * patchy)
    rim = cup + reach * np.array((-math.sin(turn), -0.25, -math.cos(turn)))
    crop, _, rho = canvas.ellipsoid(rim, (0.75 * radius, 1.6, 1.2), np.eye(3))
    canvas.paint((rho < 1) & (canvas.labels[crop] != canvas.names.index("bone")), "labrum", crop)


def _paint_femur(canvas, rng, p, centre, radius, age):
    """Trochanter, metaphysis, capsule, head and perhaps its nucleus; returns the mask of the head."""
    bone = canvas.names.index("bone")
    neck = np.array((0.3 * rng.standard_normal(), rng.uniform(-0.5, 0.4), 1.0))
    neck /= np.linalg.norm(neck)
    place = centre + radius * (1.25 * neck + (0, -0.55, 0.35))
    crop, _, rho = canvas.ellipsoid(place, radius * rng.uniform(0.4, 0.75, 3), np.eye(3))
    canvas.paint(rho < 1, "trochanter", crop)

    def growth_plate(offsets):
        """Distance along the neck past the plate, which bulges into the head, and across it; in radii."""
        along = sum(n * o for n, o in zip(neck, offsets, strict=True)) / radius
        across2 = np.maximum(sum(o**2 for o in offsets) / radius**2 - along**2, 0)
        return along - plate - 0.15 * across2, across2

    plate = rng.uniform(0.72, 0.9)
    crop, offsets = canvas.local(centre, 3.5 * radius)
    past, across2 = growth_plate(offsets)
    shaft = (past > 0) & (across2 < (0.65 + 0.1 * past) ** 2)
    canvas.paint(shaft, "bone", crop)
    first = (np.argmax(shaft, axis=1)[:, None, :] + crop[1].start) * canvas.spacing[1]
    surface = np.full((canvas.labels.shape[0], 1, canvas.labels.shape[2]), -99.0)
    surface[crop[0], :, crop[2]] = np.where(shaft.any(axis=1)[:, None, :], first, -99.0)
    canvas.sheet(surface, p.bone_amplitude * 3)  # three: the voxel steps of this surface look like slope

    ratio = np.array([draw_normal(rng, *p.head_axis_ratio) for _ in range(3)])
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    bumps = p.head_irregularity * rng.standard_normal((3, 3))
    crop, offsets, rho = canvas.ellipsoid(centre, radius * ratio / ratio.mean(), axes, bumps)
    canvas.paint((rho < 1 + 0.6 / radius) & (offsets[1] < 0) & (canvas.labels[crop] != bone), "capsule", crop)
    inside = (rho < 1) & (growth_plate(offsets)[0] <= 0)
    canvas.paint(inside, "head", crop)
    canvas.offset_db[crop][inside] = canvas.specular[crop][inside] = 0.0
    bare = np.where(canvas.labels[crop] == bone, np.inf, rho)  # no capsule on the metaphysis
    canvas.shell(crop, offsets, bare, radius, p.capsule_amplitude)
    mask = np.zeros(canvas.labels.shape, bool)
    mask[crop] = inside
    chance = np.clip((age - p.nucleus_from_days) * p.nucleus_per_day, 0, 1)
    place, size = centre + 0.15 * radius * rng.uniform(-1, 1, 3), rng.uniform(*p.nucleus_radius_mm)
    if rng.random() < chance:
        crop, _, rho = canvas.ellipsoid(place, (size, 0.8 * size, size), np.eye(3))
        canvas.paint(rho < 1, "nucleus", crop)
    return mask


def _fascicles(canvas, rng, texture, p):
    """Stripes of echogenicity (dB) along the muscle fibres, which run roughly across the beam."""
    normal = np.array((0.25 * rng.standard_normal(), 1.0, 0.25 * rng.standard_normal()))
    warp = 1.5 * smooth_field(texture, (canvas.z, canvas.x), 8.0)[:, None, :]
    phase = normal[0] * canvas.z + normal[1] * canvas.y + normal[2] * canvas.x + warp
    return draw_normal(rng, *p.stripe_db) * np.sin(2 * math.pi / rng.uniform(*p.stripe_mm) * phase)
