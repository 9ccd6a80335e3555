"""The network in the page: in Chromium, from a file, it answers what PyTorch answers to the same boxes."""

import json
import shutil
from dataclasses import replace

import live
import nibabel
import numpy as np
import pytest
import torch
from conftest import ROOT
from devtools import Page
from test_small import opened

from segdet import metrics
from segdet.attention import boxes_to_mask
from segdet.cascade import Cascade
from segdet.errors import SegdetError
from segdet.export.exported import SETTINGS
from segdet.io.files import load_volume
from segdet.pipeline import Grids

PAGE = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="segdet.css"><body>{}</body>'
HOLDER = '<div class="segdet-live" role="group"><p>What is to be seen.</p></div>'
NAMES = "volume", "nifti", "surface", "controls", "loading", "pictures", "live"
SCRIPTS = "".join(f'<script defer src="live/{name}.js"></script>' for name in NAMES)
LIVE = 'document.querySelector(".segdet-live").live'
PRESS = '[...document.querySelectorAll(".segdet-live button")].find((b) => b.textContent === "{}").click()'
SHIFT = 8


def write_page(folder):
    """A page with nothing but the network, and the scripts that are committed."""
    shutil.copytree(ROOT / "book/_static/live", folder / "live")
    shutil.copy(ROOT / "book/_static/segdet.css", folder)
    (folder / "page.html").write_text(PAGE.format(HOLDER + SCRIPTS))
    return folder / "page.html"


