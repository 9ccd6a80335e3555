"""What is peculiar to ultrasound: the Philips Cartesian export and calibrated regions (chapter 02)."""

import numpy as np

from ...errors import FormatError, GeometryError
from ...volume import Volume, axis_aligned_affine
from ..checks import choose
from ..screen.areas import WIDEST
from .geometry import NO_PLACE, facts, sop_class_name

PHILIPS_CARTESIAN = "1.2.840.113543.6.6.1.3.10002"
CENTIMETRES = 3  # Physical Units X/Y Direction, PS3.3 C.8.5.5.1.15
LARGEST_SCAN = 500.0  # mm; no diagnostic transducer sees half a metre
DISAGREE = 0.05  # by which PixelSpacing may differ from a calibrated region; units and slips differ by more
UNKNOWN = 1.0  # mm; what programs write that do not know the size of a pixel
DOTS = 72, 96  # an inch, of screens; others write theirs


def read_philips(ds, path, frame):
    """QLAB's Cartesian export: x fastest, then y, z, time; (3001,1001) slices, (3001,1003) their distance.

    The layout is undocumented; it is what public readers (SlicerHeart, ITK-SNAP) agree on. The unit is
    not sure: the header declares centimetres, yet some files hold millimetres. The declared unit is taken
    unless the scan would then be longer than any transducer sees.
    """
    block = ds.private_block(0x3001, "Philips3D")
    shape = int(block[0x01].value), int(ds.Rows), int(ds.Columns)
    announced, held, one = int(ds.NumberOfFrames), len(ds.PixelData), int(np.prod(shape))
    text = " x ".join(map(str, shape))
    if (ds.BitsAllocated, ds.SamplesPerPixel) != (8, 1) or min(announced, *shape) < 1:
        raise FormatError(
            f"{path}: {announced} volumes of {text} voxels, {ds.BitsAllocated} bits, {ds.SamplesPerPixel} "
            "samples; expected at least one volume of 8-bit grey"
        )
    pixels = np.frombuffer(ds.PixelData, np.uint8)
    if held - announced * one not in (0, announced * one % 2):  # DICOM pads to an even length
        near, zeros = max(1, round(held / one)), np.mean(pixels == 0)
        raise FormatError(
            f"{path}: NumberOfFrames announces {announced} volumes of {text} voxels "
            f"({announced * one} bytes), but the pixel data hold {held}, {abs(held - near * one)} bytes "
            f"{'short of' if held < near * one else 'more than'} {near} volumes"
            f"{f'; {zeros:.1%} of them 0, so the pixels are all but blank' if zeros > 0.99 else ''}; "
            "export the scan again"
        )
    spacing, unit = _philips_spacing(ds, block, shape, path)
    chosen = 0 if frame is None else choose(path, announced, frame)
    placed = ds.get("ImagePositionPatient") or ds.get("ImageOrientationPatient")
    notes = (unit, "the place in the patient was not read: this export does not define it" if placed else NO_PLACE)
    if announced > 1:
        notes += (f"volume {chosen + 1} of {announced} was read; choose with frame=0 to frame={announced - 1}",)
    voxels = pixels[chosen * one : (chosen + 1) * one].reshape(shape).copy()
    meta = facts(ds, "Philips Cartesian", announced, chosen)
    return Volume(voxels, axis_aligned_affine(spacing), name=path.name, notes=notes, meta=meta)


def _philips_spacing(ds, block, shape, path):
    """The voxel size in mm, and a note on the unit that it was read in."""
    units = int(ds.get("PhysicalUnitsXDirection") or 0), int(ds.get("PhysicalUnitsYDirection") or 0)
    deltas = np.array([block[0x03].value, ds.PhysicalDeltaY, ds.PhysicalDeltaX], float)
    if units != (CENTIMETRES, CENTIMETRES) or not np.isfinite(deltas).all() or deltas.min() <= 0:
        raise GeometryError(
            f"{path}: physical units {units} and voxel size {deltas.tolist()}; expected centimetres (3, 3) "
            "and positive sizes"
        )
    longest = float((deltas * shape).max())  # in whatever unit
    if 10 * longest <= LARGEST_SCAN:
        return 10 * deltas, "the voxel size was read as centimetres, as the header declares"
    if longest <= LARGEST_SCAN:
        return deltas, f"the header declares cm, but the scan would be {longest / 100:.1f} m long: read as mm"
    raise GeometryError(
        f"{path}: with voxels of {deltas.tolist()} the scan is {longest / 100:.1f} m long in cm and "
        f"{longest / 1000:.1f} m in mm; neither is an ultrasound scan"
    )


def calibrated_regions(ds):
    """The ultrasound regions that are 2D images with a pixel size in cm; spatial format 1 is no trace or spectrum."""

    def usable(region):
        units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
        deltas = region.get("PhysicalDeltaX"), region.get("PhysicalDeltaY")
        return units == (CENTIMETRES, CENTIMETRES) and region.get("RegionSpatialFormat") == 1 and all(deltas)

    return list(filter(usable, ds.get("SequenceOfUltrasoundRegions") or []))


