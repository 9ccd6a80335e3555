import numpy as np


def places(count, step, scan_count, scan_step):
    return (np.arange(count) - (count - 1) / 2) * step / scan_step + (scan_count - 1) / 2


def attended_region(attention, spacing, margin):
    if not attention.any():
        return (slice(None),) * 3
    region = []
    for axis, (size, step) in enumerate(zip(attention.shape, spacing, strict=True)):
        held = np.flatnonzero(attention.any(tuple({0, 1, 2} - {axis})))
        first, end = held[0], held[-1] + 1
        length = end - first + 2 * int(np.ceil(margin / step))
        length = min(max(length + -length % 8, 16), size)
        start = min(max((first + end - length) // 2, 0), size - length)
        region.append(slice(start, start + length))
    return tuple(region)
