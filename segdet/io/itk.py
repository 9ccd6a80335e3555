"""NRRD through SimpleITK, which gives directions and origin in LPS, and writing NRRD and MetaImage (chapter 02).

ITK trusts its files, and it drops what geometry rests on: units of length, and whether a voxel size or a patient space
was given at all. So headers and sizes are read here before any voxel.
"""

import os
import re
from math import prod

import numpy as np

from ..errors import FormatError
from ..volume import Volume
from .checks import NO_UNIT, choose, chosen_note, extension, one_line, room, single_slice_note

SMALL = 256 << 20  # bytes that are never too many: a mask of 512 x 512 x 1024 packs a thousand to one
TO_LPS = {"right-anterior-superior-time": [[-1], [-1]], "left-anterior-superior-time": [[1], [-1]]}
NO_KIND = ("none", "???")
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


def read_nrrd(path, frame=None):
    """Read a volume; see `segdet.io.files.load_volume`."""
    import SimpleITK as sitk

    files = [path]
    if extension(path) == ".nhdr":  # the voxels are in other files of the folder
        files = [file for file in path.parent.iterdir() if file.is_file()]
    held = sum(file.stat().st_size for file in files)
    header = _header(path, held)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_components(path, reader)
        item = sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        packed = header.get("encoding", "raw") != "raw"
        check_size(path, [*reader.GetSize(), reader.GetNumberOfComponents()], item, held, packed)
        image = reader.Execute()
    except RuntimeError as error:
        raise FormatError(f"{path}: not a readable NRRD file: {_reason(error)}") from error
    spatial, given = _spatial(path, header, image)
    notes = _notes(image, given)
    affine, said = _geometry(path, image, header, spatial)
    voxels = sitk.GetArrayViewFromImage(image)  # (..., slices, rows, columns), then the components
    if image.GetNumberOfComponentsPerPixel() > 1:
        voxels = np.moveaxis(voxels, -1, 0)
    voxels = np.moveaxis(voxels, [-1 - axis for axis in spatial], range(-1, -1 - len(spatial), -1))
    voxels = voxels.reshape(-1, *(*[image.GetSize()[axis] for axis in spatial], 1)[2::-1])
    chosen = choose(path, len(voxels), frame)
    notes += said + chosen_note(chosen, len(voxels))
    meta = {"format": "NRRD", "time_points": len(voxels), "frame": chosen}
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


def _reason(error):
    """What ITK says is wrong, without addresses, places in its code, and the matrices that it prints below."""
    lines = [line for line in str(error).strip().splitlines() if line != "Reason: Success"]
    told = [line for line in lines if "ITK ERROR: " in line and not line.endswith(":")] or lines[-1:]
    return one_line(re.sub(r".*ITK ERROR: \w+\(0x\w+\): |^\[nrrd\] \w+: ", "", told[-1]))


def _check_components(path, reader):
    """Refuse colours and vectors; the axis "list" of an NRRD (a sequence of Slicer), which ITK puts there, is none."""
    pixel = "NRRD_kinds[pixel]"
    components = reader.GetNumberOfComponents()
    if components > 1 and not (reader.HasMetaDataKey(pixel) and reader.GetMetaData(pixel) == "list"):
        raise FormatError(f"{path}: {components} values a voxel; expected one intensity")


def _header(path, held):
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
    if path.suffix.lower() == ".nrrd" and "datafile" in fields:
        raise FormatError(f"{path}: its voxels are in another file, {one_line(fields['datafile'], 64)}; name it .nhdr")
    endless = len(header) == 1 << 20 or any(len(line) > 512 for line in lines)
    if endless or any(int(skip) > held for skip in skips):
        raise FormatError(
            f"{path}: not a readable NRRD file; expected fields of at most 512 characters that skip no more than the "
            f"{held} bytes that are there"
        )
    return fields


