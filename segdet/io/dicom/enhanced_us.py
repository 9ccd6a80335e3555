"""The header of a DICOM Enhanced US Volume, made from a grid alone (chapter 02)."""

import hashlib

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from ...errors import GeometryError

ENHANCED_US_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
# DERIVED would claim other images that this one was made from (PS3.3, C.7.6.1.1.2); a simulation has none. The price
# of ORIGINAL is a time for every frame; they share one, for the simulated sweep takes none.
ORIGINAL = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
WHEN = "20180101000000"
UTC_FRAME_OF_REFERENCE = "1.2.840.10008.15.1.1"
WRITER = {"manufacturer": "segdet", "manufacturer_model_name": "segdet", "software_versions": "1",
          "device_serial_number": "1"}  # fmt: skip


def enhanced_us(volume):
    """The header of an Enhanced US Volume (PS3.3, A.59) with the geometry of `volume`, without pixels.

    Patient and volume frames of reference coincide ("PATIENT" acquisition geometry).
    """
    axes = volume.affine[:3, :3] / np.array(volume.spacing)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise GeometryError(f"{volume.name}: its axes are not perpendicular, as DICOM wants; choose another format")
    depth, rows, columns = volume.shape
    bits = 8 * volume.voxels.dtype.itemsize
    side = {"left": "L", "right": "R"}.get(volume.meta.get("side"), "")
    uid = _uids(volume, side)
    ds = item(
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
        VolumeFrameOfReferenceUID=uid("volume frame"),
        SynchronizationTrigger="NO TRIGGER", AcquisitionTimeSynchronized="N",
        SynchronizationFrameOfReferenceUID=UTC_FRAME_OF_REFERENCE,
        ImageType=ORIGINAL, AcquisitionContextSequence=[], BurnedInAnnotation="NO", LossyImageCompression="00",
        RescaleIntercept=0, RescaleSlope=1, PresentationLUTShape="IDENTITY",
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", PixelRepresentation=0,
        NumberOfFrames=depth, Rows=rows, Columns=columns,
        BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1,
        DimensionOrganizationType="3D",
        DimensionOrganizationSequence=[item(DimensionOrganizationUID=uid("dimensions"))],
        DimensionIndexSequence=[item(DimensionOrganizationUID=uid("dimensions"),
                                      DimensionIndexPointer=0x00209301,
                                      FunctionalGroupPointer=0x0020930E)],
        SharedFunctionalGroupsSequence=[_shared_groups(volume.spacing, [*axes[:, 2], *axes[:, 1]], bits)],
        PerFrameFunctionalGroupsSequence=[
            _frame_groups(number, volume.affine[:3, 3] + (number - 1) * volume.affine[:3, 0])
            for number in range(1, depth + 1)
        ],
        **_acquisition(rows * volume.spacing[1]),
    )  # fmt: skip
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _uids(volume, side):
    """Makes a UID for each role, from the content of the scan."""
    digest = hashlib.sha256(np.ascontiguousarray(volume.voxels).tobytes() + volume.affine.tobytes())
    digest.update(repr((volume.shape, volume.voxels.dtype.str, side)).encode())
    return lambda role: generate_uid(entropy_srcs=["segdet", role, digest.hexdigest()])


def _acquisition(millimetres):
    """How a simulated sweep of so much depth was acquired (PS3.3, C.8.24)."""
    return {
        "UltrasoundAcquisitionGeometry": "PATIENT",
        "PatientFrameOfReferenceSource": "ESTIMATED",
        "VolumeToTransducerMappingMatrix": [float(v) for v in np.eye(4).ravel()],
        "AnatomicRegionSequence": _code(codes.SCT.Phantom),
        "ViewCodeSequence": _code(codes.SCT.Coronal),
        "TransducerScanPatternCodeSequence": _code(codes.DCM.VolumeScanPattern),
        "TransducerGeometryCodeSequence": _code(codes.DCM.LinearUltrasoundTransducerGeometry),
        "TransducerBeamSteeringCodeSequence": _code(codes.DCM.MechanicalBeamSteering),
        "TransducerApplicationCodeSequence": _code(codes.DCM.ExternalTransducer),
        "MechanicalIndex": 0.0,
        "BoneThermalIndex": 0.0,
        "CranialThermalIndex": 0.0,
        "SoftTissueThermalIndex": 0.0,
        "DepthOfScanField": round(millimetres),
        "DepthsOfFocus": [millimetres / 2],
        "AcquisitionDuration": 0.0,
        "PositionMeasuringDeviceUsed": "RIGID",
    }


def _shared_groups(spacing, orientation, bits):
    """What holds for all frames (PS3.3, A.59.4): spacing (dz, dy, dx) in mm, axes, kind and window."""
    dz, dy, dx = spacing
    (thickness,) = decimals([dz])
    return item(
        PixelMeasuresSequence=[item(PixelSpacing=decimals([dy, dx]), SliceThickness=thickness,
                                     SpacingBetweenSlices=thickness)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=decimals(orientation))],
        PlaneOrientationVolumeSequence=[item(ImageOrientationVolume=[float(v) for v in orientation])],
        USImageDescriptionSequence=[item(FrameType=ORIGINAL,
                                          VolumetricProperties="VOLUME",
                                          VolumeBasedCalculationTechnique="NONE")],
        ImageDataTypeSequence=[item(DataType="TISSUE_INTENSITY", AliasedDataType="NO")],
        TemporalPositionSequence=[item(TemporalPositionTimeOffset=0.0)],
        FrameVOILUTSequence=[item(WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)],
    )  # fmt: skip


def _frame_groups(number, position):
    """What holds for one frame: its number, from 1, its time, and the place of its first pixel in mm."""
    return item(
        FrameContentSequence=[item(StackID="1", InStackPositionNumber=number, TemporalPositionIndex=1,
                                    DimensionIndexValues=[number], FrameAcquisitionDateTime=WHEN,
                                    FrameReferenceDateTime=WHEN, FrameAcquisitionDuration=0.0)],
        PlanePositionSequence=[item(ImagePositionPatient=decimals(position))],
        PlanePositionVolumeSequence=[item(ImagePositionVolume=[float(v) for v in position])],
    )  # fmt: skip


def _code(concept):
    return [item(CodeValue=concept.value, CodingSchemeDesignator=concept.scheme_designator,
                  CodeMeaning=concept.meaning)]  # fmt: skip


def item(**attributes):
    """A data set with these attributes."""
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def decimals(values):
    """Numbers as DICOM decimal strings, the 16 characters that they may have used to the full."""
    return [DSfloat(float(value), auto_format=True) for value in values]
