"""Which frames or slices of a DICOM scan form one volume: stacks, times, echoes, b-values (chapter 02)."""

from collections import Counter, defaultdict

import numpy as np

from ...errors import GeometryError

OF_SLICES = (
    "EchoNumbers", "EchoTime", "InversionTime", "FlipAngle", "DiffusionBValue", "DiffusionGradientOrientation",
    "TriggerTime", "ImageType", "AcquisitionNumber", "AcquisitionDateTime", "AcquisitionTime",
)  # fmt: skip
OF_FRAMES = (
    ("MREchoSequence", "EffectiveEchoTime"), ("MRDiffusionSequence", "DiffusionBValue"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("TemporalPositionSequence", "TemporalPositionTimeOffset"), ("MRImageFrameTypeSequence", "FrameType"),
    ("MRImageFrameTypeSequence", "ComplexImageComponent"), ("CTImageFrameTypeSequence", "FrameType"),
    ("FrameContentSequence", "FrameAcquisitionNumber"),
)  # fmt: skip
BY_ORDER = "nothing but their order in the file says which frames of one position belong together"
OF_CLIPS = (
    "EnergyWindowVector", "DetectorVector", "PhaseVector", "RotationVector", "RRIntervalVector", "TimeSlotVector",
    "TimeSliceVector",
)  # fmt: skip


def of_slices(slices):
    """What each of some slices says of itself that may tell volumes apart: a list for each attribute."""
    return ([plain(ds.get(keyword)) for ds in slices] for keyword in OF_SLICES)


def of_frames(groups):
    """The same of the frames of an enhanced image (`Groups`); dimension indices, whatever they count, come last."""
    for sequence, keyword in OF_FRAMES:
        yield groups.each([plain(item.get(keyword)) for item in groups.items(sequence)])
    indices = groups.each([plain(item.get("DimensionIndexValues")) for item in groups.items("FrameContentSequence")])
    if len({len(index) for index in indices}) == 1:
        yield from zip(*indices, strict=True)


def of_clip(ds, count):
    """The same of the frames of an older multi-frame image."""
    vectors = (plain(ds.get(keyword)) for keyword in OF_CLIPS)
    return (vector for vector in vectors if len(vector) == count)


def plain(value):
    """An attribute as a tuple of numbers or words, empty where it is missing, so that values can be sorted."""
    values = () if value is None or value == "" else (value,) if np.ndim(value) == 0 else tuple(value)
    return tuple(str(each) if isinstance(each, str) else float(each) for each in values)


def split_volumes(positions, keys, path, attributes=(), numbers=None):
    """Split frames into volumes: by stack and time where the file records them, then wherever a position repeats.

    Parameters
    ----------
    positions : ndarray, (n, 3)
        Image positions in mm.
    keys : list of n tuples
        (stack, temporal index) of each frame.
    attributes : iterable of lists of n
        What else may tell volumes apart. One that does has every position equally often for each of its values; the
        volumes are in the order of these values, the first attributes first.
    numbers : list of n, optional
        The order of the frames, by which those of one position are told apart where no attribute does it; their own
        order by default.

    Returns
    -------
    volumes : list of ndarrays
        Frame indices, one array a volume.
    notes : tuple of str
        That some were told apart by the order of the frames in the file alone.

    Raises
    ------
    GeometryError
        If some positions occur more often than others, or nothing tells apart what is at one position.
    """
    members = defaultdict(list)
    for index, key in enumerate(keys):
        members[key].append(index)
    groups = [np.array(members[key]) for key in sorted(members)]
    sizes = sorted({len(group) for group in groups})
    if len(sizes) > 1:
        raise GeometryError(
            f"{path}: its {len(groups)} time points or stacks have {sizes} frames; expected equal numbers"
        )
    if sizes == [1]:
        groups = [np.arange(len(keys))]
    place = np.unique(np.round(positions, 3), axis=0, return_inverse=True)[1].ravel()
    if all(len(np.unique(place[group])) == len(group) for group in groups):
        return groups, ()
    attributes = list(attributes)
    told = [frames for group in groups for frames in _split_by_attributes(group, place, attributes, path)]
    order = range(len(keys)) if numbers is None else numbers
    volumes = [volume for frames in told for volume in _visits(frames, place, order, path)]
    return volumes, (BY_ORDER,) * (numbers is None and len(volumes) > len(told))


def _split_by_attributes(group, place, attributes, path):
    """Frames of which several are at each place, apart where attributes tell them apart."""
    repeats = Counter(place[group].tolist()).values()
    if len(set(repeats)) > 1:
        raise GeometryError(
            f"{path}: some slice positions occur {max(repeats)} times and others {min(repeats)}; expected "
            "every position equally often"
        )
    keys = dict.fromkeys(group.tolist(), ())
    for values in attributes:
        finer = {index: (*key, values[index]) for index, key in keys.items()}
        if _is_complete(finer, place):
            keys = finer
    members = defaultdict(list)
    for index, key in keys.items():
        members[key].append(index)
    return [members[key] for key in sorted(members)]


def _is_complete(keys, place):
    """Whether the frames of every key are at all places, at each equally often."""
    found, everywhere = defaultdict(Counter), len({place[index] for index in keys})
    for index, key in keys.items():
        found[key][place[index]] += 1
    return all(len(counts) == everywhere and len({*counts.values()}) == 1 for counts in found.values())


def _visits(frames, place, numbers, path):
    """The first frames of all places, the second ones, and so on."""
    if len({(place[index], numbers[index]) for index in frames}) < len(frames):
        raise GeometryError(
            f"{path}: holds several slices of the same position and InstanceNumber, and no echo, b-value, time, "
            "ImageType or AcquisitionNumber says which belong together; export each volume as a series of its own"
        )
    at = defaultdict(list)
    for index in sorted(frames, key=lambda index: numbers[index]):
        at[place[index]].append(index)
    return [np.sort(visit) for visit in zip(*at.values(), strict=True)]
