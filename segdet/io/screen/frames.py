"""The pictures in a file, before anything is known of the screen on them (chapter 02)."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from ...errors import FormatError
from ..checks import extension, is_dicom, reading, silenced
from ..files import PICTURES
from .areas import unlikely_size

PHOTOMETRIC, SAMPLE_FORMAT = 262, 339  # tags of a TIFF
WHITE_IS_ZERO, SIGNED = 0, (2,)
US_IMAGES = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6"  # of one frame, the second of before 1998


def read_frames(path):
    """The pictures in a file.

    Parameters
    ----------
    path : Path
        DICOM of one or more frames, or one of `PICTURES`; of an animated GIF every frame is a picture, of a TIFF every
        page.

    Returns
    -------
    frames : list of ndarrays of uint8, (H, W)
    sizes : list of ((top, bottom, left, right), (dy, dx) in mm), or None
        The parts of the pictures, half open, and the size of the pixels in each, as the header of a DICOM file states
        it, where it can be believed.
    notes : tuple of str
        Why it cannot, or what in the header says otherwise.

    Raises
    ------
    FormatError
        If the file is missing, damaged, or holds no picture.
    """
    with reading(path):
        if not path.is_file():
            raise FormatError(f"{path}: no such file or folder")
        if is_dicom(path):  # whatever its name says
            return _dicom_frames(path)
        if extension(path) in PICTURES:
            return _picture_frames(path), None, ()
        raise FormatError(f"{path}: expected a picture, DICOM or one of {', '.join(PICTURES)}")


def stated_size(sizes, area):
    """The pixel size that a header states for one image on a screen.

    Parameters
    ----------
    sizes : list
        Of `read_frames`.
    area : (top, bottom, left, right)
        Of the image, half open.

    Returns
    -------
    size : (dy, dx) in mm, or None
    notes : tuple of str
        Why there is none.
    """
    top, bottom, left, right = area

    def shared(part):
        start, stop, first, last = part
        return max(0, min(bottom, stop) - max(top, start)) * max(0, min(right, last) - max(left, first))

    part, size = max(sizes, key=lambda each: shared(each[0]))
    if shared(part) < (bottom - top) * (right - left) / 2:
        return None, ("the header's pixel size is not used: its calibrated region does not hold this image",)
    if unlikely := unlikely_size(size, area):
        return None, ("the header's pixel size is not used: {:.4g} x {:.4g} mm would make {}".format(*size, unlikely),)
    return size, ()


def may_hold_stills(path):
    """Whether `read_frames` may read a file of a folder; a hidden one is not meant."""
    return path.is_file() and not path.name.startswith(".") and (extension(path) in PICTURES or is_dicom(path))


def holds_stills(path):
    """Whether a path is a still picture (`_is_still`), or a folder with such and no scan."""
    path = Path(path)
    if path.is_dir():
        files = [file for file in path.iterdir() if may_hold_stills(file)]
        return not any(map(_is_placed, files)) and any(map(_is_still, files))
    return _is_still(path)


def _is_still(path):
    """Whether a file is a picture, or DICOM that was made from pictures or is an ultrasound image of no known place."""
    if not path.is_file() or extension(path) in PICTURES or not is_dicom(path):
        return extension(path) in PICTURES
    from ..dicom.ultrasound import is_placed, placeholder_spacing

    ds = _header(path)
    return bool(placeholder_spacing(ds)) or (ds.get("SOPClassUID") in US_IMAGES and not is_placed(ds))


def _is_placed(path):
    """Whether a file is DICOM that says where its frames are, as no picture does."""
    if extension(path) in PICTURES or not is_dicom(path):
        return False
    from ..dicom.ultrasound import is_placed, placeholder_spacing

    ds = _header(path)
    return is_placed(ds) and not placeholder_spacing(ds)


def _header(path):
    """The header of a DICOM file, empty where it is damaged, which is for the reader to say."""
    from ..dicom.pixels import open_dicom

    try:
        with reading(path), silenced():
            return open_dicom(path, stop_before_pixels=True)
    except FormatError:
        return {}


def _picture_frames(path):
    if path.stat().st_size == 0:
        raise FormatError(f"{path}: cannot be read: the file is empty")
    with open(path, "rb") as file:  # from its name, Pillow 13 takes the rows of a turned TIFF for its columns
        try:
            image = Image.open(file)
        except UnidentifiedImageError as error:
            raise FormatError(f"{path}: cannot be read: it is no picture in spite of its name, or damaged") from error
        # what a phone puts behind the first picture of a file (MPO) is that again, smaller or from beside
        frames = [image] if image.format == "MPO" else ImageSequence.Iterator(image)
        return [_eight_bits(_shown(frame), path) for frame in frames]


def _shown(frame):
    """Grey levels as a frame shows them: turned as its header says, and large where it is bright."""
    tags = getattr(frame, "tag_v2", {})
    white_is_zero, signed = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO, tags.get(SAMPLE_FORMAT) == SIGNED
    grey = _grey(ImageOps.exif_transpose(frame))
    if signed and grey.dtype == np.uint8:  # as which Pillow reads them
        grey = grey.view(np.int8)
    if white_is_zero and grey.dtype != np.uint8:  # Pillow inverts those alone
        grey = -grey.astype(np.float32)
    return grey


def _grey(picture):
    """Grey levels; what is transparent lies on black, as the ground of an ultrasound screen."""
    if picture.mode[0] in "IF":
        return np.asarray(picture)
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture.convert("RGBA"))
    return np.asarray(picture.convert("L"))


def _dicom_frames(path):
    """Grey frames, the pixel sizes where the header can be believed, and what is to be said of them."""
    from ..dicom.pixels import grey_frames, open_dicom
    from ..dicom.ultrasound import aspect_ratio, calibrated_regions, placeholder_spacing, screen_spacing

    with silenced():
        ds = open_dicom(path)
        if "PixelData" not in ds:
            raise FormatError(f"{path}: holds no pixel data; expected a DICOM image that was not cut off")
        frames = [_eight_bits(frame, path) for frame in grey_frames(ds, path, [(1, 0)])[0]]
        if placeholder := placeholder_spacing(ds) or screen_spacing(ds):
            return frames, None, (placeholder,)
        if not (ds.get("PixelSpacing") or calibrated_regions(ds)):
            if (ratio := aspect_ratio(ds)) != 1:
                raise FormatError(
                    f"{path}: its pixels are {ratio:.4g} times as high as wide (PixelAspectRatio) and of unknown size; "
                    "expected square ones, or PixelSpacing: resample the picture first"
                )
            return frames, None, ("the header gives no pixel size",)
        sizes, notes = _stated_sizes(ds)
    for _, size in sizes:
        if len(size) != 2 or not all(0 < step < np.inf for step in size):
            return frames, None, (f"the header's pixel size of {list(size)} is not usable",)
    return frames, sizes, notes


def _stated_sizes(ds):
    """The parts of a picture and the sizes of their pixels as `read_frames` returns them, and what is doubtful there.

    A calibrated region speaks for the image in it alone: two images side by side may be of two depths.
    """
    from ..dicom.ultrasound import calibrated_regions, contradiction, plane_spacing, region_spacing

    spacing, said = plane_spacing(ds)
    doubts = said if contradiction(ds) else said[1:]  # without that which only says where the size comes from
    regions, spacing = calibrated_regions(ds), tuple(float(step) for step in spacing)
    if not regions:
        return [((0, ds.Rows, 0, ds.Columns), spacing)], doubts
    sizes = [region_spacing(region) for region in regions]
    if len(set(sizes)) == 1:
        return [(_place(region), spacing) for region in regions], doubts
    told = f"its {len(regions)} calibrated regions differ in pixel size: each image has that of the region around it"
    return list(zip(map(_place, regions), sizes, strict=True)), (*doubts[:-1], told)


def _place(region):
    """The rows and columns of a region, half open; it names its last ones."""
    top, left = region.RegionLocationMinY0, region.RegionLocationMinX0
    return top, region.RegionLocationMaxY1 + 1, left, region.RegionLocationMaxX1 + 1


def _eight_bits(frame, path):
    """Grey levels from 0 to 255; of other ranges than that of a byte, the darkest becomes 0 and the brightest 255."""
    if frame.dtype == np.uint8:
        return frame
    frame = frame.astype(np.float32)
    if not np.isfinite(frame).all():
        raise FormatError(f"{path}: its grey levels hold NaN or infinity; replace them before reading the picture")
    return np.rint((frame - frame.min()) * (255 / (np.ptp(frame) or 1))).astype(np.uint8)
