"""What is a label (chapter 02)."""

import numpy as np

from ..errors import FormatError

LABEL_TOLERANCE = 1e-3  # by which a float may be off a label number


def label_numbers(volume, path):
    """Voxels as label numbers: rounded where they are floats; integers are not copied.

    Raises
    ------
    FormatError
        A value is no whole number.
    """
    if volume.voxels.dtype.kind != "f":
        return volume.voxels
    numbers = np.rint(volume.voxels)
    between = volume.voxels[np.abs(volume.voxels - numbers) > LABEL_TOLERANCE]
    if between.size:
        raise FormatError(
            f"{path}: a label is a whole number, found {listed(np.unique(between))}; threshold probabilities, undo a "
            "scale, or resample labels by the nearest neighbour, and store the result"
        )
    return numbers


def unturned(planes, affine, path):
    """Label maps, (D, H, W), with those axes turned back that run from the last voxel, at 0 mm, to the first.

    Pictures have no direction, and most label maps are stored as the pictures are, whatever their affine says; but a
    program that turns axes into its own order puts the origin at the other end.
    """
    for axis, size in enumerate(planes.shape):
        step, start = affine[2 - axis, axis], affine[2 - axis, 3]
        if size == 1 or step >= 0 or abs(start) < abs(step) / 2:
            continue
        if abs(start + (size - 1) * step) > abs(step) / 2:
            raise FormatError(
                f"{path}: its axis {'kji'[axis]} is turned, from {start:g} mm in steps of {step:g} mm; expected the "
                "axes of the pictures, columns, rows, pictures, from 0 mm up: store the label maps again in their order"
            )
        planes = np.flip(planes, axis)
    return planes


def listed(values):
    """The first of some numbers in one line."""
    text = ", ".join(f"{value:g}" for value in values[:8])
    return f"{text}, ... ({len(values)} values)" if len(values) > 8 else text
