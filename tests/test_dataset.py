"""Folders of annotated scans: which mask belongs to which scan, and what is said before a training begins."""

import os
import shutil
import warnings
from dataclasses import replace
from itertools import chain

import numpy as np
import pydicom
import pytest

from segdet.errors import FormatError, GeometryError, LabelError, SegdetError, TrainingError
from segdet.experiments.cases import prepare, prepared_split
from segdet.experiments.config import Plan, Profile
from segdet.experiments.runs import score_mask
from segdet.io import annotations, dataset
from segdet.io.annotations import load_case
from segdet.io.dataset import folder_pairs, read_cases
from segdet.io.files import save_mask
from segdet.io.itk import write_itk
from segdet.pipeline import Grids
from segdet.volume import Volume

TINY = Profile("tiny", (8, 96, 64), (8, 12, 8), 4, 2, 4, 2, 2, 1, 2)


def scan_of(index, size=(4, 8, 8)):
    """A box of noise, annotated with another, off the middle."""
    mask = np.zeros((8, 24, 16), bool)
    mask[tuple(slice(start, start + side) for start, side in zip((2, 3 + index, 5), size, strict=True))] = True
    voxels = np.random.default_rng(index).integers(0, 50, mask.shape) + 100 * mask
    return Volume(voxels.astype(np.uint8), np.array([[0, 0, 1.5, 4], [0, 1, 0, 5], [2, 0, 0, 6], [0, 0, 0, 1]]), mask)


