"""Reading DICOM: what a file says about its voxels and where they are, and what it leaves open (chapter 02).

Four layouts are understood: enhanced multi-frame images (Enhanced US Volume, and Enhanced CT and MR alike),
the Philips "Cartesian" export with its private group 3001, folders of single-frame slices, and the older
multi-frame images, whose frames are slices (nuclear medicine) or follow each other in time (ultrasound clips).
A DICOM SEG is read as a volume of segment numbers.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import FormatError, GeometryError
from ...volume import Volume
from ..checks import (
    choose,
    chosen_note,
    given,
    one_line,
    own_name,
    reading,
    silenced,
    single_slice_note,
    without_values,
)
from ..scaling import rescaled
from .clip import read_clip
from .folder import MEDIA_DIRECTORY, choose_series, dicom_files
from .geometry import check_count, facts, slice_distance, sop_class_name, stack_slices
from .groups import Groups
from .pixels import FLOATS, check_ranges, grey_frames, is_coloured, open_dicom, stays_dark, without_padding
from .rescale import scales_of
from .segmentation import SEGMENTATIONS, read_segmentation
from .ultrasound import PHILIPS_CARTESIAN, placeholder_spacing, plane_spacing, read_philips
from .volumes import of_frames, of_slices, split_volumes

IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers",
    "PatientMotherBirthName", "OtherPatientIDs", "OtherPatientNames", "OtherPatientIDsSequence",
    "MedicalRecordLocator", "AccessionNumber", "InstitutionName", "InstitutionAddress",
    "ReferringPhysicianName", "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName",
)  # fmt: skip


def read_dicom(path, frame=None, label=None, series=None):
    """Read a DICOM file, or one series of a folder.

    Parameters
    ----------
    path : str or Path
    frame : int, optional
        Which volume of several (time points, stacks), from 0; which image of a clip.
    label : int, optional
        Which segment of a DICOM SEG; all of them otherwise.
    series : int or str, optional
        Which series of a folder: its number, or its UID.

    Returns
    -------
    Volume
        `notes` says what was assumed; `meta` holds format, SOP class, transfer syntax, time points and UIDs.

    Raises
    ------
    FormatError
        If the file is damaged, contradicts itself, or holds several series or volumes and none was chosen. Only the
        Philips export, whose volumes are time points of one loop by definition, is read from the first.
    GeometryError
        If the slices are not a regular grid.
    """
    path = given(path)
    with reading(path), silenced() as caught:
        volume = _read_folder(path, frame, label, series) if path.is_dir() else _read_file(path, frame, label)
    said = dict.fromkeys(f"pydicom: {without_values(warning.message)}" for warning in caught)
    return replace(volume, notes=volume.notes + tuple(said))


def identifying_tags(path):
    """What in a DICOM file or folder may identify a person.

    Returns
    -------
    list of str
        The names of the filled attributes, never their values; empty for other formats.
    """
    found = set()
    with reading(path), silenced():
        for file in dicom_files(path):
            ds = open_dicom(file, stop_before_pixels=True)
            found.update(name for name in IDENTIFYING if ds.get(name))
            burned = ds.get("BurnedInAnnotation")
            if burned != "NO":
                found.add(f"BurnedInAnnotation is {one_line(burned or 'absent', 16)}, not NO: the image may show text")
    return sorted(found)


def _read_file(path, frame, label):
    ds = open_dicom(path)
    if ds.file_meta.get("MediaStorageSOPClassUID") == MEDIA_DIRECTORY:
        raise FormatError(f"{path}: is a DICOMDIR, which only lists files; name one of these, or a folder of them")
    if not _holds_pixels(ds):
        raise FormatError(
            f"{path}: holds no pixel data ({sop_class_name(ds)}); expected a DICOM image that was not cut off"
        )
    if ds.get("SOPClassUID") in SEGMENTATIONS:
        return read_segmentation(ds, path, frame, label)
    if ds.get("SOPClassUID") == PHILIPS_CARTESIAN:
        return read_philips(ds, path, frame)
    if "PerFrameFunctionalGroupsSequence" in ds:
        return _read_enhanced(ds, path, frame)
    placed = int(ds.get("NumberOfFrames") or 1) == 1 and ds.get("ImagePositionPatient")
    volume = _read_series([ds], path, frame) if placed else read_clip(ds, path, frame)
    if placeholder := placeholder_spacing(ds):
        return replace(volume, notes=(*volume.notes, placeholder), meta=volume.meta | {"stills": True})
    return volume


def _holds_pixels(ds):
    return any(keyword in ds for keyword in ("PixelData", *FLOATS))


def _read_enhanced(ds, path, frame):
    groups = Groups(ds, path)
    positions, orientation, spacing, notes = groups.geometry()
    places, content = np.unique(np.round(positions, 3), axis=0), [{}]
    # "3D" means one stack at one time (C.7.6.17); to read that again from every frame would double the time.
    if ds.get("DimensionOrganizationType") != "3D" or len(places) < len(positions):
        content = groups.items("FrameContentSequence")
    keys = [(str(c.get("StackID") or ""), int(c.get("TemporalPositionIndex") or 0)) for c in content]
    volumes, of_volumes = split_volumes(positions, groups.each(keys), path, of_frames(groups))
    chosen = choose(path, len(volumes), frame)
    picked, thickness = volumes[chosen], slice_distance(groups.items("PixelMeasuresSequence")[0])
    order, affine = stack_slices(positions[picked], orientation, spacing, thickness, path)
    picked = picked[order]
    items = groups.items("PixelValueTransformationSequence")
    scales = groups.each(scales_of(items if any(items) else [ds], path))
    scales = [scales[index] for index in picked]
    pixels, padded, said = grey_frames(ds, path, scales)
    if not np.array_equal(picked, range(len(pixels))):  # most files are in order already
        pixels, padded = pixels[picked], padded[picked]
    voxels, of_padding = without_padding(rescaled(pixels, scales), padded)
    notes += (
        said + of_padding + of_volumes + chosen_note(chosen, len(volumes)) + single_slice_note(len(pixels), thickness)
    )
    meta = facts(ds, "enhanced multi-frame", len(volumes), chosen)
    return Volume(voxels, affine, name=path.name, notes=notes, meta=meta)


def _read_folder(folder, frame, label, series):
    slices, notes = choose_series(folder, series)
    if len(slices) == 1:
        volume = _read_file(Path(slices[0].filename), frame, label)
    elif any(int(ds.get("NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in ds for ds in slices):
        raise FormatError(f"{folder}: holds several multi-frame files; name the file to read")
    else:
        volume = _read_series(slices, folder, frame)
    return replace(volume, notes=volume.notes + notes)


def _read_series(slices, path, frame):
    """Single-frame slices of one series, whose pixels may still be in their files."""
    _check_slices(slices, path)
    first = slices[0]
    spacing, of_plane = plane_spacing(first)
    numbers = [int(ds.get("InstanceNumber") or 0) for ds in slices]
    positions = np.asarray([ds.ImagePositionPatient for ds in slices], float)
    keys = [("", int(ds.get("TemporalPositionIdentifier") or 0)) for ds in slices]
    volumes, _ = split_volumes(positions, keys, path, of_slices(slices), numbers)
    chosen = choose(path, len(volumes), frame)
    picked, thickness = volumes[chosen], slice_distance(first)
    order, affine = stack_slices(positions[picked], first.ImageOrientationPatient, spacing, thickness, path)
    picked = [slices[index] for index in picked[order]]
    voxels, of_pixels = _voxels_of_slices(picked, path)
    notes = of_pixels + of_plane + chosen_note(chosen, len(volumes)) + single_slice_note(len(picked), thickness)
    frames = {uid for ds in picked if (uid := ds.get("FrameOfReferenceUID"))}
    if len(frames) > 1:
        notes += (f"its slices are in {len(frames)} frames of reference: the same coordinates were assumed",)
    meta = facts(first, "series of slices", len(volumes), chosen)
    return Volume(voxels, affine, name=own_name(path), notes=notes, meta=meta)


def _check_slices(slices, path):
    """Refuse slices that cannot be placed or are no stack of equal ones."""
    needed = "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"
    for ds in slices:
        missing = [keyword for keyword in needed if ds.get(keyword) is None]
        if missing:
            raise GeometryError(f"{ds.filename}: lacks {', '.join(missing)}; the slice cannot be placed")
        for keyword in needed[:2]:
            check_count(keyword, ds[keyword].value, ds.filename)
    equal = {keyword: [ds[keyword].value for ds in slices] for keyword in needed[1:]}
    equal["the pixel size of its calibrated ultrasound region"] = [plane_spacing(ds)[0] for ds in slices]
    for keyword, values in equal.items():
        if len({np.size(value) for value in values}) > 1 or np.ptp(np.asarray(values, float), axis=0).max() > 1e-4:
            raise GeometryError(f"{path}: {keyword} differs between slices; expected one stack of equal slices")
    if 0 < (coloured := sum(map(is_coloured, slices))) < len(slices):
        raise FormatError(
            f"{path}: {coloured} of {len(slices)} slices are in colour, which is no intensity of the others; take them "
            "out, or export the series again"
        )


def _voxels_of_slices(slices, path):
    """The voxels of slices in order, (D, H, W), and notes; a slice whose pixels were left out is read again."""
    planes, padded, dark, said, scales = [], [], [], {}, scales_of(slices, path)
    for ds in slices:
        ds = ds if _holds_pixels(ds) else open_dicom(ds.filename)
        plane, no_measure, notes = grey_frames(ds, ds.filename, scales)
        planes.append(plane[0])
        padded.append(no_measure[0])
        dark.append(stays_dark(ds, scales))
        said |= dict.fromkeys(notes)
    if len({*dark}) > 1:
        raise FormatError(
            f"{path}: large values are dark in {sum(dark)} of {len(dark)} slices, which are MONOCHROME1, and bright in "
            "the others, and rescaled values are not inverted; export the series again in one of the two"
        )
    if not any(dark):
        check_ranges(slices, path)
    voxels, of_padding = without_padding(rescaled(np.stack(planes), scales), np.stack(padded))
    return voxels, (*said, *of_padding)
