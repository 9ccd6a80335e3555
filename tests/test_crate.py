"""The RO-Crate of results/: it names what is there, and nothing else."""

import hashlib
import json

import crate
import pytest
from conftest import ROOT

RESULTS = ROOT / "results"


@pytest.fixture
def committed():
    return json.loads((RESULTS / crate.CRATE).read_text())


def test_every_table_is_there_with_its_checksum(committed):
    files = {entry["@id"]: entry for entry in committed["@graph"] if entry["@type"] == "File"}
    there = {path.relative_to(RESULTS).as_posix() for path in RESULTS.glob("**/*") if path.suffix in (".csv", ".json")}
    assert set(files) == there - {crate.CRATE, "book.json", "checks.json"}
    for name, entry in files.items():
        content = (RESULTS / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest(), f"{name}: run book/_tools/crate.py"
        assert int(entry["contentSize"]) == len(content)


def test_every_reference_leads_somewhere(committed):
    """All that RO-Crate 1.1 asks for: one descriptor, one root, and no entry that is named and missing."""
    entries = {entry["@id"]: entry for entry in committed["@graph"]}
    assert len(entries) == len(committed["@graph"])
    assert entries[crate.CRATE]["about"] == {"@id": "./"}
    assert {"name", "description", "datePublished", "license"} <= entries["./"].keys()

    def references(value):
        if isinstance(value, list):
            return [name for item in value for name in references(item)]
        return [value["@id"]] if isinstance(value, dict) else []

    named = {name for entry in entries.values() for value in entry.values() for name in references(value)}
    assert {name for name in named if not name.startswith("https:")} == entries.keys() - {
        crate.CRATE,
        *(name for name in entries if name.startswith("#run-")),
    }


def test_a_changed_table_changes_the_crate(tmp_path):
    (tmp_path / "a").mkdir()
    for name, text in (("a/cases.csv", "seed\n0\n"), ("a/manifest.json", '{"profile": "quick"}'), ("a/notes.txt", "")):
        (tmp_path / name).write_text(text)
    before = crate.crate(tmp_path, "2026-01-02")
    names = [entry["@id"] for entry in before["@graph"]]
    assert names == [crate.CRATE, "./", "#segdet", "a/", "#run-a", "a/cases.csv", "a/manifest.json"]
    assert before["@graph"][3]["description"] == "profile quick"
    (tmp_path / "a/cases.csv").write_text("seed\n1\n")
    after = crate.crate(tmp_path, "2026-01-02")
    assert [a["@id"] for a, b in zip(after["@graph"], before["@graph"], strict=True) if a != b] == ["a/cases.csv"]
