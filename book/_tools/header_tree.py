"""The header of a small file as a tree to open, whose geometry a reader changes: book/_static/header.js says what follows."""

import html
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from docutils import nodes
from docutils.parsers.rst import Directive

from segdet.io.dicom.write import write_volume
from segdet.volume import Volume

HEADER_CLASS = "segdet-header"
GROUPS = {
    0x0008: "what the file is, and when",
    0x0010: "the patient, who is empty",
    0x0018: "the device and the recording",
    0x0020: "study, series, frames of reference",
    0x0028: "how the pixels are stored",
    0x0040: "what led to the recording",
    0x0054: "the view",
    0x2050: "how they are shown",
    0x5200: "functional groups: where the voxels are",
    0x7FE0: "the voxels",
}
FIELDS = {
    "PixelSpacing": ("between rows", "between columns"),
    "SpacingBetweenSlices": ("between slices",),
    "ImageOrientationPatient": ("row x", "row y", "row z", "column x", "column y", "column z"),
    "ImagePositionPatient": ("x", "y", "z"),
}
WHAT_IT_DOES = {
    "PixelSpacing": "mm from a row to the next, then from a column to the next: it stretches a frame",
    "SpacingBetweenSlices": "moves nothing here: where frames have positions, these count",
    "ImageOrientationPatient": "where a row runs (the column index grows), then a column: it turns a frame",
    "ImagePositionPatient": "mm, the middle of the first pixel: it moves this frame",
    "ImageOrientationVolume": "in the frame of reference of the volume; read where the patient's is missing",
    "ImagePositionVolume": "in the frame of reference of the volume; read where the patient's is missing",
}


class HeaderTree(Directive):
    """``segdet-header``: its content says what is to be seen to who cannot see it."""

    has_content = True

    def run(self):
        """The header of a file that the library has just written, as HTML."""
        return [nodes.raw("", header_html(small_header(), " ".join(self.content)), format="html")]


def small_volume():
    """Three slices of 8 x 6 voxels, tilted by the angle whose cosine is 0.8."""
    rotation = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ [[0, 0, 2], [0, 1.5, 0], [4, 0, 0]]
    affine[:3, 3] = (-6, 2, -3)
    return Volume(np.arange(144, dtype=np.uint8).reshape(3, 8, 6), affine, name="small")


def small_header():
    """What `segdet.io.dicom.write` has written of it, as pydicom reads it."""
    with tempfile.TemporaryDirectory() as folder:
        write_volume(small_volume(), path := Path(folder) / "small.dcm")
        return pydicom.dcmread(path)


def header_html(ds, alt):
    """A header as a tree with number fields for what places the voxels; the sliders count to its last voxel."""
    groups = {}
    for element in ds:
        groups.setdefault(element.tag.group, []).append(element)
    tree = "".join(folded(f"({group:04X}) {GROUPS[group]}", items_html(elements)) for group, elements in groups.items())
    last = [int(count) - 1 for count in (ds.NumberOfFrames, ds.Rows, ds.Columns)]
    return (
        f'<div class="{HEADER_CLASS}" role="group" aria-label="{html.escape(alt, quote=True)}" data-last="{last}">'
        f'<div class="segdet-header-tree">{tree}</div><noscript>{html.escape(alt)} (It moves with JavaScript.)</noscript></div>'
    )


def items_html(elements, frame=0):
    """Elements as a list; a sequence opens, and the items of the per-frame groups are the frames."""
    return "<ul>" + "".join(f"<li>{element_html(element, frame)}</li>" for element in elements) + "</ul>"


def element_html(element, frame):
    """One element: tag, name and value, fields where it places voxels, and what it does."""
    name = f"<code>({element.tag.group:04X},{element.tag.element:04X})</code> {element.keyword}"
    if element.VR == "SQ":
        frames = element.keyword == "PerFrameFunctionalGroupsSequence"
        parts = [items_html(item, index if frames else frame) for index, item in enumerate(element.value)]
        if frames:
            parts = [folded(f"frame {index}", part) for index, part in enumerate(parts, 1)]
        return folded(name, "".join(parts))
    about = f"<small>{WHAT_IT_DOES[element.keyword]}</small>" if element.keyword in WHAT_IT_DOES else ""
    if element.keyword in FIELDS:
        return f"{name} {about}{fields_html(element, frame)}"
    return f"{name} = {html.escape(text_of(element))} {about}"


def fields_html(element, frame):
    """A number field for each value of an element."""
    values = np.atleast_1d(np.array(element.value, float))
    of_frame = f" of frame {frame + 1}" if element.keyword == "ImagePositionPatient" else ""
    fields = [
        f'<label>{title} <input type="number" step="0.1" value="{value:g}" data-tag="{element.keyword}" data-frame="{frame}"'
        f' aria-label="{element.keyword}{of_frame}, {title}"></label>'
        for title, value in zip(FIELDS[element.keyword], values, strict=True)
    ]
    return f'<div class="segdet-header-fields">{"".join(fields)}</div>'


def folded(title, content):
    """Something to open; open where a number field is in it."""
    return f"<details{' open' * ('<input' in content)}><summary>{title}</summary>{content}</details>"


def text_of(element):
    """A value as text."""
    if isinstance(element.value, bytes):
        return f"{len(element.value)} bytes"
    values = element.value if isinstance(element.value, pydicom.multival.MultiValue | list) else [element.value]
    return "\\".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
