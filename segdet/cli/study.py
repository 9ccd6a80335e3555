"""Commands for studies: what they cost, running them, and the benchmarks."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..errors import SegdetError
from .app import (
    PRESETS,
    Backbone,
    DataOption,
    LabelOption,
    MinutesOption,
    PresetOption,
    ProfileName,
    ProfileOption,
    ResumeOption,
    SchedulerOption,
    app,
    check_choice,
    check_folder,
    foretell,
    say_end,
)


@app.command()
def ablate(
    out: Annotated[Path, typer.Option(help="The study's folder, results/NAME: CSV tables and a manifest.")],
    profile: ProfileOption = ProfileName.laptop,
    arms: Annotated[
        str,
        typer.Option(
            help="Comma-separated; also cascade-crop, cascade-gt, cascade-oof, box3d-detector, slicebox, ones, shifted."
        ),
    ] = "unet,box3d,cascade",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; each has its own split and weights.")] = 5,
    data: DataOption = "phantom",
    label: LabelOption = None,
    preset: PresetOption = None,
    resume: ResumeOption = False,
    max_minutes: MinutesOption = None,
    scheduler: SchedulerOption = None,
):
    """Compare the arms of the paper's Table 1 over several seeds and splits."""
    from ..experiments.ablation import run_study
    from ..experiments.cluster import trains_here
    from ..experiments.config import Plan, get_profile
    from ..experiments.memory import check_training

    check_folder(out, data)
    check_choice(data, label, preset)
    names = arm_names(arms)
    size = get_profile(profile.value)
    if trains_here(scheduler):
        check_training(size)
    complete = run_study(
        Plan(size, names, data, label, preset), range(seeds), out, resume=resume, max_minutes=max_minutes,
        scheduler=scheduler, foretell=partial(foretell, size),
    )  # fmt: skip
    say_end(complete, out)


@app.command()
def plan(
    profile: ProfileOption = ProfileName.laptop,
    arms: Annotated[str, typer.Option(help="Comma-separated, as of `segdet ablate`.")] = "unet,box3d,cascade",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 5,
):
    """Say what an ablation costs before it begins: trainings, operations, time on this machine, memory."""
    from ..experiments.config import get_profile
    from ..experiments.planning import plan_lines

    for line in plan_lines(get_profile(profile.value), arm_names(arms), seeds):
        print(line, flush=True)


@app.command()
def detectors(
    out: Annotated[Path, typer.Option(help="The study's folder, results/NAME.")],
    profile: ProfileOption = ProfileName.laptop,
    variants: Annotated[str | None, typer.Option(help="Comma-separated names. Default: all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; each has its own split and weights.")] = 3,
    resume: ResumeOption = False,
    max_minutes: MinutesOption = None,
):
    """Compare what the paper leaves open about the detector, one choice at a time."""
    from ..experiments.config import get_profile
    from ..experiments.detectors import run_detectors
    from ..experiments.memory import check_training

    check_folder(out)
    size = get_profile(profile.value)
    check_training(size, ["detector"])
    names = None if variants is None else listed(variants)
    done = run_detectors(
        size, range(seeds), out, names, resume=resume, max_minutes=max_minutes, foretell=partial(foretell, size)
    )
    say_end(done, out)