def is_placed(ds):
    """Whether a header says where in space its frames are; the Philips export says it of its voxels alone."""
    positions = ds, *(ds.get("DetectorInformationSequence") or [])  # nuclear medicine has them with the detector
    by_position = any(item.get("ImagePositionPatient") for item in positions)
    return by_position or "PerFrameFunctionalGroupsSequence" in ds or ds.get("SOPClassUID") == PHILIPS_CARTESIAN


def placeholder_spacing(ds):
    """What is wrong with the pixel size of an ultrasound picture, "" where it can be believed.

    Programs that turn pictures into DICOM write 1 x 1 mm; a screen would then be wider than any transducer sees.
    """
    small = ds.get("Modality") != "US" or max(ds.get("Rows") or 0, ds.get("Columns") or 0) <= WIDEST
    if small or not _is_placeholder(ds) or calibrated_regions(ds):
        return ""
    return (
        f"the header's pixel size is a placeholder and not used: 1 x 1 mm would make the picture {ds.Columns} x "
        f"{ds.Rows} mm ({sop_class_name(ds)})"
    )


def screen_spacing(ds):
    """What is wrong with a pixel size that is that of a screen and not of what it shows, "" where it is none."""
    stated = _stated(ds)
    if len(stated) != 2 or calibrated_regions(ds):
        return ""
    meanings = {UNKNOWN: "is what programs write that do not know it"}
    meanings |= {25.4 / dots: f"is that of a screen of {dots} dots an inch" for dots in DOTS}
    for size, meaning in meanings.items():
        if np.allclose(stated, size, rtol=1e-3, atol=0):
            return f"the header's pixel size is a placeholder and not used: {size:.4g} x {size:.4g} mm {meaning}"
    return ""


def contradiction(ds):
    """How PixelSpacing differs from the calibrated ultrasound region, "" where it does not or is a placeholder."""
    stated, regions = _stated(ds), _regions_by_area(ds)
    if len(stated) != 2 or _is_placeholder(ds) or not regions:
        return ""
    size = region_spacing(regions[0])
    if (np.abs(stated - size) <= DISAGREE * np.array(size)).all():
        return ""
    return (
        f"PixelSpacing says {stated[0]:.4g} x {stated[1]:.4g} mm, the largest calibrated ultrasound region "
        f"{size[0]:.4g} x {size[1]:.4g} mm: read as the region says"
    )


def plane_spacing(ds):
    """(dy, dx) in mm of an image without functional groups, and where it was found (PS3.3, C.8.5.5)."""
    regions, wrong = _regions_by_area(ds), contradiction(ds)
    placeholder = regions and _is_placeholder(ds)
    if ds.get("PixelSpacing") and not (placeholder or wrong):
        return ds.PixelSpacing, ()
    if not regions and (ratio := aspect_ratio(ds)) != 1:
        return (ratio, 1.0), (
            f"no PixelSpacing and no 2D region in cm: the pixel size was set to {ratio:.4g} x 1 mm, in the ratio of "
            "PixelAspectRatio",
        )
    if not regions:
        return (1.0, 1.0), ("no PixelSpacing and no 2D region in cm: the pixel size was set to 1 mm",)
    notes = (wrong or "the pixel size is that of the largest calibrated ultrasound region",)
    sizes = [region_spacing(region) for region in regions]
    right, bottom = regions[0].RegionLocationMaxX1, regions[0].RegionLocationMaxY1
    if right >= ds.Columns or bottom >= ds.Rows:
        notes += (
            f"that region ends at column {right} and row {bottom}, outside the image ({ds.Rows} rows, "
            f"{ds.Columns} columns): if the image was shrunk after calibration, its pixels are larger",
        )
    if len(set(sizes)) > 1:
        notes += (f"its {len(sizes)} calibrated regions differ in pixel size; the others are not to scale",)
    return sizes[0], notes


def aspect_ratio(ds):
    """How many times as high as wide the pixels are (PS3.3, C.7.6.3.1.7); 1 where it is not said or no ratio."""
    stated = np.ravel(ds.get("PixelAspectRatio") or ()).astype(float)
    return float(stated[0] / stated[1]) if len(stated) == 2 and stated.min() > 0 else 1.0


def region_spacing(region):
    """The pixel size of a calibrated region, (dy, dx) in mm."""
    return abs(10 * float(region.PhysicalDeltaY)), abs(10 * float(region.PhysicalDeltaX))


def _stated(ds):
    """PixelSpacing, (dy, dx) in mm, as an array; empty where there is none."""
    return np.ravel(ds.get("PixelSpacing") or ()).astype(float)


def _is_placeholder(ds):
    """Whether PixelSpacing is exactly what programs write that do not know it."""
    return _stated(ds).tolist() == [UNKNOWN, UNKNOWN]


def _regions_by_area(ds):
    """The calibrated regions, the largest first."""

    def area(region):
        width = region.RegionLocationMaxX1 - region.RegionLocationMinX0
        return width * (region.RegionLocationMaxY1 - region.RegionLocationMinY0)

    return sorted(calibrated_regions(ds), key=area, reverse=True)
