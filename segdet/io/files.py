"""Scans and masks from files and back, whatever their format (chapter 02)."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import FormatError, GeometryError, LabelError
from ..masks import as_mask
from ..runtime.atomic import writing
from .checks import extension, given, is_dicom, reading
from .itk import read_nrrd, write_itk
from .labels import label_numbers, listed
from .metaimage import read_metaimage
from .nifti import check_sides, read_nifti, write_nifti
from .outputs import check_kind, check_not_of_scan

NIFTI = (".nii", ".nii.gz")
READERS = dict.fromkeys(NIFTI, read_nifti) | dict.fromkeys((".mha", ".mhd"), read_metaimage)
READERS |= dict.fromkeys((".nrrd", ".nhdr"), read_nrrd)
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
OTHER_PICTURES = (".heic", ".heif", ".avif", ".jp2", ".tga")  # that are not read, but are not to vanish without a word
DICOM = (".dcm", ".dicom", ".ima")  # most names of DICOM files have no extension
FORMATS = tuple(READERS)


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
        If the file is missing, damaged, of an unknown format, or holds several volumes; with a label also if that is
        below 1 or its values are no label numbers.
    LabelError
        If it does not hold the label.
    GeometryError
        If its voxels do not lie on a regular grid or are not finite.
    """
    path = given(path)
    if label is not None and not label >= 1:
        raise FormatError(f"{path}: label {label} is no object, 0 is the background; name a label from 1 up")
    with reading(path):
        if not (path.is_file() or path.is_dir()):  # a pipe would be waited on for ever
            raise FormatError(f"{path}: no such file or folder")
        if series is not None and not path.is_dir():
            raise FormatError(f"{path}: is one file; series={series} chooses from a folder of DICOM files")
        if path.is_dir() or is_dicom(path):
            from .dicom.read import read_dicom  # pydicom is not needed for the others

            volume = read_dicom(path, frame, label, series)
        elif extension(path) in FORMATS:
            volume = READERS[extension(path)](path, frame)
        else:
            raise FormatError(f"{path}: {_not_understood(path)}; expected DICOM or one of {', '.join(FORMATS)}")
    if volume.voxels.min() == volume.voxels.max():
        note = f"every voxel has the value {volume.voxels.flat[0]}"
        volume = replace(volume, notes=(*volume.notes, note))
    if label is not None:
        numbers = label_numbers(volume, path)
        if not (found := numbers == label).any():
            held = listed(np.unique(numbers[numbers > 0])) or "none"
            raise LabelError(f"{path}: has no label {label}; it holds {held}", volume)
        return replace(volume, voxels=found.astype(np.uint8))
    with reading(path):
        limited, _ = volume.limited()
    return volume if limited is volume else replace(volume, notes=limited.notes)


def is_scan(path):
    """Whether a path looks like something that `load_volume` reads: a folder, DICOM or a known extension."""
    return path.is_dir() or extension(path) in FORMATS or (path.is_file() and is_dicom(path))  # no pipe


def check_mask_path(path, like=None, source=None):
    """Raise `SegdetError` unless `save_mask` can write this kind of file; worth asking before a long computation.

    With the arguments of `save_mask` it also tries whether the header of the scan allows a SEG, and its size a NIfTI.
    """
    check_kind(path, "a mask")
    if source is not None:
        check_not_of_scan(path, source)
    if like is not None and extension(Path(path)) in NIFTI:
        check_sides(path, like.shape)
    if like is not None and extension(Path(path)) == ".dcm":
        from .dicom.write import check_segmentation

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
        If the extension is unknown, the mask holds other values, the grid is too large for NIfTI, the file cannot be
        written, or it belongs to `source`.
    """
    path = Path(path)
    check_mask_path(path, source=source)
    mask = as_mask(mask, f"{path}: ", FormatError, labels=False)
    if mask.shape != like.shape:
        raise GeometryError(f"{path}: the mask is {mask.shape}, the scan is {like.shape}; expected one grid")
    if extension(path) == ".dcm":
        from .dicom.write import write_segmentation

        return write_segmentation(mask, path, like, source)
    if extension(path) in NIFTI:
        check_sides(path, like.shape)
    with writing(path) as temporary:
        (write_nifti if extension(path) in NIFTI else write_itk)(mask.astype(np.uint8), like, temporary)
    return ()


def _not_understood(path):
    if path.stat().st_size == 0:
        return "the file is empty"
    if extension(path) in ("", *DICOM):
        return "no DICOM file (DICM is missing at byte 128)"
    if extension(path) in PICTURES:
        return f"{extension(path)} is not a format of scans; see `segdet info`, or segdet.io.stills.load_pictures"
    if extension(path) in OTHER_PICTURES:
        return f"{extension(path)} is a format of pictures that segdet does not read; of those it reads .png and .jpg"
    return f"{extension(path)} is not a format that segdet reads"
