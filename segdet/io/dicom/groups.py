"""Multi-frame functional groups: what an enhanced image or a SEG says about each of its frames (chapter 02)."""

import numpy as np
from pydicom.datadict import tag_for_keyword

from ...errors import FormatError, GeometryError
from .geometry import check_count

MOST_FRAMES = 20_000  # a header of so many frames takes seconds to read
OWN_FRAME = "positions are in the volume's own frame of reference: LPS directions are unknown"


class Groups:
    """The functional groups of a data set (PS3.3, C.7.6.16); each stands in its frame or in the shared item.

    Raises
    ------
    FormatError
        If the frames that are announced are not those described.
    """

    def __init__(self, ds, path):
        self.path, self.frames = path, list(ds.get("PerFrameFunctionalGroupsSequence") or [])
        self.shared = (ds.get("SharedFunctionalGroupsSequence") or [{}])[0]
        count, announced = len(self.frames), int(ds.get("NumberOfFrames") or 1)
        if count != announced:
            raise FormatError(f"{path}: announces {announced} frames, but describes {count}")
        if count > MOST_FRAMES:
            raise FormatError(f"{path}: has {count} frames, expected at most {MOST_FRAMES}; export fewer time points")
        self.own = set().union(*(item.keys() for item in self.frames))

    def items(self, sequence):
        """The item of every frame; a single one where it is the same for all."""
        shared = (self.shared.get(sequence) or [{}])[:1]
        if tag_for_keyword(sequence) not in self.own:
            return shared
        return [(item.get(sequence) or shared)[0] for item in self.frames]

    def each(self, found):
        """What was found, once for every frame."""
        return found if len(found) == len(self.frames) else found * len(self.frames)

    def values(self, sequence, keyword):
        """An array with a row for every item; None where one lacks it."""
        found = [group.get(keyword) for group in self.items(sequence)]
        if any(value is None for value in found):
            return None
        for value in found:
            check_count(keyword, value, self.path)
        return np.array(found, float)

    def common(self, sequence, keyword):
        """The row that all items share."""
        found = self.values(sequence, keyword)
        if found is None:
            raise GeometryError(f"{self.path}: {keyword} is missing, so the place of the voxels is unknown")
        if np.abs(found - found[0]).max() > 1e-4:
            raise GeometryError(f"{self.path}: {keyword} differs between frames; expected one stack of equal slices")
        return found[0]

    def geometry(self):
        """Where the frames are.

        Returns
        -------
        positions : ndarray, (frames, 3)
            Of their first pixels, mm.
        orientation : ndarray, (6,)
            See `segdet.io.dicom.geometry.stack_slices`.
        spacing : ndarray, (2,)
            (dy, dx) in mm.
        notes : tuple of str

        Raises
        ------
        GeometryError
            If something is missing, or differs between frames that form one stack.
        """
        space, suffix, notes = "Patient", "", ()
        positions = self.values("PlanePositionSequence", "ImagePositionPatient")
        if positions is None:
            space, suffix, notes = "Volume", "Volume", (OWN_FRAME,)
            positions = self.values("PlanePositionVolumeSequence", "ImagePositionVolume")
        if positions is None:
            raise GeometryError(f"{self.path}: its frames have neither ImagePositionPatient nor ImagePositionVolume")
        positions = np.broadcast_to(positions, (len(self.frames), 3))
        orientation = self.common(f"PlaneOrientation{suffix}Sequence", f"ImageOrientation{space}")
        return positions, orientation, self.common("PixelMeasuresSequence", "PixelSpacing"), notes
