"""The explorers of the built pages say what the Python says whose rules they repeat, wherever the sliders stand."""

import json
import re

import numpy as np
import pytest
import torch
from conftest import ROOT

from segdet.anchors import AnchorGrid
from segdet.boxes import area, box_iou
from segdet.figures.explorers import page_explorer
from segdet.matching import IGNORED, NEGATIVE, POSITIVE, match
from segdet.metrics import score_boxes
from segdet.proposals import Proposals, select

SHAPE, CELLS = (96, 64), (6, 4)
BOX = [20.0, 30, 44, 74]
MOVE = """<script>
const inputs = document.querySelectorAll("input");
for (const [index, value] of Object.entries(SETTINGS)) {
  inputs[index].value = value;
  inputs[index].dispatchEvent(new Event("input"));
}
</script>"""


def says(browser, tmp_path, explorer, settings):
    """What an explorer says after its sliders were set: {number of the slider: value}."""
    page = tmp_path / "page.html"
    script = (ROOT / "book/_static/explorers.js").read_text(encoding="utf-8")
    move = MOVE.replace("SETTINGS", json.dumps(settings))
    page.write_text(f"<body>{explorer.data}<script>{script}</script>{move}", encoding="utf-8")
    shown = browser(page, f"--user-data-dir={tmp_path / 'user'}")
    assert '<p class="segdet-fallback">' not in shown
    return re.search(r"<output[^>]*>(.*?)</output>", shown)[1]


@pytest.mark.parametrize(
    ("size", "ratio", "stride", "threshold"), [(30, 1.8, 16, 0.7), (24, 1.5, 8, 0.5), (60, 1, 32, 0.4)]
)
def test_anchors(browser, tmp_path, size, ratio, stride, threshold):
    boxes = torch.tensor([BOX, [10, 10, 30, 60], [40, 50, 50, 66]], dtype=torch.float64)
    explorer = page_explorer("anchors", torch.zeros(SHAPE), (1, 2), "alt", box=BOX, boxes=boxes, size=40, ratio=1)
    anchors = AnchorGrid([size], [ratio], stride)((SHAPE[0] // stride, SHAPE[1] // stride)).double()
    overlap = box_iou(anchors, boxes)
    assert says(browser, tmp_path, explorer, {0: size, 1: ratio, 2: stride, 3: threshold}) == (
        f"{(overlap[:, 0] > threshold).sum()} of {len(anchors)} anchors above {threshold}; "
        f"the best has {overlap[:, 0].max():.2f}. "
        f"{(overlap.amax(0) > threshold).sum()} of the 3 training boxes have an anchor above {threshold}."
    )


@pytest.mark.parametrize(("high", "low", "count", "best"), [(0.7, 0.3, 32, 1), (0.5, 0.4, 8, 1), (0.9, 0.1, 200, 0)])
def test_sampler(browser, tmp_path, high, low, count, best):
    grid = AnchorGrid((24, 36, 48), (1.0, 1.8, 2.6))
    shapes = {"shapes": grid.shapes, "stride": 16}
    explorer = page_explorer("sampler", torch.zeros(SHAPE), (1, 2), "alt", box=BOX, **shapes)
    labels, _ = match(grid(CELLS).double(), torch.tensor([[BOX]], dtype=torch.float64), high, low, bool(best))
    positive, ignored, negative = (int((labels == kind).sum()) for kind in (POSITIVE, IGNORED, NEGATIVE))
    used = min(positive, count // 2)
    assert says(browser, tmp_path, explorer, {0: high, 1: low, 2: count, 3: best, 4: 7}) == (
        f"Of {labels.numel()} anchors {positive} are positive, {ignored} ignored, {negative} negative. "
        f"In the loss: {used} positive, {min(count - used, negative)} negative."
    )


@pytest.mark.parametrize(("here", "threshold", "count", "nms"), [(1, 0.5, 1, 0.5), (2, 0.1, 3, 0.3), (0, 0.9, 5, 0.9)])
def test_proposals(browser, tmp_path, here, threshold, count, nms):
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([[0.0, 0, 0, 0], BOX, BOX, [0, 0, 0, 0]], dtype=torch.float64)
    boxes = torch.tensor(BOX, dtype=torch.float64) + 12 * torch.rand(4, 20, 4, generator=generator).double().round(
        decimals=1
    )
    scores = torch.rand(4, 20, generator=generator).double().round(decimals=2).sort(1, descending=True).values
    found = torch.cat([scores[..., None], boxes], 2)
    facts = {"found": found, "truth": truth, "slice": 1, "threshold": 0.5}
    explorer = page_explorer("proposals", torch.zeros(4, *SHAPE), (1, 2), "alt", **facts)
    kept, _ = select(boxes.round(decimals=2), scores, Proposals(count, threshold, nms, vote=False))
    shown, scored = int((area(kept[here]) > 0).sum()), score_boxes(kept, truth[:, None])
    fit = f"IoU {box_iou(kept[here, :1], truth[here][None]).item():.2f}" if here in (1, 2) else "no head here"
    assert says(browser, tmp_path, explorer, {0: here, 1: threshold, 2: count, 3: nms}) == (
        f"Slice {here}: {shown} box{'' if shown == 1 else 'es'}, {fit}. "
        f"The whole scan: {scored['recall50'] * 2:.0f} of 2 slices with a head found at IoU 0.5, "
        f"boxes on {scored['false_boxes'] * 2:.0f} of 2 empty slices."
    )


def test_what_is_stored():
    """Nothing can end the script element early, and no NaN gets into the page."""
    explorer = page_explorer("anchors", np.ones((2, 4, 3)), (1.0, 2.0), 'a "b" </script>', note=1 / 3)
    assert explorer.data.count("</script>") == 1
    facts = json.loads(re.search(r"<script[^>]*>(.*?)</script>", explorer.data)[1])
    assert (facts["planes"], facts["rows"], facts["columns"], facts["note"]) == (2, 4, 3, 0.33)
    with pytest.raises(ValueError, match="not JSON compliant"):
        page_explorer("anchors", np.ones((4, 3)), (1.0, 2.0), "", box=[float("nan")])
