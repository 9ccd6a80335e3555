"""Several volumes in one series or file: which slices belong together, whatever their files are called."""

import numpy as np
import pydicom
import pytest
from dicom_samples import image, saved, write_series
from pydicom.dataset import Dataset
from pydicom.uid import NuclearMedicineImageStorage

from segdet.errors import FormatError, GeometryError
from segdet.io.dicom.write import write_volume
from segdet.io.files import load_volume
from segdet.volume import Volume, axis_aligned_affine

PLACES = 6


def series(folder, volumes):
    """Six slices of each volume, filled with 100 times its number (from 1) plus that of the slice.

    `volumes` are the attributes of each. All count their slices alike; the names of the files mix the volumes.
    """
    folder.mkdir(exist_ok=True)
    names = np.random.default_rng(3).permutation(len(volumes) * PLACES)
    for number, attributes in enumerate(volumes):
        voxels = (
            np.full((PLACES, 4, 5), 100 * (number + 1), np.int16) + np.arange(PLACES, dtype=np.int16)[:, None, None]
        )
        write_series(folder / "one", voxels, axis_aligned_affine((2, 1, 1)), start=number * PLACES)
        for file in (folder / "one").iterdir():
            ds = pydicom.dcmread(file)
            ds.InstanceNumber -= number * PLACES
            for keyword, value in attributes.items():
                setattr(ds, keyword, value(ds.InstanceNumber) if callable(value) else value)
            ds.save_as(folder / f"{names[number * PLACES + ds.InstanceNumber - 1]:03d}.dcm")
            file.unlink()
    return folder


def read(path, count):
    """The grey value of each slice of every volume."""
    with pytest.raises(FormatError, match=f"holds {count} volumes"):
        load_volume(path)
    return [load_volume(path, frame=frame).voxels[:, 0, 0].tolist() for frame in range(count)]


def grey(*numbers):
    return [[100 * number + slice for slice in range(PLACES)] for number in numbers]


@pytest.mark.parametrize(
    "values",
    [
        {"EchoTime": (10, 20)},
        {"EchoNumbers": (1, 2)},
        {"DiffusionBValue": (0.0, 1000.0)},
        {"DiffusionGradientOrientation": ([0.0, 0.0, 1.0], [0.0, 1.0, 0.0])},
        {"InversionTime": (90, 1100)},
        {"TriggerTime": (0, 33.5)},
        {"ImageType": (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])},
        {"AcquisitionNumber": (2, 11)},
        {"AcquisitionTime": ("100000.5", "100002")},
        {"TemporalPositionIdentifier": (1, 2)},
        # The time differs from slice to slice, and says nothing of the volumes.
        {"EchoTime": (10, 20), "TriggerTime": (lambda number: 7 * number, lambda number: 50 - number)},
        {"EchoTime": (None, 20)},
    ],
)
def test_slices_of_one_position_and_number_are_told_apart(values, tmp_path):
    both = [{keyword: value[number] for keyword, value in values.items()} for number in (0, 1)]
    assert read(series(tmp_path, both), 2) == grey(1, 2)
    volume = load_volume(tmp_path, frame=1)
    assert "volume 2 of 2 was read, as frame=1 asked" in volume.notes
    assert volume.spacing == (2, 1, 1)


def test_attributes_tell_volumes_apart_together(tmp_path):
    four = [{"EchoTime": echo, "ImageType": ["ORIGINAL", "PRIMARY", kind]} for kind in "MP" for echo in (10, 20)]
    assert read(series(tmp_path / "a", four), 4) == grey(1, 3, 2, 4)
    four = [{"EchoTime": echo, "TemporalPositionIdentifier": time} for time in (1, 2) for echo in (10, 20)]
    assert read(series(tmp_path / "b", four), 4) == grey(1, 2, 3, 4)


def test_slices_that_nothing_tells_apart_are_refused(tmp_path):
    for name, attributes in (("a", {}), ("b", {"EchoTime": lambda number: 10 + number % 2})):
        with pytest.raises(GeometryError, match=rf"{name}: holds several slices of the same position and InstanceNu"):
            load_volume(series(tmp_path / name, [attributes] * 2), frame=0)


@pytest.mark.parametrize("said", ["DimensionIndexValues", "EffectiveEchoTime", "both", "stacks"])
def test_frames_in_any_order(said, tmp_path):
    voxels = np.concatenate([np.full((1, 4, 5), value, np.uint8) for value in (*range(10, 16), *range(20, 26))])
    for number in (0, 1):
        write_volume(Volume(voxels[:PLACES], axis_aligned_affine((2, 1, 1))), tmp_path / f"{number}.dcm")
    first, second = (pydicom.dcmread(tmp_path / f"{number}.dcm") for number in (0, 1))
    frames = [*first.PerFrameFunctionalGroupsSequence, *second.PerFrameFunctionalGroupsSequence]
    for index, item in enumerate(frames):
        content, echo = item.FrameContentSequence[0], index // PLACES + 1
        content.DimensionIndexValues = [1, index % PLACES + 1]
        if said in ("DimensionIndexValues", "both"):
            content.DimensionIndexValues = [echo, index % PLACES + 1]
        if said in ("EffectiveEchoTime", "both"):
            item.MREchoSequence = [Dataset()]
            item.MREchoSequence[0].EffectiveEchoTime = 10.0 * echo
        if said == "stacks":
            content.StackID = str(echo)
    order = np.random.default_rng(5).permutation(2 * PLACES)
    first.PerFrameFunctionalGroupsSequence = [frames[index] for index in order]
    first.PixelData, first.NumberOfFrames = voxels[order].tobytes(), 2 * PLACES
    path = saved(first, tmp_path / "shuffled.dcm")
    assert read(path, 2) == [[*range(10, 16)], [*range(20, 26)]]


def test_the_vectors_of_nuclear_medicine(tmp_path):
    """Two time slots of three slices, mixed in the file."""
    voxels = np.array([21, 11, 12, 22, 23, 13], np.uint8)[:, None, None] * np.ones((4, 5), np.uint8)
    header = {"SliceVector": [1, 1, 2, 2, 3, 3], "TimeSlotVector": [2, 1, 1, 2, 2, 1]}
    path = image(
        tmp_path / "gated.dcm", voxels, SOPClassUID=NuclearMedicineImageStorage, SpacingBetweenSlices=2,
        PixelSpacing=[1, 1], ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=[1, 0, 0, 0, 1, 0], **header,
    )  # fmt: skip
    assert read(path, 2) == [[11, 12, 13], [21, 22, 23]]
