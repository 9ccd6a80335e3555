"""The detector beside torchvision's `RegionProposalNetwork`: one backbone, weights, anchors, sampling (chapter 05)."""

import copy
from contextlib import nullcontext

import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from ..boxes import area, clip, decode
from ..cascade import detect
from ..experiments.cost import flops_of, training_step
from ..proposals import Proposals, select
from ..rpn import RPN
from ..rpn_loss import sampled_loss
from ..runtime.device import default_device, precision
from .measure import Row, bench_memory, paired, rate_note

KEEP = Proposals(threshold=0.0, vote=False)


def bench_detector():
    """Rows for a training step, the proposals of a scan, what lies behind the backbone, and another backbone.

    The peer runs as its authors leave it, in float32; a second row (*) gives it our precision and memory layout.
    """
    device = default_device()
    yield from bench_memory("detector, memory of a training step", step_of, ("torchvision", "torchvision *"))
    ours = RPN().to(device, memory_format=torch.channels_last)
    ours.backbone.freeze()  # as in training
    peer = TorchvisionRPN(ours).to(device, memory_format=torch.channels_last)
    slices, boxes = example(device)
    volume = torch.rand(128, 184, 96)
    with torch.no_grad():
        features = ours.features(slices)

    def ours_behind():
        with precision(device):
            return behind(ours.head(features), ours.sampling, boxes)

    for name, model, context in (
        ("torchvision", copy.deepcopy(peer).to(memory_format=torch.contiguous_format), nullcontext),
        ("torchvision *", peer, lambda: precision(device)),
    ):

        def peer_behind(model=model, context=context):
            with context():
                return behind_peer(model, features, boxes)

        steps = training(ours, slices, boxes), training(model, slices, boxes, context)
        times = paired(*steps, repeats=5)
        note = rate_note(flops_of(steps[0]), times[0])
        yield Row("detector, training step, 16 slices", name, *times, limit=0.8, note=note)
        yield Row("detector, all behind the backbone", name, *paired(ours_behind, peer_behind), limit=0.3)
        model.eval()
        scans = lambda: detect(ours, volume, KEEP), lambda m=model, c=context: detect_as(m, volume, c)
        times = paired(*scans, repeats=3)
        note = rate_note(flops_of(scans[0]), times[0])
        yield Row("detector, proposals, 128 slices", name, *times, limit=0.5, note=note)
    outputs = [t.detach().requires_grad_(t.requires_grad) for t in ours.head(features)]
    peer.train().rpn.head = GivenHead(peer.rpn.head([features]))
    times = paired(lambda: behind(outputs, ours.sampling, boxes), lambda: behind_peer(peer, features, boxes))
    note = "* with our precision and memory layout; this row has no layer in it"
    yield Row("detector, matching, loss, proposals", "torchvision", *times, limit=0.3, note=note)
    yield from backbone_rows(device)


def backbone_rows(device):
    """The compact backbone beside the paper's, in training and in use, with their operations a slice."""
    slices, boxes = example(device)
    compact, large = (
        RPN(backbone=name).to(device, memory_format=torch.channels_last) for name in ("resnet18", "vgg16")
    )
    large.backbone.freeze()  # as in training
    note = f"forward {gflop(compact, slices[:1]):.2g} and {gflop(large, slices[:1]):.2g} GFLOP a slice"
    steps = [training(model, slices, boxes) for model in (compact, large)]
    scans = [lambda m=m: detect(m, slices.cpu(), KEEP) for m in (compact, large)]
    for what, pair in (("training step", steps), ("proposals", scans)):
        times = paired(*pair, repeats=5)
        said = f"{note}; {rate_note(flops_of(pair[0]), times[0])}"
        yield Row(f"detector, ResNet-18, {what}, 16 slices", "VGG-16", *times, limit=0.25, note=said)


@torch.no_grad()
def gflop(model, slices):
    """Billions of floating-point operations of a forward pass, a product and its sum counted as two."""
    return flops_of(lambda: model(slices)) / 1e9


def step_of(who):
    """A training step of ours or of the peer; `who` as in the report."""
    device = default_device()
    model, context = RPN(), None
    model.backbone.freeze()
    if who != "ours":
        model, context = TorchvisionRPN(model), nullcontext if who == "torchvision" else None
    layout = torch.contiguous_format if who == "torchvision" else torch.channels_last
    return training(model.to(device, memory_format=layout), *example(device), context)


