"""What an experiment is made of: profiles, arms, plans (chapter 10)."""

import os
from dataclasses import dataclass

from ..errors import SegdetError


@dataclass(frozen=True)
class Profile:
    """How large an experiment is; every notebook and command takes one by name."""

    name: str
    detector_shape: tuple[int, int, int]
    segmenter_shape: tuple[int, int, int]
    base_channels: int
    detector_steps: int  # of 8 slices
    segmenter_steps: int  # of one volume (A13)
    every: int  # steps between validations of the segmenter (A13)
    train: int  # scans, half left and half right (A5)
    validation: int
    test: int
    backbone: str = "vgg16"  # of the detector, see `segdet.backbones`


PROFILES = {
    p.name: p
    for p in (
        Profile("smoke", (8, 184, 96), (16, 24, 16), 8, 8, 20, 10, 2, 2, 2, "resnet18"),
        Profile("quick", (16, 184, 96), (32, 46, 24), 8, 160, 200, 40, 10, 4, 9, "resnet18"),
        Profile("laptop", (32, 184, 96), (32, 46, 24), 16, 400, 600, 50, 10, 4, 49),
        Profile("paper", (128, 184, 96), (128, 184, 96), 32, 8000, 30000, 1000, 10, 4, 49),
    )
}


@dataclass(frozen=True)
class Arm:
    """One row of the comparison: which attention the segmenter sees while training and while tested (`facts` B11, B13).

    `train` and `test` are ``"none"`` or names out of `segdet.experiments.runs.Run.sources`. With a `margin` in mm the
    segmenter sees only the attended region and so much around it (`segdet.attention.attended_region`).
    """

    name: str
    title: str
    train: str
    test: str
    margin: float | None = None


ARMS = {
    a.name: a
    for a in (
        Arm("unet", "3D U-Net", "none", "none"),
        Arm("box3d", "3D mask", "box3d", "box3d"),
        Arm("cascade", "Segmentation-by-detection", "detector", "detector"),
        Arm("cascade-gt", "Cascade, trained on annotation boxes", "slicebox", "detector"),
        Arm("slicebox", "Annotation boxes in every slice (ceiling)", "slicebox", "slicebox"),
        Arm("cascade-oof", "Cascade, trained on out-of-fold boxes", "out-of-fold", "detector"),
        Arm("box3d-detector", "3D box around the detected boxes", "box3d-detector", "box3d-detector"),
        Arm("cascade-crop", "Cascade, cropped to the attended region", "detector", "detector", 1.0),
        Arm("ones", "All ones (control)", "ones", "ones"),
        Arm("shifted", "Annotation boxes in the wrong place (control)", "shifted", "shifted"),
    )
}


@dataclass(frozen=True)
class Plan:
    """What one seed of a study does; picklable, so that it can run on another machine.

    Attributes
    ----------
    profile : Profile
    arms : tuple of str
        Names out of `ARMS`.
    data : str
        "phantom", or a folder with images/ and labels/.
    label : int or None
        Which label of the annotation counts; None means every one above 0.
    preset : str or None
        Simulated hips of version 2, as `segdet.phantom.make.make_phantom` takes it; None means version 1.
    """

    profile: Profile
    arms: tuple[str, ...]
    data: str = "phantom"
    label: int | None = None
    preset: str | None = None


def get_profile(name=None):
    """The profile of that name; None means the variable SEGDET_PROFILE, else "laptop"."""
    name = name or os.environ.get("SEGDET_PROFILE") or "laptop"
    if name not in PROFILES:
        raise SegdetError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
