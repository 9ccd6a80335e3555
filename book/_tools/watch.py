"""Show on the terminal what a process of ours is doing, so that no command is silent for long."""

import os
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

QUIET = 15  # seconds without a word, after which one is said


class Watch:
    """What is known of the work that is being watched.

    Attributes
    ----------
    gib : float
        The most memory that the processes below this one have used together, GiB.
    """

    def __init__(self, say):
        self._say, self._said = say, time.monotonic()
        self._doing, self._since, self.gib = "", time.monotonic(), 0.0

    def begin(self, doing):
        """Note what is being done from now on; it is said when nothing else has been for a while."""
        self._doing, self._since = doing, time.monotonic()

    def say(self, line):
        """Print a line."""
        self._said = time.monotonic()
        self._say(line)

    def look(self, lines):
        """Pass on new lines, or say what is being done if it has been quiet; note the memory that is used."""
        for line in lines:
            self.say(f"      {line}")
        now = time.monotonic()
        if self._doing and now - self._said > QUIET:
            self.say(f"      {self._doing}, for {clock(now - self._since)}")
        self.gib = max(self.gib, memory_below())


@contextmanager
def watching(say):
    """A `Watch` while the block runs; progress of processes that start in it goes to the same terminal."""
    watch, done = Watch(say), threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "progress"
        path.touch()

        def follow():
            with open(path, encoding="utf-8") as file:
                while not done.wait(1.0):
                    watch.look(whole_lines(file))

        thread = threading.Thread(target=follow, daemon=True)
        before = os.environ.get("SEGDET_PROGRESS")
        os.environ["SEGDET_PROGRESS"] = str(path)
        thread.start()
        try:
            yield watch
        finally:
            done.set()
            thread.join()
            os.environ.pop("SEGDET_PROGRESS")
            if before is not None:
                os.environ["SEGDET_PROGRESS"] = before


def whole_lines(file):
    """The lines that are complete in a file that is being written to."""
    lines = []
    while True:
        start, line = file.tell(), file.readline()
        if not line.endswith("\n"):
            file.seek(start)
            return lines
        lines.append(line.rstrip("\n"))


def memory_below():
    """GiB in the processes that this one has started, and in theirs."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it has ended
            continue
    return total / 2**30


def clock(seconds):
    """Seconds as minutes and seconds, 3:07."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
