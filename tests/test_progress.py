"""Long work says how far it is."""

import sys
import threading
import time

import pytest

from segdet.runtime import progress as module
from segdet.runtime.progress import progress


@pytest.fixture
def every_step(monkeypatch):
    for name in ("SEGDET_STATIC", "SEGDET_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "EVERY", 0)


def lines_of(text):
    assert "\r" not in text
    return text.splitlines()


def run(steps=3, first=0):
    bar = progress(range(first, steps), "detector", total=steps, unit="steps", initial=first)
    for step in bar:
        bar.set_postfix(loss=f"{1 / (step + 1):.2f}", refresh=False)


def test_a_log_gets_lines(every_step, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    run()
    lines = lines_of(capsys.readouterr().err)
    assert lines[0].startswith("detector: 0 of 3 steps")
    assert lines[2].startswith("detector: 2 of 3 steps, 00:00 so far, 00:00 left")
    assert lines[2].endswith("loss=0.50")


def test_what_is_stored_stays_free_of_it_and_the_named_file_gets_it(every_step, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SEGDET_STATIC", "1")
    run()
    monkeypatch.setenv("SEGDET_PROGRESS", str(tmp_path / "lines"))
    run(steps=5, first=2)
    run()
    assert capsys.readouterr() == ("", "")
    lines = lines_of((tmp_path / "lines").read_text())
    assert [line.split(",")[0] for line in lines if "0 of" not in line][:2] == [
        "detector: 2 of 5 steps",
        "detector: 3 of 5 steps",
    ]
    assert lines[-1].startswith("detector: 3 of 3 steps")


def test_lines_are_not_more_frequent_than_they_should_be(every_step, monkeypatch, tmp_path):
    monkeypatch.setenv("SEGDET_PROGRESS", str(tmp_path / "lines"))
    monkeypatch.setattr(module, "EVERY", 1000)
    run(steps=50)
    assert (tmp_path / "lines").read_text() == ""


def test_an_item_that_takes_long_is_told_while_it_does(every_step, monkeypatch, tmp_path):
    monkeypatch.setenv("SEGDET_PROGRESS", str(tmp_path / "lines"))
    monkeypatch.setattr(module, "EVERY", 1)
    told, before = [], {*threading.enumerate()}
    for _ in progress(range(2), "a training", unit="steps"):
        time.sleep(2.5)
        told.append((tmp_path / "lines").read_text().splitlines()[-1])
    assert [line.split(",")[0] for line in told] == ["a training: 0 of 2 steps", "a training: 1 of 2 steps"]
    with progress(None, "segmenting", total=1):
        time.sleep(2.5)
        assert (tmp_path / "lines").read_text().splitlines()[-1].startswith("segmenting: 0 of 1, 00:0")
    time.sleep(1.5)
    assert {*threading.enumerate()} <= before  # nothing waits for what is done; others' threads may end meanwhile
