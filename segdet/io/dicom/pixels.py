"""The pixels of a DICOM file: decoded, made grey, refused where the header cannot be true of them (chapter 02)."""

import re
import zlib
from contextlib import suppress
from io import BytesIO
from math import prod

import numpy as np
import pydicom
from PIL import Image
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import apply_modality_lut, as_pixel_options, get_decoder
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ...errors import FormatError
from ...intensities import LEVELS
from ..checks import one_line, room
from .colour import codestreams, grey_colours, grey_palette

SMALL = 64 << 20  # bytes of compressed DICOM that are never too many: 256 MiB once rescaled to float32
META_START = 144  # preamble, DICM and the group length, which counts the bytes from here to the data set
FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF of JPEG (ITU T.81, table B.1) and of JPEG-LS
FLOATS = {"FloatPixelData": np.dtype(np.float32), "DoubleFloatPixelData": np.dtype(np.float64)}
PHOTOMETRIC = {
    1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_422", "YBR_PARTIAL_420"),
}
NATIVE = {(True, True): ImplicitVRLittleEndian, (False, True): ExplicitVRLittleEndian, (False, False):
          ExplicitVRBigEndian}  # fmt: skip


def open_dicom(path, **options):
    """`pydicom.dcmread`, careful with memory: long uncompressed pixel data stay in the file until they are needed.

    A file that does not say its transfer syntax, as those without the mark ``DICM``, is not compressed.
    """
    try:
        meta = read_file_meta_info(path)
    except InvalidDicomError:
        meta = {}
    syntax = meta.get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        with open(path, "rb") as file:
            file.seek(META_START + meta.FileMetaInformationGroupLength)
            _check_inflated(file.read(), path)
    elif syntax in (None, ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        options["defer_size"] = 1 << 20
    ds = pydicom.dcmread(path, force=True, **options)
    if not ds.file_meta.get("TransferSyntaxUID"):
        ds.file_meta.TransferSyntaxUID = NATIVE[ds.original_encoding]
    return ds


def _check_inflated(deflated, path):
    inflater, size, limit = zlib.decompressobj(-zlib.MAX_WBITS), 0, room(len(deflated), SMALL)
    while deflated and not inflater.eof:
        size += len(inflater.decompress(deflated, 1 << 24))
        deflated = inflater.unconsumed_tail
        if size > limit:
            raise FormatError(f"{path}: its deflated content is larger than {limit} bytes; store it uncompressed")


def grey_frames(ds, path, scales):
    """Decode the pixels of a data set into grey values that are large where the image is bright.

    Parameters
    ----------
    ds : pydicom.Dataset
    path : str or Path
    scales : iterable of (slope, intercept)
        How the voxels of the scan are rescaled, see `segdet.io.dicom.rescale.scales_of`.

    Returns
    -------
    frames : ndarray, (frames, rows, columns)
        Stored values, not rescaled.
    padded : ndarray of bool, (frames, rows, columns)
        For `without_padding`.
    notes : tuple of str
        What was done to them.
    """
    if floats := next((keyword for keyword in FLOATS if keyword in ds), None):
        pixels = _float_frames(ds, floats, path)
        return pixels, np.broadcast_to(False, pixels.shape), ()
    if ds.PhotometricInterpretation not in PHOTOMETRIC.get(ds.SamplesPerPixel, ()):
        raise FormatError(
            f"{path}: SamplesPerPixel is {ds.SamplesPerPixel}, PhotometricInterpretation "
            f"{one_line(ds.PhotometricInterpretation, 32) or 'empty'}; expected 1 with MONOCHROME1, MONOCHROME2 or "
            "PALETTE COLOR, or 3 with RGB or YBR"
        )
    if ds.SamplesPerPixel > 1:
        check_pixels(ds, stored_pixels(ds), path)
        pixels, notes = grey_colours(ds)
        return pixels, np.broadcast_to(False, pixels.shape), notes
    pixels, lut, notes = decoded(ds, stored_pixels(ds), path), ds.get("ModalityLUTSequence"), ()
    padded = _padding(pixels, ds)
    if _lowest_bit(ds):
        notes = (f"the values were taken from bits {_lowest_bit(ds)} to {ds.HighBit}, where HighBit puts them",)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        pixels, of_palette = grey_palette(pixels, ds, path)
        notes += of_palette
    if lut:
        pixels, notes = apply_modality_lut(pixels.astype(np.int32), ds), (*notes, "its Modality LUT was applied")
    if ds.PhotometricInterpretation == "MONOCHROME1":
        if not stays_dark(ds, scales):
            # The stored values fill -2^(n-1) to 2^(n-1) - 1, or 0 to 2^n - 1; the ends change places.
            np.subtract(-1 if ds.PixelRepresentation else 2**ds.BitsStored - 1, pixels, out=pixels)
            notes += ("MONOCHROME1, large values were dark: inverted, so that large values are bright",)
        else:
            notes += ("MONOCHROME1, large values are dark: kept, for rescaled values are physical",)
    return pixels, padded, notes


def _padding(pixels, ds):
    """Where stored values are padding by the header (C.7.5.1.1.2), which no scanner measured: bool, as the pixels."""
    value, limit = ds.get("PixelPaddingValue"), ds.get("PixelPaddingRangeLimit")
    if value is None:
        return np.broadcast_to(False, pixels.shape)
    ends = np.array([value, value if limit is None else limit]).astype(pixels.dtype)  # 63536 means -2000 if signed
    return (pixels >= ends.min()) & (pixels <= ends.max())


def without_padding(voxels, padded):
    """Rescaled voxels with padding as dark as the darkest others, and a tuple of notes.

    A scan of fewer than `LEVELS` other values holds labels; it stays as it is.
    """
    if not padded.any() or padded.all() or len(np.unique(voxels[~padded])) < LEVELS:
        return voxels, ()
    filled = np.where(padded, voxels[~padded].min(), voxels)
    count = f"{padded.sum()} of {padded.size} voxels"
    return filled, (f"{count} are padding, by the header: they were made as dark as the darkest others",)


def is_coloured(ds):
    """Whether the stored values of an image are colours: three samples a pixel, or indices into a palette."""
    return ds.get("SamplesPerPixel") == 3 or ds.get("PhotometricInterpretation") == "PALETTE COLOR"


def stays_dark(ds, scales):
    """Whether the large values of an image are dark in what `grey_frames` makes of it: MONOCHROME1 that is physical."""
    physical = set(scales) != {(1, 0)} or ds.get("ModalityLUTSequence") or any(keyword in ds for keyword in FLOATS)
    return ds.get("PhotometricInterpretation") == "MONOCHROME1" and bool(physical)


def check_ranges(slices, path):
    """Refuse MONOCHROME1 slices beside some whose stored values fill another range, which has another middle.

    Raises
    ------
    FormatError
    """
    ranges = {(ds.get("PixelRepresentation") or 0, ds.get("BitsStored") or 0) for ds in slices}
    if len(ranges) > 1 and any(ds.get("PhotometricInterpretation") == "MONOCHROME1" for ds in slices):
        found = ", ".join(f"{bits} bits {'signed' if signed else 'unsigned'}" for signed, bits in sorted(ranges))
        raise FormatError(
            f"{path}: its slices hold values of {found}, and some are MONOCHROME1: inverted, these would be of another "
            "scale than the others; export the series again with equal slices"
        )


def _float_frames(ds, keyword, path):
    """Pixels that are stored as floats (PS3.3, C.7.6.24 and 25), (frames, rows, columns)."""
    stored, shape = ds[keyword].value or b"", (int(ds.get("NumberOfFrames") or 1), int(ds.Rows), int(ds.Columns))
    order = "<" if ds.original_encoding[1] else ">"
    if len(stored) != prod(shape) * FLOATS[keyword].itemsize:
        raise FormatError(f"{path}: {keyword} holds {len(stored)} bytes; expected {shape} pixels of {FLOATS[keyword]}")
    return np.frombuffer(stored, FLOATS[keyword].newbyteorder(order)).reshape(shape).astype(FLOATS[keyword])


def decoded(ds, stored, path):
    """The stored values of an image of one sample a pixel, (frames, rows, columns), checked before they are decoded.

    Overlays or copies of the sign in bits beyond those stored are removed, whatever the decoder left there.
    """
    shape = check_pixels(ds, stored, path)
    syntax = ds.file_meta.TransferSyntaxUID
    if ds.BitsAllocated == 1 and not syntax.is_encapsulated:  # frames follow each other without a gap
        return np.unpackbits(np.frombuffer(stored, np.uint8), count=prod(shape), bitorder="little").reshape(shape)
    source = ds if isinstance(stored, bytes) else memoryview(stored)
    options = {} if source is ds else {"pixel_keyword": "PixelData", **as_pixel_options(ds)}
    options["correct_unused_bits"] = False
    pixels, _ = get_decoder(syntax).as_array(source, **options)
    if pixels.size != prod(shape):  # pydicom decodes what is there
        found = pixels.size // prod(shape[1:])
        raise FormatError(f"{path}: announces {shape[0]} frames, but holds {found}; put its NumberOfFrames right")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False).reshape(shape)
    spare = 8 * pixels.itemsize - ds.BitsStored
    if spare:
        np.left_shift(pixels, spare - _lowest_bit(ds), out=pixels)
        np.right_shift(pixels, spare, out=pixels)
    return pixels


