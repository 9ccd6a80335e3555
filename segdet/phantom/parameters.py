"""What the simulated hip assumes: every number with its unit and its source (chapter 02)."""

import math
from dataclasses import dataclass, field, fields, replace
from numbers import Real

from ..errors import SegdetError

DECIBELS = {"contrast_db": (-100, 100), "noise_db": (-300, 40)}  # beyond them a picture is black, or white
CHOSEN = "chosen"  # no source: our choice, frozen with the phantom's version
HEAD_SIZE = "J Pediatr Orthop 1995;15:736"
MORIN = "Morin, Radiology 1985;157:673"
GRAF = "Graf, J Pediatr Orthop 1983;3:354"
PARANJAPE = "Paranjape, J Pediatr Orthop 2002;22:217"
SZABO = "Szabo, Diagnostic Ultrasound Imaging, 2014"


def drawn(mean, deviation, unit, note="", source=CHOSEN):
    """A number that each hip draws: normal, cut at two deviations."""
    return _field((mean, deviation), "mean, deviation", unit, note, source)


def between(least, most, unit, note="", source=CHOSEN):
    """A number that each hip draws: uniform."""
    return _field((least, most), "range", unit, note, source)


def fixed(value, unit, note="", source=CHOSEN):
    """A number that all hips share."""
    return _field(value, "", unit, note, source)


def _field(value, kind, unit, note, source):
    return field(default=value, metadata={"kind": kind, "unit": unit, "note": note, "source": source})


def check_number(name, value):
    """Raise `SegdetError` where a value is no finite number, or beyond the limits that `DECIBELS` names."""
    if not isinstance(value, Real):
        raise SegdetError(f"phantom: {name} must be a number, found {value!r}")
    if not math.isfinite(value):
        raise SegdetError(f"phantom: {name} must be finite, found {value!r}")
    low, high = DECIBELS.get(name, (-math.inf, math.inf))
    if not low <= value <= high:
        raise SegdetError(f"phantom: {name} is {value:g}; expected {low} to {high} dB")


def check_dials(parameters):
    """Raise `SegdetError` for the first field that is not what its metadata say."""
    for entry in fields(parameters):
        value, kind = getattr(parameters, entry.name), entry.metadata["kind"]
        numbers = value if isinstance(value, tuple) else (value,)
        if kind and len(numbers) != 2:
            raise SegdetError(f"phantom: {entry.name} must be a pair ({kind}), found {value!r}")
        for number in numbers if entry.name not in ("tissues", "displacement_mm") else ():
            check_number(entry.name, number)
        if kind == "range" and not numbers[0] <= numbers[1]:
            raise SegdetError(f"phantom: {entry.name} must run from less to more, found {value!r}")
        if entry.metadata["unit"] == "count" and not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise SegdetError(f"phantom: {entry.name} counts, so 0 or more; found {value!r}")


