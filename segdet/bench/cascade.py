"""One scan through the cascade, whole or cropped to the attended region, beside the plain 3D U-Net (chapter 09).

Timed is what the networks do: detector, attention, segmenter. The resampling of the scan before and after is the same
for all. Weights are random, so the boxes that count are those of the annotation, the best case: a stray box makes the
region larger. The detector works all the same. The widths are Cicek's.
"""

import numpy as np
import torch

from ..attention import attended_region, boxes_to_mask
from ..cascade import detect, segment
from ..experiments.config import ARMS
from ..experiments.cost import flops_of
from ..phantom.acoustics import make_phantom
from ..pipeline import Grids
from ..rpn import RPN
from ..runtime.device import default_device
from ..unet3d import UNet3D
from ..volume import slice_boxes
from .detector import KEEP
from .measure import Row, bench_memory, grid, paired, rate_note, seconds
from .segmenter import PAPER, SHAPES, flops

MARGIN = ARMS["cascade-crop"].margin


def bench_cascade():
    """Rows for the attention of a scan, and for a scan by each way at three grids."""
    yield attention_row()
    yield from bench_memory(f"a scan, memory, {grid(PAPER)}", step_of, ("3D U-Net", "cascade"))
    for shape, slices in [(shape, 32) for shape in SHAPES] + [(PAPER, PAPER[0])]:
        ways, notes = scan_of(shape, slices)
        work = flops_of(ways["cropped"])
        for name, limit in (("3D U-Net", 0.25), ("cascade", None)):
            times = paired(ways["cropped"], ways[name], repeats=3)
            note = f"{slices} slices; {notes}; {rate_note(work, times[0])}"
            yield Row(f"a scan, cropped, {grid(shape)}", name, *times, limit=limit, note=note)


def attention_row():
    """`boxes_to_mask` beside painting one box after the other: 20 boxes on each slice of the paper's grid."""
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 90, (PAPER[0], 20, 2))
    boxes = [*np.concatenate([corner, corner + rng.integers(1, 60, (PAPER[0], 20, 2))], -1).astype(np.float32)]

    def painted():
        mask = np.zeros(PAPER, bool)
        for plane, some in zip(mask, boxes, strict=True):
            for x0, y0, x1, y1 in some.astype(int):
                plane[y0:y1, x0:x1] = True
        return mask

    assert np.array_equal(boxes_to_mask(boxes, PAPER).numpy(), painted())
    times = paired(lambda: boxes_to_mask(boxes, PAPER), painted)
    return Row("boxes to mask, 20 boxes a slice", "box by box", *times, limit=1, note=f"{1000 * times[0]:.1f} ms")


def step_of(who):
    """One scan at the paper's grid, for its memory."""
    return scan_of(PAPER, PAPER[0])[0]["cropped" if who == "ours" else who]


def detector_and_segmenters():
    """Detector, the plain 3D U-Net and the cascade's, untrained."""
    device = default_device()
    segmenters = [UNet3D(channels, 2).to(device, memory_format=torch.channels_last_3d) for channels in (1, 2)]
    return RPN().to(device, memory_format=torch.channels_last), *segmenters


def scan_of(shape, slices):
    """Functions that segment a simulated hip on a grid (D, H, W), by name, and a note on their work."""
    detector, plain, segmenter = detector_and_segmenters()
    volume = make_phantom(1)
    grids = Grids(tuple(np.multiply(volume.shape, volume.spacing)), (slices, *PAPER[1:]), shape)
    fine, coarse, planes, image = grids.inputs(volume)
    planes, boxes = torch.from_numpy(planes), slice_boxes(fine.mask)

    def attend():
        return grids.attention_to_segmenter(boxes_to_mask(boxes, planes.shape).numpy())

    def cascade(margin=None):
        detect(detector, planes, KEEP)
        attention = attend()
        return segment(segmenter, image, attention, attended_region(attention, coarse.spacing, margin))

    region = coarse.mask[attended_region(coarse.mask, coarse.spacing, MARGIN)].shape
    work, less = flops(segmenter, shape), flops(segmenter, region)
    cascade()  # warms up
    detecting, attending = seconds(lambda: detect(detector, planes, KEEP)), seconds(attend)
    notes = f"segmenter {work / 1e9:.0f} GFLOP whole, {less / 1e9:.0f} on {grid(region)}; "
    notes += f"detector {detecting:.2f} s, attention {attending:.3f} s"
    return {"3D U-Net": lambda: segment(plain, image), "cascade": cascade, "cropped": lambda: cascade(MARGIN)}, notes
