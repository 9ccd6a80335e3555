"""Pictures of real infant hips as the detector sees simulated slices (chapter 12)."""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ..boxes import area, pad_boxes
from ..errors import FormatError, PixelSizeError, SegdetError
from ..intensities import normalise
from ..io.boxes_csv import EDGES, check_box, csv_rows
from ..io.checks import given
from ..io.stills import load_picture_labels, load_pictures
from ..resampling import covered
from ..runtime.tensors import digest
from ..volume import Volume, slice_boxes

HEAD = 2  # its label in the label maps
HEAD_MM = 16.0  # the side of a head's box where neither a ruler nor the user gives the scale
UNKNOWN_MM = 0.07  # a pixel, until the head has given the scale
SECOND = re.compile(r", image \d+$")  # in the name of one of several images on a screen (`segdet.io.stills`)
RULER, GIVEN, ASSUMED = "ruler", "given", "head"  # where a scale comes from


@dataclass(frozen=True, eq=False)
class Infant:
    """The pictures of one infant on the pixel size of the simulated slices; `train_detector` takes it as a `Case`.

    Attributes
    ----------
    name : str
    slices : Tensor, (P, H, W)
        In [0, 1], every picture by itself. The whole image area, from the skin down, filled up with black at the right
        and below to the largest picture: nothing of a head is cut off.
    boxes : Tensor, (P, 1, 4)
        The tight box of the head's label; of no area where a picture has none, which does not say that it shows none.
    spacing : (dy, dx)
        In mm.
    scale : str
        `RULER`, `GIVEN` or `ASSUMED`; in the last case no size in mm can be measured.
    """

    name: str
    slices: torch.Tensor
    boxes: torch.Tensor
    spacing: tuple[float, float]
    scale: str

    @property
    def identity(self):
        """See `segdet.experiments.cases.Case.identity`."""
        return digest(self.slices, self.boxes)

    @property
    def labelled(self):
        """Whether each picture has a labelled head: bool Tensor, (P,)."""
        return area(self.boxes)[:, 0] > 0

    def windowed(self, shape):
        """The labelled pictures cut to the shape (H, W) of the simulated slices.

        The window begins at the skin and is centred from side to side, and moves as far as it must to hold the head.

        Raises
        ------
        SegdetError
            A head does not fit.
        """
        slices, boxes = self.slices[self.labelled], self.boxes[self.labelled]
        rows, cols = (max(0, n - size) for n, size in zip(shape, slices.shape[1:], strict=True))
        slices = F.pad(slices, (0, cols, 0, rows))
        preferred = 0, (slices.shape[2] - shape[1]) // 2
        cut, moved = [], []
        for picture, (x0, y0, x1, y1) in zip(slices, boxes[:, 0].tolist(), strict=True):
            if y1 - y0 > shape[0] or x1 - x0 > shape[1]:
                raise SegdetError(
                    f"{self.name}: a head of {y1 - y0:.0f} x {x1 - x0:.0f} pixels does not fit into a slice of "
                    f"{shape[0]} x {shape[1]}; check the size of its pixels (--pixel-mm)"
                )
            top, left = _start(preferred[0], y0, y1, shape[0]), _start(preferred[1], x0, x1, shape[1])
            cut.append(picture[top : top + shape[0], left : left + shape[1]])
            moved.append([[x0 - left, y0 - top, x1 - left, y1 - top]])
        return replace(self, slices=torch.stack(cut), boxes=torch.tensor(moved))


def _start(preferred, low, high, length):
    """Where a window of a length begins: as preferred, or moved as far as it must to hold low to high."""
    return min(max(preferred, int(high) - length), int(low))


@dataclass(frozen=True, eq=False)
class Stills:
    """The pictures of one infant as they are: `Volume` (1, H, W), and bool (1, H, W) of the head in each."""

    name: str
    pictures: list
    heads: list
    scale: str  # as `Infant.scale`
    outlined: bool = True  # else the heads are boxes

    def with_usual_head(self):
        """The same pictures enlarged or reduced together until the median side of a head's box is `HEAD_MM`."""
        sides = []
        for picture, head in zip(self.pictures, self.heads, strict=True):
            for x0, y0, x1, y1 in _around(slice_boxes(head)[0]):
                sides.append(math.sqrt((y1 - y0) * picture.spacing[1] * (x1 - x0) * picture.spacing[2]))
        factor = HEAD_MM / float(np.median(sides))
        scaled = [
            Volume.from_spacing(p.voxels, (p.spacing[0], *(factor * s for s in p.spacing[1:])), name=p.name)
            for p in self.pictures
        ]
        return replace(self, pictures=scaled, scale=ASSUMED)

    def on_grid(self, spacing):
        """These pictures as an `Infant` with pixels of `spacing` (dy, dx) in mm."""
        slices, boxes = [], []
        for picture, head in zip(self.pictures, self.heads, strict=True):
            step = (picture.spacing[0], *spacing)
            shape = tuple(math.ceil(n * a / b) for n, a, b in zip(picture.shape, picture.spacing, step, strict=True))
            grid = replace(picture, mask=head).resample(shape, step)
            inside = covered(picture.shape, shape, np.divide(step, picture.spacing))
            slices.append(torch.from_numpy(normalise(grid.voxels, "unit", inside))[0])
            boxes.append(_around(slice_boxes(grid.mask)[0]))
        rows, cols = np.max([s.shape for s in slices], 0)
        slices = torch.stack([F.pad(s, (0, cols - s.shape[1], 0, rows - s.shape[0])) for s in slices])
        return Infant(self.name, slices, pad_boxes(boxes), tuple(spacing), self.scale)


