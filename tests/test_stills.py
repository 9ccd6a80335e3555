"""Still pictures: the image on the screen, the ruler beside it, and what no ruler says, on screens that tests draw."""

import re
from dataclasses import replace

import numpy as np
import pytest
import screens
from dicom_samples import ct_voxels, write_series
from dicom_samples import image as write_dicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UltrasoundImageStorage, UltrasoundMultiFrameImageStorage

from segdet import load_volume
from segdet.cli import app
from segdet.errors import FormatError, GeometryError, PixelSizeError, SegdetError
from segdet.io.dicom.write import write_volume
from segdet.io.screen.areas import image_areas
from segdet.io.screen.digits import read_number
from segdet.io.screen.frames import holds_stills, read_frames
from segdet.io.screen.ruler import find_ruler
from segdet.io.stills import load_picture, load_picture_labels, load_pictures
from segdet.pipeline import Grids
from segdet.volume import Volume, axis_aligned_affine

BESIDE, INSIDE = (40, 760, 150, 860), (20, 620, 36, 850)
GRIDS = Grids((40.0, 40.0, 40.0), (8, 32, 32), (8, 16, 16))


def png(path, screen):
    Image.fromarray(screen).save(path)
    return path


def shown(arguments, capsys):
    app([str(argument) for argument in arguments], standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("depth", "pitch", "count"), [("5.0cm", 70, 10), ("6.0cm", 58, 12), ("4.0cm", 85, 8), ("3.5cm", 98, 7)]
)
def test_ticks_and_the_depth_beside_the_last(depth, pitch, count):
    screen = screens.beside(depth, pitch, count)
    (area,) = image_areas(screen)
    np.testing.assert_allclose(area, BESIDE, atol=2)
    ruler = find_ruler(screen, area)
    assert ruler.sure
    assert ruler.pixel_mm == pytest.approx(5 / pitch, rel=1e-6)
    np.testing.assert_allclose(ruler.rows, 40 + pitch * np.arange(1, count + 1))


@pytest.mark.parametrize(("first", "printed"), [(1, "1, 2, 3 cm"), (3, "3, 4, 5 cm")])
def test_numbers_beside_the_long_ticks_may_count_from_anywhere(first, printed):
    screen = screens.inside(first=first)
    (area,) = image_areas(screen)
    np.testing.assert_allclose(area, INSIDE, atol=2)  # without the grey bar
    ruler = find_ruler(screen, area)
    assert ruler.sure
    assert printed in ruler.said
    assert ruler.pixel_mm == pytest.approx(2.5 / 44, rel=1e-6)


@pytest.mark.parametrize("depth", ["", "7.0cm", "1.2cm"])
def test_a_depth_that_is_missing_or_does_not_fit_leaves_doubt(tmp_path, depth):
    (volume,) = load_pictures(png(tmp_path / "a.png", screens.beside(depth)))
    assert volume.spacing[1:] == pytest.approx((5 / 70, 5 / 70))
    assert "10 mm between the longer ticks was assumed" in volume.notes[0]
    assert "(not sure)" in volume.notes[0]


@pytest.mark.parametrize(("depth", "unit", "wide"), [("20cm", 20, 203), ("2.0cm", 2, 20)])
def test_numbers_that_make_an_image_unlike_those_of_hips_leave_doubt(tmp_path, depth, unit, wide):
    """As millimetres and inches without a unit do, which read as centimetres."""
    (volume,) = load_pictures(png(tmp_path / "a.png", screens.beside(depth)))
    assert volume.spacing[1:] == pytest.approx((unit / 70, unit / 70))
    said = f"which makes the image area {wide} mm wide, unlike that of a transducer for hips (not sure)"
    assert said in volume.notes[0]
    assert volume.meta["doubts"] == volume.notes[:1]


def test_custom_decides_only_where_the_image_is_then_as_wide_as_a_transducer(tmp_path):
    path = png(tmp_path / "a.png", screens.beside("", pitch=30, count=20))  # 710 columns would be 118 mm
    with pytest.raises(PixelSizeError, match=r"a\.png: the size of a pixel is not known.*--pixel-mm"):
        load_pictures(path)
    assert load_picture(path, pixel_mm=0.07).spacing == (1, 0.07, 0.07)


