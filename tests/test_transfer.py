"""Real infants: pictures as cases, scores worked out by hand, folds, and one whole tiny study that goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import screens
import torch
from dicom_samples import image as write_dicom
from PIL import Image

from segdet.errors import SegdetError
from segdet.experiments import cases
from segdet.experiments.cases import prepared_split
from segdet.experiments.config import Plan, Profile
from segdet.experiments.study import Study
from segdet.infants import outlines, pictures, transfer
from segdet.infants import scores as infant_scores
from segdet.infants.pictures import ASSUMED, GIVEN, Infant, Stills, read_infants
from segdet.proposals import Proposals
from segdet.rpn_loss import Sampling
from segdet.training.detector import train_detector
from segdet.training.recipes import Recipe
from segdet.volume import Volume, slice_boxes

TINY = Profile("tiny", (8, 96, 64), (8, 12, 8), 4, 4, 4, 2, 2, 1, 0, "resnet18")


def disc(rows, cols, centre, radius, spacing=0.1, name="disc"):
    """A dark disc in a brighter picture, and its mask; centre (row, column) and radius in pixels."""
    y, x = np.mgrid[:rows, :cols]
    mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    grey = np.where(mask, 30, 120 + (x + y) % 50).astype(np.uint8)
    return Volume.from_spacing(grey[None], (1, spacing, spacing), name=name), mask[None]


def stills(name="a", centres=((150, 120), (150, 200)), radius=80):
    pairs = [disc(400, 360, centre, radius) for centre in centres]
    return Stills(name, [p for p, _ in pairs], [m for _, m in pairs], GIVEN)


def test_a_picture_lies_whole_on_the_grid_of_the_simulated_slices():
    infant = stills().on_grid((0.2, 0.4))
    assert infant.slices.shape == (2, 200, 90)  # 40 x 36 mm: nothing is cut off
    # the disc spans rows 70 to 231 and columns 40 to 201 of 0.1 mm
    torch.testing.assert_close(infant.boxes[0, 0], torch.tensor([10.0, 35, 50, 115]), atol=1, rtol=0)
    assert infant.slices.min() == 0
    assert infant.slices.max() == 1


def test_pictures_of_several_sizes_are_filled_up_with_black():
    small, large = disc(100, 80, (50, 40), 20), disc(200, 160, (90, 80), 30)
    infant = Stills("a", [small[0], large[0]], [small[1], large[1]], GIVEN).on_grid((0.1, 0.1))
    assert infant.slices.shape == (2, 200, 160)
    assert not infant.slices[0, 100:].any()
    assert not infant.slices[0, :, 80:].any()
    assert infant.boxes[0, 0].tolist() == [20, 30, 61, 71]


def test_a_picture_without_a_label_holds_no_box():
    (picture, mask), empty = disc(100, 80, (50, 40), 20), np.zeros((1, 100, 80), bool)
    infant = Stills("a", [picture, picture], [empty, mask], GIVEN).on_grid((0.1, 0.1))
    assert infant.labelled.tolist() == [False, True]
    assert infant.windowed((64, 64)).slices.shape == (1, 64, 64)


def infant_of(boxes, shape=(300, 200), scale=GIVEN):
    slices = torch.zeros(len(boxes), *shape)
    for picture, (x0, y0, x1, y1) in zip(slices, boxes, strict=True):
        picture[y0:y1, x0:x1] = 1
    return Infant("a", slices, torch.tensor(boxes, dtype=torch.float32)[:, None], (0.2, 0.4), scale)


@pytest.mark.parametrize(
    ("box", "moved"),
    [
        ((80, 20, 120, 90), (28, 20, 68, 90)),  # in the middle window, columns 52 to 148, from the skin down
        ((150, 20, 199, 90), (47, 20, 96, 90)),  # the window moves right until the head ends with it
        ((2, 20, 50, 90), (0, 20, 48, 90)),  # and left
        ((80, 200, 120, 290), (28, 94, 68, 184)),  # and down
    ],
)
def test_a_window_holds_the_whole_head(box, moved):
    cut = infant_of([box]).windowed((184, 96))
    x0, y0, x1, y1 = moved
    assert cut.boxes[0, 0].tolist() == list(moved)
    assert cut.slices[0].sum() == cut.slices[0, y0:y1, x0:x1].sum() == (x1 - x0) * (y1 - y0)


def test_a_picture_smaller_than_the_window_is_filled_up():
    cut = infant_of([(10, 10, 40, 60)], (100, 60)).windowed((184, 96))
    assert cut.slices.shape == (1, 184, 96)
    assert cut.boxes[0, 0].tolist() == [10, 10, 40, 60]


def test_a_head_larger_than_the_window_is_refused():
    with pytest.raises(SegdetError, match="a: a head of 190 x 40 pixels does not fit into a slice of 184 x 96"):
        infant_of([(10, 10, 50, 200)]).windowed((184, 96))


def test_the_usual_head_measures_16_mm():
    scaled = stills(radius=80).with_usual_head()  # 161 pixels of 0.1 mm
    assert scaled.scale == ASSUMED
    assert scaled.pictures[0].spacing == pytest.approx((1, 1.6 / 16.1, 1.6 / 16.1))


def test_scores_by_hand(monkeypatch):
    """Two pictures: a box 2 mm too low in the first; in the second a box on nothing first, the true one second."""
    infant = infant_of([(50, 50, 100, 150), (50, 50, 100, 150)])
    zero = [0.0] * 4
    found = torch.tensor(
        [[[50, 60, 100, 160], zero, zero], [[150, 200, 190, 290], [50, 50, 100, 150], zero]], dtype=torch.float32
    )
    values = torch.tensor([[0.9, 0, 0], [0.8, 0.7, 0]])
    monkeypatch.setattr(infant_scores, "detect", lambda *_: (found, values))
    row = infant_scores.score(None, Proposals(threshold=0.85), infant)
    assert row["pictures"] == 2
    assert row["box_iou"] == pytest.approx((90 / 110 + 0) / 2)
    assert (row["recall50"], row["recall70"], row["kept"], row["false_boxes"]) == (0.5, 0.5, 0.5, 0)
    assert infant_scores.score(None, Proposals(threshold=0.75), infant)["false_boxes"] == 0.5
    away = np.hypot((170 - 75) * 0.4, (245 - 100) * 0.2)
    assert row["centre_mm"] == pytest.approx((2 + away) / 2)
    assert row["width_mm"] == pytest.approx((0 + (40 - 50) * 0.4) / 2)
    assert row["height_mm"] == pytest.approx((0 + (90 - 100) * 0.2) / 2)
    assert row["label_mm"] == pytest.approx((50 * 0.4 + 100 * 0.2) / 2)
    assert row["diameter_mm"] == pytest.approx((20 + (16 + 18) / 2) / 2)
    assert row["off_mm"] == pytest.approx((0 + 3) / 2)


def test_diameters_that_are_off_both_ways_do_not_cancel(monkeypatch):
    """One 2 mm too large, one 2 mm too small: the medians of detected and labelled are the same."""
    infant = infant_of([(50, 50, 100, 150)] * 2)
    found = torch.tensor([[[50.0, 50, 105, 160]], [[50, 50, 95, 140]]]).expand(2, 3, 4)
    monkeypatch.setattr(infant_scores, "detect", lambda *_: (found, torch.ones(2, 3)))
    row = infant_scores.score(None, Proposals(), infant)
    assert row["diameter_mm"] == pytest.approx(row["label_mm"])
    assert row["off_mm"] == pytest.approx(2)


def test_a_box_where_a_person_sees_no_head_is_false(monkeypatch):
    infant = replace(infant_of([(50, 50, 100, 150)] + [(0, 0, 0, 0)] * 3), empty=(1, 3))
    infant.slices[:] = torch.arange(4.0)[:, None, None]
    values, seen = {0.0: 0.9, 1.0: 0.9, 3.0: 0.6}, []

    def detect(_, slices, proposals):
        seen.append(slices[:, 0, 0].tolist())
        scores = torch.tensor([[values[number], 0, 0] for number in seen[-1]])
        return torch.tensor([[50.0, 50, 100, 150]]).expand(len(slices), 3, 4), scores

    monkeypatch.setattr(infant_scores, "detect", detect)
    row = infant_scores.score(None, Proposals(threshold=0.7), infant)
    assert seen == [[0], [1, 3]]  # of picture 2 nobody has said anything
    assert (row["empty_pictures"], row["empty_found"], row["pictures"], row["false_boxes"]) == (2, 0.5, 1, 0)
    row = infant_scores.score(None, Proposals(), replace(infant, empty=()))
    assert row["empty_pictures"] == 0
    assert row["empty_found"] is None


def test_what_just_reaches_a_threshold_counts(monkeypatch):
    """Three pictures with a head, whose best boxes have IoU 0.5, 0.7 and 1, and two without."""
    infant = replace(infant_of([(50, 50, 100, 150)] * 3 + [(0, 0, 0, 0)] * 2), empty=(3, 4))
    none, tiny, tenth = [0.0] * 4, [150.0, 200, 150.5, 200.5], [50.0, 50, 100, 60]
    answers = [
        (
            [[[50, 50, 100, 100], none, tenth], [[50, 50, 100, 120], tiny, tiny], [[50, 50, 100, 150], tiny, none]],
            [[0.75, 0.75, 0.75], [0.5, 0.5, 0.5], [1, 0.75, 0.5]],
        ),
        ([[tiny, none, none], [none, none, none]], [[0.75, 0, 0], [0.875, 0.875, 0.875]]),
    ]
    asked = []

    def detect(_, slices, proposals):
        asked.append(proposals)
        return tuple(torch.tensor(part, dtype=torch.float32) for part in answers[len(asked) - 1])

    monkeypatch.setattr(infant_scores, "detect", detect)
    row = infant_scores.score(None, Proposals(threshold=0.75, nms_iou=0.25), infant)
    assert asked == [Proposals(top_k=3, threshold=0.0, nms_iou=0.25)] * 2
    assert row["box_iou"] == pytest.approx((0.5 + 0.7 + 1) / 3)
    found = [row[name] for name in ("recall50", "recall70", "kept", "false_boxes", "empty_found")]
    assert found == pytest.approx([1, 2 / 3, 2 / 3, 1 / 3, 1 / 2])
    assert row["height_mm"] == pytest.approx(-6)  # the median of -10, -6 and 0


def test_no_size_is_measured_where_the_label_gave_the_scale(monkeypatch):
    infant = infant_of([(50, 50, 100, 150)], scale=ASSUMED)
    found = infant.boxes.expand(1, 3, 4)
    monkeypatch.setattr(infant_scores, "detect", lambda *_: (found, torch.ones(1, 3)))
    row = infant_scores.score(None, Proposals(), infant)
    assert row["box_iou"] == 1
    names = "centre_mm", "width_mm", "height_mm", "diameter_mm", "label_mm", "off_mm"
    assert all(np.isnan(row[name]) for name in names)


def test_the_interval_is_over_infants():
    """Means 0.4, 0.6 and 0.8 of three infants: deviation 0.2, and Student's t of 2 degrees of freedom is 4.3027."""
    rows = [{"case": c, "seed": s, "x": v} for c, s, v in [("a", 0, 0.3), ("a", 1, 0.5), ("b", 0, 0.6), ("c", 0, 0.8)]]
    rows += [{"case": "d", "seed": 0, "x": float("nan")}, {"case": "e", "seed": 0, "x": ""}]  # not measured
    mean, low, high, infants = infant_scores.over_infants(rows, "x")
    assert infants == 3
    assert mean == pytest.approx(0.6)
    assert [low, high] == pytest.approx([0.6 - 4.3027 * 0.2 / 3**0.5, 0.6 + 4.3027 * 0.2 / 3**0.5], abs=1e-4)
    one = infant_scores.over_infants(rows[:2], "x")
    assert one[1:] == (-np.inf, np.inf, 1)
    assert infant_scores.over_infants(rows[4:], "x") == pytest.approx((np.nan, np.nan, np.nan, 0), nan_ok=True)
    other = [row | {"x": 0.1} for row in rows[1:3]]
    found = infant_scores.gains(rows[:4], other, "x")
    assert [(row["case"], round(row["x"], 6)) for row in found] == [("a", 0.4), ("b", 0.5)]


