"""Volumes changed a little while a segmenter is trained (`facts` B14, chapter 08)."""

import torch
import torch.nn.functional as F


def augment_volume(x, target, generator, recipe):
    """Change a volume, its attention and its annotation alike, as a `SegmenterRecipe` says.

    Parameters
    ----------
    x : Tensor, (1, C, d, h, w)
        The image, and behind it the attention.
    target : Tensor of int64, (1, d, h, w)
    generator : torch.Generator
        Of the CPU, so that every device sees the same.
    recipe : segdet.training.recipes.SegmenterRecipe

    Returns
    -------
    x, target : Tensors of the same shapes
    """

    def uniform(n):  # in (-1, 1)
        return (2 * torch.rand(n, generator=generator) - 1).to(x.device)

    if recipe.mirrored and torch.rand((), generator=generator) < 0.5:
        x, target = x.flip(-1), target.flip(-1)
    if recipe.gain:
        factor, shift = recipe.gain * uniform(2)
        x = torch.cat([x[:, :1] * (1 + factor) + shift / 2, x[:, 1:]], 1)
    if recipe.zoom:
        back = torch.zeros(1, 3, 4, device=x.device)  # from the new grid to the old, which runs from -1 to 1
        back[0].fill_diagonal_(1).mul_(1 / (1 + recipe.zoom * uniform(3)[:, None]))
        back[0, :, 3] = recipe.zoom * uniform(3)
        grid = F.affine_grid(back, x.shape, align_corners=False)
        image = F.grid_sample(x[:, :1], grid, padding_mode="border", align_corners=False)
        masks = torch.cat([x[:, 1:], target[:, None].to(x.dtype)], 1)
        masks = F.grid_sample(masks, grid, mode="nearest", align_corners=False)
        x, target = torch.cat([image, masks[:, :-1]], 1), masks[:, -1].long()
    return x, target
