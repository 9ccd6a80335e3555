"""What the theme and the notebook reader write so that a screen reader or the browser stumbles, or waits, mended in built pages."""

import re
import struct

WIDE = 700  # pixels: at the width of a telephone the letters of a wider picture cannot be read
FIGURE = re.compile(r'(?<!segdet-wide">)<a class="segdet-figure" href="\.\./_images/([^"]+)">.*?</a>')

# What it is, what becomes of it: findings of axe-core on the pages of this book, of the console, and what weighs.
MENDS = (
    # The corner of a table with headings on two sides heads nothing.
    (re.compile(r"<th(?: class=\"[^\"]*\")?>(?:<p></p>)?</th>"), "<td></td>"),
    # A button is called what is to be read on it.
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
    (re.compile(r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"'), r"\1"),
    # The icons of the colour mode would bring their titles as further text.
    (re.compile(r'(<i class="theme-switch [^>]*?)\s+title="[^"]*"'), r"\1"),
    # Everything is in a landmark, also the title of the book.
    (re.compile(r'<div id="pst-primary-sidebar"'), '<div id="pst-primary-sidebar" role="navigation" aria-label="Book"'),
    # An entry of a list is a listitem: docutils' role is deprecated, and no child that a list may have.
    (re.compile(r'role="doc-biblioentry"'), 'role="listitem"'),
    # At the first visit nothing is stored, and the theme calls that an invalid mode.
    (re.compile(r'(dataset\.mode = localStorage\.getItem\("mode"\) \|\| )""'), r'\1"auto"'),
    # The index of the search is for its page alone: here nothing is searched while somebody types.
    (re.compile(r'\s*<script src="\.\./(?:_static/searchtools|_static/language_data|searchindex)\.js"></script>'), ""),
    # Pictures further below are loaded when somebody scrolls there.
    (re.compile(r"<img (?!loading)"), '<img loading="lazy" '),
    # A figure opens by itself, as large as somebody likes: on a telephone its letters are small.
    (
        re.compile(r'(<img [^>]*?src="(\.\./_images/[^"]+)"[^>]*>)(?!</a>)'),
        r'<a class="segdet-figure" href="\2">\1</a>',
    ),
)


def mended(page):
    """A page as text with everything mended; what is mended already stays."""
    for found, instead in MENDS:
        page = found.sub(instead, page)
    return page


def boxed(page, width_of):
    """A page whose wide pictures stand in boxes that scroll sideways on a telephone; `width_of` knows a file of _images/.

    The box is the theme's for wide tables, whose script lets a key reach it where there is something to scroll.
    """

    def box(found):
        if width_of(found[1]) <= WIDE:
            return found[0]
        return f'<span class="pst-scrollable-table-container segdet-wide">{found[0]}</span>'

    return FIGURE.sub(box, page)


def png_width(path):
    """The width of a PNG in pixels; 0 of another file."""
    with path.open("rb") as file:
        start = file.read(20)
    return struct.unpack(">I", start[16:])[0] if start.startswith(b"\x89PNG") else 0


def mend(outdir):
    """Mend all pages of a built book, a `pathlib.Path`."""
    for path in outdir.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        better = boxed(mended(page), lambda name: png_width(outdir / "_images" / name))
        if better != page:
            path.write_text(better, encoding="utf-8")
