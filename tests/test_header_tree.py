"""The header tree of chapter 02 holds what is in the file; a changed tag does there what it does in the reader."""

import re

import header_tree
import numpy as np
import pydicom
import pytest
from conftest import ROOT
from devtools import Page

from segdet.errors import GeometryError
from segdet.io.dicom.write import write_volume
from segdet.io.files import load_volume


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    tree = header_tree.header_html(header_tree.small_header(), "A header.")
    script = (ROOT / "book/_static/header.js").read_text(encoding="utf-8")
    (folder / "page.html").write_text(f"<!doctype html>{tree}<script>{script}</script>", encoding="utf-8")
    page = Page(chromium, folder / "user")
    page.open(folder / "page.html")
    yield page
    page.close()


def test_the_tree_holds_the_values_of_the_file():
    page = header_tree.header_html(header_tree.small_header(), "A header.")
    assert "<code>(0028,0010)</code> Rows = 8 " in page
    assert "<code>(0008,0016)</code> SOPClassUID = 1.2.840.10008.5.1.4.1.1.6.2 " in page
    assert "<code>(0008,0008)</code> ImageType = ORIGINAL\\PRIMARY\\VOLUME\\NONE " in page
    fields = re.findall(r'value="([^"]+)" data-tag="(\w+)" data-frame="(\d)" aria-label="([^"]+)"', page)
    found = {(tag, int(frame)): [] for _, tag, frame, _ in fields}
    for value, tag, frame, _ in fields:
        found[tag, int(frame)].append(value)
    assert found == {
        ("ImageOrientationPatient", 0): ["1", "0", "0", "0", "0.8", "0.6"],
        ("SpacingBetweenSlices", 0): ["4"],
        ("PixelSpacing", 0): ["1.5", "2"],
        ("ImagePositionPatient", 0): ["-6", "2", "-3"],
        ("ImagePositionPatient", 1): ["-6", "-0.4", "0.2"],
        ("ImagePositionPatient", 2): ["-6", "-2.8", "3.4"],
    }
    assert len(fields) == len({label for *_, label in fields}) == 18
    assert page.count("<details open>") == 11  # where a field is


def test_the_affine_is_that_of_the_reader(page, tmp_path):
    """At first, and after two tags were changed in the page and in the file."""
    volume = header_tree.small_volume()
    write_volume(volume, path := tmp_path / "small.dcm")
    back(page)
    np.testing.assert_allclose(affine(page), load_volume(path).affine, atol=5e-4)
    assert says(page) == "Voxel (1, 4, 3), in frame 2, lies at (0.00, 4.40, 3.80) mm."

    ds = pydicom.dcmread(path)
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.7, 3]
    type_in(page, "PixelSpacing", 0, [0.7, 3])
    for index, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSequence[0].ImagePositionPatient = place = [1, 2 + 1.2 * index, 5 - 1.6 * index]
        type_in(page, "ImagePositionPatient", index, place)
    ds.save_as(path)
    read = load_volume(path)
    np.testing.assert_allclose(affine(page), read.affine, atol=5e-4)
    assert says(page).startswith("Voxel (1, 4, 3), in frame 2, ")  # the slices run the other way now
    np.testing.assert_allclose(affine(page)[:3, 3], [1, 4.4, 1.8], atol=5e-4)


@pytest.mark.parametrize(
    ("tag", "frame", "values", "words"),
    [
        ("PixelSpacing", 0, [0, 2], "its pixel spacing"),
        ("ImageOrientationPatient", 0, [1, 0, 0, 0, 0.8, 0.7], "the image orientation"),
        ("ImageOrientationPatient", 0, [1, 0, 0, 0, 1, 0], "the slices are not stacked along their normal"),
        ("ImagePositionPatient", 1, [-6, 0.2, -0.6], "the slices are not evenly spaced"),
        ("ImagePositionPatient", 1, [-6, 2, -3], "some slice positions occur "),
    ],
)
def test_what_the_reader_refuses(page, tmp_path, tag, frame, values, words):
    write_volume(header_tree.small_volume(), path := tmp_path / "small.dcm")
    ds = pydicom.dcmread(path)
    shared, frames = ds.SharedFunctionalGroupsSequence[0], ds.PerFrameFunctionalGroupsSequence
    holders = (
        shared.PixelMeasuresSequence[0],
        shared.PlaneOrientationSequence[0],
        frames[frame].PlanePositionSequence[0],
    )
    setattr(next(holder for holder in holders if tag in holder), tag, values)
    ds.save_as(path)
    with pytest.raises(GeometryError, match=words):
        load_volume(path)
    back(page)
    type_in(page, tag, frame, values)
    assert says(page).startswith(f"segdet refuses this file: {words}")
    assert page.run("document.querySelector('pre').textContent") == "no affine"


def test_keys_and_buttons(page):
    """An arrow moves the voxel by a column; buttons change the tags; the last one puts all back."""
    back(page)
    page.run("document.querySelectorAll('input[type=range]')[2].focus()")
    page.key("ArrowRight")
    assert says(page) == "Voxel (1, 4, 4), in frame 2, lies at (2.00, 4.40, 3.80) mm."
    page.key("ArrowLeft")
    press(page, "5 mm to the patient's left")
    assert says(page) == "Voxel (1, 4, 3), in frame 2, lies at (5.00, 4.40, 3.80) mm."
    press(page, "Slices twice as far apart")
    assert affine(page)[:3, 0].tolist() == [0, -4.8, 6.4]
    drawn = page.run("document.querySelector('svg .now').getAttribute('d')")
    assert drawn != page.run("document.querySelector('svg .file').getAttribute('d')")
    assert page.run("document.querySelectorAll('input.changed').length") == 7
    press(page, "Move frame 2 alone")
    assert says(page) == "segdet refuses this file: the slices are not evenly spaced."
    press(page, "Back to the file")
    assert page.run("document.querySelectorAll('input.changed').length") == 0
    assert affine(page)[:3, 3].tolist() == [-6, 2, -3]
    type_in(page, "SpacingBetweenSlices", 0, [9])  # positions count
    assert affine(page)[:3, 0].tolist() == [0, -2.4, 3.2]
    assert page.complaints == []


def press(page, name):
    page.run(f"[...document.querySelectorAll('button')].find(e => e.textContent === {name!r}).focus()")
    page.key("Enter")


def back(page):
    press(page, "Back to the file")


def says(page):
    return page.run("document.querySelector('output').textContent")


def affine(page):
    titles, *rows = page.run("document.querySelector('pre').textContent").split("\n")
    assert titles.split() == ["slice", "row", "column", "corner"]
    return np.array([row.split() for row in rows], float)


def type_in(page, tag, frame, values):
    page.run(
        f"[...document.querySelectorAll('[data-tag={tag}][data-frame=\"{frame}\"]')].forEach((e, i) => {{"
        f"e.value = {values}[i]; e.dispatchEvent(new Event('input', {{bubbles: true}})); }})"
    )
