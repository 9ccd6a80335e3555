"""Writing DICOM: a phantom as an Enhanced US Volume, a mask as a DICOM SEG (chapter 02).

Both are deterministic where it matters: UIDs follow from the content, so the same seed gives the same phantom
file. A phantom carries no patient; a SEG carries the patient of the scan that it was drawn on, as it must.
"""

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from .atomic import writing
from .dicom import dicom_files
from .dicom_frames import one_line, reading
from .dicom_pixels import open_dicom
from .errors import FormatError, GeometryError

ENHANCED_US_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
# DERIVED would claim other images that this one was made from (PS3.3, C.7.6.1.1.2); a simulation has none. The price
# of ORIGINAL is a time for every frame; they share one, for the simulated sweep takes none.
ORIGINAL = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
WHEN = "20180101000000"
UTC_FRAME_OF_REFERENCE = "1.2.840.10008.15.1.1"
WRITER = {"manufacturer": "segdet", "manufacturer_model_name": "segdet", "software_versions": "1",
          "device_serial_number": "1"}  # fmt: skip
PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID",
)  # fmt: skip


def write_volume(volume, path):
    """Write a scan without a patient, such as a phantom, as a DICOM Enhanced US Volume.

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


def enhanced_us(volume):
    """The header of an Enhanced US Volume (PS3.3, A.59) with the geometry of `volume`, without pixels.

    Patient and volume frames of reference coincide ("PATIENT" acquisition geometry).
    """
    axes = volume.affine[:3, :3] / np.array(volume.spacing)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise GeometryError(f"{volume.name}: its axes are not perpendicular, which DICOM frames cannot express")
    depth, rows, columns = volume.shape
    dz, dy, dx = volume.spacing
    bits = 8 * volume.voxels.dtype.itemsize
    digest = hashlib.sha256(np.ascontiguousarray(volume.voxels).tobytes() + volume.affine.tobytes())
    side = {"left": "L", "right": "R"}.get(volume.meta.get("side"), "")
    digest.update(repr((volume.shape, volume.voxels.dtype.str, side)).encode())

    def uid(role):
        return generate_uid(entropy_srcs=["segdet", role, digest.hexdigest()])

    def code(concept):
        return [_item(CodeValue=concept.value, CodingSchemeDesignator=concept.scheme_designator,
                      CodeMeaning=concept.meaning)]  # fmt: skip

    orientation = [*axes[:, 2], *axes[:, 1]]
    shared = _item(
        PixelMeasuresSequence=[_item(PixelSpacing=_decimals([dy, dx]), SliceThickness=_decimals([dz])[0],
                                     SpacingBetweenSlices=_decimals([dz])[0])],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=_decimals(orientation))],
        PlaneOrientationVolumeSequence=[_item(ImageOrientationVolume=[float(v) for v in orientation])],
        USImageDescriptionSequence=[_item(FrameType=ORIGINAL,
                                          VolumetricProperties="VOLUME",
                                          VolumeBasedCalculationTechnique="NONE")],
        ImageDataTypeSequence=[_item(DataType="TISSUE_INTENSITY", AliasedDataType="NO")],
        TemporalPositionSequence=[_item(TemporalPositionTimeOffset=0.0)],
        FrameVOILUTSequence=[_item(WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)],
    )  # fmt: skip
    frames = []
    for index in range(depth):
        position = volume.affine[:3, 3] + index * volume.affine[:3, 0]
        frames.append(_item(
            FrameContentSequence=[_item(StackID="1", InStackPositionNumber=index + 1, TemporalPositionIndex=1,
                                        DimensionIndexValues=[index + 1], FrameAcquisitionDateTime=WHEN,
                                        FrameReferenceDateTime=WHEN, FrameAcquisitionDuration=0.0)],
            PlanePositionSequence=[_item(ImagePositionPatient=_decimals(position))],
            PlanePositionVolumeSequence=[_item(ImagePositionVolume=[float(v) for v in position])],
        ))  # fmt: skip
    ds = _item(
        SOPClassUID=ENHANCED_US_VOLUME, SOPInstanceUID=uid("instance"),
        PatientName="", PatientID="", PatientBirthDate="", PatientSex="",
        StudyInstanceUID=uid("study"), StudyDate=WHEN[:8], StudyTime=WHEN[8:], StudyID="",
        AccessionNumber="", ReferringPhysicianName="",
        SeriesInstanceUID=uid("series"), SeriesNumber=1, Modality="US", InstanceNumber=1,
        Laterality=side, PatientOrientation="",  # empty, as the plane orientation of the frames says it
        ContentDate=WHEN[:8], ContentTime=WHEN[8:], AcquisitionDateTime=WHEN,
        Manufacturer=WRITER["manufacturer"], ManufacturerModelName=WRITER["manufacturer_model_name"],
        DeviceSerialNumber=WRITER["device_serial_number"], SoftwareVersions=WRITER["software_versions"],
        FrameOfReferenceUID=uid("patient frame"), PositionReferenceIndicator="",
        VolumeFrameOfReferenceUID=uid("volume frame"), UltrasoundAcquisitionGeometry="PATIENT",
        PatientFrameOfReferenceSource="ESTIMATED",
        VolumeToTransducerMappingMatrix=[float(v) for v in np.eye(4).ravel()],
        SynchronizationTrigger="NO TRIGGER", AcquisitionTimeSynchronized="N",
        SynchronizationFrameOfReferenceUID=UTC_FRAME_OF_REFERENCE,
        ImageType=ORIGINAL, AcquisitionContextSequence=[],
        AnatomicRegionSequence=code(codes.SCT.Phantom), ViewCodeSequence=code(codes.SCT.Coronal),
        TransducerScanPatternCodeSequence=code(codes.DCM.VolumeScanPattern),
        TransducerGeometryCodeSequence=code(codes.DCM.LinearUltrasoundTransducerGeometry),
        TransducerBeamSteeringCodeSequence=code(codes.DCM.MechanicalBeamSteering),
        TransducerApplicationCodeSequence=code(codes.DCM.ExternalTransducer),
        MechanicalIndex=0.0, BoneThermalIndex=0.0, CranialThermalIndex=0.0, SoftTissueThermalIndex=0.0,
        DepthOfScanField=round(rows * dy), DepthsOfFocus=[rows * dy / 2], AcquisitionDuration=0.0,
        PositionMeasuringDeviceUsed="RIGID", BurnedInAnnotation="NO", LossyImageCompression="00",
        RescaleIntercept=0, RescaleSlope=1, PresentationLUTShape="IDENTITY",
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", PixelRepresentation=0,
        NumberOfFrames=depth, Rows=rows, Columns=columns,
        BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1,
        DimensionOrganizationType="3D",
        DimensionOrganizationSequence=[_item(DimensionOrganizationUID=uid("dimensions"))],
        DimensionIndexSequence=[_item(DimensionOrganizationUID=uid("dimensions"),
                                      DimensionIndexPointer=0x00209301,
                                      FunctionalGroupPointer=0x0020930E)],
        SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def write_segmentation(mask, path, like, source=None):
    """Write a mask as a DICOM SEG with one segment; see `segdet.files.save_mask`.

    Returns
    -------
    tuple of str
        What the SEG refers to.
    """
    import highdicom as hd

    headers = _headers(source)
    # With several volumes in the scan, highdicom could pair the mask with frames of the wrong one.
    if headers and all(map(_has_place, headers)) and like.meta.get("time_points", 1) == 1:
        images, note = headers, "refers to the frames of the scan"
    else:
        images = [_stand_in(like, headers[0] if headers else Dataset())]
        note = f"{'refers to the scan' if headers else 'no DICOM source'}; its grid was described in memory"
    algorithm = hd.AlgorithmIdentificationSequence("segdet", codes.DCM.ArtificialIntelligence, "1")
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="segdet",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.AnatomicalStructure,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
    )
    entropy = [
        "segdet",
        str(images[0].SOPInstanceUID),
        hashlib.sha256(np.packbits(mask).tobytes()).hexdigest(),
    ]
    try:
        seg = hd.seg.Segmentation(
            source_images=images,
            pixel_array=hd.Volume(mask.astype(np.uint8), like.affine, coordinate_system="PATIENT"),
            segmentation_type="BINARY",
            segment_descriptions=[segment],
            series_instance_uid=generate_uid(entropy_srcs=[*entropy, "series"]),
            sop_instance_uid=generate_uid(entropy_srcs=[*entropy, "instance"]),
            series_number=100,
            instance_number=1,
            omit_empty_frames=False,  # so that the file spans the grid of the scan
            content_description=note,
            **WRITER,
        )
    except Exception as error:  # highdicom checks the headers of the scan and raises several types
        raise FormatError(
            f"{path}: no DICOM SEG can refer to {source}: {one_line(error)}; write .nii.gz instead"
        ) from error
    seg.BurnedInAnnotation = "NO"
    if images is not headers:
        _refer_to_file(seg, headers)
    with writing(path) as temporary:
        seg.save_as(temporary)
    return (note,)


def _headers(source):
    """The headers of the scan's DICOM files; empty where it is no DICOM."""
    if source is None:
        return []
    with reading(source):
        headers = [open_dicom(file, stop_before_pixels=True) for file in dicom_files(source)]
    for ds in headers:
        for keyword in PATIENT_AND_STUDY:  # may be empty in a valid file, but highdicom wants them present
            if keyword not in ds:
                setattr(ds, keyword, "")
    return headers


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
    for item in seg.PerFrameFunctionalGroupsSequence:
        item.DerivationImageSequence = []
    references = [
        _item(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=ds.SOPInstanceUID)
        for ds in headers
        if ds.get("SOPClassUID") and ds.get("SOPInstanceUID")
    ]
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


def _item(**attributes):
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def _decimals(values):
    """Numbers as DICOM decimal strings, the 16 characters that they may have used to the full."""
    return [DSfloat(float(value), auto_format=True) for value in values]
