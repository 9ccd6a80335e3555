"""`segdet fit` at a tiny profile for test_cluster: under torchrun, or alone with as many batches a step."""

import sys
from functools import partial

from segdet import cli, detection, experiment, runs
from segdet.training import fit

TINY = experiment.Profile("smoke", (8, 48, 32), (8, 12, 8), 4, 2, 4, 2, 2, 1, 0, "resnet18")

if __name__ == "__main__":
    data, out, batches = sys.argv[1:]
    experiment.PROFILES["smoke"] = TINY
    detection.fit = runs.fit = partial(fit, batches=int(batches))
    sys.argv[1:] = ["fit", "--data", data, "--profile", "smoke", "--out", out]
    cli.main()
