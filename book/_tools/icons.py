"""Font Awesome cut down to the icons of this book: the theme loads all 2,045 of them (1.5 MB) on every page."""

import re

NAME = re.compile(r"\bfa-([a-z0-9-]+)")
# "name":[width,height,[aliases],"code point",path or paths]
ICON = re.compile(r'"?([a-z0-9-]+)"?:\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]*",(?:"[^"]*"|\[[^\]]*\])\],?')


def names_used(texts):
    """Names of all icons that some texts (HTML or scripts) speak of, as a set."""
    return {name for text in texts for name in NAME.findall(text)}


def keep_icons(script, names):
    """The source of fontawesome.js with the icons alone whose name or alias is wanted."""

    def kept(icon):
        wanted = {icon[1], *re.findall(r"[a-z0-9-]+", icon[2])} & names
        return icon[0] if wanted else ""

    return ICON.sub(kept, script)


def cut(outdir):
    """Cut the Font Awesome of a built book, a `pathlib.Path`, to the icons that its pages and scripts name."""
    path = outdir / "_static/scripts/fontawesome.js"
    others = (file for file in outdir.rglob("*") if file.suffix in (".html", ".js") and file.name != path.name)
    names = names_used(file.read_text(encoding="utf-8") for file in others)
    path.write_text(keep_icons(path.read_text(encoding="utf-8"), names), encoding="utf-8")
