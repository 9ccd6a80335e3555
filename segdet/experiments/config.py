"""What an experiment is made of: profiles, arms, plans (chapter 10)."""

import os
from dataclasses import dataclass

from ..errors import SegdetError

PROBED = 9  # test scans of a seed that are looked at more than once: as many as the paper has


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

    Attributes
    ----------
    name, title : str
    train, test : str
        ``"none"`` or names out of `segdet.experiments.runs.Run.sources`.
    margin : float or None
        In mm: the segmenter sees only the attended region and so much around it (`segdet.attention.attended_region`).
    blind : bool
        In protocol 2: the attention cuts the region and the network does not see it.
    detector : str
        In protocol 2: a name that `segdet.experiments.protocol.detector_recipe` knows.
    finer : bool
        In protocol 2: the detector sees its slices as fine as they are, and not as coarse as the segmenter.
    best : bool
        In protocol 2: all that is known to help is added, and the segmenter takes four times the steps.
    """

    name: str
    title: str
    train: str
    test: str
    margin: float | None = None
    blind: bool = False
    detector: str = "book"
    finer: bool = False
    best: bool = False


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
    protocol : int
        1, or 2: the terms of `segdet.experiments.protocol`.
    dial : (str, number) or None
        Simulated hips made anew with one of `segdet.experiments.probes.DIALS` at this value.
    """

    profile: Profile
    arms: tuple[str, ...]
    data: str = "phantom"
    label: int | None = None
    preset: str | None = None
    protocol: int = 1
    dial: tuple[str, float] | None = None


def check_names(names, known, what):
    """Refuse a name of `what` that is not among those that are known; `SegdetError` lists them."""
    for name in names:
        if name not in known:
            raise SegdetError(f"there is no {what} {name!r}; choose from {', '.join(known)}")


def get_profile(name=None):
    """The profile of that name; None means the variable SEGDET_PROFILE, else "laptop".

    Raises
    ------
    SegdetError
        There is none.
    """
    name = name or os.environ.get("SEGDET_PROFILE") or "laptop"
    if name not in PROFILES:
        raise SegdetError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
