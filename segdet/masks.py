"""What counts as a mask (chapter 08)."""

import numpy as np


def as_mask(values, whose="", error=ValueError, labels=True):
    """Values as a mask of True and False; probabilities are refused, for what they mark depends on a threshold.

    Parameters
    ----------
    values : array
        Of bool, of the values 0 and 1, or of whole numbers, all of which but 0 mark the object.
    whose : str
        What the message begins with.
    error : type
        Of what is raised.
    labels : bool
        Whether an integer array may hold other whole numbers than 0 and 1.

    Returns
    -------
    ndarray of bool

    Raises
    ------
    error
        The array holds other values.
    """
    values = np.asarray(values)
    free = "biu" if labels else "b"
    if values.dtype.kind not in free and not np.isin(values, (0, 1)).all():
        raise error(f"{whose}the mask holds values other than 0 and 1; write a threshold, such as probability >= 0.5")
    return values.astype(bool, copy=False)


def two_masks(a, b):
    """Two arrays as masks (`as_mask`) of one shape.

    Raises
    ------
    ValueError
        They differ in shape, or hold values that are no masks.
    """
    a, b = as_mask(a), as_mask(b)
    if a.shape != b.shape:
        raise ValueError(f"two masks of one grid are compared, found {a.shape} and {b.shape}")
    return a, b
