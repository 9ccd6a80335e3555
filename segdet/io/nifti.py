"""NIfTI-1 and NIfTI-2, read from the header itself, and NIfTI-1 written (https://nifti.nimh.nih.gov; chapter 02).

A NIfTI says up to three times where its voxels are: in the sform, the qform and the pixdim. The standard's rule is
that of nibabel and nearly all programs: the sform where its code is above 0, else the qform where its code is, else
the pixdim alone. What disagrees with what was taken is said in a note.
"""

import gzip
import zlib
from math import prod

import numpy as np

from ..errors import FormatError, GeometryError
from ..volume import Volume
from .checks import NO_UNIT, apart, choose, chosen_note, single_slice_note
from .itk import check_size
from .scaling import rescaled

NIFTI1 = np.dtype({
    "names": ["size", "dim", "datatype", "bits", "pixdim", "vox_offset", "scl_slope", "scl_inter", "xyzt_units",
              "qform_code", "sform_code", "quatern", "qoffset", "srow", "magic"],
    "formats": ["i4", "8i2", "i2", "i2", "8f4", "f4", "f4", "f4", "u1", "i2", "i2", "3f4", "3f4", "(3,4)f4", "S3"],
    "offsets": [0, 40, 70, 72, 76, 108, 112, 116, 123, 252, 254, 256, 268, 280, 344],
    "itemsize": 348,
})  # fmt: skip
NIFTI2 = np.dtype({
    "names": NIFTI1.names,
    "formats": ["i4", "8i8", "i2", "i2", "8f8", "i8", "f8", "f8", "i4", "i4", "i4", "3f8", "3f8", "(3,4)f8", "S3"],
    "offsets": [0, 16, 12, 14, 104, 168, 176, 184, 500, 344, 348, 352, 376, 400, 4],
    "itemsize": 540,
})  # fmt: skip
TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
COLOURS = {128: 3, 2304: 4}  # values a voxel
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown, m, mm, um: the lowest three bits of xyzt_units
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
QUATERNION = 0.01  # by which the square of a rounded one may exceed 1
LONGEST = 32767  # voxels of a side in a NIfTI-1, whose dim is of 16 bits
SCANNER = 1  # the code of a transform to the scanner's coordinates


def read_nifti(path, frame=None):
    """Read a volume, compressed or not whatever the extension says; see `segdet.io.files.load_volume`."""
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with (gzip.open if compressed else open)(path, "rb") as file:
            header, order = _header(file, path)
            kind, sizes = _layout(header, path)
            limit = check_size(path, sizes, kind.itemsize, path.stat().st_size, compressed)
            content = _content(file, path, int(header["vox_offset"]), prod(sizes) * kind.itemsize, limit)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError(f"{path}: not a readable NIfTI file: {error}") from error
    stored = np.frombuffer(content, kind.newbyteorder(order)).reshape(-1, *sizes[2::-1])
    chosen = choose(path, len(stored), frame)
    voxels = _scaled(stored[chosen].astype(kind), header, path)
    affine, notes = _geometry(header, path)
    notes += chosen_note(chosen, len(stored))
    meta = {"format": "NIfTI", "time_points": len(stored), "frame": chosen}
    return Volume(voxels, affine, name=path.name, notes=notes, meta=meta)


def check_sides(path, shape):
    """Raise FormatError where a grid has more voxels along a side than `write_nifti` can say."""
    if max(shape) > LONGEST:
        size = " x ".join(str(side) for side in shape)
        raise FormatError(f"{path}: NIfTI-1 holds no grid of {size}, a side above {LONGEST}; write .nrrd or .mha")


def write_nifti(voxels, like, path):
    """Write uint8 voxels on the grid of the Volume `like`, gzipped where the name ends in ``.gz``.

    The sform is the grid as it is, the qform the nearest one with perpendicular axes.
    """
    from scipy.spatial.transform import Rotation

    ras = TO_LPS @ like.affine[:, [2, 1, 0, 3]]
    spacing = like.spacing[::-1]
    axes = ras[:3, :3] / spacing
    turned = np.sign(np.linalg.det(axes))  # -1 where the axes are left-handed
    quaternion = Rotation.from_matrix(axes * (1, 1, turned)).as_quat(canonical=True)
    header = np.zeros((), NIFTI1.newbyteorder("<"))
    header["size"], header["vox_offset"], header["magic"] = NIFTI1.itemsize, NIFTI1.itemsize + 4, b"n+1"
    header["dim"], header["datatype"], header["bits"] = [3, *voxels.shape[::-1], 1, 1, 1, 1], 2, 8
    header["pixdim"], header["scl_slope"], header["xyzt_units"] = [turned, *spacing, 1, 1, 1, 1], 1, 2
    header["qform_code"] = header["sform_code"] = SCANNER
    header["quatern"], header["qoffset"], header["srow"] = quaternion[:3], ras[:3, 3], ras[:3]
    content = header.tobytes() + bytes(4) + voxels.tobytes()
    path.write_bytes(gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)


