import torch
import torch.nn.functional as F
from torch import nn


def count_parameters(in_channels, out_channels, base_channels, depth):
    def conv(c, d):
        return 27 * c * d + d

    total, c = 0, in_channels
    for level in range(depth + 1):
        first, second = base_channels * 2**level, base_channels * 2 ** (level + 1)
        total += conv(c, first) + conv(first, second)
        c = second
    for level in reversed(range(depth)):
        width = base_channels * 2 ** (level + 1)
        total += 8 * c * c + c + conv(c + width, width) + conv(width, width)
        c = width
    return total + c * out_channels + out_channels


def pair(c_in, c_mid, c_out):
    first, second = nn.Conv3d(c_in, c_mid, 3, padding=1), nn.Conv3d(c_mid, c_out, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class UNet3D(nn.Module):
    def __init__(self, in_channels, out_channels, base_channels, depth):
        super().__init__()
        width = [base_channels * 2**level for level in range(depth + 2)]
        inputs = [in_channels, *width[1:]]
        self.down = nn.ModuleList(pair(inputs[i], width[i], width[i + 1]) for i in range(depth + 1))
        ups = range(depth, 0, -1)
        self.grow = nn.ModuleList(nn.ConvTranspose3d(width[i + 1], width[i + 1], 2, stride=2) for i in ups)
        self.up = nn.ModuleList(pair(width[i + 1] + width[i], width[i], width[i]) for i in ups)
        self.head = nn.Conv3d(width[1], out_channels, 1)

    def forward(self, x):
        size, skips = x.shape[2:], []
        multiple = 2 ** len(self.up)
        x = F.pad(x, [p for n in reversed(size) for p in (0, -n % multiple)])
        for level in self.down[:-1]:
            x = level(x)
            skips.append(x)
            x = F.max_pool3d(x, 2)
        x = self.down[-1](x)
        for grow, level in zip(self.grow, self.up, strict=True):
            x = level(torch.cat([skips.pop(), grow(x)], 1))
        return self.head(x)[:, :, : size[0], : size[1], : size[2]]
