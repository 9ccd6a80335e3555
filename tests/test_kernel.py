"""A person at a notebook in JupyterLab: explorers are moved, boxes painted, and the mask is that of the library."""

import base64
import json
import math
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT
from devtools import Page

from segdet.anchors import AnchorGrid
from segdet.attention import boxes_to_mask
from segdet.boxes import box_iou
from segdet.export.load import load_cascade
from segdet.metrics import dice
from segdet.phantom.make import make_phantom

for needed in ("jupyterlab", "onnxruntime"):
    pytest.importorskip(needed, reason=f"{needed} is not installed; run: make setup")

SHAPE = (16, 92, 48)
BOX = [14.0, 24, 34, 60]
ANCHOR = [10.0, 20, 30, 60]
CELLS = {
    "slices": f"""import base64, json
import numpy as np
from segdet import make_phantom
from segdet.export.load import load_cascade
from segdet.figures import explorers, plots
from segdet.figures.painter import BoxPainter
assert explorers.live()
plots.use_style()
hip = make_phantom(3, {SHAPE})
plane, spacing = hip.voxels[8], hip.spacing[1:]
slices = explorers.slice_explorer(hip)
slices""",
    "slice 11": "slices.f(index=11, outlines=False)",
    "anchors": f"explorers.anchor_explorer(plane, spacing, {BOX})",
    "loss": f"explorers.loss_explorer(plane, spacing, {BOX}, {ANCHOR})",
    "painter": "painter = BoxPainter(hip, load_cascade('hip-small'))\npainter",
    "drawn": "print(json.dumps([painter.drawn, painter.prediction is None]))",
    "answer": """mask = base64.b64encode(np.packbits(painter.prediction.mask)).decode()
print(json.dumps([painter.boxes[:, 0].tolist(), mask]))""",
}
QUIET = {"fetchNews": "false", "checkForUpdates": False}  # JupyterLab asks whether it may look for news elsewhere
SHIFT = 8


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The notebook in a Jupyter server of its own, which knows no settings of this machine's user."""
    folder, notebooks = tmp_path_factory.mktemp("jupyter"), tmp_path_factory.mktemp("notebooks")
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), notebooks / "a.ipynb")
    settings = folder / "JUPYTERLAB_SETTINGS_DIR/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(QUIET))
    homes = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")
    token = secrets.token_hex(16)
    env = os.environ | {home: str(folder / home) for home in homes} | {"PYTHONPATH": str(ROOT), "JUPYTER_TOKEN": token}
    env.pop("SEGDET_STATIC", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={notebooks}"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server, folder / "log")
        yield f"http://127.0.0.1:{port}/lab/tree/a.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(60)


def wait_for(address, server, log):
    end = time.monotonic() + 180
    while True:
        try:
            return urllib.request.urlopen(address).close()
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)


class Notebook(Page):
    """A notebook in JupyterLab, its cells by the names in `CELLS`."""

    @staticmethod
    def of(name, script):
        """An expression of JavaScript, with `c` the cell."""
        return f"(c => {script})(document.querySelectorAll('.jp-Notebook .jp-Cell')[{list(CELLS).index(name)}])"

    def execute(self, name):
        """Execute a cell as a person does, and wait until it is done and has said something."""
        prompt = self.of(name, "c.querySelector('.jp-InputPrompt').textContent")
        before = self.run(prompt)
        self.run(self.of(name, "c.querySelector('.cm-content').focus()"))
        self.key("Enter", SHIFT)
        self.wait(f"(p => p !== {json.dumps(before)} && /\\[\\d+\\]/.test(p))({prompt})", 180)
        self.wait(self.of(name, "!!c.querySelector('.jp-OutputArea-output')"))
        wrong = "[...c.querySelectorAll('[data-mime-type*=error], [data-mime-type*=stderr]')].map(e => e.textContent)"
        assert self.run(self.of(name, wrong)) == []

    def text(self, name):
        return self.run(self.of(name, "[...c.querySelectorAll('.jp-RenderedText')].map(e => e.textContent).join('')"))

    def picture_of(self, name):
        return self.of(name, "c.querySelector('.jp-RenderedImage img')?.src")

    def slide(self, name, number, key, times, shown):
        """Press a key on a slider of a cell; then it must show this."""
        self.run(self.of(name, f"c.querySelectorAll('.noUi-handle')[{number}].focus()"))
        for _ in range(times):
            self.key(key)
        assert self.run(self.of(name, f"c.querySelectorAll('.widget-readout')[{number}].textContent")) == shown

    def press(self, text):
        self.run(f"[...document.querySelectorAll('.jupyter-button')].find(b => b.textContent === '{text}').click()")

    def stroke(self, *places, touch=False):
        """Drag over the slice, places as shares of it."""
        left, top, width, height = self.place(".segdet-painter")
        self.drag(*[(left + u * width, top + v * height) for u, v in places], touch=touch)

    def keys(self, *names, modifiers=0):
        """Press keys on the slice."""
        self.run("document.querySelector('.segdet-painter').focus()")
        for name in names:
            self.key(name, modifiers)

    def at_slice(self, number):
        """Wait until the painter shows this slice."""
        self.wait(f"document.querySelector('.segdet-painter').dataset.slice === '{number}'")

    def drawn(self):
        """What was painted, {slice: box}, and whether there is no prediction."""
        self.execute("drawn")
        boxes, none = json.loads(self.text("drawn"))
        return {int(number): box for number, box in boxes.items()}, none

    def paints(self, expected, atol):
        """Wait until the kernel has these boxes."""
        end = time.monotonic() + 60
        while True:
            found, _ = self.drawn()
            if found.keys() == expected.keys() and all(np.allclose(found[n], expected[n], 0, atol) for n in found):
                return
            assert time.monotonic() < end, f"{found} instead of {expected}"


