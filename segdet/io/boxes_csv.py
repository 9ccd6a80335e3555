"""Boxes that a person drew, from a CSV file (chapter 09)."""

import csv

import numpy as np

from ..errors import FormatError
from .checks import one_line

EDGES = "x0", "y0", "x1", "y1"


def read_boxes(path, shape):
    """Boxes that a person drew, from a CSV file with the columns slice, x0, y0, x1, y1 (paper section 5).

    Parameters
    ----------
    path : str or Path
    shape : (D, H, W)
        Of the scan. Slices count from 0, and boxes are half-open pixel edges in them.

    Returns
    -------
    list of D arrays, (n, 4)

    Raises
    ------
    FormatError
        Names the line that holds no box of this scan.
    """
    depth, rows, cols = shape
    columns, boxes = ("slice", *EDGES), [[] for _ in range(depth)]
    for where, row in csv_rows(path, columns):
        try:
            if None in row:
                raise ValueError("more values than columns")
            number, *box = whole(row["slice"]), *(float(row[edge]) for edge in EDGES)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{where}: expected five numbers, found {one_line(list(row.values()))}") from error
        if not 0 <= number < depth:
            raise FormatError(f"{where}: slice {number}, but the scan has slices 0 to {depth - 1}")
        check_box(where, box, (rows, cols), "slice")
        boxes[number].append(box)
    return [np.array(found, np.float32).reshape(-1, 4) for found in boxes]


def whole(text):
    """A whole number, which pandas writes as 3.0 where a column has gaps; ValueError where it is none."""
    if float(text) % 1:
        raise ValueError("no whole number")
    return int(float(text))


def check_box(where, box, shape, what):
    """Refuse edges that are no box of some area in a slice or picture of shape (H, W).

    Raises
    ------
    FormatError
    """
    (x0, y0, x1, y1), (rows, cols) = box, shape
    if not (0 <= x0 < x1 <= cols and 0 <= y0 < y1 <= rows):
        raise FormatError(f"{where}: {box} is no box (x0, y0, x1, y1) in a {what} of {rows} x {cols} pixels")


def csv_rows(path, columns):
    """The lines of a CSV file, those that hold nothing left out.

    Parameters
    ----------
    path : str or Path
    columns : sequence of str
        That the file must have, among others.

    Yields
    ------
    where : str
        The file and the number of the line, for an error.
    row : dict of str

    Raises
    ------
    FormatError
        The file cannot be read, or lacks a column.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            if not set(columns) <= set(names):
                found = one_line(",".join(names)) or "empty"
                commas = ", separated by commas" * (len(names) == 1)
                raise FormatError(
                    f"{path}: its first line is {found}; expected the columns {','.join(columns)}{commas}"
                )
            if twice := next((name for name in columns if names.count(name) > 1), None):
                raise FormatError(f"{path}: has two columns {twice}; keep one of them")
            for row in reader:
                if any(row.values()):  # else a spreadsheet's empty line
                    yield f"{path}, line {reader.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"{path}: cannot be read ({reason}); expected a CSV file of boxes, in UTF-8") from error
