"""Reading DICOM: what a file says about its voxels and where they are, and what it leaves open (chapter 02).

Four layouts are understood: enhanced multi-frame images (Enhanced US Volume, and Enhanced CT and MR alike),
the Philips "Cartesian" export with its private group 3001, folders of single-frame slices, and ultrasound
clips, whose frames follow each other in time. A DICOM SEG is read as a volume of segment numbers.
"""

from collections import defaultdict
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
from pydicom.datadict import tag_for_keyword

from .dicom_frames import (
    choose,
    chosen_note,
    facts,
    is_dicom,
    one_line,
    reading,
    silenced,
    sop_class_name,
    split_volumes,
    stack_slices,
    without_values,
)
from .dicom_pixels import check_pixels, grey_frames, open_dicom, rescaled, room, scale, stored_pixels
from .dicom_ultrasound import read_clip, read_philips
from .errors import FormatError, GeometryError, LabelError
from .volume import Volume

PHILIPS_CARTESIAN = "1.2.840.113543.6.6.1.3.10002"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
SMALL_SEGMENTATION = 256 << 20  # voxels
MOST_FRAMES = 20_000  # a header of so many frames takes seconds to read
IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers",
    "PatientMotherBirthName", "OtherPatientIDs", "OtherPatientNames", "OtherPatientIDsSequence",
    "MedicalRecordLocator", "AccessionNumber", "InstitutionName", "InstitutionAddress",
    "ReferringPhysicianName", "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName",
)  # fmt: skip


def read_dicom(path, frame=None, label=None):
    """Read a DICOM file, or a folder that holds one series.

    Parameters
    ----------
    path : str or Path
    frame : int, optional
        Which volume of several (time points, stacks), from 0; which image of a clip.
    label : int, optional
        Which segment of a DICOM SEG; all of them otherwise.

    Returns
    -------
    Volume
        `notes` says what was assumed; `meta` holds format, SOP class, transfer syntax, time points and UIDs.

    Raises
    ------
    FormatError
        If the file is damaged, contradicts itself, or holds several volumes and none was chosen. Only the
        Philips export, whose volumes are time points of one loop by definition, is read from the first.
    GeometryError
        If the slices are not a regular grid.
    """
    path = Path(path)
    with reading(path), silenced() as caught:
        volume = _read_folder(path, frame) if path.is_dir() else _read_file(path, frame, label)
    said = dict.fromkeys(f"pydicom: {without_values(warning.message)}" for warning in caught)
    return replace(volume, notes=volume.notes + tuple(said))


def dicom_files(path):
    """The DICOM files of a folder (not of the folders below it) sorted by name, or the file itself."""
    path = Path(path)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and is_dicom(file))
    return [path] if is_dicom(path) else []


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
    if "PixelData" not in ds:
        raise FormatError(f"{path}: holds no pixel data ({sop_class_name(ds)}); expected a DICOM image")
    if ds.get("SOPClassUID") == SEGMENTATION:
        return _read_segmentation(ds, path, frame, label)
    if ds.get("SOPClassUID") == PHILIPS_CARTESIAN:
        return read_philips(ds, path, frame)
    if "PerFrameFunctionalGroupsSequence" in ds:
        return _read_enhanced(ds, path, frame)
    if int(ds.get("NumberOfFrames") or 1) == 1 and "ImagePositionPatient" in ds:
        return _read_series([ds], path, frame)
    return read_clip(ds, path, frame)