def test_a_gain_takes_two_numbers(tmp_path):
    """An empty cell comes back as the text "", what was not measured as NaN; on neither side do they count."""
    study, nan = Study(tmp_path), float("nan")
    values = {"one": (0.5, 0.75, None, 0.5, nan), "two": (0.25, None, 0.5, nan, 0.5)}
    for arm, column in values.items():
        study.add("curve", [{"seed": 0, "arm": arm, "case": c, "x": x} for c, x in zip("abcde", column, strict=True)])
    rows = study.table("curve")
    assert [row["x"] for row in rows if row["case"] in "bc"] == [0.75, "", "", 0.5]
    groups = ([row for row in rows if row["arm"] == arm] for arm in values)
    assert infant_scores.gains(*groups, "x") == [{"case": "a", "x": 0.25}]


@pytest.mark.parametrize(("infants", "count", "trainings"), [(8, 7, 8), (8, 5, 3), (8, 3, 2), (8, 1, 2), (7, 6, 7)])
def test_every_infant_is_tested_once_by_a_detector_that_has_not_seen_it(infants, count, trainings):
    names = [f"infant {i}" for i in range(infants)]
    found = transfer.folds(names, count, seed=3)
    assert len(found) == trainings
    assert sorted(name for _, test in found for name in test) == names
    for train, test in found:
        assert len(set(train)) == count
        assert not set(train) & set(test)


