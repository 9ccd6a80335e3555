"""`segdet fit` at a tiny profile for test_cluster: under torchrun, or alone with as many batches a step."""

import sys
from functools import partial

from segdet import cli
from segdet.experiments import config
from segdet.training import detector, segmenter
from segdet.training.loop import fit

TINY = config.Profile("smoke", (8, 48, 32), (8, 12, 8), 4, 2, 4, 2, 2, 1, 0, "resnet18")

if __name__ == "__main__":
    data, out, batches = sys.argv[1:]
    config.PROFILES["smoke"] = TINY
    detector.fit = segmenter.fit = partial(fit, batches=int(batches))
    sys.argv[1:] = ["fit", "--data", data, "--profile", "smoke", "--out", out]
    cli.main()
