"""MetaImage and NRRD through SimpleITK, which gives directions and origin in LPS (chapter 02).

ITK trusts its files, a damaged MetaImage can end the process, and it drops what geometry rests on: units of length,
and whether a voxel size or a patient space was given at all. So headers and sizes are read here before any voxel.
"""

import os
import re
from math import prod
from posixpath import normpath

import numpy as np

from ..errors import FormatError, GeometryError
from ..volume import Volume
from .checks import NO_UNIT, choose, chosen_note, extension, one_line, room, single_slice_note

FORMATS = {
    ".mha": ("MetaImageIO", "MetaImage"),
    ".mhd": ("MetaImageIO", "MetaImage"),
    ".nrrd": ("NrrdImageIO", "NRRD"),
    ".nhdr": ("NrrdImageIO", "NRRD"),
}
SMALL = 256 << 20  # bytes that are never too many: a mask of 512 x 512 x 1024 packs a thousand to one
TO_LPS = {"right-anterior-superior-time": [[-1], [-1]], "left-anterior-superior-time": [[1], [-1]]}
NUMBERS = dict.fromkeys(("ElementSpacing", "ElementSize", "Offset", "Position", "Origin"), 1) | dict.fromkeys(
    ("TransformMatrix", "Rotation", "Orientation"), 2
)  # of a MetaImage: one for each dimension, or a square of them
UNIT = 0.01  # by which the length of an axis may be off 1
UNKNOWN = ("", "?", "???", "unknown")
MILLIMETRES = dict.fromkeys(UNKNOWN, 1.0) | {
    name: size
    for size, names in (
        (1e-3, "um \u00b5m \u03bcm micron microns micrometer micrometers micrometre micrometres"),
        (1.0, "mm millimeter millimeters millimetre millimetres"),
        (10.0, "cm centimeter centimeters centimetre centimetres"),
        (1000.0, "m meter meters metre metres"),
    )
    for name in names.split()
}


def read_itk(path, frame=None):
    """Read a volume; see `segdet.io.files.load_volume`."""
    import SimpleITK as sitk

    image_io, name = FORMATS[extension(path)]
    files = [path]
    if extension(path) in (".mhd", ".nhdr"):  # the voxels are in other files of the folder
        files = [file for file in path.parent.iterdir() if file.is_file()]
    held = sum(file.stat().st_size for file in files)
    header = _meta_header(path) if name == "MetaImage" else _nrrd_header(path, held)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_components(path, reader)
        item = sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        packed = header.get("encoding", "raw") != "raw" or header.get("CompressedData", "")[:1] in ("T", "t", "1")
        check_size(path, [*reader.GetSize(), reader.GetNumberOfComponents()], item, held, packed)
        image = reader.Execute()
    except RuntimeError as error:
        lines = [line for line in str(error).strip().splitlines() if line != "Reason: Success"]
        reason = re.sub(r"ITK ERROR: \w+\(0x\w+\): ", "", lines[-1])
        raise FormatError(f"{path}: not a readable {name} file: {one_line(reason)}") from error
    notes = _meta_notes(header) if name == "MetaImage" else _nrrd_notes(header, image)
    affine, said = _geometry(path, image, header)
    voxels = sitk.GetArrayViewFromImage(image)  # (..., slices, rows, columns), then the components
    if image.GetNumberOfComponentsPerPixel() > 1:
        voxels = np.moveaxis(voxels, -1, 0)
    voxels = voxels.reshape(-1, *(*image.GetSize(), 1)[2::-1])
    chosen = choose(path, len(voxels), frame)
    notes += said + chosen_note(chosen, len(voxels))
    meta = {"format": name, "time_points": len(voxels), "frame": chosen}
    return Volume(voxels[chosen].copy(), affine, name=path.name, notes=notes, meta=meta)


