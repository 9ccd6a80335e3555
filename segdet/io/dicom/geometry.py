"""What all DICOM layouts share: stacking slices, facts about the file (chapter 02)."""

import numpy as np

from ...errors import GeometryError
from ..checks import one_line

COUNTS = {
    "ImagePositionPatient": 3, "ImagePositionVolume": 3, "ImageOrientationPatient": 6, "ImageOrientationVolume": 6,
    "PixelSpacing": 2,
}  # fmt: skip
NO_PLACE = "the file gives no position or orientation in the patient: LPS directions are unknown"


def sop_class_name(ds):
    """The name of the SOP class as pydicom knows it, else its UID, else "no SOP class"."""
    return one_line(getattr(ds.get("SOPClassUID"), "name", "") or "no SOP class", 64)


def slice_distance(item):
    """The distance between slices in mm, else their thickness; None where neither is stated.

    It may be negative where a maker counts downwards; the positions say where slices are.
    """
    found = item.get("SpacingBetweenSlices") or item.get("SliceThickness")
    return abs(float(found)) if found else None


def check_count(keyword, value, path):
    """Refuse a position, an orientation or a pixel spacing that has not as many numbers as it must have."""
    found, expected = np.size(value), COUNTS[keyword]
    if found != expected:
        raise GeometryError(f"{path}: its {keyword} is of {found} number{'s' * (found != 1)}; expected {expected}")


def facts(ds, layout, volumes, frame):
    """`Volume.meta` of a scan that was read from DICOM."""
    return {
        "format": f"DICOM, {layout}",
        "sop_class": sop_class_name(ds),
        "transfer_syntax": ds.file_meta.TransferSyntaxUID.name,
        "modality": one_line(ds.get("Modality") or "", 16),
        "time_points": volumes,
        "frame": frame,
        "sop_instance_uid": str(ds.get("SOPInstanceUID") or ""),
        "series_instance_uid": str(ds.get("SeriesInstanceUID") or ""),
        "frame_of_reference_uid": str(ds.get("FrameOfReferenceUID") or ""),
    }


def stack_slices(positions, orientation, pixel_spacing, thickness, path):
    """Order slices along their normal and find the regular grid that they form.

    Parameters
    ----------
    positions : ndarray, (n, 3)
        Position of the first pixel of each slice, mm.
    orientation : sequence of 6
        Directions in which the column index, then the row index, increases (PS3.3, C.7.6.2.1.1).
    pixel_spacing : (dy, dx) in mm
    thickness : float or None
        The slice distance of a single slice, mm.

    Returns
    -------
    order : ndarray of int, (n,)
    affine : ndarray, (4, 4)

    Raises
    ------
    GeometryError
        If the slices are not evenly spaced, not stacked along their normal, or a value is not usable.
    """
    across, down = np.reshape(np.asarray(orientation, float), (2, 3))
    size = np.array(pixel_spacing, float, ndmin=1)
    if not np.allclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=1e-3):
        raise GeometryError(
            f"{path}: the image orientation {[*map(float, orientation)]} is not two perpendicular units"
        )
    if size.shape != (2,) or not (np.isfinite(size).all() and size.min() > 0 and np.isfinite(positions).all()):
        raise GeometryError(
            f"{path}: its pixel spacing {size.tolist()} or a slice position is not usable; expected two sizes in mm"
        )
    normal = np.cross(across, down)
    order = np.argsort(positions @ normal, kind="stable")
    placed, n = positions[order], len(positions)
    step = (placed[-1] - placed[0]) / (n - 1) if n > 1 else normal * (thickness or 1)
    distance = float(step @ normal)
    off = np.linalg.norm(placed - placed[0] - np.arange(n)[:, None] * step, axis=1).max()
    if distance <= 0 or off > 0.02 * distance:  # 2 % leaves room for positions that were rounded when written
        gaps = np.diff(placed @ normal)
        raise GeometryError(
            f"{path}: the slices are not evenly spaced, {gaps.min():.4g} to {gaps.max():.4g} mm apart; a "
            "slice is missing or the sweep was not resampled. Expected a regular grid"
        )
    if np.linalg.norm(step - distance * normal) > 0.01 * distance:
        raise GeometryError(
            f"{path}: the slices are not stacked along their normal (a tilted gantry); expected a "
            "rectangular grid, so resample the scan first"
        )
    affine = np.eye(4)
    affine[:3] = np.column_stack([step, down * size[0], across * size[1], placed[0]])
    return order, affine
