"""The networks that the chapters share, and when they must be trained again.

They are filed under what the code computes. A hash of its source would call a new name a new method. Instead a few
steps of both trainings are taken on fixed data, and what they give is compared with what it was when the networks were
trained. Data, settings, optimiser and layers are in the identity of each training (`segdet.training.loop.fit`).
"""

import json
import os
import secrets
import warnings
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from ..phantom.cache import cache_folder
from ..proposals import Proposals, select
from ..runtime.atomic import locked, write_text
from ..training.detector import choose_threshold, train_detector
from ..training.recipes import RECIPES
from ..training.segmenter import train_segmenter
from ..volume import Volume
from .cases import grids_for, prepare
from .config import ARMS, Plan, Profile, get_profile
from .runs import Run

TOLERANCE = 2e-3  # relative; after these few steps the kernels of other processors differ by some 1e-5
FIXED = {"SEGDET_PRECISION": "float32", "SEGDET_DEVICE": "cpu", "SEGDET_STATIC": "1", "SEGDET_PROGRESS": ""}


def chapter_run(profile=None):
    """The run that the chapters share: seed 0 with the paper's nine test scans, its networks kept in the cache.

    The first chapter that needs a network trains it; the others read it back. A change of what the code computes, of
    the data, of the settings or of the initial weights starts anew.

    Parameters
    ----------
    profile : str, optional
        Its name, see `segdet.experiments.config.get_profile`.
    """
    warnings.filterwarnings("ignore", "ImageNet weights are out of reach")  # chapter 05 says where they came from
    profile = get_profile(profile)
    plan = Plan(replace(profile, test=min(profile.test, 9)), tuple(ARMS))
    return Run(plan, 0, folder_of(cache_folder(), profile.backbone) / profile.name, shared=True)


def behaviour(backbone="vgg16"):
    """Train both networks for a few steps on fixed data, in float32 on the CPU and from random weights.

    Parameters
    ----------
    backbone : str
        Of the detector, see `segdet.backbones`.

    Returns
    -------
    dict of list of float
        The losses of every step, and what the trained networks make of one case.
    """
    profile = Profile("behaviour", (4, 48, 32), (8, 16, 12), 4, 2, 3, 2, 2, 1, 0, backbone)
    cases = [_case(profile, seed) for seed in range(profile.train + profile.validation)]
    found = {}
    with _environment(**FIXED):
        # a rate at which two steps matter, for it only begins to rise in them
        recipe = replace(RECIPES[backbone], imagenet=False, rate=0.08)
        detector, history = train_detector(cases[:2], cases[2:], profile, 0, recipe=recipe)
        found["detector, loss"] = [value for step in history.loss for value in step.values()]
        with torch.no_grad():
            objectness, offsets, _ = detector(cases[2].slices)
        found["detector, scores and offsets"] = _moments(objectness) + _moments(offsets)
        found["threshold"] = [choose_threshold(detector, cases[2:]).threshold]
        corners = torch.from_numpy(np.random.default_rng(0).uniform(0, 20, (4, 50, 2))).float()
        boxes, scores = select(torch.cat([corners, corners + 9], -1), corners[..., 0] / 20, Proposals(2, 0.3))
        found["boxes"] = _moments(boxes) + _moments(scores)
        found["slices and images"] = [m for c in cases for m in (*_moments(c.slices), *_moments(c.image))]
        found["masks and boxes"] = [float(t.sum()) for c in cases for t in (c.slice_mask, c.mask, c.boxes)]
        for name, margin in (("segmenter", None), ("segmenter, cropped", 1.0)):
            pairs = [(case, case.mask) for case in cases]
            segmenter, history = train_segmenter(pairs[:2], pairs[2:], profile, 0, margin=margin)
            found[f"{name}, loss"] = [value for step in history.loss for value in step.values()]
            with torch.no_grad():
                found[f"{name}, logits"] = _moments(segmenter(torch.stack([cases[2].image] * 2)[None]))
    return found


def same(found, kept):
    """Whether two answers of `behaviour` are the same to `TOLERANCE`."""
    if found.keys() != kept.keys() or any(len(found[name]) != len(kept[name]) for name in found):
        return False
    return all(np.allclose(found[name], kept[name], rtol=TOLERANCE, atol=1e-6) for name in found)


def folder_of(parent, backbone):
    """The folder in `parent` for networks that the present code trains; a new one if it computes something new."""
    found = behaviour(backbone)
    with locked(parent, wait=60):  # two that look at the same time shall find the same folder
        for path in sorted(parent.glob("networks-*/behaviour.json")):
            try:
                if same(found, json.loads(path.read_text())):
                    return path.parent
            except (OSError, ValueError, AttributeError, TypeError):  # damaged, or of another version
                continue
        folder = parent / f"networks-{secrets.token_hex(4)}"
        write_text(folder / "behaviour.json", json.dumps(found, indent=1) + "\n")
        return folder


def _case(profile, seed):
    """A bright ball in noise, from NumPy alone, on both grids: the detector's is finer, the segmenter's coarser."""
    rng, shape = np.random.default_rng(seed), (12, 30, 25)
    z, y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in shape)
    ball = z[:, None, None] ** 2 + (y[:, None] - 0.05 * seed) ** 2 + x**2 < 0.06
    voxels = (60 + 60 * ball + 40 * rng.standard_normal(shape)).clip(0, 255).astype(np.uint8)
    volume = Volume.from_spacing(voxels, (1.0, 0.7, 0.7), ball, name=f"ball {seed}")
    return prepare(volume, grids_for([volume], profile))


def _moments(tensor):
    """Mean size and mean square; a mean with its sign can be a small difference of large numbers."""
    values = tensor.double()
    return [values.abs().mean().item(), values.square().mean().item()]


@contextmanager
def _environment(**values):
    """These variables for a while."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)
