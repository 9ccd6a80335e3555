"""The segmenter: 3D U-Net as the paper takes it from Cicek et al. (chapter 07)."""

import math
from contextlib import contextmanager, nullcontext

import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .folding import conv_norm, up_conv_norm


def _normalisation(name, channels):
    """The normalisation after a convolution (`facts` B9)."""
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return nn.BatchNorm3d(channels)
    if name == "instance":
        return nn.InstanceNorm3d(channels, affine=True)
    if name == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    raise ValueError(f"norm must be none, batch, instance or group, not {name!r}")


class TwoConv(nn.Sequential):
    """Two 3 x 3 x 3 convolutions, each then normalisation and ReLU: (N, c_in, D, H, W) -> (N, c_out, D, H, W)."""

    def __init__(self, c_in, c_mid, c_out, norm):
        super().__init__(
            nn.Conv3d(c_in, c_mid, 3, padding=1),
            _normalisation(norm, c_mid),
            nn.ReLU(inplace=True),
            nn.Conv3d(c_mid, c_out, 3, padding=1),
            _normalisation(norm, c_out),
            nn.ReLU(inplace=True),
        )

    def forward(self, x, upsample=None, skip=None):
        """See the class; `upsample` brings `x` to the grid of `skip`, and the two together are the input then."""
        conv, norm, relu, *second = self
        y = conv_norm(conv, norm, x) if upsample is None else up_conv_norm(upsample, conv, norm, x, skip)
        conv, norm, _ = second
        return relu(conv_norm(conv, norm, relu(y)))


@contextmanager
def _keep_statistics(module):
    """Batch normalisation inside does not count a batch that is computed again."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm3d)]
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


class UpConv(nn.ConvTranspose3d):
    """2 x 2 x 2 up-convolution of stride 2 that keeps the channels: (N, c, D, H, W) -> (N, c, 2 D, 2 H, 2 W).

    The eight voxels that one voxel becomes are no other's, so this is one matrix product. PyTorch's own kernel of a
    transposed convolution does not use that on a CPU; on CUDA it is the faster one.
    """

    def __init__(self, channels):
        super().__init__(channels, channels, 2, stride=2)

    def forward(self, x):
        """See the class."""
        if x.is_cuda:
            return super().forward(x)
        n, c, d, h, w = x.shape
        product = self.weight.permute(2, 3, 4, 1, 0).reshape(8 * c, c)
        x = F.linear(x.movedim(1, -1), product, self.bias.repeat(8)).view(n, d, h, w, 2, 2, 2, c)
        return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(n, 2 * d, 2 * h, 2 * w, c).movedim(-1, 1)


class UNet3D(nn.Module):
    """3D U-Net (paper section 3, segmentation module; widths of Cicek et al., MICCAI 2016).

    With ``base_channels=32, depth=3``: 32-64, 64-128, 128-256, bottom 256-512, and back with up-convolutions that
    keep the channels. On the way down a level's last convolution has twice the width of its first, on the way up both
    have the width of the skip connection.

    Parameters
    ----------
    in_channels : int
        1 for the volume, 2 for volume and attention.
    out_channels : int
        Labels, background included.
    base_channels : int
    depth : int
        Number of 2 x 2 x 2 max poolings.
    norm : str
        "none", "batch", "instance" or "group".
    checkpointing : bool
        Training keeps only what leaves a level and computes the rest again for the gradients: less memory, more time,
        the same weights.
    """

    def __init__(self, in_channels=1, out_channels=2, base_channels=32, depth=3, norm="batch", *, checkpointing=False):
        super().__init__()
        self.checkpointing = checkpointing
        self.config = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "base_channels": base_channels,
            "depth": depth,
            "norm": norm,
        }
        width = [base_channels * 2**level for level in range(depth + 2)]  # 32, 64, 128, 256, 512
        self.down = nn.ModuleList(
            TwoConv(in_channels if level == 0 else width[level], width[level], width[level + 1], norm)
            for level in range(depth + 1)
        )
        self.upsample = nn.ModuleList(UpConv(width[level + 1]) for level in range(depth, 0, -1))
        self.up = nn.ModuleList(
            TwoConv(width[level + 1] + width[level], width[level], width[level], norm) for level in range(depth, 0, -1)
        )
        self.head = nn.Conv3d(width[1], out_channels, 1)

    def forward(self, x):
        """Logits (N, out_channels, D, H, W) of volumes (N, in_channels, D, H, W) of any size.

        Sides that the poolings do not divide are padded with zeros at the end and cut again (`facts` B10). Instance
        normalisation, and batch normalisation that trains on one volume, need two voxels on the coarsest grid; less
        is PyTorch's ValueError.
        """
        size = x.shape[2:]
        multiple = 2 ** (len(self.down) - 1)
        x = F.pad(x, [p for n in reversed(size) for p in (0, -n % multiple)])
        skips = [self._run(self.down[0], x)]
        for level in self.down[1:]:
            skips.append(self._run(_contract, level, skips[-1]))
        x = skips.pop()
        for upsample, level in zip(self.upsample, self.up, strict=True):
            x = self._run(level, x, upsample, skips.pop())
        return self.head(x)[:, :, : size[0], : size[1], : size[2]]

    def _run(self, function, *arguments):
        if not (self.checkpointing and self.training):
            return function(*arguments)
        again = lambda: (nullcontext(), _keep_statistics(self))  # noqa: E731
        return checkpoint(function, *arguments, use_reentrant=False, context_fn=again)


def deepest_side(shape, depth=3):
    """The shortest side of a grid (D, H, W) where a network that halves it `depth` times, padding it, is deepest."""
    return -(-min(shape) // 2**depth)


def _contract(level, x):
    return level(F.max_pool3d(x, 2))
