"""What version 2 of the simulated hip assumes about the infant: every number with its unit and its source."""

from dataclasses import dataclass, replace

from ..parameters import GRAF, HEAD_SIZE, MORIN, PARANJAPE, between, check_dials, drawn, fixed

TUNED = "tuned by eye on the pictures of 8 infants (Radiopaedia rID 72628 to 172658) and one scan of the paper's clinic"
ANATOMY = "Yousefzadeh, Radiology 1987;165:647"
HARCKE = "Harcke, J Ultrasound Med 1984;3:131"
ARTEFACTS = "Kremkau, J Ultrasound Med 1986;5:227"
REFRACTION = "Robinson, J Clin Ultrasound 1981;9:181"
ANISOTROPY = "Crass, Radiology 1988;167:499"
CANALS = "Pediatr Radiol 2008, doi 10.1007/s00247-007-0655-2"
ROOF = f"{GRAF}; thicker in dysplastic hips, Hong, Front Pediatr 2024, doi 10.3389/fped.2024.1351296"


def seen(source):
    """The source of a structure that others describe, and that its numbers have none but the pictures."""
    return f"the structure: {source}; the numbers: {TUNED}"


@dataclass(frozen=True)
class Hip2Parameters:
    """What version 2 assumes about the infant; what it assumes about the machine is in `Scanner`.

    The metadata of each field are those of `HipParameters`. Lengths in radii are multiples of the head's radius.
    """

    age_days: tuple = between(4, 111, "days", "that it is drawn uniformly is chosen", "paper, section 4")
    contrast_db: tuple = drawn(8.5, 2.0, "dB", "how far the head scatters below muscle, where it is not given", TUNED)
    # --- the head
    head_diameter_mm: tuple = drawn(15.8, 1.4, "mm", "at birth: girls 15.6 ± 1.4, boys 16.1 ± 1.5", HEAD_SIZE)
    head_growth_mm_per_day: float = fixed(
        0.03, "mm/day", "it does grow: J Pediatr Orthop, January 1994; the rate is chosen"
    )
    head_top_mm: tuple = drawn(11.5, 2.0, "mm", "depth of the head's highest point", TUNED)
    head_elevation_mm: tuple = drawn(0.0, 2.5, "mm", "the operator centres the sweep")
    head_caudal_mm: tuple = drawn(2.5, 3.0, "mm", "from the middle of the picture")
    head_axis_ratio: tuple = drawn(1.0, 0.05, "1", "asphericity: each semi-axis over their mean")
    head_irregularity: float = fixed(0.03, "radii", "deviation of the quadratic bumps on the head")
    canals: tuple = between(80, 400, "count", "vascular canals of the cartilage", ANATOMY)
    canal_mm: tuple = between(0.4, 2.2, "mm", "their length", seen(CANALS))
    canal_db: tuple = drawn(15.0, 3.0, "dB", "their level above the head's, a voxel wide", seen(CANALS))
    nucleus_from_days: float = fixed(14.0, "days", "the earliest ossific nucleus, at two weeks", PARANJAPE)
    nucleus_per_day: float = fixed(0.005, "1/day", "0.48 at 111 days, as in version 1", PARANJAPE)
    nucleus_radius_mm: tuple = between(0.8, 2.5, "mm")
    # --- the pelvis
    coverage: tuple = drawn(0.58, 0.06, "1", "share of the head below the ilium's line; from 0.58 on normal", MORIN)
    displacement_mm: tuple = fixed(
        ((0.0, 0.7), (-0.3, 0.5), (0.0, 0.5)),
        "mm",
        "of the head from the cup's centre: elevation, depth (negative is up), caudal",
    )
    tilt_degrees: tuple = drawn(0.0, 7.0, "degrees", "0 is the standard plane; the deviation is chosen", GRAF)
    turn_degrees: tuple = drawn(0.0, 15.0, "degrees", "rotation of the pelvis about the beam")
    ilium_curvature_per_mm: tuple = drawn(0.015, 0.010, "1/mm", "how the ilium falls away in elevation")
    cartilage_gap_mm: tuple = between(0.8, 2.0, "mm", "roof cartilage between head and bony roof", seen(ROOF))
    roof_end_radii: tuple = between(0.55, 0.85, "radii", "the lower limb: where the bony roof ends, cranially", GRAF)
    labrum_mm: tuple = between(0.9, 1.6, "mm", "half the height of the labrum's wedge at the rim", GRAF)
    ischium_depth_radii: tuple = between(1.18, 1.5, "radii", "its highest point below the head's centre", seen(HARCKE))
    ischium_caudal_radii: tuple = drawn(0.02, 0.12, "radii", "where along the columns", seen(HARCKE))
    ischium_width_radii: tuple = between(0.28, 0.45, "radii", "half the width of its arc", seen(HARCKE))
    # --- the femur
    neck_elevation: tuple = between(0.45, 0.95, "1", "share of the neck that leaves the standard plane", HARCKE)
    neck_depth: tuple = between(-0.5, 0.25, "1", "share along the beam; towards the probe is negative")
    growth_plate_radii: tuple = between(0.6, 0.85, "radii", "from the head's centre to the metaphysis", seen(GRAF))
    metaphysis_radii: tuple = between(0.62, 0.85, "radii", "of its rounded end", seen(HARCKE))
    # --- soft tissue
    skin_mm: tuple = between(0.8, 1.5, "mm")
    fat_mm: tuple = between(2.5, 6.0, "mm", "", seen(ANATOMY))
    capsule_mm: tuple = between(0.7, 1.6, "mm", "capsule and the muscle's lowest fascia over the head", ANATOMY)
    fasciae: tuple = between(2, 5, "count", "septa between the gluteal muscles, from fat to capsule", ANATOMY)
    layer_db: float = fixed(4.0, "dB", "deviation of the muscles' levels from each other", seen(ANATOMY))
    fibre_db: tuple = drawn(5.0, 1.2, "dB", "deviation of the level from fibre to fibre", seen(ANATOMY))
    fibre_mm: tuple = between(1.2, 3.0, "mm", "length over which a fibre keeps its level", seen(ANATOMY))
    anisotropy: tuple = drawn(6.0, 2.0, "dB", "what fibres lose where they slope by 45 degrees", ANISOTROPY)
    look_alikes: tuple = between(2, 8, "count", "dark pockets and vessels in the soft tissue")
    look_alike_radius_mm: tuple = between(1.5, 5.5, "mm")
    look_alike_db: float = fixed(2.0, "dB", "deviation of their level around the head's")
    texture_db: float = fixed(2.5, "dB", "deviation of slow changes of echogenicity")
    texture_mm: float = fixed(5.0, "mm", "their length")
    # --- tissues: name, echogenicity in dB relative to muscle ("head" stands for -contrast_db), attenuation
    tissues: tuple = fixed(
        (
            ("skin", 9.0, 0.35),
            ("fat", -14.0, 0.63),
            ("muscle", 0.0, 0.96),
            ("deep tissue", 1.0, 0.80),
            ("pocket", "head", 0.96),
            ("vessel", -14.0, 0.15),
            ("pericapsular fat", 6.0, 0.63),
            ("capsule", 6.0, 1.20),
            ("roof cartilage", "head", 1.05),
            ("labrum", 11.0, 1.57),
            ("fossa fat", 7.0, 0.63),
            ("trochanter", "head", 1.05),
            ("head", "head", 1.05),
            ("canal", "head", 1.05),
            ("nucleus", 10.0, 5.0),
            ("cortex", 26.0, 5.0),
            ("bone", 10.0, 15.0),
        ),
        "name, dB, dB/cm/MHz",
        "attenuation at 1 MHz as in version 1; the levels were " + TUNED,
        "attenuation: Diagnostics 2023;13:855, table 4; cartilage and bone's surface chosen",
    )
    cortex_mm: tuple = fixed(
        (0.5, 1.5), "mm", "rough surface that echoes before the shadow begins: of bone, of the ischium's centre", TUNED
    )
    ischium_side_db: float = fixed(14.0, "dB", "what the ischium's surface loses towards its sides", TUNED)
    bone_amplitude: tuple = drawn(24.0, 5.0, "1", "specular echo of bone, relative to muscle's amplitude", TUNED)
    bone_power: float = fixed(1.0, "1", "rough bone: its echo falls with cos(angle to the beam) to this power", TUNED)
    fascia_amplitude: tuple = drawn(5.5, 1.5, "1", "specular echo of a fascia at normal incidence", TUNED)
    septum_amplitude: float = fixed(3.5, "1", "the same of the septa in the fat", TUNED)
    capsule_amplitude: float = fixed(2.5, "1", "the same at the surface of the head")
    specular_power: float = fixed(4.0, "1", "these fall with cos(angle to the beam) to this power")
    # --- artefacts of the tissue
    echo_again_db: tuple = drawn(-18.0, 4.0, "dB", "multiple echoes between bone and the layers over it", ARTEFACTS)
    haze_db: tuple = drawn(-7.0, 4.0, "dB", "what bone scatters astray, relative to muscle", ARTEFACTS)
    echo_again_fall_db_per_mm: float = fixed(0.5, "dB/mm", "how both fade below the bone", TUNED)
    edge_shadow_db: tuple = between(0.0, 12.0, "dB", "lost by beams that graze the head's sides", REFRACTION)

    def __post_init__(self):
        check_dials(self)


# For training (domain randomisation): infants up to eight months, and whatever angle the probe was held at. Chosen.
# Canals are a voxel wide, and a working grid of fewer slices averages them away: what reached a detector was half as
# bright as what infants show, and it missed heads with bright streaks (chapter 12). So they are stronger and longer
# here, and planes that cut the head askew show an oval.
VARIED = replace(
    Hip2Parameters(),
    age_days=(4, 240),
    contrast_db=(8.5, 3.0),
    coverage=(0.62, 0.1),
    head_top_mm=(12.5, 2.5),
    head_caudal_mm=(3.0, 4.0),
    head_axis_ratio=(1.0, 0.08),
    canal_mm=(0.4, 4.0),
    canal_db=(24.0, 6.0),
    tilt_degrees=(0.0, 10.0),
    turn_degrees=(0.0, 30.0),
    neck_elevation=(0.2, 0.98),
    echo_again_db=(-20.0, 6.0),
    haze_db=(-8.0, 7.0),
)

# A hip that is not covered as it should be, as in version 1.
DYSPLASTIC_CUP = {"coverage": (0.33, 0.05), "displacement_mm": ((0.0, 0.7), (-1.8, 0.5), (0.0, 0.5))}
