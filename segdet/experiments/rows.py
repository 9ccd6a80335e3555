"""Rows of a study's tables and its manifest, which say where they are from when they are wrong (chapter 10)."""

from ..errors import SegdetError

# columns that are text even where it looks like a number, as the commits 0123456 and 12e4567 do
NAMES = ("part", "arm", "case", "initial_weights", "recipe", "device", "torch", "python", "commit")
SOURCES = ("train", "test")  # of attention, in the table of runs; curves have numbers there


class Row(dict):
    """A row of a table, which knows where it came from; of numbers it gives no word."""

    def __init__(self, cells, path, number):
        super().__init__(cells)
        self.path, self.number = path, number

    def __getitem__(self, column):
        value = super().__getitem__(column)
        if value and isinstance(value, str) and column not in NAMES + SOURCES:
            raise SegdetError(
                f"{self.path}: row {self.number} has {value!r} as its {column}; expected a number; restore the file"
            )
        return value

    def __missing__(self, column):
        raise SegdetError(f"{self.path}: has no column {column!r}; restore the file")


class Manifest(dict):
    """What holds for all rows of a study, which knows the file that it came from."""

    def __init__(self, facts, path):
        super().__init__(facts)
        self.path = path

    def __missing__(self, key):
        raise SegdetError(f"{self.path}: does not say {key!r}; restore the file")


def parsed(cells):
    """The cells of a row of a table as text and numbers, by column."""
    return {column: text if column in NAMES else _number(text) for column, text in cells.items()}


def _number(text):
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and "." not in text and "e" not in text else value