def read_infants(folder, pixel_mm=None):
    """Every infant in a folder, and what was left out.

    ``NAME.dcm`` beside ``NAME.nii.gz`` are the pictures and the label maps of one infant, as `segdet download hips`
    lays them out. A folder NAME of pictures with a ``boxes.csv`` (file, x0, y0, x1, y1, in pixels of the file) is one,
    too; it holds a box a file, and a file that it does not name has no labelled head.

    Parameters
    ----------
    folder : path
    pixel_mm : dict of str to float, optional
        The size of a pixel in mm by the name of an infant; else its ruler gives it, and where there is none, the size
        of its labelled head (`Stills.with_usual_head`).

    Returns
    -------
    infants : list of Stills
        Ordered by name; those with a labelled head.
    notes : list of str
        A line for each that was left out, and for each whose scale is assumed.

    Raises
    ------
    SegdetError
        There is no such infant in the folder, `pixel_mm` names one that is not there, or a line of a ``boxes.csv``
        holds no box of a picture, or a second one.
    """
    folder, pixel_mm = given(folder), dict(pixel_mm or {})
    paths = {path.stem: path for path in folder.glob("*.dcm") if path.with_suffix(".nii.gz").exists()}
    paths |= {path.parent.name: path.parent for path in folder.glob("*/boxes.csv")}
    if not paths:
        raise SegdetError(f"{folder}: holds no NAME.dcm beside NAME.nii.gz; get them with `segdet download hips`")
    if strangers := pixel_mm.keys() - paths.keys():
        raise SegdetError(f"{folder}: --pixel-mm names {min(strangers)}, but there are {', '.join(sorted(paths))}")
    infants, notes = [], []
    for name, path in sorted(paths.items()):
        found = _read(name, path, pixel_mm.get(name))
        if not any(head.any() for head in found.heads):
            notes.append(f"{name}: left out, for none of its {len(found.pictures)} pictures has a labelled head")
            continue
        if found.scale == ASSUMED:
            notes.append(
                f"{name}: a picture has no ruler; a head of {HEAD_MM:g} mm gives the scale, and no size is measured"
            )
            found = found.with_usual_head()
        infants.append(found)
    return infants, notes


def _around(boxes):
    """One box (1, 4) around all of a picture, (n, 4); none around none."""
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])[None] if len(boxes) else boxes


def _read(name, path, pixel_mm):
    """The `Stills` of one infant."""
    try:
        pictures, scale = load_pictures(path, pixel_mm=pixel_mm), GIVEN if pixel_mm else RULER
    except PixelSizeError:
        pictures, scale = load_pictures(path, pixel_mm=UNKNOWN_MM), ASSUMED
    heads = _boxed(path, pictures) if path.is_dir() else _labelled(path, pictures)
    return Stills(name, pictures, heads, scale, not path.is_dir())


def _labelled(path, pictures):
    """The masks of the heads from the label maps beside a DICOM file."""
    maps = load_picture_labels(path.with_suffix(".nii.gz"), pictures)
    return [labels == HEAD for labels in maps]


def _boxed(path, pictures):
    """The masks of the heads from the boxes.csv of a folder of pictures; a screen of two images has one row."""
    screens = [SECOND.sub("", picture.name) for picture in pictures]
    sizes = {screen: picture.meta["picture_size"] for screen, picture in zip(screens, pictures, strict=True)}
    masks = {screen: np.zeros(size, bool) for screen, size in sizes.items()}
    heads = []
    for screen, picture in zip(screens, pictures, strict=True):
        top, bottom, left, right = picture.meta["image_area"]
        heads.append(masks[screen][None, top:bottom, left:right])  # a view
    for where, name, box in _rows(path / "boxes.csv", sizes):
        x0, y0, x1, y1 = box
        masks[name][y0:y1, x0:x1] = True
        if not any(head.any() for head, screen in zip(heads, screens, strict=True) if screen == name):
            raise FormatError(f"{where}: {box} lies beside the image that {name} shows; draw it around the head")
    return heads


def _rows(path, sizes):
    """Where in a CSV file, which picture, and its box, half-open pixel edges; `sizes` (H, W) by the name of a picture.

    Raises
    ------
    FormatError
        Names the line that holds no box of a picture, or a second one.
    """
    found = {}
    for where, row in csv_rows(path, ("file", *EDGES)):
        name = row["file"]
        try:
            if None in row:
                raise ValueError("more values than columns")
            box = [int(row[edge]) for edge in EDGES]
        except (TypeError, ValueError) as error:
            raise FormatError(f"{where}: expected the columns file,{','.join(EDGES)} and whole pixels") from error
        if name not in sizes:
            raise FormatError(f"{where}: there is no picture {name!r}; expected one of {', '.join(sizes)}")
        if name in found:
            raise FormatError(f"{where}: a second box for {name}, after {found[name]}; keep one, for one head")
        check_box(where, box, sizes[name], "picture")
        found[name] = box
        yield where, name, box
