"""The depth ruler that a scanner burns into its screen: where the ticks are and what a pixel measures (chapter 02).

A ruler is a column of short bright marks, all drawn alike, at one pitch; longer marks are majors, and numbers in
centimetres stand beside some of them. Nothing here knows a maker: what is taken for a ruler has to be regular.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ...volume import tight_box
from .areas import shrinkage, shrunk
from .digits import read_number

TALLEST, WIDEST = 6, 26  # pixels of a tick
CONTRAST = 25  # grey levels by which a tick is brighter than what is above and below it
EDGE, FULL = 0.4, 0.75  # of its brightest pixel, where a mark ends; share of its rectangle that a mark fills
FEWEST = 5  # ticks of a ruler
CLOSEST = 10  # pixels between ticks
MOST = 80  # ticks of a ruler; more are texture
OFF = 1.3  # pixels by which a tick may be off its place
UNITS = 1.0, 2.0, 2.5, 5.0, 10.0, 20.0  # mm that makers put between two ticks
AGREE = 0.07  # by which a printed depth may differ from the one that the ticks give
WIDTHS = 30.0, 65.0  # mm that linear transducers for hips are wide


@dataclass(frozen=True)
class Ruler:
    """What a depth ruler says.

    Attributes
    ----------
    pixel_mm : float
        mm from row to row. Of the distance between columns a depth ruler says nothing.
    sure : bool
        Whether a printed number agrees with the ticks, the image is then as wide as those of hips are, and nothing on
        the screen says otherwise.
    said : str
        What was found, for a note.
    rows : ndarray, (n,)
        Of the ticks, in pixels of the picture, from the top.
    columns : (int, int)
        The first column of ticks and numbers and one beyond their last.
    """

    pixel_mm: float
    sure: bool
    said: str
    rows: np.ndarray
    columns: tuple[int, int]

    def enlarged(self, times):
        """The ruler in a picture of so many times as many rows and columns."""
        rows, columns = (self.rows + 0.5) * times - 0.5, tuple(edge * times for edge in self.columns)
        return replace(self, pixel_mm=self.pixel_mm / times, rows=rows, columns=columns)

    def __str__(self):
        return f"{self.said} ({'sure' if self.sure else 'not sure'})"


def find_ruler(picture, area, others=()):
    """The depth ruler of a picture, or None where there is none or where it does not say what its ticks are apart.

    Parameters
    ----------
    picture : ndarray of uint8, (H, W)
    area : (top, bottom, left, right)
        The image area in pixels, half open.
    others : sequence of such, optional
        The other images on the screen. A ruler beyond one of them may be that one's, and is not sure.
    """
    if (times := shrinkage(picture)) > 1:
        area, *others = (tuple(edge // times for edge in each) for each in (area, *others))
        found = find_ruler(shrunk(picture, times), area, others)
        return found and found.enlarged(times)
    _, _, left, right = area
    column, edge = np.arange(picture.shape[1]), (right - left) / 8
    sides = column < left + edge, column > right - edge
    if not others:
        return _ruler_in(picture, area, sides[0] | sides[1])
    middle = (left + right) / 2
    first = max((stop for *_, stop in others if stop <= middle), default=0)
    last = min((start for *_, start, _ in others if start >= middle), default=len(column))
    near = (first <= column) & (column < last)
    found = list(filter(None, (_ruler_in(picture, area, side & near) for side in sides)))
    if found:
        best, *second = sorted(found, key=lambda ruler: (ruler.sure, len(ruler.rows)), reverse=True)
        if second and abs(second[0].pixel_mm / best.pixel_mm - 1) > AGREE:
            said = f"{best.said}, but {second[0].pixel_mm:.4g} mm a pixel by the ruler at the other side of the image"
            return replace(best, sure=False, said=said)
        return best
    far = _ruler_in(picture, area, sides[0] | sides[1])
    return far and replace(far, sure=False, said=f"{far.said}, beyond another image on the screen")


def _ruler_in(picture, area, columns):
    """The depth ruler of an image in some columns of the picture, bool (W,); or None."""
    comb = _best_comb(_marks(picture, columns), area[1] - area[0])
    return comb and _measure(picture, *comb, area)


def _marks(picture, beside):
    """The bright rectangles in some columns that are lower than a letter and have nothing bright above or below.

    Returns
    -------
    ndarray, (n, 5)
        (y0, y1, x0, x1, row of the centroid), half open.
    """
    grey = picture.astype(np.float32)
    thin = grey - ndimage.grey_opening(grey, (TALLEST + 1, 1))
    labels, _ = ndimage.label((thin > CONTRAST) & beside)
    found = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        if columns.stop - columns.start == 1:
            continue
        weights = np.where(labels[rows, columns] == index, thin[rows, columns], 0)
        core = weights > EDGE * weights.max()  # without the halo that compression leaves
        lines, posts = tight_box(core)
        tall, wide = lines.stop - lines.start, posts.stop - posts.start
        if not 2 <= wide <= WIDEST or tall > min(TALLEST, 2 * wide) or core.sum() < FULL * tall * wide:
            continue
        weights = weights[lines, posts].sum(1)
        y0, x0 = rows.start + lines.start, columns.start + posts.start
        y1, x1 = y0 + tall, x0 + wide
        centre = y0 + weights @ np.arange(tall) / weights.sum()
        level = np.percentile(grey[y0:y1, x0:x1], 90)
        around = [grey[max(y, 0) : max(y + 2, 0), max(x0 - 1, 0) : x1 + 1] for y in (y0 - 3, y1 + 1)]
        if all(part.max(initial=0) < level - CONTRAST / 2 for part in around):
            found.append((y0, y1, x0, x1, centre))
    return np.array(found).reshape(-1, 5)


def _best_comb(marks, height):
    """The ticks of the most complete ruler, from the top, and the number of each counted from the first; or None."""
    best, most, shortest = None, 0, max(height / 3, (FEWEST - 1) * CLOSEST)
    for edge in (2, 3):
        for x in np.unique(marks[:, edge]):
            column = marks[np.abs(marks[:, edge] - x) <= 1]
            if not FEWEST <= len(column) <= MOST or np.ptp(column[:, 4]) < shortest:
                continue
            ticks, numbers = _comb(column[np.argsort(column[:, 4])])
            widths = ticks[:, 3] - ticks[:, 2]  # a machine draws each several times
            alike = (np.abs(widths - widths[:, None]) <= 1).sum(1) > 1
            ticks, numbers = ticks[alike], numbers[alike]
            if len(ticks) >= FEWEST and np.ptp(ticks[:, 4]) > shortest:
                score = 2 * len(ticks) - np.ptp(numbers) - 1
                if score > most:
                    best, most = (ticks, numbers), score
    return best


def _comb(column):
    """The largest set of marks that stand at one pitch, and their numbers; gaps count against a pitch."""
    rows = column[:, 4]
    i, j = np.triu_indices(len(rows), 1)
    parts = np.arange(1, int(np.ptp(rows)) // CLOSEST + 2)
    pitches = ((rows[j] - rows[i])[:, None] / parts).ravel()
    first = np.repeat(rows[i], len(parts))[pitches >= CLOSEST, None]
    pitches = pitches[pitches >= CLOSEST, None]
    numbers = np.rint((rows - first) / pitches)
    fits = np.abs(rows - first - numbers * pitches) < OFF
    slots = np.where(fits, numbers, -np.inf).max(1) - np.where(fits, numbers, np.inf).min(1)
    best = np.argmax(2 * fits.sum(1) - slots)
    numbers, index = np.unique(numbers[best, fits[best]].astype(int), return_index=True)
    return column[fits[best]][index], numbers - numbers[0]


def _measure(picture, ticks, numbers, area):
    """What regular ticks say, by the numbers beside them, else by custom; None where neither fits."""
    top, _, left, right = area
    rows, widths = ticks[:, 4], ticks[:, 3] - ticks[:, 2]
    pitch = float(np.polyfit(numbers, rows, 1)[0])
    columns, read = [(int(ticks[:, 2].min()), int(ticks[:, 3].max()))], {}
    for tick in ticks[np.argsort(widths, kind="stable")]:  # ticks nearby may share a number; the longest has it
        cm, place = read_number(picture, tick[:4])
        columns.append(place)
        if cm:
            read[cm] = tick[4]
    read = sorted((row, cm) for cm, row in read.items())
    columns = min(start for start, _ in columns), max(stop for _, stop in columns)
    found = f"{len(ticks)} ticks, {pitch:.1f} pixels apart, in column {int(ticks[0, 2])}"
    unit, agreeing = max(((unit, _agreeing(read, unit / pitch, top)) for unit in UNITS), key=lambda u: len(u[1]))
    if len(agreeing) > len(read) / 2:
        printed = ", ".join(f"{cm:g}" for cm in agreeing)
        said = f"{found}, and {printed} cm printed beside {'it' if len(agreeing) == 1 else 'them'}"
        said, wide = f"{said}: {unit:g} mm between ticks", (right - left) * unit / pitch
        if not (sure := WIDTHS[0] <= wide <= WIDTHS[1]):  # the numbers may be mm or inches
            said += f", which makes the image area {wide:.0f} mm wide, unlike that of a transducer for hips"
        return Ruler(unit / pitch, sure, said, rows, columns)
    period = _period(numbers, widths)
    if period and WIDTHS[0] <= (wide := (right - left) * 10 / (period * pitch)) <= WIDTHS[1]:
        said = f"{found}, but no number that fits could be read beside them: 10 mm between the longer ticks was assumed"
        said += f", as is the custom, which makes the image area {wide:.0f} mm wide"
        return Ruler(10 / (period * pitch), False, said, rows, columns)
    return None


def _agreeing(read, pixel_mm, top):
    """The printed depths, in cm, that a pixel size would put where they stand.

    One alone counts from the top of the image area, where the skin is. Several need only be as far apart as they say.
    """
    if len(read) == 1:
        ((row, cm),) = read
        return [cm] if abs(row - top - 10 * cm / pixel_mm) < AGREE * (row - top) else []
    fitting = [
        [cm for row, cm in read if abs(row - start - 10 * (cm - zero) / pixel_mm) <= AGREE * abs(row - start)]
        for start, zero in read
    ]
    return max(fitting, key=len, default=[])


def _period(numbers, widths):
    """Every how many ticks there is a longer one; None where they are all alike."""
    for period in range(2, 11):
        for first in range(period):
            major = numbers % period == first
            longer, others = widths[major], widths[~major]
            if len(longer) > 1 and len(others) and longer.min() > others.max() and longer.mean() > others.mean() + 1.4:
                return period
    return None
