"""The chapters as they are committed, and the machinery that executes them."""

import json
import shutil
import subprocess

import nbformat
import normal
import papermill
import pytest
import runner
import staleness
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from segdet_book import PLOTLY_MIME, description, figure_html

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


def test_every_figure_is_described(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if PLOTLY_MIME in data:
                assert description(data[PLOTLY_MIME]), f"set layout.meta['alt'] in:\n{cell.source}"
            elif any(mime in data for mime in IMAGES):
                alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
                assert alt, f"the cell metadata lack mystnb.image.alt:\n{cell.source}"


def test_the_reference_lists_every_module():
    text = (ROOT / "book/api.md").read_text(encoding="utf-8")
    modules = {f"segdet.{path.stem}" for path in (ROOT / "segdet").glob("*.py")} - {
        "segdet.__init__",
        "segdet.__main__",
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


# --- the fingerprint


@pytest.fixture
def repository(tmp_path):
    """A package with a chain c -> b -> a, a module apart, results, and eager and lazy exports."""
    files = {
        "segdet/__init__.py": 'from .a import first\n_LAZY = {"second": "b", "third": ".c"}\n',
        "segdet/a.py": '"""Text."""\n\n\ndef first():\n    """Text."""\n    return 1\n',
        "segdet/b.py": "from . import a\n",
        "segdet/c.py": "from .b import a\n",
        "segdet/apart.py": "X = 1\n",
        "segdet/results.py": "import json\n",
        "results/run.csv": "1\n",
        "results/book.json": "{}",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def fingerprint_of(code, root):
    return staleness.fingerprint(new_notebook(cells=[new_markdown_cell("# T"), new_code_cell(code)]), root)


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        ("import numpy", set()),
        ("from segdet import first", {"a"}),
        ("from segdet import second", {"a", "b"}),
        ("from segdet import third", {"a", "b", "c"}),
        ("from segdet.c import anything", {"a", "b", "c"}),
        ("from segdet import apart", {"apart"}),
        ("import segdet.b as b", {"a", "b"}),
        ("import segdet", {"a", "b", "c", "apart", "results"}),
        ("from segdet import unheard_of", {"a", "b", "c", "apart", "results"}),
        ("!segdet info scan.dcm", {"a", "b", "c", "apart", "results"}),
        ("%matplotlib inline\nfrom segdet import apart", {"apart"}),
    ],
)
def test_reached_modules(repository, code, reached):
    tree = staleness.ast.parse(staleness.to_python(code))
    assert staleness.reached_modules(tree, repository / "segdet") == reached


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("segdet/a.py", "def first():\n    return 2\n", True),
        ("segdet/a.py", '"""New words."""\n\n\ndef first():  # why\n    """More."""\n    return 1\n', False),
        ("segdet/b.py", "from . import a\n\nY = None\n", True),
        ("segdet/apart.py", "X = 2\n", False),
        ("results/run.csv", "2\n", False),
    ],
)
def test_what_makes_a_chapter_stale(repository, file, text, changes):
    before = fingerprint_of("from segdet.b import a", repository)
    (repository / file).write_text(text)
    assert (fingerprint_of("from segdet.b import a", repository) != before) is changes


def test_a_comment_in_a_cell_changes_nothing_and_code_does(repository):
    before = fingerprint_of("x = 1", repository)
    assert fingerprint_of("x = 1  # why", repository) == before
    assert fingerprint_of("x = 2", repository) != before


def test_results_count_for_a_chapter_that_reads_them(repository):
    before = fingerprint_of("from segdet import results", repository)
    (repository / "results/book.json").write_text('{"seconds": 1}')
    assert fingerprint_of("from segdet import results", repository) == before
    (repository / "results/run.csv").write_text("2\n")
    assert fingerprint_of("from segdet import results", repository) != before


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


def test_execution_stores_the_same_bytes_twice(write, monkeypatch):
    monkeypatch.setenv("SEGDET_PROFILE", "smoke")
    path = write("import os\nprint(os.environ['SEGDET_PROFILE'])\nprint(object())", "# only words\n1 + 1")
    lines = []
    runner.execute(path, path, "smoke", say=lines.append)
    once = path.read_bytes()
    runner.execute(path, path, "smoke", say=lines.append)
    assert path.read_bytes() == once
    first, second = nbformat.read(path, as_version=4).cells[1:]
    assert first.outputs[0].text == "smoke\n<object object at 0x...>\n"
    assert [first.execution_count, second.execution_count] == [1, 2]
    assert second.outputs[0].data["text/plain"] == "2"
    assert "A section | import os" in lines[0]
    assert "A section | 1 + 1" in lines[1]


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
    monkeypatch.setattr(runner, "build", lambda source: None)
    monkeypatch.setattr(runner, "choose_profile", lambda root, named, left: named)
    monkeypatch.setattr(runner, "foretell", lambda *_: None)
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
    committed.write_text(committed.read_text().replace("print(1)", "print(2)"))
    assert not runner.is_fresh(committed, committed, runner.STORED_PROFILE)


def test_a_long_cell_says_what_it_does_and_its_output_stays_free_of_it(write, monkeypatch):
    monkeypatch.setenv("SEGDET_STATIC", "1")
    monkeypatch.setattr("watch.QUIET", 1)
    code = "from segdet import progress\nprogress.EVERY = 0.5\nimport time\n"
    code += "for _ in progress.progress(range(8), 'detector', unit='steps'):\n    time.sleep(0.3)\n"
    path = write(code, "import time\ntime.sleep(4)")
    lines = []
    runner.execute(path, path, "smoke", say=lines.append)
    assert any("detector: " in line and "of 8 steps" in line for line in lines)
    assert any("in cell 3 of 3, A section | import time" in line for line in lines)
    assert all(not cell.outputs for cell in nbformat.read(path, as_version=4).cells[1:])


def test_an_unknown_chapter_or_a_missing_file_is_named(repository):
    (repository / "_toc.yml").write_text("format: jb-book\nroot: book/intro\n")
    with pytest.raises(runner.BookError, match=r"_toc\.yml names book/intro, but there is no book/intro\.ipynb"):
        runner.chapters(repository)