pytestmark = pytest.mark.usefixtures("in_float32")  # as the network in the page


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The page with what is loaded on the click, or skip."""
    path = write_page(tmp_path_factory.mktemp("live") / "site")
    try:
        live.write_runtime(path.parent / "live")
    except SegdetError as error:
        pytest.skip(str(error))
    live.write_network(path.parent / "live")
    live.write_hips(path.parent / "live")
    return path


@pytest.fixture(scope="module")
def page(loaded, chromium, tmp_path_factory):
    page = Page(chromium, tmp_path_factory.mktemp("user"))
    page.open(loaded)
    page.run('document.querySelector(".segdet-live-start").click()')
    page.wait(f"{LIVE}?.result")
    yield page
    assert page.complaints == []
    assert {address.split(":")[0] for address in page.asked} <= {"file", "blob", "about"}
    page.close()


@pytest.fixture
def fresh(page):
    """The page without a box, on the hip that comes first, at slice 16."""
    page.run(f"(l => {{ l.clear(); l.attended = 'on'; l.slice = 16; return l.showHip(); }})({LIVE})")
    settled(page)
    return page


@pytest.fixture(scope="module")
def hip():
    return next(scan for name, scan in live.hips() if name == "hip-6-16")


def grids():
    return Grids.read(json.loads((live.MODEL / SETTINGS).read_text())["grids"])


@pytest.fixture(scope="module")
def pytorch():
    """The network of the committed file in PyTorch, behind the pipeline of the library."""
    network = opened(live.MODEL / "segmenter.onnx", in_channels=2, out_channels=2, base_channels=8)
    return Cascade(None, network, grids())


def settled(page):
    page.wait(f"!{LIVE}.running && !{LIVE}.waiting")


def answer(page):
    """What the page found: its boxes, probability, mask and numbers."""
    settled(page)
    names = "boxes: l.entries().map(e => e?.box ?? null), p: [...l.enlarged], m: [...l.mask], result: l.result"
    found, shape = page.run(f"(l => ({{{names}}}))({LIVE})"), grids().detector_shape
    return found["boxes"], np.reshape(found["p"], shape), np.reshape(found["m"], shape) > 0, found["result"]


def expected(pytorch, scan, boxes):
    """What the library finds with the same boxes."""
    padded = torch.tensor([[box or [0, 0, 0, 0]] for box in boxes])
    return pytorch.predict(scan, lambda volume: boxes_to_mask(padded, volume.shape).numpy())


def drag(page, start, *places, touch=False):
    """Drag over the slice; places as shares of it."""
    left, top, width, height = page.place(".segdet-live canvas")
    page.drag(*[(left + u * width, top + v * height) for u, v in (start, *places)], touch=touch)
    settled(page)


def set_to(selector, value, event):
    """A script that sets a dial as a person does."""
    dial = f"document.querySelector('.segdet-live {selector}')"
    return f"(d => {{ d.value = {json.dumps(value)}; d.dispatchEvent(new Event('{event}')); }})({dial})"


def box_of(page, z=None):
    return page.run(f"{LIVE}.boxAt({LIVE}.slice)?.box" if z is None else f"{LIVE}.boxAt({z})?.box")


def key(page, *names, modifiers=0):
    page.run('document.querySelector(".segdet-live canvas").focus()')
    for name in names:
        page.key(name, modifiers)
    settled(page)


def test_boxes_of_a_mouse_and_the_answer_of_pytorch(fresh, hip, pytorch):
    for z in (10, 16, 22):
        fresh.run(f"{LIVE}.goTo({z})")
        drag(fresh, (0.45, 0.3), (0.6, 0.5), (0.9, 0.75))
    boxes, probability, mask, result = answer(fresh)
    assert [z for z, box in enumerate(boxes) if box] == list(range(10, 23))
    assert boxes[13] == pytest.approx(np.mean([boxes[10], boxes[16]], 0), abs=1e-6)
    assert boxes[10] == pytest.approx([0.45 * 96, 0.3 * 184, 0.9 * 96, 0.75 * 184], abs=0.5)
    prediction = expected(pytorch, hip, boxes)
    assert np.abs(probability - prediction.probability).max() < 1e-3
    assert prediction.probability.max() > 0.2
    assert (mask == (probability.astype(np.float32) >= 0.5)).all()
    assert result["iou"] == pytest.approx(metrics.iou(mask, hip.mask), abs=1e-12)
    assert result["dice"] == pytest.approx(metrics.dice(mask, hip.mask), abs=1e-12)
    voxel = np.prod(hip.spacing) / 1000
    assert result["millilitres"] == pytest.approx(mask.sum() * voxel)
    assert result["annotated"] == pytest.approx(hip.mask.sum() * voxel)
    text = fresh.run('document.querySelector(".segdet-live output").textContent')
    assert text.startswith("3 slices painted; boxes reach over 13 of 32 slices. IoU ")


def test_without_attention_and_with_it_in_the_wrong_place(fresh, hip, pytorch):
    fresh.run(PRESS.format("The detector's boxes"))
    boxes, on, *_ = answer(fresh)
    assert sum(box is not None for box in boxes) >= 10
    for value, change in (
        ("off", lambda mask: 0 * mask),
        ("misplaced", lambda mask: np.roll(mask, (10, 15, 8), (0, 1, 2))),
    ):
        fresh.run(set_to("label:nth-child(3) select", value, "change"))
        _, found, *_ = answer(fresh)
        assert np.abs(found - on).max() > 0.1
        grids = pytorch.grids
        painted = grids.attention_to_segmenter(
            boxes_to_mask([np.reshape(b or [], (-1, 4)) for b in boxes], hip.shape).numpy()
        )
        seen = np.reshape(fresh.run(f"[...{LIVE}.attention]"), grids.segmenter_shape)
        assert (seen == change(painted.astype(float))).all()
        inside = pytorch.segment(grids.inputs(hip)[3], seen.astype(np.float32), (slice(None),) * 3)
        assert np.abs(np.reshape(fresh.run(f"[...{LIVE}.probability]"), inside.shape) - inside).max() < 1e-3


def test_keys_paint_move_resize_and_remove(fresh):
    key(fresh, "Enter")
    assert box_of(fresh) == pytest.approx([32, 184 / 3, 64, 368 / 3])
    key(fresh, "ArrowRight", "ArrowRight", "ArrowUp")
    assert box_of(fresh) == pytest.approx([34, 184 / 3 - 2, 66, 368 / 3 - 2])
    key(fresh, "ArrowRight", "ArrowDown", modifiers=SHIFT)
    assert box_of(fresh) == pytest.approx([34, 184 / 3 - 2, 67, 368 / 3])
    key(fresh, *["PageDown"] * 4, "Enter", *["ArrowLeft"] * 50)
    assert fresh.run(f"{LIVE}.slice") == 20
    assert box_of(fresh) == pytest.approx([0, 184 / 3 - 2, 33, 368 / 3])  # the same size, at the edge
    assert box_of(fresh, 18) == pytest.approx([17, 184 / 3 - 2, 50, 368 / 3])
    key(fresh, "PageUp", "ArrowDown")  # what lay between two painted slices is painted then
    assert fresh.run(f"[...{LIVE}.painted.keys()].sort()") == [16, 19, 20]
    key(fresh, "Delete", "PageDown", "Backspace")
    assert fresh.run(f"[...{LIVE}.painted.keys()]") == [16]
    assert answer(fresh)[0][18] is None


def test_boxes_of_the_detector_are_those_of_the_hip_and_can_be_mended(fresh):
    fresh.run(PRESS.format("The detector's boxes"))
    settled(fresh)
    found = json.loads(live.DETECTED.read_text())
    boxes, *_ = answer(fresh)
    assert boxes == found["hip-6-16"]
    first = next(z for z, box in enumerate(boxes) if box)
    fresh.run(f"{LIVE}.goTo({first})")
    key(fresh, "Delete", "PageDown", "ArrowDown")
    boxes[first], boxes[first + 1][1], boxes[first + 1][3] = None, boxes[first + 1][1] + 2, boxes[first + 1][3] + 2
    assert np.concatenate([box for box in answer(fresh)[0] if box]) == pytest.approx(
        np.concatenate(list(filter(None, boxes)))
    )
    text = fresh.run('document.querySelector(".segdet-live output").textContent')
    assert text.startswith(f"1 slice painted, {sum(box is not None for box in boxes) - 1} with a box of the detector; ")
    fresh.run(PRESS.format("Remove all boxes"))
    assert not any(answer(fresh)[0])


def test_a_finger_paints_moves_and_resizes(fresh):
    fresh.tell("Emulation.setTouchEmulationEnabled", enabled=True)
    drag(fresh, (0.2, 0.2), (0.3, 0.3), (0.5, 0.6), touch=True)
    assert box_of(fresh) == pytest.approx([19.2, 36.8, 48, 110.4], abs=0.6)
    drag(fresh, (0.35, 0.4), (0.4, 0.4), (0.55, 0.3), touch=True)
    assert box_of(fresh) == pytest.approx([38.4, 18.4, 67.2, 92], abs=0.8)
    drag(fresh, (0.7, 0.5), (0.8, 0.6), (1.4, 0.7), touch=True)  # the corner, out of the picture
    assert box_of(fresh) == pytest.approx([38.4, 18.4, 96, 128.8], abs=0.8)
    fresh.tell("Emulation.setTouchEmulationEnabled", enabled=False)


def test_a_click_changes_nothing(fresh):
    drag(fresh, (0.5, 0.5), (0.5, 0.5))
    assert box_of(fresh) is None


def test_the_threshold(fresh):
    fresh.run(PRESS.format("The detector's boxes"))
    _, probability, *_ = answer(fresh)
    fresh.run(set_to("[type=range]", 0.3, "input"))
    assert (answer(fresh)[2] == (probability.astype(np.float32) >= np.float32(0.3))).all()
    fresh.run(set_to("[type=range]", 0.5, "input"))


@pytest.mark.parametrize("name", ["hip-3-0", "hip-9-16"])
def test_the_dials_choose_the_hip(fresh, name):
    _, contrast, count = name.split("-")
    fresh.run(f"(l => {{ l.contrast.value = {contrast}; l.lookAlikes.value = {count}; return l.showHip(); }})({LIVE})")
    settled(fresh)
    scan = dict(live.hips())[name]
    shown = np.reshape(fresh.run(f"[...{LIVE}.scan.voxels]"), scan.shape)
    assert (shown == scan.voxels).all()
    assert scan.meta["contrast_db"] == int(contrast)
    fresh.run(f"(l => {{ l.contrast.value = 6; l.lookAlikes.value = 16; }})({LIVE})")


# --- a file of the reader


def write_scan(path, order="<", dtype=np.int16, codes=(1, 1), axes=((0, -1, 0), (0, 0, -1), (1, 0, 0)), slope=None):
    """A NIfTI of noise and a ball, its axes anywhere."""
    rng = np.random.default_rng(0)
    voxels = (300 + 20 * rng.standard_normal((60, 90, 40))).astype(dtype)
    voxels[20:40, 30:60, 10:25] -= 100
    affine = np.eye(4)
    affine[:3, :3] = np.array(axes, float) * (0.6, 0.4, 0.8)
    header = nibabel.Nifti1Header(endianness=order)
    image = nibabel.Nifti1Image(voxels, affine, header)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    if slope:
        image.header.set_slope_inter(*slope)
    image.to_filename(path)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.nii", {}),
        ("b.nii.gz", {"dtype": np.float32, "axes": ((1, 0, 0), (0, 1, 0), (0, 0, 1))}),
        ("c.nii", {"order": ">", "dtype": np.uint16, "codes": (0, 1)}),
        ("d.nii", {"codes": (0, 1), "axes": ((0, 0, 1), (-1, 0, 0), (0, 1, 0)), "slope": (2.0, -7.0)}),
        ("e.nii", {"codes": (0, 0), "dtype": np.float64}),
        ("f.nii", {"axes": ((0.8, 0.6, 0), (-0.6, 0.8, 0), (0, 0, 1))}),
    ],
)
def test_an_own_scan_is_seen_as_the_library_sees_it(fresh, tmp_path, pytorch, name, options):
    path = write_scan(tmp_path / name, **options)
    fresh.choose(".segdet-live [type=file]", path)
    fresh.wait(f"{LIVE}.truth === null && !{LIVE}.running")
    volume = load_volume(path)
    fine, _, slices, image = pytorch.grids.inputs(volume)
    seen = np.reshape(fresh.run(f"[...{LIVE}.image]"), image.shape)
    assert seen == pytest.approx(image, abs=2e-4)
    shown = np.reshape(fresh.run(f"[...{LIVE}.picture]"), slices.shape)
    assert np.corrcoef(shown.ravel(), fine.voxels.ravel())[0, 1] > 0.9
    text = fresh.run('document.querySelector(".segdet-live output").textContent')
    assert "no annotation to compare with" in text
    assert "IoU" not in text


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def no_numbers(path):
    write_scan(path, dtype=np.float32)
    content = bytearray(path.read_bytes())
    content[400:404] = np.float32(np.nan).tobytes()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "bad.nii: is cut off; copy it again"),
        (no_numbers, "bad.nii: holds voxels that are no numbers; replace NaN and infinity first"),
        (
            lambda path: path.write_bytes(b"DICM" * 200),
            "bad.nii: not a NIfTI-1 file; convert it, or use segdet predict",
        ),
        (lambda path: path.write_bytes(b""), "bad.nii: not a NIfTI-1 file; convert it, or use segdet predict"),
        (lambda path: path.write_bytes(b"\x1f\x8b123"), "bad.nii: its gzip stream is damaged"),
        (
            lambda path: nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), np.uint8), np.eye(4)).to_filename(path),
            "bad.nii: holds 4 x 5 x 6 x 2 voxels; expected one 3D scan",
        ),
    ],
)
def test_a_bad_file_gets_one_line(fresh, tmp_path, damage, message):
    path = write_scan(tmp_path / "bad.nii")
    damage(path)
    fresh.choose(".segdet-live [type=file]", path)
    fresh.wait(f'document.querySelector(".segdet-live output").textContent.startsWith({json.dumps(message)})')
    assert fresh.run(f"{LIVE}.truth !== null")  # the hip is still there


# --- what is loaded, and where nothing can be


def test_what_is_loaded_is_as_large_as_the_button_says(loaded):
    sizes = {path.stem: path.stat().st_size for path in (loaded.parent / "live").glob("*.js")}
    committed = sum(path.stat().st_size for path in (ROOT / "book/_static/live").glob("*.js"))
    assert committed < 60_000
    assert 6.5e6 < sizes["runtime"] + sizes["network"] + sizes["hip-6-16"] < 7.5e6
    assert all(size < 1e6 for name, size in sizes.items() if name.startswith("hip"))


def test_without_npm_the_page_says_so(chromium, tmp_path):
    path = write_page(tmp_path / "site")
    page = Page(chromium, tmp_path / "user")
    page.open(path)
    page.run('document.querySelector(".segdet-live-start").click()')
    text = page.wait('document.querySelector(".segdet-live > p:last-child")?.textContent')
    assert text == "runtime.js is not there: this copy of the book was built without npm"
    page.close()


def test_without_npm_the_build_goes_on(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SEGDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    live.write_all(tmp_path / "live")
    assert capsys.readouterr().out == (
        "notice: npm gave no onnxruntime-web 1.30.0 (FileNotFoundError); "
        "the pages are built without the network that runs in them\n"
    )
    assert not (tmp_path / "live").exists()


def test_another_package_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGDET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "npm").write_text('#!/bin/sh\necho other > "$6/onnxruntime-web-1.30.0.tgz"\n')
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SegdetError, match="not the one whose checksum is known"):
        live.write_runtime(tmp_path / "live")


def test_the_detector_s_boxes_are_those_of_these_hips(hip):
    boxes = json.loads(live.DETECTED.read_text())
    assert boxes.keys() == {name for name, _ in live.hips()}
    found = np.array([box is not None for box in boxes["hip-9-16"]])
    assert (found & hip.mask.any((1, 2))).sum() >= 10
    assert replace(hip).shape == live.SHAPE