def test_too_few_infants_are_refused(tmp_path):
    with pytest.raises(SegdetError, match="to train on 7 infants and test on others takes 8, found 7"):
        transfer.folds(list(range(7)), 7, 0)
    plan, two = transfer.TransferPlan(TINY, ("book",), (1, 2)), [stills("a"), stills("b")]
    with pytest.raises(SegdetError, match='takes 3, found 2; name smaller numbers as --infants, or "" for none'):
        transfer.run_transfer(plan, [0], two, tmp_path / "s")
    with pytest.raises(SegdetError, match="a study of infants takes two or more, found 1"):
        transfer.run_transfer(replace(plan, counts=()), [0], two[:1], tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_the_rate_of_a_variant_follows_the_backbone():
    assert transfer.recipe_of("book", "resnet18") == transfer.RECIPES["resnet18"]
    assert transfer.recipe_of("plain", "vgg16") == transfer.VARIANTS["plain"].recipe
    assert transfer.recipe_of("plain", "resnet18").rate == pytest.approx(0.01)


def test_a_training_goes_on_from_a_detector_and_leaves_that_as_it_was():
    infant, profile = infant_of([(10, 20, 50, 80)] * 2, (96, 64)), replace(TINY, detector_steps=2)
    recipe = replace(transfer.RECIPES["resnet18"], imagenet=False)
    first, history = train_detector([infant], [], profile, 0, recipe=recipe)
    assert (history.best_step, history.validation) == (2, [])  # without validation the last weights are kept
    before = [p.detach().clone() for p in first.parameters()]
    second, _ = train_detector([infant], [], profile, 1, recipe=recipe, start=first)
    assert all(map(torch.equal, before, first.parameters()))
    assert not all(map(torch.equal, before, second.parameters()))
    assert second.anchors.sizes == first.anchors.sizes


def test_a_training_that_goes_on_has_the_loss_of_its_own_recipe():
    """What a slice is, three channels here, stays that of the detector: its weights know nothing else."""
    infant, profile = infant_of([(10, 20, 50, 80)] * 2, (96, 64)), replace(TINY, detector_steps=1)
    recipe = Recipe(Sampling(), imagenet=False, neighbours=True, backbone="resnet18")
    first, _ = train_detector([infant], [], profile, 0, recipe=recipe)
    others = Recipe(Sampling(box_weight=0.0), imagenet=False, backbone="resnet18")
    second, history = train_detector([infant], [], profile, 1, recipe=others, start=first)
    assert history.loss[0]["smooth_l1"] == 0
    assert (second.sampling.box_weight, second.neighbours) == (0.0, True)
    assert first.sampling.box_weight == 1.0


def test_the_strongest_edge_is_found_where_it_is():
    picture, mask = disc(400, 360, (200, 180), 80)
    for grown in (-8, 0, 8):  # the label's outline lies so many pixels of 0.1 mm outside the disc
        _, label = disc(400, 360, (200, 180), 80 + grown)
        offsets = outlines.edge_offsets(picture, label)
        assert len(offsets) == 72
        assert np.median(offsets) == pytest.approx(-grown / 10, abs=0.11)
    row = outlines.outline_row(Stills("a", [picture], [mask], GIVEN))
    assert row["within_half"] > 0.95
    assert row["control_within_half"] < 0.5


def test_rays_that_leave_the_picture_are_left_out():
    """Every 5 degrees a ray, 78 pixels long, from 62 pixels beside the border: fifteen within 38 degrees cross it."""
    assert len(outlines.edge_offsets(*disc(400, 360, (200, 62), 58))) == 72 - 15


def test_the_row_of_an_outline_by_hand(monkeypatch):
    (picture, mask), empty = disc(100, 80, (50, 40), 20), np.zeros((1, 100, 80), bool)
    offsets = iter(([-0.75, -0.5], [0.25, 1.5]))
    monkeypatch.setattr(outlines, "edge_offsets", lambda *_: np.array(next(offsets)))
    monkeypatch.setattr(outlines, "control_offsets", lambda *_: np.array([2.0, -0.25, 1.0]))
    row = outlines.outline_row(Stills("a", [picture] * 3, [mask, empty, mask], GIVEN))
    own = {"pictures": 2, "median_mm": -0.125, "away_mm": 0.625, "within_half": 0.5}
    assert row == own | {"control_away_mm": 1, "control_within_half": pytest.approx(1 / 3)}


def folder_of_infants(folder, count=3):
    """Infants as folders of PNG with a boxes.csv; no picture has a ruler."""
    for number in range(count):
        own = folder / f"infant-{number}"
        own.mkdir(parents=True)
        lines = ["file,x0,y0,x1,y1"]
        for index in range(2):
            picture, mask = disc(300, 280, (120, 100 + 40 * index + 10 * number), 60)
            grey = np.random.default_rng(number).integers(60, 200, (300, 280)).astype(np.uint8)
            Image.fromarray(np.where(mask[0], picture.voxels[0], grey)).save(own / f"{index}.png")
            rows, cols = np.nonzero(mask[0])
            lines.append(f"{index}.png,{cols.min()},{rows.min()},{cols.max() + 1},{rows.max() + 1}")
        (own / "boxes.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_folder_of_pictures_is_an_infant(tmp_path):
    folder = folder_of_infants(tmp_path / "hips", 2)
    found, notes = read_infants(folder, {"infant-0": 0.1})
    assert [(infant.name, infant.scale, infant.outlined) for infant in found] == [
        ("infant-0", GIVEN, False),
        ("infant-1", ASSUMED, False),
    ]
    assert notes == ["infant-1: a picture has no ruler; a head of 16 mm gives the scale, and no size is measured"]
    head = found[0].heads[1]
    top, _, left, _ = found[0].pictures[1].meta["image_area"]
    assert head.sum() == 121 * 121
    assert head[0, 120 - top, 140 - left]


def test_bad_folders_and_sizes_are_refused(tmp_path):
    with pytest.raises(SegdetError, match=r"holds no NAME\.dcm beside NAME\.nii\.gz; get them with"):
        read_infants(tmp_path)
    with pytest.raises(SegdetError, match="--pixel-mm names other, but there are infant-0"):
        read_infants(folder_of_infants(tmp_path / "hips", 1), {"other": 0.1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"name,x0\na,1\n", r"boxes\.csv: its first line is name,x0; expected the columns file,x0,y0,x1,y1"),
        (b"file,x0,y0,x1,y1\n0.png,1,2,3\n", r"boxes\.csv, line 2: expected the columns file,.* and whole pixels"),
        (b"file,x0,y0,x1,y1\n0.png,1,2,3,x\n", r"boxes\.csv, line 2: expected the columns file,.* and whole pixels"),
        (b"file,x0,y0,x1,y1\n0.png,1,2,3,4,5\n", r"line 2: expected the columns file,.* and whole pixels"),
        (b"file,x0,y0,x1,y1\n\xff", r"boxes\.csv: cannot be read.*; expected a CSV file of boxes, in UTF-8"),
        (b"file;x0;y0;x1;y1\n", r"its first line is file;x0;y0;x1;y1; expected the columns .*, separated by commas"),
        (b"file,x0,y0,x1,y1\n0.png,1.5,2,3,4\n", r"line 2: expected the columns file,.* and whole pixels"),
        (b"file,x0,y0,x1,y1\n0.PNG,1,2,3,4\n", r"line 2: there is no picture '0\.PNG'; expected one of 0\.png, 1\.png"),
        (b"x0,y0,x1,y1,file\n1,2,3,4\n", r"line 2: there is no picture None; expected one of 0\.png, 1\.png"),
        (
            b"file,x0,y0,x1,y1\n0.png,1,2,30,40\n0.png,5,2,30,40\n",
            r"line 3: a second box for 0\.png, after \[1, 2, 30, 40\]; keep one, for one head",
        ),
        (b"file,x0,y0,x1,y1\n0.png,3,2,3,40\n", r"line 2: .* is no box .* in a picture of 300 x 280 pixels"),
        (b"file,x0,y0,x1,y1\n0.png,1,40,3,2\n", r"line 2: \[1, 40, 3, 2\] is no box"),
        (b"file,x0,y0,x1,y1\n0.png,-60,2,-3,40\n", r"line 2: \[-60, 2, -3, 40\] is no box"),
        (b"file,x0,y0,x1,y1\n0.png,1,2,281,40\n", r"line 2: \[1, 2, 281, 40\] is no box"),
        (b"file,x0,y0,x1,y1\n0.png,1,2,3,301\n", r"line 2: \[1, 2, 3, 301\] is no box"),
    ],
)
def test_a_table_that_holds_no_boxes_is_named(text, message, tmp_path):
    folder = folder_of_infants(tmp_path / "hips", 1)
    (folder / "infant-0/boxes.csv").write_bytes(text)
    with pytest.raises(SegdetError, match=message):
        read_infants(folder, {"infant-0": 0.1})


def test_a_box_on_a_screen_with_two_images_is_that_of_the_screen(tmp_path):
    folder, screen = tmp_path / "infant", np.zeros((300, 600), np.uint8)
    folder.mkdir()
    screen[20:280, 20:280] = screen[20:280, 320:580] = 120
    Image.fromarray(screen).save(folder / "a.png")
    (folder / "boxes.csv").write_text("file,x0,y0,x1,y1\na.png,400,100,450,160\n")
    ((infant,), _) = read_infants(tmp_path, {"infant": 0.1})
    assert [picture.name for picture in infant.pictures] == ["a.png, image 0", "a.png, image 1"]
    first, second = infant.heads
    _, left = (picture.meta["image_area"] for picture in infant.pictures)
    assert not first.any()
    assert slice_boxes(second)[0].tolist() == [[400 - left[2], 100 - left[0], 450 - left[2], 160 - left[0]]]
    (folder / "boxes.csv").write_text("file,x0,y0,x1,y1\na.png,290,100,310,160\n")
    with pytest.raises(SegdetError, match=r"line 2: \[290, 100, 310, 160\] lies beside the image that a\.png shows"):
        read_infants(tmp_path, {"infant": 0.1})


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [("boxes.csv", b"", "boxes.csv"), ("baby/Boxes.csv", b"", "baby/Boxes.csv"), ("h.nii", b"", "h.nii")],
)
def test_what_is_nearly_an_infant_is_named_where_there_is_none(tmp_path, name, content, found):
    (tmp_path / "baby").mkdir()
    (tmp_path / name).write_bytes(content)
    said = rf"name a folder that holds one folder an infant, of pictures and their boxes\.csv \(found {found}\)$"
    with pytest.raises(SegdetError, match=said):
        read_infants(tmp_path)


