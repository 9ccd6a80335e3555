"""MetaImage, read from the header itself (https://itk.org/Wiki/MetaIO/Documentation; chapter 02).

ITK drops units and scales, and where a header is damaged it ends the process or hands out memory that nobody filled.
"""

import os
import re
import zlib
from math import prod
from posixpath import normpath

import numpy as np

from ..errors import FormatError, GeometryError
from ..volume import Volume
from .checks import choose, chosen_note, one_line, single_slice_note
from .itk import check_size, millimetres
from .scaling import rescaled

SPACINGS, ORIGINS = ("ElementSpacing", "ElementSize"), ("Offset", "Position", "Origin")
MATRICES = ("TransformMatrix", "Rotation", "Orientation")
LOCAL = "LOCAL"  # the voxels are in the file itself
SLOPE, INTERCEPT = "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"
BIG_ENDIAN = "BinaryDataByteOrderMSB", "ElementByteOrderMSB"
ONCE = {  # the fields that are read
    *SPACINGS, *ORIGINS, *MATRICES, *BIG_ENDIAN, SLOPE, INTERCEPT, "NDims", "DimSize", "BinaryData", "ElementType",
    "HeaderSize", "ElementNumberOfChannels", "DistanceUnits", "CompressedData", "CompressedDataSize",
}  # fmt: skip
UNIT = 0.01  # by which the length of an axis may be off 1
TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4", "ULONG": "u4",
    "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8",
}  # fmt: skip


def read_metaimage(path, frame=None):
    """Read a volume; see `segdet.io.files.load_volume`."""
    header = _header(path)
    stored = _stored(path, header)
    chosen = choose(path, len(stored), frame)
    voxels, scaled = _scaled(stored[chosen].astype(stored.dtype.newbyteorder("=")), header, path)
    affine, said = _geometry(path, header)
    notes = _notes(header) + said + scaled + chosen_note(chosen, len(stored))
    meta = {"format": "MetaImage", "time_points": len(stored), "frame": chosen}
    return Volume(voxels, affine, name=path.name, notes=notes, meta=meta)


def _header(path):
    """The fields; refuses two values of one, text voxels, odd sizes, and file names that lead out of the folder."""
    header = {}
    with open(path, "rb") as file:
        while "ElementDataFile" not in header and (line := file.readline(1 << 20)):
            key, value = (*re.split("[=:]", os.fsdecode(line), maxsplit=1), "")[:2]
            key, value = key.strip(), value.strip()
            if key in ONCE and header.get(key, value).split() != value.split():
                said = " and ".join(f"{key} = {one_line(text, 64)}" for text in (header[key], value))
                raise GeometryError(f"{path}: its header contradicts itself: {said}; expected each once")
            header[key] = value
        header[""] = file.tell()  # where voxels in the same file begin
    data = header.get("ElementDataFile", "")
    header["ElementDataFile"] = LOCAL if data.upper() == LOCAL else data
    if wrong := _unreadable(path, header):
        raise FormatError(f"{path}: not a readable MetaImage file: {wrong}")
    return header


def _unreadable(path, header):
    """What keeps the voxels from being found, and what was expected; nothing where all is well."""
    names = "NDims", "DimSize", "BinaryData", "ElementDataFile"
    found = {key: one_line(header.get(key) or "not given", 64) for key in names}
    size, data = header.get("DimSize", "").split(), header["ElementDataFile"]
    if found["NDims"] not in ("2", "3", "4"):
        return f"its NDims is {found['NDims']}; expected 2, 3 or 4"
    if len(size) != int(found["NDims"]) or not all(map(str.isdecimal, size)):
        return f"its DimSize is {found['DimSize']}; expected {found['NDims']} whole numbers"
    if not _is_true(path, header, "BinaryData"):
        return f"its BinaryData is {found['BinaryData']}; expected BinaryData = True, no voxels as text"
    if data == LOCAL or normpath(data) in (file.name for file in path.parent.iterdir()):
        return None
    if data.split()[:1] == ["LIST"] or "%" in data:
        wrong = f"its voxels are in several files ({found['ElementDataFile']})"
    elif data:
        wrong = f"there is no {found['ElementDataFile']} beside it"
    else:
        wrong = "it does not say where its voxels are"
    return f"{wrong}; expected ElementDataFile = LOCAL or a file beside it"


def _is_true(path, header, key):
    value = header.get(key, "False")
    if value[:1].lower() not in ("t", "f", "1", "0"):
        raise FormatError(f"{path}: its {key} is {one_line(value, 64)!r}; expected True or False")
    return value[:1].lower() in ("t", "1")


