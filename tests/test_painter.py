"""The box painter without a browser (tests/test_kernel.py has one): what its kernel side does with what is sent."""

from dataclasses import replace

import numpy as np
import pytest

from segdet.errors import GeometryError, SegdetError
from segdet.figures.painter import BoxPainter
from segdet.pipeline import Prediction
from segdet.volume import Volume


class Filling:
    """A cascade whose mask is the attention."""

    def predict(self, volume, attention):
        mask = attention(volume)
        return Prediction(mask, mask.astype(np.float32), mask, np.zeros((len(mask), 0, 4)), ())


class Refusing:
    def predict(self, volume, attention):
        raise SegdetError("needs < 3 slices")


@pytest.fixture
def volume():
    mask = np.zeros((5, 20, 10), bool)
    mask[1:4, 4:12, 2:6] = True
    voxels = np.random.default_rng(0).random(mask.shape, np.float32)
    return replace(Volume.from_spacing(voxels, (2, 0.5, 1), name="a"), mask=mask)


def send(painter, entry):
    """As a browser sends a box."""
    painter._slice.set_state({"entry": entry})


def leaf(painter, number):
    painter.children[0].value = number


def press(painter, text):
    next(b for b in painter.children[1].children if b.description == text).click()


def said(painter):
    return painter.children[3].value


def test_the_mask_of_three_slices_by_hand(volume):
    painter = BoxPainter(volume, Filling())
    assert not painter.boxes.any()
    for number, box in ((1, [2, 4, 6, 12]), (3, [4, 4, 8, 12])):
        leaf(painter, number)
        send(painter, [number, *box])
    leaf(painter, 2)
    assert painter._slice.entry == [2, 3, 4, 7, 12]
    assert painter._slice.between
    press(painter, "Segment")
    assert painter.prediction.mask.sum() == 3 * 32
    # 1 mm^3 a voxel; of 4 columns 4, 3 and 2 are shared: Dice 2 * 9 / (12 + 12)
    expected = "slices painted: 2; slices with a box: 3 of 5; mask 0.10 ml, annotated 0.10 ml, Dice 0.750"
    assert said(painter) == expected
    send(painter, [2, 3, 4, 7, 13])
    assert painter.prediction is None
    assert painter.drawn == {1: [2, 4, 6, 12], 2: [3, 4, 7, 13], 3: [4, 4, 8, 12]}
    assert not painter._slice.between


def test_a_box_belongs_to_the_slice_that_it_was_painted_on(volume):
    """The browser sends it after the slider has moved, and before it knows."""
    painter = BoxPainter(volume, Filling())
    leaf(painter, 4)
    send(painter, [2, 1, 1, 5, 5])
    assert painter.drawn == {2: [1, 1, 5, 5]}
    assert painter._slice.entry == [4]


def test_keys_that_the_kernel_answers(volume):
    painter = BoxPainter(volume, Filling())
    key = lambda name: painter._key(painter._slice, name, [])  # noqa: E731
    for _ in range(9):
        key("PageDown")
    assert painter.children[0].value == 4
    key("Enter")
    assert painter.drawn[4] == pytest.approx([10 / 3, 20 / 3, 20 / 3, 40 / 3])
    key("PageUp")
    key("Enter")
    assert painter.drawn[3] == painter.drawn[4]  # that of the nearest painted slice
    press(painter, "Remove")
    assert list(painter.drawn) == [4]


def test_an_error_of_the_cascade_is_said(volume):
    painter = BoxPainter(volume, Refusing())
    press(painter, "Segment")
    assert said(painter) == "needs &lt; 3 slices"


def test_a_scan_without_annotation(volume):
    painter = BoxPainter(replace(volume, mask=None), Filling())
    send(painter, [2, 2, 4, 6, 12])
    press(painter, "Segment")
    assert said(painter) == "slices painted: 1; slices with a box: 1 of 5; mask 0.03 ml"


def test_still_pictures_are_refused(volume):
    with pytest.raises(GeometryError, match="still pictures"):
        BoxPainter(replace(volume, meta={"stills": 3}), Filling())
