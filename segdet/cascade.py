"""The whole method on one scan: working grids, detector, attention, segmenter, and back (chapter 09)."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from .anchors import AnchorGrid
from .atomic import write_text
from .attention import attended_region, boxes_to_mask
from .backbones import BACKBONES
from .checkpoint import load_tensors, save_tensors
from .errors import CheckpointError, GeometryError
from .proposals import Proposals
from .rpn import RPN, Sampling, with_neighbours
from .training import default_device, precision
from .unet3d import UNet3D
from .volume import covered, resample_array


@dataclass(frozen=True)
class Grids:
    """The two grids that the networks work on. Both cover the same millimetres around the scan's centre.

    The paper has one grid, 128 x 184 x 96 (section 4). Here the segmenter's may be coarser.
    """

    extent: tuple[float, float, float]  # mm along slices, rows, columns
    detector_shape: tuple[int, int, int]
    segmenter_shape: tuple[int, int, int]

    def spacing(self, shape):
        """(dz, dy, dx) in mm of a grid of `shape` over the extent."""
        return tuple(e / n for e, n in zip(self.extent, shape, strict=True))

    def inputs(self, volume):
        """The scan on both grids, and what the networks see of it.

        Voxels of the grid outside the scan are filled with its minimum and do not count in the normalisation.

        Returns
        -------
        fine, coarse : Volume
            On the detector's and the segmenter's grid.
        slices : Tensor, (D, H, W), in [0, 1]
        image : Tensor, (d, h, w), zero mean and unit deviation

        Raises
        ------
        GeometryError
            The scan is so thin that no voxel of a grid has its centre in it.
        """
        found = []
        for shape, how in ((self.detector_shape, "unit"), (self.segmenter_shape, "zscore")):
            spacing = self.spacing(shape)
            grid = volume.resample(shape, spacing)
            inside = covered(volume.shape, shape, np.divide(spacing, volume.spacing))
            if not inside.any():
                size = " x ".join(f"{n * s:.3g}" for n, s in zip(volume.shape, volume.spacing, strict=True))
                voxel = " x ".join(f"{s:.3g}" for s in spacing)
                raise GeometryError(
                    f"{volume.name}: its {size} mm lie between the working voxels of {voxel} mm; expected a 3D scan"
                )
            found.append((grid, torch.from_numpy(grid.normalised(how, inside))))
        (fine, slices), (coarse, image) = found
        return fine, coarse, slices, image

    def attention_to_segmenter(self, attention):
        """An attention volume (D, H, W) from the detector's grid on the segmenter's: at least half covered."""
        scale = np.divide(self.detector_shape, self.segmenter_shape)
        return resample_array(attention, self.segmenter_shape, scale) >= 0.5


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the cascade says of a scan; `mask` and `probability` are on the scan's own grid.

    Attributes
    ----------
    mask : ndarray of bool, (D, H, W)
    probability : ndarray of float32, (D, H, W)
    attention : ndarray of bool
        On the detector's grid.
    boxes : ndarray of float32, (slices, top_k, 4)
        On the detector's grid, padded with boxes of no area.
    """

    mask: np.ndarray
    probability: np.ndarray
    attention: np.ndarray
    boxes: np.ndarray


def detect(detector, slices, proposals=None, batch=16):
    """`RPN.propose` for a volume, a few slices at a time.

    Parameters
    ----------
    slices : Tensor, (D, H, W)

    Returns
    -------
    boxes : Tensor, (D, top_k, 4)
    scores : Tensor, (D, top_k)
        Both on the CPU.
    """
    detector.eval()
    device = next(detector.parameters()).device
    slices = with_neighbours(slices) if detector.neighbours else slices
    with precision(device):
        parts = [detector.propose(part.to(device), proposals) for part in slices.split(batch)]
    boxes, scores = zip(*parts, strict=True)
    return torch.cat(boxes).cpu(), torch.cat(scores).cpu()