class _Groups:
    """Multi-frame functional groups (PS3.3, C.7.6.16); each stands in its frame or in the shared item."""

    def __init__(self, ds, path):
        self.path, self.frames = path, list(ds.PerFrameFunctionalGroupsSequence)
        self.shared = (ds.get("SharedFunctionalGroupsSequence") or [{}])[0]
        count = len(self.frames)
        if count != int(ds.NumberOfFrames):
            raise FormatError(f"{path}: announces {ds.NumberOfFrames} frames, but describes {count}")
        if count > MOST_FRAMES:
            raise FormatError(f"{path}: has {count} frames, expected at most {MOST_FRAMES}; export fewer time points")
        self.own = set().union(*(item.keys() for item in self.frames))

    def items(self, sequence):
        """The item of every frame; a single one where it is the same for all."""
        shared = (self.shared.get(sequence) or [{}])[:1]
        if tag_for_keyword(sequence) not in self.own:
            return shared
        return [(item.get(sequence) or shared)[0] for item in self.frames]

    def each(self, found):
        """What was found, once for every frame."""
        return found if len(found) == len(self.frames) else found * len(self.frames)

    def values(self, sequence, keyword):
        """An array with a row for every item; None where one lacks it."""
        found = [group.get(keyword) for group in self.items(sequence)]
        return None if any(value is None for value in found) else np.array([[*value] for value in found], float)

    def common(self, sequence, keyword):
        """The row that all items share."""
        found = self.values(sequence, keyword)
        if found is None:
            raise GeometryError(f"{self.path}: {keyword} is missing, so the place of the voxels is unknown")
        if np.abs(found - found[0]).max() > 1e-4:
            raise GeometryError(f"{self.path}: {keyword} differs between frames; expected one stack of equal slices")
        return found[0]


def _read_enhanced(ds, path, frame):
    groups, space, suffix, notes = _Groups(ds, path), "Patient", "", ()
    positions = groups.values("PlanePositionSequence", "ImagePositionPatient")
    if positions is None:
        space = suffix = "Volume"
        positions = groups.values("PlanePositionVolumeSequence", "ImagePositionVolume")
        notes = ("positions are in the volume's own frame of reference: LPS directions are unknown",)
    if positions is None:
        raise GeometryError(f"{path}: its frames have neither ImagePositionPatient nor ImagePositionVolume")
    positions = np.broadcast_to(positions, (len(groups.frames), 3))
    orientation = groups.common(f"PlaneOrientation{suffix}Sequence", f"ImageOrientation{space}")
    spacing = groups.common("PixelMeasuresSequence", "PixelSpacing")
    places, content = np.unique(np.round(positions, 3), axis=0), [{}]
    # "3D" means one stack at one time (C.7.6.17); to read that again from every frame would double the time.
    if ds.get("DimensionOrganizationType") != "3D" or len(places) < len(positions):
        content = groups.items("FrameContentSequence")
    keys = [(str(c.get("StackID", "")), int(c.get("TemporalPositionIndex") or 0)) for c in content]
    volumes = split_volumes(positions, groups.each(keys), path)
    chosen = choose(path, len(volumes), frame)
    picked, measures = volumes[chosen], groups.items("PixelMeasuresSequence")[0]
    thickness = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
    order, affine = stack_slices(positions[picked], orientation, spacing, thickness, path)
    picked = picked[order]
    scales = groups.each([scale(item or ds) for item in groups.items("PixelValueTransformationSequence")])
    scales = [scales[index] for index in picked]
    pixels, said = grey_frames(ds, path, scales)
    if not np.array_equal(picked, range(len(pixels))):  # most files are in order already
        pixels = pixels[picked]
    notes += said + chosen_note(chosen, len(volumes))
    meta = facts(ds, "enhanced multi-frame", len(volumes), chosen)
    return Volume(rescaled(pixels, scales), affine, name=path.name, notes=notes, meta=meta)


def _read_folder(folder, frame):
    series = defaultdict(list)
    for file in dicom_files(folder):
        with reading(file):
            ds = open_dicom(file, stop_before_pixels=True)
        if ds.file_meta.get("MediaStorageSOPClassUID") != MEDIA_DIRECTORY:
            series[str(ds.get("SeriesInstanceUID", ""))].append(ds)
    if not series:
        raise FormatError(f"{folder}: no DICOM file in this folder (folders below it are not searched)")
    if len(series) > 1:
        sizes = ", ".join(str(len(slices)) for slices in series.values())
        raise FormatError(
            f"{folder}: holds {len(series)} series (of {sizes} files); expected one: name a file or split"
        )
    ((slices),) = series.values()
    if len(slices) == 1:
        return _read_file(Path(slices[0].filename), frame, None)
    if any(int(ds.get("NumberOfFrames") or 1) > 1 for ds in slices):
        raise FormatError(f"{folder}: holds several multi-frame files; name the file to read")
    return _read_series(slices, folder, frame)