def _header(file, path):
    """The header as a record, and its byte order; its first four bytes are its length."""
    content = file.read(NIFTI2.itemsize)
    for layout, mark in ((NIFTI1, b"n+1"), (NIFTI2, b"n+2")):
        for order in "<>":
            if content[:4] == np.array(layout.itemsize, f"{order}i4").tobytes() and len(content) >= layout.itemsize:
                header = np.frombuffer(content, layout.newbyteorder(order), 1)[0]
                if header["magic"] == mark and header["vox_offset"] >= layout.itemsize + 4:
                    return header, order
    raise FormatError(
        f"{path}: not a readable NIfTI file; expected a header of 348 or 540 bytes with the mark n+1 or n+2, and the "
        "voxels behind it"
    )


def _layout(header, path):
    """The type of the voxels in this machine's byte order, and at least three sizes, the fastest first."""
    count, *sizes = header["dim"].tolist()
    datatype, sizes = int(header["datatype"]), sizes[: max(count, 0)]
    if not 2 <= count <= 7 or min(sizes) < 1:
        raise FormatError(f"{path}: not a readable NIfTI file; its dim is {header['dim'].tolist()}")
    values = COLOURS.get(datatype, prod(sizes[4:5]))  # the fifth axis is that of the values of a voxel
    if values > 1:
        raise FormatError(f"{path}: {values} values a voxel; expected one intensity")
    if datatype not in TYPES:
        raise FormatError(f"{path}: its data type is {datatype}; expected integers, or floats of 32 or 64 bits")
    return np.dtype(TYPES[datatype]), [*sizes, 1][: max(count, 3)]


def _content(file, path, offset, needed, limit):
    """The bytes of the voxels, read to the end of the file, where gzip keeps its checksum."""
    if offset > limit:
        raise FormatError(f"{path}: its voxels start at byte {offset}; the header is damaged")
    file.seek(offset)
    content, more = file.read(needed), 0
    if len(content) < needed:
        raise FormatError(f"{path}: its voxels need {needed} bytes, it holds {len(content)}; it is cut off")
    while block := file.read(1 << 20):
        more += len(block)
        if more > limit:
            raise FormatError(f"{path}: holds {limit} bytes more than its header announces; it is damaged")
    return content


def _scaled(voxels, header, path):
    """Voxels times slope plus intercept, as floats; as they are where the slope is 0 or no number (the standard)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0 or (slope, intercept) == (1, 0):
        return voxels
    if not np.isfinite(intercept):
        raise FormatError(f"{path}: its scl_slope is {slope:g}, its scl_inter {intercept}; expected a number")
    return rescaled(voxels, [(slope, intercept)] * len(voxels))


def _geometry(header, path):
    """Array index to LPS mm, (4, 4), and notes."""
    code, axes = int(header["xyzt_units"]) % 8, min(int(header["dim"][0]), 3)
    if code not in MILLIMETRES:
        raise FormatError(f"{path}: its xyzt_units name no unit of length ({code}); expected m, mm or um")
    unit, pixdim = MILLIMETRES[code], np.abs(header["pixdim"][1:4].astype(float))
    qform, sform = header["qform_code"] > 0, header["sform_code"] > 0
    notes = () if code else (NO_UNIT,)
    if not sform and (pixdim[:axes] == 0).any():
        notes += (f"the header gives no voxel size ({_by(pixdim[:axes])}); 1 was assumed for 0",)
    spacing = np.where(pixdim == 0, 1, pixdim)
    if sform:
        ras = np.vstack([header["srow"], [0, 0, 0, 1]]).astype(float)
    elif qform:
        ras = _qform(header, spacing)
        if not np.square(header["quatern"].astype(float)).sum() < 1 + QUATERNION:
            raise GeometryError(f"{path}: the quaternion {header['quatern'].tolist()} of its qform is no rotation")
    else:
        ras = TO_LPS @ np.diag([*spacing, 1])
        notes = ("the header gives no orientation (qform and sform are 0): LPS directions are unknown", *notes)
    lengths = np.linalg.norm(ras[:3, :3], axis=0)
    if sform and not np.allclose(lengths[:axes], pixdim[:axes], rtol=1e-3):
        notes += (f"voxels of {_by(lengths[:axes])} in the sform, {_by(pixdim[:axes])} in pixdim; the sform counts",)
    if sform and qform:
        off = apart(_qform(header, spacing), ras, header["dim"][1:4])
        if not np.isfinite(off):
            notes += ("the qform holds values that are no numbers; the sform counts",)
        elif off > 0.1 * lengths.min():  # a quaternion may be rounded
            notes += (f"sform and qform put voxels up to {off * unit:.3g} mm apart; the sform counts",)
    if axes == 2:
        notes += single_slice_note(1, lengths[2] * unit)
    affine = TO_LPS @ np.diag([unit, unit, unit, 1]) @ ras
    return affine[:, [2, 1, 0, 3]], notes


def _qform(header, spacing):
    """Index (x, y, z) to RAS in the file's unit, from the unit quaternion (a, b, c, d), a >= 0, and the voxel size."""
    quaternion = np.array([0, *header["quatern"]], float)
    rest = 1 - quaternion @ quaternion
    if rest > 3 * np.finfo(np.float32).eps:  # else b, c, d are a unit, rounded
        quaternion[0] = np.sqrt(rest)
    a, b, c, d = quaternion / np.linalg.norm(quaternion)
    rotation = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing * (1, 1, -1 if header["pixdim"][0] < 0 else 1)
    affine[:3, 3] = header["qoffset"]
    return affine


def _by(numbers):
    return " x ".join(f"{number:.4g}" for number in numbers)
