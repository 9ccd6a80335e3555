"""DICOM files that the tests make: series of slices, single images, frames of any codec."""

import io

import numpy as np
import pydicom
from highdicom.frame import encode_frame
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def oblique_affine(spacing=(0.26, 0.22, 0.4), origin=(-31.25, 12.5, 7.75)):
    """Right-handed, turned by 30 degrees about z and 20 about x; columns are slice, row, column."""
    a, b = np.deg2rad([30, 20])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = (turn * spacing[::-1])[:, ::-1]
    affine[:3, 3] = origin
    return affine


def saved(ds, path):
    ds.save_as(path)
    return path


def write_series(folder, voxels, affine, slope=1.0, intercept=0.0, series="1", start=0):
    """Single-frame CT slices of an (n, rows, columns) int16 array, in shuffled file order."""
    folder.mkdir(exist_ok=True)
    dz, dy, dx = np.linalg.norm(affine[:3, :3], axis=0)
    for index in range(len(voxels)):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[series, str(start + index)])
        ds.PatientName, ds.PatientID, ds.Modality = "Test^Subject", "T1", "CT"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = (
            generate_uid(entropy_srcs=["s"]),
            generate_uid(entropy_srcs=[series]),
        )
        ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["f"])
        ds.ImagePositionPatient = [f"{v:.8f}" for v in affine[:3, 3] + index * affine[:3, 0]]
        orientation = [*affine[:3, 2] / dx, *affine[:3, 1] / dy]
        ds.ImageOrientationPatient = [f"{v:.10f}" for v in orientation]
        ds.PixelSpacing, ds.SliceThickness, ds.InstanceNumber = [dy, dx], dz, start + index + 1
        ds.Rows, ds.Columns = voxels.shape[1:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 1
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        ds.PixelData = voxels[index].tobytes()
        ds.save_as(folder / f"{(index * 37 + start) % 101:03d}.dcm", enforce_file_format=True)
    return folder


def ct_voxels(seed=1, depth=5):
    return np.random.default_rng(seed).integers(-900, 900, (depth, 8, 6), dtype=np.int16)


def encode(frame, syntax, bits, photometric):
    """One frame, (rows, columns[, 3]), as the bytes of an encapsulated syntax."""
    if syntax.name.startswith("JPEG 2000"):  # highdicom would need one more package
        buffer = io.BytesIO()
        lossy = (
            {"irreversible": True, "quality_mode": "dB", "quality_layers": [60]} if "Only" not in syntax.name else {}
        )
        Image.fromarray(frame).save(buffer, "JPEG2000", no_jp2=True, **lossy)
        return buffer.getvalue()
    return encode_frame(frame, syntax, bits, bits, photometric, 0, 0 if frame.ndim == 3 else None)


def image(path, pixels, syntax=ExplicitVRLittleEndian, **header):
    """Write one image of any number of frames, (rows, columns) or (frames, rows, columns); returns the path.

    `header` sets or replaces attributes. Pixels of a compressed syntax come as a list of bytes.
    """
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[str(path)])
    ds.PatientName, ds.Modality, ds.SeriesInstanceUID = "Test^Subject", "CT", generate_uid(entropy_srcs=["i"])
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    if isinstance(pixels, list):
        ds.PixelData = encapsulate(pixels)
        ds["PixelData"].is_undefined_length = True
    else:
        ds.Rows, ds.Columns = pixels.shape[-2:]
        ds.BitsAllocated = ds.BitsStored = 8 * pixels.itemsize
        ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(pixels.dtype.kind == "i")
        if pixels.ndim == 3:
            ds.NumberOfFrames = len(pixels)
        ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    ds["PixelData"].VR = "OW" if syntax == ExplicitVRLittleEndian and pixels.itemsize > 1 else "OB"
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path
