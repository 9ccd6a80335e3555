import torch
from torchvision.ops import box_iou


def nms(boxes, scores, limit):
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(box_iou(boxes[i : i + 1], boxes[j : j + 1]) <= limit for j in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def select(boxes, scores, proposals):
    found, values = torch.zeros(len(boxes), proposals.top_k, 4), torch.zeros(len(boxes), proposals.top_k)
    for n, (of_slice, score) in enumerate(zip(boxes, scores, strict=True)):
        area = (of_slice[:, 2:] - of_slice[:, :2]).prod(1)
        left = (score >= proposals.threshold) & (area > 0)
        for turn in range(proposals.top_k):
            if not left.any():
                break
            best = int(torch.where(left, score, -1).argmax())
            near = (box_iou(of_slice[best : best + 1], of_slice)[0] > proposals.nms_iou) & (area > 0)
            box = of_slice[best]
            if proposals.vote:
                box = (score[near, None] * of_slice[near]).sum(0) / score[near].sum()
            found[n, turn], values[n, turn] = box, score[best]
            left = left & ~near
    return found, values
