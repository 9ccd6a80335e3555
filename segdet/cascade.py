"""The whole method on one scan: working grids, detector, attention, segmenter, and back (chapter 09)."""

import json
from dataclasses import asdict
from pathlib import Path
from shlex import quote

import numpy as np
import torch

from .anchors import AnchorGrid
from .backbones import BACKBONES
from .errors import CheckpointError, SegdetError
from .pipeline import BATCH, Grids, Pipeline
from .proposals import Proposals
from .rpn import RPN
from .rpn_loss import Sampling
from .runtime.atomic import write_text
from .runtime.device import default_device, precision, usable
from .runtime.tensors import load_tensors, save_tensors
from .unet3d import UNet3D
from .volume import with_neighbours

WHOLE = "copy the whole folder of the model again, or train it again in a new one"  # where one of its files is no good


def detect(detector, slices, proposals=None):
    """`RPN.propose` for a volume, a few slices at a time.

    Parameters
    ----------
    detector : RPN
    slices : Tensor, (D, H, W) or (D, 3, H, W)
    proposals : Proposals, optional

    Returns
    -------
    boxes : Tensor, (D, top_k, 4)
    scores : Tensor, (D, top_k)
        Both on the CPU.
    """
    detector.eval()
    device = next(detector.parameters()).device
    slices = with_neighbours(slices) if detector.neighbours and slices.ndim == 3 else slices
    with precision(device):
        parts = [detector.propose(part.to(device), proposals) for part in slices.split(BATCH)]
    boxes, scores = zip(*parts, strict=True)
    return torch.cat(boxes).cpu(), torch.cat(scores).cpu()


def stacked(image, attention, region, device):
    """A segmenter's input, float32 (1, C, d, h, w): that region of the image and, unless None, of its attention."""
    channels = [image] if attention is None else [image, attention]
    channels = [np.ascontiguousarray(c) if isinstance(c, np.ndarray) else c for c in channels]  # no negative strides
    x = torch.stack([torch.as_tensor(c[region], dtype=torch.float32) for c in channels])[None].to(device)
    return x.contiguous(memory_format=torch.channels_last_3d)


@torch.no_grad()
def segment(segmenter, image, attention=None, region=()):
    """Probability of the foreground from an image and (unless None) its attention volume.

    Parameters
    ----------
    segmenter : nn.Module
        (1, C, d, h, w) -> logits (1, 2, d, h, w).
    image : Tensor or ndarray, (D, H, W)
    attention : Tensor or ndarray, (D, H, W), or None
    region : tuple of slices
        The part that the segmenter sees (`segdet.attention.attended_region`); elsewhere the answer is 0.

    Returns
    -------
    ndarray of float32, (D, H, W)
    """
    segmenter.eval()
    device = next(segmenter.parameters()).device
    with precision(device):
        logits = segmenter(stacked(image, attention, region, device))
    probability = np.zeros(image.shape, np.float32)
    probability[region] = logits.float().softmax(1)[0, 1].cpu().numpy()
    return probability


class Cascade(Pipeline):
    """Detector, attention and segmenter (paper Fig. 1).

    Parameters
    ----------
    detector : RPN
    segmenter : nn.Module
        (N, 2, D, H, W) -> (N, 2, D, H, W).
    grids : Grids
    proposals : Proposals
    margin : float or None
        In mm. The segmenter sees the attended region and so much around it; None means the whole scan, as in the paper.
    """

    def __init__(self, detector, segmenter, grids, proposals=None, margin=None):
        super().__init__(grids, margin)
        self.detector, self.segmenter = detector, segmenter
        self.proposals = proposals or Proposals()

    @property
    def neighbours(self):
        """See `Pipeline.neighbours`."""
        return self.detector.neighbours

    def propose(self, slices):
        """See `Pipeline.propose`."""
        return detect(self.detector, torch.from_numpy(slices), self.proposals)[0].numpy()

    def segment(self, image, attention, region):
        """See `Pipeline.segment`."""
        return segment(self.segmenter, image, attention, region)

    def save(self, folder):
        """Write cascade.json, detector.safetensors and segmenter.safetensors into `folder`; a model there is replaced.

        Raises
        ------
        CheckpointError
            The segmenter is no `UNet3D`, or the detector's backbone none of `BACKBONES`: `load` would not know how to
            build it.
        """
        folder = Path(folder)
        if not isinstance(self.segmenter, UNet3D):
            kind = type(self.segmenter).__name__
            raise CheckpointError(f"{folder}: only a UNet3D can be loaded again, not a {kind}; keep its state_dict")
        backbone = next((name for name, kind in BACKBONES.items() if type(self.detector.backbone) is kind), None)
        if backbone is None:
            kind, known = type(self.detector.backbone).__name__, " or ".join(BACKBONES)
            raise CheckpointError(f"{folder}: only {known} can be loaded again, not a {kind}; keep its state_dict")
        (folder / "cascade.json").unlink(missing_ok=True)  # written last: until then no half of two models is loaded
        save_tensors(folder / "detector.safetensors", self.detector.state_dict(), {})
        save_tensors(folder / "segmenter.safetensors", self.segmenter.state_dict(), {})
        anchors = self.detector.anchors
        settings = {
            "grids": asdict(self.grids),
            "proposals": asdict(self.proposals),
            "margin": self.margin,
            "anchors": {"sizes": anchors.sizes, "ratios": anchors.ratios, "stride": anchors.stride},
            "sampling": asdict(self.detector.sampling),
            "rpn": {"neighbours": self.detector.neighbours, "padded": self.detector.padded, "backbone": backbone},
            "unet3d": self.segmenter.config,
        }
        write_text(folder / "cascade.json", json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder, device=None):
        """Read what `save` wrote.

        Raises
        ------
        CheckpointError
            A file is missing or does not fit the others.
        SegdetError
            The device cannot be used here.
        """
        folder = Path(folder)
        device = usable(device) if device else default_device()
        try:
            settings = json.loads((folder / "cascade.json").read_text())
            detector = RPN(
                AnchorGrid(**settings["anchors"]), Sampling(**settings["sampling"]), **settings.get("rpn", {})
            )
            segmenter = UNet3D(**settings["unet3d"])
            grids = Grids.read(settings["grids"])
            proposals = Proposals(**{"vote": False} | settings["proposals"])  # older models do not say
            detector.load_state_dict(load_tensors(folder / "detector.safetensors", WHOLE)[0])
            segmenter.load_state_dict(load_tensors(folder / "segmenter.safetensors", WHOLE)[0])
            cascade = cls(detector, segmenter, grids, proposals, settings.get("margin"))
            for name in ("detector", "segmenter"):
                if not all(weights.isfinite().all() for weights in getattr(cascade, name).state_dict().values()):
                    raise CheckpointError(
                        f"{folder / name}.safetensors: weights that are NaN or infinite; train it again"
                    )
        except FileNotFoundError as error:
            way_out = f"train a model with `segdet fit --out {quote(str(folder))}`"
            if any(folder.glob("*.onnx")):
                way_out = "it holds an export, which segdet.export.load.load_cascade reads with its exported.json"
            raise CheckpointError(f"{folder}: holds no cascade.json; {way_out}") from error
        except CheckpointError:  # of `load_tensors`: says what is wrong itself
            raise
        except (SegdetError, OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{folder}: not a model that this version of segdet saved ({reason})") from error
        detector.to(device, memory_format=torch.channels_last)
        segmenter.to(device, memory_format=torch.channels_last_3d)
        return cascade
