"""Boxes to mask against painting them one by one."""

import sys

import numpy as np
import pytest
import torch

from segdet.attention import attended_region, box3d_mask, boxes_to_mask, coverage_and_leakage, slice_box_mask
from segdet.bench.measure import peak_gib
from segdet.errors import FormatError, SegdetError
from segdet.io.boxes_csv import read_boxes


def painted(boxes, shape):
    mask = np.zeros(shape, bool)
    y, x = np.arange(shape[1]) + 0.5, np.arange(shape[2]) + 0.5
    for plane, slice_boxes in zip(mask, boxes, strict=True):
        for x0, y0, x1, y1 in np.asarray(slice_boxes):
            plane |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None]
    return mask


@pytest.mark.parametrize("scale", [1, 0.5, 0.37])
def test_equals_painting(scale):
    rng = np.random.default_rng(0)
    corner = np.round(rng.uniform(-20, 60, (12, 9, 2)) / scale) * scale
    boxes = np.concatenate([corner, corner + np.round(rng.uniform(0, 40, (12, 9, 2)) / scale) * scale], -1)
    mask = boxes_to_mask(torch.from_numpy(boxes.astype(np.float32)), (12, 46, 30))
    assert np.array_equal(mask.numpy(), painted(boxes.astype(np.float32), (12, 46, 30)))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_memory_beside_the_output():
    """A process that only makes the mask, in place of painting it: at most 1.5 times its bytes more."""
    shape = (512, 368, 192)
    code = f"import torch; from segdet.attention import boxes_to_mask; boxes = torch.rand({shape[0]}, 20, 4) * 90; "
    beside = peak_gib(code + f"boxes_to_mask(boxes, {shape})") - peak_gib(
        code + f"torch.ones({shape}, dtype=torch.bool)"
    )
    assert 0.5 < beside * 2**30 / np.prod(shape) < 1.5


