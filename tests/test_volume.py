"""Grids: resampling against plain averages and interpolation, and where voxels are in millimetres."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy import ndimage

from segdet.errors import GeometryError
from segdet.resampling import covered, resample_array
from segdet.volume import Volume, axis_aligned_affine, slice_boxes, tight_box

RNG = np.random.default_rng(0)


def test_spacing_and_affine():
    volume = Volume.from_spacing(np.zeros((2, 3, 4)), (3.0, 2.0, 1.0))
    assert volume.spacing == (3.0, 2.0, 1.0)
    assert (volume.affine @ [1, 2, 3, 1]).tolist() == [
        3,
        4,
        3,
        1,
    ]  # x from the column, y from the row, z from the slice


@pytest.mark.parametrize("spacing", [(3, -0.8, 0.8), (3, 0, 1), (3, np.nan, 1), (3, np.inf, 1), (1, 1), 1.0])
def test_a_spacing_that_is_none_mirrors_nothing(spacing):
    with pytest.raises(GeometryError) as refused:
        Volume.from_spacing(np.zeros((2, 3, 4)), spacing)
    assert str(refused.value) == f"a spacing is (dz, dy, dx), three numbers of mm above 0; found {spacing}"


@pytest.mark.parametrize(
    ("voxels", "found"),
    [
        (np.zeros((2, 3, 4), complex), "complex128"),
        (np.zeros((2, 3, 4), object), "object"),
        ([[[0]]], "list"),
        (torch.zeros(2, 3, 4), "torch.float32"),
    ],
)
def test_voxels_that_are_no_array_of_numbers(voxels, found):
    with pytest.raises(GeometryError) as refused:
        Volume(voxels, np.eye(4))
    assert str(refused.value) == f"scan: expected a NumPy array of integers or floats as voxels, found {found}"


def test_voxels_of_any_size():
    for size in (5e-5, 1e-9, 1e6):
        assert Volume.from_spacing(np.zeros((2, 3, 4)), (size,) * 3).spacing == (size,) * 3


def test_halving_is_a_block_mean_and_keeps_the_place():
    voxels = RNG.random((4, 6, 8)).astype(np.float32)
    volume = Volume.from_spacing(voxels, (0.13, 0.11, 0.2))
    half = volume.resample((2, 3, 4), (0.26, 0.22, 0.4))
    np.testing.assert_allclose(half.voxels, voxels.reshape(2, 2, 3, 2, 4, 2).mean((1, 3, 5)), rtol=1e-5)
    centre = volume.affine @ [1.5, 2.5, 3.5, 1]
    np.testing.assert_allclose(half.affine @ [0.5, 1, 1.5, 1], centre, atol=1e-12)


def test_a_third_is_a_block_mean_too():
    voxels = RNG.random((6, 3, 9)).astype(np.float32)
    third = resample_array(voxels, (2, 1, 3), (3.0, 3.0, 3.0))
    np.testing.assert_allclose(third, voxels.reshape(2, 3, 1, 3, 3, 3).mean((1, 3, 5)), rtol=1e-5)


@pytest.mark.parametrize(("step", "inside"), [(4.0, True), (4.2, False)])
def test_a_centre_on_the_border_is_inside(step, inside):
    """Two new voxels over four old ones, whose edges lie at -0.5 and 3.5: centres there, or 0.1 of a voxel beyond."""
    shape = (2, 1, 1), (step, 1, 1)
    assert covered((4, 1, 1), *shape).ravel().tolist() == [inside] * 2
    assert resample_array(np.ones((4, 1, 1)), *shape, fill=-7).ravel().tolist() == [1 if inside else -7] * 2


def test_refining_is_linear_interpolation():
    voxels = RNG.random((5, 4, 6)).astype(np.float32)
    fine = resample_array(voxels, (10, 8, 12), (0.5, 0.5, 0.5))
    at = np.meshgrid(*[(np.arange(2 * n) + 0.5) / 2 - 0.5 for n in voxels.shape], indexing="ij")
    np.testing.assert_allclose(fine, ndimage.map_coordinates(voxels, at, order=1, mode="nearest"), atol=1e-5)


def test_there_and_back():
    volume = Volume.from_spacing(RNG.random((6, 8, 10)), (1, 2, 3))
    back = volume.resample((3, 5, 7), (2, 3.2, 4)).resample(volume.shape, volume.spacing)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-12)


def test_outside_is_the_minimum_and_cropping_is_exact():
    voxels = RNG.random((4, 4, 4)).astype(np.float32) + 1
    volume = Volume.from_spacing(voxels, (1, 1, 1), voxels > 1.5)
    wide = volume.resample((6, 4, 2), (1, 1, 1))
    np.testing.assert_array_equal(wide.voxels[1:5], voxels[:, :, 1:3])
    assert (wide.voxels[[0, 5]] == voxels.min()).all()
    np.testing.assert_array_equal(wide.mask[1:5], volume.mask[:, :, 1:3])
    assert not wide.mask[[0, 5]].any()


def test_the_paper_s_crop():
    """397 x 192 halves to 198.5 x 96; the working grid keeps the central 184 rows (facts B8)."""
    volume = Volume.from_spacing(np.zeros((4, 397, 192), np.uint8), (0.13, 0.11, 0.2))
    working = volume.resample((2, 184, 96), (0.26, 0.22, 0.4))
    first_row_mm = (working.affine @ [0, 0, 0, 1])[1]
    assert first_row_mm == pytest.approx((397 - 1) / 2 * 0.11 - 183 / 2 * 0.22)


def test_normalised():
    volume = Volume.from_spacing(RNG.normal(50, 9, (8, 9, 10)), (1, 1, 1))
    z = volume.normalised()
    assert abs(z.mean()) < 1e-4
    assert z.std() == pytest.approx(1, abs=1e-4)
    unit = volume.normalised("unit")
    assert (unit.min(), unit.max()) == (0, 1)
    assert (unit == 1).mean() == pytest.approx(0.005, abs=0.003)
    assert not Volume.from_spacing(np.full((2, 2, 2), 7), (1, 1, 1)).normalised().any()
    assert not Volume.from_spacing(np.full((2, 2, 2), 7), (1, 1, 1)).normalised("unit").any()


def test_slice_boxes():
    mask = np.zeros((3, 5, 6), bool)
    mask[1, 1:3, 2] = mask[1, 4, 4:6] = mask[2, 3, 3] = True
    empty, two, one = slice_boxes(mask)
    assert empty.shape == (0, 4)
    assert two.tolist() == [[2, 1, 3, 3], [4, 4, 6, 5]]
    assert one.tolist() == [[3, 3, 4, 4]]
    assert tight_box(mask) == (slice(1, 3), slice(1, 5), slice(2, 6))
    assert tight_box(2 * mask) == tight_box(mask)  # any label counts
    assert tight_box(mask & False) is None
    for boxes_of in (slice_boxes, tight_box):
        with pytest.raises(ValueError, match="values other than 0 and 1; write a threshold"):
            boxes_of(0.3 * mask)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"voxels": np.zeros((3, 4))}, "expected a volume"),
        ({"voxels": np.zeros((3, 0, 4))}, "expected a volume"),
        ({"voxels": np.full((2, 2, 2), np.nan)}, "NaN"),
        ({"affine": np.zeros((4, 4))}, "invertible"),
        ({"affine": np.full((4, 4), np.inf)}, "invertible"),
        ({"affine": np.diag([1, 0, 1, 1])}, "invertible"),
        ({"affine": np.eye(4) + np.diag([0.1, 0, 0], 1)}, "not perpendicular"),
        ({"affine": np.array([[1] * 4] * 3 + [[0, 0, 0, 1]])}, "not perpendicular"),
        ({"affine": np.diag([1, 1, 1, 2])}, "ends in 0, 0, 0, 1; mend its header"),
        ({"affine": np.eye(4) + np.diag([0.1], -3)}, "ends in 0, 0, 0, 1"),
        ({"mask": np.full((2, 2, 2), 0.3)}, "the mask holds values other than 0 and 1; write a threshold"),
        ({"mask": np.zeros((2, 2, 3), bool)}, "same grid"),
        ({"labels": np.zeros((2, 2, 3), np.uint8)}, "the labels are .* same grid"),
        ({"labels": np.full((2, 2, 2), 2, np.uint8), "label_names": ("head",)}, "go up to 2, but 1 have a name"),
    ],
)
def test_refusals(kwargs, message):
    good = {"voxels": np.zeros((2, 2, 2)), "affine": axis_aligned_affine((1, 1, 1)), "name": "scan.dcm"}
    with pytest.raises(GeometryError, match=message) as caught:
        Volume(**good | kwargs)
    assert str(caught.value).startswith("scan.dcm: ")


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32])
def test_a_mask_of_any_kind_is_true_and_false(kind):
    mask = np.eye(2)[None].astype(kind)
    volume = Volume.from_spacing(np.zeros((1, 2, 2)), (1, 1, 1), mask)
    assert volume.mask.dtype == bool
    assert volume.mask.tolist() == [[[True, False], [False, True]]]


ORIENTATIONS = [letters for axes in permutations(("LR", "PA", "SI")) for letters in product(*axes)]


@pytest.mark.parametrize("turn", [0.0, 0.6])  # radians about a diagonal
def test_an_orientation_is_another_order_of_the_same_voxels(turn):
    x, y, z = np.ones(3) / np.sqrt(3)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    affine = axis_aligned_affine((3.0, 2.0, 1.0))
    affine[:3, 3] = 7, -5, 2
    affine[:3, :3] = (np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * cross @ cross) @ affine[:3, :3]
    volume = Volume(RNG.integers(0, 99, (4, 5, 6)), affine, RNG.random((4, 5, 6)) > 0.5)
    assert volume.orientation == ("S", "P", "L")
    assert len(set(ORIENTATIONS)) == 48
    for orientation in ORIENTATIONS:
        turned = volume.reoriented(orientation)
        assert turned.orientation == orientation
        assert turned.voxels.flags.c_contiguous
        here = np.indices(turned.shape).reshape(3, -1)
        there = turned.affine[:3, :3] @ here + turned.affine[:3, 3:]
        index = np.linalg.inv(affine) @ np.vstack([there, np.ones(there.shape[1])])
        index = tuple(np.rint(index[:3]).astype(int))
        np.testing.assert_array_equal(turned.voxels.ravel(), volume.voxels[index])
        np.testing.assert_array_equal(turned.mask.ravel(), volume.mask[index])
        back = turned.reoriented(volume.orientation)
        np.testing.assert_array_equal(back.voxels, volume.voxels)
        np.testing.assert_allclose(back.affine, affine, atol=1e-12)


@pytest.mark.parametrize("turned", [(0, 1), (0, 2), (1, 2)])
def test_axes_halfway_between_two_of_the_patient(turned):
    """Turned by 45 degrees; how the voxels are stored must not decide which axis counts as which."""
    turn = np.eye(3)
    turn[np.ix_(turned, turned)] = np.sqrt(0.5) * np.array([[1, -1], [1, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (turn * (1, 2, 3))[:, ::-1]
    volume = Volume(RNG.integers(0, 99, (4, 5, 6)), affine)
    for orientation in ORIENTATIONS:
        stored = volume.reoriented(orientation)
        assert stored.orientation == orientation
        np.testing.assert_array_equal(stored.reoriented(volume.orientation).voxels, volume.voxels)


def test_labels_go_where_the_voxels_go():
    """Turned with them; on another grid that of the nearest voxel, and 0 outside: never a value between two labels."""
    labels = RNG.integers(0, 4, (4, 5, 6)).astype(np.uint8)
    volume = Volume.from_spacing(labels.astype(float), (3, 2, 1), labels=labels, label_names=("a", "b", "c"))
    turned = volume.reoriented(("L", "S", "A"))
    np.testing.assert_array_equal(turned.labels, turned.voxels)
    assert turned.label_names == ("a", "b", "c")
    fine = volume.resample((8, 10, 12), (1.5, 1, 0.5)).labels
    np.testing.assert_array_equal(fine, labels.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    wide = volume.resample((6, 5, 6), (3, 2, 1)).labels
    np.testing.assert_array_equal(wide, np.pad(labels, ((1, 1), (0, 0), (0, 0))))
    assert wide.dtype == np.uint8


def test_unknown_directions_are_left_alone():
    volume = Volume.from_spacing(np.zeros((2, 3, 4)), (1, 1, 1), notes=("no header: LPS directions are unknown",))
    assert volume.orientation == ()
    assert volume.reoriented(("L", "P", "S")) is volume
    known = replace(volume, notes=())
    assert known.reoriented(()) is known


def test_a_small_mask_is_kept_where_most_of_a_voxel_is():
    mask = np.zeros((8, 8, 8), bool)
    mask[1, 5, 2] = mask[1, 4, 2] = mask[1, 3, 2] = True
    volume = Volume.from_spacing(np.zeros(mask.shape), (1, 1, 1), mask)
    coarse = volume.resample((4, 4, 4), (2, 2, 2))
    assert np.argwhere(coarse.mask).tolist() == [[0, 2, 1]]  # two of its eight voxels; one lies in [0, 1, 1]
    assert coarse.notes == (
        "a mask of 3 voxel(s) covers less than half a voxel of 2 x 2 x 2 mm anywhere: it was kept as 1 of these",
    )
    large = replace(volume, mask=np.ones((8, 8, 8), bool)).resample((4, 4, 4), (2, 2, 2))
    assert large.mask.all()
    assert large.notes == ()
    assert not volume.resample((2, 2, 2), (1, 1, 1)).mask.any()  # the mask lies outside
