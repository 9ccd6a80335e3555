"""`segdet fit` at a tiny profile for test_cluster, which starts it under torchrun."""

import sys

from segdet import cli
from segdet.experiments import config

TINY = config.Profile("smoke", (8, 48, 32), (8, 12, 8), 4, 2, 4, 2, 2, 1, 0, "resnet18")

if __name__ == "__main__":
    data, out = sys.argv[1:]
    config.PROFILES["smoke"] = TINY
    sys.argv[1:] = ["fit", "--data", data, "--profile", "smoke", "--out", out]
    cli.main()
