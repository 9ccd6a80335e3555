"""Scans and masks from files and back, whatever their format (chapter 02)."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from . import itk
from .atomic import writing
from .dicom_frames import INFERRED, is_dicom, reading
from .errors import FormatError, GeometryError, LabelError
from .itk import extension, read_itk, write_itk
from .nifti import read_nifti
from .outputs import KINDS, check_kind, check_not_of_scan

NIFTI = (".nii", ".nii.gz")
FORMATS = (*NIFTI, *itk.FORMATS)
MASK_FORMATS = KINDS["a mask"]
LABEL_TOLERANCE = 1e-3  # by which a float may be off a label number
TOLERANCE = 1e-3  # mm by which the voxels of a mask may be off those of its scan


def load_volume(path, *, label=None, frame=None, series=None):
    """Read a scan.

    Parameters
    ----------
    path : str or Path
        A DICOM file (Enhanced US Volume, Philips Cartesian, clip, single slice, SEG), a folder with one DICOM
        series, or ``.nii``, ``.nii.gz``, ``.mha``, ``.mhd``, ``.nrrd``, ``.nhdr``.
    label : int, optional
        Read the file as a label map: the voxels become 1 where it holds this label and 0 elsewhere.
    frame : int, optional
        Which volume of several to read, from 0. A file with several is refused without it, for nothing tells
        whether they are times, stacks or channels; only the Philips export, a loop by definition, gives
        its first.
    series : int or str, optional
        Which series of a DICOM folder to read: its number, or its UID. A folder with several is refused without
        it, and lists them.

    Returns
    -------
    Volume
        `notes` says what was assumed or could not be known.

    Raises
    ------
    FormatError
        If the file is missing, damaged, of an unknown format, or holds several volumes; with a label also if its
        values are no label numbers.
    LabelError
        If it does not hold the label.
    GeometryError
        If its voxels do not lie on a regular grid or are not finite.
    """
    from .dicom import read_dicom

    path = Path(path)
    with reading(path):
        if not (path.is_file() or path.is_dir()):  # a pipe would be waited on for ever
            raise FormatError(f"{path}: no such file or folder")
        if series is not None and not path.is_dir():
            raise FormatError(f"{path}: is one file; series={series} chooses from a folder of DICOM files")
        if path.is_dir() or is_dicom(path):
            volume = read_dicom(path, frame, label, series)
        elif extension(path) in FORMATS:
            volume = (read_nifti if extension(path) in NIFTI else read_itk)(path, frame)
        else:
            raise FormatError(f"{path}: {_not_understood(path)}; expected DICOM or one of {', '.join(FORMATS)}")
    if volume.voxels.min() == volume.voxels.max():
        note = f"every voxel is {volume.voxels.flat[0]}: the scan is blank"
        volume = replace(volume, notes=(*volume.notes, note))
    if label is not None:
        numbers = _label_numbers(volume, path)
        if not (found := numbers == label).any():
            held = _listed(np.unique(numbers[numbers > 0])) or "none"
            raise LabelError(f"{path}: has no label {label}; it holds {held}")
        return replace(volume, voxels=found.astype(np.uint8))
    return replace(volume, notes=volume.limited()[0].notes)


def is_scan(path):
    """Whether a path looks like something that `load_volume` reads: a folder, DICOM or a known extension."""
    return path.is_dir() or extension(path) in FORMATS or is_dicom(path)


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
    grid of the scan; its axes may be stored in another order or direction.

    Returns
    -------
    Volume
        `notes` are those of the scan and what was understood of the label numbers.

    Raises
    ------
    SegdetError
        As in `load_volume` and `load_mask`.
    GeometryError
        If the grids differ in shape, or by more than 0.001 mm at a corner.
    """
    volume = load_volume(image_path, frame=frame)
    annotation, notes = _load_annotation(mask_path, label, frame)
    annotation = annotation.reoriented(volume.orientation)
    mask, affine = annotation.mask, annotation.affine
    if annotation.meta.get("format") == "DICOM, segmentation":
        mask, affine = _place_slices(mask, affine, volume, annotation.meta.get("slice_distance") == INFERRED)
    if mask.shape != volume.shape:
        raise GeometryError(
            f"{mask_path}: the mask is {mask.shape}, the scan {image_path} is {volume.shape}; resample it"
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in mask.shape], [1])).reshape(4, -1)
    off = np.linalg.norm(((affine - volume.affine) @ corners)[:3], axis=0).max()
    if off > TOLERANCE:
        raise GeometryError(
            f"{mask_path}: its voxels are up to {off:.4g} mm away from those of {image_path}; resample it"
        )
    return replace(volume, mask=mask, notes=volume.notes + notes)


