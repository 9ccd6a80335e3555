"""NIfTI, MetaImage and NRRD through SimpleITK, which gives directions and origin in LPS (chapter 02).

ITK trusts its files: in a NIfTI it replaces NaN and whatever was cut off by zeros, in silence, and a damaged
MetaImage can end the process. So headers and sizes are checked here before it reads any voxel.
"""

import gzip

import numpy as np

from .dicom_frames import choose, one_line
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
LARGEST_RATIO = 1100  # deflate packs at most 1032 to 1


def extension(path):
    """The extension of a Path in lower case, ``.nii.gz`` as a whole."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def read_itk(path, frame=None):
    """Read a volume; see `segdet.files.load_volume`."""
    import SimpleITK as sitk

    image_io, name = FORMATS[extension(path)]
    if name == "MetaImage":
        _check_meta_header(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_size(path, reader)
        if name == "NIfTI":
            _check_nifti_voxels(path, reader)
        image = reader.Execute()
    except RuntimeError as error:
        reason = one_line(str(error).strip().splitlines()[-1])
        raise FormatError(f"{path}: not a readable {name} file: {reason}") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        found = image.GetNumberOfComponentsPerPixel()
        raise FormatError(f"{path}: {found} values a voxel; expected one intensity")
    notes = _header_notes(image)
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
        notes += ("a single slice of unknown thickness; 1 mm was assumed",)
    voxels = sitk.GetArrayFromImage(image)  # (..., slices, rows, columns)
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
    sitk.WriteImage(image, str(path), useCompression=True)


def _check_meta_header(path):
    """Refuse what makes ITK's MetaImage reader write past its memory: text voxels, odd sizes or file names."""
    header = {}
    with open(path, "rb") as file:
        while "ElementDataFile" not in header and (line := file.readline(1 << 20)):
            key, _, value = line.decode("latin-1").partition("=")
            header[key.strip()] = value.strip()
    dimensions, size = header.get("NDims", ""), header.get("DimSize", "").split()
    binary, data = header.get("BinaryData", "").lower() == "true", header.get("ElementDataFile", "")
    beside = data in (file.name for file in path.parent.iterdir())
    regular = dimensions in ("2", "3", "4") and len(size) == int(dimensions) and all(map(str.isdecimal, size))
    if not (regular and binary and (data == "LOCAL" or beside)):
        raise FormatError(
            f"{path}: not a readable MetaImage file; expected NDims, as many numbers in DimSize, BinaryData = True, "
            "and ElementDataFile = LOCAL or a file beside it"
        )


def _check_size(path, reader):
    """Refuse a header that announces more than its file can hold, before memory is asked for."""
    announced = float(np.prod([float(n) for n in reader.GetSize()]) * reader.GetNumberOfComponents())
    files = [path]
    if extension(path) in (".mhd", ".nhdr"):  # the voxels are in other files of the folder
        files = [file for file in path.parent.iterdir() if file.is_file()]
    held = sum(file.stat().st_size for file in files)
    if extension(path) == ".nii":
        announced *= int(reader.GetMetaData("bitpix")) / 8
    if announced > held * (1 if extension(path) == ".nii" else LARGEST_RATIO):
        text = " x ".join(map(str, reader.GetSize()))
        raise FormatError(
            f"{path}: announces {text} voxels, more than {held} bytes hold; it is cut or its header wrong"
        )


def _check_nifti_voxels(path, reader):
    """Refuse a NIfTI that ends early or holds NaN or infinity; ITK would put zeros there without a word."""
    bits, offset = int(reader.GetMetaData("bitpix")), int(float(reader.GetMetaData("vox_offset")))
    needed = offset + int(np.prod(reader.GetSize())) * bits // 8
    with (gzip.open if extension(path) == ".nii.gz" else open)(path, "rb") as file:
        content = file.read(needed)
        while file.read(1 << 20):  # to the end, where gzip keeps its checksum
            pass
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
