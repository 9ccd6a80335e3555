"""A GPU without a GPU: PyTorch's fake tensors stand for those on `cuda`, tensors on the CPU are real.

A fake tensor has a shape, a type and a device, but no values. Where two devices meet in one operation it raises
`FakeTensorDeviceMismatchError`, as a GPU would. What Python asks of its values is answered without them:

* a number is 1, a truth value True;
* a mask that chooses elements chooses `CHOSEN` of them;
* what is copied to the CPU counts 0, 1, 2, ... there, so that boxes have an area.

`replace_what_needs_a_context` puts these in the place of what only a real GPU can do:

* `nn.Module.to` and `Tensor.to` in a memory format: parameters are made anew, and the format is set after the move;
* `Tensor.backward`: it leaves a gradient of zeros at every leaf of the graph. So the devices inside the backward pass
  are not looked at;
* whether the GPU has bfloat16: yes.
"""

import math

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
CHOSEN = 3
DIMENSIONS = {torch.channels_last: 4, torch.channels_last_3d: 5}


class FakeCuda(FakeTensorMode):
    """Fake tensors on `cuda` beside real ones on the CPU."""

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        target = device and torch.device(device).type
        if target != "cuda" and not any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            return torch.ones((), dtype=args[0].dtype).item()
        if func is aten.nonzero.default:
            with self:
                shape = min(CHOSEN, math.prod(args[0].shape)), args[0].ndim
                return torch.zeros(shape, dtype=torch.long, device=args[0].device)
        if func is aten._to_copy.default and target == "cpu":
            values = torch.arange(math.prod(args[0].shape)).reshape(args[0].shape)
            return values.to(kwargs.get("dtype") or args[0].dtype)
        if func is aten.copy_.default and not isinstance(args[0], FakeTensor):  # from the GPU into memory of the CPU
            return args[0].zero_()
        if func in (aten.index.Tensor, aten.index_put_.default):
            _check_indices(*args[:2])
        return super().__torch_dispatch__(func, types, args, kwargs)


def _check_indices(tensor, indices):
    """Indices lie on the CPU or beside the tensor; PyTorch's fake tensors do not look at them."""
    for index in indices:
        if index is not None and index.device.type != "cpu" and index.device != tensor.device:
            raise RuntimeError(f"indices on {index.device} for a tensor on {tensor.device}")


def replace_what_needs_a_context(monkeypatch):
    """See the module; `monkeypatch` is pytest's."""
    original = torch.Tensor.to

    def tensor_to(tensor, *args, memory_format=torch.preserve_format, **kwargs):
        moved = original(tensor, *args, **kwargs)
        return moved if memory_format == torch.preserve_format else moved.contiguous(memory_format=memory_format)

    monkeypatch.setattr(torch.Tensor, "to", tensor_to)
    monkeypatch.setattr(nn.Module, "to", _module_to)
    monkeypatch.setattr(torch.Tensor, "backward", _backward)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)


@torch.no_grad()
def _module_to(module, device, memory_format=torch.preserve_format):
    for part in module.modules():
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            with_format = tensor.ndim == DIMENSIONS.get(memory_format)
            moved = tensor.detach().to(device, memory_format=memory_format if with_format else torch.preserve_format)
            if isinstance(tensor, nn.Parameter):
                part._parameters[name] = nn.Parameter(moved, tensor.requires_grad)
            else:
                part._buffers[name] = moved
    return module


def _backward(loss):
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.zeros_like(node.variable)
        waiting += [following for following, _ in node.next_functions]
