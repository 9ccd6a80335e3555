import numpy as np


def iou(a, b):
    a, b = np.asarray(a) != 0, np.asarray(b) != 0
    together = (a | b).sum()
    return (a & b).sum() / together if together else 1.0