@app.command()
def segmenters(
    out: Annotated[Path, typer.Option(help="The study's folder, results/NAME.")],
    profile: ProfileOption = ProfileName.laptop,
    variants: Annotated[str | None, typer.Option(help="Comma-separated names. Default: all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=5, help="How many, each with its own split and weights.")] = 3,
    preset: PresetOption = None,
    resume: ResumeOption = False,
    max_minutes: MinutesOption = None,
):
    """Compare what the paper leaves open about the 3D U-Net, one choice at a time, on development seeds."""
    from ..experiments.config import get_profile
    from ..experiments.memory import check_training
    from ..experiments.protocol import with_steps
    from ..experiments.segmenters import run_segmenters

    check_folder(out)
    check_choice("phantom", None, preset)
    size = with_steps(get_profile(profile.value))
    check_training(size, ["segmenter"])
    names = None if variants is None else listed(variants)
    done = run_segmenters(
        size, range(seeds), out, names, preset, resume=resume, max_minutes=max_minutes,
        foretell=partial(foretell, size),
    )  # fmt: skip
    say_end(done, out)


@app.command()
def transfer(
    data: Annotated[Path, typer.Option(help="Pictures of real infants as `segdet download hips` lays them out.")],
    out: Annotated[Path, typer.Option(help="The study's folder, results/NAME.")],
    profile: ProfileOption = ProfileName.laptop,
    backbone: Annotated[Backbone | None, typer.Option(help="Of every detector. Default: the profile's.")] = None,
    scans: Annotated[int | None, typer.Option(min=2, help="Simulated training scans. Default: the profile's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of a detector's training. Default: the profile's.")] = None,
    variants: Annotated[
        str | None, typer.Option(help="Comma-separated names, as of `segdet detectors`; see chapter 12.")
    ] = None,
    infants: Annotated[
        str | None,
        typer.Option(
            help='Comma-separated: on how many to train; "" for none. Default: those of 1,3,5,7 that leave one to test.'
        ),
    ] = None,
    starts: Annotated[
        str, typer.Option(help="Comma-separated: what trainings on infants start from.")
    ] = "random,imagenet,simulator",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; each has its own simulated scans.")] = 5,
    preset: Annotated[str, typer.Option(help=f'{PRESETS} "none": hips of version 1.')] = "varied",
    pixel_mm: Annotated[
        list[str] | None, typer.Option(help="NAME=MM, the size of a pixel where an infant's pictures have no ruler.")
    ] = None,
    resume: ResumeOption = False,
    max_minutes: MinutesOption = None,
):
    """Score detectors of simulated hips on real infants, and find how many infants a simulator is worth."""
    from ..experiments.config import get_profile
    from ..experiments.memory import check_training
    from ..infants.pictures import read_infants
    from ..infants.transfer import NAMES, TransferPlan, counts_for, run_transfer

    check_folder(out)
    preset = None if preset == "none" else preset
    check_choice("phantom", None, preset)
    size = get_profile(profile.value)
    size = replace(size, train=scans or size.train, detector_steps=steps or size.detector_steps)
    size = replace(size, backbone=backbone.value if backbone else size.backbone)
    counts = tuple(whole_number(text) for text in listed(infants or ""))
    what = TransferPlan(size, NAMES if variants is None else listed(variants), counts, listed(starts), preset)
    check_training(size, ["detector"])
    found, notes = read_infants(data, pixel_sizes(pixel_mm or ()))
    counts, left_out = counts_for(len(found)) if infants is None else (counts, [])
    for note in notes + left_out:
        print(note, flush=True)
    what = replace(what, counts=counts)
    done = run_transfer(
        what, range(seeds), found, out, resume=resume, max_minutes=max_minutes, foretell=partial(foretell, size)
    )
    say_end(done, out)


@app.command()
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Which: phantom, reading, detector, segmenter, waiting, cascade, metrics, inference. Default: all."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also add what was measured to a JSON file, by machine.")] = None,
):
    """Measure every claim about time and memory beside its peer, in one run."""
    from ..bench import run
    from ..io.outputs import check_outputs

    check_outputs({"measurements": out}, force=True)
    run(names or (), out)


def listed(text):
    """The entries of a comma-separated list, each once; none in an empty one."""
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def whole_number(text):
    """A number of infants."""
    if not text.isdecimal() or not int(text):
        raise SegdetError(f"--infants takes whole numbers from 1 on, not {text!r}")
    return int(text)


def pixel_sizes(entries):
    """The entries NAME=MM of --pixel-mm as a dict."""
    found = {}
    for entry in entries:
        name, _, size = entry.rpartition("=")
        try:
            found[name] = float(size)
        except ValueError:
            found[name] = 0.0
        if not (name and 0 < found[name] < math.inf):
            raise SegdetError(f"--pixel-mm takes NAME=MM, such as 72628=0.07, not {entry!r}")
    return found


def arm_names(text, protocol=1):
    """The arms of a comma-separated list, each once."""
    from ..experiments.config import check_names
    from ..experiments.protocol import arms_of

    names = listed(text)
    check_names(names or [""], arms_of(protocol), "arm")
    return names
