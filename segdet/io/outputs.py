"""May this file be written? Asked before the work, so that no hour of it ends in a refusal (chapter 02)."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from ..errors import FormatError, SegdetError
from .checks import extension, is_dicom, reading, silenced

KINDS = {
    "a mask": (".dcm", ".nii", ".nii.gz", ".mha", ".nrrd"),
    "a phantom": (".dcm",),
    "a picture": (".png",),
    "measurements": (".json",),
}


def check_outputs(outputs, scan=None, force=False):
    """Refuse outputs that cannot be written, would destroy something, or would make the scan unreadable.

    Parameters
    ----------
    outputs : dict
        Paths by their kind, a key of `KINDS`; a path may be None.
    scan : str or Path, optional
        What the command reads.
    force : bool
        Replace a file that is there. Files of the scan are not replaced all the same.

    Raises
    ------
    SegdetError
    """
    outputs = {kind: Path(path) for kind, path in outputs.items() if path}
    if len({path.resolve() for path in outputs.values()}) < len(outputs):
        raise SegdetError(f"{next(iter(outputs.values()))}: is named for {' and '.join(outputs)}; choose two names")
    for kind, path in outputs.items():
        check_kind(path, kind)
        _check_place(path, scan, force)


def _check_place(path, scan, force):
    try:
        if not path.parent.is_dir():
            raise SegdetError(f"{path}: its folder does not exist; make it first")
        if path.is_dir():
            raise SegdetError(f"{path}: is a folder; name a file in it")
        if scan is not None:
            check_not_of_scan(path, scan)
        if os.path.lexists(path):
            if not path.is_file():
                raise SegdetError(f"{path}: is no regular file; choose another name")
            if not force:
                raise SegdetError(f"{path}: is there already; add --force to replace it, or choose another name")
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise FormatError(f"{path}: cannot be written ({error.strerror})") from error


def check_kind(path, kind):
    """Refuse an extension in which this kind of output cannot be written."""
    suffix = extension(Path(path))
    if suffix not in KINDS[kind]:
        found, expected = suffix or "a name without extension", ", ".join(KINDS[kind])
        one_of = "one of " * (len(KINDS[kind]) > 1)
        raise FormatError(f"{path}: cannot write {kind} as {found}; expected {one_of}{expected}")


def check_not_of_scan(path, scan):
    """Refuse to replace a file that a scan is read from, or another of its series, or to add one to its series."""
    path, scan = Path(path), Path(scan)
    files = [scan]
    if scan.is_dir():
        files = _inside(scan)
    elif scan.exists() and extension(scan) in (".mhd", ".nhdr"):  # the voxels are in other files of its folder
        files = _inside(scan.parent)
    replaced = os.path.exists(path) and any(path.samefile(file) for file in files if os.path.exists(file))
    series = _series(scan)
    if replaced or path.resolve() == scan.resolve() or (series is not None and series == _series(path)):
        raise FormatError(f"{path}: would overwrite the scan or a file beside it; choose another name or folder")
    if extension(path) == ".dcm" and (folder := _joined(path, scan, series)):
        raise FormatError(f"{path}: would become a part of the series in {folder}; choose another folder")


def _inside(folder):
    """The files and folders in a folder; an error names it, and not the output."""
    with reading(folder):
        return [*folder.iterdir()]


def _joined(path, scan, series):
    """The folder of the scan's slices where the file would be one of them, by its name or by what the name links to."""
    places = path.parent.resolve(), path.resolve().parent
    if scan.is_dir():
        return scan if scan.resolve() in places else None
    if series is None or _multi_frame(scan):  # which is a whole scan, whatever is beside it
        return None
    for folder in {scan.parent, scan.resolve().parent}:
        beside = (file for file in _inside(folder) if not (os.path.exists(file) and file.samefile(scan)))
        if folder.resolve() in places and any(_series(file) == series for file in beside):
            return folder
    return None


def _series(path):
    """The UID of the series of a DICOM file, "" where it has none; None for what is no readable DICOM file."""
    header = _header(path)
    return None if header is None else str(header.get("SeriesInstanceUID") or "")


def _multi_frame(path):
    return int(_header(path).get("NumberOfFrames") or 1) > 1


def _header(path):
    with suppress(SegdetError), reading(path):
        if path.is_file() and is_dicom(path):
            from .dicom.pixels import open_dicom  # pydicom is not needed for the others

            with silenced():
                return open_dicom(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "NumberOfFrames"])
    return None