@pytest.fixture(scope="module")
def page(chromium, address, tmp_path_factory):
    page = Notebook(chromium, tmp_path_factory.mktemp("user"))
    page.tell("Page.navigate", url=address)
    page.wait(
        "document.querySelector('.jp-StatusBar-Widget')?.textContent.includes('Python 3 (ipykernel) | Idle')", 180
    )
    page.execute("slices")
    yield page
    server = address.split("/lab/")[0]
    assert [each for each in page.asked if not each.startswith((server, "data:", "blob:", "about:"))] == []
    assert [each for each in page.complaints if each.startswith("error")] == []
    page.close()


def test_slices(page):
    page.wait(f"!!{page.picture_of('slices')}")
    before = page.run(page.picture_of("slices"))
    page.slide("slices", 0, "ArrowRight", 3, "11")
    page.run(page.of("slices", "c.querySelector('input[type=checkbox]').click()"))
    page.execute("slice 11")
    expected = page.run(page.picture_of("slice 11"))
    assert expected != before
    page.wait(f"{page.picture_of('slices')} === {json.dumps(expected)}")


def test_anchors(page):
    page.execute("anchors")
    page.wait(f"!!{page.picture_of('anchors')}")
    before = page.run(page.picture_of("anchors"))
    for number, times, shown in ((0, 10, "28.00"), (2, 2, "8"), (3, 4, "0.50")):
        page.slide("anchors", number, "ArrowLeft", times, shown)
    anchors = AnchorGrid([28], [1.8], 8)((92 // 8, 48 // 8))
    overlap = box_iou(anchors, torch.tensor([BOX]))
    said = f"{(overlap > 0.5).sum()} of {len(anchors)} above 0.50, best {overlap.max():.2f}\n"
    page.wait(page.of("anchors", f"c.querySelector('.jp-RenderedText')?.textContent === {json.dumps(said)}"))
    page.wait(f"(p => p && p !== {json.dumps(before)})({page.picture_of('anchors')})")


def test_loss(page):
    """The anchor is 20 x 40 pixels; its targets are tx = 4 / 20, ty = 2 / 40, tw = 0, th = log(36 / 40)."""
    page.execute("loss")
    page.slide("loss", 0, "ArrowRight", 4, "1.00")
    page.slide("loss", 1, "ArrowRight", 4, "0.20")
    object_, box = math.log(1 + math.exp(-1)), (0.05**2 + math.log(0.9) ** 2) / 2
    says = page.of("loss", "c.querySelector('.jp-RenderedText')?.textContent")
    said = f"log loss {object_:.3f}, smooth L1 {box:.3f}, IoU 0.90\n"  # 20 x 36 of 20 x 40 pixels are shared
    page.wait(f"{says} === {json.dumps(said + 'pulled by s +0.27, tx +0.00, ty +0.05, tw +0.00, th -0.11' + chr(10))}")
    page.run(page.of("loss", "c.querySelector('input[type=checkbox]').click()"))
    said = f"log loss {1 + object_:.3f}, smooth L1 0.000, IoU 0.90\n"
    page.wait(f"{says} === {json.dumps(said + 'pulled by s -0.73, tx +0.00, ty +0.00, tw +0.00, th +0.00' + chr(10))}")


def test_boxes_are_painted_and_changed(page):
    """One test, for the second part begins where the first one ends."""
    boxes_of_a_mouse_and_the_mask_of_the_library(page)
    boxes_are_moved_resized_and_removed(page)


def boxes_of_a_mouse_and_the_mask_of_the_library(page):
    page.execute("painter")
    page.wait("document.querySelector('.segdet-painter img')?.complete")
    page.stroke((0.2, 0.15), (0.3, 0.4), (0.7, 0.65))
    page.keys(*["PageDown"] * 4)
    page.at_slice(12)
    page.stroke((0.4, 0.6), (0.6, 0.5), (1.2, 0.2))  # let go beyond the border
    said = page.of("painter", "c.querySelector('.widget-html').textContent")
    page.wait(f"{said} === 'slices painted: 2; slices with a box: 5 of 16'")
    page.press("Segment")
    page.wait(f"{said}.includes('Dice')")
    page.execute("answer")
    boxes, mask = json.loads(page.text("answer"))
    first, last = np.array([0.2, 0.15, 0.7, 0.65]), np.array([0.4, 0.2, 1, 0.6])
    expected = np.zeros((16, 4))
    expected[8:13] = np.linspace(first, last, 5) * (48, 92, 48, 92)
    np.testing.assert_allclose(boxes, expected, atol=0.2)  # a pixel of the screen
    hip, boxes = make_phantom(3, SHAPE), torch.tensor(boxes)[:, None]
    prediction = load_cascade("hip-small").predict(hip, lambda volume: boxes_to_mask(boxes, volume.shape).numpy())
    mask = np.unpackbits(np.frombuffer(base64.b64decode(mask), np.uint8)).reshape(SHAPE) > 0
    assert mask.any()
    assert (mask == prediction.mask).all()
    voxel = np.prod(hip.spacing) / 1000
    assert page.run(said) == (
        f"slices painted: 2; slices with a box: 5 of 16; mask {mask.sum() * voxel:.2f} ml, "
        f"annotated {hip.mask.sum() * voxel:.2f} ml, Dice {dice(mask, hip.mask):.3f}"
    )


def boxes_are_moved_resized_and_removed(page):
    """With keys, mouse and finger; what lies between two painted slices is painted then, and the mask goes."""
    before, none = page.drawn()
    assert (sorted(before), none) == ([8, 12], False)
    cells = page.run("document.querySelectorAll('.jp-Cell').length")
    between = (np.array(before[8]) + before[12]) / 2
    page.keys("PageUp", "PageUp")
    page.at_slice(10)
    assert page.run("document.querySelector('.segdet-painter div').className") == "between"
    page.keys("ArrowRight")
    page.paints(before | {10: np.add(between, (1, 0, 1, 0))}, 1e-4)
    assert page.drawn()[1]
    page.keys("ArrowLeft")
    page.keys("ArrowDown", "ArrowDown", modifiers=SHIFT)
    page.paints(before | {10: np.add(between, (0, 0, 0, 2))}, 1e-4)
    page.keys("Delete")
    page.paints(before, 1e-6)
    page.keys("Enter")
    page.paints(before | {10: between}, 1e-4)
    page.press("Remove")
    page.paints(before, 1e-6)
    page.keys("PageUp", "PageUp")
    page.at_slice(8)
    page.stroke((0.45, 0.4), (0.5, 0.4), (0.55, 0.35))  # inside
    page.stroke((0.8, 0.6), (0.85, 0.6), (0.9, 0.7))  # a corner
    page.stroke((0.3, 0.4), (0.25, 0.4), (0.1, 0.45))  # a side
    page.stroke((0.95, 0.9), (0.95, 0.9))  # nothing but a click
    page.paints(before | {8: np.multiply((0.1, 0.1, 0.9, 0.7), (48, 92, 48, 92))}, 0.3)
    page.tell("Emulation.setTouchEmulationEnabled", enabled=True)
    page.stroke((0.2, 0.95), (0.3, 0.9), (0.4, 0.75), touch=True)
    page.tell("Emulation.setTouchEmulationEnabled", enabled=False)
    page.paints(before | {8: np.multiply((0.2, 0.75, 0.4, 0.95), (48, 92, 48, 92))}, 0.3)
    assert page.run("document.querySelectorAll('.jp-Cell').length") == cells  # JupyterLab took none of the keys