def _lowest_bit(ds):
    """Where a value begins in its cell: 0, or above other bits (High Bit, once allowed by PS3.5, 8.1.1).

    JPEG and its kin hold the value alone.
    """
    lowest = (ds.get("HighBit") or 0) + 1 - ds.BitsStored
    in_cells = ds.file_meta.TransferSyntaxUID in (*NATIVE.values(), DeflatedExplicitVRLittleEndian, RLELossless)
    return lowest if in_cells and 0 < lowest <= ds.BitsAllocated - ds.BitsStored else 0


def check_pixels(ds, stored, path):
    """Refuse stored pixels that cannot be what the header announces, before a decoder asks for the memory.

    Returns
    -------
    tuple of int
        (frames, rows, columns)
    """
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        _check_decoder(syntax, path)
    if not 0 < ds.BitsStored <= ds.BitsAllocated:
        raise FormatError(f"{path}: announces {ds.BitsStored} bits stored of {ds.BitsAllocated}; its header is wrong")
    expected, held = get_expected_length(ds), len(stored)
    shape = frames, rows, columns = int(ds.get("NumberOfFrames") or 1), int(ds.Rows), int(ds.Columns)
    if min(shape) < 1 or expected > (room(held, SMALL) if syntax.is_encapsulated else held):
        raise FormatError(
            f"{path}: the header announces {frames} frames of {rows} x {columns} pixels ({expected} bytes), "
            f"the pixel data hold {held} bytes{' compressed' * syntax.is_encapsulated}; the file is cut off or its "
            "header is wrong"
        )
    if syntax.is_encapsulated:
        _check_codestreams(ds, stored, shape, path)
    return shape


