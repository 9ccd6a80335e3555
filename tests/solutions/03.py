import torch


def box_iou(a, b):
    a, b = a[:, None], b[None]
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = sides.clamp(min=0).prod(-1)
    together = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return torch.where(together > 0, shared / together.clamp(min=1e-9), 0.0)


def encode(boxes, anchors):
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    shift = (boxes[:, :2] + size / 2 - anchors[:, :2] - anchor_size / 2) / anchor_size
    return torch.cat([shift, torch.log(size / anchor_size)], 1)


def anchor_grid(sizes, ratios, stride, cells):
    found = []
    for row in range(cells[0]):
        for column in range(cells[1]):
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            for ratio in ratios:
                for size in sizes:
                    w, h = size / ratio**0.5, size * ratio**0.5
                    found.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return torch.tensor(found)
