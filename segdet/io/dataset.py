"""Annotated scans in a folder: which mask belongs to which scan, and reading them (chapter 10)."""

import hashlib
import warnings
from collections import defaultdict
from dataclasses import replace

from ..errors import FormatError, LabelError, SegdetError
from ..intensities import two_values_note
from ..runtime.progress import progress
from .annotations import load_case
from .checks import extension, given
from .files import DICOM, FORMATS, is_scan

EXTENSIONS = (*FORMATS, *DICOM)
CHANNEL = "_0000"  # what nnU-Net adds to the name of a scan, and not to that of its mask


def folder_pairs(folder):
    """The annotated scans of a folder; none of them is read.

    A scan in images/ belongs to the mask of the same name in labels/, whatever the extension of either. nnU-Net's
    ``_0000`` at the end of a scan's name may be missing from that of its mask. Hidden files and files that are no
    scans do not count.

    Returns
    -------
    list of (Path, Path)
        Scan and mask, sorted by the names of the scans.

    Raises
    ------
    SegdetError
        The folder holds no scan, a scan has no mask, or two files have the same name but for the extension.
    """
    folder = given(folder)
    if not folder.is_dir():
        raise SegdetError(f"{folder}: is no folder; name one with scans in images/ and their masks in labels/")
    images, labels = (_by_name(folder / kind) for kind in ("images", "labels"))
    if not images:
        place = folder / "images" if (folder / "images").is_dir() else folder
        found = _some(sorted(path.name for path in place.glob("*"))) or "nothing"
        raise SegdetError(
            f"{folder}: expected scans in its folder images/ and their masks, of the same names, in its folder "
            f"labels/; {place} holds {found}"
        )
    names = {name: name if name in labels else name.removesuffix(CHANNEL) for name in images}
    spare = [path.name for name, path in labels.items() if name not in names.values()]
    for name, wanted in names.items():
        if wanted not in labels:
            there = f"masks without a scan: {_some(spare)}" if spare else f"{len(labels)} masks, all of other scans"
            raise SegdetError(
                f"{images[name]}: has no mask; expected {folder / 'labels' / wanted} with any extension, and found "
                f"{there}; add the mask or take the scan away"
            )
    if len(set(names.values())) < len(names):
        twice = next(name for name in names if name + CHANNEL in names)
        raise SegdetError(f"{folder}: {twice} and {twice}{CHANNEL} are scans of one mask; keep one of them")
    if spare:
        warnings.warn(f"{folder / 'labels'}: no scan belongs to {_some(spare)}", stacklevel=2)
    return [(path, labels[names[name]]) for name, path in images.items()]


def names_and_contents(pairs):
    """What tells one folder of annotated scans from another: a list of texts, the name and SHA-256 of every file."""
    paths = [path for pair in pairs for path in pair]
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [f"{file.name} {_sha256(file)}" for file in files if file.is_file()]


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_cases(pairs, label=None):
    """Read scans and masks as `folder_pairs` names them.

    A scan whose annotation does not hold `label` is a scan without the object; a note says so.

    Returns
    -------
    list of Volume

    Raises
    ------
    SegdetError
        As in `segdet.io.annotations.load_case`, or none of the annotations holds the label.
    """
    cases, missing = [], []
    for image, mask in progress(pairs, "reading"):
        try:
            case = load_case(image, mask, label)
        except LabelError as error:
            missing.append(str(error))
            notes = (*error.volume.notes, f"the annotation has no label {label}: the object was taken to be absent")
            case = replace(error.volume, notes=notes)
        if said := two_values_note(case.voxels):
            case = replace(case, notes=case.notes + said)
        cases.append(case)
    if missing and len(missing) == len(cases):
        raise SegdetError(f"{missing[0]}; nor does any other of the {len(cases)} annotations read; see --label")
    return cases


def tell_notes(volumes):
    """Warn of what was assumed of some scans: a line for each different note, with their names."""
    names = defaultdict(list)
    for volume in volumes:
        for note in volume.notes:
            names[note].append(volume.name)
    for note, found in names.items():
        warnings.warn(f"{_some(found)}: {note}", stacklevel=2)


def _by_name(folder):
    """The scans or masks of a folder by their names without extension."""
    found = {}
    for path in sorted(p for p in folder.glob("*") if not p.name.startswith(".") and is_scan(p)):
        kind = extension(path)
        name = path.name[: -len(kind)] if kind in EXTENSIONS else path.name
        if name in found:
            raise FormatError(f"{folder}: holds {found[name].name} and {path.name}; which of them is meant? keep one")
        found[name] = path
    return found


def _some(names):
    """The first of some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
