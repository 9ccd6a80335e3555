"""Scanners that version 2 can imitate: frequency, depth, grey scale, smoothing (chapter 02)."""

from dataclasses import dataclass, replace

import numpy as np

from ...errors import SegdetError
from ..parameters import SZABO, check_dials, fixed

# A bar shows the shares 1 to 0 at even steps, so the exponent is the one whose curve is nearest to the greys along it;
# `tests/test_phantom_hip2.py` fits it. What of a bar is as dark as the screen cannot be told from it and is left out.
BARS = "fitted to the grey bars in the pictures of three scanners (Radiopaedia rID 171551, 167857, 167854)"


@dataclass(frozen=True)
class Scanner:
    """A machine and its settings; the default stands for the paper's iU22.

    What leaves no trace in a picture is not here. The metadata of each field are those of `HipParameters`.
    """

    field_of_view_mm: tuple = fixed(
        (33.28, 40.48, 38.40), "mm", "slices, rows, columns: 128 x 184 x 96 voxels", "paper, section 4"
    )
    depth_mm: float = fixed(40.48, "mm", "what lies deeper was not recorded: black", "paper, section 4")
    speed_of_sound_m_per_s: float = fixed(1540.0, "m/s", "the soft-tissue mean that scanners assume", SZABO)
    frequency_mhz: float = fixed(9.0, "MHz", "as in version 1: tissue weakens the top of the paper's band most")
    fractional_bandwidth: float = fixed(0.5, "1", "sets the axial width, c / (2 B)")
    lateral_f_number: float = fixed(2.0, "1", "the width at the focus is lambda F; the value is chosen", SZABO)
    elevation_f_number: float = fixed(5.0, "1", "a fixed lens, so coarser")
    focus_mm: float = fixed(18.0, "mm", "of lateral and elevation focus: on the head")
    noise_db: float = fixed(-70.0, "dB", "electronic noise before gain, relative to unattenuated muscle")
    tgc_db_per_cm_mhz: float = fixed(0.84, "dB/cm/MHz", "the scanner's guess of the mean attenuation")
    tgc_until_mm: float = fixed(30.0, "mm", "where the gain reaches its largest; deeper all fades", SZABO)
    tgc_ripple_db: float = fixed(2.0, "dB", "sliders: deviation of the gain along depth")
    contact_db: float = fixed(1.5, "dB", "deviation of the gain over the probe's face")
    edge_fall_db: float = fixed(4.0, "dB", "lost at the first and last beam, where the aperture is cut", SZABO)
    edge_fall_mm: float = fixed(3.0, "mm", "over this distance it fades")
    repeated_mm: float = fixed(2.0, "mm", "at most so much of either side repeats the last recorded column")
    smoothing_mm: tuple = fixed((0.15, 0.35), "mm", "speckle filter and compounding: deviation along rows, columns")
    dynamic_range_db: float = fixed(58.0, "dB", "63 is printed on the iU22's pictures; that of the echo is chosen")
    muscle_grey: float = fixed(0.31, "1", "muscle's level as a share of the range; the gain's setting")
    grey_exponent: float = fixed(
        0.95, "1", "grey = 255 share^exponent: 0.95 fits the bar of the iU22, 1.35 a LOGIQ E9's, 1.7 a P9's", BARS
    )

    def __post_init__(self):
        check_dials(self)


L12_5 = Scanner(field_of_view_mm=(33.28, 50.0, 50.0), depth_mm=50.0, frequency_mhz=8.5, focus_mm=25.0)
SCANNERS = {
    "iu22": Scanner(),
    "l12-5": L12_5,
    "l12-5-deep": replace(L12_5, field_of_view_mm=(33.28, 60.0, 50.0), depth_mm=60.0),  # as rID 171556 prints it
    "logiq-e9": Scanner(
        field_of_view_mm=(33.28, 32.0, 48.0), depth_mm=32.0, frequency_mhz=10.0, focus_mm=16.0, tgc_until_mm=24.0,
        grey_exponent=1.35, muscle_grey=0.49, dynamic_range_db=66.0, smoothing_mm=(0.1, 0.3),
    ),
    "logiq-p9": Scanner(
        field_of_view_mm=(33.28, 45.0, 50.0), depth_mm=45.0, frequency_mhz=9.5, focus_mm=18.0, grey_exponent=1.7,
        muscle_grey=0.50, dynamic_range_db=66.0, smoothing_mm=(0.1, 0.3), repeated_mm=0.0,
    ),
}  # fmt: skip


def check_preset(preset):
    """Raise `SegdetError` for what is no preset."""
    if preset != "varied" and preset not in SCANNERS:
        raise SegdetError(f'phantom: preset must be one of {", ".join(SCANNERS)} or "varied", found {preset!r}')


def scanner_of(preset, rng):
    """The scanner of a preset's name; "varied" draws one with `rng`."""
    check_preset(preset)
    return varied(rng) if preset == "varied" else SCANNERS[preset]


def varied(rng):
    """A scanner with its dials drawn over the presets and beyond them; the grid stays the paper's.

    All scans then share a grid in millimetres, which is what the networks need; what a scanner of less depth would
    not have recorded is black. That many scanners prepare for one that is like none of them is the idea of domain
    randomisation (Tobin, IROS 2017); the ranges are chosen.
    """

    def between(low, high):
        return float(rng.uniform(low, high))

    return replace(
        SCANNERS["iu22"],
        depth_mm=between(30, 60),
        frequency_mhz=between(7, 12),
        fractional_bandwidth=between(0.35, 0.7),
        lateral_f_number=between(1.5, 3.0),
        focus_mm=between(12, 28),
        noise_db=between(-80, -62),
        tgc_db_per_cm_mhz=between(0.74, 0.92),
        tgc_until_mm=between(22, 40),
        tgc_ripple_db=between(0.5, 4),
        contact_db=between(0.5, 3),
        edge_fall_db=between(0, 15),
        edge_fall_mm=between(1, 6),
        repeated_mm=between(0, 3.5),
        smoothing_mm=(between(0.0, 0.2), between(0.1, 0.5)),
        dynamic_range_db=between(48, 75),
        muscle_grey=between(0.25, 0.55),
        grey_exponent=float(np.exp(rng.uniform(np.log(0.8), np.log(1.8)))),
    )
