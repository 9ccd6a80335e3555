"""Simulated hips that are made once: in parallel, kept on disk, never half written (chapter 02)."""

import hashlib
import inspect
import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..runtime.atomic import one_writer, writing, writing_folder
from ..runtime.progress import progress
from ..volume import Volume
from . import acoustics, anatomy, canvas, make
from .hip2 import anatomy as anatomy2
from .hip2 import artefacts, bones, chain, head, layers, parameters, receiver, scanners
from .parameters import HipParameters

MOST_WORKERS = 8  # each needs about 0.5 GiB
# Read once: the files may be edited while this process goes on with what it imported. The parameters count by value.
MADE_BY = "".join(inspect.getsource(module) for module in (canvas, anatomy, acoustics)) + repr(HipParameters())
HIP2 = parameters, scanners, anatomy2, layers, bones, head, artefacts, receiver, chain
MADE_BY_2 = MADE_BY + "".join(inspect.getsource(module) for module in HIP2)


def cache_folder():
    """Where phantoms and trained networks are kept: the variable SEGDET_CACHE, else ~/.cache/segdet."""
    return Path(os.environ.get("SEGDET_CACHE") or Path.home() / ".cache/segdet")


def cached_phantom(seed, **options):
    """`make_phantom(seed, **options)`, kept in the cache under a name that follows from the options and the code."""
    named = {name: value for name, value in options.items() if (name, value) not in (("version", 1), ("preset", None))}
    made_by = MADE_BY_2 if "version" in named else MADE_BY
    digest = hashlib.sha256((made_by + repr(sorted(named.items()))).encode()).hexdigest()[:16]
    path = cache_folder() / "phantoms" / f"{seed}-{digest}.npz"
    if volume := _kept(path):
        return volume
    with one_writer(path):
        if volume := _kept(path):  # made by another process meanwhile
            return volume
        volume = make.make_phantom(seed, **options)
        facts, arrays = [volume.name, volume.meta], {"voxels": volume.voxels, "affine": volume.affine}
        if volume.labels is not None:
            facts.append(volume.label_names)
            arrays["labels"] = volume.labels
        with writing(path) as temporary:
            np.savez(temporary, mask=np.packbits(volume.mask), facts=json.dumps(facts), **arrays)
    return volume


def _kept(path):
    """The phantom of a file; None where there is none, or a damaged one."""
    try:
        with np.load(path) as kept:
            mask = np.unpackbits(kept["mask"], count=kept["voxels"].size).reshape(kept["voxels"].shape).astype(bool)
            name, meta, *names = json.loads(str(kept["facts"]))
            more = {"labels": kept["labels"], "label_names": tuple(*names)} if names else {}
            return Volume(kept["voxels"], kept["affine"], mask, name=name, meta=meta, **more)
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile):
        return None


def cached_phantoms(requests, label="phantoms"):
    """Many phantoms, several at a time, with a progress bar.

    Parameters
    ----------
    requests : list of (seed, options)
        The arguments of `cached_phantom`.
    label : str
        Of the progress bar.

    Returns
    -------
    list of Volume
        In the order of the requests.
    """
    return _several_at_a_time(lambda request: cached_phantom(request[0], **request[1]), requests, label)


def write_phantoms(seeds, folder, **options):
    """A folder of annotated phantoms as `segdet fit --data` takes it: images/NAME.dcm beside labels/NAME.dcm.

    Raises
    ------
    SegdetError
        The folder is there already, or an option is outside what the phantom models.
    """
    from ..io.dicom.write import write_volume
    from ..io.files import save_mask

    def write(seed):
        volume = cached_phantom(seed, **options)
        image = working / "images" / f"{volume.name}.dcm"
        write_volume(volume, image)
        save_mask(volume.mask, working / "labels" / image.name, volume, source=image)

    with writing_folder(folder) as working:
        _several_at_a_time(write, seeds, "phantoms")


def _several_at_a_time(function, items, label):
    pool = ThreadPoolExecutor(min(MOST_WORKERS, os.cpu_count()))
    try:
        return list(progress(pool.map(function, items), label, total=len(items)))
    finally:
        pool.shutdown(cancel_futures=True)  # whoever interrupts it waits for those that have begun, not for all
