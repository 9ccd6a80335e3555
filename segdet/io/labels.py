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


def listed(values):
    """The first of some numbers in one line."""
    text = ", ".join(f"{value:g}" for value in values[:8])
    return f"{text}, ... ({len(values)} values)" if len(values) > 8 else text
