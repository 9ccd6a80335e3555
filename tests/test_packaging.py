"""pyproject.toml, requirements.lock and environment.yml agree, and the lock pins everything with hashes."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from imports import read_sources
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# One entry: name==version, perhaps a marker, then its continuation lines.
ENTRIES = re.findall(r"^(\S+)==(\S+)([^\n]*)\n((?:[ \t]+[^\n]*\n)*)", LOCK, re.MULTILINE)


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def required(project):
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(line for extra in extras for line in extra)]


def test_the_lock_has_nothing_but_pinned_packages():
    first_lines = [line for line in LOCK.splitlines() if line and not line[0].isspace()]
    assert len(first_lines) == len(ENTRIES) > 100
    assert "://" not in LOCK


def test_every_locked_file_has_a_hash():
    for name, _, _, continuation in ENTRIES:
        hashes = [line.strip(" \t\\") for line in continuation.splitlines()]
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes), name


def test_the_lock_satisfies_every_requirement(required):
    locked = {}
    for name, version, _, _ in ENTRIES:
        locked.setdefault(canonicalize_name(name), []).append(version)
    for requirement in map(Requirement, required):
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not in requirements.lock; run: make lock"
        for version in versions:
            assert requirement.specifier.contains(version), f"{requirement} but {version} is locked; run: make lock"


def test_no_requirement_is_named_twice(required):
    names = [canonicalize_name(Requirement(line).name) for line in required]
    assert len(names) == len(set(names))


def test_environment_yml_has_the_same_requirements(required):
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (pip,) = (item["pip"] for item in dependencies if isinstance(item, dict))
    assert sorted(pip) == sorted([*required, "--editable ."])


def test_the_python_of_environment_yml_is_supported(project):
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (python,) = (item for item in dependencies if isinstance(item, str) and item.startswith("python="))
    assert SpecifierSet(project["requires-python"]).contains(python.removeprefix("python="))


def test_make_setup_finds_its_installer_in_the_lock():
    from bootstrap import NEEDED

    names = {name for name, *_ in ENTRIES}
    assert {"uv", "setuptools"} <= names  # setuptools: segdet is installed without build isolation
    assert NEEDED == (3, 11)


IMPORT_ALL = "import sys, importlib, segdet; [importlib.import_module(n) for n in sys.argv[1:]]; print(segdet.__file__)"


def test_the_wheel_holds_every_module_and_each_is_imported_from_it(tmp_path):
    source, installed = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(ROOT / "segdet", source / "segdet", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=source, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("segdet-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    names = [
        ".".join(path.relative_to(installed).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(installed.glob("segdet/**/*.py"))
        if path.name != "__main__.py"  # which would run the command
    ]
    assert {*names, "segdet.__main__"} == read_sources(ROOT).keys()
    models = {path.name for path in installed.glob("segdet/models/hip-small/*")}
    assert models == {"segmenter.onnx", "exported.json", "card.json"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names],
        env=os.environ | {"PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed)
