"""The Sphinx extension of this book: plotly figures without a network, and the status table.

Notebooks store plotly figures as JSON. Here that JSON goes into the page beside a description for screen
readers, and `book/_static/figures.js` draws it with the plotly.js that the plotly package brings.
"""

import html
import json
import shutil
from pathlib import Path

import plotly
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

PLOTLY_MIME = "application/vnd.plotly.v1+json"
FIGURE_CLASS = "segdet-plotly"
EXPLORER_CLASS = "segdet-explorer"  # what segdet.figures.explorers.page_explorer writes
HERE = Path(__file__).resolve().parent


def setup(app):
    """Register the extension."""
    app.connect("source-read", show_plotly)
    app.connect("html-page-context", load_scripts)
    app.connect("build-finished", copy_plotly)
    app.add_directive("segdet-status", StatusTable)
    app.config.html_static_path.append(str(HERE.parent / "_static"))
    app.add_css_file("segdet.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def show_plotly(app, docname, source):
    """In the source of a notebook, turn every plotly output into HTML (event ``source-read``)."""
    if not app.env.doc2path(docname).endswith(".ipynb") or PLOTLY_MIME not in source[0]:
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if PLOTLY_MIME in output.get("data", {}):
                output["data"] = {"text/html": figure_html(output["data"][PLOTLY_MIME])}
    source[0] = json.dumps(notebook)


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
        f'<div class="{FIGURE_CLASS}" role="img" aria-label="{alt}" style="min-height: {height}px">'
        f'<script type="application/json">{text}</script>'
        f"<noscript>{alt} (This figure needs JavaScript.)</noscript></div>"
    )


def load_scripts(app, pagename, templatename, context, doctree):
    """Load plotly.js and the explorers on the pages that have one, and only there (event ``html-page-context``)."""
    if FIGURE_CLASS in context.get("body", ""):
        app.add_js_file("plotly.min.js", loading_method="defer")
        app.add_js_file("figures.js", loading_method="defer")
    if EXPLORER_CLASS in context.get("body", ""):
        app.add_js_file("explorers.js", loading_method="defer")


def copy_plotly(app, exception):
    """Copy plotly.js out of the plotly package (event ``build-finished``)."""
    if exception is None and app.builder.format == "html":
        source = Path(plotly.__file__).parent / "package_data/plotly.min.js"
        shutil.copy(source, Path(app.outdir) / "_static/plotly.min.js")


class StatusTable(SphinxDirective):
    """``segdet-status``: a table of what results/book.json says about the last execution of every chapter."""

    columns = ("chapter", "profile", "device", "torch", "python", "commit", "seconds")

    def run(self):
        """Build the table."""
        path = Path(self.env.srcdir) / "results/book.json"
        self.env.note_dependency(str(path))
        runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not runs:
            return [nodes.paragraph(text="No chapter has been executed yet; make book does it.")]
        rows = [(name, *(str(run[key]) for key in self.columns[1:])) for name, run in sorted(runs.items())]
        total = sum(run["seconds"] for run in runs.values())
        rows.append(("all", "", "", "", "", "", str(total)))
        group = nodes.tgroup(cols=len(self.columns))
        group += [nodes.colspec(colwidth=1) for _ in self.columns]
        group += nodes.thead("", self.row(self.columns))
        group += nodes.tbody("", *(self.row(row) for row in rows))
        return [nodes.table("", group, classes=["segdet-status"])]

    def row(self, texts):
        """One row."""
        return nodes.row("", *(nodes.entry("", nodes.paragraph(text=text)) for text in texts))
