"""Where the heads are in pictures of real infants: label maps of a network, or boxes of a person (chapter 12)."""

import re
import unicodedata

import numpy as np

from ..errors import FormatError
from ..io.boxes_csv import EDGES, check_box, csv_rows, whole
from ..io.labels import listed
from ..io.stills import load_picture_labels

HEAD = 2  # its label in the label maps
BOXES = "boxes.csv"
SECOND = re.compile(r", image \d+$")  # in the name of one of several images on a screen (`segdet.io.stills`)


def heads_of(path, pictures):
    """The head in each picture of one infant.

    Parameters
    ----------
    path : Path
        A DICOM file with its label maps beside it, or a folder of pictures with a ``boxes.csv``. Both are those of
        whole screens, which may show two images.
    pictures : list of Volume
        All that `path` holds, cropped to the images.

    Returns
    -------
    masks : list of ndarrays of bool, (1, H, W)
    empty : list of bool
        Whether a person says that the picture shows no head.
    notes : list of str
        A line for each head that is not whole in the image, or where label maps hold other labels than that of a head.

    Raises
    ------
    FormatError
        A head lies beside the images, or a line of ``boxes.csv`` holds no box of a picture, or a second one.
    """
    screens = [SECOND.sub("", picture.name) for picture in pictures]
    masks, said, empty, notes = (_boxed if path.is_dir() else _labelled)(path, screens, pictures)
    heads, outside = [], {screen: mask.copy() for screen, mask in masks.items()}
    for screen, picture in zip(screens, pictures, strict=True):
        top, bottom, left, right = picture.meta["image_area"]
        heads.append(masks[screen][None, top:bottom, left:right])
        outside[screen][top:bottom, left:right] = False
    for screen, mask in masks.items():
        lost, all_of_it = outside[screen].sum(), mask.sum()
        if 0 < lost == all_of_it:
            raise FormatError(f"{said[screen]} lies beside the image that {screen} shows; draw it around the head")
        if lost:
            notes.append(
                f"{lost} of the {all_of_it} pixels of the head lie beside the image and are cut off "
                f"({screen.removeprefix(f'{path.name}, ')})"
            )
    return heads, [screen in empty for screen in screens], notes


def _labelled(path, screens, pictures):
    """The masks of the heads from the label maps beside a DICOM file, the words for one in an error, and notes."""
    file = path.with_suffix(".nii.gz")
    maps = load_picture_labels(file, pictures, whole=True)
    masks = {screen: labels[0] == HEAD for screen, labels in zip(screens, maps, strict=True)}
    found, notes = np.unique(np.concatenate([np.unique(labels) for labels in maps])), []
    if HEAD not in found and found.any():
        notes.append(f"the label of the head is {HEAD}; those in {file.name} are: {listed(found[found != 0])}")
    return masks, dict.fromkeys(masks, f"{file}: the label of the head"), (), notes


def _boxed(path, screens, pictures):
    """The same from the boxes.csv of a folder of pictures, and the screens of which it says that they show no head."""
    sizes = {screen: picture.meta["picture_size"] for screen, picture in zip(screens, pictures, strict=True)}
    masks, said, empty = {screen: np.zeros(size, bool) for screen, size in sizes.items()}, {}, set()
    for where, name, box in _rows(path / BOXES, sizes):
        if not box:
            empty.add(name)
            continue
        x0, y0, x1, y1 = box
        masks[name][y0:y1, x0:x1] = True
        said[name] = f"{where}: {box}"
    return masks, said, empty, []


def _composed(name):
    """A name whose letters with accents are one sign each; macOS writes some as two."""
    return unicodedata.normalize("NFC", name)


def _rows(path, sizes):
    """Where in a CSV file, which picture, and its box, half-open pixel edges; `sizes` (H, W) by the name of a picture.

    The box is None where all its edges are empty.

    Raises
    ------
    FormatError
        Names the line that holds no box of a picture, or a second one.
    """
    found, known = {}, {_composed(name): name for name in sizes}
    for where, row in csv_rows(path, ("file", *EDGES)):
        name = known.get(_composed(row["file"] or ""), row["file"])
        try:
            if None in row:
                raise ValueError("more values than columns")
            edges = [row[edge] for edge in EDGES]
            box = [whole(edge) for edge in edges] if any(edge != "" for edge in edges) else None
        except (TypeError, ValueError) as error:
            raise FormatError(
                f"{where}: expected the columns file,{','.join(EDGES)} and whole pixels, or nothing for a picture "
                "without a head"
            ) from error
        if name not in sizes:
            names = ", ".join(repr(each) if "," in each else each for each in sizes)
            raise FormatError(f"{where}: there is no picture {name!r}; expected one of {names}")
        if name in found:
            raise FormatError(
                f"{where}: a second {'box' if box else 'row'} for {name}, after {found[name] or 'one without edges'}; "
                "keep one, for one head"
            )
        if box:
            check_box(where, box, sizes[name], "picture")
        found[name] = box
        yield where, name, box
