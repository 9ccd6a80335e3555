"""A scan: voxels, where they are in the patient, and optionally what was annotated (chapter 02).

Arrays are ``(D, H, W)`` = (slice, row, column). In the hip volumes the slice axis is the elevation of the
sweep, rows run along depth and columns across the transducer (lateral). Millimetres throughout; patient
coordinates are DICOM's LPS.
"""

from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np
from scipy import ndimage

from .errors import GeometryError
from .intensities import check_voxels, distinct_in_float32, normalise, usual_range
from .masks import as_mask
from .resampling import nearest, resample_array

LARGEST = 1e38  # an intensity; leaves room for differences in float32
SKEW = 0.02  # cosine between two axes of a grid that counts as rectangular; headers round

AXES = "LPSRAI"  # towards left, posterior, superior, and their opposites
ASKEW = np.array([[1, 1e-4, -1e-4], [-1e-4, 1, 1e-4], [1e-4, -1e-4, 1]])  # decides for axes halfway, however stored
DIRECTIONS_UNKNOWN = "directions are unknown"  # what a reader says in a note where its file leaves them open


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels on a regular grid in the patient.

    Parameters
    ----------
    voxels : ndarray, (D, H, W)
        Intensities, any integer or float type.
    affine : ndarray, (4, 4)
        Maps array indices ``(i, j, k, 1)`` = (slice, row, column) to millimetres in LPS.
    mask : ndarray of bool, (D, H, W), optional
        The annotation.
    name : str
        What error messages and tables call this scan.
    notes : tuple of str
        What the reader understood, assumed or could not know; `segdet info` prints them.
    meta : dict
        Facts that travel with the scan (modality, phantom version, source UIDs).
    labels : ndarray of uint8, (D, H, W), optional
        A label map: which structure each voxel belongs to, 0 for none.
    label_names : tuple of str
        What its 1, 2 and so on stand for.

    Raises
    ------
    GeometryError
        If the voxels are no array of numbers, the shapes disagree, a label has no name, a value is not finite, the mask
        holds fractions, or the affine has another last row than 0, 0, 0, 1, or axes of no length or not perpendicular.
    """

    voxels: np.ndarray
    affine: np.ndarray
    mask: np.ndarray | None = None
    name: str = "scan"
    notes: tuple[str, ...] = ()
    meta: dict = field(default_factory=dict)
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] = ()

    def __post_init__(self):
        affine = np.asarray(self.affine, np.float64)
        object.__setattr__(self, "affine", affine)
        check_voxels(self.voxels, self.name)
        _check_affine(affine, self.name)
        for what, array in (("mask is", self.mask), ("labels are", self.labels)):
            if array is not None and array.shape != self.voxels.shape:
                raise GeometryError(
                    f"{self.name}: the {what} {array.shape}, the voxels are {self.voxels.shape}; "
                    "they must lie on the same grid"
                )
        if self.mask is not None:
            object.__setattr__(self, "mask", as_mask(self.mask, f"{self.name}: ", GeometryError))
        if self.labels is not None and self.labels.max() > len(self.label_names):
            raise GeometryError(
                f"{self.name}: its labels go up to {self.labels.max()}, but {len(self.label_names)} have a name; "
                "name each in label_names"
            )

    @classmethod
    def from_spacing(cls, voxels, spacing, mask=None, **kwargs):
        """A volume that is aligned with LPS, its first voxel at the origin; `spacing` is (dz, dy, dx) in mm."""
        return cls(voxels, axis_aligned_affine(spacing), mask, **kwargs)

    @property
    def shape(self):
        """(D, H, W)."""
        return self.voxels.shape

    @property
    def spacing(self):
        """(dz, dy, dx) in mm: the lengths of the affine's first three columns."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def orientation(self):
        """Where slices, rows and columns run in the patient: for each the nearest of `AXES`, such as ("S", "P", "L").

        Empty where the reader noted that the directions are unknown.
        """
        if any(DIRECTIONS_UNKNOWN in note for note in self.notes):
            return ()
        cosines = ASKEW @ self.affine[:3, :3] / self.spacing
        nearest = max(permutations(range(3)), key=lambda axes: np.abs(cosines[axes, range(3)]).sum())
        return tuple(AXES[axis + 3 * (cosines[axis, i] < 0)] for i, axis in enumerate(nearest))

    def check_scan(self):
        """Refuse still pictures, of which a reader says so in `meta`: nothing lies between them, they are no scan.

        Raises
        ------
        GeometryError
        """
        if self.meta.get("stills"):
            raise GeometryError(
                f"{self.name}: holds still pictures, not the slices of one scan; only a 3D scan will do here. "
                "Read pictures with segdet.io.stills.load_pictures"
            )

    def reoriented(self, orientation):
        """This scan with its array axes exchanged and turned round until its orientation is the one asked for.

        Every voxel stays where it is in the patient. Unchanged where either orientation is empty.

        Parameters
        ----------
        orientation : tuple of 3 letters, or empty
            As `Volume.orientation`.

        Returns
        -------
        Volume
        """
        own = self.orientation
        if not own or not orientation or own == tuple(orientation):
            return self
        order = [[AXES.index(o) % 3 for o in own].index(AXES.index(letter) % 3) for letter in orientation]
        turned = [axis for axis, letter in enumerate(orientation) if own[order[axis]] != letter]
        affine = self.affine[:, [*order, 3]]
        for axis in turned:
            affine[:3, 3] += affine[:3, axis] * (self.shape[order[axis]] - 1)
            affine[:3, axis] *= -1

        def stored(array):
            return np.ascontiguousarray(np.flip(array.transpose(order), turned))

        mask, labels = (None if array is None else stored(array) for array in (self.mask, self.labels))
        return replace(self, voxels=stored(self.voxels), affine=affine, mask=mask, labels=labels)

    def resample(self, shape, spacing):
        """This scan on another grid with the same axes and the same centre.

        Voxels outside the scan take its minimum. The mask is kept where at least half a voxel is covered; one that
        would vanish for being too small is kept where most of a voxel is, and a note says so. A voxel takes the label
        of the nearest one.

        Parameters
        ----------
        shape : (D, H, W)
        spacing : (dz, dy, dx) in mm

        Returns
        -------
        Volume
            Its voxels float32.

        Raises
        ------
        GeometryError
            If an intensity is too large for float32; `limited` clips those far outside the others.
        """
        shape = tuple(int(n) for n in shape)
        lowest = float(self.voxels.min())
        self._check_float32(lowest, float(self.voxels.max()))
        scale = np.asarray(spacing, float) / self.spacing
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * scale
        old_centre, new_centre = (np.asarray(self.shape) - 1) / 2, (np.asarray(shape) - 1) / 2
        affine[:3, 3] += self.affine[:3, :3] @ old_centre - affine[:3, :3] @ new_centre
        voxels = resample_array(self.voxels, shape, scale, fill=lowest)
        mask, notes = None, self.notes
        if self.mask is not None:
            share = resample_array(self.mask, shape, scale)
            mask = (share > 0) & (share >= min(0.5, share.max()))
            if 0 < share.max() < 0.5:
                before, after = np.count_nonzero(self.mask), np.count_nonzero(mask)
                size = " x ".join(f"{s:.3g}" for s in spacing)
                notes += (
                    f"a mask of {before} voxel(s) covers less than half a voxel of {size} mm anywhere: "
                    f"it was kept as {after} of these",
                )
        labels = None if self.labels is None else nearest(self.labels, shape, scale)
        return replace(self, voxels=voxels, affine=affine, mask=mask, notes=notes, labels=labels)

    def limited(self):
        """This scan with the voxels far outside its other intensities clipped to these, and a note that says so.

        Returns
        -------
        volume : Volume
            The scan itself where there are none.
        usual : bool array, (D, H, W), or None
            The other voxels; None where these are all.

        Raises
        ------
        GeometryError
            If even the others are too large for float32.
        """
        low, high = usual_range(self.voxels)
        self._check_float32(low, high)
        ends = {float(self.voxels.min()), float(self.voxels.max())} - {low, high}
        if not ends:
            return self, None
        usual = (self.voxels >= low) & (self.voxels <= high)
        note = (
            f"voxels far outside the range {low:g} to {high:g} of the others: {np.count_nonzero(~usual)} of "
            f"{usual.size}, up to {' and '.join(f'{end:g}' for end in sorted(ends))}; the networks see them clipped to "
            "that range, and they do not count in the normalisation"
        )
        voxels = self.voxels.clip(low, high).astype(self.voxels.dtype)
        return replace(self, voxels=voxels, notes=tuple(dict.fromkeys((*self.notes, note)))), usual

    def _check_float32(self, low, high):
        if max(-low, high) > LARGEST:
            raise GeometryError(f"{self.name}: its intensities, {low:.3g} to {high:.3g}, are too large; rescale it")

    def normalised(self, how="zscore"):
        """Intensities on a common scale (the paper does not say which, `facts` B16).

        Voxels far outside the others (`segdet.intensities.usual_range`) are clipped to them and do not count.

        Parameters
        ----------
        how : str
            ``"zscore"``: zero mean, unit deviation. ``"unit"``: the 0.5 and 99.5 percentiles become 0 and 1, the
            rest is clipped. A constant scan becomes all zeros.

        Returns
        -------
        ndarray of float32, (D, H, W)
        """
        scan, usual = self.limited()
        return normalise(distinct_in_float32(scan.voxels), how, usual)


