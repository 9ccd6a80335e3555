"""What the commands share: their options, and checks before the work."""

import os
import re
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from ..errors import SegdetError
from ..experiments.config import PROFILES
from ..phantom.hip2.scanners import check_preset

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Segmentation-by-detection of 3D scans: a detector finds boxes, the boxes guide a 3D U-Net.",
    epilog="Start here: segdet phantom --out hip.dcm, then segdet info hip.dcm. Every command has its own --help.",
)


ProfileName = StrEnum("ProfileName", list(PROFILES))


class Backbone(StrEnum):
    """What the detector looks with."""

    vgg16 = "vgg16"
    resnet18 = "resnet18"


class Side(StrEnum):
    """Which hip."""

    left = "left"
    right = "right"


class Engine(StrEnum):
    """What runs the networks."""

    torch = "torch"
    onnx = "onnx"
    openvino = "openvino"


ProfileOption = Annotated[
    ProfileName,
    typer.Option(
        envvar="SEGDET_PROFILE",
        help="smoke: seconds, to see that it runs. quick: minutes on any two cores. laptop: what the studies use. "
        "paper: hours on a GPU.",
    ),
]
DataOption = Annotated[
    str,
    typer.Option(
        help='Annotated scans: "phantom" for simulated hips, or a folder with images/NAME and labels/NAME, of any '
        "formats."
    ),
]
LabelOption = Annotated[
    int | None, typer.Option(min=1, help="Which label of the annotation to segment. Default: every label above 0.")
]
PRESETS = (
    "Simulate hips of version 2, as a scanner shows them: iu22 (the paper's), l12-5, l12-5-deep, logiq-e9, "
    'logiq-p9, or "varied", another for every hip.'
)
PresetOption = Annotated[str | None, typer.Option(help=f"{PRESETS} Default: hips of version 1.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with a study that is there.")]
MinutesOption = Annotated[float | None, typer.Option(min=0, help="Stop after that long, everything saved.")]
SchedulerOption = Annotated[str | None, typer.Option(help='Address of a dask scheduler for the seeds, or "local".')]
ScanArgument = Annotated[Path, typer.Argument(help="A DICOM file or folder, .nii(.gz), .mha, .mhd, .nrrd or .nhdr.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that are there, but never the scan.")]
FrameOption = Annotated[int | None, typer.Option(help="Which volume of several, or image of a clip, counted from 0.")]
SeriesOption = Annotated[str | None, typer.Option(help="Which series of a DICOM folder: its number, or its UID.")]
MAY_BE_EMPTY = ("--infants",)  # of transfer: an empty list means no training on infants


@app.callback()
def only_fit_is_shared(context: typer.Context):
    """Refuse torchrun for everything that does not share its work among processes."""
    if "TORCHELASTIC_RUN_ID" in os.environ and context.invoked_subcommand != "fit":
        raise SegdetError(f"torchrun is for `segdet fit` only; start `segdet {context.invoked_subcommand}` without it")


def check_filled(arguments):
    """Refuse an empty argument, as a shell makes it of a variable that is not set: a path would be this folder."""
    for before, argument in pairwise(["segdet", *arguments]):
        joined = re.fullmatch(r"(--[a-z-]+)=", argument)
        option = joined[1] if joined else before
        if (joined or not argument) and option not in MAY_BE_EMPTY:
            raise SegdetError(
                f"what follows {argument or before} is empty; name a file or folder, or whatever is meant (. is this "
                "folder)"
            )


def foretell(profile, work, done=(0, 0)):
    """Say how long the work takes here, after measuring for a few seconds, and its memory; smoke is sooner done.

    `work` and `done` as in `segdet.experiments.cost.forecast`.
    """
    from ..experiments.cost import forecast
    from ..experiments.memory import predicted
    from ..runtime.device import default_device

    if profile.name != "smoke":
        left = work(profile)
        needs = [need.gib(default_device()) for part, need in predicted(profile).items() if getattr(left, f"{part}s")]
        memory = [f"up to {max(needs):.1f} GiB of memory for a training"] if needs else []
        print("; ".join([forecast(profile, work, done), *memory]), flush=True)


def say_end(complete, out):
    """Say whether the study in the folder `out` is complete."""
    print(f"{'complete' if complete else 'not complete yet'}: {out}")


def check_folder(out, data="phantom"):
    """Refuse a file where a folder is to be filled, and a folder that would be taken for a scan."""
    if out.exists() and not out.is_dir():
        raise SegdetError(f"{out}: is a file; --out must be a folder")
    scans = [] if data == "phantom" else [Path(data, kind).resolve() for kind in ("images", "labels")]
    if any(out.resolve().is_relative_to(folder) for folder in scans):
        raise SegdetError(f"{out}: lies among the scans of {data}; name another --out folder")


def check_choice(data, label, preset):
    """Refuse a label where there is nothing to choose from, and a scanner where nothing is simulated."""
    if preset is not None:
        if data != "phantom":
            raise SegdetError(f"--preset is for simulated hips; leave it out with --data {data}")
        check_preset(preset)
    if data == "phantom" and label is not None:
        raise SegdetError("--label chooses from the annotation of --data; a simulated hip has one label only")


def as_options(text):
    """What the library says of its arguments ("frame=0"), said of the options of a command ("--frame 0")."""
    return re.sub(r"\b(frame|series)=(?=\d)", r"--\1 ", text)
