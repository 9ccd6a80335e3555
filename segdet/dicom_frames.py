"""What all DICOM layouts share: errors, telling volumes apart, stacking slices (chapter 02)."""

import logging
import re
import struct
import warnings
from collections import defaultdict
from contextlib import contextmanager
from threading import RLock

import numpy as np

from .errors import FormatError, GeometryError, SegdetError

NO_PLACE = "the file gives no position or orientation in the patient: LPS directions are unknown"
_SILENCE = RLock()  # filters of warnings and levels of loggers belong to the process

INFERRED = "not stated"  # meta["slice_distance"] of a SEG where the positions of its frames alone say it


@contextmanager
def reading(path):
    """Turn whatever a damaged file makes a library raise into one FormatError that names the file."""
    try:
        yield
    except SegdetError:
        raise
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # pydicom, its decoders and ITK raise nearly every type on damaged input
        reason = without_values(error)  # and without the cause, whose message may name the patient
        raise FormatError(f"{path}: cannot be understood, the file may be damaged: {reason}") from None


def one_line(text, longest=200):
    """Text from a file or a library in one printable line; damaged files put long binary strings there."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(text))
    text = " ".join(text.split())
    return text if len(text) <= longest else text[:longest] + "..."


def without_values(error):
    """An error or a warning in one line, up to where it quotes the file, for that may name the patient."""
    said = re.split(r"(?<!\w)b?['\"`‘“”]", one_line(error), maxsplit=1)[0].rstrip(" :(,")
    return said or type(error).__name__


@contextmanager
def silenced():
    """Nothing that pydicom or highdicom say in the block comes out of it, for they quote the patient's name.

    Yields
    ------
    list of warnings.WarningMessage
        What they warned of, to be passed on through `without_values`.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    with _SILENCE, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield caught
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def is_dicom(path):
    """Whether a file is DICOM: it carries the mark ``DICM`` at byte 128 (PS3.10, 7.1), or is a bare data set.

    Older programs wrote data sets alone. One begins with two elements of the groups 0002 or 0008, in order.
    """
    with open(path, "rb") as file:
        start = file.read(4096)
    return start[128:132] == b"DICM" or any(_begins_data_set(start, order) for order in "<>")


def _begins_data_set(start, order):
    if len(start) < 132:
        return False
    group, element, length = struct.unpack(f"{order}HHI", start[:8])
    if start[4:6].isalpha() and start[4:6].isupper():  # an explicit VR, of those with a short length
        (length,) = struct.unpack(f"{order}H", start[6:8])
    if group not in (2, 8) or 16 + length > len(start):
        return False
    return (group, element) < struct.unpack(f"{order}HH", start[8 + length : 12 + length]) < (9, 0)


def sop_class_name(ds):
    """The name of the SOP class as pydicom knows it, else its UID, else "no SOP class"."""
    return one_line(getattr(ds.get("SOPClassUID"), "name", "") or "no SOP class", 64)


def slice_distance(item):
    """The distance between slices in mm, else their thickness; None where neither is stated.

    It may be negative where a maker counts downwards; the positions say where slices are.
    """
    found = item.get("SpacingBetweenSlices") or item.get("SliceThickness")
    return abs(float(found)) if found else None


def single_slice_note(count, distance):
    """One note that says how thick a single slice was taken to be; `distance` is that of `slice_distance`."""
    if count > 1:
        return ()
    return (f"a single slice; its thickness was taken as {distance:g} mm" if distance else
            "a single slice of unknown thickness; 1 mm was assumed",)  # fmt: skip


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


def choose(path, count, frame, what="volumes (time points or stacks)"):
    """The index of the volume to read: `frame`, or 0 where there is only one; refuses to guess otherwise."""
    if frame is None and count > 1:
        raise FormatError(f"{path}: holds {count} {what}; choose one with frame=0 to frame={count - 1}")
    if frame is not None and not 0 <= frame < count:
        raise FormatError(f"{path}: frame={frame} does not exist; there are {count} {what}, counted from 0")
    return frame or 0


def chosen_note(chosen, count):
    """One note that says which of several volumes was read."""
    return (f"volume {chosen + 1} of {count} was read, as frame={chosen} asked",) if count > 1 else ()


def split_volumes(positions, keys, path):
    """Split frames into volumes: by stack and time where the file records them, else by repeated position.

    Parameters
    ----------
    positions : ndarray, (n, 3)
        Image positions in mm.
    keys : list of n tuples
        (stack, temporal index) of each frame.

    Returns
    -------
    list of ndarrays
        Frame indices, one array a volume.
    """
    members = defaultdict(list)
    for index, key in enumerate(keys):
        members[key].append(index)
    groups = [np.array(members[key]) for key in sorted(members)]
    sizes = sorted({len(group) for group in groups})
    if len(sizes) > 1:
        raise GeometryError(
            f"{path}: its {len(groups)} time points or stacks have {sizes} frames; expected equal numbers"
        )
    if len(groups) > 1 and sizes != [1]:
        return groups
    _, place, repeats = np.unique(np.round(positions, 3), axis=0, return_inverse=True, return_counts=True)
    if len(set(repeats)) > 1:
        raise GeometryError(
            f"{path}: some slice positions occur {repeats.max()} times and others {repeats.min()}; expected "
            "every position equally often"
        )
    visits = np.argsort(place.ravel(), kind="stable").reshape(-1, repeats[0])  # a row for each place
    return [np.sort(visit) for visit in visits.T]


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
    dy, dx = (float(value) for value in pixel_spacing)
    if not np.allclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=1e-3):
        raise GeometryError(
            f"{path}: the image orientation {[*map(float, orientation)]} is not two perpendicular units"
        )
    if not (np.isfinite([dx, dy]).all() and min(dx, dy) > 0 and np.isfinite(positions).all()):
        raise GeometryError(f"{path}: pixel spacing ({dy}, {dx}) mm or a slice position is not a usable number")
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
    affine[:3] = np.column_stack([step, down * dy, across * dx, placed[0]])
    return order, affine
