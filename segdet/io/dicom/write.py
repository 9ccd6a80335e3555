"""Writing DICOM: a phantom as an Enhanced US Volume, a mask as a DICOM SEG (chapter 02).

Both are deterministic where it matters: UIDs follow from the content, so the same seed gives the same phantom
file. A phantom carries no patient; a SEG carries the patient of the scan that it was drawn on, as it must, and
nothing else that the scan says of people and places. What the scan's header says of patient and study is often no valid
DICOM: it is repaired or left out here, and said.
"""

import hashlib
import re
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from ...errors import FormatError
from ...runtime.atomic import writing
from ..checks import reading, silenced, without_values
from .enhanced_us import WRITER, enhanced_us, item
from .folder import dicom_files, image_headers

TEXTS = ("PatientName", "ReferringPhysicianName", "PatientID", "AccessionNumber", "StudyID")
DATES, TIME, SEX = ("PatientBirthDate", "StudyDate"), "StudyTime", "PatientSex"
PATIENT_AND_STUDY = (*TEXTS, *DATES, TIME, SEX)
TEXT = ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "SQ")  # value representations that may hold a name


def write_volume(volume, path):
    """Write a scan without a patient, such as a phantom, as a DICOM Enhanced US Volume; a file there is replaced.

    Parameters
    ----------
    volume : Volume
        uint8 or uint16 voxels on a rectangular grid. Slices that run against their normal (a left-handed
        affine) are read back in the opposite order, each at its own place.
    path : str or Path
        Ends in ``.dcm``.

    Raises
    ------
    FormatError
        If the voxels have another type or the file cannot be written.
    GeometryError
        If the axes are not perpendicular.
    """
    path = Path(path)
    if path.suffix.lower() != ".dcm":
        raise FormatError(f"{path}: write_volume writes DICOM; expected a name that ends in .dcm")
    if volume.voxels.dtype not in (np.uint8, np.uint16):
        raise FormatError(f"{path}: an Enhanced US Volume holds uint8 or uint16 voxels, not {volume.voxels.dtype}")
    ds = enhanced_us(volume)
    data = np.ascontiguousarray(volume.voxels).astype(volume.voxels.dtype.newbyteorder("<")).tobytes()
    ds.add_new("PixelData", "OB" if ds.BitsAllocated == 8 else "OW", data + b"\0" * (len(data) % 2))
    with writing(path) as temporary:
        ds.save_as(temporary, enforce_file_format=True)


def write_segmentation(mask, path, like, source=None):
    """Write a mask as a DICOM SEG with one segment; see `segdet.io.files.save_mask`.

    Returns
    -------
    tuple of str
        What the SEG refers to, and what of the scan's patient and study could not be taken over.
    """
    content, notes = _segmentation(mask, path, like, source)
    with writing(path) as temporary:
        temporary.write_bytes(content)
    return notes


def check_segmentation(path, like, source=None):
    """Raise `SegdetError` unless a SEG of this scan can be written: an empty one is, in memory."""
    _segmentation(np.zeros(like.shape, bool), path, like, source)


@silenced()
def _segmentation(mask, path, like, source):
    """The SEG as the bytes of its file, and what `write_segmentation` returns."""
    import highdicom as hd

    headers, repairs = _headers(source, like.meta.get("series_instance_uid"))
    unique = len({ds.get("SOPInstanceUID") for ds in headers}) == len(headers)
    # With several volumes in the scan, highdicom could pair the mask with frames of the wrong one.
    if headers and unique and all(map(_has_place, headers)) and like.meta.get("time_points", 1) == 1:
        images, note = headers, "refers to the frames of the scan"
    else:
        images = [_stand_in(like, headers[0] if headers else Dataset())]
        note = f"{'refers to the scan' if headers else 'no DICOM source'}; its grid was described in memory"
    entropy = ["segdet", str(images[0].SOPInstanceUID), hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()]
    try:
        seg = hd.seg.Segmentation(
            source_images=images,
            pixel_array=mask.astype(np.uint8),
            **_planes(like),
            segmentation_type="BINARY",
            segment_descriptions=[_segment()],
            series_instance_uid=generate_uid(entropy_srcs=[*entropy, "series"]),
            sop_instance_uid=generate_uid(entropy_srcs=[*entropy, "instance"]),
            series_number=100,
            instance_number=1,
            omit_empty_frames=False,  # so that the file spans the grid of the scan
            content_description=note,
            **WRITER,
        )
        if mask[0].size < 8:
            seg.PixelData = _bits(mask, like, seg)
        seg.BurnedInAnnotation = "NO"
        _forget_people(seg, images[0])
        if images is not headers:
            _refer_to_file(seg, headers)
        seg.save_as(content := BytesIO())
    except MemoryError:
        raise
    except Exception as error:  # highdicom and pydicom check the headers of the scan and raise several types
        raise FormatError(
            f"{path}: no DICOM SEG can refer to {source or like.name}: {without_values(error)}; write .nii.gz instead"
        ) from None  # whose message may name the patient
    return content.getvalue(), (note, *repairs)


def _forget_people(seg, scan):
    """Take out of a SEG what highdicom copies from the scan although none needs it (type 3): comments, institutions."""
    kept = (*PATIENT_AND_STUDY, "Manufacturer", "ManufacturerModelName")
    for element in [e for e in seg if e.keyword not in kept and scan.get(e.tag) == e]:
        if element.tag.group == 0x0010 or (element.tag.group in (0x0008, 0x0032) and element.VR in TEXT):
            del seg[element.tag]
    seg.pop("ContributingEquipmentSequence", None)  # of the scan, with the serial number and the place of its device