def test_a_table_of_pandas_and_names_of_macos(tmp_path):
    folder = folder_of_infants(tmp_path / "hips", 1)
    (folder / "infant-0/0.png").rename(folder / "infant-0/hu\u0308fte.png")
    (folder / "infant-0/1.heic").write_bytes(b"")
    (folder / "infant-0/boxes.csv").write_text(
        "file,x0,y0,x1,y1\nh\u00fcfte.png,40.0,60.0,161.0,181.0\n1.png,,,,\n", encoding="utf-8"
    )
    ((infant,), notes) = read_infants(folder, {"infant-0": 0.1})
    assert infant.empty == (0,)
    assert [int(head.sum()) for head in infant.heads] == [0, 121 * 121]
    assert notes == ["infant-0: left out are 1.heic, of a format that is not read; store them as .png"]


def test_the_labels_of_a_map_without_a_head_are_named(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    labels = np.zeros((1020, 780, 1), np.uint8)  # column, row, picture
    labels[300:400, 200:300] = 255
    write_dicom(tmp_path / "a.dcm", screens.beside(), Modality="US", PixelSpacing=[0.0714, 0.0714])
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "a.nii.gz")
    assert read_infants(tmp_path) == (
        [],
        [
            "a: the label of the head is 2; those in a.nii.gz are: 255",
            "a: left out, for none of its 1 pictures has a labelled head",
        ],
    )


