"""The built book: its links, its figures, its formulas, and that it needs no network.

`make test` builds it from the committed outputs. The tests that need a browser look for Chromium, or for the program
that CHROMIUM names.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import npm
import numpy as np
import pytest
from conftest import ROOT
from devtools import Page
from sphinx_external_toc.parsing import parse_toc_yaml

from segdet.errors import SegdetError

SITE = ROOT / "_build/stored/_build/html"
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
PAGES = list(parse_toc_yaml(ROOT / "_toc.yml"))


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


# Whether the page is wider than the window, and every box that scrolls sideways; on a telephone the columns of an
# output, tables and formulas may.
WIDE = """(may => {
  const scrolls = e => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1
    && ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
  const found = [...document.querySelectorAll("article *")].filter(e => scrolls(e) && !(may && e.matches(may)));
  const named = found.map(e => `${e.tagName} ${e.className}: ${e.textContent.trim().slice(0, 60)}`);
  return document.documentElement.scrollWidth > innerWidth ? [...named, "the page"] : named;
})(%s)"""
MAY_SCROLL = {1280: "null", 390: "'pre, mjx-container, .pst-scrollable-table-container'"}
# A token of code looks like every other token of its kind in a box of its kind: one of each is left to look at.
ONE_OF_A_KIND = """(seen => {
  for (const e of [...document.querySelectorAll("article :is(span, em, code)")].reverse()) {
    if (e.children.length || e.id) continue;
    const kind = [e, e.parentElement, e.parentElement.parentElement].map(x => x.tagName + x.className).join();
    if (seen.has(kind)) e.replaceWith(e.textContent);
    seen.add(kind);
  }
})(new Set())"""
# No colour is on its way from one theme to the other while it is looked at.
AT_ONCE = "document.head.appendChild(document.createElement('style')).textContent = '* { transition: none !important }'"
LOOK = """axe.run({preload: false, resultTypes: ["violations"], %s}).then(({violations}) => violations.flatMap(
  ({id, nodes}) => nodes.map(({html, any, all, none}) => `${id}: ${html.slice(0, 200)} ${
    [...any, ...all, ...none].map(check => check.message).join("; ")}`)))"""
AXE = {
    "package": "axe-core",
    "version": "4.14.1",
    "sha512": "1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b73"
    "4f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5",
    "path": "axe.min.js",
}


@pytest.fixture(scope="module")
def visitor(chromium, tmp_path_factory):
    """One browser for all pages."""
    page = Page(chromium, tmp_path_factory.mktemp("user"))
    yield page
    page.close()


@pytest.fixture(scope="module")
def axe():
    """axe-core as text, from npm or the cache, or skip."""
    try:
        return npm.package_file(**AXE).decode()
    except SegdetError as error:
        pytest.skip(str(error))


def visit(visitor, entry, width):
    """Open a page in the light theme, and wait until its formulas are typeset."""
    visitor.complaints.clear()
    visitor.asked.clear()
    visitor.look(width, "light")
    visitor.open(SITE / f"{entry}.html")
    visitor.run("window.MathJax?.startup?.promise.then(() => 0)")


def draw_figures(visitor):
    """Scroll to every plotly figure, which draws it, and return how many there are."""
    count = visitor.run("document.querySelectorAll('.segdet-plotly').length")
    for i in range(count):
        figure = f"document.querySelectorAll('.segdet-plotly')[{i}]"
        visitor.run(f"{figure}.scrollIntoView({{behavior: 'instant'}})")
        visitor.wait(f"'drawn' in {figure}.dataset")
    return count


def weight(visitor):
    """Bytes of the files that a page has asked for."""
    files = {unquote(urlsplit(address).path) for address in visitor.asked if address.startswith("file:")}
    return sum(Path(file).stat().st_size for file in files)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("entry", PAGES)
def test_a_page_in_the_browser(entry, width, pages, visitor):
    """Light until somebody scrolls, formulas and figures without an error, nothing wider than the window."""
    visit(visitor, entry, width)
    source = (SITE / f"{entry}.html").read_text(encoding="utf-8")
    assert weight(visitor) <= 3e6
    assert draw_figures(visitor) == source.count('<div class="segdet-plotly"')
    assert visitor.run(WIDE % MAY_SCROLL[width]) == []
    shown = visitor.run("document.documentElement.outerHTML")

    formulas = len(re.findall(r'class="math notranslate', source))
    assert shown.count("<mjx-container") >= formulas
    assert re.findall(r'data-mjx-error="[^"]*"', shown) == []
    assert re.findall(r'<mjx-[a-z]+[^>]*(?:color: red|mathcolor="red")[^>]*>', shown) == []
    assert "Share chart" not in shown  # plotly's button that uploads a figure

    assert source.count('<div class="segdet-live"') == (entry in ("book/intro", "book/09-cascade"))
    assert source.count('<div class="segdet-header"') == (entry == "book/02-data")
    assert shown.count("<output>Voxel (") == (entry == "book/02-data")
    explorers = source.count('<div class="segdet-explorer"')
    assert explorers == (entry in ("book/03-anchors", "book/04-rpn-loss", "book/05-detector"))
    assert len(re.findall(r'<output aria-live="polite"[^>]*>[^<]+</output>', shown)) == explorers
    assert 'class="segdet-fallback"' not in shown

    assert [text for text in visitor.complaints if not text.startswith("warning: ")] == []
    assert {address.split(":")[0] for address in visitor.asked} <= {"file", "blob", "about", "data"}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("entry", PAGES)
def test_axe_finds_nothing(entry, width, pages, visitor, axe):
    """All rules in the light theme; in the dark one, where the colours alone are others, those about colours."""
    visit(visitor, entry, width)
    draw_figures(visitor)
    visitor.run(f"{ONE_OF_A_KIND}; {axe}; 0")
    assert visitor.run(LOOK % "") == []
    visitor.run(AT_ONCE)
    visitor.look(width, "dark")
    visitor.wait("document.documentElement.dataset.theme === 'dark'")
    assert visitor.run(LOOK % "runOnly: ['color-contrast', 'link-in-text-block']") == []


def test_the_site_is_light(pages):
    assert sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file()) <= 80e6


def test_questions_are_answered_by_keys(pages, visitor):
    """What is said of a choice is seen when it is chosen, and nothing before."""
    visit(visitor, "book/01-paper", 390)
    shown = "[...document.querySelector('.segdet-question').querySelectorAll('p')].map(e => e.offsetParent !== null)"
    visitor.run("document.querySelector('.segdet-question input').focus()")
    assert visitor.run(shown) == [False, False, False]
    visitor.key(" ")
    assert visitor.run(shown) == [True, False, False]
    visitor.key("ArrowDown")
    assert visitor.run(shown) == [False, True, False]
    assert visitor.run("document.activeElement.closest('div').innerText").split("\n")[-1].startswith("Right. ")


def test_a_wide_picture_scrolls_in_its_box_on_a_telephone(pages, visitor):
    """By key, and the page does not; on a wide window it is as wide as the column and no stop of the keyboard."""
    visit(visitor, "book/10-ablation", 390)
    box = "document.querySelector('.segdet-wide')"
    assert visitor.run(f"{box}.querySelector('img').getBoundingClientRect().width") == 640
    visitor.wait(f"{box}.tabIndex === 0")
    visitor.run(f"{box}.focus()")
    visitor.key("ArrowRight")
    visitor.wait(f"{box}.scrollLeft > 0")
    assert visitor.run("[scrollX, document.documentElement.scrollWidth <= innerWidth]") == [0, True]
    visit(visitor, "book/10-ablation", 1280)
    assert visitor.run(f"[{box}.scrollWidth <= {box}.clientWidth, {box}.tabIndex]") == [True, -1]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_list_of_sections_is_behind_its_button(width, pages, visitor):
    """Where it has no place beside the page it opens by keyboard, and leads to a module of the reference."""
    visit(visitor, "book/api", width)
    assert visitor.run("document.querySelector('#pst-secondary-sidebar-modal').open") is False
    visitor.run("document.querySelector('button.secondary-toggle').focus()")
    visitor.key("Enter")
    visitor.wait("document.querySelector('#pst-secondary-sidebar-modal').open")
    sections = "document.querySelector('#pst-secondary-sidebar-modal').innerText"
    assert "segdet.phantom: the simulated hip" in visitor.run(sections)


def test_figures_answer_to_keys(pages, visitor):
    """Slider, legend and camera of the plotly figures in chapter 02, a slider of an explorer, what is folded away."""
    visit(visitor, "book/02-data", 1280)
    draw_figures(visitor)
    browser, surface = (f"document.querySelectorAll('.segdet-plotly')[{i}]" for i in (0, 1))
    plot = ".querySelector('.js-plotly-plot')"
    before = visitor.run(f"{browser}{plot}.layout.images[0].source")
    at = int(visitor.run(f"{browser}.querySelector('[type=range]').value"))
    visitor.run(f"{browser}.querySelector('[type=range]').focus()")
    visitor.key("ArrowRight")
    assert visitor.run(f"{browser}.querySelector('[type=range]').getAttribute('aria-valuetext')") == str(at + 1)
    visitor.wait(f"{browser}{plot}.layout.images[0].source !== {json.dumps(before)}")
    visitor.run(f"{browser}.querySelector('[type=checkbox]').focus()")
    visitor.key(" ")
    visitor.wait(f"{browser}{plot}.data[0].visible === false")

    eye = visitor.run(f"{surface}{plot}.layout.scene.camera.eye")
    visitor.run(f"{surface}.querySelector('[type=range]').focus()")
    visitor.key("ArrowRight")
    turned = visitor.wait(f"(e => e.x !== {eye['x']} && e)({surface}{plot}.layout.scene.camera.eye)")
    far, angle = np.hypot(eye["x"], eye["y"]), np.arctan2(eye["y"], eye["x"]) + np.deg2rad(1)
    np.testing.assert_allclose([turned["x"], turned["y"]], [far * np.cos(angle), far * np.sin(angle)], atol=0.02)
    assert abs(turned["z"] - eye["z"]) < 0.02  # the dials stand at whole degrees

    visit(visitor, "book/03-anchors", 1280)
    before = visitor.run("document.querySelector('.segdet-explorer output').textContent")
    visitor.run("document.querySelector('.segdet-explorer input').focus()")
    visitor.key("ArrowRight")
    assert visitor.run("document.querySelector('.segdet-explorer output').textContent") != before
    visitor.run("document.querySelector('article details summary').focus()")
    visitor.key("Enter")
    assert visitor.run("document.querySelector('article details').open")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_network_in_the_page(theme, width, pages, chromium, tmp_path):
    """On the landing page it answers, at both widths, without a line that is wider than the window."""
    if not (SITE / "_static/live/runtime.js").exists():
        pytest.skip("the book was built without onnxruntime-web from npm")
    page = Page(chromium, tmp_path / "user")
    page.look(width, theme)
    page.open(SITE / "book/intro.html")
    page.run('document.querySelector(".segdet-live-start").click()')
    text = page.wait('document.querySelector(".segdet-live output")?.textContent')
    assert re.match(r"0 slices painted; boxes reach over 0 of 32 slices\. IoU 0\.\d{3}, ", text)
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    colours = "(s => [s.color, s.backgroundColor])(getComputedStyle(document.querySelector('.segdet-live button')))"
    ink, ground = (np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]]) for colour in page.run(colours))
    assert (ink > ground) == (theme == "dark")
    assert abs(ink - ground) > 100
    assert page.complaints == []
    assert {address.split(":")[0] for address in page.asked} <= {"file", "blob", "about", "data"}
    page.close()