def _spatial(path, header, image):
    """The axes of the image that span space, and whether the header gives the voxel size of each.

    A time is no space, nor is what runs along the time of a patient in time, and of more than three axes neither are
    those of no kind; where all are "domain", as ITK writes them, the last are none. ITK takes all for space but
    components, such as those of a "list".
    """
    dimension = image.GetDimension()
    kinds, given = _of_axes(header, dimension)
    others = list(range(3, dimension))
    times = [axis for axis, kind in enumerate(kinds) if kind == "time"] or _along_time(image)
    unknown = [axis for axis, kind in enumerate(kinds) if kind in NO_KIND and others]
    sure = len(said := times or unknown) == max(len(others), 1)
    if sure:
        others = said
    spatial = [axis for axis in range(dimension) if axis not in others]
    guessed = any(given[axis] for axis in others) and not all(given[axis] for axis in spatial)
    unclear = not sure and (times or unknown or guessed)
    placed = dimension < 4 and others and "spacedirections" in header  # a time that has a direction of space
    if unclear or placed or len(spatial) < 2:
        raise FormatError(
            f"{path}: which of its {dimension} axes span space is unclear, its kinds are "
            f"{one_line(header.get('kinds', 'not given'), 64)}; expected two or three domain, and the others list"
        )
    given = [given[axis] for axis in spatial]
    if not all(given) and "axismaxs" in header:  # ITK would take the ends for the origin alone
        raise FormatError(
            f"{path}: gives the ends of its axes (axis mins, axis maxs) and not the size of its voxels; put in "
            "spacings or space directions"
        )
    return spatial, given


def _of_axes(header, dimension):
    """The kinds of the axes of an image, and whether the header gives their voxel sizes; that of components is none."""
    kinds = header.get("kinds", "").lower().split()
    pixel = [axis for axis, kind in enumerate(kinds) if kind not in ("domain", "space", "time", *NO_KIND)]
    sizes = header.get("spacedirections", header.get("spacings", ""))  # a number, a vector, "none" or of nan for each
    given = ["n" not in size.lower() for size in re.findall(r"\([^)]*\)|[^\s()]+", sizes)]
    kinds, given = ([value for axis, value in enumerate(values) if axis not in pixel] for values in (kinds, given))
    return kinds or ["none"] * dimension, given or [False] * dimension


def _along_time(image):
    """The axes that run along time where the space of the header has one."""
    steps = image.GetDirection()[-image.GetDimension() :]  # of all axes along the last of the space
    return [axis for axis, step in enumerate(steps) if step and _space(image).endswith("-time")]


def _notes(image, given):
    """What the header of an NRRD leaves open; `given` has whether it gives the voxel size of each axis."""
    space, notes = _space(image), ()
    if not space.endswith(("superior", "superior-time")):
        notes += (f"the space of the header is {space or 'not given'}: LPS directions are unknown",)
    if not all(given):
        notes += (
            f"the header gives the voxel size of {sum(given)} of {len(given)} axes; 1 mm was assumed for the others",
        )
    return notes


def _space(image):
    """The space of an NRRD, or nothing; ITK has turned RAS and LAS into LPS, but not those with a fourth axis."""
    return image.GetMetaData("NRRD_space") if image.HasMetaDataKey("NRRD_space") else ""


def _geometry(path, image, header, spatial):
    """Array index to LPS mm, (4, 4), and notes."""
    dimension, axes = image.GetDimension(), len(spatial)
    rows = list(range(axes)) if "spacedirections" in header else spatial  # without, those of space are those of voxels
    factors, notes = millimetres(path, _units(header, image, rows))
    affine = np.eye(4)  # of (x, y, z), in the file's unit
    matrix = np.reshape(image.GetDirection(), (dimension, -1)) * image.GetSpacing()
    affine[:axes, :axes] = matrix[np.ix_(rows, spatial)]
    affine[:axes, 3] = np.take(image.GetOrigin(), rows)
    affine[:axes] *= np.reshape(factors, (-1, 1))
    affine[:2] *= TO_LPS.get(_space(image), 1)
    if axes == 2:
        notes += single_slice_note(1, None)
    return affine[:, [2, 1, 0, 3]], notes


def _units(header, image, axes):
    """The names of the units of length, of the axes of the patient or of the voxels."""
    if "spaceunits" in header:
        return re.findall(r'"([^"]*)"', header["spaceunits"])[: len(axes)]
    if "units" not in header:
        return ["mm"]
    keys = [f"NRRD_units[{axis}]" for axis in axes]  # which are those of the patient where there is no space
    return [image.GetMetaData(key) if image.HasMetaDataKey(key) else "" for key in keys]


def millimetres(path, units):
    """How many mm units of length have, by their names, and notes."""
    units = [unit.strip().lower() for unit in units]
    for unit in units:
        if unit not in MILLIMETRES:
            raise FormatError(f"{path}: {one_line(unit)!r} is no known unit of length; expected um, mm, cm or m")
    unknown = any(unit in UNKNOWN for unit in units)
    return [MILLIMETRES[unit] for unit in units], (NO_UNIT,) if unknown else ()
