"""NIfTI, MetaImage and NRRD through SimpleITK, which gives directions and origin in LPS (chapter 02).

ITK trusts its files: in a NIfTI it replaces NaN and whatever was cut off by zeros, in silence, and a damaged
MetaImage can end the process. So headers and sizes are checked here before it reads any voxel.
"""

import gzip
import re
from math import prod

import numpy as np

from .dicom_frames import choose, one_line
from .dicom_pixels import room
from .errors import FormatError, GeometryError
from .volume import Volume

FORMATS = {
    ".nii": ("NiftiImageIO", "NIfTI"),
    ".nii.gz": ("NiftiImageIO", "NIfTI"),
    ".mha": ("MetaImageIO", "MetaImage"),
    ".mhd": ("MetaImageIO", "MetaImage"),
    ".nrrd": ("NrrdImageIO", "NRRD"),
    ".nhdr": ("NrrdImageIO", "NRRD"),
}
SMALL = 256 << 20  # bytes that are never too many: a mask of 512 x 512 x 1024 packs a thousand to one


def extension(path):
    """The extension of a Path in lower case, ``.nii.gz`` as a whole."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def read_itk(path, frame=None):
    """Read a volume; see `segdet.files.load_volume`."""
    import SimpleITK as sitk

    image_io, name = FORMATS[extension(path)]
    files = [path]
    if extension(path) in (".mhd", ".nhdr"):  # the voxels are in other files of the folder
        files = [file for file in path.parent.iterdir() if file.is_file()]
    held = sum(file.stat().st_size for file in files)
    if name == "MetaImage":
        _check_meta_header(path)
    if name == "NRRD":
        _check_nrrd_header(path, held)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        limit = _check_size(path, reader, held)
        if name == "NIfTI":
            _check_nifti_voxels(path, reader, limit)
        image = reader.Execute()
    except RuntimeError as error:
        reason = one_line(str(error).strip().splitlines()[-1])
        raise FormatError(f"{path}: not a readable {name} file: {reason}") from error
    notes = _header_notes(image)
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
        notes += ("a single slice of unknown thickness; 1 mm was assumed",)
    voxels = sitk.GetArrayViewFromImage(image)  # (..., slices, rows, columns)
    voxels = voxels.reshape(-1, *voxels.shape[-3:])
    count = len(voxels)
    chosen = choose(path, count, frame)
    if count > 1:
        notes += (f"volume {chosen + 1} of {count} was read, as frame={chosen} asked",)
    direction = np.reshape(image.GetDirection(), (image.GetDimension(), -1))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = (direction * image.GetSpacing()[:3])[:, ::-1]
    affine[:3, 3] = image.GetOrigin()[:3]
    meta = {"format": name, "time_points": count, "frame": chosen}
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


def _check_meta_header(path):
    """Refuse what makes ITK's MetaImage reader write past its memory: text voxels, odd sizes or file names."""
    header, unique = {}, True
    with open(path, "rb") as file:
        while "ElementDataFile" not in header and (line := file.readline(1 << 20)):
            key, value = (*re.split("[=:]", line.decode("latin-1"), maxsplit=1), "")[:2]
            unique &= key.strip() not in header or key.strip() not in ("NDims", "DimSize", "BinaryData")
            header[key.strip()] = value.strip()
    dimensions, size = header.get("NDims", ""), header.get("DimSize", "").split()
    binary, data = header.get("BinaryData", "").lower() == "true", header.get("ElementDataFile", "")
    beside = data in (file.name for file in path.parent.iterdir())
    regular = dimensions in ("2", "3", "4") and len(size) == int(dimensions) and all(map(str.isdecimal, size))
    if not (unique and regular and binary and (data == "LOCAL" or beside)):
        raise FormatError(
            f"{path}: not a readable MetaImage file; expected NDims, as many numbers in DimSize, BinaryData = True, "
            "each once, and ElementDataFile = LOCAL or a file beside it"
        )


def _check_nrrd_header(path, held):
    """Refuse long fields, which end the process, and to skip more than is there, which takes ITK minutes."""
    with open(path, "rb") as file:
        header = re.split(rb"\r?\n\r?\n", file.read(1 << 20), maxsplit=1)[0]
    fields = [line for line in header.splitlines() if not re.match(rb"#|content:|[^:]*:=", line)]
    skips = re.findall(rb"^(?:byte|line) ?skip: *(\d+)", header, re.IGNORECASE | re.MULTILINE)
    endless = len(header) == 1 << 20 or any(len(field) > 512 for field in fields)
    if endless or any(int(skip) > held for skip in skips):
        raise FormatError(
            f"{path}: not a readable NRRD file; expected fields of at most 512 characters that skip no more than the "
            f"{held} bytes that are there"
        )


def _check_size(path, reader, held):
    """Refuse a header that announces more than its file can hold, before memory is asked for.

    Returns
    -------
    int
        The bytes that its voxels may take.
    """
    import SimpleITK as sitk

    if reader.GetNumberOfComponents() != 1:
        raise FormatError(f"{path}: {reader.GetNumberOfComponents()} values a voxel; expected one intensity")
    voxels, limit = prod(reader.GetSize()), room(held, SMALL)
    in_file = voxels * int(reader.GetMetaData("bitpix")) // 8 if extension(path) == ".nii" else 0
    in_memory = voxels * sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
    if in_file > held or in_memory > limit:
        text = " x ".join(map(str, reader.GetSize()))
        raise FormatError(
            f"{path}: announces {text} voxels ({in_memory} bytes), its file holds {held}; it is cut or its header "
            "wrong; if not, store it uncompressed or in a smaller type"
        )
    return limit


def _check_nifti_voxels(path, reader, limit):
    """Refuse a NIfTI that ends early or holds NaN or infinity; ITK would put zeros there without a word."""
    bits, offset = int(reader.GetMetaData("bitpix")), int(float(reader.GetMetaData("vox_offset")))
    needed, held = offset + prod(reader.GetSize()) * bits // 8, 0
    if offset > limit:
        raise FormatError(f"{path}: its voxels start at byte {offset}; the header is damaged")
    with (gzip.open if extension(path) == ".nii.gz" else open)(path, "rb") as file:
        content = file.read(needed)
        while block := file.read(1 << 20):  # to the end, where gzip keeps its checksum
            held += len(block)
            if held > limit:
                raise FormatError(f"{path}: holds {limit} bytes more than its header announces; it is damaged")
    if len(content) < needed:
        raise FormatError(f"{path}: its voxels need {needed} bytes, it holds {len(content)}; it is cut off")
    kind = {"16": "f4", "64": "f8"}.get(reader.GetMetaData("datatype"))
    order = "<" if content[0] else ">"  # the header starts with its length, 348 or 540, as an int32
    if kind and not np.isfinite(np.frombuffer(content, order + kind, offset=offset)).all():
        raise GeometryError(f"{path}: the voxels hold NaN or infinity; replace them before reading the scan")


def _header_notes(image):
    """What a NIfTI or MetaImage header leaves open."""
    keys, notes = set(image.GetMetaDataKeys()), ()
    if {"qform_code", "sform_code", "xyzt_units"} <= keys:
        if image.GetMetaData("qform_code") == image.GetMetaData("sform_code") == "0":
            notes += ("the header gives no orientation (qform and sform are 0): LPS directions are unknown",)
        if int(image.GetMetaData("xyzt_units")) % 8 == 0:
            notes += ("the header gives no unit of length; mm were assumed",)
    if any(key.startswith("Seq_Frame") for key in keys):
        notes += ("a tracked sweep, no volume: the pose of each frame, in the header, was not used",)
    return notes
