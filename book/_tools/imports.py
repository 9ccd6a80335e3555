"""Which modules of segdet some code can run: the import graph, read from the sources and never executed."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = "segdet"
NAMED = re.compile(rf"\b{PACKAGE}\b(?:\.\w+)*")


class Source(NamedTuple):
    """A module: its file, its syntax tree, and the package from which its relative imports count."""

    path: Path
    tree: ast.AST
    package: str


@cache
def parse(text):
    """The syntax tree of Python, one for a text; what is none, as half an edit may be, counts as one long string."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return ast.Expression(ast.Constant(text))


def read_sources(root):
    """The modules of segdet in a repository, those of the packages inside it too: a `Source` a dotted name."""
    sources = {}
    for path in (root / PACKAGE).rglob("*.py"):
        *parents, stem = path.relative_to(root).with_suffix("").parts
        if all(part.isidentifier() for part in (*parents, stem)):  # not the copies in .ipynb_checkpoints
            package = ".".join(parents)
            name = package if stem == "__init__" else f"{package}.{stem}"
            sources[name] = Source(path, parse(path.read_text(encoding="utf-8", errors="replace")), package)
    return sources


def reached_modules(tree, sources):
    """The names in `sources` of the modules that the code of a notebook reaches, from import to import.

    A string in a notebook reaches what it names: ``import_module("segdet.boxes")`` that module, ``!segdet info`` and
    ``!python -m segdet info`` all of them.
    """
    names = imported_names(tree).union(*map(NAMED.findall, strings(tree)))
    reached, waiting = set(), {module for name in names for module in modules_behind(name, sources)}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        found = {module.rpartition(".")[0]} & sources.keys()  # the package, which is executed first
        for name in imported_names(sources[module].tree, sources[module].package):
            found |= modules_behind(name, sources)
        waiting |= found - reached
    return reached


@cache
def imported_names(tree, package=""):
    """The dotted names that code in a package imports, inside functions too; "a.b*" is all that begin with a.b."""
    names = set()
    for node in nodes(tree):
        if isinstance(node, ast.Import):  # without "as" it binds the whole package
            names |= {alias.name if alias.asname else alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""), package)
            names |= {base if alias.name == "*" else f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and "import_module" in vars(node.func).values():
            more = "" if isinstance(node.args[0], ast.Constant) else "*"  # as in f".bench_{name}"
            names |= {absolute(text + more, package) for text in strings(node.args[0])[:1]}
    return names


def modules_behind(name, sources):
    """The modules that an imported name may lead to; none if it is of another package.

    They are those at and below the name, or the one that defines it. A package knows the name, or gives its module in
    a dictionary of lazy exports, as `segdet` does; if it does neither, they are all in the package.
    """
    if name.endswith("*"):
        return {module for module in sources if module.startswith(name[:-1])}
    below = {module for module in sources if f"{module}.".startswith(f"{name}.")}
    home, _, attribute = name.rpartition(".")
    if below or not home:
        return below
    if home in sources and sources[home].package == home:
        lazy = lazy_exports(sources[home].tree).get(attribute, "").removeprefix(home).lstrip(".")
        if f"{home}.{lazy}" in sources:
            return modules_behind(f"{home}.{lazy}", sources)
        if attribute in known_names(sources[home].tree):
            return {home}
    return modules_behind(home, sources)


def lazy_exports(tree):
    """The entries ``"name": "module"`` of the dictionaries in a module."""
    tables = [zip(node.keys, node.values, strict=True) for node in nodes(tree) if isinstance(node, ast.Dict)]
    return {key.value: value.value for table in tables for key, value in table if is_text(key) and is_text(value)}


def known_names(tree):
    """The names that a module imports, defines or uses."""
    attributes = ("asname", "name", "id")
    return {getattr(node, attribute, None) for node in nodes(tree) for attribute in attributes}


def nodes(tree):
    """The nodes of a syntax tree but for a module's `__getattr__`, which imports only what it is asked for."""
    parts = [part for part in ast.iter_child_nodes(tree) if getattr(part, "name", None) != "__getattr__"]
    return [node for part in parts for node in ast.walk(part)]


def strings(tree):
    """The strings in a syntax tree, the outermost first."""
    return [node.value for node in ast.walk(tree) if is_text(node)]


def is_text(node):
    """Whether a node is a string."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def absolute(name, package):
    """A dotted name that may begin with dots, without them."""
    tail = name.lstrip(".")
    level = len(name) - len(tail)
    above = package.split(".")[: package.count(".") + 2 - level] if level else []
    return ".".join([*above, tail] if tail else above)
