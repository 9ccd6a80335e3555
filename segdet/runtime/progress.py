"""How far long work is: a bar where a person looks, a line now and then everywhere else."""

import os
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from tqdm.auto import tqdm
from tqdm.std import tqdm as plain_tqdm

EVERY = 15  # seconds between two lines
LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} so far, {remaining} left{postfix}"


class _Lines:
    """A text file for tqdm that gets whole lines where a terminal would get the same line again and again.

    It is open only while a line is written; without a path the lines go to standard error.
    """

    def __init__(self, path):
        self.path = path
        if path:  # whether it can be written is known before the work
            Path(path).touch()

    def write(self, text):
        """Write `text` as a line, without what moves a cursor."""
        if text := text.strip("\r\n "):
            with open(self.path, "a", encoding="utf-8") if self.path else nullcontext(sys.stderr) as file:
                print(text, file=file, flush=True)

    def flush(self):
        """Lines are flushed as they are written."""


class _Told(plain_tqdm):
    """A bar as lines, which also come while one item takes longer than `EVERY`."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self._closed = threading.Event()
        threading.Thread(target=self._tell, daemon=True).start()

    def __iter__(self):
        with self:
            for item in self.iterable:
                yield item
                self.update()  # counts every item at once, so that `_tell` knows the last one

    def _tell(self):
        while not self._closed.wait(max(1, EVERY / 5)):
            if time.time() - self.last_print_t >= EVERY:
                self.last_print_n, self.last_print_t = self.n, time.time()  # the next line comes that much later
                self.refresh()

    def close(self):
        """No line comes after this."""
        if hasattr(self, "_closed"):
            self._closed.set()
        super().close()


def progress(items, label, total=None, unit="", **more):
    """Go through `items` and show how far it is.

    On a terminal and in a live notebook this is a bar. In a log it is a line every `EVERY` seconds, so none for what is
    done sooner; it comes while an item takes longer, too. While notebooks are executed to be stored (SEGDET_STATIC is
    set) their output gets nothing. The lines then go to the file that SEGDET_PROGRESS names, if it is set, so that
    whoever executes the notebooks can show them.

    Parameters
    ----------
    items : iterable
    label : str
        What is being done.
    total : int, optional
        How many items, where `items` does not say.
    unit : str
        What an item is.
    **more
        tqdm's.

    Returns
    -------
    tqdm
    """
    named, static = os.environ.get("SEGDET_PROGRESS"), os.environ.get("SEGDET_STATIC")
    more |= {"desc": label, "total": total, "leave": False}
    beside = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK") != "0"  # another process of torchrun tells
    if beside or (static and not named):
        return tqdm(items, disable=True, **more)
    if not named and (sys.stderr.isatty() or "ipykernel" in sys.modules):
        return tqdm(items, dynamic_ncols=True, mininterval=0.5, unit=unit or "it", **more)
    more |= {
        "mininterval": EVERY,
        "delay": EVERY,
        "miniters": 1,
        "bar_format": LINE,
        "unit": f" {unit}" if unit else "",
    }
    return _Told(items, file=_Lines(named), **more)


def in_words(seconds):
    """A predicted time as a person says it: 40 s, 12 min, 1 h 20 min, 3 days."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{round(hours / 24)} days"
