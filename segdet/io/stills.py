"""Still pictures of an ultrasound screen: no scan, for nothing lies between them (chapter 02).

The size of a pixel comes from the caller, else from the header where that is credible, else from the depth ruler in
the picture, whose pixels count as square. Where all three are silent, or a header and a sure ruler contradict each
other, the picture is refused.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FormatError, GeometryError, PixelSizeError
from ..volume import Volume
from .checks import given, reading
from .files import PICTURES
from .labels import label_numbers, unturned
from .screen.areas import image_areas, unlikely_size
from .screen.frames import may_hold_stills, read_frames, stated_size
from .screen.ruler import Ruler, find_ruler

DISAGREE = 0.05  # by which another pixel size may differ from the ruler before something is said
GIVEN, HEADER, RULER, UNSURE = "given", "header", "ruler", "unsure ruler"  # where a pixel size comes from
WAY_OUT = "give it in mm, with --pixel-mm or pixel_mm="
NO_AREA = "no image area was found: it is read whole"
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
        As a credible header states it for this image.
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
        contradiction = self._contradiction() if pixel_mm is None else ""
        try:
            spacing, _, source = self._sized(pixel_mm)
            known = "{:.4g} x {:.4g} mm; {}".format(*spacing, source)
        except GeometryError as error:
            if not (contradiction or isinstance(error, PixelSizeError)):
                raise
            known = f"not known{', for ' * bool(contradiction)}{contradiction}; {WAY_OUT}"
        return (
            f"{rows} rows x {columns} columns, the image area rows {top} to {bottom - 1} and columns {left} to "
            f"{right - 1}, a pixel {known}"
        )

    def volume(self, pixel_mm=None):
        """The image area as a `Volume` of one slice; `load_pictures` says what may go wrong.

        Its ``meta["scale"]`` is `GIVEN`, `HEADER`, `RULER` or `UNSURE`; ``meta["doubts"]`` are those of its notes that
        ask for a look, a tuple of str.
        """
        spacing, scale, source = self._sized(pixel_mm)
        doubtful = scale == UNSURE or self._objection(spacing[0])
        return self._as_volume(spacing, scale, source, (source,) * bool(doubtful))

    def assumed(self, pixel_mm, scale):
        """The same where nothing says how large the pixels are, with a size that nobody has checked."""
        return self._as_volume((pixel_mm, pixel_mm), scale, "the pixel size was assumed", ())

    def _as_volume(self, spacing, scale, source, doubts):
        doubts += tuple(note for note in self.notes if scale == HEADER or note == NO_AREA)
        meta = {"stills": True, "format": "still picture", "picture": self.number, "image_area": self.area,
                "picture_size": self.size, "scale": scale, "doubts": doubts}  # fmt: skip
        return Volume.from_spacing(
            self.voxels[None], (1.0, *spacing), name=self.name, notes=(source, *self.notes, NO_DEPTH), meta=meta
        )

    def _sized(self, pixel_mm):
        """(dy, dx) in mm, where they come from, and that in words."""
        if pixel_mm is not None:
            given = float(pixel_mm), float(pixel_mm)
            if unlikely := unlikely_size(given, self.area):
                raise GeometryError(
                    f"{self.name}: {pixel_mm:g} mm a pixel make {unlikely}; expected the size of one pixel in mm, such "
                    "as 0.07"
                )
            return given, GIVEN, f"the pixel size was given{self._objection(given[0])}"
        if contradiction := self._contradiction():
            raise GeometryError(f"{self.name}: {contradiction}; {WAY_OUT}")
        if self.header:
            return self.header, HEADER, f"the header's pixel size{self._objection(self.header[0])}"
        if self.ruler:
            size, scale = self.ruler.pixel_mm, RULER if self.ruler.sure else UNSURE
            said = f"the depth ruler's pixel size: {self.ruler}; pixels as wide as high were assumed"
            return (size, size), scale, said
        raise PixelSizeError(
            f"{self.name}: the size of a pixel is not known, for no depth ruler was found in the picture"
            f"{''.join(f' and {note}' for note in self.notes[:1])}; {WAY_OUT}"
        )

    def _objection(self, dy):
        """What the ruler says against rows that are `dy` mm apart, "" where it agrees or there is none."""
        if not self.ruler or abs(self.ruler.pixel_mm / dy - 1) <= DISAGREE:
            return ""
        return f", against the depth ruler's {self.ruler.pixel_mm:.4g} mm{'' if self.ruler.sure else ' (not sure)'}"

    def _contradiction(self):
        """How header and ruler contradict each other where both are to be believed, "" where they do not."""
        if not (self.header and self.ruler and self.ruler.sure and self._objection(self.header[0])):
            return ""
        stated = "{:.4g} x {:.4g}".format(*self.header)
        return f"the header's pixel size of {stated} mm contradicts the depth ruler's {self.ruler.pixel_mm:.4g} mm"


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
        the picture. Given or by the ruler, pixels are square.

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
        If the given pixel size makes an image narrower or wider than that of any transducer, or a header contradicts a
        sure ruler.
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


def load_picture_labels(path, pictures, *, whole=False):
    """The label maps of pictures, from a NIfTI file with the axes (column, row, picture).

    Parameters
    ----------
    path : str or Path
    pictures : list of Volume
        As `load_pictures` read them from the file that was labelled, all of them.
    whole : bool
        Leave the maps as large as the screen.

    Returns
    -------
    list of ndarrays of int, (1, H, W)
        Label numbers, cropped as the pictures are.

    Raises
    ------
    FormatError
        If the file holds another number of pictures, of another size, or values that are no labels, or its affine
        turns its axes in another way than programs do that bring them into their own order.
    """
    from .nifti import read_nifti

    path = Path(path)
    with reading(path):
        volume = read_nifti(path)
        planes = unturned(label_numbers(volume, path), volume.affine, path)
    found, count = [], 1 + max((picture.meta["picture"] for picture in pictures), default=-1)
    for picture in pictures:
        number, size = picture.meta["picture"], picture.meta["picture_size"]
        if len(planes) != count or planes.shape[1:] != size:
            raise FormatError(
                f"{path}: holds {len(planes)} label maps of {planes.shape[1:]} rows and columns; {picture.name} is "
                f"number {number}, counted from 0, of {count}, and of {size}"
            )
        top, bottom, left, right = picture.meta["image_area"]
        plane = planes[number : number + 1]
        found.append(plane if whole else plane[:, top:bottom, left:right])
    return found


def _read_file(path):
    frames, sizes, notes = read_frames(path)
    stills = []
    for number, frame in enumerate(frames):
        name = path.name if len(frames) == 1 else f"{path.name}, picture {number}"
        stills += _images(frame, number, name, sizes, notes)
    return stills


def _images(frame, number, name, sizes, notes):
    """The images that one screen shows, with the rulers beside them and what the header says of them."""
    areas = image_areas(frame)
    if not areas:
        areas, notes = [(0, frame.shape[0], 0, frame.shape[1])], (*notes, NO_AREA)
    found = []
    for image, area in enumerate(areas):
        ruler, wrong = find_ruler(frame, area, areas[:image] + areas[image + 1 :]), ()
        if ruler and (unlikely := unlikely_size((ruler.pixel_mm, ruler.pixel_mm), area)):
            ruler, wrong = None, (f"what looks like a depth ruler is not used: it would make {unlikely}",)
        top, bottom, left, right = area = _without(ruler, area)
        header, said = stated_size(sizes, area) if sizes else (None, ())
        voxels = np.ascontiguousarray(frame[top:bottom, left:right])
        title = name if len(areas) == 1 else f"{name}, image {image}"
        found.append(Still(title, voxels, area, frame.shape, number, ruler, header, (*said, *wrong, *notes)))
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
