"""Fixtures shared by the tests: where the real inputs are, a small acoustics, a browser."""

import itertools
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=15000",
    "--dump-dom",
]


def pytest_addoption(parser):
    """How many damaged files tests/test_fuzz.py tries."""
    parser.addoption("--fuzz", type=int, default=300, help="how many damaged files to try")


def _needed(path, variable):
    if not path.exists():
        pytest.skip(f"needs {path.name}: set {variable}, or put it at ../shared/{path.relative_to(SHARED).as_posix()}")
    return path


@pytest.fixture(scope="session")
def real_data():
    """The folder of real inputs (philips_echo, msd_hippocampus, ...), or skip."""
    named = os.environ.get("SEGDET_REAL_DATA")
    return Path(named) if named else _needed(SHARED / "real", "SEGDET_REAL_DATA")


@pytest.fixture(scope="session")
def vgg16_weights():
    """The ImageNet weights of VGG-16 as a safetensors file, or skip."""
    named = os.environ.get("SEGDET_VGG16")
    return Path(named) if named else _needed(SHARED / "weights/vgg16_caffe_bgr255_fp16.safetensors", "SEGDET_VGG16")


@pytest.fixture
def in_float32(monkeypatch):
    """PyTorch computes in float32 where bfloat16 is native, too."""
    monkeypatch.setenv("SEGDET_PRECISION", "float32")


@pytest.fixture
def small_phantoms(monkeypatch, tmp_path):
    """Phantoms on a coarse grid, and a cache of their own."""
    from segdet.phantom import make
    from segdet.training import detector

    original = make.make_phantom
    monkeypatch.setenv("SEGDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEGDET_STATIC", "1")
    monkeypatch.setattr(make, "make_phantom", lambda seed, **options: original(seed, (16, 48, 32), **options))
    monkeypatch.setattr(detector.RPN, "load_imagenet", lambda self: "random")


@pytest.fixture
def a_second_a_step(monkeypatch):
    """The clock of the training loop goes on by a second whenever it is read: once a step without a deadline."""
    from segdet.training import loop

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=itertools.count(1000.0).__next__))


@pytest.fixture
def killed_where(monkeypatch):
    """A context in which what fills a `Study` is killed before it writes some rows: (table, rows) -> bool."""
    from segdet.experiments.study import Study

    @contextmanager
    def context(are_these):
        add = Study.add

        def killed(self, name, rows):
            if are_these(name, rows):
                raise KeyboardInterrupt
            add(self, name, rows)

        with monkeypatch.context() as patch:
            patch.setattr(Study, "add", killed)
            yield

    return context


@pytest.fixture(scope="session")
def chromium():
    """Where Chromium is, or skip."""
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    found = next((shutil.which(name) for name in names if name and shutil.which(name)), None)
    if not found:
        pytest.skip("no Chromium: install it, or name it in CHROMIUM")
    return found


@pytest.fixture(scope="session")
def browser(chromium):
    """A function that shows a page in Chromium and returns its document; more flags may follow the path."""

    def show(path, *flags):
        command = [chromium, *FLAGS, *flags, path.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return show