def test_ticks_that_are_all_alike_and_have_no_number_are_refused(tmp_path):
    screen = screens.beside("")
    screen[:, 919:930] = 0
    with pytest.raises(PixelSizeError):
        load_pictures(png(tmp_path / "a.png", screen))


def test_a_tick_that_is_hidden_and_one_that_is_none():
    screen = screens.beside()
    screen[240:262, 905:925] = 0  # the third
    screen[430:433, 915:921] = 255  # as text may be
    ruler = find_ruler(screen, BESIDE)
    assert ruler.sure
    assert ruler.pixel_mm == pytest.approx(5 / 70, rel=1e-6)
    assert len(ruler.rows) == 9


@pytest.mark.parametrize("seed", range(5))
def test_text_and_speckle_are_no_ruler(tmp_path, seed):
    screen = screens.beside("", seed=seed)
    screen[:, 900:940] = 0
    with pytest.raises(PixelSizeError):
        load_pictures(png(tmp_path / "a.png", screen))


@pytest.mark.parametrize("times", [2, 3])
def test_a_large_screen(times):
    screen = screens.beside().repeat(times, 0).repeat(times, 1)
    ruler = find_ruler(screen, tuple(times * edge for edge in BESIDE))
    assert ruler.sure
    assert ruler.pixel_mm == pytest.approx(5 / 70 / times, rel=1e-3)


@pytest.mark.parametrize("size", [(1950, 2550), (2400, 3100), (3000, 4032)])
def test_the_image_on_an_enlarged_screen(size):
    """The edges of the smooth picture move with it, and its grey bar stays one."""
    enlarged = np.asarray(Image.fromarray(screens.inside()).resize(size[::-1], Image.Resampling.BICUBIC))
    (area,) = image_areas(enlarged)
    times = np.repeat(np.array(size) / (660, 850), 2)
    np.testing.assert_allclose(area / times, INSIDE, atol=3)
    assert all(isinstance(edge, int) for edge in area)


@pytest.mark.parametrize(("rows", "columns"), [((200, 400), (420, 520)), ((100, 190), (170, 190))])
def test_smooth_tissue_is_no_grey_bar(rows, columns):
    """Neither in the middle of the image nor, where it is short, at its side."""
    screen = screens.beside()
    screen[slice(*rows), slice(*columns)] = np.linspace(200, 40, rows[1] - rows[0])[:, None]
    (area,) = image_areas(screen)
    np.testing.assert_allclose(area, BESIDE, atol=2)


@pytest.mark.parametrize("quality", [90, 70])
def test_a_compressed_picture(tmp_path, quality):
    path = tmp_path / "a.jpg"
    Image.fromarray(screens.beside()).save(path, quality=quality)
    (volume,) = load_pictures(path)
    assert volume.spacing[1:] == pytest.approx((5 / 70, 5 / 70), rel=2e-3)
    assert "(sure)" in volume.notes[0]


