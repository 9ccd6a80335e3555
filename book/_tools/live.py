"""The network in the page: what book/_static/live loads on a click (chapter 09).

Nothing of it is committed but the network and the boxes of the detector. The runtime comes from npm when the book is
built, the hips are simulated. Each file is a script, for a page that is opened from a disk may fetch nothing else.

``python book/_tools/live.py`` lets the detector of the chapters look at these hips again, and writes its boxes.
"""

import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path

import npm
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from segdet.errors import SegdetError
from segdet.export.exported import SETTINGS
from segdet.export.load import SHIPPED
from segdet.figures import plots
from segdet.phantom.cache import cached_phantom
from segdet.phantom.parameters import HipParameters
from segdet.runtime.atomic import write_text

SOURCES = Path(__file__).resolve().parent.parent / "_static/live"
DETECTED = SOURCES / "detected.json"
MODEL = SHIPPED / "hip-small"

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
WANTED = {"module": "dist/ort.wasm.bundle.min.mjs", "wasm": "dist/ort-wasm-simd-threaded.wasm"}

SEED = 4242  # the hip of chapter 09, which no network was trained on
CONTRASTS, LOOK_ALIKES = (3, 6, 9), (0, 16)  # dB; dark pockets and vessels in the muscle
POSTER = "hip-6-16"  # as the hips of the chapters are
SHAPE = (32, 184, 96)  # as the detector of the laptop profile sees it


def hips():
    """The names of the hips with the Volume of each, uint8 voxels on the grid of the pictures."""
    for contrast in CONTRASTS:
        for count in LOOK_ALIKES:
            parameters = replace(HipParameters(), look_alikes=(count, count))
            scan = cached_phantom(SEED, contrast_db=float(contrast), parameters=parameters)
            spacing = [n * s / m for n, s, m in zip(scan.shape, scan.spacing, SHAPE, strict=True)]
            small = scan.resample(SHAPE, spacing)
            yield f"hip-{contrast}-{count}", replace(small, voxels=np.rint(small.voxels).astype(np.uint8))


def packed(content):
    """Bytes as text: gzip, then base64."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def write_script(path, facts):
    """Facts as a script that leaves them in segdetLive.data under the name of its file."""
    write_text(path, f"segdetLive.data[{json.dumps(path.stem)}] = {json.dumps(facts, separators=(',', ':'))};\n")


def write_hips(folder):
    """One script a hip: its voxels and its annotation, and the boxes that the detector found."""
    boxes = json.loads(DETECTED.read_text(encoding="utf-8"))
    for name, scan in hips():
        facts = {"voxels": packed(scan.voxels.tobytes()), "mask": packed(scan.mask.astype(np.uint8).tobytes())}
        write_script(folder / f"{name}.js", facts | {"shape": SHAPE, "spacing": scan.spacing, "detected": boxes[name]})


def write_network(folder):
    """The network with its grids."""
    grids = json.loads((MODEL / SETTINGS).read_text(encoding="utf-8"))["grids"]
    model = packed((MODEL / "segmenter.onnx").read_bytes())
    write_script(folder / "network.js", {"model": model, "grids": grids})


def write_runtime(folder):
    """ONNX Runtime from npm, or from the cache, as a script.

    Raises
    ------
    SegdetError
        npm is missing, or does not give the package.
    """
    files = {name: npm.package_file(PACKAGE, VERSION, SHA512, path) for name, path in WANTED.items()}
    facts = {"module": files["module"].decode(), "wasm": packed(files["wasm"]), "version": VERSION}
    write_script(folder / "runtime.js", facts)


def write_poster(path):
    """A hip that moves before anything is loaded: twice through its slices, with annotation and detected boxes, as WebP."""
    name, scan = next((name, scan) for name, scan in hips() if name == POSTER)
    boxes = json.loads(DETECTED.read_text(encoding="utf-8"))[name]
    _, dy, dx = scan.spacing
    wide, high = 3 * SHAPE[2], round(3 * SHAPE[2] * SHAPE[1] * dy / (SHAPE[2] * dx))
    pictures = []
    for plane, mask, box in zip(scan.voxels, scan.mask, boxes, strict=True):
        picture = Image.fromarray(plane).resize((wide, high), Image.Resampling.BICUBIC).convert("RGB")
        inside = np.asarray(Image.fromarray(mask).resize((wide, high)))
        edge = Image.fromarray(inside & ~ndimage.binary_erosion(inside, iterations=2))
        picture.paste(plots.ANNOTATION, mask=edge)
        draw = ImageDraw.Draw(picture)
        if box:
            draw.rectangle([end * (3, high / SHAPE[1])[i % 2] for i, end in enumerate(box)], outline=plots.BOX, width=2)
        draw.line([10, high - 10, 10 + 3 * 10 / dx, high - 10], fill="white", width=3)
        draw.text((10, high - 25), "10 mm", fill="white")
        pictures.append(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=75, loop=2, quality=55)  # below 5 s


def write_all(folder):
    """Everything a page loads on the click; without the runtime the pages say so, and so does one line here."""
    try:
        write_runtime(folder)
    except SegdetError as error:
        print(f"notice: {error}; the pages are built without the network that runs in them", flush=True)
        return
    write_network(folder)
    write_hips(folder)


def detect_again():
    """Write the boxes of the chapters' detector on every hip: for each slice its best box, or null."""
    from segdet.experiments.cases import prepare
    from segdet.experiments.chapters import chapter_run

    run, found = chapter_run("quick"), {}
    for name, scan in hips():
        boxes = run.detect(prepare(scan, replace(run.grids, detector_shape=SHAPE)))[:, 0].tolist()
        found[name] = [[round(edge, 1) for edge in box] if box[2] > box[0] else None for box in boxes]
    lines = [f" {json.dumps(name)}: {json.dumps(boxes)}" for name, boxes in found.items()]
    write_text(DETECTED, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    detect_again()
