"""Reading a DICOM SEG of any kind: binary, fractional or a label map (PS3.3, A.51; chapter 02)."""

from math import prod

import numpy as np

from ...errors import FormatError, GeometryError, LabelError
from ...volume import Volume
from ..checks import INFERRED, choose, one_line, room
from .geometry import facts, slice_distance, stack_slices
from .groups import Groups
from .pixels import decoded, stored_pixels

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # the second is the label map
SMALL_SEGMENTATION = 256 << 20  # voxels
MOST_PARTS = 10  # into so many parts the smallest gap between frames is cut, to find a distance that fits all


def read_segmentation(ds, path, frame, label):
    """A volume of segment numbers on the grid that the stored frames span.

    Slices that were left out are empty; those at the ends may be missing.

    Raises
    ------
    FormatError
        If there is no segment `label`, or the file contradicts itself.
    GeometryError
        If its frames lie on no regular grid.
    """
    choose(path, 1, frame)
    groups = Groups(ds, path)
    segments = _segments(ds, path)
    stored = stored_pixels(ds)
    planes, notes = _numbered_frames(ds, stored, groups, segments, path)
    places, affine, inferred, said = _grid(ds, len(stored), groups, path)
    voxels = np.zeros((places.max() + 1, *planes.shape[1:]), planes.dtype)
    overlap = False
    for place, plane in zip(places, planes, strict=True):
        if label is not None:
            plane = np.where(plane == label, plane, 0)
        there = voxels[place]
        overlap |= bool(((there > 0) & (plane > 0) & (there != plane)).any())
        np.maximum(there, plane, out=there)
    names = ", ".join(f"{n} = {name}" for n, name in segments.items() if label in (None, n))
    notes = (f"segment numbers: {names}", *notes, *said)
    if overlap:
        notes += ("its segments overlap: a voxel of several holds the highest number; a label reads one segment whole",)
    meta = facts(ds, "segmentation", 1, 0) | ({"slice_distance": INFERRED} if inferred else {})
    volume = Volume(voxels, affine, name=path.name, notes=notes, meta=meta)
    if label is not None and label not in segments:
        raise LabelError(f"{path}: has no segment {label}; its segments are {[*segments]}", volume)
    return volume


def _background(ds):
    """The number that means no segment; a label map may give it as Pixel Padding Value."""
    return int(ds.get("PixelPaddingValue") or 0) if ds.get("SegmentationType") == "LABELMAP" else 0


def _segments(ds, path):
    """The names of the segments by their numbers, in order, without the background."""
    found = {int(item.SegmentNumber): one_line(item.get("SegmentLabel") or "", 64) for item in ds.SegmentSequence}
    found.pop(_background(ds), None)
    if 0 in found:
        raise FormatError(f"{path}: describes a segment 0, which is no background; renumber its segments from 1 on")
    return dict(sorted(found.items()))


def _numbered_frames(ds, stored, groups, segments, path):
    """The frames as segment numbers, 0 where there is none, and notes."""
    kind, notes = ds.get("SegmentationType"), ()
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        found = one_line(kind, 32)
        raise FormatError(f"{path}: is a segmentation of type {found}; expected BINARY, FRACTIONAL or LABELMAP")
    planes = decoded(ds, stored, path)
    if kind == "LABELMAP":
        planes = np.where(planes == _background(ds), 0, planes)
        used = {int(number) for number in np.unique(planes)} - {0}
    else:
        items = groups.each(groups.items("SegmentIdentificationSequence"))
        numbers = [int(item.get("ReferencedSegmentNumber") or 0) for item in items]
        used = set(numbers)
        if kind == "FRACTIONAL":
            planes, notes = _half(planes, ds)
    if strange := sorted(used - segments.keys()):
        raise FormatError(f"{path}: has frames of the segments {strange}, but describes {[*segments]} only")
    dtype = np.uint8 if max(segments, default=0) < 256 else np.uint16
    if kind == "LABELMAP":
        return planes.astype(dtype, copy=False), notes
    return (planes > 0) * np.array(numbers, dtype)[:, None, None], notes


def _half(planes, ds):
    """Fractions as masks: at least half of the largest value."""
    most = int(ds.get("MaximumFractionalValue") or 255)
    inside = planes >= most / 2
    if not ((planes > 0) & (planes < most)).any():
        return inside, ()
    kind = one_line(ds.get("SegmentationFractionalType") or "of unknown type", 32)
    return inside, (f"its values are fractions ({kind}): a voxel is inside from half on, {most / 2:g} of {most}",)


def _grid(ds, held, groups, path):
    """The slice of each frame, the affine of the slices, whether their distance was inferred, and notes.

    `held` is the number of bytes of the pixel data.
    """
    positions, orientation, spacing, notes = groups.geometry()
    measures = groups.items("PixelMeasuresSequence")[0]
    along = positions @ np.cross(orientation[:3], orientation[3:])
    if not np.isfinite(along).all():
        raise GeometryError(f"{path}: a frame position is not a usable number")
    first, last, gaps = along.argmin(), along.argmax(), np.diff(np.unique(np.round(along, 3)))
    stated = abs(float(measures.get("SpacingBetweenSlices") or 0))
    guesses = [gaps.min() / n for n in range(1, MOST_PARTS + 1)] if len(gaps) else [slice_distance(measures) or 1.0]
    for distance in [stated, *guesses] if stated else guesses:
        places = np.rint((along - along[first]) / distance)
        step = (positions[last] - positions[first]) / (places.max() or 1)
        off = np.linalg.norm(positions - positions[first] - places[:, None] * step, axis=1).max()
        if off <= 0.02 * distance:
            break
    else:
        raise GeometryError(f"{path}: its frames lie on no regular grid, up to {off:.4g} mm off; resample it")
    shape = int(places.max()) + 1, int(ds.Rows), int(ds.Columns)
    if prod(shape) > room(held, SMALL_SEGMENTATION):
        raise FormatError(f"{path}: its few frames span {shape} voxels; a position must be wrong")
    filled = positions[first] + np.arange(shape[0])[:, None] * step
    _, affine = stack_slices(filled, orientation, spacing, distance, path)
    if distance != stated:
        found = "is absent" if not stated else f"({stated:g} mm) does not fit the positions of the frames"
        notes += (f"SpacingBetweenSlices {found}: slices {distance:.4g} mm apart were assumed",)
    return places.astype(int), affine, distance != stated, notes
