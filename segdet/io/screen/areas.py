"""Where the image is on a scanner's screen, among text, rulers and grey bars (chapter 02)."""

import numpy as np
from scipy import ndimage

USUAL = 800  # rows of a screen; pictures of twice and more are shrunk
DARK = 4  # grey levels; what compression leaves on a black screen is darker
PATCH = 15  # pixels; text and ticks fill less than half of a patch of this size
SMALLEST = 64  # pixels of a side of an image
NARROWEST, WIDEST = 10.0, 300.0  # mm; no transducer sees less or further
BRIGHT_LINE = 0.15  # of a row or column of the image that is not dark
BAR, BAR_DARKEST, BAR_RANGE = (60, 8), 20, 40  # pixels and grey levels: the least that is a grey bar
BAR_LONG, BAR_EVEN = 1 / 6, 2  # of the picture's rows at least, and grey levels from column to column at most
BAR_EDGE = 1 / 4  # of an image, at either side, where a bar may lie over it; smooth tissue looks like one, too
SHARE = 0.4  # of the largest image's pixels that a second image on the screen has at least


def image_areas(picture):
    """The image areas of a screen, from left to right; mostly one.

    An area ends where its echoes end. A grey bar at its side is left out.

    Parameters
    ----------
    picture : ndarray of uint8, (H, W)

    Returns
    -------
    list of (top, bottom, left, right)
        In pixels, half open. Empty where the picture is dark.
    """
    if (times := shrinkage(picture)) > 1:
        ends = np.repeat(picture.shape, 2)
        areas = (np.minimum(np.multiply(area, times), ends) for area in image_areas(shrunk(picture, times)))
        return [tuple(area.tolist()) for area in areas]
    bright = picture > DARK
    filled = ndimage.uniform_filter(bright.astype(np.float32), PATCH, mode="constant") > 0.5
    labels, count = ndimage.label(filled)
    sizes, bars, areas = np.bincount(labels.ravel(), minlength=count + 1)[1:], _grey_bars(picture), []
    for size, (rows, columns) in zip(sizes, ndimage.find_objects(labels), strict=True):
        if size >= SHARE * sizes.max() and min(rows.stop - rows.start, columns.stop - columns.start) >= SMALLEST:
            if not (trimmed := _trimmed(bright, rows, columns)):
                continue
            top, bottom, left, right = trimmed
            left, right = _without_bars(bars, left, right)
            if left < right:
                areas.append((top, bottom, left, right))
    return sorted(areas, key=lambda area: area[2])


def shrinkage(picture):
    """By how much a picture is to be shrunk, that text, ticks and grey bars are as large as on a usual screen."""
    return max(1, round(len(picture) / USUAL))


def shrunk(picture, times):
    """A picture, (H, W), of the means of so many rows and columns; the last ones are continued."""
    rows, columns = (-(-n // times) for n in picture.shape)
    whole = np.pad(picture, [(0, n * times - m) for n, m in zip((rows, columns), picture.shape, strict=True)], "edge")
    return np.rint(whole.reshape(rows, times, columns, times).mean((1, 3))).astype(np.uint8)


def unlikely_size(size, area):
    """What a pixel size (dy, dx) in mm makes of an image area that no transducer sees, "" where it may be an image.

    An area of fewer columns than an image has may be narrow or deep.
    """
    top, bottom, left, right = area
    deep, wide, whole = size[0] * (bottom - top), size[1] * (right - left), right - left >= SMALLEST
    if not 0 < wide <= WIDEST or (whole and wide < NARROWEST):
        return f"its image area {wide:g} mm wide"
    return f"its image area {deep:g} mm deep" if whole and deep > WIDEST else ""


def _trimmed(bright, rows, columns):
    """A region grown or shrunk to the first and last rows and columns that are bright over some length, or None."""
    lines = np.flatnonzero(bright[:, columns].mean(1) > BRIGHT_LINE)
    lines = lines[(lines >= rows.start - PATCH) & (lines < rows.stop + PATCH)]
    posts = np.flatnonzero(bright[rows].mean(0) > BRIGHT_LINE)
    posts = posts[(posts >= columns.start - PATCH) & (posts < columns.stop + PATCH)]
    if not (len(lines) and len(posts)):
        return None
    return int(lines[0]), int(lines[-1]) + 1, int(posts[0]), int(posts[-1]) + 1


def _without_bars(bars, left, right):
    """The columns of an image without those of the grey bars at its sides."""
    first, last = left + BAR_EDGE * (right - left), right - BAR_EDGE * (right - left)
    for start, stop in bars:
        if start < first:
            left = max(left, stop)
        elif stop > last:
            right = min(right, start)
    return left, right


def _grey_bars(picture):
    """The columns of the bars that show the grey scale: even across, and evenly darker from one end to the other."""
    even = (np.abs(np.diff(picture.astype(int), prepend=0)) <= 2) & (picture > BAR_DARKEST)
    for axis, length in enumerate(BAR):
        even = ndimage.minimum_filter1d(even.astype(np.uint8), length, axis)
    found = []
    for rows, columns in ndimage.find_objects(ndimage.label(even)[0]):
        bar = picture[rows, columns].astype(np.float32)
        ramp, long = bar.mean(1), len(bar) + BAR[0] >= BAR_LONG * len(picture)
        steps = np.diff(ramp) * np.sign(ramp[-1] - ramp[0])
        if long and bar.std(1).max() <= BAR_EVEN and np.ptp(ramp) > BAR_RANGE and steps.min() > -1:
            found.append((columns.start - BAR[1] // 2 - 1, columns.stop + BAR[1] // 2))
    return found
