"""Are the stored outputs of a chapter still those of its code?

The fingerprint of a notebook covers its code cells and every segdet module that they reach, followed from
import to import; a chapter that reaches `segdet.results` also depends on the files in results/. Comments,
docstrings, formatting and Markdown change no output, so they change no fingerprint.
"""

import ast
import hashlib
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

PACKAGE = "segdet"
# Written when chapters and checks are run, so no output can depend on them.
STATUS, CHECKS = "book.json", "checks.json"


def fingerprint(notebook, root):
    """The fingerprint of a notebook.

    Parameters
    ----------
    notebook : NotebookNode
    root : Path
        The repository, which holds segdet/ and results/.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    code = [to_python(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    tree = ast.parse("\n".join(code))
    digest = hashlib.sha256(dump(tree).encode())
    modules = reached_modules(tree, root / PACKAGE)
    for name in sorted(modules):
        digest.update(f"\n{name}: {dump(parse(root / PACKAGE / f'{name}.py'))}".encode())
    if "results" in modules:
        for path in sorted(p for p in (root / "results").rglob("*") if p.is_file() and p.name not in (STATUS, CHECKS)):
            digest.update(f"\n{path.relative_to(root).as_posix()}: ".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def to_python(source):
    """A cell as Python: IPython's magics and shell lines become calls."""
    return TransformerManager().transform_cell(source)


def parse(path):
    """The syntax tree of a file."""
    return ast.parse(Path(path).read_text(encoding="utf-8"))


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


def reached_modules(tree, package):
    """The names of the modules in the folder `package` that a syntax tree imports, at any distance."""
    known = {path.stem for path in package.glob("*.py")} - {"__init__"}
    exports = exported_names(parse(package / "__init__.py"), known)
    reached = set()
    waiting = set(known) if runs_command(tree) else imported_modules(tree, known, exports)
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= imported_modules(parse(package / f"{name}.py"), known, exports) - reached
    return reached


def exported_names(tree, known):
    """Which module each public name of `segdet/__init__.py` comes from, imported there at once or lazily.

    A lazy export is found as an entry ``"name": "module"`` of any dictionary in the file.
    """
    exports = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module in known:
            exports.update({alias.asname or alias.name: node.module for alias in node.names})
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                name, module = getattr(key, "value", None), getattr(value, "value", None)
                if isinstance(name, str) and isinstance(module, str) and module.split(".")[-1] in known:
                    exports[name] = module.split(".")[-1]
    return exports


def imported_modules(tree, known, exports):
    """The modules that one file imports; all of them for `import segdet` and for a name of unknown origin."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            if source in (PACKAGE, "."):
                for name in (alias.name for alias in node.names):
                    found |= {name} if name in known else {exports[name]} if name in exports else known
            elif source.startswith((PACKAGE + ".", ".")):
                found |= {source.removeprefix(PACKAGE).lstrip(".").split(".")[0]} & known
        elif isinstance(node, ast.Import):
            for first, _, rest in (alias.name.partition(".") for alias in node.names):
                if first == PACKAGE:
                    found |= {rest.split(".")[0]} & known if rest else known
    return found


def runs_command(tree):
    """Whether a notebook runs the command line, as in `!segdet info scan.dcm`."""
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return any(isinstance(text, str) and text.split(" ")[0] == PACKAGE for text in strings)