def _stored(path, header):
    """The voxels as they are stored, (times, slices, rows, columns)."""
    sizes = [int(size) for size in header["DimSize"].split()]
    kind = header.get("ElementType", "").removeprefix("MET_")
    channels = int(*_numbers(path, header, ("ElementNumberOfChannels",), 1, [1]))
    if channels > 1:
        raise FormatError(f"{path}: {channels} values a voxel; expected one intensity")
    if kind not in TYPES:
        found = one_line(header.get("ElementType", "not given"), 64)
        raise FormatError(f"{path}: its ElementType is {found}; expected whole numbers or floats")
    if 0 in sizes:
        raise FormatError(f"{path}: its DimSize is {header['DimSize']}: it holds no voxel")
    dtype = np.dtype(TYPES[kind]).newbyteorder(">" if _is_big_endian(path, header) else "<")
    local, packed = header["ElementDataFile"] == LOCAL, _is_true(path, header, "CompressedData")
    file = path if local else path.parent / normpath(header["ElementDataFile"])
    held, needed = file.stat().st_size, prod(sizes) * dtype.itemsize
    check_size(path, sizes, dtype.itemsize, held, packed)
    skip = int(*_numbers(path, header, ("HeaderSize",), 1, [0]))
    start = held - needed if skip == -1 else skip or local * header[""]
    if (packed and skip) or start < local * header[""]:
        raise FormatError(f"{path}: its HeaderSize is {skip}; expected none, or voxels that begin behind the header")
    with open(file, "rb") as opened:
        opened.seek(start)
        content = _inflated(path, header, opened, needed) if packed else opened.read(needed)
    if len(content) != needed:
        raise FormatError(f"{path}: its voxels need {needed} bytes, {file.name} holds {len(content)}; it is damaged")
    return np.frombuffer(content, dtype).reshape(-1, *(*sizes, 1)[2::-1])


def _is_big_endian(path, header):
    found = {key: header[key] for key in BIG_ENDIAN if key in header}
    orders = [_is_true(path, header, key) for key in found]
    _check_agreement(path, found, orders)
    return any(orders)


def _inflated(path, header, file, needed):
    """Voxels that were packed by zlib or gzip; one byte more where there are more than needed."""
    size = int(*_numbers(path, header, ("CompressedDataSize",), 1, [0]))
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # which knows the two apart
    try:
        content = inflater.decompress(file.read(size or -1), needed + 1)
    except zlib.error as error:
        raise FormatError(f"{path}: its compressed voxels are damaged: {error}") from error
    if not inflater.eof and len(content) == needed:
        raise FormatError(f"{path}: its compressed voxels are cut off; copy the file again")
    return content


def _scaled(voxels, header, path):
    """Voxels times slope plus offset, as floats, and a note; as they are where the header gives neither."""
    slope, offset = (float(*_numbers(path, header, (key,), 1, [other])) for key, other in ((SLOPE, 1), (INTERCEPT, 0)))
    if (slope, offset) == (1, 0):
        return voxels, ()
    if slope == 0:
        raise FormatError(f"{path}: its {SLOPE} is 0; expected a scale")
    note = f"its ElementToIntensityFunction, {slope:g} x + {offset:g}, was applied"
    return rescaled(voxels, [(slope, offset)] * len(voxels)), (note,)


def _numbers(path, header, keys, count, otherwise):
    """The numbers that the first of some keys of one meaning gives; refuses a second one that says another thing."""
    found = {key: header[key] for key in keys if key in header}
    values = [_parsed(path, key, text, count) for key, text in found.items()] or [np.array(otherwise, float)]
    if keys is not SPACINGS:
        _check_agreement(path, found, values)
    return values[0]


def _check_agreement(path, found, values):
    """Refuse keys of one meaning, `found` with their texts, whose values differ."""
    if any(not np.array_equal(values[0], other) for other in values[1:]):
        said = " and ".join(f"{key} = {one_line(text, 64)}" for key, text in found.items())
        raise GeometryError(f"{path}: its header contradicts itself: {said}; put one of them right")


def _parsed(path, key, text, count):
    try:
        values = np.array(text.split(), float)
    except ValueError:
        values = np.array([np.nan])
    if len(values) != count or not np.isfinite(values).all():
        raise FormatError(f"{path}: its {key} is {one_line(text, 64)}; expected {count} numbers")
    return values


def _geometry(path, header):
    """Array index to LPS mm, (4, 4), and notes."""
    dimension = int(header["NDims"])
    axes = min(dimension, 3)
    spacing = _numbers(path, header, SPACINGS, dimension, np.ones(dimension))
    if spacing.min() <= 0:
        raise GeometryError(f"{path}: its voxel size is {spacing.tolist()}; expected numbers above 0")
    origin = _numbers(path, header, ORIGINS, dimension, np.zeros(dimension))
    matrix = _numbers(path, header, MATRICES, dimension**2, np.eye(dimension).ravel()).reshape(dimension, -1)
    lengths = np.linalg.norm(matrix, axis=1)
    if np.abs(lengths - 1).max() > UNIT:
        name = next(key for key in MATRICES if key in header)
        raise GeometryError(
            f"{path}: the axes in its {name} have the lengths {lengths.round(4).tolist()}; expected 1, for "
            "ElementSpacing has the voxel size; put one of them right"
        )
    unit, notes = millimetres(path, [header.get("DistanceUnits", "mm")])
    affine = np.eye(4)  # of (x, y, z)
    affine[:axes, :axes] = (matrix.T * spacing)[:axes, :axes]
    affine[:axes, 3] = origin[:axes]
    affine[:axes] *= unit[0]
    if axes == 2:
        notes += single_slice_note(1, None)
    return affine[:, [2, 1, 0, 3]], notes


def _notes(header):
    """What the header leaves open; its AnatomicalOrientation, read in two ways, decides nothing."""
    notes = ()
    if not header.keys() & set(MATRICES):
        notes += ("the header gives no orientation (TransformMatrix): LPS directions are unknown",)
    if not header.keys() & set(SPACINGS):
        notes += ("the header gives no voxel size (ElementSpacing); 1 mm was assumed",)
    if any(key.startswith("Seq_Frame") for key in header):
        notes += ("a tracked sweep, no volume: the pose of each frame, in the header, was not used",)
    return notes
