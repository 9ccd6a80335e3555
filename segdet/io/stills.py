"""Still pictures of an ultrasound screen: no scan, for nothing lies between them (chapter 02).

The size of a pixel comes from the caller, else from the header where that is credible, else from the depth ruler in
the picture. Where all three are silent the picture is refused.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FormatError, GeometryError, PixelSizeError
from ..volume import Volume
from .checks import given, reading
from .files import PICTURES
from .frames import may_hold_stills, read_frames
from .labels import label_numbers
from .ruler import Ruler, find_ruler
from .screen import image_areas

WIDEST = 300.0  # mm; no transducer sees further
DISAGREE = 0.05  # by which a given pixel size may differ from the ruler before a note says so
NO_DEPTH = "a still picture: its directions are unknown, the distance to others means nothing and was set to 1 mm"


@dataclass(frozen=True, eq=False)
class Still:
    """One image area of one picture, and what is known of the size of its pixels.

    Attributes
    ----------
    name : str
        File, number of the picture and, where a screen shows several images, number of the image.
    voxels : ndarray of uint8, (H, W)
        The image area.
    area : (top, bottom, left, right)
        Where it is in the picture, half open.
    size : (rows, columns)
        Of the picture.
    number : int
        Of the picture in the file, from 0.
    ruler : Ruler or None
    header : (dy, dx) in mm, or None
        As a credible header states it.
    notes : tuple of str
    """

    name: str
    voxels: np.ndarray
    area: tuple[int, int, int, int]
    size: tuple[int, int]
    number: int
    ruler: Ruler | None
    header: tuple[float, float] | None
    notes: tuple[str, ...]

    def described(self, pixel_mm=None):
        """Size, image area and pixel size in a line, whether or not the last is known."""
        rows, columns = self.size
        top, bottom, left, right = self.area
        try:
            spacing, source = self._spacing(pixel_mm)
            known = "{:.4g} x {:.4g} mm; {}".format(*spacing, source)
        except PixelSizeError as error:
            known = f"not known; {str(error).rpartition('; ')[2]}"
        return (
            f"{rows} rows x {columns} columns, the image area rows {top} to {bottom - 1} and columns {left} to "
            f"{right - 1}, a pixel {known}"
        )

    def volume(self, pixel_mm=None):
        """The image area as a `Volume` of one slice; `load_pictures` says what may go wrong."""
        spacing, source = self._spacing(pixel_mm)
        meta = {"stills": True, "format": "still picture", "picture": self.number, "image_area": self.area,
                "picture_size": self.size}  # fmt: skip
        return Volume.from_spacing(
            self.voxels[None], (1.0, *spacing), name=self.name, notes=(source, *self.notes, NO_DEPTH), meta=meta
        )

    def _spacing(self, pixel_mm):
        """(dy, dx) in mm, and where they come from."""
        if pixel_mm is not None:
            wide = pixel_mm * (self.area[3] - self.area[2])
            if not 0 < wide <= WIDEST:
                raise GeometryError(
                    f"{self.name}: {pixel_mm:g} mm a pixel make its image area {wide:g} mm wide; expected the size of "
                    "one pixel in mm, such as 0.07"
                )
            source = "the pixel size was given"
            if self.ruler and abs(self.ruler.pixel_mm / pixel_mm - 1) > DISAGREE:
                source += f", against the depth ruler's {self.ruler.pixel_mm:.4g} mm"
            return (float(pixel_mm), float(pixel_mm)), source
        if self.header:
            return self.header, "the header's pixel size"
        if self.ruler:
            return (self.ruler.pixel_mm, self.ruler.pixel_mm), f"the depth ruler's pixel size: {self.ruler}"
        raise PixelSizeError(
            f"{self.name}: the size of a pixel is not known, for no depth ruler was found in the picture"
            f"{''.join(f' and {note}' for note in self.notes[:1])}; give it in mm, with --pixel-mm or pixel_mm="
        )


def read_stills(path):
    """Every image in a file or a folder of pictures, before anything is asked about the size of its pixels.

    Parameters
    ----------
    path : str or Path
        A DICOM file of one or more frames, a picture (`PICTURES`; of an animated GIF every frame), or a folder of such.

    Returns
    -------
    list of Still

    Raises
    ------
    FormatError
        If the path is missing, damaged, or holds no picture.
    """
    path = given(path)
    if not path.is_dir():
        return _read_file(path)
    files = sorted(file for file in path.iterdir() if may_hold_stills(file))
    if not files:
        raise FormatError(f"{path}: holds no picture; expected DICOM files or {', '.join(PICTURES)}")
    return [still for file in files for still in _read_file(file)]


def load_pictures(path, *, pixel_mm=None):
    """Read still pictures, each as a `Volume` of one slice that was cropped to the image on the screen.

    No 3D code takes such a volume for a scan (`Volume.check_scan`).

    Parameters
    ----------
    path : str or Path
        As in `read_stills`.
    pixel_mm : float, optional
        The size of a pixel in mm. By default it is that of a credible DICOM header, else that of the depth ruler in
        the picture.

    Returns
    -------
    list of Volume
        Voxels of uint8, (1, H, W). The first of `notes` says where the pixel size comes from and, for a ruler, whether
        it is sure. A screen that shows two images side by side gives two.

    Raises
    ------
    PixelSizeError
        If nothing says how large the pixels are.
    GeometryError
        If the pixel size makes an image wider than any transducer sees.
    FormatError
        As in `read_stills`.
    """
    return [still.volume(pixel_mm) for still in read_stills(path)]


def load_picture(path, index=0, *, pixel_mm=None):
    """One of the images of `load_pictures`, counted from 0; the others need no pixel size.

    Parameters
    ----------
    path, pixel_mm
        As in `load_pictures`.
    index : int

    Returns
    -------
    Volume

    Raises
    ------
    FormatError
        There is no such image, or as in `load_pictures`.
    """
    stills = read_stills(path)
    if not 0 <= index < len(stills):
        raise FormatError(f"{path}: holds {len(stills)} pictures, counted from 0; there is no picture {index}")
    return stills[index].volume(pixel_mm)


def load_picture_labels(path, pictures):
    """The label maps of pictures, from a NIfTI file with the axes (column, row, picture).

    Parameters
    ----------
    path : str or Path
    pictures : list of Volume
        As `load_pictures` read them from the file that was labelled.

    Returns
    -------
    list of ndarrays of int, (1, H, W)
        Label numbers, cropped as the pictures are.

    Raises
    ------
    FormatError
        If the file holds another number of pictures, of another size, or values that are no labels.
    """
    from .nifti import read_nifti

    path = Path(path)
    with reading(path):
        planes = label_numbers(read_nifti(path), path)
    found = []
    for picture in pictures:
        number, size = picture.meta["picture"], picture.meta["picture_size"]
        if number >= len(planes) or planes.shape[1:] != size:
            raise FormatError(
                f"{path}: holds {len(planes)} label maps of {planes.shape[1:]} rows and columns; {picture.name} is "
                f"number {number}, counted from 0, of {size}"
            )
        top, bottom, left, right = picture.meta["image_area"]
        found.append(planes[number : number + 1, top:bottom, left:right])
    return found


def _read_file(path):
    frames, header, notes = read_frames(path)
    stills = []
    for number, frame in enumerate(frames):
        name = path.name if len(frames) == 1 else f"{path.name}, picture {number}"
        stills += _images(frame, number, name, header, notes)
    return stills


def _images(frame, number, name, header, notes):
    """The images that one screen shows, with the rulers beside them."""
    areas = image_areas(frame)
    if not areas:
        areas, notes = [(0, frame.shape[0], 0, frame.shape[1])], (*notes, "no image area was found: it is read whole")
    found = []
    for image, area in enumerate(areas):
        ruler = find_ruler(frame, area)
        top, bottom, left, right = area = _without(ruler, area)
        voxels = np.ascontiguousarray(frame[top:bottom, left:right])
        title = name if len(areas) == 1 else f"{name}, image {image}"
        found.append(Still(title, voxels, area, frame.shape, number, ruler, header, notes))
    return found


def _without(ruler, area):
    """An image area as deep as its ruler, without the columns of the ruler."""
    if ruler is None:
        return area
    top, bottom, left, right = area
    start, stop = ruler.columns
    if start > (left + right) / 2:
        right = min(right, start - 1)
    else:
        left = max(left, stop + 1)
    return top, max(bottom, int(ruler.rows[-1]) + 1), left, right