def check_mask_path(path, like=None, source=None):
    """Raise `SegdetError` unless `save_mask` can write this kind of file; worth asking before a long computation.

    With the arguments of `save_mask` it also tries whether the header of the scan allows a SEG.
    """
    check_kind(path, "a mask")
    if source is not None:
        check_not_of_scan(path, source)
    if like is not None and extension(Path(path)) == ".dcm":
        from .dicom_write import check_segmentation

        check_segmentation(path, like, source)


def save_mask(mask, path, like, source=None):
    """Write a mask on the grid of a scan; the file appears only when it is complete.

    A file that is there is replaced, unless `source` is read from it.

    Parameters
    ----------
    mask : ndarray, (D, H, W)
        Of bool, or of the values 0 and 1.
    path : str or Path
        ``.dcm`` for a DICOM SEG, else ``.nii``, ``.nii.gz``, ``.mha`` or ``.nrrd``. Missing folders are made.
    like : Volume
        The scan.
    source : str or Path, optional
        Where the scan was read from. A SEG then belongs to its patient and study and refers to its frames.
        Where the scan is not DICOM, or has no frame of reference (Philips Cartesian) or several volumes, the
        grid is described by an Enhanced US Volume header built in memory; the SEG then refers to the scan's
        files, if they are DICOM, but not to their frames.

    Returns
    -------
    tuple of str
        What a SEG refers to, and what of the patient and study of `source` it had to leave out; empty for other
        formats.

    Raises
    ------
    GeometryError
        If mask and scan differ in shape.
    FormatError
        If the extension is unknown, the mask holds other values, the file cannot be written, or it belongs to
        `source`.
    """
    path, mask = Path(path), np.asarray(mask)
    check_mask_path(path, source=source)
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise FormatError(
            f"{path}: the mask holds values other than 0 and 1; write a threshold, such as probability >= 0.5"
        )
    mask = mask.astype(bool, copy=False)
    if mask.shape != like.shape:
        raise GeometryError(f"{path}: the mask is {mask.shape}, the scan is {like.shape}; expected one grid")
    from .dicom_write import write_segmentation

    if extension(path) == ".dcm":
        return write_segmentation(mask, path, like, source)
    with writing(path) as temporary:
        write_itk(mask.astype(np.uint8), like, temporary)
    return ()


def _load_annotation(path, label, frame, series=None):
    """A label map, its mask being `label` or every label above 0, and notes on what its values leave open."""
    volume, notes = load_volume(path, label=label, frame=frame, series=series), ()
    numbers = _label_numbers(volume, path)
    mask = numbers > 0
    if (lowest := numbers.min()) < 0:
        notes += (f"the annotation holds values below 0, down to {lowest:g}: they do not count as the object",)
    if len(labels := np.unique(numbers[mask])) > 1:
        notes += (f"the annotation holds the labels {_listed(labels)}: all count as the object",)
    return replace(volume, mask=mask), notes


def _label_numbers(volume, path):
    """Voxels as label numbers: rounded where they are floats; integers are not copied."""
    if volume.voxels.dtype.kind != "f":
        return volume.voxels
    numbers = np.rint(volume.voxels)
    between = volume.voxels[np.abs(volume.voxels - numbers) > LABEL_TOLERANCE]
    if between.size:
        raise FormatError(
            f"{path}: a label is a whole number, found {_listed(np.unique(between))}; threshold probabilities, undo a "
            "scale, or resample labels by the nearest neighbour, and store the result"
        )
    return numbers


def _listed(values):
    """The first of some numbers in one line."""
    text = ", ".join(f"{value:g}" for value in values[:8])
    return f"{text}, ... ({len(values)} values)" if len(values) > 8 else text


def _not_understood(path):
    if path.stat().st_size == 0:
        return "the file is empty"
    if extension(path) in ("", ".dcm", ".dicom", ".ima"):
        return "no DICOM file (DICM is missing at byte 128)"
    return f"{extension(path)} is not a format that segdet reads"


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
