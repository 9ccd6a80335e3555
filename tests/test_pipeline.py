"""The search of the detector over slices."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch

from segdet.attention import boxes_to_mask, coverage_and_leakage, painted
from segdet.boxes import box_iou, pad_boxes
from segdet.cascade import Cascade
from segdet.errors import SegdetError
from segdet.io.files import load_volume, save_mask
from segdet.io.itk import write_itk
from segdet.phantom.acoustics import make_phantom
from segdet.pipeline import Grids, search
from segdet.rpn import RPN
from segdet.unet3d import UNet3D
from segdet.volume import Volume, slice_boxes


class Finder:
    """Boxes that are known, and which slices somebody asked about."""

    def __init__(self, boxes):
        self.boxes, self.asked = boxes, []

    def __call__(self, numbers):
        self.asked += numbers
        return self.boxes[numbers]


def moving(first, last, count=40):
    """One box that moves by a pixel a slice from slice `first` to slice `last`, (count, 1, 4)."""
    boxes = np.zeros((count, 1, 4), np.float32)
    for number in range(first, last + 1):
        boxes[number, 0] = [number, 2, number + 20, 12]
    return boxes


@pytest.mark.parametrize("step", [0, -1, 1.5, None])
def test_a_step_of_the_search_is_a_number_of_slices(step):
    with pytest.raises(SegdetError, match="step must be a whole number of slices, 1 or more; found"):
        search(lambda numbers: np.zeros((len(numbers), 1, 4)), 10, step)


def test_the_search_looks_where_boxes_begin_and_end():
    find = Finder(moving(10, 29))
    boxes, looked = search(find, 40, 8)
    # every eighth and the last; halves of 8 to 16 and of 24 to 32; halves of 8 to 12 and of 28 to 32; the last gaps
    assert find.asked == [0, 8, 16, 24, 32, 39, 12, 28, 10, 30, 9, 29]
    assert np.flatnonzero(looked).tolist() == sorted(find.asked)
    np.testing.assert_allclose(boxes, find.boxes, atol=1e-5)


def test_a_step_of_one_looks_at_every_slice_once():
    find = Finder(np.random.default_rng(0).random((12, 2, 4)).astype(np.float32))
    boxes, looked = search(find, 12, 1)
    assert find.asked == list(range(12))
    assert looked.all()
    np.testing.assert_array_equal(boxes, find.boxes)


@pytest.mark.parametrize("step", [2, 5, 8, 100])
def test_one_slice_is_a_scan(step):
    boxes, looked = search(Finder(moving(0, 0, 1)), 1, step)
    assert boxes.shape == (1, 1, 4)
    assert looked.tolist() == [True]


def test_a_short_object_between_two_looks_is_missed():
    boxes, looked = search(Finder(moving(17, 23)), 40, 8)
    assert not boxes.any()
    assert looked.sum() == 6


def test_a_jump_is_looked_at():
    """Two objects, one above the other: no line runs from the one to the other."""
    truth = moving(4, 19)
    truth[12:20, 0] += 50
    boxes, _ = search(Finder(truth), 40, 8)
    np.testing.assert_allclose(boxes, truth, atol=1e-5)


def test_two_boxes_a_slice_are_looked_at():
    truth = np.concatenate([moving(4, 30), moving(4, 30) + 40], 1) * (moving(4, 30) != 0)
    boxes, looked = search(Finder(truth), 40, 8)
    assert looked[4:31].all()
    np.testing.assert_array_equal(boxes, truth)


def test_a_hip_from_a_sixth_of_its_slices():
    hip = make_phantom(1)
    truth = pad_boxes(slice_boxes(hip.mask)).numpy()
    find = Finder(truth)
    boxes, looked = search(find, len(truth), 8)
    assert looked.sum() < len(truth) / 4
    np.testing.assert_allclose(boxes[looked], truth[looked], atol=1e-4)
    holds = hip.mask.any((1, 2))
    assert np.array_equal((boxes[:, 0, 2:] > boxes[:, 0, :2]).all(1), holds)
    overlap = box_iou(torch.from_numpy(boxes[:, :1]), torch.from_numpy(truth))[holds, 0].amax(1)
    assert overlap.mean() > 0.95
    coverage, _ = coverage_and_leakage(painted(boxes, hip.shape), hip.mask)
    assert coverage > 0.98


def test_painting_with_and_without_pytorch():
    rng = np.random.default_rng(0)
    for count in (0, 1, 4):
        boxes = rng.uniform(-5, 40, (12, count, 4)).astype(np.float32)  # half of them upside down, some outside
        boxes[:3] = boxes[:3].round()
        boxes[3:6] = boxes[3:6].round() + 0.5  # edges through the centres of pixels
        assert np.array_equal(
            painted(boxes, (12, 30, 24)), boxes_to_mask(torch.from_numpy(boxes), (12, 30, 24)).numpy()
        )


def test_painting_as_many_boxes_as_a_slice_has():
    boxes = [np.array(of_slice, np.float32).reshape(-1, 4) for of_slice in ([], [[0, 0, 2, 1], [1.4, 1.6, 3, 3]])]
    expected = np.zeros((2, 3, 4), bool)
    expected[1, 0, :2] = expected[1, 2, 1:3] = True
    assert np.array_equal(painted(boxes, (2, 3, 4)), expected)
    assert np.array_equal(boxes_to_mask(boxes, (2, 3, 4)).numpy(), expected)


@pytest.fixture
def scan():
    voxels = np.random.default_rng(0).integers(0, 255, (10, 20, 13), dtype=np.uint8)
    return Volume(voxels, np.array([[0, 0, 1.7, 3], [0, 2.0, 0, -8], [1.5, 0, 0, 40], [0, 0, 0, 1]]))


@pytest.fixture
def cascade(scan):
    """Untrained networks for scans that run S, P, L, which call half of the voxels foreground."""
    torch.manual_seed(0)
    grids = Grids((16, 40, 24), (4, 64, 48), (8, 12, 8), ("S", "P", "L"))
    cascade = Cascade(RPN(backbone="resnet18"), UNet3D(2, 2, 4), grids)
    middle = float(np.median(cascade.predict(scan).probability))
    cascade.segmenter.head.bias.data[1] -= np.log(middle / (1 - middle))
    return cascade


def test_the_mask_does_not_depend_on_how_a_scan_is_stored(cascade, scan):
    expected = cascade.predict(scan)
    assert 0.3 < expected.mask.mean() < 0.7
    assert expected.notes == ()
    for axes in permutations(("LR", "PA", "SI")):
        for orientation in product(*axes):
            stored = scan.reoriented(orientation)
            found = cascade.predict(stored)
            assert found.mask.shape == stored.shape
            there = replace(stored, mask=found.mask).reoriented(scan.orientation)
            np.testing.assert_array_equal(there.mask, expected.mask)
            said = f"its axes run {'-'.join(orientation)} and were brought to S-P-L, as the training scans have them"
            assert found.notes == (() if stored is scan else (said,))


def test_a_mask_of_a_turned_file_lies_where_it_belongs(cascade, scan, tmp_path):
    stored = scan.reoriented(("L", "I", "A"))
    write_itk(stored.voxels, stored, tmp_path / "scan.nii.gz")
    read = load_volume(tmp_path / "scan.nii.gz")
    save_mask(cascade.predict(read).mask, tmp_path / "mask.nii.gz", read)
    mask = load_volume(tmp_path / "mask.nii.gz").reoriented(scan.orientation)
    np.testing.assert_array_equal(mask.voxels, cascade.predict(scan).mask)
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-5)


def test_boxes_of_a_person_are_drawn_on_the_scan_as_it_is_stored(cascade, scan):
    drawn = np.zeros(scan.shape, bool)
    drawn[2:6, 3:12, 4:7] = True
    scan = replace(scan, mask=drawn)
    stored = scan.reoriented(("R", "S", "A"))
    expected, found = (cascade.predict(each, lambda volume: volume.mask) for each in (scan, stored))
    assert 0.1 < expected.mask.mean() < 0.9
    np.testing.assert_array_equal(found.attention, expected.attention)
    np.testing.assert_array_equal(replace(stored, mask=found.mask).reoriented(scan.orientation).mask, expected.mask)


def test_what_is_not_known_of_the_axes_is_said(cascade, scan):
    unknown = replace(scan, notes=("LPS directions are unknown",))
    found = cascade.predict(unknown)
    assert found.notes[-1] == "its axes were taken to run S-P-L, as those of the training scans"
    np.testing.assert_array_equal(found.mask, cascade.predict(scan).mask)
    cascade.grids = replace(cascade.grids, orientation=())  # as of a model of before
    assert cascade.predict(unknown).notes == unknown.notes
    found = cascade.predict(scan)
    assert found.notes == (
        "where the axes of the training scans run is not known; this scan was taken as it is stored",
    )
