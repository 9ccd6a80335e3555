"""How long the chapters will take on this machine, said before they start.

What the networks cost follows from their operations and from a few seconds of measurement
(`segdet.experiments.cost`). What else a chapter does took so long when its outputs were stored (results/book.json), and
is scaled by the time of a phantom.
"""

import json
import os
from dataclasses import replace
from functools import cache

import psutil
from staleness import STATUS

from segdet.analysis.prose import STORED_PROFILE
from segdet.runtime.progress import in_words

PAGES = 80  # phantoms: building the pages takes as long as making so many
PATIENCE = 30 * 60  # seconds that `make book` takes on its own account
NETWORKS = ("detector-filmed", "unet", "box3d", "cascade", "unet-by-test", "cascade-crop")  # trained in this order


def choose_profile(root, named, left):
    """The profile that is named, or the largest of laptop and quick that ends in time, and what `foretell` gives.

    Parameters
    ----------
    root : Path
    named : str or None
    left : callable
        ``left(profile)`` is the chapters that are still to be executed at a profile.
    """
    from segdet.experiments.config import get_profile

    if named:
        profile = get_profile(named).name
    else:
        laptop = whole(root, "laptop", left("laptop"))
        profile = "laptop" if laptop <= PATIENCE else "quick"
    found = foretell(root, profile, left(profile))
    if profile in ("laptop", "paper"):
        print(f"the profile quick would take about {in_words(whole(root, 'quick', left('quick')))}")
    elif not named:
        print(f"the profile laptop would take about {in_words(laptop)}")
    if not named:
        print("SEGDET_PROFILE=smoke, quick, laptop or paper before `make book` chooses", flush=True)
    return profile, found


def with_pages(chapters):
    """Seconds by name, of chapters and of the pages that are built after them."""
    from segdet.experiments.cost import seconds_of_a_phantom

    return chapters | {"the pages": PAGES * seconds_of_a_phantom()}


def whole(root, profile, chapters):
    """Seconds that chapters take at a profile, and the pages after them."""
    return sum(with_pages(predicted(root, profile, chapters)).values())


def foretell(root, profile, chapters):
    """Say how long these chapters will take at a profile, one by one, and what memory they need: seconds by name."""
    import torch

    from segdet.bench.measure import precisions
    from segdet.experiments.cost import matmul_rate
    from segdet.runtime.device import default_device

    found = predicted(root, profile, chapters)
    parts = with_pages(found)
    share = ", ".join(f"{name} {in_words(seconds)}" for name, seconds in parts.items())
    device = default_device()
    used = precisions(device)[-1]
    rate = matmul_rate(device, getattr(torch, used)) / 1e9
    print(f"{os.cpu_count()} cores, matrix product {rate:.0f} GFLOP/s in {used}")
    print(f"profile {profile}: about {in_words(sum(parts.values()))} here ({share})")
    if ready := [name for name, share in trained(profile).items() if share == 1]:
        print(f"trained before and read back: {', '.join(ready)}")
    need, free = memory(root, profile), psutil.virtual_memory().available / 2**30
    enough = "" if need <= free else ": too little; close other programs or take a smaller profile"
    print(f"memory: about {need:.1f} GiB; {free:.1f} GiB are free{enough}", flush=True)
    return found


def predicted(root, profile, chapters):
    """Seconds that chapters will take at a profile, by name."""
    from segdet.experiments.cost import seconds_of_a_phantom

    networks, stored, phantom = of_networks(profile, chapters), status(root), seconds_of_a_phantom()
    found = {}
    for name, seconds in networks.items():
        row = stored.get(name, {})
        found[name] = seconds + row.get("rest", row.get("seconds", 30)) * phantom / row.get("phantom", phantom)
    return found


def memory(root, profile):
    """GiB of main memory at a profile: what the stored chapters took, and what its trainings need beyond theirs."""
    import torch

    from segdet.experiments.config import get_profile
    from segdet.experiments.memory import predicted as needs

    cpu = torch.device("cpu")
    here, stored = (max(n.gib(cpu) for n in needs(get_profile(name)).values()) for name in (profile, STORED_PROFILE))
    return max((row.get("gib", 0) for row in status(root).values()), default=0) + max(0, here - stored)