def _read_series(slices, path, frame):
    """Single-frame slices of one series; a slice without pixels is read again when it is needed."""
    needed = "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"
    for ds in slices:
        missing = [keyword for keyword in needed if ds.get(keyword) is None]
        if missing:
            raise GeometryError(f"{ds.filename}: lacks {', '.join(missing)}; the slice cannot be placed")
    for keyword in needed[1:]:
        values = np.asarray([ds[keyword].value for ds in slices], float)
        if np.abs(values - values[0]).max() > 1e-4:
            raise GeometryError(f"{path}: {keyword} differs between slices; expected one stack of equal slices")
    first = slices[0]
    slices = sorted(slices, key=lambda ds: (int(ds.get("AcquisitionNumber") or 0), int(ds.get("InstanceNumber") or 0)))
    positions = np.asarray([ds.ImagePositionPatient for ds in slices], float)
    keys = [("", int(ds.get("TemporalPositionIdentifier") or 0)) for ds in slices]
    volumes = split_volumes(positions, keys, path)
    chosen = choose(path, len(volumes), frame)
    picked = volumes[chosen]
    thickness = first.get("SpacingBetweenSlices") or first.get("SliceThickness")
    order, affine = stack_slices(positions[picked], first.ImageOrientationPatient, first.PixelSpacing, thickness, path)
    picked = [slices[index] for index in picked[order]]
    planes, said, scales = [], {}, [scale(ds) for ds in picked]
    for ds in picked:
        ds = ds if "PixelData" in ds else open_dicom(ds.filename)
        plane, notes = grey_frames(ds, ds.filename, scales)
        planes.append(plane[0])
        said |= dict.fromkeys(notes)
    notes = (*said, *chosen_note(chosen, len(volumes)))
    if len(planes) == 1:
        notes += (f"a single slice; its thickness was taken as {float(thickness):g} mm" if thickness else
                  "a single slice of unknown thickness; 1 mm was assumed",)  # fmt: skip
    meta = facts(first, "series of slices", len(volumes), chosen)
    return Volume(rescaled(np.stack(planes), scales), affine, name=path.name, notes=notes, meta=meta)


def _read_segmentation(ds, path, frame, label):
    """Segment numbers on the grid that the stored frames span; empty slices at its ends may be missing."""
    import highdicom

    choose(path, 1, frame)
    stored = stored_pixels(ds)
    check_pixels(ds, stored, path)
    seg = highdicom.seg.Segmentation.from_dataset(ds, copy=False)
    geometry = seg.get_volume_geometry()  # with the slices that were left out
    if geometry and prod(geometry.spatial_shape) > room(len(stored), SMALL_SEGMENTATION):
        raise FormatError(f"{path}: its few frames span {geometry.spatial_shape} voxels; a position must be wrong")
    numbers = [int(number) for number in seg.segment_numbers]
    if label is not None and label not in numbers:
        raise LabelError(f"{path}: has no segment {label}; its segments are {numbers}")
    picked = numbers if label is None else [label]
    stack = seg.get_volume(segment_numbers=picked, combine_segments=True)
    voxels, affine = stack.array, np.array(stack.affine, float)
    if affine[:3, 0] @ np.cross(affine[:3, 2], affine[:3, 1]) < 0:  # along the normal, as every reader here
        affine[:3, 3] += affine[:3, 0] * (len(voxels) - 1)
        voxels, affine[:3, 0] = voxels[::-1].copy(), -affine[:3, 0]
    names = ", ".join(f"{n} = {one_line(seg.get_segment_description(n).segment_label, 64)}" for n in picked)
    meta = facts(ds, "segmentation", 1, 0)
    return Volume(voxels, affine, name=path.name, notes=(f"segment numbers: {names}",), meta=meta)
