"""Masks from files, alone or on their scans (chapter 02)."""

from dataclasses import replace

import numpy as np

from ..errors import GeometryError, LabelError
from ..volume import DIRECTIONS_UNKNOWN
from .checks import INFERRED, apart
from .files import load_volume
from .labels import label_numbers, listed

TOLERANCE = 1e-3  # mm by which the voxels of a mask may be off those of its scan


def load_mask(path, label=None, *, frame=None, series=None):
    """Read an annotation.

    Parameters
    ----------
    path : str or Path
        Anything that `load_volume` reads; values are rounded, for some tools store labels as scaled floats.
    label : int, optional
        The label to keep; by default every label above 0.
    frame, series : optional
        As in `load_volume`.

    Returns
    -------
    mask : ndarray of bool, (D, H, W)
    affine : ndarray, (4, 4)
        Array index to LPS mm.

    Raises
    ------
    SegdetError
        As in `load_volume`; values that are not within 0.001 of a whole number are no labels.
    """
    annotation, _ = _load_annotation(path, label, frame, series)
    return annotation.mask, annotation.affine


def load_case(image_path, mask_path, label=None, *, frame=None):
    """Read a scan with its annotation, as `load_volume` and `load_mask` do.

    A DICOM SEG may leave out empty slices; its slices are put where they belong. Any other mask must have the
    grid of the scan; its axes may be stored in another order or direction. A mask of one volume is taken to be that
    of the `frame` that is read; one of several has its own for every frame.

    Parameters
    ----------
    image_path, mask_path : str or Path
    label : int, optional
        As in `load_mask`.
    frame : int, optional
        As in `load_volume`.

    Returns
    -------
    Volume
        `notes` are those of the scan, what was understood of the annotation besides, and of its label numbers. That an
        annotation leaves its directions open is none of them: its grid is that of the scan.

    Raises
    ------
    SegdetError
        As in `load_volume` and `load_mask`.
    GeometryError
        If the grids differ in shape, or by more than 0.001 mm at a corner.
    LabelError
        If the annotation, on the grid of the scan, does not hold the label; `volume` is the scan with an empty mask.
    """
    volume = load_volume(image_path, frame=frame)
    several = frame is not None and load_volume(mask_path, frame=0).meta["time_points"] > 1
    missing = None
    try:
        annotation, notes = _load_annotation(mask_path, label, frame if several else None)
    except LabelError as error:
        missing, notes = error, ()
        annotation = replace(error.volume, mask=np.zeros(error.volume.shape, bool))
    annotation = annotation.reoriented(volume.orientation)
    mask, affine = annotation.mask, annotation.affine
    if segmented := annotation.meta.get("format") == "DICOM, segmentation":
        mask, affine = _place_slices(mask, affine, volume, annotation.meta.get("slice_distance") == INFERRED)
    if mask.shape != volume.shape:
        why = ", and its frames do not lie on the slices of the scan" * segmented
        raise GeometryError(
            f"{mask_path}: the mask is {mask.shape}, the scan {image_path} is {volume.shape}{why}; resample it"
        )
    if (off := apart(affine, volume.affine, mask.shape)) > TOLERANCE:
        raise GeometryError(
            f"{mask_path}: its voxels are up to {off:.4g} mm away from those of {image_path}; resample it"
        )
    if missing:
        missing.volume = replace(volume, mask=mask)
        raise missing
    frames = {uid for scan in (volume, annotation) if (uid := scan.meta.get("frame_of_reference_uid"))}
    if len(frames) > 1:
        notes += ("the annotation is in another frame of reference than the scan: the same coordinates were assumed",)
    besides = (note for note in annotation.notes if note not in volume.notes and DIRECTIONS_UNKNOWN not in note)
    said = tuple(f"the annotation: {note}" for note in besides)
    return replace(volume, mask=mask, notes=volume.notes + said + notes)


def _load_annotation(path, label, frame, series=None):
    """A label map, its mask being `label` or every label above 0, and notes on what its values leave open."""
    volume, notes = load_volume(path, label=label, frame=frame, series=series), ()
    numbers = label_numbers(volume, path)
    mask = numbers > 0
    if volume.voxels.dtype.kind == "f" and (off := np.abs(volume.voxels - numbers).max()) > 0:
        notes += (f"the annotation holds values up to {off:.1g} off a whole number: they were rounded to it",)
    if (lowest := numbers.min()) < 0:
        notes += (f"the annotation holds values below 0, down to {lowest:g}: they do not count as the object",)
    if len(labels := np.unique(numbers[mask])) > 1:
        notes += (f"the annotation holds the labels {listed(labels)}: all count as the object",)
    if not mask.any():
        notes += ("the annotation marks no voxel: the object was taken to be absent",)
    return replace(volume, mask=mask), notes


def _place_slices(mask, affine, volume, inferred):
    """Put the slices of a SEG at their places in the grid of the scan; unchanged where they do not fit.

    Where the SEG does not state how far apart its slices are, slices of the scan may lie between them.
    """
    relative = np.linalg.inv(volume.affine) @ affine  # index in the SEG to index in the scan
    if len(mask) == 1:
        relative[:, 0] = np.eye(4)[0]
    fitted = np.eye(4)
    fitted[0, [0, 3]] = step, start = np.rint(relative[0, [0, 3]]).astype(int)
    index = start + step * np.arange(len(mask))
    same = mask.shape[1:] == volume.shape[1:] and step != 0 and (inferred or abs(step) == 1)
    if not same or not np.allclose(relative, fitted, atol=1e-4) or index.min() < 0 or index.max() >= len(volume.voxels):
        return mask, affine
    placed = np.zeros(volume.shape, bool)
    placed[index] = mask
    return placed, volume.affine