def test_an_infant_without_a_head_is_left_out_and_named(tmp_path):
    folder = folder_of_infants(tmp_path / "hips", 2)
    (folder / "infant-1/boxes.csv").write_text("file,x0,y0,x1,y1\n")
    found, notes = read_infants(folder, {"infant-0": 0.1, "infant-1": 0.1})
    assert [infant.name for infant in found] == ["infant-0"]
    assert notes == ["infant-1: left out, for none of its 2 pictures has a labelled head"]


def test_a_line_without_edges_says_that_there_is_no_head(tmp_path):
    folder = folder_of_infants(tmp_path / "hips", 1)
    table = folder / "infant-0/boxes.csv"
    table.write_text("file,x0,y0,x1,y1\n1.png,40,60,161,181\n0.png,,,,\n")
    ((infant,), notes) = read_infants(folder, {"infant-0": 0.1})
    assert (infant.empty, infant.on_grid((0.2, 0.4)).empty, notes) == ((0,), (0,), [])
    assert infant.on_grid((0.2, 0.4)).labelled.tolist() == [False, True]
    assert infant.on_grid((0.2, 0.4)).windowed((184, 96)).empty == ()
    table.write_text("file,x0,y0,x1,y1\n0.png,40,60,161,181\n")
    ((infant,), _) = read_infants(folder, {"infant-0": 0.1})
    assert infant.empty == ()
    for lines, message in (
        ("0.png,,,,\n0.png,4,2,30,40", r"line 3: a second box for 0\.png, after one without edges; keep one"),
        ("0.png,4,2,30,40\n0.png,,,,", r"line 3: a second row for 0\.png, after \[4, 2, 30, 40\]; keep one"),
        ("0.png,4,,30,40", r"line 2: expected .* whole pixels, or nothing for a picture without a head"),
    ):
        table.write_text(f"file,x0,y0,x1,y1\n{lines}\n")
        with pytest.raises(SegdetError, match=message):
            read_infants(folder, {"infant-0": 0.1})


