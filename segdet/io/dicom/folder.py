"""A folder of DICOM files: its images, series by series, and what lies beside them (chapter 02)."""

import filecmp
from collections import Counter, defaultdict
from pathlib import Path

from ...errors import FormatError
from ..checks import is_dicom, one_line, reading
from .geometry import sop_class_name
from .pixels import open_dicom

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
MOST_LISTED = 12


def dicom_files(path):
    """The DICOM files of a folder (not of the folders below it) sorted by name, or the file itself."""
    path = Path(path)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and is_dicom(file))
    return [path] if is_dicom(path) else []


def image_headers(files):
    """The headers of the images among DICOM files, and what the others are.

    An image has rows, or is of the kind of one that has, which the start of a file that is cut off says as well. A
    copy of an image is none, nor is a DICOMDIR, which is not counted.
    """
    headers = []
    for file in files:
        with reading(file):
            headers.append(open_dicom(file, stop_before_pixels=True))
    headers = [ds for ds in headers if ds.file_meta.get("MediaStorageSOPClassUID") != MEDIA_DIRECTORY]
    kinds = {_kind(ds) for ds in headers if ds.get("Rows")}
    images, others, first = [], [], {}
    for ds in headers:
        if _kind(ds) not in kinds:
            others.append(sop_class_name(ds))
        elif _is_copy(ds, first.setdefault(ds.get("SOPInstanceUID") or ds.filename, ds)):
            others.append("copy of another file")
        else:
            images.append(ds)
    return images, others


def _kind(ds):
    return ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID")


def _is_copy(ds, first):
    """Whether two data sets that have one UID, which some programs give to all slices, are the same file twice."""
    return ds is not first and filecmp.cmp(ds.filename, first.filename, shallow=False)


def choose_series(folder, series=None):
    """The headers of one series of a folder.

    Parameters
    ----------
    folder : Path
    series : int or str, optional
        Its number or its UID; may be left out where there is one only.

    Returns
    -------
    slices : list of pydicom.Dataset
        Without pixels.
    notes : tuple of str
        What was passed over.

    Raises
    ------
    FormatError
        If there is no image, no such series, or several and none was chosen; or an image is cut off.
    """
    files = dicom_files(folder)
    images, others = image_headers(files)
    passed = Counter(others)
    visible = {file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")}
    passed["no DICOM"] = len(visible - set(files))
    passed = ", ".join(f"{count} x {kind}" for kind, count in passed.items() if count)
    if not images:
        raise FormatError(
            f"{folder}: no DICOM {'image' if others else 'file'} in this folder (folders below it are not searched)"
            + f"; it holds {passed}" * bool(passed)
        )
    members = defaultdict(list)
    for ds in images:
        if not (ds.get("Rows") or ds.get("SeriesInstanceUID")):
            raise FormatError(f"{ds.filename}: is cut off, not even its series is known; copy it again or take it away")
        members[str(ds.get("SeriesInstanceUID") or "")].append(ds)
    found = [uid for uid in members if series is None or str(series) in (uid, series_number(members[uid][0]))]
    if len(found) != 1:
        what = "choose one with series" if found else f"none is series {one_line(series, 64)}"
        raise FormatError(f"{folder}: holds {len(members)} series; {what}: {_listed(members)}")
    return members[found[0]], (f"files passed over: {passed}",) * bool(passed)


def series_number(ds):
    """The number of the series as text; empty where there is none."""
    number = ds.get("SeriesNumber")
    return "" if number is None else str(int(number))


def _listed(members):
    """Every series by its number, or by its UID where the number does not tell it apart. No text: it may hold names."""
    numbers = Counter(series_number(slices[0]) for slices in members.values())
    lines = []
    for uid, slices in members.items():
        first, number = slices[0], series_number(slices[0])
        name = number if number and numbers[number] == 1 else uid or "without UID"
        modality = one_line(first.get("Modality") or "no modality", 16)
        files = f"{len(slices)} file{'s' * (len(slices) > 1)} of {first.get('Rows')} x {first.get('Columns')}"
        lines.append(f"{name} ({modality}, {files})")
    return ", ".join(lines[:MOST_LISTED]) + f" and {len(lines) - MOST_LISTED} more" * (len(lines) > MOST_LISTED)
