"""Reading DICOM beside pydicom (chapter 02)."""

import tempfile
from pathlib import Path

import numpy as np

from .measure import Row, grid, paired

RAW = (256, 397, 192)  # voxels of the paper's raw scans


def bench_reading():
    """`load_volume` beside pydicom on one file, at the size of the paper's raw scans.

    Bare decoding finds no geometry. Of uncompressed pixels it is a copy of memory, so a second row asks pydicom for the
    positions of the slices as well.
    """
    import pydicom
    from pydicom.uid import RLELossless

    from ..io.dicom.write import write_volume
    from ..io.files import load_volume
    from ..phantom.acoustics import make_phantom
    from ..volume import Volume

    def bare():
        return pydicom.dcmread(path).pixel_array

    def with_positions():
        ds = pydicom.dcmread(path)
        frames = ds.PerFrameFunctionalGroupsSequence
        positions = [[*frame.PlanePositionSequence[0].ImagePositionPatient] for frame in frames]
        return ds.pixel_array, np.array(positions, float)

    scan = make_phantom(1).resample(RAW, (0.13, 0.11, 0.20)).voxels
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.dcm"
        write_volume(Volume.from_spacing(scan.astype(np.uint8), (0.13, 0.11, 0.20)), path)
        for peer, function in (("pydicom, bare", bare), ("pydicom, places", with_positions)):
            times = paired(lambda: load_volume(path), function)
            yield Row(f"reading, {grid(RAW)}, raw", peer, *times, limit=1.2)
        ds = pydicom.dcmread(path)
        ds.compress(RLELossless)
        ds.save_as(path)
        yield Row(f"reading, {grid(RAW)}, RLE", "pydicom, bare", *paired(lambda: load_volume(path), bare), limit=1.2)
