import torch


def coverage_and_leakage(attention, annotation):
    shared = (attention & annotation).sum()
    coverage = shared / annotation.sum() if annotation.any() else 1.0
    leakage = 1 - shared / attention.sum() if attention.any() else 0.0
    return coverage, leakage


def boxes_to_mask(boxes, shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    edges = torch.ceil(boxes - 0.5).clamp(min=0).long()
    for plane, of_slice in zip(mask, edges.tolist(), strict=True):
        for x0, y0, x1, y1 in of_slice:
            plane[y0:y1, x0:x1] = True
    return mask
