"""The package as a house: wings stand on the ground floor, nothing looks up, nothing runs in a circle."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT
from imports import imported_names, modules_behind, read_sources

# From the basement up. What the book teaches is the ground floor, the modules that lie in no wing.
FLOORS = "runtime", "ground", "io", "phantom", "training", "export"
FLOORS += "experiments", "analysis", "infants", "exercises", "figures", "bench", "cli"
SOURCES = read_sources(ROOT)


def floor(module):
    """The number of a module's floor; errors belong to the basement, the package itself and its command to the roof."""
    parts = module.split(".")
    if module == "segdet.errors":
        return 0
    if module in ("segdet", "segdet.__main__"):
        return len(FLOORS)
    return FLOORS.index(parts[1] if parts[1] in FLOORS else "ground")


def imported(module):
    """The modules that a module imports, inside its functions too, without the packages that lie around them."""
    source, found = SOURCES[module], set()
    for name in imported_names(source.tree, source.package):
        behind = modules_behind(name, SOURCES)
        found |= {m for m in behind if not any(other.startswith(f"{m}.") for other in behind)}
    return found - {module, "segdet"}


@pytest.mark.parametrize("module", sorted(SOURCES.keys() - {"segdet"}))
def test_nothing_looks_up(module):
    above = [name for name in imported(module) if floor(name) > floor(module)]
    assert above == [], f"{module} imports {above}"


def test_nothing_runs_in_a_circle():
    left = {module: imported(module) for module in SOURCES if module != "segdet"}
    while done := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in done:
            del left[module]
    assert left == {}


@pytest.mark.parametrize("module", sorted(SOURCES.keys() - {"segdet"}))
def test_files_are_short(module):
    lines = SOURCES[module].path.read_text().count("\n")
    assert lines <= 300, f"{module} has {lines} lines"


@pytest.mark.parametrize("module", sorted(SOURCES.keys() - {"segdet"}))
def test_functions_are_short(module):
    """Lines from the first statement to the last; the signature and what the docstring explains are not counted."""
    long = []
    for node in ast.walk(SOURCES[module].tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and (lines := body[-1].end_lineno - body[0].lineno + 1) > 60:
                long.append(f"{node.name} has {lines} lines")
    assert long == []


LIGHT = """
import sys
import segdet
assert not {"numpy", "torch"} & sys.modules.keys(), "import segdet"
from segdet import load_volume
load_volume(sys.argv[1])
print(*({"torch", "torchvision", "pydicom", "highdicom", "matplotlib"} & sys.modules.keys()))
"""


def test_a_nifti_is_read_without_torch_and_pydicom(tmp_path):
    nibabel, np = pytest.importorskip("nibabel"), pytest.importorskip("numpy")
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)), path)
    done = subprocess.run([sys.executable, "-c", LIGHT, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")
