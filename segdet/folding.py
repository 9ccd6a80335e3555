"""The convolutions of the 3D U-Net with fewer operations, for a CPU (chapter 07).

Three identities, all exact but for rounding. Where `applies` says no, the modules are called as they are: other devices
have not been measured. Where it says yes, the functions use the parameters of the modules and hooks on
the single modules do not run.

**An up-convolution and the convolution behind it** are both linear, with nothing between them but a concatenation. So
the convolution K splits by its input channels: the skip connection meets its own part of K, and the coarse map meets
the composition of the up-convolution W with the other part. Along one axis the up-convolution is
``u[2 i + r] = W[r] x[i]`` for r = 0, 1, and the convolution ``y[n] = sum of K[t] u[n + t - 1]`` for t = 0, 1, 2. So
x[i] reaches ``y[2 i + k - 1]`` through

    C[k] = sum over r - t + 2 = k of K[t] W[r],    k = 0 ... 3:
    C[0] = K[2] W[0],  C[1] = K[1] W[0] + K[2] W[1],  C[2] = K[0] W[0] + K[1] W[1],  C[3] = K[0] W[1],

which is a transposed convolution of kernel 4, stride 2 and padding 1. In 3D it takes 4 x 4 x 4 products for the
2 x 2 x 2 voxels that one coarse voxel becomes, where the convolution alone takes 27 for each of the eight. Neither the
fine map nor the concatenation is ever made. The bias of the up-convolution acts only inside the grid, for K pads with
zeros; `response_to_ones` gives what becomes of it.

**Batch normalisation** that uses its averages is one factor and one shift a channel, which the convolution before it
takes into its weights and bias.

**A batch of one.** In float32 PyTorch leaves a small convolution to a slower kernel if the batch has a single volume.
The same volume as a batch of two halves, which overlap by the two slices that a kernel of three needs, goes to oneDNN.
"""

from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import nn

SMALL = 20_480  # C D H of a batch of one, up to which PyTorch's CPU convolution is not oneDNN's


def applies(x, conv):
    """Whether the identities are worth it: on a CPU in float32 or bfloat16, and not for a file of another program."""
    if x.device.type != "cpu" or type(conv) is not nn.Conv3d or conv.weight.dtype != torch.float32:
        return False
    exported = torch.compiler.is_exporting() or torch.jit.is_tracing()
    known = torch.get_autocast_dtype("cpu") == torch.bfloat16 if half() else x.dtype == torch.float32
    return known and not exported


def half():
    """Whether PyTorch's products take operands of fewer bits than the weights have."""
    return torch.is_autocast_enabled("cpu")


def conv_norm(conv, norm, x):
    """``norm(conv(x))`` of a 3 x 3 x 3 convolution: (N, c_in, D, H, W) -> (N, c_out, D, H, W)."""
    if not applies(x, conv):
        return norm(conv(x))
    weight, bias, norm = absorb(conv, norm)
    return norm(convolve(x, weight, bias))


def up_conv_norm(up, conv, norm, x, skip):
    """``norm(conv(cat([skip, up(x)])))`` of an up-convolution and a 3 x 3 x 3 convolution.

    Parameters
    ----------
    up : UpConv
    conv : nn.Conv3d
    norm : nn.Module
    x : Tensor (N, c, D, H, W)
    skip : Tensor (N, c_skip, 2 D, 2 H, 2 W)

    Returns
    -------
    Tensor (N, c_out, 2 D, 2 H, 2 W)
    """
    if not applies(x, conv):
        return norm(conv(torch.cat([skip, up(x)], 1)))
    weight, bias, norm = absorb(conv, norm)
    from_skip, from_up = weight.split([skip.shape[1], x.shape[1]], 1)
    kernel = composed(conv, up.weight, from_up, x)
    if kernel is None:
        return norm(convolve(torch.cat([skip, up(x)], 1), weight, bias))
    y = convolve(skip, from_skip, bias)
    y += F.conv_transpose3d(x, kernel, stride=2, padding=1)
    y += response_to_ones(torch.einsum("oczyx,c->zyxo", from_up, up.bias), y.shape[2:])
    return norm(y)


_kept = WeakKeyDictionary()  # convolution: (half(), W, K, composition)


def composed(conv, up_weight, weight, x):
    """`composition`, where no gradient is needed that of the call before; None where to make it does not pay."""
    if not torch.compiler.is_compiling():
        has_numbers = type(weight) in (torch.Tensor, nn.Parameter)  # a fake tensor is of another class
        if has_numbers and not torch.is_grad_enabled():
            return kept_composition(conv, up_weight, weight)
        _kept.pop(conv, None)
    return composition(up_weight, weight) if pays(x, weight) else None


def kept_composition(conv, up_weight, weight):
    """`composition` from the call before, where the precision and every number of both kernels are still the same."""
    if conv in _kept:
        precision, *kernels, kernel = _kept[conv]
        same = (torch.equal(*pair) for pair in zip(kernels, (up_weight, weight), strict=True))
        if precision == half() and all(same):
            return kernel
    kernel = composition(up_weight, weight)
    _kept[conv] = half(), up_weight.clone(), weight.clone(), kernel
    return kernel


def pays(x, weight):
    """Whether composing the kernels in every call takes less than half the operations that it saves.

    Both counts are products of numbers, without the factor c that they share: 8 c + 216 c_out a coarse voxel become 64
    c_out; the composition takes 216 c c_out. Half, for its small products run at about half the speed.
    """
    c, c_out = x.shape[1], weight.shape[0]
    saved = (8 * c + (216 - 64) * c_out) * x.shape[0] * x.shape[2:].numel()
    return saved > 2 * 216 * c * c_out


def composition(up, conv):
    """The kernel C of the module's docstring: W (c, c, 2, 2, 2) and K (c_out, c, 3, 3, 3) -> (c, c_out, 4, 4, 4).

    ``C[k] = sum of W[r] K[2 + r - k]`` is itself a transposed convolution, of W with K turned over.
    """
    return F.conv_transpose3d(up, conv.flip(2, 3, 4).transpose(0, 1))


def response_to_ones(kernel, size):
    """What a 3 x 3 x 3 convolution that pads with zeros makes of ones: ``(3, 3, 3, c) -> (1, c, *size)``, sides >= 2.

    All three taps of an axis meet a one but at its ends, where the outer tap meets the padding.
    """
    for axis, n in enumerate(size):
        before, at, after = kernel.split(1, axis)
        inside = (before + at + after).repeat_interleave(n - 2, axis)
        kernel = torch.cat([at + after, inside, before + at], axis)
    return kernel.movedim(-1, 0)[None]


def absorb(conv, norm):
    """(weight, bias, what is left of the normalisation) of ``norm(conv(x))``."""
    if not isinstance(norm, nn.BatchNorm3d) or norm.training:
        return conv.weight, conv.bias, norm
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias + scale * (conv.bias - norm.running_mean)
    return conv.weight * scale[:, None, None, None, None], shift, nn.Identity()


def convolve(x, weight, bias):
    """``F.conv3d(x, weight, bias, padding=1)`` of a 3 x 3 x 3 kernel, in float32 small batches of one by halves."""
    n, c, d, h, _ = x.shape
    if half() or n > 1 or c * d * h > SMALL or d % 2 or d < 8:
        return F.conv3d(x, weight, bias, padding=1)
    x = F.pad(x, (0, 0, 0, 0, 1, 1))
    halves = torch.cat([x[:, :, : d // 2 + 2], x[:, :, d // 2 :]])
    return torch.cat(F.conv3d(halves, weight, bias, padding=(0, 1, 1)).chunk(2), 2)