@pytest.mark.parametrize(
    ("text", "expected"), [("7", 7), ("12", 12), ("3.5cm", 3.5), ("48mm", 4.8), ("cm", None), ("A1", None)]
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_numbers_beside_a_tick(text, expected, side):
    canvas = Image.new("L", (260, 60), 20)
    x, anchor = (112, "rt") if side == "left" else (138, "lt")
    screens.ImageDraw.Draw(canvas).text((x, 27), text, 220, screens.font(20, "DejaVuSansMono"), anchor=anchor)
    screen = np.asarray(canvas).copy()
    screen[25:28, 120:130] = 220
    assert read_number(screen, (25, 28, 120, 130))[0] == expected


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_a_picture_is_turned_as_its_exif_says(name, orientation, turned, tmp_path):
    screen, exif = np.zeros((40, 64), np.uint8), Image.Exif()
    screen[:16, :32] = 255
    exif[0x112] = orientation
    stored = Image.fromarray(np.rot90(screen, turned))
    stored.save(tmp_path / name, exif=exif, **({"lossless": True} if name == "a.webp" else {}))
    (frame,), spacing, notes = read_frames(tmp_path / name)
    assert np.array_equal(frame, screen)
    assert (spacing, notes) == (None, ())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("packed", [None, "tiff_lzw"])
@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_a_tiff_is_turned_as_it_says(orientation, turned, packed, kind, tmp_path):
    screen = np.zeros((40, 64), np.uint8)
    screen[:16, :32] = 255
    stored = Image.fromarray(np.rot90(screen, turned).astype(kind))
    stored.save(tmp_path / "a.tif", compression=packed, tiffinfo={274: orientation})
    (frame,), *_ = read_frames(tmp_path / "a.tif")
    assert np.array_equal(frame, screen)


@pytest.mark.parametrize(
    ("photometric", "kind", "stored", "shown_as"),
    [
        (0, "<u2", [0, 400, 1000], [255, 153, 0]),
        (1, "<u2", [0, 400, 1000], [0, 102, 255]),
        (1, ">u2", [0, 400, 1000], [0, 102, 255]),
        (0, "<f4", [-1, 0, 1.5], [255, 153, 0]),
        (0, "|u1", [0, 100, 255], [255, 155, 0]),
        (1, "|i1", [-100, -60, 0], [0, 102, 255]),
        (1, "<i2", [-100, -60, 0], [0, 102, 255]),
    ],
)
def test_bright_is_large_in_a_tiff_of_any_kind(photometric, kind, stored, shown_as, tmp_path):
    path = screens.write_tiff(tmp_path / "a.tif", np.array([stored], kind), photometric)
    (frame,), *_ = read_frames(path)
    assert frame.tolist() == [shown_as]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_grey_levels_that_are_no_numbers_are_refused(value, tmp_path, recwarn):
    Image.fromarray(np.array([[0, 1, value]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(FormatError, match=r"a\.tif: its grey levels hold NaN or infinity; replace them"):
        read_frames(tmp_path / "a.tif")
    assert not recwarn


@pytest.mark.parametrize(("name", "mode"), [("a.png", "LA"), ("a.png", "RGBA"), ("a.webp", "RGBA"), ("a.gif", "RGBA")])
def test_white_on_a_transparent_ground_is_white_on_black(name, mode, tmp_path):
    drawn = np.zeros((20, 30), np.uint8)
    drawn[4:9, 5:25] = 255
    picture = Image.new(mode, (30, 20), "white")
    picture.putalpha(Image.fromarray(drawn))
    picture.save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    (frame,), *_ = read_frames(tmp_path / name)
    assert np.array_equal(frame, drawn)


@pytest.mark.parametrize(("mode", "ground"), [("L", 200), ("RGB", (200, 200, 200)), ("P", 200)])
def test_a_colour_that_is_transparent_is_black(mode, ground, tmp_path):
    drawn = np.full((20, 30), 200, np.uint8)
    drawn[4:9, 5:25] = 255
    Image.fromarray(drawn).convert(mode).save(tmp_path / "a.png", transparency=ground)
    (frame,), *_ = read_frames(tmp_path / "a.png")
    assert np.array_equal(frame, np.where(drawn == 255, 255, 0))


def test_a_half_transparent_picture_is_half_as_bright(tmp_path):
    Image.new("LA", (30, 20), (200, 128)).save(tmp_path / "a.png")
    (frame,), *_ = read_frames(tmp_path / "a.png")
    assert (frame == 100).all()


def test_two_images_on_one_screen(tmp_path):
    screen = np.zeros((600, 1200), np.uint8)
    screen[50:550, 100:560], screen[50:550, 640:1100] = screens.speckle(500, 460), screens.speckle(500, 460, 1)
    left, right = load_pictures(png(tmp_path / "dual.png", screen), pixel_mm=0.08)
    np.testing.assert_allclose(left.meta["image_area"], (50, 550, 100, 560), atol=2)
    np.testing.assert_allclose(right.meta["image_area"], (50, 550, 640, 1100), atol=2)
    assert (left.name, right.name) == ("dual.png, image 0", "dual.png, image 1")


def test_each_image_on_a_screen_has_its_own_ruler(tmp_path):
    shallow, deep = screens.beside(), screens.beside("6.0cm", 58, 12, seed=1)
    left, right = load_pictures(png(tmp_path / "dual.png", np.hstack([shallow, deep])))
    assert left.spacing[1] == pytest.approx(5 / 70)
    assert "(sure)" in left.notes[0]
    assert right.spacing[1] == pytest.approx(5 / 58)
    assert "but 0.07143 mm a pixel by the ruler at the other side of the image (not sure)" in right.notes[0]
    shallow[:, 900:940] = 0
    left, right = load_pictures(png(tmp_path / "dual.png", np.hstack([shallow, deep])))
    assert left.spacing[1] == right.spacing[1] == pytest.approx(5 / 58)
    assert "beyond another image on the screen (not sure)" in left.notes[0]
    assert "(sure)" in right.notes[0]


def test_what_is_read_is_the_image_and_nothing_else(tmp_path):
    screen = screens.beside()
    (volume,) = load_pictures(png(tmp_path / "a.png", screen))
    top, bottom, left, right = volume.meta["image_area"]
    np.testing.assert_array_equal(volume.voxels[0], screen[top:bottom, left:right])
    assert volume.shape == (1, bottom - top, right - left)
    assert (volume.voxels.dtype, volume.meta["stills"]) == (np.uint8, True)
    assert volume.orientation == ()


def test_a_given_size_wins_and_the_ruler_objects(tmp_path):
    path = png(tmp_path / "a.png", screens.beside())
    assert load_picture(path, pixel_mm=0.0715).notes[0] == "the pixel size was given"
    assert "against the depth ruler's 0.07143 mm" in load_picture(path, pixel_mm=0.1).notes[0]
    for pixel_mm in (0, -0.1, 7, 0.001, float("nan")):
        with pytest.raises(GeometryError, match=r"a\.png: .* mm wide; expected the size of one pixel in mm"):
            load_picture(path, pixel_mm=pixel_mm)


def test_labels_are_cropped_as_the_pictures_are(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    labels = np.zeros((1020, 780, 2), np.uint8)  # column, row, picture
    labels[300:400, 200:250, 1] = 2
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "a.nii.gz")
    frames = [Image.fromarray(screens.beside(seed=seed)) for seed in (0, 1)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    pictures = load_pictures(tmp_path / "a.gif")
    first, second = load_picture_labels(tmp_path / "a.nii.gz", pictures)
    top, _, left, _ = pictures[1].meta["image_area"]
    assert first.shape == pictures[0].shape
    assert not first.any()
    rows, columns = np.nonzero(second[0] == 2)
    assert (rows.min() + top, rows.max() + top) == (200, 249)
    assert (columns.min() + left, columns.max() + left) == (300, 399)
    Image.fromarray(screens.inside()).save(tmp_path / "b.png")
    with pytest.raises(FormatError, match=r"holds 2 label maps of \(780, 1020\).*of \(660, 850\)"):
        load_picture_labels(tmp_path / "a.nii.gz", load_pictures(tmp_path / "b.png"))
    with pytest.raises(FormatError, match=r"holds 2 label maps.*number 0, counted from 0, of 1,"):
        load_picture_labels(tmp_path / "a.nii.gz", pictures[:1])


def test_labels_that_a_program_turned_are_turned_back(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    labels = np.zeros((1020, 780, 1), np.uint8)  # column, row, picture
    labels[300:400, 200:250] = 2
    stored, path = nibabel.Nifti1Image(labels, np.diag([-0.07, -0.07, 1, 1])), tmp_path / "a.nii.gz"
    pictures = load_pictures(png(tmp_path / "a.png", screens.beside()))
    for image in (stored, nibabel.as_closest_canonical(stored)):
        nibabel.save(image, path)
        (found,) = load_picture_labels(path, pictures, whole=True)
        assert np.array_equal(found, labels.T)
    nibabel.save(nibabel.Nifti1Image(labels, [[-1, 0, 0, 0], [0, 1, 0, 50], [0, 0, 1, 0], [0, 0, 0, 1]]), path)
    with pytest.raises(FormatError, match=r"a\.nii\.gz: its axis j is turned, from -50 mm in steps of -1 mm; expected"):
        load_picture_labels(path, pictures)


def test_no_3d_code_takes_pictures_for_a_scan(tmp_path):
    volume = load_picture(png(tmp_path / "a.png", screens.beside()))
    for scan in (volume, volume.resample((8, 32, 32), (5, 1.25, 1.25))):
        with pytest.raises(GeometryError, match=r"a\.png: holds still pictures, not the slices of one scan"):
            GRIDS.inputs(scan)


def colour_dicom(path, count=2, **header):
    pixels = np.stack([screens.beside(seed=seed) for seed in range(count)])
    return write_dicom(path, pixels, **header)


def placeholder_dicom(path):
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SliceThickness": 1}
    return colour_dicom(path, Modality="US", PixelSpacing=[1, 1], NumberOfFrames=2, **place)


def test_predict_refuses_pictures_before_it_says_what_the_model_sees(tmp_path, capsys):
    path, out = placeholder_dicom(tmp_path / "a.dcm"), tmp_path / "mask.nii.gz"
    with pytest.raises(GeometryError, match=r"a\.dcm: holds still pictures, not the slices of one scan"):
        shown(["predict", path, "--model", "hip-small", "--out", out], capsys)
    assert capsys.readouterr().out == ""
    assert not out.exists()


def test_a_header_with_a_placeholder(tmp_path, capsys):
    path = placeholder_dicom(tmp_path / "a.dcm")
    for volume in load_pictures(path):
        assert volume.spacing[1:] == pytest.approx((5 / 70, 5 / 70))
        assert "placeholder" in volume.notes[1]
    with pytest.raises(GeometryError, match="still pictures"):
        GRIDS.inputs(load_volume(path))
    said = shown(["info", path], capsys)
    assert "still pictures: 2; they are no slices of one scan" in said
    assert "picture 0, 1:  780 rows x 1020 columns, the image area rows 40 to 759" in said
    assert "0.07143 x 0.07143 mm; the depth ruler's pixel size: 10 ticks, 70.0 pixels apart" in said
    assert "1 x 1 mm would make the picture 1020 x 780 mm" in said


def test_a_header_that_can_be_believed(tmp_path):
    path = colour_dicom(tmp_path / "a.dcm", 1, Modality="US", PixelSpacing=[0.0714, 0.09])
    (volume,) = load_pictures(path)
    assert volume.spacing == pytest.approx((1, 0.0714, 0.09))
    assert volume.notes[0] == "the header's pixel size"
    assert (volume.meta["scale"], volume.meta["doubts"]) == ("header", ())
    assert "stills" not in load_volume(path).meta


def test_a_header_that_contradicts_the_ruler_is_refused(tmp_path, capsys):
    path = colour_dicom(tmp_path / "a.dcm", 1, Modality="OT", PixelSpacing=[0.08, 0.09])
    said = "the header's pixel size of 0.08 x 0.09 mm contradicts the depth ruler's 0.07143 mm; give it in mm, with"
    with pytest.raises(GeometryError, match=rf"^a\.dcm: {said} --pixel-mm"):
        load_pictures(path)
    assert load_picture(path, pixel_mm=0.0714).spacing[1:] == (0.0714, 0.0714)
    (tmp_path / "both").mkdir()
    path.rename(tmp_path / "both/a.dcm")
    png(tmp_path / "both/b.png", screens.beside())
    assert f"a pixel not known, for {said} --pixel-mm" in shown(["info", tmp_path / "both"], capsys)


def test_a_ruler_that_is_not_sure_objects_to_a_header(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", screens.beside(""), Modality="US", PixelSpacing=[0.08, 0.08])
    (volume,) = load_pictures(path)
    assert volume.spacing[1:] == (0.08, 0.08)
    assert volume.notes[0] == "the header's pixel size, against the depth ruler's 0.07143 mm (not sure)"
    assert volume.meta["doubts"] == volume.notes[:1]


@pytest.mark.parametrize("modality", ["OT", "US"])
@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ([1, 1], "is a placeholder and not used: 1 x 1 mm"),
        ([0.2646, 0.2646], "is a placeholder and not used: 0.2646 x 0.2646 mm is that of a screen of 96 dots an inch"),
        ([0.353, 0.353], "is a placeholder and not used: 0.3528 x 0.3528 mm is that of a screen of 72 dots an inch"),
        ([1.5, 1.5], r"is not used: 1\.5 x 1\.5 mm would make its image area 10[56]\d\.?\d* mm wide"),
        ([0.08, 0.01], r"is not used: 0\.08 x 0\.01 mm would make its image area 7\.?\d* mm wide"),
        ([0.5, 0.08], r"is not used: 0\.5 x 0\.08 mm would make its image area 36\d\.?\d* mm deep"),
    ],
)
def test_a_header_that_cannot_be_right_leaves_it_to_the_ruler(tmp_path, modality, stated, said):
    path = write_dicom(tmp_path / "a.dcm", screens.beside(), Modality=modality, PixelSpacing=stated)
    (volume,) = load_pictures(path)
    assert volume.spacing[1:] == pytest.approx((5 / 70, 5 / 70))
    assert re.match(f"the header's pixel size {said}", volume.notes[1])
    screen = screens.beside()
    screen[:, 870:] = 0  # no ruler
    with pytest.raises(PixelSizeError, match=rf"and the header's pixel size {said}.*; give it in mm, with --pixel-mm"):
        load_pictures(write_dicom(path, screen, Modality=modality, PixelSpacing=stated))


def region(left, right, pixel_cm):
    """A calibrated region of an ultrasound screen, from its column `left` to `right`."""
    found = Dataset()
    found.RegionSpatialFormat, found.PhysicalUnitsXDirection, found.PhysicalUnitsYDirection = 1, 3, 3
    found.RegionLocationMinX0, found.RegionLocationMaxX1 = left, right
    found.RegionLocationMinY0, found.RegionLocationMaxY1 = 50, 549
    found.PhysicalDeltaX = found.PhysicalDeltaY = pixel_cm
    return found


def test_each_image_on_a_screen_has_the_size_of_its_own_region(tmp_path):
    screen, path = np.zeros((600, 1200), np.uint8), tmp_path / "dual.dcm"
    screen[50:550, 100:560], screen[50:550, 640:1100] = screens.speckle(500, 460), screens.speckle(500, 460, 1)

    def read(*regions, **header):
        return load_pictures(
            write_dicom(path, screen, Modality="US", SequenceOfUltrasoundRegions=list(regions), **header)
        )

    for stated in ({}, {"PixelSpacing": [0.08, 0.08]}):  # that of the larger region
        first, second = read(region(600, 1190, 0.008), region(90, 580, 0.006), **stated)
        assert (first.spacing[1], second.spacing[1]) == pytest.approx((0.06, 0.08))
        told = "its 2 calibrated regions differ in pixel size: each image has that of the region around it"
        assert first.meta["doubts"] == second.meta["doubts"] == (told,)
    first, second = read(region(90, 580, 0.006), region(600, 1190, 0.006))
    assert first.spacing == second.spacing == pytest.approx((1, 0.06, 0.06))
    assert first.meta["doubts"] == second.meta["doubts"] == ()
    with pytest.raises(PixelSizeError, match=r"dual\.dcm, image 1: .* its calibrated region does not hold this image"):
        read(region(90, 580, 0.006))


def test_a_screen_that_was_shrunk_after_calibration_is_told(tmp_path):
    screen = np.zeros((600, 600), np.uint8)
    screen[50:550, 50:550] = screens.speckle(500, 500)
    path = write_dicom(tmp_path / "a.dcm", screen, SequenceOfUltrasoundRegions=[region(50, 900, 0.006)], Modality="US")
    (volume,) = load_pictures(path)
    assert any("its pixels are larger" in doubt for doubt in volume.meta["doubts"])


def test_a_ruler_that_no_transducer_has_is_none(tmp_path, monkeypatch):
    path, wide = png(tmp_path / "a.png", screens.beside()), []
    found = find_ruler(screens.beside(), BESIDE)
    monkeypatch.setattr("segdet.io.stills.find_ruler", lambda *_: replace(found, pixel_mm=wide[0]))
    for wide[:] in ([0.5], [0.01]):
        with pytest.raises(PixelSizeError, match="what looks like a depth ruler is not used: it would make its image"):
            load_pictures(path)


def test_folders_and_what_is_no_picture(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    with pytest.raises(FormatError, match="holds no picture"):
        load_pictures(folder)
    png(folder / "b.png", screens.inside())
    png(folder / "a.png", screens.beside())
    (folder / "notes.txt").write_text("text")
    (folder / ".hidden.png").write_bytes(b"")
    assert [volume.name for volume in load_pictures(folder)] == ["a.png", "b.png"]
    assert "picture b.png: 660 rows x 850 columns" in shown(["info", folder], capsys)
    for name, content, message in (("c.png", b"\x89PNG", "cannot be"), ("c.txt", b"text" * 99, "expected a picture")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError, match=message):
            load_pictures(tmp_path / name)
    with pytest.raises(FormatError, match="no such file"):
        load_pictures(tmp_path / "missing.png")
    with pytest.raises(FormatError, match="holds 1 pictures, counted from 0; there is no picture 1"):
        load_picture(folder / "a.png", 1)
    with pytest.raises(FormatError, match=r"b\.png: \.png is not a format of scans"):
        load_volume(folder / "b.png")


@pytest.mark.parametrize(("kind", "brightest"), [(np.uint8, 255), (np.uint16, 40000), (np.float32, 1)])
def test_every_page_of_a_tiff_is_a_picture(tmp_path, kind, brightest):
    shown_in_it = np.zeros((2, 40, 64), np.uint8)
    shown_in_it[0, :16, :32] = shown_in_it[1, 20:, 40:] = 255
    first, second = (Image.fromarray((page / 255 * brightest).astype(kind)) for page in shown_in_it)
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    frames, spacing, notes = read_frames(tmp_path / "a.tif")
    assert np.array_equal(frames, shown_in_it)
    assert (spacing, notes) == (None, ())


def test_the_first_picture_of_a_phone_is_the_picture(tmp_path):
    first, second = (Image.new("L", size, 90) for size in ((120, 80), (60, 40)))
    first.save(tmp_path / "IMG.jpg", format="MPO", save_all=True, append_images=[second])
    (frame,), *_ = read_frames(tmp_path / "IMG.jpg")
    assert frame.shape == (80, 120)


def test_what_a_name_promises_in_vain_is_told(tmp_path):
    for content, said in ((b"", "the file is empty"), (b"text" * 99, "it is no picture in spite of its name")):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(FormatError, match=rf"a\.png: cannot be read: {said}"):
            load_pictures(tmp_path / "a.png")
    path = write_dicom(tmp_path / "a.png", screens.beside(), Modality="US", PixelSpacing=[0.0714, 0.0714])
    assert load_picture(path).notes[0] == "the header's pixel size"
    (tmp_path / "a.heic").write_bytes(b"text" * 99)
    with pytest.raises(FormatError, match=r"\.heic is a format of pictures that segdet does not read; of those it rea"):
        load_volume(tmp_path / "a.heic")


def test_an_ultrasound_image_of_no_known_place_is_a_still_picture(tmp_path, capsys):
    def write(name, pixels, **header):
        return write_dicom(tmp_path / name, pixels, Modality="US", **header)

    image, clip = UltrasoundImageStorage, UltrasoundMultiFrameImageStorage
    path = write("a.dcm", screens.beside(), SOPClassUID=image)
    assert "0.07143 x 0.07143 mm; the depth ruler's" in shown(["info", path], capsys)
    assert "a pixel 0.07 x 0.07 mm" in shown(["info", path, "--pixel-mm", "0.07"], capsys)
    write("b.dcm", screens.inside(), SOPClassUID=image, PixelSpacing=[25.4 / 96] * 2)
    said = shown(["info", tmp_path], capsys)
    assert "still pictures: 2" in said
    assert "0.2646 x 0.2646 mm is that of a screen of 96 dots an inch" in said
    assert not holds_stills(write("c.dcm", np.stack([screens.beside()] * 2), SOPClassUID=clip))
    assert not holds_stills(write("d.dcm", screens.beside(), SOPClassUID=image, ImagePositionPatient=[0, 0, 0]))
    assert not holds_stills(tmp_path)


def test_a_picture_beside_a_scan_is_passed_over(tmp_path, capsys):
    affine = axis_aligned_affine((2, 1, 1))
    folder, planes = write_series(tmp_path / "ct", ct_voxels(), affine), tmp_path / "ct/planes.png"
    assert f"wrote {planes}" in shown(["info", folder, "--png", planes], capsys)
    said = shown(["info", folder], capsys)
    assert "5 slices of 8 rows x 6 columns" in said
    assert "files passed over: 1 x no DICOM" in said
    (tmp_path / "us").mkdir()
    write_volume(Volume(np.zeros((3, 4, 5), np.uint8), affine), tmp_path / "us/scan.dcm")
    png(tmp_path / "us/b.png", screens.inside())
    assert "3 slices of 4 rows x 5 columns" in shown(["info", tmp_path / "us"], capsys)
    planes.rename(folder / ".hidden.png")
    assert "5 slices of 8 rows x 6 columns" in shown(["info", folder], capsys)


def test_a_picture_beside_pictures_in_dicom_is_one_of_them(tmp_path, capsys):
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SliceThickness": 1}
    colour_dicom(tmp_path / "a.dcm", 1, Modality="US", PixelSpacing=[1, 1], **place)
    colour_dicom(tmp_path / "b.dcm", 1, Modality="US", PixelSpacing=[0.08, 0.09])
    png(tmp_path / "c.png", screens.inside())
    assert "still pictures: 3; they are no slices" in shown(["info", tmp_path], capsys)


def test_info_of_a_picture_without_a_ruler(tmp_path, capsys):
    screen = screens.beside()
    screen[:, 870:] = 0
    path = png(tmp_path / "a.png", screen)
    assert "a pixel not known; give it in mm, with --pixel-mm" in shown(["info", path], capsys)
    assert "a pixel 0.07 x 0.07 mm; the pixel size was given" in shown(["info", path, "--pixel-mm", "0.07"], capsys)
    with pytest.raises(SegdetError, match="--png and --series are for scans"):
        app(["info", str(path), "--png", str(tmp_path / "b.png")], standalone_mode=False)


BAND = abs(np.arange(2000)[:, None] - np.arange(2000)) < 100  # along the diagonal


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((200, 300), np.uint8),
        np.where(BAND, 120, 0).astype(np.uint8),
        np.linspace(250, 30, 400).astype(np.uint8)[:, None].repeat(300, 1),
    ],
    ids=["dark", "a band", "all grey bar"],
)
def test_a_picture_without_an_image_area_is_read_whole(tmp_path, picture):
    (volume,) = load_pictures(png(tmp_path / "a.png", picture), pixel_mm=0.1)
    assert volume.shape == (1, *picture.shape)
    assert "no image area was found: it is read whole" in volume.notes


@pytest.mark.parametrize("shape", [(1700, 1), (1, 1700), (9000, 5)])
def test_a_strip_holds_no_ruler(tmp_path, shape):
    strip = np.full(shape, 90, np.uint8)
    assert find_ruler(strip, (0, shape[0], 0, shape[1])) is None
    (volume,) = load_pictures(png(tmp_path / "strip.png", strip), pixel_mm=0.1)
    assert volume.shape == (1, *shape)


# Pixel sizes by eye: from the skin, where the image begins, to the tick at the printed depth.
BY_EYE = {
    "171551": [50 / (754 - 39)] * 15,
    "171554": [50 / (754 - 39)] * 10,
    "171556": [10 / (713 - 593.5)] * 14,
    "172536": [50 / (754 - 39)] * 15,
    "172658": [50 / (754 - 39)] * 15,
    "167857": [20 / (533 - 190), *[20 / (584 - 207)] * 3],
}


@pytest.mark.parametrize("case", BY_EYE)
def test_rulers_of_real_screens(real_data, case):
    path = real_data / "infant_hip_2d" / f"{case}.dcm"
    if not path.exists():
        pytest.skip("needs infant_hip_2d")
    pictures = load_pictures(path)
    np.testing.assert_allclose([picture.spacing[1] for picture in pictures], BY_EYE[case], rtol=0.01)
    assert all("(sure)" in picture.notes[0] for picture in pictures)
    for labels in load_picture_labels(path.with_suffix(".nii.gz"), pictures):
        head = np.nonzero((labels == 2).any(0))
        if len(head[0]):
            assert 10 < np.ptp(head[1]) * pictures[0].spacing[2] < 26  # mm


@pytest.mark.parametrize("times", [1.4, 2.5, 3])
@pytest.mark.parametrize("case", ["171551", "167854", "72628"])
def test_a_real_screen_that_was_enlarged_shows_the_same_image(real_data, tmp_path, case, times):
    path = real_data / "infant_hip_2d" / f"{case}.dcm"
    if not path.exists():
        pytest.skip("needs infant_hip_2d")
    frame = read_frames(path)[0][0]
    size = [round(times * n) for n in frame.shape[::-1]]
    enlarged = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
    expected = load_picture(path, pixel_mm=0.07).meta["image_area"]
    area = load_picture(png(tmp_path / "a.png", enlarged), pixel_mm=0.07 / times).meta["image_area"]
    np.testing.assert_allclose(np.divide(area, times), expected, atol=3)


@pytest.mark.parametrize("case", ["167854", "72628"])
def test_real_screens_without_a_ruler(real_data, case):
    path = real_data / "infant_hip_2d" / f"{case}.dcm"
    if not path.exists():
        pytest.skip("needs infant_hip_2d")
    with pytest.raises(PixelSizeError, match=rf"{case}\.dcm, picture 0: .* a placeholder"):
        load_pictures(path)
