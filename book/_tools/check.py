"""What `make test` runs, stage by stage, each with its time; all stages run even when one fails."""

import os
import subprocess
import sys
import time
from pathlib import Path

from runner import KERNEL_ENVIRONMENT, ROOT, STORED_PROFILE

BIN = Path(sys.executable).parent
PYTEST = [sys.executable, "-m", "pytest", "-n", os.environ.get("SEGDET_TEST_WORKERS", "2")]
NOTEBOOKS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb"))]
# Several workers share the cores, so each of them uses one thread.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

STAGES = [
    ("style", [BIN / "ruff", "check", "."], {}),
    ("format", [BIN / "ruff", "format", "--check", "."], {}),
    (
        "the book from its stored outputs, a warning is an error",
        [sys.executable, "book/_tools/runner.py", "build"],
        {"SEGDET_PROFILE": STORED_PROFILE},
    ),
    (
        "every chapter executed at the smoke profile",
        [*PYTEST, "--dist", "loadfile", "--nbval-lax", "--nbval-current-env", *NOTEBOOKS],
        {**KERNEL_ENVIRONMENT, "SEGDET_PROFILE": "smoke"},
    ),
    ("tests of the library, the book and the site", [*PYTEST, "tests"], {}),
]


def main():
    """Run the stages; exit with 1 when one of them failed."""
    started = time.perf_counter()
    failed = []
    for number, (name, command, environment) in enumerate(STAGES, 1):
        print(f"\n== {number}/{len(STAGES)} {name} (at {clock(started)})", flush=True)
        if subprocess.run(command, cwd=ROOT, env={**ENVIRONMENT, **environment}).returncode != 0:
            failed.append(name)
    print(f"\n== took {clock(started)}; " + (f"FAILED: {'; '.join(failed)}" if failed else "all stages passed"))
    sys.exit(1 if failed else 0)


def clock(started):
    """Minutes and seconds since `started`."""
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    return f"{minutes}:{seconds:02d}"


if __name__ == "__main__":
    main()