@pytest.mark.parametrize("count", [255, 256, 257, 600])
def test_any_number_of_boxes_over_one_pixel(count):
    boxes = torch.tensor([1.0, 1, 3, 2]).expand(2, count, 4).clone()
    boxes[1, 1:] = 0
    expected = torch.zeros(2, 4, 5, dtype=torch.bool)
    expected[:, 1, 1:3] = True
    assert torch.equal(boxes_to_mask(boxes, (2, 4, 5)), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu():
    boxes = torch.rand(16, 20, 4) * 60
    boxes[..., 2:] += boxes[..., :2]
    assert torch.equal(boxes_to_mask(boxes.cuda(), (16, 96, 64)).cpu(), boxes_to_mask(boxes, (16, 96, 64)))


def test_half_open_edges_and_one_pixel():
    mask = boxes_to_mask([np.array([[2, 1, 3, 2]]), np.zeros((0, 4))], (2, 4, 5))
    assert np.argwhere(mask.numpy()).tolist() == [[0, 1, 2]]


def test_upside_down_and_outside_paint_nothing():
    boxes = [np.array([[3, 3, 1, 1], [3, 1, 1, 3], [-9, -9, -1, -1], [99, 0, 120, 9], [2, 2, 2, 4]])]
    boxes[0] = np.concatenate([boxes[0], [[1, -9, 4, -1], [-9, 1, -1, 4], [1, 7, 4, 9]]])  # above, beside and below
    assert not boxes_to_mask(boxes, (1, 6, 6)).any()


def test_wrong_number_of_slices():
    with pytest.raises(ValueError, match="3 slices, but the volume has 4"):
        boxes_to_mask([np.zeros((0, 4))] * 3, (4, 5, 5))
    boxes = torch.zeros(3, 2, 4)
    boxes[1, 1, 2] = torch.nan
    with pytest.raises(ValueError, match="slice 1: a box has an edge that is no number"):
        boxes_to_mask(boxes, (3, 5, 5))
    boxes[1, 1] = torch.tensor([-torch.inf, 1, torch.inf, 3])  # cut to the slice
    assert boxes_to_mask(boxes, (3, 5, 5)).sum((1, 2)).tolist() == [0, 10, 0]


@pytest.mark.parametrize("boxes", [torch.ones(1, 2, 5), [np.ones((2, 5))]], ids=["tensor", "list"])
def test_boxes_with_their_scores_are_refused(boxes):
    with pytest.raises(SegdetError, match=r"found an array \(.*2, 5\); leave out all else"):
        boxes_to_mask(boxes, (1, 5, 5))


def test_annotation_masks():
    annotation = np.zeros((4, 6, 6), bool)
    annotation[1, 2, 2] = annotation[2, 4, 5] = True
    solid = np.zeros_like(annotation)
    solid[1:3, 2:5, 2:6] = True
    assert np.array_equal(box3d_mask(annotation), solid)
    assert np.array_equal(slice_box_mask(annotation), annotation)  # each slice's box is one pixel
    assert not box3d_mask(np.zeros((2, 3, 3), bool)).any()


def test_the_attended_region():
    attention = np.zeros((32, 46, 24), bool)
    everything = (slice(None),) * 3
    assert attended_region(attention, (1, 1, 1), 4.0) == everything
    attention[10:20, 30:44, 3:9] = True
    assert attended_region(attention, (1, 1, 1), None) == everything
    # 10 + 2 * 2 voxels grow to 16; 14 + 2 * 4 to 24, pushed in at the far edge; 6 + 2 * 3 to 16, at the near edge
    assert attended_region(attention, (2, 1, 1.5), 4.0) == (slice(7, 23), slice(22, 46), slice(0, 16))
    assert attended_region(attention, (1, 1, 1), 100.0) == (slice(0, 32), slice(0, 46), slice(0, 24))
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape, spacing = rng.integers(1, 40, 3), rng.uniform(0.2, 3, 3)
        attention = np.zeros(shape, bool)
        attention[tuple(rng.integers(0, shape))] = attention[tuple(rng.integers(0, shape))] = True
        region = attended_region(attention, spacing, margin := rng.uniform(0, 10))
        assert attention[region].sum() == attention.sum()
        for axis, side in enumerate(region):
            marked = np.flatnonzero(attention.any(tuple({0, 1, 2} - {axis})))
            near, far = (
                max(0, marked[0] - margin / spacing[axis]),
                min(shape[axis], marked[-1] + 1 + margin / spacing[axis]),
            )
            assert 0 <= side.start <= near
            assert far <= side.stop <= shape[axis]
            assert (side.stop - side.start) % 8 == 0 or side.stop - side.start == shape[axis]
            assert side.stop - side.start >= min(16, shape[axis])  # three poolings leave two voxels


def test_coverage_and_leakage():
    annotation = np.zeros((1, 4, 4), bool)
    annotation[0, :2, :2] = True
    attention = np.zeros_like(annotation)
    attention[0, :2, 1:] = True  # 6 pixels, 2 of them annotated
    assert coverage_and_leakage(attention, annotation) == (0.5, pytest.approx(4 / 6))
    nothing = np.zeros_like(annotation)
    assert coverage_and_leakage(nothing, annotation) == (0.0, 0.0)
    assert coverage_and_leakage(attention, nothing) == (1.0, 1.0)
    with pytest.raises(ValueError, match=r"two masks of one grid are compared, found \(4, 4, 4\) and \(1, 4, 4\)"):
        coverage_and_leakage(attention.repeat(4, 0), annotation)
    with pytest.raises(ValueError, match="values other than 0 and 1; write a threshold"):
        coverage_and_leakage(attention * 0.3, annotation)


def test_boxes_from_a_file(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("x0, y0, x1, y1, slice, reader\n1,2,4,5.5,2,A\n0,0,6,6,0,B\n2,2,3,3,2,A\n")
    boxes = read_boxes(path, (3, 6, 6))
    assert [b.tolist() for b in boxes] == [[[0, 0, 6, 6]], [], [[1, 2, 4, 5.5], [2, 2, 3, 3]]]
    assert boxes_to_mask(boxes, (3, 6, 6)).sum((1, 2)).tolist() == [36, 0, 9]


@pytest.mark.parametrize(
    "text",
    [
        "slice,x0,y0,x1,y1\n2.0,1,1,5,5\n",  # pandas, where a column has gaps
        ",slice,x0,y0,x1,y1\n0,2,1,1,5,5\n",  # pandas, with its index
        "slice,x0,y0,x1,y1\n2,1,1,5,5\n,,,,\n",  # a spreadsheet
        "slice ,x0 ,y0 ,x1 ,y1\n2 ,1 ,1 ,5 ,5 \n",
    ],
)
def test_boxes_as_other_programs_write_them(tmp_path, text):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    assert [b.tolist() for b in read_boxes(path, (3, 6, 6))] == [[], [], [[1, 1, 5, 5]]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slice,x0,y0,x1\n", "its first line is slice,x0,y0,x1; expected the columns slice,x0,y0,x1,y1"),
        ("", "its first line is empty"),
        ("slice,x0,y0,x1,y1,slice\n0,1,1,2,2,1\n", "boxes.csv: has two columns slice; keep one of them"),
        ("slice,x0,y0,x1,y1\n0,1,1,2,2\n3,1,1,2,2\n", "line 3: slice 3, but the scan has slices 0 to 2"),
        ("slice,x0,y0,x1,y1\n-1,1,1,2,2\n", "line 2: slice -1"),
        ("slice,x0,y0,x1,y1\n0,1,1,2\n", "line 2: expected five numbers"),
        ("slice,x0,y0,x1,y1\n0,1,1,2,2,9\n", "line 2: expected five numbers"),
        ("slice,x0,y0,x1,y1\n0.5,1,1,2,2\n", "line 2: expected five numbers"),
        ("slice,x0,y0,x1,y1\ninf,1,1,2,2\n", "line 2: expected five numbers"),
        ("slice,x0,y0,x1,y1\n0,2,1,1,2\n", r"line 2: \[2.0, 1.0, 1.0, 2.0\] is no box .* of 6 x 5 pixels"),
        ("slice,x0,y0,x1,y1\n0,1,1,nan,2\n", "line 2: .* is no box"),
        ("slice,x0,y0,x1,y1\n0,1,1,6,2\n", "line 2: .* is no box"),
        ("slice\0,x0", "boxes.csv: "),
    ],
)
def test_a_line_that_holds_no_box_is_named(tmp_path, text, message):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_boxes(path, (3, 6, 5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"slice\nof the scan",x0\n', "its first line is slice of the scan,x0; expected the columns slice,x0,y0,x1,y1"),
        (f"{'a' * 300},x0\n", f"its first line is {'a' * 200}...; expected the columns slice,x0,y0,x1,y1"),
        (
            f"slice,x0,y0,x1,y1\n0,1,1,2,{'a' * 300}\n",
            f"expected five numbers, found ['0', '1', '1', '2', '{'a' * 178}...",
        ),
    ],
)
def test_what_a_file_of_boxes_holds_is_told_in_one_short_line(tmp_path, text, message):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(FormatError) as caught:
        read_boxes(tmp_path / "boxes.csv", (3, 6, 5))
    assert str(caught.value).endswith(f": {message}")


def test_a_file_of_boxes_that_is_not_there(tmp_path):
    with pytest.raises(FormatError, match="cannot be read"):
        read_boxes(tmp_path / "none.csv", (3, 6, 5))
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(FormatError, match="cannot be read"):
        read_boxes(tmp_path / "binary.csv", (3, 6, 5))
