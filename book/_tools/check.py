"""What `make test` runs, stage by stage, each with its time; all stages run even when one fails.

It says before how long it will take, from what it took when `check.py --record` last wrote results/checks.json and from
the time of a phantom here and there.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from runner import KERNEL_ENVIRONMENT, ROOT, chapters, run_conditions
from staleness import CHECKS
from watch import clock, watching

from segdet.experiments.cost import seconds_of_a_phantom
from segdet.runtime.progress import in_words

BIN = Path(sys.executable).parent
# A file stays with one worker: its tests and cells share what is costly to make.
PYTEST = [sys.executable, "-m", "pytest", "-n", os.environ.get("SEGDET_TEST_WORKERS", "2"), "--dist", "loadfile"]
NOTEBOOKS = [str(path.relative_to(ROOT)) for path in chapters(ROOT)]
RECORD = ROOT / "results" / CHECKS

STAGES = [
    ("style", [BIN / "ruff", "check", "."], {}),
    ("format", [BIN / "ruff", "format", "--check", "."], {}),
    (
        "the book from its stored outputs, a warning is an error",
        [sys.executable, "book/_tools/runner.py", "build", "_build/stored"],
        {},
    ),
    (
        "every chapter executed at the smoke profile",
        [*PYTEST, "--nbval-lax", "--nbval-current-env", *NOTEBOOKS],
        {**KERNEL_ENVIRONMENT, "SEGDET_PROFILE": "smoke"},
    ),
    ("tests of the library, the book and the site", [*PYTEST, "tests"], {}),
]


def main(record=False):
    """Run the stages; exit with 1 when one of them failed."""
    phantom = seconds_of_a_phantom()
    foretold = predicted(phantom)
    if foretold:
        print(f"about {in_words(sum(foretold.values()))} on this machine", flush=True)
    started = time.perf_counter()
    failed, took = [], {}
    with watching(say=lambda line: print(line, flush=True)) as watch:
        for number, (name, command, environment) in enumerate(STAGES, 1):
            about = f", about {in_words(foretold[name])}" if name in foretold else ""
            watch.say(f"\n== {number}/{len(STAGES)} {name} (at {clock(time.perf_counter() - started)}{about})")
            watch.begin(f"at {number}/{len(STAGES)}, {name}{about}")
            begun = time.perf_counter()
            # several workers share the cores, so each of them uses one thread
            variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
            if subprocess.run(command, cwd=ROOT, env=variables).returncode != 0:
                failed.append(name)
            took[name] = round(time.perf_counter() - begun, 1)
    total = clock(time.perf_counter() - started)
    print(f"\n== took {total}; " + (f"FAILED: {'; '.join(failed)}" if failed else "all stages passed"))
    if record and not failed:
        kept = {"device": run_conditions()["device"], "phantom": round(phantom, 2), "seconds": took}
        RECORD.write_text(json.dumps(kept, indent=1) + "\n")
    sys.exit(1 if failed else 0)


def predicted(phantom):
    """Seconds of every stage on a machine where a phantom takes so long; empty where nothing was recorded."""
    if not RECORD.exists():
        return {}
    kept = json.loads(RECORD.read_text())
    return {name: seconds * phantom / kept["phantom"] for name, seconds in kept["seconds"].items()}


if __name__ == "__main__":
    main(record="--record" in sys.argv[1:])
