"""The memory that a training needs, known from shapes before anything is computed (page "On a GPU").

Counted are tensors: weights, gradients, the optimiser's moments, what the forward pass keeps for the backward pass,
the scans, and the copy of the best weights. Not counted is what the libraries take beside them: scratch memory inside a
convolution (oneDNN's, cuDNN's), gaps in an allocator's blocks, the CUDA context, and Python with PyTorch in it.
"""

import math
import sys
import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import SegdetError
from ..runtime.device import default_device, precision
from ..unet3d import deepest_side
from .cost import networks_of

FLOAT, LABEL, FLAG = 4, 8, 1  # bytes of a grey value, of a label while it is trained on, of a voxel of a mask


class Shapes(FakeTensorMode):
    """PyTorch's fake tensors, which have no values; a mask that chooses elements chooses all, the most it can."""

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """See PyTorch."""
        if func is torch.ops.aten.nonzero.default:
            with self:
                return torch.zeros(args[0].numel(), args[0].ndim, dtype=torch.long, device=args[0].device)
        return super().__torch_dispatch__(func, types, args, kwargs or {})


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive; those that share memory count once.

    Attributes
    ----------
    now, peak : int
    """

    def __init__(self):
        super().__init__()
        self.now, self.peak, self._known = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """See PyTorch."""
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return found

    def _add(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key, size):
        self._known.discard(key)
        self.now -= size


def train_two_steps(model, loss, optimizer, live):
    """Train for two steps as `segdet.training.loop.fit` does; the peak of `live`, `LiveBytes`, starts at the first."""
    model.train()
    live.peak = live.now
    for _ in range(2):  # the optimiser's moments appear at the end of the first
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()


def detector_steps(model, shape, live, half=False, foreach=False):
    """`train_two_steps` of a detector on slices of `shape` (N, H, W); `half` and `foreach` as in `predicted`."""
    slices = torch.rand(shape)
    boxes = torch.tensor([[[30.0, 60.0, 66.0, 126.0]]]).repeat(shape[0], 1, 1)
    weights = [p for p in model.parameters() if p.requires_grad]

    def loss():
        with _autocast(half):
            return sum(model.loss(slices, boxes, torch.Generator()).values())

    optimizer = torch.optim.SGD(weights, 0.001, momentum=0.9, weight_decay=0.0005, foreach=foreach)
    train_two_steps(model, loss, optimizer, live)


def segmenter_steps(model, shape, live, half=False, foreach=False):
    """`train_two_steps` of a segmenter with two channels on a grid of `shape` (D, H, W)."""
    volume = torch.rand(1, 2, *shape).contiguous(memory_format=torch.channels_last_3d)
    labels = torch.zeros(1, *shape, dtype=torch.long)

    def loss():
        with _autocast(half):
            logits = model(volume)
        return F.cross_entropy(logits.float(), labels)

    train_two_steps(model, loss, torch.optim.Adam(model.parameters(), 0.001, foreach=foreach), live)


def _autocast(half):
    return torch.autocast("cpu", torch.bfloat16) if half else nullcontext()


@dataclass(frozen=True)
class Need:
    """The bytes of a training.

    Attributes
    ----------
    step : int
        The most at one moment of a step: weights, moments, gradients, what is kept for them, and the batch.
    beside : int
        The training scans on the device and the best weights so far.
    scans : int
        All scans of a split, which stay in the main memory.
    """

    step: int
    beside: int
    scans: int

    def gib(self, device):
        """GiB on a device; on a CPU the scans are in the same memory."""
        return (self.step + self.beside + (self.scans if device.type == "cpu" else 0)) / 2**30


def predicted(profile, checkpointing=False, half=None, device=None):
    """What the trainings of a profile need, by the names "detector" and "segmenter": a dict of `Need`.

    Parameters
    ----------
    profile : Profile
    checkpointing : bool
        Of the segmenter, see `UNet3D`.
    half : bool, optional
        Whether bfloat16 is used; by default where `precision` uses it on this device.
    device : torch.device, optional
        By default `default_device()`. Nothing is put there.
    """
    device = device or default_device()
    voxels = {"detector": math.prod(profile.detector_shape), "segmenter": math.prod(profile.segmenter_shape)}
    on_device = {"detector": FLOAT, "segmenter": 2 * FLOAT + LABEL}  # scan and attention, and the labels
    scans = (profile.train + profile.validation + profile.test) * sum(voxels.values()) * (FLOAT + FLAG)
    deepest = {"detector": None, "segmenter": deepest_side(profile.segmenter_shape)}
    needs = {}
    for part in voxels:
        narrow = half if half is not None else not isinstance(precision(device, deepest[part]), nullcontext)
        again = checkpointing and part == "segmenter"
        # on CUDA, PyTorch's optimisers work on all weights at once, and need room for it
        step, weights = _step_and_weights(profile, part, again, narrow, device.type == "cuda")
        needs[part] = Need(step, profile.train * voxels[part] * on_device[part] + weights, scans)
    return needs


@cache
def _step_and_weights(profile, part, checkpointing, half, foreach):
    """Bytes of a training step of a network at its peak, and of its weights."""
    with Shapes(), LiveBytes() as live:
        if part == "detector":
            model = networks_of(profile, "cpu")[0]
            detector_steps(model, (8, *profile.detector_shape[1:]), live, half, foreach)
        else:
            model = networks_of(profile, "cpu")[1]
            model.checkpointing = checkpointing
            segmenter_steps(model, profile.segmenter_shape, live, half, foreach)
        return live.peak, sum(tensor.nbytes for tensor in model.state_dict().values())


def available_gib(device=None):
    """GiB that a device has left, or None where the system does not say."""
    device = device or default_device()
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0] / 2**30
    if device.type == "mps":
        return (torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()) / 2**30
    if sys.platform != "linux":
        return None
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20  # from KiB


def check_memory(needed_gib, what, way_out="take a smaller profile"):
    """Refuse, before any work, what cannot fit.

    Raises
    ------
    SegdetError
    """
    there = available_gib()
    if there is not None and needed_gib > there:
        raise SegdetError(
            f"{what} needs about {needed_gib:.1f} GiB of memory, {there:.1f} GiB are available here; {way_out}"
        )


def check_training(profile, parts=("detector", "segmenter"), *, checkpointing=False, can_checkpoint=False):
    """`check_memory` for the trainings of a profile; `can_checkpoint`: the command has the option --checkpointing."""
    for part in parts:
        way_out = "take a smaller profile"
        if part == "segmenter" and can_checkpoint and not checkpointing:
            way_out = "add --checkpointing or take a smaller profile"
        needed = predicted(profile, checkpointing)[part].gib(default_device())
        check_memory(needed, f"training the {part} of the profile {profile.name}", way_out)
