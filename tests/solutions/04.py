import torch
import torch.nn.functional as F
from torchvision.ops import box_iou


def match(anchors, boxes, positive_iou=0.7, negative_iou=0.3):
    labels, matched = [], []
    for of_slice in boxes:
        iou = box_iou(anchors, of_slice).nan_to_num(0)
        most, which = iou.max(1)
        label = torch.full((len(anchors),), -1)
        label[most < negative_iou] = 0
        label[most > positive_iou] = 1
        reached = iou.max(0).values
        label[((iou == reached) & (reached > 0)).any(1)] = 1
        labels.append(label)
        matched.append(of_slice[which])
    return torch.stack(labels), torch.stack(matched)


def rpn_loss(objectness, offsets, anchors, matched, positive, negative):
    kinds = []
    for label, chosen in ((1, positive), (0, negative)):
        if chosen.any():
            scores = objectness[chosen]
            kinds.append(F.cross_entropy(scores, torch.full((len(scores),), label)))
    log_loss = sum(kinds) / len(kinds) if kinds else torch.tensor(0.0)

    box, anchor = matched[positive], anchors.expand_as(matched)[positive]
    size, anchor_size = box[:, 2:] - box[:, :2], anchor[:, 2:] - anchor[:, :2]
    shift = (box[:, :2] + size / 2 - anchor[:, :2] - anchor_size / 2) / anchor_size
    target = torch.cat([shift, torch.log(size / anchor_size)], 1)
    distance = F.smooth_l1_loss(offsets[positive], target, reduction="sum")
    return {"log_loss": log_loss, "smooth_l1": distance / positive.sum().clamp(min=1)}