def of_networks(profile, chapters):
    """Seconds that the networks and the phantoms of chapters will take at a profile, by name."""
    from segdet.experiments.config import get_profile
    from segdet.experiments.cost import measure

    profile = get_profile(profile)
    speed, ready = measure(profile), trained(profile.name)
    return {path.stem: sum(work.seconds(p, speed) for p, work in works(path.stem, profile, ready)) for path in chapters}


def beside_networks(profile, chapters):
    """A function of a chapter and its seconds: what was neither network nor phantom, and how long a phantom takes.

    It gives nothing where the networks alone should have taken longer: the machine was busy when it was measured.
    """
    from segdet.experiments.cost import seconds_of_a_phantom

    networks, phantom = of_networks(profile, chapters), seconds_of_a_phantom()

    def beside(name, seconds):
        rest = round(seconds - networks[name], 1)
        if rest > 0:
            return {"rest": rest, "phantom": round(phantom, 2)}
        print(
            f"{name} took {seconds:.0f} s, its networks alone {networks[name]:.0f} s by measure: is the machine busy?"
        )
        return {}

    return beside


def works(chapter, p, ready):
    """What a chapter does with networks and phantoms: pairs of the profile whose networks they are and the `Work`."""
    from segdet.experiments.config import PROFILES
    from segdet.experiments.cost import Work, work_of_a_study

    test = min(p.test, 9)
    slices, scans = p.detector_shape[0], p.train + p.validation + test
    fresh = not any(ready.values())  # else the phantoms are there, too
    left = {name: 1 - share for name, share in ready.items()}
    segmenters = left["box3d"] + left["cascade"] + left["unet-by-test"]
    looks = left["unet-by-test"] * p.segmenter_steps / p.every
    steps = 1 / p.segmenter_steps
    return {
        "03-anchors": [(p, Work(phantoms=scans * fresh))],
        "04-rpn-loss": [(replace(p, backbone="vgg16"), Work(slices=min(320, slices * (p.train + p.validation))))],
        "05-detector": [
            (p, Work(left["detector-filmed"], slices=slices * (scans + 2 * test), phantoms=2 * test * fresh))
        ],
        "06-attention": [(p, Work(slices=slices * scans))],
        "07-unet3d": [(p, Work(segmenters=left["unet"])), (replace(p, base_channels=8), Work(segmenters=240 * steps))],
        "08-segmenter": [(p, Work(segmenters=segmenters + 0.2, volumes=test * (3 + looks)))],
        "09-cascade": [
            (p, Work(segmenters=left["cascade-crop"] + 20 * steps, slices=slices * 4 * test, volumes=15 * test)),
            (p, Work(phantoms=4 * test * fresh)),
        ],
        "10-ablation": [(PROFILES["smoke"], work_of_a_study(PROFILES["smoke"], 2, 1))],
    }.get(chapter, [])


@cache
def trained(profile):
    """What share of each of the chapters' trainings is in the cache, by the names of `NETWORKS`."""
    from segdet.experiments.chapters import folder_of
    from segdet.experiments.config import get_profile
    from segdet.phantom.cache import cache_folder
    from segdet.runtime.tensors import load_facts

    profile, found = get_profile(profile), dict.fromkeys(NETWORKS, 0.0)
    if not any(cache_folder().glob(f"networks-*/{profile.name}/0-*.safetensors")):
        return found
    folder = folder_of(cache_folder(), profile.backbone) / profile.name
    for name in NETWORKS:
        for path in folder.glob(f"0-{name}-{'[0-9a-f]' * 16}.safetensors"):
            facts = load_facts(path)[1]
            found[name] = max(found[name], facts["step"] / facts["identity"]["steps"])
    return found


def status(root):
    """What results/book.json says of each chapter."""
    path = root / "results" / STATUS
    return json.loads(path.read_text()) if path.exists() else {}
