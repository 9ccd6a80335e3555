"""Data parallel training: the processes that torchrun started share a step's batches (chapter 08)."""

import os
from contextlib import contextmanager

import torch
import torch.distributed as dist

from ..errors import SegdetError


@contextmanager
def process_group(device):
    """Join the processes of torchrun, each on a GPU of its own, or on the CPU; without torchrun this does nothing.

    Parameters
    ----------
    device : torch.device
        "cuda" without a number, or another.

    Raises
    ------
    SegdetError
        There are fewer GPUs than processes.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    if device.type == "cuda":
        process, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if process >= count or device.index is not None:
            raise SegdetError(
                f"process {process} of torchrun has no GPU of its own ({count} here, device {device}); start at most "
                f"{count} processes with SEGDET_DEVICE unset, or set SEGDET_DEVICE=cpu"
            )
        torch.cuda.set_device(process)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def processes():
    """The number of this process and how many there are: (0, 1) without torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def add_up(tensors):
    """Replace float tensors by their sums over all processes, in one exchange."""
    if processes()[1] > 1:
        together = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(together)
        for tensor, values in zip(tensors, together.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(values.view_as(tensor))


def wait():
    """Until every process has come here."""
    if processes()[1] > 1:
        dist.barrier()
