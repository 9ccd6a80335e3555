"""Make the environment from python3 alone: `python3 book/_tools/bootstrap.py .venv` (called by `make setup`).

Only the standard library is used, and only syntax that Python 3.6 can parse, so that a Python which is
too old is told so instead of failing with a syntax error.
"""

import os
import re
import subprocess
import sys
import tempfile

LOCK = "requirements.lock"
NEEDED = (3, 11)


def main(folder):
    """Create the virtual environment `folder`, or bring it to what requirements.lock says."""
    if sys.version_info[:2] < NEEDED:
        found = ".".join(str(part) for part in sys.version_info[:3])
        sys.exit(
            f"segdet needs Python 3.11 or newer, but {sys.executable} is {found}.\n"
            "Name a newer one: make setup PYTHON=python3.12"
        )
    python = os.path.join(folder, "Scripts" if os.name == "nt" else "bin", "python")
    if not os.path.exists(python) and subprocess.call([sys.executable, "-m", "venv", folder]) != 0:
        sys.exit(f"Python could not make a virtual environment in {folder}; on Debian: apt install python3-venv")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    print(f"setup: installing what {LOCK} pins into {folder}", flush=True)
    with open(LOCK, encoding="utf-8") as file:
        lock = file.read()
    uv = re.search(r"^uv==.*\n(?:[ \t]+.*\n)*", lock, re.MULTILINE).group()
    # compiled now as pip does it: else the first import of each package is slow, or every one where Python may not write
    sync = [python, "-m", "uv", "pip", "sync", "--quiet", "--compile-bytecode"]
    sync += ["--python", python, "--require-hashes", LOCK]
    if not install(pip, uv) or subprocess.call(sync) != 0:
        print("setup: uv does not work here; pip installs the same files, more slowly", flush=True)
        if not install(pip, lock.replace(uv, "")):
            sys.exit(f"setup: pip could not install {LOCK}; see the lines above")
    # setuptools is in the lock, so the editable install needs no further download.
    if subprocess.call([*pip, "--no-deps", "--no-build-isolation", "--editable", "."]) != 0:
        sys.exit("setup: segdet itself could not be installed; see the lines above")
    with open(os.path.join(folder, ".stamp"), "w"):
        pass


def install(pip, pinned):
    """Install requirements with pip, which checks their hashes; whether it succeeded."""
    with tempfile.TemporaryDirectory() as temporary:
        path = os.path.join(temporary, "requirements.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(pinned)
        return subprocess.call([*pip, "--no-deps", "--require-hashes", "-r", path]) == 0


if __name__ == "__main__":
    main(sys.argv[1])
