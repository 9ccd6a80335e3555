"""Damaged files, by the hundred: each gives a volume or one clear line, in little memory. `--fuzz 5000` tries more."""

import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import config, examples

from segdet.errors import SegdetError
from segdet.io.dicom.write import write_volume
from segdet.io.files import load_volume, save_mask
from segdet.volume import Volume, axis_aligned_affine

HOSTILE = ["", "0", "-1", "65535", "99999999999", "nan", "1e300", "a\\b", "1\\2\\3\\4\\5\\6", "\x00", "é" * 70]


@pytest.fixture
def sources(tmp_path):
    """One small file of every kind that is read, and pydicom's example of a CT and a palette."""
    folder = tmp_path / "sources"
    folder.mkdir()
    scan = Volume(np.random.default_rng(7).integers(0, 256, (6, 9, 7), dtype=np.uint8), axis_aligned_affine((1, 1, 1)))
    write_volume(scan, folder / "scan.dcm")
    save_mask(scan.voxels > 99, folder / "seg.dcm", scan, source=folder / "scan.dcm")
    for suffix in (".nii", ".nii.gz", ".mha", ".nrrd"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(scan.voxels), str(folder / f"scan{suffix}"))
    return [*sorted(folder.iterdir()), *(Path(examples.get_path(name)) for name in ("ct", "palette_color"))]


def mutate_bytes(content, rng):
    """Cut the file off, flip bytes in its header or anywhere, insert, delete, or blank a stretch."""
    content, how = bytearray(content), rng.integers(6)
    header = min(len(content), 3000)
    if how == 0:
        return content[: rng.integers(len(content))]
    if how in (1, 2):
        for at in rng.integers(header if how == 1 else len(content), size=rng.integers(1, 12)):
            content[at] = rng.integers(256)
        return content
    at, length = rng.integers(header), rng.integers(1, 40)
    content[at : at + (length if how != 3 else 0)] = (b"", rng.bytes(length), b"\0" * length)[how - 4]
    return content


def mutate_element(source, target, rng):
    """Delete a DICOM element, or give it a value that nobody expects."""
    ds = pydicom.dcmread(source)
    elements = [(item, e) for item in all_items(ds) for e in item if e.VR not in ("SQ", "UN", "OB", "OW")]
    item, element = elements[rng.integers(len(elements))]
    if rng.integers(4) == 0:
        del item[element.tag]
    else:
        item[element.tag] = pydicom.DataElement(
            element.tag, "LO", str(rng.choice(HOSTILE)), validation_mode=config.IGNORE
        )
        item[element.tag].VR = "LO"
    ds.save_as(target)


def all_items(ds):
    yield ds
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from all_items(item)


def peak_memory():
    """Bytes that this process has needed at most; 0 where nobody can tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_damaged_files_give_a_volume_or_one_clear_line(sources, tmp_path, request):
    outcomes, slowest, before = {"volume": 0, "refused": 0}, (0.0, ""), peak_memory()
    for turn in range(request.config.getoption("--fuzz")):
        rng = np.random.default_rng([31, turn])
        source = sources[turn % len(sources)]
        target = tmp_path / f"mutant{''.join(source.suffixes)}"
        if source.suffix == ".dcm" and rng.integers(2):
            mutate_element(source, target, rng)
        else:
            target.write_bytes(mutate_bytes(source.read_bytes(), rng))
        started = time.perf_counter()
        try:
            outcome = load_volume(target)
        except SegdetError as error:
            outcome = str(error)
        except Exception as error:
            outcome = error
        volume = isinstance(outcome, Volume)
        line = isinstance(outcome, str) and target.name in outcome and "\n" not in outcome
        assert volume or line, f"turn {turn}, from {source.name}: {outcome!r}"
        outcomes["volume" if volume else "refused"] += 1
        slowest = max(slowest, (time.perf_counter() - started, f"turn {turn}, {source.name}"))
    grown = peak_memory() - before
    print(outcomes, f"slowest {slowest[0]:.2f} s of 5 s ({slowest[1]}), {grown / 2**20:.0f} MiB more than before")
    assert grown < 1 << 30
    assert min(outcomes.values()) > 0.1 * sum(outcomes.values())