def example(device):
    """16 slices of which 10 hold a box: (16, 184, 96) and (16, 1, 4)."""
    generator = torch.Generator().manual_seed(0)
    slices = torch.rand(16, 184, 96, generator=generator)
    corner = torch.rand(16, 1, 2, generator=generator) * torch.tensor([40.0, 90.0])
    boxes = torch.cat([corner, corner + torch.tensor([36.0, 66.0])], -1)
    boxes[10:] = 0
    return slices.to(device), boxes.to(device)


def training(model, slices, boxes, context=None):
    """A function that trains `model` for one step."""

    def loss():
        with context() if context else precision(slices.device):
            return sum(model.loss(slices, boxes).values())

    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-4, momentum=0.9)
    return training_step(model, loss, optimizer)


@torch.no_grad()
def detect_as(peer, volume, context):
    """The best box of every slice, from the peer, in batches as large as ours."""
    with context():
        return torch.cat(
            [box for part in volume.split(16) for box in peer(part.to(peer.backbone.mean.device))[0]]
        ).cpu()


def behind(outputs, sampling, boxes):
    """Matching, sampling, loss with its gradients, and proposals, from what the head returns."""
    objectness, offsets, anchors = outputs
    loss = sampled_loss(objectness, offsets, anchors, boxes, (184, 96), sampling)
    sum(loss.values()).backward()
    with torch.no_grad():
        found = clip(decode(offsets, anchors), (184, 96))
        return select(found, objectness.softmax(-1)[..., 1], KEEP)[0].cpu()


def behind_peer(peer, features, boxes):
    """The same from torchvision, head included; it makes its proposals in every training step."""
    found, loss = peer.behind(features, boxes, (184, 96))
    sum(loss.values()).backward()
    return torch.cat(found).cpu()


class SameAnchors(torch.nn.Module):
    """An `AnchorGrid` in the place of torchvision's generator."""

    def __init__(self, anchors):
        super().__init__()
        self.anchors = anchors

    def num_anchors_per_location(self):
        """Anchors per location, a number for each feature map."""
        return [len(self.anchors)]

    def forward(self, images, features):
        """The anchors of every image."""
        return [self.anchors(features[0].shape[-2:], features[0].device)] * len(images.image_sizes)


class GivenHead(torch.nn.Module):
    """A head that returns what it was given, as leaves of the graph."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = [[t.detach().requires_grad_() for t in kind] for kind in outputs]

    def forward(self, features):
        """(scores, offsets), each a list with one feature map."""
        return self.outputs


class TorchvisionRPN(torch.nn.Module):
    """VGG-16 and torchvision's RPN with the weights, anchors and sampling of one of ours."""

    def __init__(self, ours):
        super().__init__()
        self.backbone = copy.deepcopy(ours.backbone)
        head = RPNHead(512, len(ours.anchors))
        head.conv[0][0].load_state_dict(ours.window.state_dict())
        head.bbox_pred.load_state_dict(ours.offsets.state_dict())
        # a softmax over (background, object) is a logistic function of their difference
        head.cls_logits.load_state_dict({k: v[1::2] - v[::2] for k, v in ours.scores.state_dict().items()})
        use, every = ours.sampling, {"training": 10**6, "testing": 10**6}
        keep = {"training": KEEP.top_k, "testing": KEEP.top_k}
        self.rpn = RegionProposalNetwork(
            SameAnchors(ours.anchors), head, use.positive_iou, use.negative_iou, use.per_slice, use.positive_fraction,
            every, keep, KEEP.nms_iou, KEEP.threshold,
        )  # fmt: skip

    def forward(self, slices, boxes=None):
        """(boxes, losses) of torchvision's RPN for slices (N, H, W)."""
        return self.behind(self.backbone(slices[:, None]), boxes, slices.shape[1:])

    def behind(self, features, boxes, shape):
        """The same from features (N, 512, h, w) on."""
        targets = None if boxes is None else [{"boxes": b[area(b) > 0]} for b in boxes]
        return self.rpn(ImageList(features, [tuple(shape)] * len(features)), {"0": features}, targets)

    def loss(self, slices, boxes):
        """Both terms of torchvision's loss."""
        return self(slices, boxes)[1]
