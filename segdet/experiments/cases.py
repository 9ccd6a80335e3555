"""Annotated scans ready for the networks, and how they are split (chapter 10)."""

import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..boxes import pad_boxes
from ..errors import SegdetError, TrainingError
from ..intensities import normalise
from ..io.dataset import folder_pairs, read_cases, tell_notes
from ..phantom.cache import cached_phantoms
from ..phantom.make import parameters_of
from ..pipeline import Grids
from ..resampling import resample_array
from ..runtime.tensors import digest
from ..volume import slice_boxes, tight_box


@dataclass(frozen=True, eq=False)
class Case:
    """One annotated scan on both working grids, ready for the networks."""

    name: str
    slices: torch.Tensor  # (D, H, W) in [0, 1]: the detector's input
    slice_mask: np.ndarray  # (D, H, W) bool
    boxes: torch.Tensor  # (D, M, 4): the tight boxes of the annotation, padded
    image: torch.Tensor  # (d, h, w), zero mean, unit deviation: the segmenter's input
    mask: np.ndarray  # (d, h, w) bool
    spacing: tuple[float, float, float]  # mm, of the segmenter's grid
    source: str = ""  # a digest of the scan, its annotation and the grids, where it was made from them and not changed
    annotation: np.ndarray | None = None  # bool, on the scan's own grid, where it is kept
    own_spacing: tuple[float, float, float] | None = None  # mm, of that grid

    @property
    def number(self):
        """A number that follows from its name, for what is random about it."""
        return zlib.crc32(self.name.encode())

    @property
    def identity(self):
        """What tells it from other cases, the same on every processor; resampled values would differ by roundings."""
        held = self.slices, self.boxes, self.slice_mask, self.image, self.mask
        return self.source or digest(*(array for array in held if array is not None))


def prepare(volume, grids):
    """An annotated `Volume` as a `Case`; an annotation too small for a grid is kept as one of its voxels, and said.

    Raises
    ------
    SegdetError
        There is no annotation, or it leaves what the grids cover.
    """
    if volume.mask is None:
        raise SegdetError(f"{volume.name}: has no annotation to train on or compare with")
    volume = volume.reoriented(grids.orientation)
    box = tight_box(volume.mask)
    for axis, side in enumerate(box or ()):
        middle = volume.shape[axis] / 2
        reach = max(side.stop - middle, middle - side.start) * volume.spacing[axis]
        if reach > grids.extent[axis] / 2 + volume.spacing[axis]:
            raise SegdetError(
                f"{volume.name}: its annotation reaches {reach:.1f} mm from the scan's centre, beyond the "
                f"{grids.extent[axis] / 2:.1f} mm that the training scans cover; crop the scan around the object"
            )
    fine, coarse, slices, image = grids.inputs(volume)
    for note in dict.fromkeys((*fine.notes[len(volume.notes) :], *coarse.notes[len(volume.notes) :])):
        warnings.warn(f"{volume.name}: {note}", stacklevel=2)
    if box and not (fine.mask.any() and coarse.mask.any()):
        raise SegdetError(f"{volume.name}: its annotation lies beside what the training scans cover; crop the scan")
    boxes = pad_boxes(slice_boxes(fine.mask))
    slices, image = torch.from_numpy(slices), torch.from_numpy(image)
    source = digest(volume.voxels, volume.mask, volume.affine, repr(grids))
    return Case(volume.name, slices, fine.mask, boxes, image, coarse.mask, coarse.spacing, source)


def with_annotation(case, volume):
    """The case that keeps the annotation of its scan, so that it is scored on the scan's own grid (protocol 2)."""
    return replace(case, annotation=volume.mask, own_spacing=volume.spacing)


def as_coarse_as_the_segmenter(case):
    """The case whose slices hold no finer detail in the plane than the segmenter's image (protocol 2).

    They are reduced to the segmenter's rows and columns and enlarged again, so that the detector sees as much as the
    segmenter and boxes keep their coordinates.
    """
    depth, rows, cols = case.slices.shape
    small = (depth, *case.image.shape[1:])
    scale = np.divide((depth, rows, cols), small)
    slices = resample_array(resample_array(case.slices, small, scale), (depth, rows, cols), 1 / scale)
    return replace(case, slices=torch.from_numpy(slices), source=digest(case.identity, "as coarse as the segmenter"))


def renormalised(case, part, how):
    """The case whose ``slices`` or ``image`` are normalised once more, as those of the other network (`facts` B16)."""
    values = torch.from_numpy(normalise(getattr(case, part).numpy(), how))
    return replace(case, source=digest(case.identity, part, how), **{part: values})