@dataclass(frozen=True)
class HipParameters:
    """What the phantom assumes.

    The metadata of each field hold its unit, a note, its source, and how a pair is meant: "mean, deviation" (normal,
    cut at two deviations) or "range" (uniform). Depth is measured from the skin; "caudal" is along the columns, 0 in
    the middle of the scan.
    """

    # --- the scan
    field_of_view_mm: tuple = fixed(
        (33.28, 40.48, 38.40), "mm", "slices, rows, columns: 128 x 184 x 96 voxels", "paper, section 4"
    )
    age_days: tuple = between(4, 111, "days", "that it is drawn uniformly is chosen", "paper, section 4")
    # --- anatomy
    head_diameter_mm: tuple = drawn(
        15.8, 1.0, "mm", "at birth: girls 15.6 ± 1.4, boys 16.1 ± 1.5; a smaller deviation chosen", HEAD_SIZE
    )
    head_growth_mm_per_day: float = fixed(
        0.03, "mm/day", "it does grow: J Pediatr Orthop, January 1994; the rate is chosen"
    )
    head_elevation_mm: tuple = drawn(0.0, 2.5, "mm", "the operator centres the sweep")
    head_depth_mm: tuple = drawn(19.0, 2.2, "mm")
    head_caudal_mm: tuple = drawn(3.5, 2.5, "mm", "the ilium takes the cranial part of the standard plane")
    head_axis_ratio: tuple = drawn(1.0, 0.05, "1", "asphericity: each semi-axis over their mean")
    head_irregularity: float = fixed(0.04, "radii", "deviation of the quadratic bumps on the head")
    coverage: tuple = drawn(0.58, 0.06, "1", "share of the head below the ilium's line; from 0.58 on normal", MORIN)
    tilt_degrees: tuple = drawn(0.0, 8.0, "degrees", "0 is the standard plane; the deviation is chosen", GRAF)
    turn_degrees: tuple = drawn(0.0, 15.0, "degrees", "rotation of the pelvis about the beam")
    ilium_curvature_per_mm: tuple = drawn(0.025, 0.010, "1/mm", "how the ilium falls away in elevation")
    cartilage_gap_mm: tuple = between(1.3, 2.4, "mm", "cartilage between head and bone")
    displacement_mm: tuple = fixed(
        ((0.0, 0.7), (-0.6, 0.9), (-0.3, 0.7)),
        "mm",
        "of the head from the cup's centre: elevation, depth (negative is up), caudal",
    )
    skin_mm: tuple = between(1.0, 1.8, "mm")
    fat_mm: tuple = between(2.5, 5.0, "mm")
    gluteus_mm: tuple = between(2.5, 4.5, "mm", "the outer muscle layer, down to its septum")
    nucleus_from_days: float = fixed(14.0, "days", "the earliest ossific nucleus, at two weeks", PARANJAPE)
    nucleus_per_day: float = fixed(
        0.005,
        "1/day",
        "0.48 at 111 days, chosen; found at 10 to 16 weeks: 22 to 74 % or, elsewhere, above 81 %",
        PARANJAPE,
    )
    nucleus_radius_mm: tuple = between(0.8, 2.5, "mm")
    look_alikes: tuple = between(10, 16, "count", "how many hypoechoic pockets and vessels lie in the muscle")
    look_alike_radius_mm: tuple = between(2.5, 7.5, "mm", "up to the head's own size")
    look_alike_db: float = fixed(2.0, "dB", "deviation of their level around the head's")
    # --- tissues: name, echogenicity in dB relative to muscle ("head" stands for -contrast_db), attenuation
    tissues: tuple = fixed(
        (
            ("skin", 8.0, 0.35),
            ("fat", -3.0, 0.63),
            ("muscle", 0.0, 0.96),
            ("fascia", 5.0, 1.57),
            ("look-alike", "head", 0.96),
            ("vessel", -14.0, 0.15),
            ("roof cartilage", "head", 0.96),
            ("labrum", 8.0, 1.57),
            ("capsule", 3.0, 1.57),
            ("fossa fat", 3.0, 0.63),
            ("trochanter", "head", 0.96),
            ("head", "head", 0.96),
            ("nucleus", 10.0, 5.0),
            ("bone", 10.0, 15.0),
        ),
        "name, dB, dB/cm/MHz",
        "levels chosen; cartilage attenuates like muscle across its fibres, the nucleus a third of bone: chosen",
        "attenuation at 1 MHz: Diagnostics 2023;13:855, table 4; growing in proportion to the frequency is assumed",
    )
    texture_db: float = fixed(3.0, "dB", "deviation of slow changes of echogenicity")
    texture_mm: float = fixed(2.5, "mm", "their length")
    stripe_db: tuple = drawn(4.0, 1.0, "dB", "fascicles: amplitude of the stripes in muscle")
    stripe_mm: tuple = between(1.2, 2.2, "mm", "period of the stripes")
    fascia_amplitude: float = fixed(3.0, "1", "specular echo at normal incidence, relative to the muscle's amplitude")
    capsule_amplitude: float = fixed(2.0, "1", "the same at the surface of the head")
    bone_amplitude: float = fixed(25.0, "1", "the same at bone, near the top of the grey scale")
    specular_power: float = fixed(4.0, "1", "a specular echo falls with cos(angle to the beam) to this power")
    # --- the scanner
    speed_of_sound_m_per_s: float = fixed(1540.0, "m/s", "the soft-tissue mean that scanners assume", SZABO)
    frequency_mhz: float = fixed(9.0, "MHz", "13 MHz is taken as the top of the paper's band; tissue weakens that most")
    fractional_bandwidth: float = fixed(0.6, "1", "sets the axial width, c / (2 B)")
    lateral_f_number: float = fixed(2.5, "1", "the width at the focus is lambda F; the value is chosen", SZABO)
    elevation_f_number: float = fixed(5.0, "1", "a fixed lens, so coarser")
    focus_mm: float = fixed(18.0, "mm", "of lateral and elevation focus: on the head")
    noise_db: float = fixed(-60.0, "dB", "electronic noise before gain, relative to unattenuated muscle")
    tgc_db_per_cm_mhz: tuple = drawn(0.85, 0.04, "dB/cm/MHz", "the scanner's guess of the mean attenuation")
    tgc_ripple_db: float = fixed(1.5, "dB", "sliders: deviation of the gain along depth")
    contact_db: float = fixed(2.5, "dB", "deviation of the gain over the probe's face")
    dynamic_range_db: float = fixed(60.0, "dB", "a usual setting")
    muscle_grey: float = fixed(0.45, "1", "muscle's level as a share of the grey scale")

    def __post_init__(self):
        check_dials(self)


# A hip that is not covered as it should be: below a share of 0.33 all hips were abnormal (Morin). That the head also
# rides higher in the cup, by 1.5 mm more, is chosen.
DYSPLASTIC = replace(HipParameters(), coverage=(0.33, 0.05), displacement_mm=((0.0, 0.7), (-2.1, 0.9), (-0.3, 0.7)))
