"""What surrounds the two networks, whichever engine runs them: grids, the search, and the way back (chapter 09).

Nothing here needs PyTorch.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from numbers import Real

import numpy as np

from .attention import attended_region, painted
from .errors import GeometryError, SegdetError
from .intensities import distinct_in_float32, normalise
from .resampling import covered, resample_array
from .volume import AXES, with_neighbours

BATCH = 16  # slices that the detector sees at once


@dataclass(frozen=True)
class Grids:
    """The two grids that the networks work on. Both cover the same millimetres around the scan's centre.

    The paper has one grid, 128 x 184 x 96 (section 4). Here the segmenter's may be coarser. A scan whose axes run
    otherwise than those of the training scans is reoriented first.
    """

    extent: tuple[float, float, float]  # mm along slices, rows, columns
    detector_shape: tuple[int, int, int]
    segmenter_shape: tuple[int, int, int]
    orientation: tuple[str, ...] = ()  # of the training scans, as `Volume.orientation`; empty where it is not known

    @classmethod
    def read(cls, entries):
        """The grids of a file of settings, in which tuples are lists; entries of newer versions do not count.

        Raises
        ------
        TypeError, ValueError
            The file holds no such grids.
        """
        grids = cls(**{name: tuple(entries[name]) for name in cls.__dataclass_fields__ if name in entries})
        for name, kinds in (("extent", (int, float)), ("detector_shape", (int,)), ("segmenter_shape", (int,))):
            values = getattr(grids, name)
            if len(values) != 3 or not all(type(value) in kinds and 0 < value < inf for value in values):
                kind = "three whole numbers" if kinds == (int,) else "three numbers"
                raise ValueError(f"its {name} is {list(values)}; expected {kind} above 0")
        letters = grids.orientation
        axes = sorted(AXES.index(letter) % 3 for letter in letters if letter in [*AXES])
        if letters and (len(letters) != 3 or axes != [0, 1, 2]):
            raise ValueError(f"its orientation is {list(letters)}; expected a letter an axis, such as S, P, L")
        return grids

    def spacing(self, shape):
        """(dz, dy, dx) in mm of a grid of `shape` over the extent."""
        return tuple(e / n for e, n in zip(self.extent, shape, strict=True))

    def oriented(self, volume):
        """The scan with its axes as the training scans have them; a note says what was done or assumed."""
        there, here = ("-".join(orientation) for orientation in (volume.orientation, self.orientation))
        if there == here:
            return volume
        if there and here:
            note = f"its axes run {there} and were brought to {here}, as the training scans have them"
        elif here:
            note = f"its axes were taken to run {here}, as those of the training scans"
        else:
            note = "where the axes of the training scans run is not known; this scan was taken as it is stored"
        return replace(volume.reoriented(self.orientation), notes=(*volume.notes, note))

    def inputs(self, volume):
        """The scan on both grids, and what the networks see of it.

        Voxels of the grid outside the scan are filled with its minimum and do not count in the normalisation, nor do
        those far outside its intensities (`segdet.volume.Volume.limited`).

        Returns
        -------
        fine, coarse : Volume
            On the detector's and the segmenter's grid.
        slices : ndarray of float32, (D, H, W), in [0, 1]
        image : ndarray of float32, (d, h, w), zero mean and unit deviation

        Raises
        ------
        GeometryError
            The scan is so thin that no voxel of a grid has its centre in it, or is none but still pictures.
        """
        volume.check_scan()
        volume, usual = volume.reoriented(self.orientation).limited()
        volume = replace(volume, voxels=distinct_in_float32(volume.voxels))
        found = []
        for shape, how in ((self.detector_shape, "unit"), (self.segmenter_shape, "zscore")):
            spacing = self.spacing(shape)
            grid = volume.resample(shape, spacing)
            scale = np.divide(spacing, volume.spacing)
            inside = covered(volume.shape, shape, scale)
            if not inside.any():
                size = " x ".join(f"{n * s:.3g}" for n, s in zip(volume.shape, volume.spacing, strict=True))
                voxel = " x ".join(f"{s:.3g}" for s in spacing)
                raise GeometryError(
                    f"{volume.name}: its {size} mm lie between the working voxels of {voxel} mm; expected a 3D scan"
                )
            counted = inside if usual is None else inside & (resample_array(usual, shape, scale) > 0.99)
            found.append((grid, normalise(grid.voxels, how, counted if counted.any() else inside)))
        (fine, slices), (coarse, image) = found
        return fine, coarse, slices, image

    def attention_to_segmenter(self, attention):
        """An attention volume (D, H, W) from the detector's grid on the segmenter's: at least half covered."""
        scale = np.divide(self.detector_shape, self.segmenter_shape)
        return resample_array(attention, self.segmenter_shape, scale) >= 0.5


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the cascade says of a scan; `mask` and `probability` are on the scan's own grid.

    The detector's grid runs as `Grids.orientation` says.

    Attributes
    ----------
    mask : ndarray of bool, (D, H, W)
    probability : ndarray of float32, (D, H, W)
    attention : ndarray of bool
        On the detector's grid.
    boxes : ndarray of float32, (slices, top_k, 4)
        On the detector's grid, padded with boxes of no area.
    notes : tuple of str
        What the scan's notes say, and what was assumed of its axes (`Grids.oriented`).
    """

    mask: np.ndarray
    probability: np.ndarray
    attention: np.ndarray
    boxes: np.ndarray
    notes: tuple[str, ...]


