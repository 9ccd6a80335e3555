"""The infant hip of version 2: what is where (chapter 02)."""

import math
from dataclasses import dataclass

import numpy as np

from ..anatomy import Anatomy, check_request, draw_normal
from ..canvas import Canvas, smooth_field
from .bones import paint_femur, paint_pelvis
from .head import paint_head
from .layers import paint_layers
from .parameters import Hip2Parameters
from .scanners import Scanner

STRUCTURES = "ilium and roof", "head", "ischium"  # the label map's 1, 2 and 3; 0 is all else


MUSCLE_FROM_MM = 6.5  # bone never rises higher than this below the skin
STREAMS = (
    "identity", "frame", "layers", "pelvis", "femur", "head", "pockets", "texture",
    "artefacts", "edges", "scanner", "gain", "repeated",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Hip2(Anatomy):
    """What version 1's `Anatomy` holds, and more.

    Attributes
    ----------
    structures : ndarray of uint8, (D, H, W)
        The label map, see `STRUCTURES`.
    first_bone : ndarray of int, (D, 1, W)
        The row where each beam meets bone; H where it meets none.
    contrast_db : float
    """

    structures: np.ndarray
    first_bone: np.ndarray
    contrast_db: float


@dataclass(frozen=True, eq=False)
class Frame:
    """Where the joint lies, mm; points are (elevation, depth, caudal) on the canvas' axes, surfaces (D, 1, W)."""

    centre: np.ndarray  # of the head
    radius: float
    cup: np.ndarray  # centre of the acetabulum
    reach: float  # its bony radius
    caudal: np.ndarray  # distance from the cup's centre, turned with the pelvis
    ilium: np.ndarray  # depth of its outer face
    rim_height: float  # depth of the bony rim below the cup's centre
    floor: np.ndarray  # depth where muscle ends and the joint begins
    capsule: float  # its thickness
    neck: np.ndarray  # unit vector from the head along the femur's neck
    metaphysis: np.ndarray  # centre of its rounded end
    thick: float  # its radius


def stream(seed, name):
    """Version 2's independent generators: what one draws never moves another."""
    return np.random.default_rng([seed, 2, STREAMS.index(name)])


def anatomy(seed, shape=(128, 184, 96), contrast_db=None, side=None, age_days=None, parameters=None, scanner=None):
    """Draw an infant hip of version 2; arguments and errors as of version 1's `anatomy`.

    Parameters
    ----------
    contrast_db : float or None
        As in version 1; None draws it.
    parameters : Hip2Parameters, optional
    scanner : Scanner, optional
        Its field of view is the canvas.

    Returns
    -------
    Hip2
    """
    p, fov = parameters or Hip2Parameters(), (scanner or Scanner()).field_of_view_mm
    seed, shape = check_request(seed, shape, contrast_db or 0.0, side, age_days, p)
    who, texture = stream(seed, "identity"), stream(seed, "texture")
    drawn_side, drawn_age = ("left", "right")[who.integers(2)], int(who.integers(*p.age_days, endpoint=True))
    drawn_contrast = draw_normal(who, *p.contrast_db)
    side, age = side or drawn_side, drawn_age if age_days is None else int(age_days)
    names, levels, losses = zip(*p.tissues, strict=True)
    canvas = Canvas(shape, fov, side, names, p.specular_power)
    frame = _frame(canvas, stream(seed, "frame"), p, age, fov)

    fibres = paint_layers(canvas, stream(seed, "layers"), texture, p, frame)
    _paint_pockets(canvas, stream(seed, "pockets"), p, frame, fov)
    canvas.power = p.bone_power
    ilium, ischium = paint_pelvis(canvas, stream(seed, "pelvis"), texture, p, frame)
    femur = paint_femur(canvas, stream(seed, "femur"), p, frame)
    canvas.power = p.specular_power
    head = paint_head(canvas, stream(seed, "head"), p, frame, femur, age)
    bone = canvas.labels == names.index("bone")
    first = np.where(bone.any(1), np.argmax(bone, axis=1), shape[1])[:, None, :]
    rows = np.arange(shape[1])[None, :, None]
    rough = np.where(ischium.any(1, keepdims=True) & ~(ilium | femur).any(1, keepdims=True), *p.cortex_mm[::-1])
    below = (rows - first) * canvas.spacing[1]  # mm
    canvas.paint(bone & (below < rough), "cortex")
    canvas.specular[below > 1] = 0  # no beam gets there

    contrast = drawn_contrast if contrast_db is None else float(contrast_db)
    level = np.array([-contrast if v == "head" else v for v in levels])
    echo = level[canvas.labels] + canvas.offset_db
    echo += p.texture_db * smooth_field(texture, (canvas.z, canvas.y, canvas.x), p.texture_mm)
    striped = np.isin(canvas.labels, [names.index(name) for name in ("fat", "muscle", "deep tissue")])
    np.add(echo, fibres, out=echo, where=striped)
    structures = np.zeros(shape, np.uint8)
    for number, where in enumerate((ilium, head, ischium), 1):
        structures[where & ((number == 2) | bone)] = number
    corner = frame.centre * (1, 1, 1 if side == "left" else -1) + np.array(fov) * (0.5, 0, 0.5)
    return Hip2(
        canvas.labels, names, head, echo, np.array(losses)[canvas.labels], canvas.specular, canvas.spacing, side,
        age, frame.radius, tuple(corner.tolist()), structures, first, contrast,
    )  # fmt: skip


def _frame(canvas, rng, p, age, fov):
    """Draw where the head lies and the surfaces that everything else hangs on."""
    radius = (draw_normal(rng, *p.head_diameter_mm) + p.head_growth_mm_per_day * age) / 2
    top = draw_normal(rng, *p.head_top_mm)
    centre = np.array((draw_normal(rng, *p.head_elevation_mm), top + radius, draw_normal(rng, *p.head_caudal_mm)))
    room = np.maximum(np.array(fov)[[0, 2]] / 2 - 1.05 * radius, 0)  # the head stays inside the sweep
    centre[[0, 2]] = np.clip(centre[[0, 2]], -room, room)
    cup = centre - [draw_normal(rng, *v) for v in p.displacement_mm]
    reach = radius + rng.uniform(*p.cartilage_gap_mm)
    turn = math.radians(draw_normal(rng, *p.turn_degrees))
    tilt = [math.tan(math.radians(draw_normal(rng, *p.tilt_degrees))) for _ in range(2)]
    dz, dx = canvas.z - cup[0], canvas.x - cup[2]
    caudal, across = math.cos(turn) * dx + math.sin(turn) * dz, math.cos(turn) * dz - math.sin(turn) * dx

    rim_height = radius * (1 - 2 * draw_normal(rng, *p.coverage))
    ilium = cup[1] + rim_height + tilt[0] * across + tilt[1] * (caudal + reach)
    ilium = ilium + draw_normal(rng, *p.ilium_curvature_per_mm) * across**2
    ilium = ilium + 0.3 * smooth_field(rng, (canvas.z, canvas.x), 12.0)[:, None, :]
    capsule = rng.uniform(*p.capsule_mm)
    near = ((canvas.x - centre[2]) / (1.45 * radius)) ** 2 + ((canvas.z - centre[0]) / (1.6 * radius)) ** 2
    base = np.maximum(ilium - 0.8, top)  # of the muscle, away from the head
    floor = np.minimum(top - capsule + (base - top) * (1 - np.exp(-near)), base)
    neck, metaphysis, thick = _femur_axis(rng, p, centre, radius)
    floor = np.minimum(floor, np.maximum(_drape(canvas, neck, metaphysis, thick) - 1.5, MUSCLE_FROM_MM))
    return Frame(centre, radius, cup, reach, caudal, ilium, rim_height, floor, capsule, neck, metaphysis, thick)


def _femur_axis(rng, p, centre, radius):
    """Direction of the neck, centre of the metaphysis' rounded end, and its radius."""
    along = rng.uniform(*p.neck_elevation) * (1, -1)[rng.integers(2)]
    depth = rng.uniform(*p.neck_depth) * math.sqrt(1 - along**2)
    neck = np.array((along, depth, math.sqrt(1 - along**2 - depth**2)))
    thick = radius * rng.uniform(*p.metaphysis_radii)
    return neck, centre + neck * (radius * rng.uniform(*p.growth_plate_radii) + thick), thick


def _drape(canvas, neck, start, thick):
    """Depth of a cloth that lies over the metaphysis and falls off to its sides, (D, 1, W)."""
    level = math.hypot(neck[0], neck[2])  # of the neck, across the beam
    dz, dx = canvas.z - start[0], canvas.x - start[2]
    along = (neck[0] * dz + neck[2] * dx) / level
    across = (neck[0] * dx - neck[2] * dz) / level
    beside2 = across**2 + np.minimum(along, 0) ** 2
    return start[1] + neck[1] / level * np.maximum(along, 0) - thick / level + beside2 / (2.2 * thick)


def _paint_pockets(canvas, rng, p, frame, fov):
    """Dark pockets and vessels in soft tissue that could be taken for the head; they never touch it."""
    half = np.array(fov) / 2
    soft = [canvas.names.index(name) for name in ("muscle", "deep tissue")]
    low, high = p.look_alikes
    number = int(rng.integers(low, high, endpoint=True))
    for turn in range(high):  # always as many draws: the number moves nothing else
        semi = rng.uniform(*p.look_alike_radius_mm) * np.exp(0.2 * rng.standard_normal(3))
        place = rng.uniform((-half[0], 7.0, -half[2]), (half[0], 2 * half[1], half[2]))
        axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        level, rim, vessel = p.look_alike_db * rng.standard_normal(), rng.uniform(0, 1), rng.random() < 0.3
        if vessel:
            semi = np.array((1.0, 1.2, 10.0)) * rng.uniform(0.7, 1.4)
        away = place - frame.centre
        place = frame.centre + away * max(1.0, (frame.radius + semi.max() + 2) / np.linalg.norm(away))
        if turn >= number:
            continue
        crop, offsets, rho = canvas.ellipsoid(place, semi, axes)
        inside = (rho < 1) & np.isin(canvas.labels[crop], soft)
        canvas.paint(inside, "vessel" if vessel else "pocket", crop)
        canvas.offset_db[crop][inside] = 0.0 if vessel else level
        canvas.shell(crop, offsets, rho, semi.mean(), p.capsule_amplitude * rim)
