"""The built book: its links, its figures, its formulas, and that it needs no network.

`make test` builds it from the committed outputs. The tests that need a browser look for Chromium, or for the program
that CHROMIUM names.
"""

import html
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from conftest import ROOT
from devtools import Page

SITE = ROOT / "_build/stored/_build/html"
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}


def toc_entries(item):
    """Every `file` and `root` of _toc.yml, in order."""
    if isinstance(item, list):
        return [entry for part in item for entry in toc_entries(part)]
    entries = [item[key] for key in ("root", "file") if key in item]
    return entries + [entry for key in ("parts", "chapters", "sections") for entry in toc_entries(item.get(key, []))]


PAGES = toc_entries(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))


class Document(HTMLParser):
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
    return {path: Document(path) for path in SITE.rglob("*.html") if "_static" not in path.parts}


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


# Appended to a copy of a page: what scrolls sideways, and how wide the pictures of scans are.
PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  const found = [...document.querySelectorAll("article *")].filter((e) => e.clientWidth > 0
    && ["auto", "scroll"].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1);
  const named = found.map((e) => `${e.tagName} ${e.className}: ${e.textContent.trim().slice(0, 60)}`);
  if (document.documentElement.scrollWidth > innerWidth) named.push("the page");
  if (parent !== window) parent.postMessage(named, "*");
  else Object.assign(document.body.appendChild(document.createElement("pre")), {
    id: "probe", textContent: JSON.stringify(named) });
}, 3000));
</script>"""
# A window of the browser is at least 500 pixels wide, a frame is as narrow as a telephone.
PHONE = """<iframe src="{}" width="390" height="800"></iframe><script>
addEventListener("message", (event) => Object.assign(document.body.appendChild(document.createElement("pre")), {{
  id: "probe", textContent: JSON.stringify(event.data) }}));
</script>"""


def probed(path, folder):
    """A copy of a page, with the probe, in a folder; its links still lead to the site."""
    copy = folder / "probed.html"
    text = path.read_text(encoding="utf-8").replace("<head>", f'<head><base href="{path.as_uri()}">', 1)
    copy.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    return copy


def what_scrolls(shown):
    """What the probe has found in a document of the browser."""
    return json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', shown, re.DOTALL)[1]))


@pytest.mark.parametrize("entry", ["book/api", "book/ledger", "book/05-detector"])
def test_a_page_on_a_telephone(entry, pages, browser, tmp_path):
    """Nothing is wider than the page, but for the columns of an output, a table and a formula in boxes of their own."""
    frame = tmp_path / "frame.html"
    frame.write_text(PHONE.format(probed(SITE / f"{entry}.html", tmp_path).as_uri()), encoding="utf-8")
    wide = what_scrolls(browser(frame, f"--user-data-dir={tmp_path / 'user'}"))
    assert [e for e in wide if not re.match(r"PRE |MJX-CONTAINER |DIV pst-scrollable-table-container", e)] == []


@pytest.mark.parametrize("entry", PAGES)
def test_a_page_in_the_browser(entry, pages, browser, tmp_path):
    """Formulas are typeset without an error, figures are drawn, nothing scrolls sideways, no other host is asked."""
    path = SITE / f"{entry}.html"
    log = tmp_path / "net.json"
    page = probed(path, tmp_path)
    shown = browser(page, "--window-size=1280,900", f"--user-data-dir={tmp_path / 'user'}", f"--log-net-log={log}")
    source = path.read_text(encoding="utf-8")
    assert what_scrolls(shown) == []

    formulas = len(re.findall(r'class="math notranslate', source))
    assert shown.count("<mjx-container") >= formulas
    assert re.findall(r'data-mjx-error="[^"]*"', shown) == []
    assert re.findall(r'<mjx-[a-z]+[^>]*(?:color: red|mathcolor="red")[^>]*>', shown) == []

    figures = source.count('<div class="segdet-plotly"')
    assert shown.count('class="segdet-plotly js-plotly-plot"') == figures
    assert "Share chart" not in shown  # plotly's button that uploads a figure

    assert source.count('<div class="segdet-live"') == (entry in ("book/intro", "book/09-cascade"))
    explorers = source.count('<div class="segdet-explorer"')
    assert explorers == (entry in ("book/03-anchors", "book/04-rpn-loss", "book/05-detector"))
    assert len(re.findall(r"<output[^>]*>[^<]+</output>", shown)) == explorers
    assert 'class="segdet-fallback"' not in shown

    # The browser's own requests have no page behind them: their initiator is "not an origin".
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    started = [event["params"] for event in events if event.get("params", {}).get("initiator")]
    asked = {item["url"] for item in started if item["initiator"] != "not an origin" and "url" in item}
    assert {url for url in asked if url.startswith(("http", "ws"))} == set()


def test_a_page_is_light_before_the_click(pages):
    """Of the pages with a live network what is loaded with them, but for plotly.js; all of the landing page."""
    for name, rest in (("book/intro", set()), ("book/09-cascade", {"plotly.min.js"})):
        path = SITE / f"{name}.html"
        files = {(path.parent / unquote(urlsplit(load).path)).resolve() for load in pages[path].loads}
        assert sum(file.stat().st_size for file in {path, *files} if file.name not in rest) <= 3e6


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_network_in_the_page(theme, width, pages, chromium, tmp_path):
    """On the landing page it answers, at both widths, without a line that is wider than the window."""
    if not (SITE / "_static/live/runtime.js").exists():
        pytest.skip("the book was built without onnxruntime-web from npm")
    page = Page(chromium, tmp_path / "user")
    page.tell("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    page.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    page.open(SITE / "book/intro.html")
    page.run('document.querySelector(".segdet-live-start").click()')
    text = page.wait('document.querySelector(".segdet-live output")?.textContent')
    assert re.match(r"0 slices painted; boxes reach over 0 of 32 slices\. IoU 0\.\d{3}, ", text)
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    colours = "(s => [s.color, s.backgroundColor])(getComputedStyle(document.querySelector('.segdet-live button')))"
    ink, ground = (np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]]) for colour in page.run(colours))
    assert (ink > ground) == (theme == "dark")
    assert abs(ink - ground) > 100
    assert [text for text in page.complaints if "theme mode" not in text] == []
    assert {address.split(":")[0] for address in page.asked} <= {"file", "blob", "about", "data"}
    page.close()
