"""What all DICOM layouts share: decoding frames, telling volumes apart, stacking slices (chapter 02)."""

from contextlib import contextmanager

import numpy as np

from .errors import FormatError, GeometryError, SegdetError

LARGEST_RATIO = 2000  # how much smaller than its voxels compressed pixel data may be before the header is doubted
NO_PLACE = "the file gives no position or orientation in the patient: LPS directions are unknown"


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
        reason = one_line(error) or type(error).__name__
        raise FormatError(f"{path}: cannot be understood, the file may be damaged: {reason}") from error


def one_line(text, longest=200):
    """Text from a file or a library in one printable line; damaged files put long binary strings there."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(text))
    text = " ".join(text.split())
    return text if len(text) <= longest else text[:longest] + "..."


def is_dicom(path):
    """Whether a file carries DICOM's mark, ``DICM`` at byte 128 (PS3.10, 7.1)."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def grey_frames(ds, path):
    """Decode the pixels of a data set, colour turned into grey.

    Returns
    -------
    frames : ndarray, (frames, rows, columns)
        Stored values, not rescaled.
    notes : tuple of str
        What was done to them.
    """
    from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
    from pydicom.pixels.utils import get_expected_length

    syntax = ds.file_meta.TransferSyntaxUID
    try:
        readable = not syntax.is_encapsulated or get_decoder(syntax).is_available
    except NotImplementedError:  # video, or a syntax of one vendor
        readable = False
    if not readable:
        raise FormatError(
            f"{path}: its pixels are stored as {one_line(syntax.name, 100)}, for which no decoder is installed; "
            "convert it to an uncompressed file first, with gdcmconv --raw or dcmdjpeg"
        )
    expected, held = get_expected_length(ds), len(ds.get("PixelData", b""))
    frames, rows, columns = int(ds.get("NumberOfFrames") or 1), int(ds.Rows), int(ds.Columns)
    encapsulated = syntax.is_encapsulated
    # Checked before decoding: a damaged header must not make the decoder ask for terabytes.
    if min(frames, rows, columns) < 1 or expected > held * (LARGEST_RATIO if encapsulated else 1):
        raise FormatError(
            f"{path}: the header announces {frames} frames of {rows} x {columns} pixels ({expected} bytes), "
            f"the pixel data hold {held} bytes{' compressed' * encapsulated}; the file is cut off or its "
            "header is wrong"
        )
    array, notes, palette = pixel_array(ds), (), ds.PhotometricInterpretation == "PALETTE COLOR"
    if palette:
        array = apply_color_lut(array, ds)
    if palette or ds.SamplesPerPixel > 1:
        luma = array[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        array, notes = np.rint(luma).astype(array.dtype), ("the colours were turned into grey (BT.601 luma)",)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        notes = ("MONOCHROME1: large values are dark; the stored values were kept",)
    return array.reshape(frames, rows, columns), notes


def rescaled(array, item):
    """Apply Rescale Slope and Intercept of `item` where they change something; the result is float32 then."""
    slope, intercept = float(item.get("RescaleSlope", 1)), float(item.get("RescaleIntercept", 0))
    return array if (slope, intercept) == (1, 0) else array.astype(np.float32) * slope + intercept


def sop_class_name(ds):
    """The name of the SOP class as pydicom knows it, else its UID, else "no SOP class"."""
    return one_line(getattr(ds.get("SOPClassUID"), "name", "no SOP class"), 64)


def facts(ds, layout, volumes, frame):
    """`Volume.meta` of a scan that was read from DICOM."""
    return {
        "format": f"DICOM, {layout}",
        "sop_class": sop_class_name(ds),
        "transfer_syntax": ds.file_meta.TransferSyntaxUID.name,
        "modality": one_line(ds.get("Modality", ""), 16),
        "time_points": volumes,
        "frame": frame,
        "sop_instance_uid": str(ds.get("SOPInstanceUID", "")),
        "frame_of_reference_uid": str(ds.get("FrameOfReferenceUID", "")),
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
    groups = [np.flatnonzero([key == one for key in keys]) for one in sorted(set(keys))]
    sizes = sorted({len(group) for group in groups})
    if len(sizes) > 1:
        raise GeometryError(
            f"{path}: its {len(groups)} time points or stacks have {sizes} frames; expected equal numbers"
        )
    if len(groups) > 1 and sizes != [1]:
        return groups
    _, place = np.unique(np.round(positions, 3), axis=0, return_inverse=True)
    place = place.ravel()
    repeats = np.bincount(place)
    if len(set(repeats)) > 1:
        raise GeometryError(
            f"{path}: some slice positions occur {repeats.max()} times and others {repeats.min()}; expected "
            "every position equally often"
        )
    visit = np.array([np.count_nonzero(place[:i] == place[i]) for i in range(len(place))])
    return [np.flatnonzero(visit == time) for time in range(repeats[0])]


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
    step = (placed[-1] - placed[0]) / (n - 1) if n > 1 else normal * float(thickness or 1)
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
