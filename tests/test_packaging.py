"""pyproject.toml, requirements.lock and environment.yml agree, and the lock pins everything with hashes."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from importlib.metadata import distribution, requires
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "segdet", folder / "segdet", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, check=True)
    return next(folder.glob("dist/segdet-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The wheel in a virtual environment that holds nothing else but what its own metadata require."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*install, "--python", folder, wheel], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (metadata,) = packages.glob("segdet-*.dist-info/METADATA")
    for name in with_their_own(message_from_string(metadata.read_text(encoding="utf-8")).get_all("Requires-Dist")):
        for top in {file.parts[0] for file in distribution(name).files} - {"..", "__pycache__"}:
            link, target = packages / top, Path(distribution(name).locate_file(top))
            if target.exists() and not link.exists():
                link.symlink_to(target)
    return folder


def with_their_own(lines):
    """The names of what requirements need, and of what these need in turn, where this machine's markers ask for it."""
    names, waiting = set(), [(line, "") for line in lines]
    while waiting:
        line, extra = waiting.pop()
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            name = canonicalize_name(requirement.name)
            if name not in names:
                names.add(name)
                waiting += [(other, each) for other in requires(name) or () for each in {"", *requirement.extras}]
    return names


def test_the_wheel_holds_every_module_and_what_they_read(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("segdet/")}
    kept = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("segdet/**/*") if path.is_file()}
    assert names == {name for name in kept if "__pycache__" not in name}


def test_every_module_is_imported_from_the_wheel_with_its_own_requirements_alone(environment, tmp_path):
    names = sorted(read_sources(ROOT).keys() - {"segdet.__main__"})  # which would run the command
    python = [environment / "bin" / "python", "-I", "-c", IMPORT_ALL, *names]
    done = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(environment)


def test_the_command_of_the_wheel_runs(environment, tmp_path):
    command = [environment / "bin" / "segdet", "phantom", "--out", "scan.dcm"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, (tmp_path / "scan.dcm").exists()) == (0, True), done.stderr