class Pipeline:
    """The method around two networks (paper Fig. 1). A subclass runs them: `propose` and `segment`.

    Parameters
    ----------
    grids : Grids
    margin : float or None
        In mm. The segmenter sees the attended region and so much around it; None means the whole scan, as in the paper.

    Raises
    ------
    ValueError
        The margin is no length.
    """

    def __init__(self, grids, margin=None):
        if margin is not None and not (isinstance(margin, Real) and 0 <= margin < inf):
            raise ValueError(f"the margin is {margin!r}; expected None or a number of mm from 0 up")
        self.grids, self.margin = grids, margin

    @property
    def neighbours(self):
        """Whether the detector sees a slice between its two neighbours."""
        raise NotImplementedError

    def propose(self, slices):
        """The detector's boxes, float32 (N, top_k, 4), on slices (N, H, W), or (N, 3, H, W) with `neighbours`."""
        raise NotImplementedError

    def segment(self, image, attention, region):
        """Probability of the foreground, float32 (d, h, w): `image` and `attention` (d, h, w) seen in `region` only."""
        raise NotImplementedError

    def attend(self, slices, step=1):
        """Boxes and attention of the slices, both on the detector's grid.

        Parameters
        ----------
        slices : ndarray of float32, (D, H, W), in [0, 1]
        step : int
            Of `search`.

        Returns
        -------
        boxes : ndarray of float32, (D, top_k, 4)
        attention : ndarray of bool, (D, H, W)
        """
        inputs = with_neighbours(slices) if self.neighbours else slices
        boxes, _ = search(lambda numbers: self.propose(inputs[numbers]), len(slices), step)
        return boxes, painted(boxes, slices.shape)

    def predict(self, volume, attention=None, step=1):
        """Segment one scan of any grid (paper section 3.1, inference).

        Parameters
        ----------
        volume : Volume
        attention : callable, optional
            A volume in, a mask on its grid out, bool (D, H, W), in place of the detector's boxes: for example those
            that a person painted (paper section 5).
        step : int
            The detector looks at every `step`-th slice first, see `search`; 1 means all slices, as in the paper.

        Returns
        -------
        Prediction

        Raises
        ------
        GeometryError
            The attention is not on the scan's grid, or the scan lies between the working voxels.
        ValueError
            The attention is not bool.
        """
        if attention is not None:
            mask = np.asarray(attention(volume))
            if mask.dtype != bool:
                raise ValueError(f"the attention is a mask of True and False, found {mask.dtype}")
            volume = replace(volume, mask=mask)
        seen = self.grids.oriented(volume)
        fine, working, slices, image = self.grids.inputs(seen)
        if attention is None:
            boxes, attended = self.attend(slices, step)
        else:
            boxes, attended = np.zeros((len(slices), 0, 4), np.float32), fine.mask
        coarse = self.grids.attention_to_segmenter(attended)
        region = attended_region(coarse, working.spacing, self.margin)
        inside = self.segment(image, coarse, region)
        scale = np.divide(seen.spacing, working.spacing)
        found = replace(seen, voxels=resample_array(inside, seen.shape, scale), mask=None)
        probability = found.reoriented(volume.orientation).voxels
        return Prediction(probability >= 0.5, probability, attended, boxes, seen.notes)


def search(find, count, step):
    """Boxes of every slice from a look at some of them: every `step`-th and the last, then where boxes begin and end.

    Between two slices that were looked at and

    * hold no box, there is none: an object shorter than `step` slices may be missed;
    * hold one box each, the centre of either inside the other, the box runs on a straight line;
    * are anything else, the slice in the middle is looked at, and so on.

    Parameters
    ----------
    find : callable
        ``find(numbers)`` gives the boxes of the slices of these ascending numbers, (n, top_k, 4).
    count : int
        Slices, D.
    step : int
        1 looks at all of them.

    Returns
    -------
    boxes : ndarray of float32, (D, top_k, 4)
    looked : ndarray of bool, (D,)
    """
    if not isinstance(step, int) or step < 1:
        raise SegdetError(f"step must be a whole number of slices, 1 or more; found {step!r}")
    known, waiting = {}, sorted({*range(0, count, step), count - 1})
    while waiting:
        known |= zip(waiting, find(waiting), strict=True)
        pairs = pairwise(sorted(known))
        waiting = [(a + b) // 2 for a, b in pairs if b - a > 1 and not _continuous(known[a], known[b])]
    looked = np.isin(np.arange(count), list(known))
    boxes = np.stack([known[min(known)]] * count).astype(np.float32)
    for a, b in pairwise(sorted(known)):
        boxes[a : b + 1] = np.linspace(known[a], known[b], b - a + 1)
    return boxes, looked


def _continuous(first, second):
    """Whether the boxes (top_k, 4) of two slices say what lies between: none, or one that moves a little."""
    first, second = (boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)] for boxes in (first, second))
    if len(first) == len(second) == 1:
        low, high = np.maximum(first[0, :2], second[0, :2]), np.minimum(first[0, 2:], second[0, 2:])
        centres = np.stack([(box[0, :2] + box[0, 2:]) / 2 for box in (first, second)])
        return bool(((low <= centres) & (centres < high)).all())
    return len(first) == len(second) == 0
