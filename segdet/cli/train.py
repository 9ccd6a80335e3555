"""The command that trains a cascade."""

import time
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from .app import (
    DataOption,
    LabelOption,
    PresetOption,
    ProfileName,
    ProfileOption,
    app,
    check_choice,
    check_folder,
    foretell,
)


@app.command()
def fit(
    out: Annotated[Path, typer.Option(help="Folder for the model; `segdet predict --model` takes it.")],
    data: DataOption = "phantom",
    profile: ProfileOption = ProfileName.laptop,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Decides the split, the weights and the order of batches.")
    ] = 0,
    label: LabelOption = None,
    preset: PresetOption = None,
    crop: Annotated[
        bool, typer.Option("--crop", help="The segmenter sees only the attended region and a margin around it.")
    ] = False,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute activations again: less memory, more time.")
    ] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Train the segmenter through torch.compile.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training in --out.")] = False,
):
    """Train the cascade: first the detector, then the segmenter that sees the detector's boxes.

    Under torchrun every process adds a batch to each step: `torchrun --nproc-per-node 2 -m segdet fit --out FOLDER`.
    Curves for TensorBoard, where it is installed, go to FOLDER/logs.
    """
    from ..experiments.config import get_profile
    from ..experiments.fit import fit_cascade
    from ..experiments.memory import check_training
    from ..runtime import distributed
    from ..runtime.device import default_device

    check_folder(out, data)
    check_choice(data, label, preset)
    size = get_profile(profile.value)
    check_training(size, checkpointing=checkpointing, can_checkpoint=True)
    start = time.monotonic()
    with distributed.process_group(default_device()):
        score = fit_cascade(
            size, seed, out, data=data, label=label, preset=preset, crop=crop, checkpointing=checkpointing,
            compiled=compiled, resume=resume, foretell=partial(foretell, size),
        )  # fmt: skip
        if distributed.processes()[0] == 0:
            print(f"wrote {out} after {time.monotonic() - start:.0f} s; IoU on the validation scans {score:.3f}")
            print(f"next: segdet predict SCAN --model {quote(str(out))} --out mask.nii.gz")
