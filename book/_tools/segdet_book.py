"""The Sphinx extension of this book: plotly figures without a network, and what the pages say about themselves.

Notebooks store plotly figures as JSON. Here that JSON goes into the page beside a description for screen
readers, and `book/_static/figures.js` draws it with the plotly.js that the plotly package brings. Beside that every figure gets
a numbered caption, every chapter a line on the time that it takes, every term its definition where the cursor rests.
"""

import html
import json
import math
import shutil
from pathlib import Path

import header_tree
import icons
import live
import mending
import plotly
import questions
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from segdet.analysis.prose import HOLDS

PLOTLY_MIME = "application/vnd.plotly.v1+json"
FIGURE_CLASS = "segdet-plotly"
EXPLORER_CLASS = "segdet-explorer"  # what segdet.figures.explorers.page_explorer writes
WORDS_A_MINUTE = 200
LIVE_CLASS = "segdet-live"  # what LiveNetwork writes
POSTER = "Ultrasound slices of a simulated hip, one after the other, with the annotated head and the detected boxes."
HERE = Path(__file__).resolve().parent


def setup(app):
    """Register the extension."""
    app.connect("source-read", prepare_notebook)
    app.connect("doctree-read", say_how_long)
    app.connect("doctree-resolved", explain_terms)
    app.connect("html-page-context", load_scripts)
    app.connect("build-finished", add_files)
    app.add_directive("segdet-status", StatusTable)
    app.add_directive("segdet-model-card", ModelCard)
    app.add_directive("segdet-live", LiveNetwork)
    app.add_directive("segdet-question", questions.Question)
    app.add_directive("segdet-header", header_tree.HeaderTree)
    app.config.html_static_path.append(str(HERE.parent / "_static"))
    app.add_css_file("segdet.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def prepare_notebook(app, docname, source):
    """In the source of a notebook: plotly's outputs as HTML, claims folded, figures captioned (event ``source-read``)."""
    if not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if PLOTLY_MIME in output.get("data", {}):
                output["data"] = {"text/html": figure_html(output["data"][PLOTLY_MIME])}
        shown = cell["metadata"].get("mystnb", {})
        if "alt" in shown.get("image", {}):
            shown.setdefault("figure", {}).setdefault("caption", first_sentence(shown["image"]["alt"]))
    notebook["cells"] = [part for cell in notebook["cells"] for part in (cell, *fold_claims(cell))]
    source[0] = json.dumps(notebook)


def fold_claims(cell):
    """Take from what a cell prints the claims that hold; cells, one or none, that tell them in a line to open."""
    claims = []
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            lines = "".join(output["text"]).splitlines(keepends=True)
            claims += [html.escape(line.removeprefix(HOLDS).strip()) for line in lines if line.startswith(HOLDS)]
            output["text"] = "".join(line for line in lines if not line.startswith(HOLDS))
    if not claims:
        return []
    cell["outputs"] = [o for o in cell["outputs"] if o.get("text") != ""]
    title = f"{len(claims)} claims of the text hold" if len(claims) > 1 else "A claim of the text holds"
    items = "".join(f"<li>{claim}</li>" for claim in claims)
    text = f'<details class="segdet-claims"><summary>{title} in these numbers</summary><ul>{items}</ul></details>'
    return [{"cell_type": "markdown", "id": f"{cell['id']}-claims", "metadata": {}, "source": text}]


def first_sentence(text):
    """A text up to its first full stop, which captions a figure whose description goes on."""
    return text.split(". ")[0].rstrip(".") + "."


def description(figure):
    """What a screen reader says about a figure: ``layout.meta["alt"]``, or else its title, or nothing."""
    layout = figure.get("layout", {})
    meta, title = layout.get("meta"), layout.get("title", "")
    alt = meta.get("alt") if isinstance(meta, dict) else None
    return alt or (title.get("text", "") if isinstance(title, dict) else title)


def figure_html(figure):
    """One plotly figure as HTML: its JSON and its description."""
    alt = html.escape(description(figure), quote=True)
    wanted = {key: figure[key] for key in ("data", "layout", "frames") if key in figure}
    text = json.dumps(wanted, separators=(",", ":")).replace("<", "\\u003c")  # cannot end the script element
    height = figure.get("layout", {}).get("height", 450)
    return (
        f'<div class="{FIGURE_CLASS}" role="figure" aria-label="{alt}" style="min-height: {height}px">'
        f'<script type="application/json">{text}</script>'
        f"<noscript>{alt} (This figure needs JavaScript.)</noscript></div>"
    )


def load_scripts(app, pagename, templatename, context, doctree):
    """Load what draws figures, explorers and formulas on the pages that have one, and only there (``html-page-context``)."""
    if FIGURE_CLASS in context.get("body", ""):
        app.add_js_file("figures.js", loading_method="defer")
    if EXPLORER_CLASS in context.get("body", ""):
        app.add_js_file("explorers.js", loading_method="defer")
    if f'class="{header_tree.HEADER_CLASS}"' in context.get("body", ""):
        app.add_js_file("header.js", loading_method="defer")
    if f'class="{LIVE_CLASS}"' in context.get("body", ""):
        for name in ("volume", "nifti", "surface", "controls", "loading", "pictures", "live"):
            app.add_js_file(f"live/{name}.js", loading_method="defer")
        app.env.segdet_live = True
    # Sphinx has MathJax also where a page below has a formula. This comes last, for it makes another list.
    if 'class="math' not in context.get("body", ""):
        scripts = context.get("script_files", [])
        context["script_files"] = [file for file in scripts if "mathjax" not in str(getattr(file, "filename", ""))]


def add_files(app, exception):
    """Mend the pages, cut the icons, copy plotly.js, and write what the live pages load, if there are any (``build-finished``)."""
    if exception is None and app.builder.format == "html":
        static = Path(app.outdir) / "_static"
        mending.mend(Path(app.outdir))
        icons.cut(Path(app.outdir))
        shutil.copy(Path(plotly.__file__).parent / "package_data/plotly.min.js", static / "plotly.min.js")
        if hasattr(app.env, "segdet_live"):
            live.write_poster(static / "live/hip.webp")
            live.write_all(static / "live")


class LiveNetwork(SphinxDirective):
    """``segdet-live``: the network in the page; its content says what is to be seen to who cannot see it."""

    has_content = True

    def run(self):
        """The place that book/_static/live/live.js fills on a click."""
        alt = html.escape(" ".join(self.content))
        poster = f'<img class="segdet-live-poster" src="../_static/live/hip.webp" alt="{POSTER}">'
        text = f"<p>{alt}</p>{poster}<noscript>This needs JavaScript.</noscript>"
        return [nodes.raw("", f'<div class="{LIVE_CLASS}" role="group">{text}</div>', format="html")]


def status(env):
    """What results/book.json says about the last execution of every chapter; a page that asks depends on it."""
    path = Path(env.srcdir) / "results/book.json"
    env.note_dependency(str(path))
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def say_how_long(app, doctree):
    """Below the title of a chapter: minutes to read it, and what its last execution took (event ``doctree-read``)."""
    docname = app.env.docname
    run = status(app.env).get(docname.split("/")[-1])
    title = next(doctree.findall(nodes.title), None)
    if run is None or title is None:
        return
    texts = (text for text in doctree.findall(nodes.Text) if not isinstance(text.parent, nodes.raw))
    words = sum(len(text.split()) for text in texts)  # code and tables are read as slowly as prose
    minutes = 5 * math.ceil(words / WORDS_A_MINUTE / 5)
    text = (
        f"About {minutes} minutes to read. Its code ran for {run['seconds']:.0f} s at the profile {run['profile']}, "
        f"training included where nothing had been trained before, in {run['gib']:.1f} GiB of memory ({run['device']})."
    )
    title.parent.insert(title.parent.index(title) + 1, nodes.paragraph("", text, classes=["segdet-frame"]))


def explain_terms(app, doctree, docname):
    """Give every link to the glossary the definition of its term as its title (event ``doctree-resolved``)."""
    terms = app.env.get_domain("std").objects.items()
    pages = {page for (kind, _), (page, _) in terms if kind == "term"}
    meaning = {}
    for item in (item for page in pages for item in app.env.get_doctree(page).findall(nodes.definition_list_item)):
        text = " ".join(item.next_node(nodes.definition).astext().split())
        meaning |= {name: text for term in item.findall(nodes.term) for name in term["ids"]}
    for link in doctree.findall(nodes.reference):
        name = link.get("refuri", "").partition("#")[2] or link.get("refid")
        if name in meaning:
            link["reftitle"] = meaning[name]


class StatusTable(SphinxDirective):
    """``segdet-status``: a table of what results/book.json says about the last execution of every chapter."""

    columns = ("chapter", "profile", "device", "torch", "python", "commit", "seconds")

    def run(self):
        """Build the table."""
        runs = status(self.env)
        if not runs:
            return [nodes.paragraph(text="No chapter has been executed yet; make book does it.")]
        rows = [(name, *(str(run[key]) for key in self.columns[1:])) for name, run in sorted(runs.items())]
        total = sum(run["seconds"] for run in runs.values())
        rows.append(("all", "", "", "", "", "", str(total)))
        return [table(self.columns, rows)]


class ModelCard(SphinxDirective):
    """``segdet-model-card``: what segdet/models/hip-small/card.json says, in two tables."""

    facts = ("what", "not for", "training", "boxes", "selection", "device", "torch", "commit")

    def run(self):
        """Build the tables."""
        path = live.MODEL / "card.json"
        self.env.note_dependency(str(path))
        card = json.loads(path.read_text(encoding="utf-8"))
        scores = card["mean iou"]
        rows = [(name, *(f"{value:.3f}" for value in found.values())) for name, found in scores.items()]
        return [
            table(("", "hip-small"), [(name, card[name]) for name in self.facts]),
            nodes.paragraph(text=f"Mean IoU over {len(card['test'])} test scans, by the number of slices with a box:"),
            table(("weights", *scores["float32"]), rows),
        ]


def table(columns, rows):
    """A table of texts."""
    group = nodes.tgroup(cols=len(columns))
    group += [nodes.colspec(colwidth=1) for _ in columns]
    group += nodes.thead("", table_row(columns))
    group += nodes.tbody("", *map(table_row, rows))
    return nodes.table("", group, classes=["segdet-status"])


def table_row(texts):
    """One row."""
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=text)) for text in texts))