def infant_of_screens(folder, *, box="200,150,400,350", **named):
    """An infant of one folder, its screens by their names, each with the same box."""
    folder.mkdir(parents=True)
    for name, screen in named.items():
        Image.fromarray(screen).save(folder / f"{name}.png")
    lines = ["file,x0,y0,x1,y1", *(f"{name}.png,{box}" for name in named)]
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")


def test_doubts_about_the_scale_are_told(tmp_path):
    """One ruler is sure, one is not, and one picture has none: the others keep their size."""
    bare = screens.beside()
    bare[:, 870:] = 0
    infant_of_screens(tmp_path / "a", p=screens.beside(), q=screens.beside("", pitch=60), r=bare)
    ((infant,), notes) = read_infants(tmp_path)
    assert [picture.spacing[1] for picture in infant.pictures] == pytest.approx([5 / 70, 5 / 60])
    assert infant.scale == "unsure ruler"
    assert notes[0] == (
        "a: left out are r.png, whose pixel size is not known; --pixel-mm a=MM gives it to all of its pictures"
    )
    assert notes[1].startswith("a: the depth ruler's pixel size: 10 ticks, 60.0 pixels apart")
    assert notes[1].endswith("(not sure); pixels as wide as high were assumed (q.png)")
    assert len(notes) == 2
    ((infant,), notes) = read_infants(tmp_path, {"a": 0.0833})
    assert (len(infant.pictures), infant.scale) == (3, GIVEN)
    assert notes == ["a: the pixel size was given, against the depth ruler's 0.07143 mm (p.png)"]


@pytest.mark.parametrize(("stated", "scale"), [([0.0714, 0.0714], "header"), ([1, 1], "ruler")])
def test_where_a_scale_comes_from(tmp_path, stated, scale):
    nibabel = pytest.importorskip("nibabel")
    labels = np.zeros((1020, 780, 1), np.uint8)  # column, row, picture
    labels[300:400, 200:300] = 2
    write_dicom(tmp_path / "a.dcm", screens.beside(), Modality="US", PixelSpacing=stated)
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "a.nii.gz")
    ((infant,), notes) = read_infants(tmp_path)
    assert (infant.scale, notes) == (scale, [])


def test_a_head_that_is_cut_off_is_told_and_one_beside_the_image_refused(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    infant_of_screens(tmp_path / "a", box="100,150,350,350", p=screens.beside())
    ((infant,), notes) = read_infants(tmp_path)
    left = infant.pictures[0].meta["image_area"][2]
    assert notes == [
        f"a: {(left - 100) * 200} of the 50000 pixels of the head lie beside the image and are cut off (p.png)"
    ]
    assert infant.heads[0].sum() == (350 - left) * 200
    labels = np.zeros((1020, 780, 2), np.uint8)
    labels[300:400, 200:300, 0] = labels[20:100, 200:300, 1] = 2
    write_dicom(tmp_path / "b.dcm", np.stack([screens.beside()] * 2), Modality="US", PixelSpacing=[1, 1])
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "b.nii.gz")
    with pytest.raises(SegdetError, match=r"b\.nii\.gz: the label of the head lies beside the image that b\.dcm, pict"):
        read_infants(tmp_path)


