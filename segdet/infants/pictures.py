"""Pictures of real infant hips as the detector sees simulated slices (chapter 12)."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ..boxes import area, pad_boxes
from ..errors import PixelSizeError, SegdetError
from ..intensities import normalise
from ..io.checks import extension, given
from ..io.files import NIFTI, OTHER_PICTURES
from ..io.screen.frames import may_hold_stills
from ..io.stills import GIVEN, HEADER, RULER, UNSURE, read_stills
from ..resampling import covered
from ..runtime.tensors import digest
from ..volume import Volume, slice_boxes
from .heads import BOXES, heads_of

HEAD_MM = 16.0  # the side of a head's box where neither a ruler nor the user gives the scale
UNKNOWN_MM = 0.07  # a pixel, until the head has given the scale
ASSUMED = "head"  # where a scale comes from, beside those of `segdet.io.stills`
SCALES = ASSUMED, UNSURE, HEADER, RULER, GIVEN  # the least sure first


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
        The least sure of its pictures', out of `SCALES`; where it is `ASSUMED`, no size in mm can be measured.
    empty : tuple of int
        The pictures of which a person says that they show no head.
    """

    name: str
    slices: torch.Tensor
    boxes: torch.Tensor
    spacing: tuple[float, float]
    scale: str
    empty: tuple[int, ...] = ()

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
        return replace(self, slices=torch.stack(cut), boxes=torch.tensor(moved), empty=())


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
    empty: tuple[int, ...] = ()  # as `Infant.empty`
    notes: tuple[str, ...] = ()  # what was left out or is in doubt

    @property
    def identity(self):
        """A digest of all that a study takes from them; sizes are rounded, for they are computed."""
        sizes = [[f"{step:.6g}" for step in picture.spacing] for picture in self.pictures]
        voxels = [picture.voxels for picture in self.pictures]
        return digest(repr((self.name, self.scale, self.outlined, self.empty, sizes)), *voxels, *self.heads)

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
        return Infant(self.name, slices, pad_boxes(boxes), tuple(spacing), self.scale, self.empty)


def read_infants(folder, pixel_mm=None):
    """Every infant in a folder, and what was left out.

    ``NAME.dcm`` beside ``NAME.nii.gz`` are the pictures and the label maps of one infant, as `segdet download hips`
    lays them out. A folder NAME of pictures with a ``boxes.csv`` (file, x0, y0, x1, y1, in pixels of the file) is one,
    too; it holds a box a file, or four empty edges where a person sees no head, and a file that it does not name has no
    labelled head.

    Parameters
    ----------
    folder : path
    pixel_mm : dict of str to float, optional
        The size of a pixel in mm by the name of an infant, for all its pictures; else header or ruler give that of each
        picture, and where no picture has any, the size of the labelled head does (`Stills.with_usual_head`).

    Returns
    -------
    infants : list of Stills
        Ordered by name; those with a labelled head.
    notes : list of str
        A line for whatever was left out, cut off, assumed or is in doubt.

    Raises
    ------
    SegdetError
        There is no such infant in the folder or two have one name, `pixel_mm` names one that is not there, a line of a
        ``boxes.csv`` holds no box of a picture, or a second one, a head lies beside the image on the screen, or
        the header of a picture contradicts its ruler.
    """
    folder, pixel_mm = given(folder), dict(pixel_mm or {})
    paths, notes = _infants(folder)
    if not paths:
        near = [path for path in sorted([*folder.glob("*"), *folder.glob("*/*")]) if _is_nearly(path)]
        found = ", ".join(str(path.relative_to(folder)) for path in near[:4])
        lacking = "holds no NAME.dcm beside NAME.nii.gz" if folder.is_dir() else "is no folder"
        raise SegdetError(
            f"{folder}: {lacking}; get them with `segdet download hips`, or name a folder that holds one folder an "
            f"infant, of pictures and their {BOXES}{f' (found {found})' * bool(found)}"
        )
    if strangers := pixel_mm.keys() - paths.keys():
        raise SegdetError(f"{folder}: --pixel-mm names {min(strangers)}, but there are {', '.join(sorted(paths))}")
    infants = []
    for name, path in sorted(paths.items()):
        found = _read(name, path, pixel_mm.get(name))
        notes += [f"{name}: {note}" for note in found.notes]
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


def _infants(folder):
    """The path of each infant by its name, and a line for whatever else holds pictures or labels."""
    paths, others = {}, []
    for path in sorted(folder.glob("*")):
        own = path / BOXES if path.is_dir() else path.with_suffix(".nii.gz")
        if own.exists() and (path.is_dir() or extension(path) == ".dcm"):
            name = path.name if path.is_dir() else path.stem
            if name in paths:
                raise SegdetError(f"{folder}: {paths[name].name} and {path.name} are of one name; rename one")
            paths[name] = path
        elif not path.name.startswith(".") and _may_be_meant(path):
            others.append(path.name)
    what = "an infant is NAME.dcm beside NAME.nii.gz, or a folder of pictures with a boxes.csv"
    return paths, [f"{name}: left out; {what}" for name in others if name.removesuffix(".nii.gz") not in paths]


def _may_be_meant(path):
    if path.is_dir():
        return any(map(may_hold_stills, path.iterdir()))
    return may_hold_stills(path) or extension(path) in NIFTI


def _is_nearly(path):
    """Whether a file is a boxes.csv at another place or of another spelling, or a label map that is not compressed."""
    return path.name.lower() == BOXES or extension(path) == ".nii"


def _read(name, path, pixel_mm):
    """The `Stills` of one infant, without those pictures whose scale nothing gives, if others have one."""
    pictures = [_picture(still, pixel_mm) for still in read_stills(path)]
    heads, empty, notes = heads_of(path, pictures)
    sized = [index for index, picture in enumerate(pictures) if picture.meta["scale"] != ASSUMED]
    if sized and (lacking := [p for p in pictures if p.meta["scale"] == ASSUMED]):
        notes.append(
            f"left out are {_named(lacking, path)}, whose pixel size is not known; --pixel-mm {name}=MM gives it to "
            "all of its pictures"
        )
    if path.is_dir() and (unread := sorted(p.name for p in path.iterdir() if extension(p) in OTHER_PICTURES)):
        notes.append(f"left out are {', '.join(unread)}, of a format that is not read; store them as .png")
    kept = sized or range(len(pictures))
    pictures, heads, empty = ([each[index] for index in kept] for each in (pictures, heads, empty))
    for doubt in dict.fromkeys(doubt for picture in pictures for doubt in picture.meta["doubts"]):
        there = [picture for picture in pictures if doubt in picture.meta["doubts"]]
        notes.append(f"{doubt} ({'all its pictures' if len(there) == len(pictures) else _named(there, path)})")
    scale = min((picture.meta["scale"] for picture in pictures), key=SCALES.index)
    return Stills(name, pictures, heads, scale, not path.is_dir(), tuple(np.flatnonzero(empty).tolist()), tuple(notes))


def _named(pictures, path):
    return ", ".join(picture.name.removeprefix(f"{path.name}, ") for picture in pictures)


def _picture(still, pixel_mm):
    try:
        return still.volume(pixel_mm)
    except PixelSizeError:
        return still.assumed(UNKNOWN_MM, ASSUMED)