def phantom_requests(profile, seed, preset=None, dial=None):
    """The phantoms of a split, to train, to validate and to test, as `cached_phantoms` takes them.

    `preset` and `dial` as in `Plan`.
    """
    total, first = profile.train + profile.validation + profile.test, 1000 * (seed + 1)
    hip = {"version": 2, "preset": preset} if preset else {}
    if dial:
        name, value = dial
        if name == "look_alikes":
            drawn = parameters_of(2, preset) if preset else parameters_of()
            name, value = "parameters", replace(drawn, look_alikes=(value, value))
        hip[name] = value
    return [(first + i, {"side": ("left", "right")[i % 2]} | hip) for i in range(total)]


def phantom_split(profile, seed, preset=None, dial=None):
    """Training, validation and test phantoms of a split, as three lists of `Volume`; no two splits share a scan.

    Training scans are half left, half right (A5); of the test scans the first nine stand for the paper's nine. `preset`
    and `dial` as in `Plan`.
    """
    requests = phantom_requests(profile, seed, preset, dial)
    volumes = cached_phantoms(requests, f"split {seed}: {'{} {}'.format(*dial) if dial else 'phantoms'}")
    last = profile.train + profile.validation
    return volumes[: profile.train], volumes[profile.train : last], volumes[last:]


FOLDS = 5  # of a folder of scans in protocol 2


def fold_split(cases, profile, fold):
    """One of `FOLDS` splits that share no scan at all (protocol 2): `folder_split` of every `FOLDS`-th scan.

    Raises
    ------
    SegdetError
        There are not so many folds, or a fold holds too few scans.
    """
    if not 0 <= fold < FOLDS:
        raise SegdetError(f"protocol 2 has {FOLDS} folds of a folder of scans, 0 to {FOLDS - 1}; found {fold}")
    order = np.random.default_rng(0).permutation(len(cases))
    return folder_split([cases[i] for i in order[fold::FOLDS]], profile, fold)


def folder_split(cases, profile, seed):
    """A random split of a list of annotated scans, as three lists; at most as many as the profile asks for.

    Raises
    ------
    SegdetError
        There are fewer than four scans.
    """
    if len(cases) < 4:
        raise SegdetError(
            f"expected at least 4 annotated scans (2 to train, 1 to select, 1 to test), found {len(cases)}; add more"
        )
    order = np.random.default_rng(seed).permutation(len(cases))
    train = min(profile.train, len(cases) // 2)
    validation = min(profile.validation, max(1, len(cases) // 6))
    test = min(profile.test, len(cases) - train - validation)
    picked = [cases[i] for i in order[: train + validation + test]]
    return picked[:train], picked[train : train + validation], picked[train + validation :]


def split_scans(plan, seed):
    """The plan's training, validation and test scans of one seed, as three lists of `Volume`."""
    if plan.data == "phantom":
        return phantom_split(plan.profile, seed, plan.preset, plan.dial)
    split = folder_split if plan.protocol == 1 else fold_split
    pairs = folder_pairs(plan.data)
    try:
        parts = split(pairs, plan.profile, seed)
    except SegdetError as error:
        raise SegdetError(f"{plan.data}: {error}") from error
    volumes = iter(read_cases([pair for part in parts for pair in part], plan.label))
    return tuple([next(volumes) for _ in part] for part in parts)


def prepared_split(plan, seed):
    """Working grids, and the training, validation and test scans of a seed as three lists of `Case`.

    Raises
    ------
    TrainingError
        No training scan, or no validation scan, holds anything to find.
    """
    split = split_scans(plan, seed)
    for part, what in zip(split, ("training", "validation"), strict=False):
        if not any(volume.mask.any() for volume in part):
            names = ", ".join(volume.name for volume in part)
            wanted = "a mask that is not empty" if plan.label is None else f"label {plan.label}"
            raise TrainingError(
                f"{plan.data}: none of the {len(part)} {what} scans of seed {seed} ({names}) holds {wanted}; "
                "see --label, take these scans away or try another seed"
            )
    grids = grids_for(split[0], plan.profile)
    split = [[grids.oriented(volume) for volume in part] for part in split]
    tell_notes(volume for part in split for volume in part)
    train, validation, test = ([prepare(volume, grids) for volume in part] for part in split)
    if plan.protocol == 2:
        test = [with_annotation(case, volume) for case, volume in zip(test, split[2], strict=True)]
    return grids, train, validation, test


def grids_for(volumes, profile):
    """Working grids that hold the largest of the training scans, at the profile's shapes; most of them lie that way."""
    known = Counter(volume.orientation for volume in volumes if volume.orientation)
    orientation = known.most_common(1)[0][0] if known else ()
    sizes = [np.multiply(v.shape, v.spacing) for v in (volume.reoriented(orientation) for volume in volumes)]
    extent = tuple(float(round(e, 6)) for e in np.max(sizes, 0))
    return Grids(extent, profile.detector_shape, profile.segmenter_shape, orientation)