def write_itk(voxels, like, path):
    """Write voxels on the grid of the Volume `like`, compressed where the format can."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(voxels)
    spacing = like.spacing[::-1]
    image.SetSpacing(spacing)
    image.SetOrigin(like.affine[:3, 3].tolist())
    image.SetDirection((like.affine[:3, 2::-1] / spacing).ravel().tolist())
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:  # its reason is in the last line
        raise OSError(one_line(str(error).strip().splitlines()[-1])) from error


def check_size(path, sizes, item, held, packed=True):
    """Refuse a header that announces more than its file can hold, before memory is asked for.

    Parameters
    ----------
    path : Path
    sizes : list of int
        Of all axes, the fastest first.
    item : int
        Bytes a value.
    held : int
        Bytes of the files.
    packed : bool
        Whether the voxels may be compressed.

    Returns
    -------
    int
        The bytes that the voxels may take.
    """
    limit, needed = room(held, SMALL), prod(sizes) * item
    if needed > (limit if packed else held):
        text = " x ".join(str(size) for size in sizes if size > 1)
        raise FormatError(
            f"{path}: announces {text} voxels ({needed} bytes), its file holds {held}; it is cut or its header "
            "wrong; if not, store it uncompressed or in a smaller type"
        )
    return limit


def _check_components(path, reader):
    """Refuse colours and vectors; the axis "list" of an NRRD (a sequence of Slicer), which ITK puts there, is none."""
    pixel = "NRRD_kinds[pixel]"
    components = reader.GetNumberOfComponents()
    if components > 1 and not (reader.HasMetaDataKey(pixel) and reader.GetMetaData(pixel) == "list"):
        raise FormatError(f"{path}: {components} values a voxel; expected one intensity")


def _meta_header(path):
    """The fields; refuses what makes ITK write past its memory: text voxels, odd sizes or file names."""
    header, unique = {}, True
    with open(path, "rb") as file:
        while "ElementDataFile" not in header and (line := file.readline(1 << 20)):
            key, value = (*re.split("[=:]", os.fsdecode(line), maxsplit=1), "")[:2]
            unique &= key.strip() not in header or key.strip() not in ("NDims", "DimSize", "BinaryData")
            header[key.strip()] = value.strip()
    dimensions, size = header.get("NDims", ""), header.get("DimSize", "").split()
    binary, data = header.get("BinaryData", "").lower() == "true", header.get("ElementDataFile", "")
    beside = normpath(data) in (file.name for file in path.parent.iterdir())
    regular = dimensions in ("2", "3", "4") and len(size) == int(dimensions) and all(map(str.isdecimal, size))
    if not (unique and regular and binary and (data == "LOCAL" or beside)):
        raise FormatError(
            f"{path}: not a readable MetaImage file; expected NDims, as many numbers in DimSize, BinaryData = True, "
            "each once, and ElementDataFile = LOCAL or a file beside it"
        )
    _check_numbers(path, header, int(dimensions))
    return header


def _check_numbers(path, header, dimensions):
    """Refuse places and axes that ITK would read in part, or stretch the voxels by."""
    for key in header.keys() & NUMBERS.keys():
        found, count = header[key].split(), dimensions ** NUMBERS[key]
        try:
            values = np.array(found, float)
        except ValueError:
            values = np.array([np.nan])
        if len(values) != count or not np.isfinite(values).all():
            raise FormatError(f"{path}: its {key} is {one_line(header[key], 64)}; expected {count} numbers")
        lengths = np.linalg.norm(values.reshape(-1, dimensions), axis=1)
        if NUMBERS[key] == 2 and np.abs(lengths - 1).max() > UNIT:
            raise GeometryError(
                f"{path}: the axes in its {key} have the lengths {lengths.round(4).tolist()}; expected 1, for "
                "ElementSpacing has the voxel size; put one of them right"
            )


def _nrrd_header(path, held):
    """The fields, their names in lower case and without spaces, as the format allows.

    Refuses long fields, which end the process, and to skip more than is there, which takes ITK minutes.
    """
    with open(path, "rb") as file:
        header = re.split(rb"\r?\n\r?\n", file.read(1 << 20), maxsplit=1)[0]
    lines = [line for line in header.splitlines() if not re.match(rb"#|content:|[^:]*:=", line)]
    fields = {}
    for line in lines:
        key, _, value = os.fsdecode(line).partition(":")
        fields[key.replace(" ", "").lower()] = value.strip()
    skips = re.findall(rb"^(?:byte|line) ?skip: *(\d+)", header, re.IGNORECASE | re.MULTILINE)
    endless = len(header) == 1 << 20 or any(len(line) > 512 for line in lines)
    if endless or any(int(skip) > held for skip in skips):
        raise FormatError(
            f"{path}: not a readable NRRD file; expected fields of at most 512 characters that skip no more than the "
            f"{held} bytes that are there"
        )
    return fields


def _meta_notes(header):
    """What the header of a MetaImage leaves open; its AnatomicalOrientation, read in two ways, decides nothing."""
    notes = ()
    if not header.keys() & {"TransformMatrix", "Rotation", "Orientation"}:
        notes += ("the header gives no orientation (TransformMatrix): LPS directions are unknown",)
    if not header.keys() & {"ElementSpacing", "ElementSize"}:
        notes += ("the header gives no voxel size (ElementSpacing); 1 mm was assumed",)
    if any(key.startswith("Seq_Frame") for key in header):
        notes += ("a tracked sweep, no volume: the pose of each frame, in the header, was not used",)
    return notes


def _nrrd_notes(header, image):
    """What the header of an NRRD leaves open."""
    space, notes = _space(image), ()
    if not space.endswith(("superior", "superior-time")):
        notes += (f"the space of the header is {space or 'not given'}: LPS directions are unknown",)
    if "spacedirections" in header:  # a vector, "none" or one of nan for each axis
        given = re.findall(r"\([^()n]*\)", header["spacedirections"], re.IGNORECASE)
    else:
        given = re.findall(r"[-+.\d][-+.\de]*", header.get("spacings", ""), re.IGNORECASE)
    if len(given) < (axes := min(image.GetDimension(), 3)):
        notes += (f"the header gives the voxel size of {len(given)} of {axes} axes; 1 mm was assumed for the others",)
    return notes


def _space(image):
    """The space of an NRRD, or nothing; ITK has turned RAS and LAS into LPS, but not those with a fourth axis."""
    return image.GetMetaData("NRRD_space") if image.HasMetaDataKey("NRRD_space") else ""


def _geometry(path, image, header):
    """Array index to LPS mm, (4, 4), and notes."""
    dimension = image.GetDimension()
    axes = min(dimension, 3)
    factors, notes = _millimetres(path, header, image, axes)
    affine = np.eye(4)  # of (x, y, z), in the file's unit
    affine[:axes, :axes] = (np.reshape(image.GetDirection(), (dimension, -1)) * image.GetSpacing())[:axes, :axes]
    affine[:axes, 3] = image.GetOrigin()[:axes]
    affine[:axes] *= np.reshape(factors, (-1, 1))
    affine[:2] *= TO_LPS.get(_space(image), 1)
    if axes == 2:
        notes += single_slice_note(1, None)
    return affine[:, [2, 1, 0, 3]], notes


def _millimetres(path, header, image, axes):
    """How many mm the unit of length has, one number or one an axis of the patient, and notes."""
    units = [header.get("DistanceUnits", "mm")]
    if "spaceunits" in header:
        units = re.findall(r'"([^"]*)"', header["spaceunits"])[:axes]
    elif "units" in header:  # of the voxel axes, which are those of the patient where there is no space
        keys = [f"NRRD_units[{axis}]" for axis in range(axes)]
        units = [image.GetMetaData(key) if image.HasMetaDataKey(key) else "" for key in keys]
    units = [unit.strip().lower() for unit in units]
    for unit in units:
        if unit not in MILLIMETRES:
            raise FormatError(f"{path}: {one_line(unit)!r} is no known unit of length; expected um, mm, cm or m")
    unknown = any(unit in UNKNOWN for unit in units)
    notes = (NO_UNIT,) if unknown else ()
    return [MILLIMETRES[unit] for unit in units], notes