def _check_affine(affine, name):
    lengths = np.linalg.norm(affine[:3, :3], axis=0) if affine.shape == (4, 4) else np.zeros(3)
    if not np.isfinite(affine).all() or lengths.min() == 0 or not np.allclose(affine[3], (0, 0, 0, 1)):
        raise GeometryError(f"{name}: no invertible affine that ends in 0, 0, 0, 1; mend its header: {affine.tolist()}")
    axes = affine[:3, :3] / lengths
    if np.abs(axes.T @ axes - np.eye(3)).max() > SKEW:
        raise GeometryError(f"{name}: its axes are not perpendicular (shear or tilted gantry); resample the scan first")


def axis_aligned_affine(spacing):
    """Index (slice, row, column) to LPS mm for axes (z, y, x) from the origin, (4, 4); `spacing` (dz, dy, dx) in mm."""
    if np.shape(spacing) != (3,) or not all(0 < step < np.inf for step in spacing):
        raise GeometryError(f"a spacing is (dz, dy, dx), three numbers of mm above 0; found {spacing}")
    affine = np.diag([0.0, 0, 0, 1])
    affine[[2, 1, 0], [0, 1, 2]] = spacing
    return affine


def with_neighbours(slices):
    """Every slice between the one before and the one after, (D, H, W) -> (D, 3, H, W); the ends repeat themselves."""
    around = np.arange(len(slices))[:, None] + (-1, 0, 1)
    return slices[around.clip(0, len(slices) - 1)]


def slice_boxes(mask):
    """Tight boxes of every connected region of every slice (the paper's section 3.1; a slice may hold none).

    Parameters
    ----------
    mask : ndarray of bool, (D, H, W)

    Returns
    -------
    list of D ndarrays of float32, (n, 4)
        Boxes (x0, y0, x1, y1) in pixels, in the convention of `segdet.boxes`.
    """
    boxes = []
    for plane in as_mask(mask):
        regions = ndimage.find_objects(ndimage.label(plane)[0]) if plane.any() else []
        rows = [(cols.start, rows.start, cols.stop, rows.stop) for rows, cols in regions]
        boxes.append(np.asarray(rows, np.float32).reshape(-1, 4))
    return boxes


def tight_box(mask):
    """The smallest 3D box around a mask as three slices, or None when the mask is empty."""
    found = ndimage.find_objects(as_mask(mask).astype(np.uint8))
    return found[0] if found else None
