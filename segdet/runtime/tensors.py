"""Tensors as safetensors files that appear whole or not at all, and fingerprints of them."""

import hashlib
import json
from contextlib import contextmanager

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import CheckpointError
from .atomic import writing


def digest(*arrays):
    """A fingerprint of tensors, arrays and texts with their shapes and types, for the identity of a training."""
    found = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array.detach().cpu() if isinstance(array, torch.Tensor) else array)
        if array.dtype.hasobject:  # its bytes would be addresses
            raise TypeError(f"no fingerprint of {array.dtype} arrays")
        found.update(f"{array.shape} {array.dtype.str} ".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def save_tensors(path, tensors, facts):
    """Write tensors and a JSON-able dict of facts as one safetensors file, whole or not at all."""
    header = {"facts": json.dumps(facts)}
    # copies, because safetensors refuses the tensors that some networks hold under two names
    tensors = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    with writing(path, CheckpointError) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the user's files have; safetensors writes for the owner alone
        save_file(tensors, temporary, header)
        temporary.chmod(mode)


def load_tensors(path, way_out=None):
    """Read what `save_tensors` wrote: (tensors, facts); `way_out` ends the message where that cannot be.

    Raises
    ------
    CheckpointError
        The file is missing, cut short or was not written by segdet.
    """
    with _opened(path, way_out) as (file, facts):
        return {k: file.get_tensor(k) for k in file.keys()}, facts  # noqa: SIM118


def load_facts(path):
    """Read the header of what `save_tensors` wrote, and no tensor: (names of the tensors, facts).

    Raises
    ------
    CheckpointError
        As in `load_tensors`.
    """
    with _opened(path) as (file, facts):
        return list(file.keys()), facts


@contextmanager
def _opened(path, way_out=None):
    """A file of `save_tensors` and its facts; what is wrong with it, there or while it is read, in one line."""
    try:
        with safe_open(path, "pt") as file:
            yield file, dict(json.loads(file.metadata()["facts"]))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; {way_out or 'train first with `segdet fit`'}") from error
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        way_out = way_out or "delete it to start again"
        raise CheckpointError(f"{path}: not a checkpoint of segdet ({error}); {way_out}") from error
