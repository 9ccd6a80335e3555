"""The chapters as they are committed, and the machinery that executes them."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict

import nbformat
import normal
import papermill
import pytest
import questions
import runner
import staleness
from conftest import ROOT
from imports import read_sources
from mending import boxed, mended, png_width
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from segdet_book import PLOTLY_MIME, description, figure_html, fold_claims

from segdet.analysis.claims import in_numbers
from segdet.errors import SegdetError

NOTEBOOKS = runner.chapters(ROOT)
IMAGES = ("image/png", "image/svg+xml", "image/jpeg")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


# --- the chapters


def test_the_table_of_contents_has_every_chapter_in_order():
    assert sorted(NOTEBOOKS) == sorted((ROOT / "book").glob("*.ipynb"))
    numbered = [path for path in NOTEBOOKS if path.stem[0].isdigit()]
    assert numbered == sorted(numbered)


def test_a_chapter_declares_one_parameter(path):
    parameters = papermill.inspect_notebook(path)
    assert list(parameters) == ["profile"]
    assert parameters["profile"]["default"] == "None"


def test_every_cell_was_executed_without_error_or_warning(notebook):
    for cell in code_cells(notebook):
        assert cell.execution_count, f"not executed:\n{cell.source}"
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", f"{cell.source}\nwrote to stderr:\n{output.get('text')}"


def test_what_is_stored_is_normal(notebook):
    """No live widget, no injected parameters, nothing that differs from run to run."""
    before = nbformat.writes(notebook)
    normal.normalise(notebook)
    assert nbformat.writes(notebook) == before
    assert not [cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]


def test_stored_outputs_are_those_of_the_code(path):
    if not runner.is_fresh(path, path, runner.STORED_PROFILE):
        pytest.fail(f"the outputs stored in {path.name} are stale; run: make refresh", pytrace=False)


def test_what_is_written_after_the_chapters_is_no_input_of_theirs(tmp_path):
    for name in ("a.csv", "a/cases.csv", "book.json", "checks.json", "ro-crate-metadata.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {path.relative_to(tmp_path).as_posix() for path in staleness.tables(tmp_path)} == {"a.csv", "a/cases.csv"}


def test_notebooks_are_light():
    """At most 800 KB each and 7 MB in all, for the history keeps every version."""
    sizes = {path.name: path.stat().st_size for path in NOTEBOOKS}
    assert {name: size for name, size in sizes.items() if size > 800_000} == {}
    assert sum(sizes.values()) <= 7_000_000


def test_every_figure_is_described(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if PLOTLY_MIME in data:
                assert description(data[PLOTLY_MIME]), f"set layout.meta['alt'] in:\n{cell.source}"
            elif any(mime in data for mime in IMAGES):
                alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
                assert alt, f"the cell metadata lack mystnb.image.alt:\n{cell.source}"


def has_functions(tree):
    """Whether a package is more than the folder of its modules."""
    return any(isinstance(node, ast.FunctionDef) and not node.name.startswith("_") for node in tree.body)


def test_the_reference_lists_every_module():
    text = (ROOT / "book/api.md").read_text(encoding="utf-8")
    modules = {
        name
        for name, source in read_sources(ROOT).items()
        if source.path.stem != "__main__" and (source.path.stem != "__init__" or has_functions(source.tree))
    }
    listed = [line.split()[-1] for line in text.splitlines() if "automodule::" in line]
    assert sorted(listed) == sorted(modules)


# --- plotly figures


def test_a_figure_cannot_end_its_script_element():
    page = figure_html({"data": [], "layout": {"title": {"text": "a </script> b"}}})
    text = page.split('<script type="application/json">')[1].split("</script>")[0]
    assert json.loads(text) == {"data": [], "layout": {"title": {"text": "a </script> b"}}}
    assert 'aria-label="a &lt;/script&gt; b"' in page


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({"meta": {"alt": "words"}, "title": {"text": "title"}}, "words"),
        ({"title": {"text": "title"}}, "title"),
        ({"title": "old form"}, "old form"),
        ({}, ""),
    ],
)
def test_description(layout, expected):
    assert description({"layout": layout}) == expected


def test_claims_that_hold_are_folded():
    lines = ["IoU 0.7\n", "as the text says: 1 < 2\n", "not so at the profile smoke: 2 < 1\n"]
    outputs = [{"output_type": "stream", "text": text} for text in (lines, ["as the text says: b\n"])]
    cell = {"id": "c", "outputs": [*outputs, {"output_type": "display_data", "data": {}}]}
    (told,) = fold_claims(cell)
    assert "<summary>2 claims of the text hold in these numbers</summary>" in told["source"]
    assert "<ul><li>1 &lt; 2</li><li>b</li></ul>" in told["source"]
    assert [output.get("text") for output in cell["outputs"]] == ["IoU 0.7\nnot so at the profile smoke: 2 < 1\n", None]
    assert fold_claims({"id": "d", "outputs": [{"output_type": "stream", "text": "IoU 0.7\n"}]}) == []


# --- questions


def test_choices_and_what_is_said_of_them():
    text = "- [ ] one | No `a`. - [x] two < 3 | Because\nit is."
    choices = questions.choices_of(" ".join(text.splitlines()))
    assert choices == [(False, "one", "No `a`."), (True, "two < 3", "Because it is.")]
    page = questions.question_html("question-0", "How many?", choices)
    assert page.startswith('<fieldset class="segdet-question"><legend>How many?</legend>')
    assert '<input type="radio" name="question-0" value="1"> two &lt; 3</label>' in page
    assert '<div aria-live="polite"><p>No. No <code>a</code>.</p></div>' in page
    assert "<p>Right. Because it is.</p>" in page


def test_the_answer_about_a_claim_is_that_of_the_study():
    claim = {"measure": "steps saved", "ours": 25.0, "interval": [18.92, 31.08], "seeds": 5, "verdict": "reproduced"}
    choices = questions.verdicts_on(claim, "So.")
    assert [right for right, *_ in choices] == [True, False, False, False]
    assert choices[0][2] == "steps saved: +25.0 (+18.9 to +31.1). So."
    turned = {"measure": "IoU", "ours": -0.0309, "interval": [-0.0378, -0.0239], "seeds": 5, "verdict": "reversed"}
    assert [right for right, *_ in questions.verdicts_on(turned, "")] == [False, True, False, False]
    assert questions.verdicts_on(turned, "")[1][2] == "IoU: -0.031 (-0.038 to -0.024)."
    counted = {"measure": "share of the operations saved", "ours": -20.5827, "interval": [-20.5827] * 2, "seeds": None}
    assert in_numbers(counted) == "share of the operations saved: -20.583 (counted)"


def test_what_is_no_choice_is_not_passed_over():
    assert questions.choices_of("- [x] one | So. - [ ] two") == [(True, "one", "So."), None]
    assert questions.choices_of("- [X] one | So.") == [None]


ASKED = re.compile(r"^```\{segdet-question\} (.+)\n([\s\S]*?)^```$", re.MULTILINE)


@pytest.mark.parametrize("path", runner.chapters(ROOT), ids=lambda path: path.stem)
def test_a_chapter_asks_and_knows_the_answer(path):
    cells = nbformat.read(path, 4).cells
    asked = ASKED.findall("\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))
    assert bool(asked) == path.stem[:2].isdigit()
    verdicts = {c["claim"]: c["verdict"] for c in json.loads((ROOT / questions.CLAIMS).read_text())["claims"]}
    for question, content in asked:
        if claim := re.match(r":claim: (\w+) (\w+)\n", content):
            assert verdicts[claim[1]] == claim[2], f"{question}: the text was written for another verdict"
            assert claim[2] in questions.VERDICTS
        else:
            choices = questions.choices_of(" ".join(content.splitlines()))
            assert len(choices) == 3, question
            assert None not in choices, question
            assert [right for right, *_ in choices].count(True) == 1, question


# --- pages mended after the build


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('<tr><th class="head"><p></p></th><th>a</th></tr>', "<tr><td></td><th>a</th></tr>"),
        ('<summary aria-label="Toggle hidden content">', "<summary>"),
        (
            '<i class="theme-switch fa-sun" data-mode="light"  title="Light"></i>',
            '<i class="theme-switch fa-sun" data-mode="light"></i>',
        ),
        ('<a></a>\n  <script src="../searchindex.js"></script>', "<a></a>"),
        ('<script src="searchindex.js"></script>', '<script src="searchindex.js"></script>'),
        ('<img alt="a"/>', '<img loading="lazy" alt="a"/>'),
        (
            '<img alt="a" src="../_images/a.png"/>',
            '<a class="segdet-figure" href="../_images/a.png"><img loading="lazy" alt="a" src="../_images/a.png"/></a>',
        ),
    ],
)
def test_a_page_is_mended(page, expected):
    assert mended(page) == mended(expected) == expected


def test_a_wide_picture_stands_in_a_box_of_its_own(tmp_path):
    """One of 701 pixels, once, however often the page is mended; one of 700 does not."""
    for name, width in (("wide.png", 701), ("narrow.png", 700)):
        Image.new("L", (width, 2)).save(tmp_path / name)
    (tmp_path / "film.svg").write_text("<svg/>" + " " * 20)
    assert [png_width(tmp_path / name) for name in ("wide.png", "narrow.png", "film.svg")] == [701, 700, 0]
    page = mended("".join(f'<img alt="a" src="../_images/{name}"/>' for name in ("wide.png", "narrow.png", "film.svg")))
    once = boxed(page, lambda name: png_width(tmp_path / name))
    assert once.count("<span") == once.count("</span>") == 1
    assert (
        '<span class="pst-scrollable-table-container segdet-wide"><a class="segdet-figure" href="../_images/wide'
        in once
    )
    assert boxed(mended(once), lambda name: png_width(tmp_path / name)) == once


# --- what outputs depend on


@pytest.fixture
def repository(tmp_path):
    """A package with eager and lazy exports, two packages inside it, and results.

    Its imports: c -> b -> a; train.fit -> train, io.read -> io, io.raw, a; engine -> engine_cpu, engine_gpu.
    """
    files = {
        "segdet/__init__.py": '"""Text."""\nfrom .a import first\nVERSION = "1"\n'
        '_LAZY = {"second": "b", "third": ".c", "load": "segdet.io.read"}\n'
        "def __getattr__(name):\n    return getattr(import_module(f'.{_LAZY[name]}', __name__), name)\n",
        "segdet/a.py": '"""Text."""\n\n\ndef first():\n    """Text."""\n    return 1\n',
        "segdet/b.py": "from . import a, VERSION\n",
        "segdet/c.py": "def late():\n    from .b import a\n",
        "segdet/apart.py": "X = 1\n",
        "segdet/engine.py": "def start(name):\n    return importlib.import_module(f'.engine_{name}', __package__)\n",
        "segdet/engine_cpu.py": "",
        "segdet/engine_gpu.py": "",
        "segdet/io/__init__.py": "from .raw import parse\n",
        "segdet/io/raw.py": "from ..a import first\n",
        "segdet/io/read.py": "from . import parse\n",
        "segdet/train/__init__.py": "",
        "segdet/train/fit.py": "from ..io.read import *\n",
        "segdet/experiments/__init__.py": "",
        "segdet/experiments/study.py": "import json\n",
        "segdet/.ipynb_checkpoints/a-checkpoint.py": "",
        "results/bench.json": "{}",
        "results/book.json": "{}",
        "results/laptop/runs.csv": "1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path


IO = {"io", "io.raw", "io.read"}
ALL = {
    "a",
    "b",
    "c",
    "apart",
    "engine",
    "engine_cpu",
    "engine_gpu",
    "train",
    "train.fit",
    "experiments",
    "experiments.study",
} | IO


def inputs_of(cells, root):
    notebook = new_notebook(cells=[new_markdown_cell("# T"), *map(new_code_cell, cells)])
    return staleness.inputs_of(notebook, root)


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        ("from segdet import first", set()),
        ("from segdet import second", {"b"}),
        ("from segdet import third", {"b", "c"}),
        ("from segdet import load", IO),
        ("from segdet import VERSION", set()),
        ("from segdet import apart", {"apart"}),
        ("from segdet.c import anything", {"b", "c"}),
        ("def late():\n    import segdet.b as b", {"b"}),
        ("from segdet.engine import start", {"engine", "engine_cpu", "engine_gpu"}),
        ("from segdet.io import parse", {"io", "io.raw"}),
        ("from segdet.io import unheard_of", IO),
        ("from segdet import io", IO),
        ("import segdet.io as io", IO),
        ("from segdet.train.fit import fit", {"train", "train.fit"} | IO),
        ("import segdet", ALL),
        ("import segdet.b", ALL),
        ("from segdet import *", ALL),
        ("from segdet import unheard_of", ALL),
        ("!segdet info scan.dcm", ALL),
        ("!python -m segdet info scan.dcm", ALL),
        ("!{sys.executable} -m segdet info {scan}", ALL),
        ("!torchrun --nproc-per-node 2 -m segdet fit", ALL),
        ("%%bash\nSEGDET_PROFILE=smoke segdet plan", ALL),
        ("%run ../segdet/b.py", ALL),
        ("subprocess.run(['segdet', 'info'])", ALL),
        ("subprocess.run(f'{python} -m segdet info', shell=True)", ALL),
        ("!python -m segdet.io", IO),
        ("importlib.import_module('segdet.b')", {"b"}),
        ("import_module('.b', 'segdet')", ALL),
        ("__import__('segdet.io.raw')", {"io", "io.raw"}),
        ("%matplotlib inline\nfrom segdet import apart", {"apart"}),
    ],
)
def test_reached_modules(repository, code, reached):
    files = [name for name in inputs_of([code], repository) if name.startswith("segdet/")]
    found = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files}
    assert found == {"segdet", "segdet.a", *(f"segdet.{name}" for name in reached)}  # segdet itself imports a


@pytest.mark.parametrize("code", ["import numpy", "from segdet_tools import x", "print('segdetector')", "x = ("])
def test_other_code_reaches_no_module(repository, code):
    assert list(inputs_of([code], repository)) == ["code cells"]


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("segdet/a.py", "def first():\n    return 2\n", True),
        ("segdet/a.py", '"""New words."""\n\n\ndef first():  # why\n    """More."""\n    return 1\n', False),
        ("segdet/a.py", "def first(:\n", True),
        ("segdet/b.py", "from . import a\n\nY = None\n", True),
        ("segdet/__init__.py", "from .a import first as second\n", True),
        ("segdet/apart.py", "X = 2\n", False),
        ("results/laptop/runs.csv", "2\n", False),
    ],
)
def test_what_makes_a_chapter_stale(repository, file, text, changes):
    before = inputs_of(["from segdet.b import a"], repository)
    (repository / file).write_text(text)
    after = inputs_of(["from segdet.b import a"], repository)
    assert [name for name in before if before[name] != after[name]] == ([file] if changes else [])


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (["x = 1"], ["x = 1  # why", ""], False),
        (["x = 1"], ["x = 2"], True),
        (["x = (", "y"], ["x = (", "z"], True),
        (["x\ny"], ["x", "y"], True),  # now the first is shown too
        (["x"], ["x;"], True),  # now it is not
        (["'one'"], ["'two'"], True),  # no docstring, for it is shown
        (["%pip list"], ["%pip check"], True),
    ],
)
def test_which_edits_of_cells_count(repository, before, after, changes):
    assert (inputs_of(before, repository) != inputs_of(after, repository)) is changes


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("bench.json", True),
        ("laptop/runs.csv", True),
        ("laptop/manifest.json", True),
        ("book.json", False),
        ("checks.json", False),
        ("laptop/.0a1b2c3d.runs.csv", False),
        ("laptop/notes.txt", False),
        ("laptop/checkpoints/0-unet.safetensors", False),
        ("laptop/checkpoints/0-unet.json", False),
    ],
)
def test_the_tables_of_the_results_count_for_a_chapter_that_reads_them(repository, file, counts):
    path = repository / "results" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("new")
    for code in (
        "Study('../results/laptop'), '../results/bench.json'",
        "f'../results/{name}'",
        "Path('results') / name",
    ):
        assert (f"results/{file}" in inputs_of([code], repository)) is counts
    for code in ("from segdet import apart", "Study('../results/laptop-plain')", "'the results/lap'"):
        assert f"results/{file}" not in inputs_of([code], repository)


def test_the_results_count_for_every_chapter_that_names_them():
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in NOTEBOOKS}
    naming = {name for name, book in notebooks.items() if any("results/" in cell.source for cell in code_cells(book))}
    assert naming >= {"05-detector", "06-attention", "07-unet3d", "08-segmenter", "09-cascade", "10-ablation"}
    read = {
        name: [file for file in staleness.inputs_of(notebooks[name], ROOT) if "results/" in file] for name in naming
    }
    assert all(read.values())
    assert "results/laptop/runs.csv" in read["06-attention"]
    assert "results/bench.json" in read["07-unet3d"]
    assert not any(file.startswith("results/real-2-long/") for file in read["10-ablation"])


# --- execution


@pytest.fixture
def write(tmp_path):
    """Write a notebook with these code cells below one heading and return its path."""

    def write_notebook(*sources):
        cells = [new_markdown_cell("# A title\n\n## A section"), *(new_code_cell(text) for text in sources)]
        for number, cell in enumerate(cells):
            cell["id"] = f"cell-{number}"
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = tmp_path / "01-trial.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
        return path

    return write_notebook


def append(path, text):
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def test_execution_stores_the_same_bytes_twice(write, monkeypatch):
    monkeypatch.setenv("SEGDET_PROFILE", "smoke")
    pieces = "display({'text/html': ['a', 'b']}, raw=True)"  # of which a file makes one
    path = write("import os\nprint(os.environ['SEGDET_PROFILE'])\nprint(object())", "# only words\n1 + 1", pieces)
    lines = []
    runner.execute(path, path, "smoke", say=lines.append)
    once = path.read_bytes()
    runner.execute(path, path, "smoke", say=lines.append)
    assert path.read_bytes() == once
    assert runner.is_fresh(path, path, "smoke")
    first, second, _ = nbformat.read(path, as_version=4).cells[1:]
    assert first.outputs[0].text == "smoke\n<object object at 0x...>\n"
    assert [first.execution_count, second.execution_count] == [1, 2]
    assert second.outputs[0].data["text/plain"] == "2"
    assert any("A section | import os" in line for line in lines)
    assert any("A section | 1 + 1" in line for line in lines)


@pytest.mark.parametrize(
    ("cells", "cell", "words"),
    [
        (("x = 1", "1 / 0"), "cell 3 (A section | 1 / 0)", "ZeroDivisionError: division by zero"),
        (("raise SystemExit(0)", "x = 1"), "cell 3 (A section | x = 1)", "did not run"),
        (("import os\nos._exit(1)",), "cell 2 (A section | import os)", "DeadKernelError"),
    ],
)
def test_a_failing_chapter_is_named_and_not_stored(write, cells, cell, words):
    path = write(*cells)
    before = path.read_bytes()
    with pytest.raises(runner.BookError) as caught:
        runner.execute(path, path, "smoke", say=lambda line: None)
    assert f"FAILED 01-trial.ipynb, {cell}" in str(caught.value)
    assert words in str(caught.value)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("edited", "text"),
    [
        ("01-trial.ipynb", "\n"),
        ("segdet/b.py", "Y = 1\n"),
        ("segdet/io/raw.py", "half an ed"),
        ("results/laptop/runs.csv", "2\n"),
    ],
)
def test_an_edit_during_the_run_is_refused(write, repository, monkeypatch, edited, text):
    monkeypatch.setattr(runner, "ROOT", repository)
    path = write("if False:\n    from segdet import second, load\n    Study('../results/laptop')")
    target = repository / "_build/01-trial.ipynb"
    with pytest.raises(runner.BookError) as caught:
        runner.execute(path, target, "smoke", say=lambda line: append(repository / edited, text))
    assert str(caught.value) == (
        f"01-trial.ipynb: the outputs are not stored, for {edited} changed during the run; run it again"
    )
    assert not target.exists()


def test_an_edit_of_something_else_during_the_run_does_not_matter(write, repository, monkeypatch):
    monkeypatch.setattr(runner, "ROOT", repository)
    path = write("if False:\n    from segdet import second")
    runner.execute(path, path, "smoke", say=lambda line: append(repository / "segdet/apart.py", "Y = 1\n"))
    assert "Y = 1" in (repository / "segdet/apart.py").read_text()
    assert runner.is_fresh(path, path, "smoke")


def test_a_damaged_notebook_is_named(write):
    path = write("1")
    path.write_text("<<<<<<< HEAD\n" + path.read_text())
    with pytest.raises(runner.BookError, match=r"^\S+01-trial\.ipynb: cannot be read as a notebook; [^\n]+$"):
        runner.is_fresh(path, path, "smoke")


def test_normalise_drops_what_differs_between_runs():
    widget = new_output("display_data", {normal.WIDGET_VIEW: {"model_id": "1f"}, "text/plain": "interactive()"})
    streams = [new_output("stream", name="stdout", text=text) for text in ("a <X at 0x7f00aa11>\n", "b\n")]
    cell = new_code_cell("x", outputs=[widget, *streams], execution_count=3)
    cell.metadata.update(execution={"started": "now"}, papermill={"duration": 1}, tags=["kept"])
    notebook = new_notebook(cells=[cell], metadata={"widgets": {}, "papermill": {}, "title": "kept"})
    normal.normalise(notebook)
    assert [output.text for output in cell.outputs] == ["a <X at 0x...>\nb\n"]
    assert cell.metadata == {"tags": ["kept"]}
    assert cell.execution_count == 3
    assert set(notebook.metadata) == {"title", "kernelspec", "language_info"}


def test_pictures_that_others_may_not_pass_on_are_never_stored():
    outputs = [new_output("stream", name="stdout", text="infant"), new_output("display_data", {"image/png": "iVBO"})]
    cells = [new_code_cell("x", outputs=list(outputs), metadata={"tags": tags}) for tags in (["not-stored"], [])]
    normal.normalise(new_notebook(cells=cells[:1]))
    assert cells[0].outputs == []
    cells[1].outputs.pop()
    normal.normalise(new_notebook(cells=cells[1:]))
    assert len(cells[1].outputs) == 1


def test_only_such_cells_read_pictures_of_infants(notebook):
    """So a refresh with the pictures at hand stores the same as one without."""
    for cell in code_cells(notebook):
        reads = "read_infants(" in cell.source or "load_pictures(" in cell.source
        assert not reads or normal.NOT_STORED in cell.metadata.get("tags", []), cell.source


@pytest.fixture
def book(write, repository, monkeypatch):
    """A repository with one committed chapter: its root, and the chapter."""
    path = write("print(1)")
    root = path.parent
    (root / "book").mkdir()
    committed = shutil.move(path, root / "book" / path.name)
    (root / "book/intro.md").write_text("# Title\n")
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/intro\nchapters:\n  - file: book/01-trial\n")
    (root / "_config.yml").write_text("title: T\n")
    (root / ".gitignore").write_text("_build/\n")
    monkeypatch.setattr(runner, "ROOT", root)
    monkeypatch.setattr(runner, "build", lambda source, page=None: None)
    monkeypatch.setattr(runner, "choose_profile", lambda root, named, left: (named, defaultdict(float)))
    monkeypatch.setattr(runner, "foretell", lambda *_: defaultdict(float))
    monkeypatch.setattr(runner, "beside_networks", lambda *_: lambda name, seconds: {"rest": seconds})
    for name in (*runner.KERNEL_ENVIRONMENT, "SEGDET_PROFILE"):
        monkeypatch.setenv(name, "")  # the execution sets them; this restores what was there
    git = ["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    return root, committed


def changed(root):
    """What git sees of changes in a checkout."""
    done = subprocess.run(["git", "-C", str(root), "status", "--porcelain"], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("profile", ["smoke", runner.STORED_PROFILE])
def test_a_readers_book_leaves_the_checkout_clean_and_goes_on_where_it_stopped(book, profile, capsys):
    root, committed = book
    runner.read_book([], profile)
    assert changed(root) == ""
    staged = runner.stage(profile)
    assert nbformat.read(staged / "book/01-trial.ipynb", 4).metadata.segdet.profile == profile
    assert json.loads((staged / "results/book.json").read_text())["01-trial"]["profile"] == profile
    assert "1 chapters executed" in capsys.readouterr().out
    runner.read_book([], profile)
    said = capsys.readouterr().out
    assert "executed before and kept: 01-trial" in said
    assert "0 chapters executed" in said
    committed.write_text(committed.read_text().replace("print(1)", "print(2)"))
    runner.read_book([], profile)
    assert "1 chapters executed" in capsys.readouterr().out


WITHOUT_NETWORK = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),  # it refuses
    **dict.fromkeys(("no_proxy", "NO_PROXY", "SEGDET_VGG16"), ""),
    "SEGDET_PROFILE": "smoke",
}


def test_the_readers_command_itself_without_network_and_weights(write, tmp_path):
    """What `make book` runs, in a checkout with one chapter; `make test` then finds the stored outputs as before."""
    root = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.ipynb", "*.md")
    for name in ("book", "segdet"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in (".gitignore", "_config.yml"):
        shutil.copy(ROOT / name, root)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/intro\nchapters:\n  - file: book/01-trial\n")
    (root / questions.CLAIMS).parent.mkdir(parents=True)
    shutil.copy(ROOT / questions.CLAIMS, root / questions.CLAIMS)
    verdict = json.loads((ROOT / questions.CLAIMS).read_text())["claims"][0]["verdict"]
    asked = f"```{{segdet-question}} Is it better?\n:claim: 1 {verdict}\n```\n"
    (root / "book/intro.md").write_text(f"# Title\n\n{asked}")
    cell = "import warnings\nfrom segdet.rpn import RPN\n"
    cell += "warnings.simplefilter('ignore')\nprint('weights:', RPN(backbone='resnet18').load_imagenet())"
    committed = shutil.move(write(cell), root / "book/01-trial.ipynb")
    git = ["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    inputs = staleness.inputs_of(nbformat.read(committed, 4), root)

    places = {"PYTHONPATH": str(root), "TORCH_HOME": str(tmp_path / "torch"), "SEGDET_CACHE": str(root / "data/cache")}
    command = [sys.executable, "book/_tools/runner.py", "book"]
    environment = os.environ | WITHOUT_NETWORK | places
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "weights: random" in (root / "_build/html/book/01-trial.html").read_text()
    assert "Is it better?" in (root / "_build/html/book/intro.html").read_text()
    assert changed(root) == ""
    assert staleness.inputs_of(nbformat.read(committed, 4), root) == inputs


def test_new_prose_reaches_a_readers_page_without_running_the_chapter_again(book, capsys):
    _, committed = book
    runner.read_book([], "smoke")
    notebook = nbformat.read(committed, 4)
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell("New prose."))
    nbformat.write(notebook, committed)
    runner.read_book([], "smoke")
    assert "0 chapters executed" in capsys.readouterr().out
    cells = nbformat.read(runner.stage("smoke") / "book/01-trial.ipynb", 4).cells
    assert cells[0].source == "New prose."
    assert [cell.outputs[0].text for cell in cells if cell.cell_type == "code"][-1] == "1\n"


def test_one_page_shows_an_edit(book, capsys, monkeypatch):
    """An edit of text executes nothing and renews no file but its own, at the profile whose book was built last."""
    root, committed = book
    shown = []
    monkeypatch.setattr(runner, "build", lambda source, page: shown.append((source, page)))
    runner.read_page("01", "smoke")
    assert "1 chapters executed" in capsys.readouterr().out
    staged = root / "_build/stage-smoke"
    dates = {path: path.stat().st_mtime_ns for path in staged.rglob("*") if path.is_file()}
    notebook = nbformat.read(committed, 4)
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell("New prose."))
    nbformat.write(notebook, committed)
    runner.read_page("01-trial", None)
    assert capsys.readouterr().out == ""
    assert [path.name for path, date in dates.items() if path.stat().st_mtime_ns != date] == ["01-trial.ipynb"]
    assert "New prose." in (staged / "book/01-trial.ipynb").read_text()
    committed.write_text(committed.read_text().replace("print(1)", "print(2)"))
    runner.read_page("01", None)
    assert "1 chapters executed" in capsys.readouterr().out
    assert shown == [(staged, "01-trial")] * 3


def test_a_staged_book_has_what_is_committed_where_nothing_was_executed(book):
    root, committed = book
    (root / "book/old.md").write_text("# Old\n")
    (root / questions.CLAIMS).parent.mkdir()
    (root / questions.CLAIMS).write_text('{"claims": []}')
    staged = runner.stage("smoke")
    assert (staged / questions.CLAIMS).read_text() == '{"claims": []}'  # which a page reads while it is built
    assert (staged / "book/01-trial.ipynb").read_bytes() == committed.read_bytes()
    (root / "book/old.md").unlink()
    assert runner.stage("smoke") == staged
    assert not (staged / "book/old.md").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("7", "no page of 01-trial, intro"), ("", "more than one page of 01-trial")]
)
def test_a_page_that_is_not_there_is_named(book, name, words):
    with pytest.raises(runner.BookError, match=rf"^CHAPTER={name} is {words}"):
        runner.read_page(name, "smoke")


def test_refresh_renews_what_is_committed_where_it_is_stale(book):
    root, committed = book
    runner.refresh([])
    assert runner.is_fresh(committed, committed, runner.STORED_PROFILE)
    row = json.loads((root / "results/book.json").read_text())["01-trial"]
    assert row["profile"] == runner.STORED_PROFILE
    assert row["rest"] == row["seconds"] > 0
    assert row["gib"] > 0
    before = committed.read_bytes()
    runner.refresh([])
    assert committed.read_bytes() == before
    committed.write_text(before.decode().replace('"1\\n"', '"7\\n"'))
    assert nbformat.read(committed, 4).cells[1].outputs[0].text == "7\n"
    assert not runner.is_fresh(committed, committed, runner.STORED_PROFILE)
    committed.write_bytes(before)
    assert not runner.is_fresh(committed, committed, "paper")
    committed.write_text(committed.read_text().replace("print(1)", "print(2)"))
    assert not runner.is_fresh(committed, committed, runner.STORED_PROFILE)


def test_a_full_disk_leaves_the_status_page_as_it_was(book, monkeypatch):
    root, committed = book
    status = root / "results/book.json"
    monkeypatch.setattr(runner, "execute", lambda *_, **__: {"seconds": 1.0, "gib": 0.5})
    runner.execute_chapters([committed], root / "book", status, "smoke", {committed.stem: 2.0})
    before = status.read_text()
    assert json.loads(before)["01-trial"]["profile"] == "smoke"

    def write_half(path, text, **_):
        with open(path, "w") as file:
            file.write(text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", write_half)
    with pytest.raises(SegdetError, match="No space left on device"):
        runner.execute_chapters([committed], root / "book", status, "quick", {committed.stem: 2.0})
    assert status.read_text() == before


def test_a_long_cell_says_what_it_does_and_its_output_stays_free_of_it(write, monkeypatch):
    monkeypatch.setenv("SEGDET_STATIC", "1")
    monkeypatch.setattr("watch.QUIET", 1)
    code = "from segdet.runtime import progress\nprogress.EVERY = 0.5\nimport time\n"
    code += "for _ in progress.progress(range(8), 'detector', unit='steps'):\n    time.sleep(0.3)\n"
    path = write(code, "import time\ntime.sleep(4)")
    lines = []
    runner.execute(path, path, "smoke", say=lines.append)
    assert any("detector: " in line and "of 8 steps" in line for line in lines)
    assert any("in cell 3 of 3, A section | import time" in line for line in lines)
    assert all(not cell.outputs for cell in nbformat.read(path, as_version=4).cells[1:])


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def stop(page, profile):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "make_book", stop)
    monkeypatch.setattr(sys, "argv", ["runner.py", "book"])
    with pytest.raises(SystemExit) as ended:
        runner.main()
    assert ended.value.code == 130
    said = "interrupted; chapters and trainings are kept, and the same command goes on from there\n"
    assert capsys.readouterr() == ("", said)


def test_an_unknown_chapter_or_a_missing_file_is_named(repository):
    (repository / "_toc.yml").write_text("format: jb-book\nroot: book/intro\n")
    with pytest.raises(runner.BookError, match=r"_toc\.yml names book/intro, but there is no book/intro\.ipynb"):
        runner.chapters(repository)
