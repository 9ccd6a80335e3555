"""3D U-Net (chapter 07): its parameters by hand, and the network itself."""

import torch

from .exercise import FIRST, FURTHER, Check, exercise

# Published by Cicek et al. for three channels and three labels, whose up-convolutions have no bias.
CICEK = 19_069_955
UP_BIASES = 512 + 256 + 128


def _count_parameters():
    yield Check("no pooling: two convolutions and the head, 56 + 220 + 10", (1, 2, 2, 0), 286)
    yield Check("one pooling, by hand", (1, 2, 2, 1), 3850)
    yield Check("a second channel in the input: 27 x 2 more", (2, 2, 2, 1), 3904)
    yield Check("a third label: 4 + 1 more", (1, 3, 2, 1), 3855)
    yield Check("the published number, and the biases of our up-convolutions", (3, 3, 32, 3), CICEK + UP_BIASES)


@exercise(
    FIRST,
    _count_parameters,
    "A convolution has 27 c c' + c' parameters, an up-convolution 8 c c' + c', the head c c' + c'.",
    "Going down, level l has convolutions to base 2^l and to twice that; it gets what the level above gives.",
    "Going up to level l, the up-convolution keeps its base 2^(l+2) channels. The skip has base 2^(l+1).",
    "So the first convolution going up sees 3 base 2^(l+1) channels. Both convolutions give base 2^(l+1).",
)
def count_parameters(in_channels, out_channels, base_channels, depth):
    """How many parameters the U-Net has without normalisation, by arithmetic alone.

    Parameters
    ----------
    in_channels, out_channels, base_channels, depth : int
        As of `segdet.unet3d.UNet3D`; depth is the number of poolings.

    Returns
    -------
    int
    """


def _answer(*shape, scale=1.0):
    """What a network makes of random numbers."""

    def read(network):
        with torch.no_grad():
            return network(scale * torch.randn(shape, generator=torch.Generator().manual_seed(0)))

    return read


def _reach(network):
    """First and last input voxel along the slices that voxel 12 depends on, by gradient."""
    with torch.no_grad():
        for p in network.parameters():
            p.abs_() if p.ndim > 1 else p.zero_()
    x = torch.rand(48, 1, 32, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[:, 0, 12].sum(), x)
    reached = gradient.abs().sum((0, 1, 3, 4)).nonzero().flatten().tolist()
    return reached[0], reached[-1]


def _UNet3D():
    def size(network):
        return sum(p.numel() for p in network.parameters())

    yield Check("parameters with one pooling, by hand", (1, 2, 2, 1), 3850, size)
    yield Check("parameters of the published network", (3, 3, 32, 3), CICEK + UP_BIASES, size)
    shape = lambda read: lambda network: tuple(read(network).shape)  # noqa: E731
    yield Check(
        "two channels in, three labels out, on the same grid",
        (2, 3, 2, 2),
        (1, 3, 8, 12, 4),
        shape(_answer(1, 2, 8, 12, 4)),
    )
    yield Check(
        "a grid that the poolings do not divide", (1, 2, 2, 3), (1, 2, 9, 23, 12), shape(_answer(1, 1, 9, 23, 12))
    )
    yield Check("two scans in a batch", (1, 2, 2, 1), (2, 2, 4, 4, 4), shape(_answer(2, 1, 4, 4, 4)))
    large = lambda network: bool(_answer(1, 1, 8, 8, 8, scale=1e4)(network).abs().max() > 1)  # noqa: E731
    yield Check("it returns logits: neither softmax nor sigmoid at the end", (1, 4, 4, 1), True, large)
    # backwards: two convolutions 10 to 14, blocks 5 to 7, two convolutions 3 to 9, their voxels 6 to 19, two 4 to 21
    yield Check("voxel 12 sees voxels 4 to 21, measured by gradient", (1, 1, 2, 1), (4, 21), _reach)


@exercise(
    FURTHER,
    _UNet3D,
    "Make the pair of convolutions, each with ReLU, a module of its own, and put the levels into `nn.ModuleList`.",
    "Widths: base 2^l and base 2^(l+1) on level l going down; going up both convolutions have base 2^(l+1).",
    "Keep what leaves each level but the lowest, and join it after the up-convolution: `torch.cat([skip, x], 1)`.",
    "Where 2^depth does not divide a side: `F.pad` with zeros at the end (last axis first), then cut the result.",
)
def UNet3D(in_channels, out_channels, base_channels, depth):
    """A class, or a function that makes the network: a `torch.nn.Module` without normalisation.

    Each level has two 3 x 3 x 3 convolutions, each with ReLU; 2 x 2 x 2 max pooling down, up-convolutions of stride 2
    that keep the channels, skip connections by concatenation, a 1 x 1 x 1 convolution at the end. Going down, level l
    has base 2^l channels and then base 2^(l+1); going up, both convolutions have those of the skip. It takes volumes
    (N, in_channels, D, H, W) of any size and returns logits (N, out_channels, D, H, W).

    Parameters
    ----------
    in_channels, out_channels, base_channels, depth : int
        Depth is the number of poolings.

    Returns
    -------
    torch.nn.Module
    """


EXERCISES = (count_parameters, UNet3D)