def stacked(image, attention, region, device):
    """A segmenter's input, float32 (1, C, d, h, w): that region of the image and, unless None, of its attention."""
    channels = [image] if attention is None else [image, attention]
    x = torch.stack([torch.as_tensor(c[region], dtype=torch.float32) for c in channels])[None].to(device)
    return x.contiguous(memory_format=torch.channels_last_3d)


@torch.no_grad()
def segment(segmenter, image, attention=None, region=()):
    """Probability of the foreground, float32 (D, H, W), from an image and (unless None) its attention volume.

    Parameters
    ----------
    segmenter : nn.Module
        (1, C, d, h, w) -> logits (1, 2, d, h, w).
    image : Tensor or ndarray, (D, H, W)
    attention : Tensor or ndarray, (D, H, W), or None
    region : tuple of slices
        The part that the segmenter sees (`segdet.attention.attended_region`); elsewhere the answer is 0.
    """
    segmenter.eval()
    device = next(segmenter.parameters()).device
    with precision(device):
        logits = segmenter(stacked(image, attention, region, device))
    probability = np.zeros(image.shape, np.float32)
    probability[region] = logits.float().softmax(1)[0, 1].cpu().numpy()
    return probability


class Cascade:
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
        self.detector, self.segmenter, self.grids, self.margin = detector, segmenter, grids, margin
        self.proposals = proposals or Proposals()

    def predict(self, volume, attention=None):
        """Segment one scan of any grid (paper section 3.1, inference).

        Parameters
        ----------
        volume : Volume
        attention : callable, optional
            A volume in, a mask on its grid out, bool (D, H, W), in place of the detector's boxes: for example those
            that a person painted (paper section 5).

        Returns
        -------
        Prediction

        Raises
        ------
        GeometryError
            The attention is not on the scan's grid, or the scan lies between the working voxels.
        ValueError
            The attention is not bool.
        """
        if attention is not None:
            mask = np.asarray(attention(volume))
            if mask.dtype != bool:
                raise ValueError(f"the attention is a mask of True and False, found {mask.dtype}")
            volume = replace(volume, mask=mask)
        fine, working, slices, image = self.grids.inputs(volume)
        if attention is None:
            boxes, _ = detect(self.detector, slices, self.proposals)
            attended = boxes_to_mask(boxes, slices.shape).numpy()
        else:
            boxes, attended = torch.zeros(len(slices), 0, 4), fine.mask
        coarse = self.grids.attention_to_segmenter(attended)
        region = attended_region(coarse, working.spacing, self.margin)
        inside = segment(self.segmenter, image, coarse, region)
        scale = np.divide(volume.spacing, working.spacing)
        probability = resample_array(inside, volume.shape, scale)
        return Prediction(probability >= 0.5, probability, attended, boxes.numpy())

    def save(self, folder):
        """Write cascade.json, detector.safetensors and segmenter.safetensors into `folder`.

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
        """
        folder = Path(folder)
        device = device or default_device()
        try:
            settings = json.loads((folder / "cascade.json").read_text())
            detector = RPN(
                AnchorGrid(**settings["anchors"]), Sampling(**settings["sampling"]), **settings.get("rpn", {})
            )
            segmenter = UNet3D(**settings["unet3d"])
            grids = Grids(**{k: tuple(v) for k, v in settings["grids"].items()})
            proposals = Proposals(**{"vote": False} | settings["proposals"])  # older models do not say
            detector.load_state_dict(load_tensors(folder / "detector.safetensors")[0])
            segmenter.load_state_dict(load_tensors(folder / "segmenter.safetensors")[0])
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{folder}: holds no cascade.json; train a model with `segdet fit --out {folder}`"
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{folder}: not a model that this version of segdet saved ({reason})") from error
        return cls(
            detector.to(device, memory_format=torch.channels_last),
            segmenter.to(device, memory_format=torch.channels_last_3d),
            grids,
            proposals,
            settings.get("margin"),
        )
