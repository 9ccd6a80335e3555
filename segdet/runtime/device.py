"""Where to compute and in what precision: what the hardware really does (chapters 05 and 07)."""

import os
from contextlib import contextmanager, nullcontext

import torch

from ..errors import SegdetError


def usable(device, named=None, way_out="leave it out"):
    """A device, given by name or as it is; `SegdetError` says how it was named where it cannot be used here."""
    try:
        torch.empty(1, device=device).cpu()  # "meta" holds nothing that could come back
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        named = named or f"device {device}"
        raise SegdetError(f"{named} cannot be used here ({reason}); {way_out} or use cpu") from error
    return torch.device(device)


def default_device():
    """The device that SEGDET_DEVICE names, else CUDA, Apple's MPS or the CPU, in that order.

    Raises
    ------
    SegdetError
        The device that is named cannot be used here.
    """
    named = os.environ.get("SEGDET_DEVICE")
    if named:
        return usable(named, f"SEGDET_DEVICE={named}", "unset it")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def precision(device, smallest_side=None):
    """An autocast context in bfloat16 where the hardware has such instructions, else plain float32.

    The variable SEGDET_PRECISION, float32 or bfloat16, decides instead of the hardware.

    Parameters
    ----------
    device : torch.device
    smallest_side : int, optional
        Of the deepest feature map of a 3D network. On a CPU a side below 3 means float32: PyTorch 2.15's bfloat16
        weight gradient of a 3 x 3 x 3 convolution on 2 x 3 x N voxels is not defined (NaN, or another value at
        every call); from 3 voxels on it agrees with float32 to 0.3 %.

    Raises
    ------
    SegdetError
        SEGDET_PRECISION has another value.
    """
    named = os.environ.get("SEGDET_PRECISION")
    if named not in (None, "", "float32", "bfloat16"):
        raise SegdetError(f"SEGDET_PRECISION={named} is not known; set float32 or bfloat16, or unset it")
    narrow = device.type == "cpu" and smallest_side is not None and smallest_side < 3
    chosen = named == "bfloat16" if named else bfloat16_is_native(device)
    return torch.autocast(device.type, torch.bfloat16) if chosen and not narrow else nullcontext()


def bfloat16_is_native(device):
    """Whether the hardware computes in bfloat16 itself; emulated it is slow."""
    on_cpu = getattr(torch.cpu, "get_capabilities", dict)()
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(on_cpu.get("avx512_bf16") or on_cpu.get("amx_bf16"))


@contextmanager
def random_state_kept():
    """What the block draws from PyTorch's global generators leaves them as they were."""
    device = default_device()
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        yield