def _planes(like):
    """Where each slice is. A grid as a whole, highdicom refuses where the scan's header has rounded its axes."""
    import highdicom as hd

    dz, dy, dx = like.spacing
    across, down = like.affine[:3, 2] / dx, like.affine[:3, 1] / dy
    starts = like.affine[:3, 3] + np.arange(len(like.voxels))[:, None] * like.affine[:3, 0]
    return {
        "plane_positions": [hd.PlanePositionSequence("PATIENT", start.tolist()) for start in starts],
        "plane_orientation": hd.PlaneOrientationSequence("PATIENT", [*across, *down]),
        "pixel_measures": hd.PixelMeasuresSequence((dy, dx), slice_thickness=dz, spacing_between_slices=dz),
    }


def _segment():
    import highdicom as hd

    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="segdet",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.AnatomicalStructure,
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence("segdet", codes.DCM.ArtificialIntelligence, "1"),
    )


def _bits(mask, like, seg):
    """The frames of a SEG without a gap (PS3.5, 8.1.1); highdicom begins a byte for each of less than 8 pixels."""
    positions = [item.PlanePositionSequence[0].ImagePositionPatient for item in seg.PerFrameFunctionalGroupsSequence]
    index = np.linalg.solve(like.affine[:3, :3], np.array(positions, float).T - like.affine[:3, 3:])
    bits = np.packbits(mask[np.rint(index[0]).astype(int)], bitorder="little").tobytes()
    return bits + b"\0" * (len(bits) % 2)


def _headers(source, series):
    """The headers of the scan's DICOM images, empty where it is no DICOM, and notes of what was repaired in them.

    Those of one series if it is known, which may be the one without a UID.
    """
    if source is None:
        return [], ()
    changed = {}
    with reading(source):
        headers = [
            ds
            for ds in image_headers(dicom_files(source))[0]
            if series is None or str(ds.get("SeriesInstanceUID") or "") == series
        ]
        for ds in headers:
            changed |= _repair(ds)
    return headers, tuple(f"{keyword} of the scan is no valid DICOM: {how}" for keyword, how in changed.items())


def _repair(ds):
    """Make patient and study valid, in UTF-8, and present, as highdicom wants them; says how, by keyword."""
    changed = {}
    for keyword in PATIENT_AND_STUDY:
        value = ds.get(keyword) or ""
        text = ("\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)).strip("\0 ")
        valid = _valid(keyword, text)
        if valid != text:
            changed[keyword] = "put right" if valid else "left out"
        elif "\N{REPLACEMENT CHARACTER}" in text:
            changed[keyword] = "a part of it could not be decoded"
        setattr(ds, keyword, valid)
    ds.SpecificCharacterSet = "ISO_IR 192"  # can hold any name; the scan's may not be one that highdicom writes
    return changed


def _valid(keyword, text):
    """A value of patient or study in DICOM's form (PS3.5, 6.2); empty where none can be made of it."""
    if keyword == SEX:
        return text.upper() if text.upper() in ("M", "F", "O") else ""
    if keyword == TIME:
        form = r"([01]\d|2[0-3])(([0-5]\d)(([0-5]\d|60)(\.\d{1,6})?)?)?"
        return text.replace(":", "") if re.fullmatch(form, text.replace(":", "")) else ""
    if keyword in DATES:
        found = re.fullmatch(r"(\d{4})([.:/-]?)(\d\d)\2(\d\d)", text)
        try:
            datetime(*map(int, day := found.group(1, 3, 4)))
        except (AttributeError, ValueError):  # no date, or no day of its month
            return ""
        return "".join(day)
    return text


def _stand_in(like, ds):
    """An Enhanced US Volume header with the grid, patient, study and frame of reference of the scan."""
    stand_in = enhanced_us(like)
    for keyword in PATIENT_AND_STUDY:
        setattr(stand_in, keyword, ds.get(keyword, ""))
    for keyword in ("SpecificCharacterSet", "StudyInstanceUID", "SeriesInstanceUID"):
        if ds.get(keyword):
            setattr(stand_in, keyword, ds.get(keyword))
    frame = ds.get("FrameOfReferenceUID") or ds.get("VolumeFrameOfReferenceUID")
    if frame:
        stand_in.FrameOfReferenceUID = frame
    return stand_in


def _refer_to_file(seg, headers):
    """Replace references to the stand-in, which nobody else has, by references to the files of the scan."""
    for frame in seg.PerFrameFunctionalGroupsSequence:
        frame.DerivationImageSequence = []
    named = {ds.SOPInstanceUID: ds for ds in headers if ds.get("SOPClassUID") and ds.get("SOPInstanceUID")}
    references = [item(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=uid) for uid, ds in named.items()]
    if references:  # the series stays that of the stand-in: the scan's own, but for a scan that names none
        seg.SourceImageSequence = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence = references
    else:
        del seg.SourceImageSequence, seg.ReferencedSeriesSequence


def _has_place(ds):
    """Whether highdicom can take positions, orientation and frame of reference from a data set."""
    if not all(ds.get(name) for name in ("FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID")):
        return False
    if "PerFrameFunctionalGroupsSequence" in ds:
        shared = (ds.get("SharedFunctionalGroupsSequence") or [{}])[0]
        return "PlanePositionSequence" in ds.PerFrameFunctionalGroupsSequence[0] and all(
            name in shared for name in ("PlaneOrientationSequence", "PixelMeasuresSequence")
        )
    return "ImagePositionPatient" in ds and int(ds.get("NumberOfFrames") or 1) == 1