def write(folder, scans, image="{}.nii.gz", label="{}.nii.gz"):
    """Write scans as images/ and labels/ under names made from their number."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for index, scan in enumerate(scans):
        write_itk(scan.voxels, scan, folder / "images" / image.format(index))
        save_mask(scan.mask, folder / "labels" / label.format(index), scan)
    return folder


def plan(folder, label=None):
    return Plan(TINY, (), str(folder), label)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("s{}.nii.gz", "s{}.nii.gz"),
        ("s{}.nii.gz", "s{}.nrrd"),
        ("s.{}.mha", "s.{}.dcm"),
        ("case_00{}_0000.nii.gz", "case_00{}.nii.gz"),
        ("case_00{}_0000.nrrd", "case_00{}_0000.mha"),
    ],
)
def test_pairs_by_name(image, label, tmp_path):
    scans = [scan_of(index) for index in range(3)]
    folder = write(tmp_path, scans, image, label)
    (folder / "labels/dataset.json").write_text("{}")
    (folder / "images/._s0.nii.gz").touch()
    os.mkfifo(folder / "images/pipe")  # for which nobody writes
    names = [(image.format(index), label.format(index)) for index in range(3)]
    assert [(scan.name, mask.name) for scan, mask in folder_pairs(folder)] == names
    for case, scan in zip(read_cases(folder_pairs(folder)), scans, strict=True):
        np.testing.assert_array_equal(case.mask, scan.mask)
        np.testing.assert_array_equal(case.voxels, scan.voxels)


def test_what_has_no_partner_or_two_is_named(tmp_path):
    with pytest.raises(SegdetError, match=r"expected scans in its folder images/ .* holds nothing"):
        folder_pairs(tmp_path)
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(SegdetError, match=rf"{tmp_path} holds imagesTr"):
        folder_pairs(tmp_path)
    folder = write(tmp_path, [scan_of(0)])
    (folder / "labels/0.nii.gz").rename(folder / "labels/zero.nii.gz")
    with pytest.raises(SegdetError, match=r"0\.nii\.gz: has no mask; .*labels/0 with .* without a scan: zero\.nii\.gz"):
        folder_pairs(folder)
    (folder / "labels/zero.nii.gz").rename(folder / "labels/0.nii.gz")
    save_mask(scan_of(1).mask, folder / "labels/1.mha", scan_of(1))
    with pytest.warns(UserWarning, match=r"labels: no scan belongs to 1\.mha"):
        assert len(folder_pairs(folder)) == 1
    save_mask(scan_of(1).mask, folder / "labels/0.mha", scan_of(1))
    with pytest.raises(FormatError, match=r"labels: holds 0\.mha and 0\.nii\.gz; which of them is meant\?"):
        folder_pairs(folder)
    (folder / "labels/0.mha").unlink()
    write_itk(scan_of(0).voxels, scan_of(0), folder / "images/0_0001.nii.gz")  # a second channel
    with pytest.raises(SegdetError, match=r"images/0_0001\.nii\.gz: has no mask"):
        folder_pairs(folder)
    (folder / "images/0_0001.nii.gz").rename(folder / "images/0_0000.nii.gz")
    with pytest.raises(SegdetError, match="0 and 0_0000 are scans of one mask"):
        folder_pairs(folder)


def test_only_the_scans_of_the_split_are_read(tmp_path, monkeypatch):
    folder, read = write(tmp_path, [scan_of(index) for index in range(9)]), []
    original = dataset.load_case
    monkeypatch.setattr(dataset, "load_case", lambda image, *rest: read.append(image.name) or original(image, *rest))
    _, *parts = prepared_split(plan(folder), 0)
    assert [len(part) for part in parts] == [2, 1, 2]
    assert sorted(read) == sorted(case.name for part in parts for case in part)


def test_a_label_that_some_scans_lack(tmp_path):
    folder = write(tmp_path, [scan_of(index) for index in range(3)])
    save_mask(np.zeros((8, 24, 16), bool), folder / "labels/1.nii.gz", scan_of(1))
    cases = read_cases(folder_pairs(folder), 1)
    assert [int(case.mask.sum()) for case in cases] == [256, 0, 256]
    assert cases[1].notes[-1] == "the annotation has no label 1: the object was taken to be absent"
    with pytest.raises(SegdetError, match=r"labels/0\.nii\.gz: has no label 3; it holds 1; nor does .* 3 annotations"):
        read_cases(folder_pairs(folder), 3)


@pytest.mark.parametrize(
    ("extension", "said"), [(".nii.gz", "no label 3; it holds 1"), (".dcm", r"no segment 3; its segments are \[1\]")]
)
def test_every_file_is_read_once_where_the_label_is_absent(extension, said, tmp_path, monkeypatch):
    folder, read = write(tmp_path, [scan_of(0)], label="{}" + extension), []
    original, dcmread = annotations.load_volume, pydicom.dcmread
    monkeypatch.setattr(
        annotations, "load_volume", lambda path, **options: read.append(path.name) or original(path, **options)
    )
    monkeypatch.setattr(pydicom, "dcmread", lambda path, **options: read.append("seg") or dcmread(path, **options))
    with pytest.raises(SegdetError, match=said):
        read_cases(folder_pairs(folder), 3)
    assert read == ["0.nii.gz", f"0{extension}"] + ["seg"] * (extension == ".dcm")
    with pytest.raises(LabelError, match=said) as told:
        load_case(folder / "images/0.nii.gz", folder / f"labels/0{extension}", 3)
    np.testing.assert_array_equal(told.value.volume.voxels, scan_of(0).voxels)
    assert told.value.volume.mask.sum() == 0


@pytest.mark.parametrize("label", [None, 1])
def test_a_mask_on_another_grid_is_refused_whatever_its_labels(label, tmp_path):
    folder, small = write(tmp_path, [scan_of(0), scan_of(1)]), np.zeros((5, 5, 5), bool)
    save_mask(small, folder / "labels/1.nii.gz", Volume(small.astype(np.uint8), scan_of(1).affine))
    message = r"labels/1\.nii\.gz: the mask is \(5, 5, 5\), the scan .*images/1\.nii\.gz is \(8, 24, 16\); resample it"
    with pytest.raises(GeometryError, match=message):
        read_cases(folder_pairs(folder), label)


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize(("value", "said"), [(np.nan, "the voxels hold NaN or infinity"), (1e39, "its intensities, ")])
def test_of_a_scan_and_its_mask_the_one_at_fault_is_named(kind, value, said, tmp_path):
    folder, scan = write(tmp_path, [scan_of(0), scan_of(1)]), scan_of(1)
    voxels = np.where(scan.mask, np.float64(value), 0)
    write_itk(voxels, scan, folder / kind / "1.nii.gz")
    with pytest.raises(GeometryError) as refused:
        read_cases(folder_pairs(folder))
    assert str(refused.value).startswith(f"{folder / kind / '1.nii.gz'}: {said}")


def test_nothing_to_find_is_refused_with_names(tmp_path):
    folder = write(tmp_path, [scan_of(index) for index in range(6)])
    _, train, validation, _ = prepared_split(plan(folder), 0)
    for part, what in ((validation, r"1 validation scans of seed 0 \({}\)"), (train, r"2 training scans .*{}")):
        for case in part:
            save_mask(np.zeros((8, 24, 16), bool), folder / "labels" / case.name, scan_of(0))
        with pytest.raises(TrainingError, match=f"none of the {what.format(part[-1].name)}.* holds a mask that is not"):
            prepared_split(plan(folder), 0)


def test_notes_are_told_once_with_names(tmp_path):
    folder = write(tmp_path, [scan_of(index) for index in range(5)])
    for index in range(5):
        labels = np.where(scan_of(index).mask, 1, -1).astype(np.int16)
        write_itk(labels, scan_of(index), folder / f"labels/{index}.nii.gz")
    with pytest.warns(
        UserWarning, match=r"\.nii\.gz and 2 more: the annotation holds values below 0, down to -1"
    ) as told:
        _, *parts = prepared_split(plan(folder), 0)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, *plain = prepared_split(plan(write(tmp_path / "plain", [scan_of(index) for index in range(5)])), 0)
    for case, expected in zip(chain(*parts), chain(*plain), strict=True):
        np.testing.assert_array_equal(case.mask, expected.mask)


def test_scans_stored_otherwise_train_the_same(tmp_path):
    scans = [scan_of(index) for index in range(6)]
    plain = write(tmp_path / "plain", scans)
    grids, *parts = prepared_split(plan(plain), 0)
    assert grids.orientation == ("S", "P", "L")
    odd = [int(case.name[0]) for case in (parts[0][1], parts[1][0], parts[2][0])]  # one of each part
    stored = [scan.reoriented("AIR") if index in odd else scan for index, scan in enumerate(scans)]
    with pytest.warns(UserWarning, match="its axes run A-I-R and were brought to S-P-L") as told:
        turned, *others = prepared_split(plan(write(tmp_path / "turned", stored)), 0)
    assert len(told) == 1
    assert turned == grids
    for case, expected in zip(chain(*others), chain(*parts), strict=True):
        np.testing.assert_array_equal(case.slices, expected.slices)
        np.testing.assert_array_equal(case.mask, expected.mask)
        np.testing.assert_array_equal(case.boxes, expected.boxes)


def test_a_folder_of_too_few_scans_is_named(tmp_path):
    folder = write(tmp_path, [scan_of(index) for index in range(3)])
    with pytest.raises(SegdetError) as refused:
        prepared_split(plan(folder), 0)
    assert str(refused.value) == (
        f"{folder}: expected at least 4 annotated scans (2 to train, 1 to select, 1 to test), found 3; add more"
    )


def test_masks_in_the_place_of_scans_are_told(tmp_path):
    folder = write(tmp_path, [scan_of(index) for index in range(4)])
    shutil.copy(folder / "labels/2.nii.gz", folder / "images/2.nii.gz")
    with pytest.warns(UserWarning, match=r"^2\.nii\.gz: the scan has two values only: is it a mask\?$"):
        prepared_split(plan(folder), 0)


def test_a_lesion_smaller_than_a_working_voxel(tmp_path):
    scans = [scan_of(index, (1, 1, 1)) for index in range(6)]
    with pytest.warns(
        UserWarning, match=r"gz: a mask of 1 voxel\(s\) covers less than half a voxel of 2 x 2 x 3 mm"
    ) as told:
        _, train, validation, test = prepared_split(plan(write(tmp_path, scans)), 0)
    cases = [*train, *validation, *test]
    assert len(told) == len(cases)
    for case in cases:
        index = int(case.name[0])
        assert np.argwhere(case.mask).tolist() == [[2, (3 + index) // 2, 2]]
        assert (case.boxes[..., 2:] > case.boxes[..., :2]).all(-1).any()
        empty, here = score_mask(np.zeros_like(case.mask), case), score_mask(case.mask, case)
        assert (empty["iou"], empty["dice"], empty["hd95_mm"]) == (0, 0, np.inf)
        assert (here["iou"], here["dice"], here["hd95_mm"]) == (1, 1, 0)


def test_an_annotation_beside_the_grids_is_refused():
    mask = np.zeros((8, 24, 16), bool)
    mask[4, 12, 15] = True
    scan = replace(scan_of(0), mask=mask)
    grids = Grids((16.0, 24.0, 21.0), (8, 12, 7), (8, 12, 7))  # of the slab one voxel beyond, no grid sees anything
    with pytest.raises(SegdetError, match="scan: its annotation lies beside what the training scans cover"):
        prepare(scan, grids)
