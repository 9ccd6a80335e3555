"""Colours of a DICOM image made grey: RGB, YCbCr, palettes, and JPEGs that hold another than they say (chapter 02)."""

from io import BytesIO

import numpy as np
from PIL import Image
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, iter_pixels
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

from ...errors import FormatError

COLOUR_NOTE = "the colours were turned into grey (BT.601 luma)"


def grey_colours(ds):
    """The frames of an image of three samples a pixel as grey, (frames, rows, columns), and what was done.

    Frame by frame, for the weights take four times the memory.
    """
    if ds.file_meta.TransferSyntaxUID not in (JPEGBaseline8Bit, JPEGExtended12Bit):
        return np.stack([luma(frame) for frame in iter_pixels(ds)]), (COLOUR_NOTE,)
    frames, notes = [], {COLOUR_NOTE: None}
    for code in codestreams(ds, ds.PixelData):
        colours, held = _jpeg_colours(code, ds.PhotometricInterpretation)
        frames.append(luma(colours))
        if held != ds.PhotometricInterpretation[:3]:
            notes[f"the header says {ds.PhotometricInterpretation[:3]}, the JPEG itself {held}: read as {held}"] = None
    return np.stack(frames), tuple(notes)


def codestreams(ds, stored):
    """The compressed frames in the stored pixels of a data set, one after the other."""
    table = ds.get("ExtendedOffsetTable"), ds.get("ExtendedOffsetTableLengths")
    count = int(ds.get("NumberOfFrames") or 1)
    return generate_frames(stored, number_of_frames=count, extended_offsets=table if all(table) else None)


def _jpeg_colours(code, header):
    """The red, green and blue of a JPEG, and whether it holds "RGB" or "YBR".

    The mark of JFIF or Adobe in the JPEG decides, else the names of its components: 1, 2, 3 are those of YCbCr, and
    R, G, B. Where the JPEG says nothing the header is believed.
    """
    image = Image.open(BytesIO(code), formats=("JPEG",))
    names = [component[0] for component in image.layer]
    if "adobe_transform" in image.info:
        rgb = image.info["adobe_transform"] == 0
    else:
        rgb = names == [*b"RGB"] or ("jfif" not in image.info and names != [1, 2, 3] and header == "RGB")
        if rgb and names != [*b"RGB"]:  # which the decoder would take for YCbCr
            image.draft("YCbCr", image.size)
            return np.asarray(image), "RGB"
    return np.asarray(image.convert("RGB")), "RGB" if rgb else "YBR"


def grey_palette(pixels, ds, path):
    """Indices into a palette as grey, and what was done."""
    _check_palette(ds, path)
    # Each index once, not each pixel; negative ones are last, where Python looks for them.
    indices = np.arange(1 << 16).astype(f"u{pixels.itemsize}").view(pixels.dtype)
    return luma(apply_color_lut(indices, ds))[pixels], (COLOUR_NOTE,)


def _check_palette(ds, path):
    """Refuse a segmented palette (PS3.3, C.7.9.2) of more than 65536 colours; a few bytes can make millions.

    A plain one with an odd number of bytes loses the byte that was added to make it even.
    """
    entries, _, depth = ds.RedPaletteColorLookupTableDescriptor
    for colour in ("Red", "Green", "Blue"):
        plain = ds.get(f"{colour}PaletteColorLookupTableData") or b""
        if depth == 8 and len(plain) == entries + 1:
            ds[f"{colour}PaletteColorLookupTableData"].value = plain[:entries]
        data = ds.get(f"Segmented{colour}PaletteColorLookupTableData") or b""
        values, at, count = np.frombuffer(data, f"<u{depth // 8}").tolist(), 0, 0
        while at + 1 < len(values) and count <= 1 << 16:
            kind, length = values[at : at + 2]
            at += 2 + (length if kind == 0 else 1)  # 0 is followed by its colours, 1 by the end of a ramp
            count += length if kind < 2 else 1 << 17  # 2 repeats segments, itself if it likes
        if count > 1 << 16:
            raise FormatError(f"{path}: its palette repeats segments or exceeds 65536 colours; store grey or RGB")


def luma(colours):
    """Grey of red, green and blue along the last axis, as BT.601 weighs them."""
    grey = colours[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(grey).astype(colours.dtype)
