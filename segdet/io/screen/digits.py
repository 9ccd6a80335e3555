"""Numbers printed on a screen, such as the depth beside a tick: few, upright, alone on their ground (chapter 02).

Each connected bright piece is compared with the digits of four typefaces that come with Pillow and matplotlib. That
is no reader of text, but enough for "3" or "5.0cm", and it needs no model.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

SIGNS = "0123456789cm"
GRID = 12, 16  # columns and rows on which signs are compared
LIKE = 0.6  # correlation from which a piece counts as a sign; what is read has to fit the ticks besides
CLEARLY = 0.1  # by which the correlation with any other sign is lower
SQUEEZE = 1.5  # by which a sign may be wider or narrower than in the typeface
LOWEST, TALLEST = 7, 32  # pixels of a digit
FACES = "DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono-Bold"
BELOW = 6  # pixels from a tick down to the top of its number, at most
REACH = 90  # pixels from the tick to the far end of its number


def read_number(picture, tick):
    """The number beside a tick, on either side of it.

    Parameters
    ----------
    picture : ndarray of uint8, (H, W)
    tick : (y0, y1, x0, x1)
        Half open; the number is as bright as the tick.

    Returns
    -------
    cm : float or None
        None where there is no number.
    columns : (int, int)
        Where it is printed, half open.
    """
    y0, y1, x0, x1 = (int(edge) for edge in tick)
    level = np.percentile(picture[y0:y1, x0:x1], 90)
    rows = slice(max(y0 - TALLEST // 2, 0), y1 + TALLEST)
    for columns, nearest in ((slice(max(x0 - REACH, 0), max(x0 - 1, 0)), -1), (slice(x1 + 1, x1 + 1 + REACH), 0)):
        part = picture[rows, columns]
        text, start, stop = _line(part, level, y0 - rows.start, nearest) if part.size else ("", 0, 0)
        if found := re.fullmatch(r"(\d+(?:\.\d)?)(c[m?]|mm)?", text):
            cm = float(found[1]) / (10 if found[2] == "mm" else 1)
            return cm, (columns.start + start, columns.start + stop)
    return None, (x0, x1)


def _line(part, level, row, nearest):
    """The line of text that passes `row` and is nearest the tick, at the left (0) or right (-1), and its columns."""
    ground = float(np.median(part))
    labels, _ = ndimage.label(part > (level + ground) / 2, np.ones((3, 3)))
    pieces = [(c.start, c.stop, r.start, r.stop) for r, c in ndimage.find_objects(labels)]
    tall = [p for p in pieces if LOWEST <= p[3] - p[2] <= TALLEST and p[2] - BELOW <= row <= p[3]]
    if not tall:
        return "", 0, 0
    last = (min if nearest == 0 else max)(tall)
    line, gap = [], 0.8 * (last[3] - last[2])
    for piece in sorted((p for p in pieces if abs(p[3] - last[3]) <= 2), reverse=nearest == -1):
        edge = piece[0] if nearest == 0 else part.shape[1] - piece[1]
        if edge - (line[-1][1] if line else 0) > gap:
            break
        line.append((piece, part.shape[1] - piece[0] if nearest else piece[1]))
    if not line:
        return "", 0, 0
    heights = [y1 - y0 for (_, _, y0, y1), _ in line if y1 - y0 >= LOWEST]
    height = np.median(heights or [last[3] - last[2]])
    scaled = np.clip((part - ground) / max(level - ground, 1), 0, 1).astype(np.float32)
    line = sorted(piece for piece, _ in line)
    signs = [_sign(scaled[y0:y1, x0:x1], height) for x0, x1, y0, y1 in line]
    return "".join(signs), line[0][0], max(piece[1] for piece in line)


def _sign(piece, height):
    """The sign that a piece looks like, "?" where it looks like none; `height` is that of the line."""
    if max(piece.shape) < 0.4 * height:
        return "."
    sample, aspect = _normalised(Image.fromarray(piece)), piece.shape[1] / piece.shape[0]
    likeness = {"": CLEARLY, "?": LIKE}
    for sign, shape, width in _typefaces():
        if 1 / SQUEEZE < aspect / width < SQUEEZE:
            likeness[sign] = max(likeness.get(sign, 0), float(sample @ shape))
    second, first = sorted(likeness, key=likeness.get)[-2:]
    return first if first != "?" and likeness[first] - likeness[second] * (second != "?") > CLEARLY else "?"


@cache
def _typefaces():
    """(sign, normalised picture, width / height) of every sign in every typeface."""
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts/ttf")
    fonts = [ImageFont.truetype(folder / f"{name}.ttf", 64) for name in FACES]
    found = []
    for font in (ImageFont.load_default(64), *fonts):
        for sign in SIGNS:
            image = Image.new("F", (128, 128))
            ImageDraw.Draw(image).text((32, 24), sign, 1.0, font)
            image = image.crop(image.getbbox())
            found.append((sign, _normalised(image), image.width / image.height))
    return found


def _normalised(image):
    """An image on `GRID`, as a vector of zero mean and unit length."""
    vector = ndimage.gaussian_filter(np.asarray(image.resize(GRID, Image.Resampling.BILINEAR)), 1).ravel()
    vector = vector - vector.mean()
    return vector / max(np.linalg.norm(vector), 1e-6)
