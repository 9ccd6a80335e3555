"""The built book: its links, its figures, its formulas, and that it needs no network.

Run `make book` or `make site` first. The tests that need a browser look for Chromium, or for the program that
CHROMIUM names.
"""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
import torch
import yaml
from conftest import ROOT

from segdet.anchors import AnchorGrid
from segdet.boxes import area, box_iou
from segdet.detection import score_boxes
from segdet.matching import IGNORED, NEGATIVE, POSITIVE, match
from segdet.rpn import Proposals, select

SITE = ROOT / "_build/html"
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=15000",
    "--dump-dom",
]


def toc_entries(item):
    """Every `file` and `root` of _toc.yml, in order."""
    if isinstance(item, list):
        return [entry for part in item for entry in toc_entries(part)]
    entries = [item[key] for key in ("root", "file") if key in item]
    return entries + [entry for key in ("parts", "chapters", "sections") for entry in toc_entries(item.get(key, []))]


PAGES = toc_entries(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))


class Page(HTMLParser):
    """What one page links to, loads and shows."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.images = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if given.get(LOADING.get(tag)):
            self.loads.append(given[LOADING[tag]])
        if tag == "link" and given.get("rel") in (
            "stylesheet",
            "preload",
            "icon",
            "preconnect",
            "dns-prefetch",
        ):
            self.loads.append(given["href"])


@pytest.fixture(scope="session")
def pages():
    if not (SITE / "index.html").exists():
        pytest.skip("the book is not built: run make book")
    return {path: Page(path) for path in SITE.rglob("*.html") if "_static" not in path.parts}


@pytest.fixture(scope="session")
def browser():
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    found = next((shutil.which(name) for name in names if name and shutil.which(name)), None)
    return found or pytest.skip("no Chromium: install it, or name it in CHROMIUM")


def test_every_page_of_the_table_of_contents_is_there(pages):
    assert [entry for entry in PAGES if SITE / f"{entry}.html" not in pages] == []


def test_internal_links_lead_somewhere(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            missing = not target.exists()
            if not missing and parts.fragment and target in pages:
                missing = unquote(parts.fragment) not in pages[target].ids
            if missing:
                broken.append(f"{path.relative_to(SITE)}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_another_host(pages):
    outside = {load for page in pages.values() for load in page.loads if urlsplit(load).netloc}
    assert outside == set()


def test_every_image_has_a_description(pages):
    bare = [(path.name, img.get("src")) for path, page in pages.items() for img in page.images if not img.get("alt")]
    assert bare == []


def said_by_explorer(facts):
    """What an explorer should say before it is touched, from the Python whose rules explorers.js repeats."""
    boxes = {
        key: torch.tensor(facts[key], dtype=torch.float64) for key in ("box", "boxes", "found", "truth") if key in facts
    }
    cells = (facts["rows"] // 16, facts["columns"] // 16)
    if facts["kind"] == "anchors":
        anchors = AnchorGrid([facts["size"]], [facts["ratio"]])(cells).double()
        overlap = box_iou(anchors, boxes["box"][None])[:, 0]
        reached = (box_iou(anchors, boxes["boxes"]).amax(0) > 0.7).sum()
        return (
            f"{(overlap > 0.7).sum()} of {len(anchors)} anchors above 0.7; the best has {overlap.max():.2f}. "
            f"{reached} of the {len(boxes['boxes'])} training boxes have an anchor above 0.7."
        )
    if facts["kind"] == "sampler":
        width, height = torch.tensor(facts["shapes"], dtype=torch.float64).T
        centres = AnchorGrid([0], [1])(cells).double()
        half = torch.stack([-width, -height, width, height], 1) / 2
        labels, _ = match((centres[:, None] + half).reshape(-1, 4), boxes["box"][None, None])
        positive, ignored, negative = (int((labels == kind).sum()) for kind in (POSITIVE, IGNORED, NEGATIVE))
        used = min(positive, 16)
        return (
            f"Of {labels.numel()} anchors {positive} are positive, {ignored} ignored, {negative} negative. "
            f"In the loss: {used} positive, {32 - used} negative."
        )
    found, truth, here = boxes["found"], boxes["truth"][:, None], int(facts["slice"])
    kept, _ = select(found[..., 1:], found[..., 0], Proposals(threshold=facts["threshold"], vote=False))
    reported, heads = int(area(kept[here]).sum() > 0), int((area(truth) > 0).sum())
    fit = f"IoU {box_iou(kept[here], truth[here]).item():.2f}" if area(truth[here]).sum() else "no head here"
    scores, empty = score_boxes(kept, truth), len(truth) - heads
    return (
        f"Slice {here}: {reported} box{'' if reported else 'es'}, {fit}. "
        f"The whole scan: {scores['recall50'] * heads:.0f} of {heads} slices with a head found at IoU 0.5, "
        f"boxes on {scores['false_boxes'] * empty:.0f} of {empty} empty slices."
    )


@pytest.mark.parametrize("entry", PAGES)
def test_a_page_in_the_browser(entry, pages, browser, tmp_path):
    """Formulas are typeset without an error, plotly figures are drawn, no other host is asked."""
    path = SITE / f"{entry}.html"
    log = tmp_path / "net.json"
    command = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'user'}", f"--log-net-log={log}", path.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    source = path.read_text(encoding="utf-8")

    formulas = len(re.findall(r'class="math notranslate', source))
    assert shown.count("<mjx-container") >= formulas
    assert re.findall(r'data-mjx-error="[^"]*"', shown) == []
    assert re.findall(r'<mjx-[a-z]+[^>]*(?:color: red|mathcolor="red")[^>]*>', shown) == []

    figures = source.count('<div class="segdet-plotly"')
    assert shown.count('class="segdet-plotly js-plotly-plot"') == figures
    assert "Share chart" not in shown  # plotly's button that uploads a figure

    explorers = re.findall(
        r'<div class="segdet-explorer".*?<script type="application/json">(.*?)</script>', source, re.S
    )
    says = re.findall(r"<output[^>]*>(.*?)</output>", shown)
    assert says == [said_by_explorer(json.loads(facts)) for facts in explorers]

    # The browser's own requests have no page behind them: their initiator is "not an origin".
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    started = [event["params"] for event in events if event.get("params", {}).get("initiator")]
    asked = {item["url"] for item in started if item["initiator"] != "not an origin" and "url" in item}
    assert {url for url in asked if url.startswith(("http", "ws"))} == set()
