import numpy as np
import torch
from scipy import ndimage


def cross_entropy(logits, labels):
    chosen = logits.gather(1, labels[:, None])[:, 0]
    return (torch.logsumexp(logits, 1) - chosen).mean()


def dice(a, b):
    total = a.sum() + b.sum()
    return 2 * (a & b).sum() / total if total else 1.0


def hausdorff95(a, b, spacing):
    if not a.any() or not b.any():
        return 0.0 if a.any() == b.any() else float("inf")
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
    away = [ndimage.distance_transform_edt(~surface, spacing) for surface in surfaces]
    return max(np.percentile(away[1][surfaces[0]], 95), np.percentile(away[0][surfaces[1]], 95))
