"""Frames without functional groups: slices where the header says so, times where it says so, else a doubt."""

import numpy as np
import pytest
from dicom_samples import image
from pydicom.dataset import Dataset

from segdet.errors import FormatError, GeometryError
from segdet.io.files import load_volume
from segdet.io.stills import load_pictures

PIXELS = np.random.default_rng(5).integers(0, 255, (6, 4, 5), dtype=np.uint8)
PLANE = {"PixelSpacing": [0.3, 0.2]}
PLACE = {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}  # the normal is -x
UNKNOWN = "the distance between slices is unknown and was set to 1 mm"
NO_PLACE = "the file gives no position or orientation in the patient: LPS directions are unknown"
NUCLEAR_MEDICINE = "1.2.840.10008.5.1.4.1.1.20"


def doubt(distance, keyword):
    return f"not sure that its 6 frames are slices: placed {distance} mm apart, as {keyword} says"


def affine(step, position=(1, 2, 3)):
    return np.column_stack([[step, 0, 0, 0], [0, 0, -0.3, 0], [0, 0.2, 0, 0], [*position, 1]])


@pytest.mark.parametrize("keyword", ["SpacingBetweenSlices", "SliceThickness"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_stated_distance_and_position_are_used(sign, keyword, tmp_path):
    volume = load_volume(image(tmp_path / "cbct.dcm", PIXELS, **PLANE, **PLACE, **{keyword: sign * 0.5}))
    assert np.array_equal(volume.voxels, PIXELS)
    assert np.allclose(volume.affine, affine(-0.5), atol=1e-9)
    assert volume.notes == (doubt(0.5, keyword),)


def test_a_distance_without_a_place(tmp_path):
    volume = load_volume(image(tmp_path / "us.dcm", PIXELS, **PLANE, SpacingBetweenSlices=0.4, FrameTime=40))
    assert volume.spacing == pytest.approx((0.4, 0.3, 0.2))
    times = ", though FrameTime makes them times"
    assert volume.notes == (doubt(0.4, "SpacingBetweenSlices") + times, NO_PLACE)


@pytest.mark.parametrize(
    ("header", "notes"),
    [
        ({"FrameTime": 40}, ("a clip: its 6 frames follow each other in time, not in space", UNKNOWN)),
        ({"CineRate": 25, "SliceThickness": 2},
         ("a clip: its 6 frames follow each other in time, not in space",
          "the distance between frames was set to 1 mm")),
        ({}, ("nothing says whether its 6 frames are times or slices", UNKNOWN)),
    ],
)  # fmt: skip
def test_frames_that_no_distance_tells_apart(header, notes, tmp_path):
    path = image(tmp_path / "clip.dcm", PIXELS, **PLANE, **PLACE, **header)
    volume = load_volume(path)
    assert volume.notes == notes
    assert np.allclose(volume.affine, affine(-1), atol=1e-9)
    third = load_volume(path, frame=2)
    assert np.array_equal(third.voxels, PIXELS[2:3])
    assert "image 3 of 6 was read, as frame=2 asked" in third.notes


@pytest.mark.parametrize("lost", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_what_is_missing_is_named(lost, tmp_path):
    place = {keyword: value for keyword, value in PLACE.items() if keyword != lost}
    volume = load_volume(image(tmp_path / "a.dcm", PIXELS, **PLANE, SpacingBetweenSlices=1, **place))
    assert volume.notes[1].startswith(f"no {lost}: ")


@pytest.mark.parametrize("sign", [1, -1])
def test_nuclear_medicine(sign, tmp_path):
    """The sign of the distance is the direction (PS3.3, C.8.4.15); the place stands with the detector."""
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = PLACE.values()
    header = {"SOPClassUID": NUCLEAR_MEDICINE, "SpacingBetweenSlices": sign * 2, "SliceVector": [1, 2, 3, 4, 5, 6],
              "DetectorInformationSequence": [detector]}  # fmt: skip
    volume = load_volume(image(tmp_path / "nm.dcm", PIXELS, **PLANE, **header))
    first = (1, 2, 3) if sign == 1 else (11, 2, 3)
    assert np.array_equal(volume.voxels, PIXELS[::sign])
    assert np.allclose(volume.affine, affine(-2, first), atol=1e-9)
    assert volume.notes == ()
    header["SliceVector"] = [1, 2, 3, 1, 2, 3]
    later = load_volume(image(tmp_path / "gated.dcm", PIXELS, **PLANE, **header), frame=1)
    assert np.array_equal(later.voxels, PIXELS[3:][::sign])


@pytest.mark.parametrize("start", [0, 7])
def test_a_dose_grid_states_the_place_of_every_frame(start, tmp_path):
    offsets = [start + 2.5 * n for n in range(6)]
    path = image(tmp_path / "dose.dcm", PIXELS, **PLANE, **PLACE, GridFrameOffsetVector=offsets, SliceThickness=None)
    volume = load_volume(path)
    assert np.allclose(volume.affine, affine(-2.5), atol=1e-9)
    assert volume.notes == ()
    offsets[3] += 1
    with pytest.raises(GeometryError, match=r"dose\.dcm: the slices are not evenly spaced"):
        load_volume(image(path, PIXELS, **PLANE, **PLACE, GridFrameOffsetVector=offsets))


@pytest.mark.parametrize("keyword", ["GridFrameOffsetVector", "SliceLocationVector", "SliceVector"])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_places_of_another_number_of_frames_are_refused(count, keyword, tmp_path):
    path = image(tmp_path / "a.dcm", PIXELS, **PLANE, **PLACE, **{keyword: [2 * n for n in range(count)]})
    with pytest.raises(GeometryError) as refused:
        load_volume(path)
    assert str(refused.value) == f"{path}: {keyword} has {count} places for 6 frames; export it again"


def test_pixels_that_are_not_square_are_not_read_as_square(tmp_path):
    path = image(tmp_path / "a.dcm", PIXELS[0], PixelAspectRatio=[3, 2])
    volume = load_volume(path)
    assert volume.spacing == (1, 1.5, 1)
    unknown = "no PixelSpacing and no 2D region in cm: the pixel size was set to"
    assert f"{unknown} 1.5 x 1 mm, in the ratio of PixelAspectRatio" in volume.notes
    with pytest.raises(FormatError) as caught:
        load_pictures(path)
    assert str(caught.value) == (
        f"{path}: its pixels are 1.5 times as high as wide (PixelAspectRatio) and of unknown size; expected "
        "square ones, or PixelSpacing: resample the picture first"
    )
    square = load_volume(image(path, PIXELS[0], PixelAspectRatio=[1, 1]))
    assert f"{unknown} 1 mm" in square.notes


def test_a_dose_grid_is_read_as_doses_or_not_at_all(tmp_path):
    grid = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2", "GridFrameOffsetVector": [2.5 * n for n in range(6)]}
    path, header = tmp_path / "dose.dcm", PLANE | PLACE | grid
    volume = load_volume(image(path, PIXELS, DoseGridScaling="0.25", **header))
    assert np.array_equal(volume.voxels, PIXELS * np.float32(0.25))
    assert volume.notes == ()
    for scaling, said in (
        ({}, "is an RT Dose without DoseGridScaling, so its doses are unknown; export it again"),
        ({"DoseGridScaling": "0"}, "its DoseGridScaling is 0; expected a scale: put it right or take it out"),
    ):
        with pytest.raises(FormatError) as caught:
            load_volume(image(path, PIXELS, **scaling, **header))
        assert str(caught.value) == f"{path}: {said}"


def test_a_single_slice_counts_its_distance_as_positive(tmp_path):
    volume = load_volume(image(tmp_path / "a.dcm", PIXELS[0], **PLANE, **PLACE, SpacingBetweenSlices=-4.418))
    assert volume.spacing == pytest.approx((4.418, 0.3, 0.2))
    assert volume.notes == ("a single slice; its thickness was taken as 4.418 mm",)


def us_region(delta_y, delta_x):
    """A calibrated region as large as the image, its pixels in cm."""
    region = Dataset()
    region.RegionSpatialFormat, region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = 1, 3, 3
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 4, 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = delta_x, delta_y
    return region


SAID = "PixelSpacing says 2 x 1 mm, the largest calibrated ultrasound region 0.2 x 0.1 mm: read as the region says"


@pytest.mark.parametrize("place", [{}, PLACE])
@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[0]])
def test_a_calibrated_region_is_believed_against_pixel_spacing(pixels, place, tmp_path):
    def read(stated):
        regions = [us_region(0.02, 0.01)]
        path = image(tmp_path / "us.dcm", pixels, Modality="US", SequenceOfUltrasoundRegions=regions, **place, **stated)
        still = load_pictures(path)[0]
        assert still.spacing[1:] == load_volume(path).spacing[1:]
        return load_volume(path), still

    volume, still = read({"PixelSpacing": [2, 1]})
    assert volume.spacing[1:] == pytest.approx((0.2, 0.1))
    assert SAID in volume.notes
    assert SAID in still.notes
    for stated in ([0.2, 0.1], [0.205, 0.0965]):  # within 5 %
        volume, still = read({"PixelSpacing": stated})
        assert volume.spacing[1:] == pytest.approx(stated)
        assert not any("region" in note for note in volume.notes + still.notes)


def test_slices_whose_regions_differ_are_refused(tmp_path):
    for index, delta in enumerate((0.01, 0.02)):
        place = PLACE | {"ImagePositionPatient": [index, 0, 0], "InstanceNumber": index + 1}
        regions = [us_region(delta, delta)]
        image(tmp_path / f"{index}.dcm", PIXELS[0], PixelSpacing=[2, 1], SequenceOfUltrasoundRegions=regions, **place)
    with pytest.raises(GeometryError, match="the pixel size of its calibrated ultrasound region differs between"):
        load_volume(tmp_path)