def test_what_is_no_infant_is_named(tmp_path):
    folder = folder_of_infants(tmp_path / "hips", 1)
    (folder / "pictures").mkdir()
    for path in ("pictures/a.png", "b.png"):
        Image.fromarray(screens.beside()).save(folder / path)
    write_dicom(folder / "c.dcm", screens.beside())
    (folder / "d.nii.gz").write_bytes(b"")
    (folder / "notes.txt").write_text("text")
    (folder / "empty").mkdir()
    found, notes = read_infants(folder, {"infant-0": 0.1})
    assert [infant.name for infant in found] == ["infant-0"]
    what = "left out; an infant is NAME.dcm beside NAME.nii.gz, or a folder of pictures with a boxes.csv"
    assert notes == [f"{name}: {what}" for name in ("b.png", "c.dcm", "d.nii.gz", "pictures")]
    for name in ("infant-0.dcm", "infant-0.nii.gz"):
        (folder / name).write_bytes(b"")
    with pytest.raises(SegdetError, match=r"hips: infant-0 and infant-0\.dcm are of one name; rename one"):
        read_infants(folder)


def test_a_narrow_picture_without_a_ruler_is_scaled_by_its_head(tmp_path):
    picture = np.random.default_rng(0).integers(60, 200, (120, 110)).astype(np.uint8)  # 7.7 mm of 0.07 mm
    infant_of_screens(tmp_path / "a", box="20,20,84,84", p=picture)
    ((infant,), _) = read_infants(tmp_path)
    assert infant.scale == ASSUMED
    assert infant.pictures[0].spacing[1:] == pytest.approx((16 / 64, 16 / 64))


def test_an_arm_is_done_when_its_run_is_there(tmp_path, small_phantoms, killed_where):
    """Interrupted between the scores and the run of an arm, which comes last; then made whole, once."""
    infants, _ = read_infants(folder_of_infants(tmp_path / "hips"), {f"infant-{i}": 0.12 for i in range(3)})
    plan, study = transfer.TransferPlan(TINY, ("book",), (1,), ("random",)), Study(tmp_path / "study")
    with killed_where(lambda table, _: table == "runs"), pytest.raises(KeyboardInterrupt):
        transfer.run_transfer(plan, [0], infants, study.folder, report=str)
    scores = (study.folder / "simulated.csv").read_text()
    assert study.table("runs") == []
    assert transfer.run_transfer(plan, [0], infants, study.folder, resume=True, report=str)
    assert [(row["part"], row["arm"]) for row in study.table("runs")] == [("simulated", "book"), ("1", "random")]
    assert (study.folder / "simulated.csv").read_text() == scores
    (study.folder / "simulated.csv").unlink()  # as where a run was written before its scores
    assert transfer._left(study, 0, plan) == (["book"], [])