def _check_decoder(syntax, path):
    """Refuse a compressed syntax that cannot be decoded here, naming what would decode it."""
    install = ""
    with suppress(NotImplementedError):  # video, or a syntax of one vendor
        decoder = get_decoder(syntax)
        if decoder.is_available:
            return
        needed = dict.fromkeys(re.findall(r"pylibjpeg[-\w]*", " ".join(decoder.missing_dependencies)))
        install = f"pip install {' '.join(needed)}, or "
    raise FormatError(
        f"{path}: its pixels are stored as {one_line(syntax.name, 100)}, for which no decoder is installed; "
        f"{install}convert it to an uncompressed file first, with gdcmconv --raw or dcmdjpeg"
    )


def _check_codestreams(ds, stored, shape, path):
    """Refuse compressed frames of another number or size than announced: decoders believe the frames alone."""
    frames, *size = *shape, int(ds.SamplesPerPixel)
    # RLE states no size. Its runs make 64 bytes of one, whatever the header says, so long frames are refused.
    longest = min(2 * get_expected_length(ds) // frames + 64, 12 << 20)
    count = 0
    for count, code in enumerate(codestreams(ds, stored), 1):
        if ds.file_meta.TransferSyntaxUID == RLELossless:
            stated = size if len(code) <= longest else f"{len(code)} bytes, too many to decode safely"
        else:
            stated = stated_size(code)
        if stated != size:
            raise FormatError(
                f"{path}: the header announces {size} rows, columns and samples, compressed frame {count} holds "
                f"{stated}; the file is damaged, or else decompress it first, with gdcmconv --raw"
            )
    if count != frames:
        raise FormatError(f"{path}: announces {frames} frames, but holds {count}; it is cut off or its header wrong")


def stated_size(code):
    """[rows, columns, samples] that a JPEG, JPEG-LS or JPEG 2000 codestream states itself."""
    if code[:2] != b"\xff\xd8":  # not JPEG or JPEG-LS, whose frame header Pillow does not know
        image = Image.open(BytesIO(code), formats=("JPEG2000",))
        return [image.height, image.width, len(image.getbands())]
    at = 2
    while at + 9 < len(code) and code[at] == 0xFF:
        if code[at + 1] in FRAME_HEADERS:
            return [int.from_bytes(code[at + 5 : at + 7]), int.from_bytes(code[at + 7 : at + 9]), code[at + 9]]
        # a marker may be led by fill bytes (ITU T.81, B.1.1.2)
        at += 1 if code[at + 1] == 0xFF else 2 + int.from_bytes(code[at + 2 : at + 4])
    return "no size"


def stored_pixels(ds):
    """The pixel data as stored: bytes, or an array where they were left in the file, which saves a copy."""
    element = ds.get_item("PixelData", keep_deferred=True)
    if element is None or element.value is not None:
        return ds.get("PixelData") or b""
    return np.fromfile(ds.filename, np.uint8, element.length, offset=element.value_tell)
