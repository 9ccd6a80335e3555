"""Data parallel training: the processes that torchrun started share a step's batches (chapter 08)."""

import os
from contextlib import contextmanager

import torch
import torch.distributed as dist


@contextmanager
def process_group():
    """Join the processes of torchrun, one a GPU or else over gloo; without torchrun this does nothing."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
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
