"""The network that comes with the package: trained with the boxes of a person who errs, in 8 bits (chapter 09).

``python -m segdet.experiments.small`` makes segdet/models/hip-small anew: it trains, rounds, scores, and writes the
files with their card.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict

import numpy as np
import torch

from .. import __version__, metrics
from ..attention import boxes_to_mask
from ..cascade import segment, stacked
from ..export.exported import SETTINGS, open_network
from ..export.load import SHIPPED
from ..export.onnx import SEGMENTER
from ..export.rounded import write_rounded
from ..phantom.cache import cache_folder
from ..runtime.atomic import write_text
from ..runtime.device import default_device
from ..runtime.provenance import environment
from ..training.loop import OutOfTime
from ..training.segmenter import train_segmenter
from .cases import grids_for, phantom_split, prepare
from .config import Profile
from .cost import Work, forecast
from .person import PERSONS, paint_some

NAME = "hip-small"
FOLDER = SHIPPED / NAME
PROFILE = Profile(NAME, (32, 184, 96), (32, 46, 24), 8, 0, 600, 100, 36, 6, 20)
SEED = 0  # of the split: hips from 1000 on, none that a study's verdict rests on
PAINTED = (0, 1, 2, 3, 4, 6, 8, 32)  # slices that a person painted; 32 means every one that shows the head
PERSON = PERSONS["hasty"]


def person_attention(case, grids, count, seed):
    """The attention after `count` painted slices of a `Case`, bool (d, h, w); the seed says which person."""
    spacing, rng = grids.spacing(grids.detector_shape), np.random.default_rng([seed, count])
    boxes, _ = paint_some(PERSON, case.slice_mask, spacing, count, rng)
    return grids.attention_to_segmenter(boxes_to_mask(torch.from_numpy(boxes), grids.detector_shape).numpy())


def training(profile=PROFILE):
    """The grids, and what `train_segmenter` takes: every scan once for each number of painted slices."""
    parts = phantom_split(profile, SEED)[:2]
    grids, pairs = grids_for(parts[0], profile), []
    for part in parts:
        cases = enumerate(prepare(volume, grids) for volume in part)
        pairs.append([(c, person_attention(c, grids, n, i)) for i, c in cases for n in PAINTED])
    return grids, *pairs


def scores(grids, cases, predict):
    """IoU of every case for every number of painted slices, on the segmenter's grid: {number: list of float}.

    Parameters
    ----------
    grids : Grids
    cases : list of Case
    predict : callable
        ``predict(image, attention)`` gives the probability, (d, h, w).
    """
    found = {count: [] for count in PAINTED}
    for count, values in found.items():
        for i, case in enumerate(cases):
            mask = predict(case.image, person_attention(case, grids, count, 1000 + i)) >= 0.5
            values.append(round(float(metrics.iou(mask, case.mask)), 4))
    return found


def in_eight_bits(path):
    """The file of `write_rounded` as `scores` takes it."""
    network = open_network(path, "onnx", 1)

    def predict(image, attention):
        logits = network(stacked(image, attention, (), "cpu").numpy())["logits"][0]
        return 1 / (1 + np.exp(logits[0] - logits[1]))

    return predict


def settings_of(grids):
    """What exported.json says, see `segdet.export.exported`."""
    return {
        "segdet": __version__,
        "grids": asdict(grids) | {"segmenter_spacing": grids.spacing(grids.segmenter_shape)},
        "detector": None,
        "segmenter": SEGMENTER,
        "margin": None,
    }


def work(profile):
    """The `Work` of `make`: every scan is validated and scored once for each number of painted slices."""
    validated = profile.validation * profile.segmenter_steps / profile.every * (len(PAINTED) - 1)  # beside the first
    scored = 2 * profile.test * len(PAINTED)
    return Work(segmenters=1, volumes=validated + scored, phantoms=profile.train + profile.validation + profile.test)


def make(folder=FOLDER, profile=PROFILE, deadline=None):
    """Train, round, score, and write segmenter.onnx, exported.json and card.json into `folder`.

    The state of the training is kept in the cache; `deadline` as in `segdet.training.loop.fit`.
    """
    grids, train, validation = training(profile)
    kept = lambda identity: cache_folder() / f"{profile.name}-{identity}.safetensors"  # noqa: E731
    segmenter, history = train_segmenter(train, validation, profile, SEED, checkpoint=kept, deadline=deadline)
    write_rounded(segmenter, stacked(train[0][0].image, train[0][1], (), "cpu"), folder / "segmenter.onnx")
    cases = [prepare(volume, grids) for volume in phantom_split(profile, SEED)[2]]
    found = {
        "float32": scores(grids, cases, lambda image, attention: segment(segmenter, image, attention)),
        "int8": scores(grids, cases, in_eight_bits(folder / "segmenter.onnx")),
    }
    card = {
        "what": "3D U-Net that outlines the femoral head in a simulated hip, given boxes on some slices",
        "not for": "any other scan: it has seen simulated hips only, and nothing in its answer says so",
        "training": f"{profile.train} simulated hips, boxes on {PAINTED} slices each, {history.best_step} steps",
        "boxes": f"a simulated person's: centre off by {PERSON.centre_mm} mm, sides by {PERSON.size:.0%} "
        "(deviations of a normal)",
        "selection": f"best mean IoU on {profile.validation} others, after every {profile.every} steps",
        "test": [case.name for case in cases],
        "painted slices": list(PAINTED),
        "mean iou": {kind: {n: round(float(np.mean(v)), 4) for n, v in of.items()} for kind, of in found.items()},
        "iou": found,
        **environment(default_device()),
    }
    write_text(folder / SETTINGS, json.dumps(settings_of(grids), indent=1) + "\n")
    write_text(folder / "card.json", json.dumps(card, indent=1) + "\n")
    return card


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--max-minutes", type=float, help="stop then; the same command goes on from there")
    minutes = parser.parse_args().max_minutes
    print(forecast(PROFILE, work), file=sys.stderr)
    try:
        print(json.dumps(make(deadline=minutes and time.monotonic() + 60 * minutes)["mean iou"], indent=1))
    except OutOfTime:
        sys.exit("not finished; the same command goes on from there")
