"""Multi-frame images without functional groups: frames are times, slices, or nobody says which (chapter 02)."""

import numpy as np

from ...errors import GeometryError
from ...volume import Volume
from ..checks import choose, chosen_note, single_slice_note
from ..scaling import rescaled
from .geometry import NO_PLACE, facts, slice_distance, stack_slices
from .pixels import grey_frames, without_padding
from .rescale import scales_of
from .ultrasound import plane_spacing
from .volumes import of_clip, plain, split_volumes

NUCLEAR_MEDICINE = "1.2.840.10008.5.1.4.1.1.20"
OFFSETS = "GridFrameOffsetVector", "SliceLocationVector"  # mm along the normal, one for every frame
TIMES = "FrameTime", "FrameTimeVector", "CineRate"
UNPLACED = {
    "ImagePositionPatient": "no ImagePositionPatient: the place in the patient is unknown",
    "ImageOrientationPatient": "no ImageOrientationPatient: LPS directions are unknown",
}


def read_clip(ds, path, frame):
    """A single image, a clip, or a stack of slices; the notes say what the header leaves open.

    Frames that no distance tells apart are taken one after the other, 1 mm apart, along the first axis.
    """
    scales = scales_of([ds], path)
    pixels, padded, notes = grey_frames(ds, path, scales)
    count, distance = len(pixels), slice_distance(ds)
    spacing, of_plane = plane_spacing(ds)
    position, orientation, of_place = _place(ds)
    normal = np.cross(orientation[:3], orientation[3:])
    offsets, of_frames = _offsets(ds, count, path)
    notes += of_plane
    if offsets is None:
        layout, volumes, picked, chosen = "clip" if count > 1 else "single image", count, np.arange(count), frame
        if frame is not None:
            picked = picked[[choose(path, count, frame, "images")]]
            notes += (f"image {frame + 1} of {count} was read, as frame={frame} asked",)
        offsets, distance = np.arange(len(picked)), distance if count == 1 else None
    else:
        positions, keys = position + offsets[:, None] * normal, [("", 0)] * count
        split, of_volumes = split_volumes(positions, keys, path, of_clip(ds, count))
        layout, volumes, chosen = "stack of frames", len(split), choose(path, len(split), frame)
        picked, notes = split[chosen], notes + of_volumes + chosen_note(chosen, volumes)
        offsets = offsets[picked]
    order, affine = stack_slices(position + offsets[:, None] * normal, orientation, spacing, distance, path)
    picked = picked[order]
    if not np.array_equal(picked, range(count)):  # mostly all of them, in order already
        pixels, padded = pixels[picked], padded[picked]
    voxels, of_padding = without_padding(rescaled(pixels, scales * len(pixels)), padded)
    notes, meta = notes + of_padding + of_frames + of_place, facts(ds, layout, volumes, chosen)
    return Volume(voxels, affine, name=path.name, notes=notes, meta=meta)


def _place(ds):
    """Position and orientation of the first frame, those of LPS where there is none, and what is missing."""
    detector = (ds.get("DetectorInformationSequence") or [{}])[0]  # nuclear medicine has them there
    position, orientation = (ds.get(keyword) or detector.get(keyword) for keyword in UNPLACED)
    if not position and not orientation:
        notes = (NO_PLACE,)
    else:
        notes = tuple(note for note, found in zip(UNPLACED.values(), (position, orientation), strict=True) if not found)
    return np.array(position or [0, 0, 0], float), np.array(orientation or [1, 0, 0, 0, 1, 0], float), notes


def _offsets(ds, count, path):
    """Where each frame is along the normal, mm, or None where frames are no slices; and how sure that is."""
    distance = slice_distance(ds)
    if count == 1:
        return None, single_slice_note(count, distance)
    stated = {keyword: np.array(plain(ds.get(keyword)), float) for keyword in (*OFFSETS, "SliceVector")}
    for keyword, places in stated.items():
        if len(places) not in (0, count):
            raise GeometryError(f"{path}: {keyword} has {len(places)} places for {count} frames; export it again")
    for keyword in OFFSETS:
        if len(stated[keyword]):
            return stated[keyword] - stated[keyword][0], ()
    keyword = "SpacingBetweenSlices" if ds.get("SpacingBetweenSlices") else "SliceThickness"
    time = next((keyword for keyword in TIMES if ds.get(keyword)), None)
    if not distance or (time and keyword == "SliceThickness"):
        kind = (f"a clip: its {count} frames follow each other in time, not in space" if time else
                f"nothing says whether its {count} frames are times or slices")  # fmt: skip
        unknown = "between slices is unknown and" if not distance else "between frames"
        return None, (kind, f"the distance {unknown} was set to 1 mm")
    if ds.get("SOPClassUID") == NUCLEAR_MEDICINE and float(ds[keyword].value) < 0:
        distance = -distance  # whose sign is the direction (PS3.3, C.8.4.15)
    if keyword == "SpacingBetweenSlices" and len(stated["SliceVector"]):
        return (stated["SliceVector"] - 1) * distance, ()
    doubt = f"not sure that its {count} frames are slices: placed {abs(distance):g} mm apart, as {keyword} says"
    return np.arange(count) * distance, (doubt + f", though {time} makes them times" * bool(time),)