@pytest.mark.usefixtures("a_second_a_step", "small_phantoms")
def test_the_seconds_of_a_run_are_those_of_its_trainings(tmp_path, killed_where):
    """Also after an interruption; on infants, of all folds: two of them, each in a quarter of the steps."""
    infants, _ = read_infants(folder_of_infants(tmp_path / "hips"), {f"infant-{i}": 0.12 for i in range(3)})
    plan, study = transfer.TransferPlan(TINY, ("book",), (1,), ("simulator",)), Study(tmp_path / "study")
    with killed_where(lambda table, _: table == "curve"), pytest.raises(KeyboardInterrupt):
        transfer.run_transfer(plan, [0], infants, study.folder, report=str)
    assert transfer.run_transfer(plan, [0], infants, study.folder, resume=True, report=str)
    seconds = {row["arm"]: row["seconds"] for row in study.table("runs")}
    assert seconds == {"book": TINY.detector_steps, "simulator": 2 * TINY.detector_steps // transfer.SHORTER}


def test_a_study_is_interrupted_and_goes_on(tmp_path, small_phantoms):
    infants, _ = read_infants(folder_of_infants(tmp_path / "hips"), {f"infant-{i}": 0.12 for i in range(3)})
    plan = transfer.TransferPlan(TINY, ("book",), (1,), ("random", "simulator"))
    lines, out = [], tmp_path / "study"
    assert not transfer.run_transfer(plan, [0], infants, out, max_minutes=0, report=lines.append)
    assert "stopped after 0 minutes; go on with --resume" in lines
    assert transfer.run_transfer(plan, [0], infants, out, resume=True, report=lines.append)
    study = Study(out)
    simulated, curve = study.table("simulated"), study.table("curve")
    names = ["infant-0", "infant-1", "infant-2"]
    for part in ("true", "usual"):
        assert sorted(row["case"] for row in simulated if row["part"] == part) == names
    for start in ("random", "simulator"):
        assert sorted(row["case"] for row in curve if row["arm"] == start) == names
    assert {row["part"] for row in curve} == {"1"}
    assert study.manifest["infants"] == dict.fromkeys(names, 2)
    assert study.table("outlines") == []  # these heads are boxes
    assert {row["arm"] for row in study.table("realism")} >= {"contrast", "histogram"}
    greys = study.table("profiles")
    steps = [(part, -0.5 + k / 4) for part in ("through", "beside") for k in range(8)]
    assert [(row["case"], row["part"], row["depth"]) for row in greys] == [(n, *step) for n in names for step in steps]
    at = {(row["case"], row["part"], row["depth"]): row["grey"] for row in greys}
    assert all(0 <= at[name, "through", 0.5] < at[name, "beside", 0.5] <= 100 for name in names)
    assert not (out / "checkpoints").exists()
    assert transfer.run_transfer(plan, [0], infants, out, resume=True, report=lines.append)
    assert study.table("curve") == curve  # nothing was left to do
    with pytest.raises(SegdetError, match="there is no start 'moon'; choose from random, imagenet, simulator"):
        replace(plan, starts=("moon",))


def test_a_study_does_not_go_on_with_other_infants(tmp_path, small_phantoms):
    """Same names and numbers of pictures; grey, box, size of a pixel, its source or what a person says is another."""
    plan, out, known = transfer.TransferPlan(TINY, ("book",), ()), tmp_path / "s", [stills("a"), stills("b", radius=70)]
    assert not transfer.run_transfer(plan, [0], known, out, max_minutes=0, report=str)
    before = (out / "manifest.json").read_bytes()
    first, second = known
    brighter = [replace(picture, voxels=picture.voxels | 1) for picture in first.pictures]
    larger = [Volume.from_spacing(p.voxels, (1, 0.1, 0.11), name=p.name) for p in first.pictures]
    for other in (
        {"pictures": brighter},
        {"heads": [np.roll(head, 1, 2) for head in first.heads]},
        {"pictures": larger},
        {"scale": ASSUMED},
        {"empty": (1,)},
        {"outlined": False},
    ):
        with pytest.raises(SegdetError, match="/s: holds a study with other scans or pictures, or other annotations"):
            transfer.run_transfer(plan, [0], [replace(first, **other), second], out, resume=True)
    with pytest.raises(SegdetError, match=r"holds a study with infants {'a': 2, 'b': 2}, not {'a': 2, 'c': 2}"):
        transfer.run_transfer(plan, [0], [first, replace(second, name="c")], out, resume=True)
    assert (out / "manifest.json").read_bytes() == before
    again = [stills("a"), stills("b", radius=70)]
    assert not transfer.run_transfer(plan, [0], again, out, resume=True, max_minutes=0, report=str)
    facts = json.loads(before)
    del facts["scans"]  # as studies that were made before it was kept: which pictures these had they do not say
    (out / "manifest.json").write_text(json.dumps(facts | {"code": "of before"}))
    with pytest.raises(
        SegdetError, match=r"/s: its rows were made by other code \(commit .*\); check that out to go on"
    ):
        transfer.run_transfer(plan, [0], again, out, resume=True)


@pytest.mark.parametrize("preset", [None, "varied"])
def test_no_scans_are_simulated_to_be_tested(preset, small_phantoms, monkeypatch):
    """Infants are tested; the scans to train on and to validate stay the same, bit for bit."""
    profile = replace(TINY, train=3, validation=2, test=2)
    plan = transfer.TransferPlan(profile, preset=preset)
    whole = prepared_split(Plan(profile, (), preset=preset), 1)
    made, original = [], cases.cached_phantoms
    monkeypatch.setattr(cases, "cached_phantoms", lambda wanted, label: made.extend(wanted) or original(wanted, label))
    one = transfer._Seed(plan.simulated, 1, [stills()], None, None)
    assert [seed for seed, _ in made] == [2000, 2001, 2002, 2003, 2004]
    assert [len(one.train), len(one.validation)] == [3, 2]
    for case, known in zip([*one.train, *one.validation], [*whole[1], *whole[2]], strict=True):
        assert (case.name, case.identity) == (known.name, known.identity)
        assert torch.equal(case.slices, known.slices)
        assert torch.equal(case.boxes, known.boxes)
    assert one.spacing == whole[0].spacing(profile.detector_shape)[1:]


def test_the_forecast_counts_no_scans_to_be_tested(tmp_path, small_phantoms):
    """Two seeds of three scans to train on and two to validate; the fifty to be tested are not made."""
    plan = transfer.TransferPlan(replace(TINY, train=3, validation=2, test=50), ("book",), ())
    infants, said = [stills("a"), stills("b", radius=70)], []
    foretold = {"max_minutes": 0, "report": str, "foretell": lambda *found: said.append(found)}
    assert not transfer.run_transfer(plan, [0, 1], infants, tmp_path / "s", **foretold)
    ((work, done),) = said
    assert (work(plan.profile).phantoms, work(plan.profile).detectors, done) == (10, 2, (0, 0))


def test_real_infants_are_read(real_data):
    folder = real_data / "infant_hip_2d"
    if not folder.exists():
        pytest.skip("needs infant_hip_2d in ../shared/real")
    names = {path.stem: path for path in folder.glob("*.dcm")}
    found = pictures._read("171556", names["171556"], None)
    assert found.scale == pictures.RULER
    infant = found.on_grid((0.22, 0.4))
    assert len(infant.slices) == 14
    assert infant.labelled.all()
    sides = (infant.boxes[:, 0, 2:] - infant.boxes[:, 0, :2]) * torch.tensor([0.4, 0.22])
    assert 18 < sides.mean() < 25  # mm: an older infant
