"""Are the stored outputs of a chapter still those of its code?

They depend on the code cells, on every module of segdet that these reach (see `imports`) and on the tables in results/
that the cells name. Comments, docstrings, formatting and Markdown change no
output, so they do not count. The outputs count too: what was changed by hand is not what the code gave.
"""

import ast
import hashlib
import json
import re
from functools import cache

from imports import parse, reached_modules, read_sources, strings
from IPython.core.displayhook import DisplayHook
from IPython.core.inputtransformer2 import TransformerManager

# Written when chapters and checks are run or after them, so no output can depend on them.
STATUS, CHECKS, CRATE = "book.json", "checks.json", "ro-crate-metadata.json"
# A study or a file in results/; empty where a text names results alone.
NAMED = re.compile(r"\bresults\b(?:/([\w.-]+))?")


def stamp(inputs, executed, profile):
    """What an executed notebook keeps in its metadata, to tell whether its outputs are still those of its code.

    Parameters
    ----------
    inputs : dict of str
        See `inputs_of`.
    executed : NotebookNode
    profile : str

    Returns
    -------
    dict of str
        The digests ``inputs`` and ``outputs``, and ``profile``.
    """
    outputs = [cell.outputs for cell in executed.cells if cell.cell_type == "code"]
    return {"inputs": digest(inputs), "outputs": digest(outputs), "profile": profile}


def inputs_of(notebook, root):
    """What the outputs of a notebook depend on.

    Parameters
    ----------
    notebook : NotebookNode
    root : Path
        The repository, which holds segdet/ and results/.

    Returns
    -------
    dict of str
        A digest of the code cells, and of each file by its path in the repository.
    """
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    codes = [TransformerManager().transform_cell(source) for source in cells]  # magics and shell lines become calls
    trees = [parse(code) for code in codes]
    parts = [[dump(tree.body), ends_in_semicolon(code, tree)] for code, tree in zip(codes, trees, strict=True)]
    sources = read_sources(root)
    modules = reached_modules(ast.Module(trees, []), sources)
    files = {sources[module].path: digest_of_code(sources[module].tree) for module in modules}
    names = {name for tree in trees for text in strings(tree) for name in NAMED.findall(text)}
    for path in tables(root / "results"):
        if names & {"", path.relative_to(root / "results").parts[0]}:
            files[path] = digest(path.read_text(encoding="utf-8", errors="replace"))
    return {path.relative_to(root).as_posix(): value for path, value in files.items()} | {"code cells": digest(parts)}


def tables(folder):
    """The CSV and JSON files of results/ and of its studies, which are committed; checkpoints are further below."""
    found = (*folder.glob("*"), *folder.glob("*/*"))
    whole = [path for path in found if path.suffix in (".csv", ".json") and not path.name.startswith(".")]
    return [path for path in whole if path.name not in (STATUS, CHECKS, CRATE)]


def digest(value):
    """The first 16 hexadecimal digits of the SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@cache
def digest_of_code(tree):
    """The digest of a module, from one of the trees of `parse`."""
    return digest(dump(tree))


def ends_in_semicolon(code, tree):
    """Whether a cell ends with a semicolon, which its syntax tree does not show."""
    return isinstance(tree, ast.Module) and bool(DisplayHook.semicolon_at_end_of_expression(code))


def dump(node):
    """A syntax tree as text without docstrings, the same in every Python version (`ast.dump` is not)."""
    if isinstance(node, list):
        return "[" + ",".join(dump(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list) and is_docstring(value[:1]):
            value = value[1:]
        if value is not None and value != []:  # fields that newer versions add are empty where they are not used
            fields.append(f"{name}={dump(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def is_docstring(statements):
    """Whether the first statement is a bare string."""
    return (
        bool(statements)
        and isinstance(statements[0], ast.Expr)
        and isinstance(getattr(statements[0].value, "value", None), str)
    )
