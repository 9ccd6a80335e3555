"""What all readers share: errors in one line, what a file may hold, one volume of several, notes (chapter 02)."""

import logging
import os
import re
import struct
import warnings
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

import numpy as np

from ..errors import FormatError, GeometryError, SegdetError

NO_UNIT = "the header gives no unit of length; mm were assumed"
LARGEST_RATIO = 100
INFERRED = "not stated"  # meta["slice_distance"] of a SEG where the positions of its frames alone say it
_SILENCE = RLock()  # filters of warnings and levels of loggers belong to the process


@contextmanager
def reading(path):
    """Turn whatever a damaged file makes a library raise into one FormatError that names the file.

    A `Volume` knows its own name only, and a scan and its mask have the same: what it says of itself is said of `path`.
    """
    try:
        yield
    except GeometryError as error:
        raise type(error)(re.sub(f"^{re.escape(own_name(path))}: ", lambda _: f"{path}: ", str(error))) from error
    except (SegdetError, MemoryError):
        raise
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # pydicom, its decoders and ITK raise nearly every type on damaged input
        reason = without_values(error)  # and without the cause, whose message may name the patient
        raise FormatError(f"{path}: cannot be understood, the file may be damaged: {reason}") from None


def given(path):
    """A path as a Path; refuses an empty one, which would be the current folder."""
    if not os.fspath(path):
        raise FormatError("the path is empty; name a file or folder (. is this folder)")
    return Path(path)


def own_name(path):
    """The name of a file or folder, also of one that is given as ``.`` or ``..``."""
    return os.path.basename(os.path.abspath(path)) or str(path)


def one_line(text, longest=200):
    """Text from a file or a library in one printable line; damaged files put long binary strings there."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(text))
    text = " ".join(text.split())
    return text if len(text) <= longest else text[:longest] + "..."


def without_values(error):
    """An error or a warning in one line, up to where it quotes the file, for that may name the patient."""
    if (lacking := getattr(error, "name", None) or "")[:1].isupper():  # the keyword of a DICOM element
        return f"it lacks {lacking}"
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


def choose(path, count, frame, what="volumes (time points or stacks)"):
    """The index of the volume to read: `frame`, or 0 where there is only one; refuses to guess otherwise."""
    if frame is None and count > 1:
        raise FormatError(
            f"{path}: holds {count} {what}; choose one with frame=0 to frame={count - 1}; to train, store one a file"
        )
    if frame is not None and not 0 <= frame < count:
        raise FormatError(f"{path}: frame={frame} does not exist; there are {count} {what}, counted from 0")
    return frame or 0


def chosen_note(chosen, count):
    """One note that says which of several volumes was read."""
    return (f"volume {chosen + 1} of {count} was read, as frame={chosen} asked",) if count > 1 else ()


def single_slice_note(count, distance):
    """One note that says how thick a single slice was taken to be, in mm; `distance` is None where it is unknown."""
    if count > 1:
        return ()
    return (f"a single slice; its thickness was taken as {distance:g} mm" if distance else
            "a single slice of unknown thickness; 1 mm was assumed",)  # fmt: skip


def apart(first, second, shape):
    """How far apart two affines, (4, 4), put a voxel of an array of `shape` at most, in their unit."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], [1])).reshape(4, -1)
    return np.linalg.norm(((first - second) @ corners)[:3], axis=0).max()


def room(held, small):
    """The bytes that `held` compressed bytes may announce, before they are taken for a damaged header or a bomb.

    Scans are packed 2 to 20 to 1, and masks or blank volumes, which are packed a thousand to one, are small.
    """
    return max(small, LARGEST_RATIO * held)


def extension(path):
    """The extension of a Path in lower case, ``.nii.gz`` as a whole."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
