"""The command `segdet`: look at a scan, simulate one, train, predict, and run the ablation."""

import os
import sys
import time
import warnings
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .errors import NO_ROOM, SegdetError, is_out_of_memory

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Segmentation-by-detection of 3D scans: a detector finds boxes, the boxes guide a 3D U-Net.",
    epilog="Start here: segdet phantom --out hip.dcm, then segdet info hip.dcm. Every command has its own --help.",
)


class ProfileName(StrEnum):
    """How large the experiment is."""

    smoke = "smoke"
    quick = "quick"
    laptop = "laptop"
    paper = "paper"


class Side(StrEnum):
    """Which hip."""

    left = "left"
    right = "right"


class Engine(StrEnum):
    """What runs the networks."""

    torch = "torch"
    onnx = "onnx"
    openvino = "openvino"


PROFILE_HELP = (
    "smoke: seconds, to see that it runs. quick: minutes on any two cores. laptop: what the studies use. "
    "paper: hours on a GPU."
)
DATA_HELP = (
    'Annotated scans: "phantom" for simulated hips, or a folder with images/NAME and labels/NAME, of any formats.'
)
LABEL_HELP = "Which label of the annotation to segment. Default: every label above 0."
ScanArgument = Annotated[Path, typer.Argument(help="A DICOM file or folder, .nii, .nii.gz, .mha, .mhd or .nrrd.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that are there, but never the scan.")]
FrameOption = Annotated[int | None, typer.Option(help="Which volume of a series in time, counted from 0.")]
SeriesOption = Annotated[str | None, typer.Option(help="Which series of a DICOM folder: its number, or its UID.")]


@app.callback()
def only_fit_is_shared(context: typer.Context):
    """Refuse torchrun for everything that does not share its work among processes."""
    if "TORCHELASTIC_RUN_ID" in os.environ and context.invoked_subcommand != "fit":
        raise SegdetError(f"torchrun is for `segdet fit` only; start `segdet {context.invoked_subcommand}` without it")


@app.command()
def info(
    scan: ScanArgument,
    frame: FrameOption = None,
    series: SeriesOption = None,
    png: Annotated[Path | None, typer.Option(help="Also save the three middle planes as a picture.")] = None,
    force: ForceOption = False,
):
    """Say what a scan is: geometry, intensities, what was understood and what was not."""
    from .dicom import identifying_tags
    from .files import load_volume
    from .outputs import check_outputs

    check_outputs({"a picture": png}, scan, force)
    volume = load_volume(scan, frame=frame, series=series)
    d, h, w = volume.shape
    extent = [n * s for n, s in zip(volume.shape, volume.spacing, strict=True)]
    rows = [
        ("scan", scan.name),
        ("shape", f"{d} slices of {h} rows x {w} columns, {volume.voxels.dtype}"),
        ("spacing", "{:.4g} mm between slices, {:.4g} x {:.4g} mm pixels".format(*volume.spacing)),
        ("extent", "{:.1f} x {:.1f} x {:.1f} mm (slices, rows, columns)".format(*extent)),
        ("first voxel", "LPS ({:.2f}, {:.2f}, {:.2f}) mm".format(*volume.affine[:3, 3])),
    ]
    for axis, direction in zip(("slices", "rows", "columns"), (volume.affine[:3, :3] / volume.spacing).T, strict=True):
        rows.append((f"{axis} run", "along LPS ({:+.3f}, {:+.3f}, {:+.3f})".format(*direction)))
    voxels = volume.voxels
    rows.append(("intensity", f"{voxels.min():g} to {voxels.max():g}, mean {voxels.mean(dtype=float):.4g}"))
    rows += [(key.replace("_", " "), value) for key, value in volume.meta.items() if value != ""]
    rows += [("note", note) for note in volume.notes]
    rows += [("privacy", warning) for warning in identifying_tags(scan)]
    for key, value in rows:
        print(f"{key + ':':<14} {value}")
    if png:
        from .plots import save_planes

        save_planes(volume, png)
        print(f"wrote {png}")


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="The DICOM file (Enhanced US Volume), .dcm; with --count a folder.")],
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Which hip; the same seed gives the same bytes.")] = 0,
    side: Annotated[Side | None, typer.Option(help="Default: drawn from the seed.")] = None,
    contrast_db: Annotated[
        float, typer.Option(help="How much darker the femoral head is than its surroundings.")
    ] = 6.0,
    noise_db: Annotated[
        float | None, typer.Option(help="Electronic noise, dB relative to muscle at the skin. Default: -60.")
    ] = None,
    look_alikes: Annotated[
        int | None,
        typer.Option(min=0, max=200, help="Dark pockets and vessels in the muscle. Default: 10 to 16."),
    ] = None,
    dysplastic: Annotated[bool, typer.Option("--dysplastic", help="A cup that covers too little of the head.")] = False,
    mask: Annotated[Path | None, typer.Option(help="Also write the annotation, .dcm or .nii.gz.")] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Make so many hips, from --seed on, as a folder for `segdet fit --data`.")
    ] = None,
    force: ForceOption = False,
):
    """Simulate a 3D ultrasound scan of an infant hip, or many, and write DICOM."""
    from .dicom_write import write_volume
    from .files import save_mask
    from .hip_parameters import DYSPLASTIC, HipParameters
    from .outputs import check_outputs
    from .phantom import make_phantom
    from .phantom_cache import write_phantoms

    dials = {"noise_db": noise_db, "look_alikes": None if look_alikes is None else (look_alikes, look_alikes)}
    dials = {name: value for name, value in dials.items() if value is not None}
    parameters = replace(DYSPLASTIC if dysplastic else HipParameters(), **dials)
    options = {"contrast_db": contrast_db, "side": side.value if side else None, "parameters": parameters}
    if count:
        if mask:
            raise SegdetError("--mask names one file; with --count the annotations go to the folder labels/ in --out")
        if out.suffix:
            raise SegdetError(f"{out}: with --count a folder is made; leave out {out.suffix}")
        write_phantoms(range(seed, seed + count), out, **options)
        print(f"wrote {out}: {count} hips from seed {seed} on, in images/ and labels/")
        return
    check_outputs({"a phantom": out, "a mask": mask}, force=force)
    volume = make_phantom(seed, **options)
    write_volume(volume, out)
    print(f"wrote {out}: {volume.name}, {' x '.join(map(str, volume.shape))} voxels")
    if mask:
        save_mask(volume.mask, mask, volume)
        print(f"wrote {mask}: the femoral head, {volume.mask.mean():.1%} of the volume")


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="Which data set: hippocampus (MRI, 260 annotated scans, 28 MB).")],
    out: Annotated[Path | None, typer.Option(help="The folder to make. Default: data/NAME.")] = None,
):
    """Fetch real annotated scans; `segdet fit --data` and `segdet ablate --data` take the folder."""
    from .download import DATASETS
    from .download import download as fetch

    out = out or Path("data") / name
    count = fetch(name, out)
    print(f"wrote {out}: {count} annotated scans. {DATASETS[name].source}; {DATASETS[name].licence}")
    print(f"next: segdet ablate --data {out} --label 1 --seeds 3 --out results/{name}")


@app.command()
def fit(
    out: Annotated[Path, typer.Option(help="Folder for the model; `segdet predict --model` takes it.")],
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "phantom",
    profile: Annotated[ProfileName, typer.Option(envvar="SEGDET_PROFILE", help=PROFILE_HELP)] = ProfileName.laptop,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Decides the split, the weights and the order of batches.")
    ] = 0,
    label: Annotated[int | None, typer.Option(min=1, help=LABEL_HELP)] = None,
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
    from . import distributed
    from .ablation import fit_cascade
    from .experiment import get_profile
    from .memory import check_training
    from .training import default_device

    check_folder(out, data)
    check_label(data, label)
    check_training(get_profile(profile.value), checkpointing=checkpointing, can_checkpoint=True)
    start = time.monotonic()
    with distributed.process_group(default_device()):
        score = fit_cascade(
            get_profile(profile.value), seed, out, data=data, label=label, crop=crop, checkpointing=checkpointing,
            compiled=compiled, resume=resume, foretell=partial(foretell, get_profile(profile.value)),
        )  # fmt: skip
        if distributed.processes()[0] == 0:
            print(f"wrote {out} after {time.monotonic() - start:.0f} s; IoU on the validation scans {score:.3f}")
            print(f"next: segdet predict SCAN --model {out} --out mask.nii.gz")


@app.command()
def predict(
    scan: ScanArgument,
    model: Annotated[Path, typer.Option(help="A folder that `segdet fit` or `segdet export` wrote.")],
    out: Annotated[Path, typer.Option(help="The mask: .dcm (DICOM SEG), .nii, .nii.gz, .mha or .nrrd.")],
    frame: FrameOption = None,
    series: SeriesOption = None,
    png: Annotated[
        Path | None, typer.Option(help="Also save the three middle planes with the mask as a picture.")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="Your own boxes, on every slice of the object: a CSV file, slice,x0,y0,x1,y1 in pixels."),
    ] = None,
    step: Annotated[
        int,
        typer.Option(min=1, help="Detect on every so many slices, then only where boxes begin and end."),
    ] = 1,
    engine: Annotated[
        Engine | None,
        typer.Option(help="onnx: ONNX Runtime. Default: torch, or onnx for what `segdet export` wrote."),
    ] = None,
    force: ForceOption = False,
):
    """Segment one scan and write the mask on the scan's own grid."""
    from .attention import boxes_to_mask, read_boxes
    from .exported import load_cascade
    from .files import check_mask_path, load_volume, save_mask
    from .outputs import check_outputs

    check_outputs({"a mask": out, "a picture": png}, scan, force)
    cascade = load_cascade(model, engine and engine.value)
    volume = load_volume(scan, frame=frame, series=series)
    check_mask_path(out, volume, scan)
    drawn = boxes and read_boxes(boxes, volume.shape)
    seen = cascade.grids.oriented(volume)
    extent, notes = np.multiply(seen.shape, seen.spacing), list(seen.notes)
    marked = [number for number, found in enumerate(drawn or ()) if len(found)]
    if marked and (gaps := marked[-1] - marked[0] + 1 - len(marked)):
        notes.append(f"{gaps} slices between the first and the last of {boxes} hold no box and count as outside")
    lowest, highest = volume.voxels.min(), volume.voxels.max()
    if lowest < highest and ((volume.voxels == lowest) | (volume.voxels == highest)).all():
        notes.append("the scan has two values only: is it a mask?")
    if (extent > np.multiply(cascade.grids.extent, 1.02)).any():
        central = " x ".join(f"{e:.0f}" for e in np.minimum(extent, cascade.grids.extent))
        notes.append(f"the model looks at the central {central} mm of this scan; the rest is background in the mask")
    for note in notes:
        print(f"note: {note}")
    start = time.monotonic()
    prediction = cascade.predict(volume, drawn and (lambda scan: boxes_to_mask(drawn, scan.shape).numpy()), step)
    seconds = time.monotonic() - start
    said = save_mask(prediction.mask, out, volume, source=scan)
    detected = int(prediction.attention.any((1, 2)).sum())
    millilitres = prediction.mask.sum() * abs(np.linalg.det(volume.affine)) / 1000
    print(f"boxes on {detected} of {len(prediction.attention)} slices; mask {millilitres:.2f} ml; {seconds:.1f} s")
    if not prediction.mask.any():
        print("the mask is empty: nothing in this scan looked like what the model was trained on")
    elif not detected:
        print("there is no box: the mask rests on nothing")
    print("; ".join([f"wrote {out}", *said]))
    if png:
        from .plots import save_planes

        save_planes(volume, png, prediction.mask)
        print(f"wrote {png}")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A folder that `segdet fit` wrote.")],
    out: Annotated[Path, typer.Option(help="The folder to make; `segdet predict --model` takes it as well.")],
):
    """Write both networks of a model as ONNX, and what else it takes to run it without PyTorch."""
    from .cascade import Cascade
    from .export import export as write

    differences = write(Cascade.load(model, "cpu"), out)
    names = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    print(f"wrote {out}; largest differences between ONNX Runtime and PyTorch: {names}")
    print(f"next: segdet predict SCAN --model {out} --out mask.nii.gz")


@app.command()
def ablate(
    out: Annotated[Path, typer.Option(help="The study's folder, results/NAME: CSV tables and a manifest.")],
    profile: Annotated[ProfileName, typer.Option(envvar="SEGDET_PROFILE", help=PROFILE_HELP)] = ProfileName.laptop,
    arms: Annotated[
        str,
        typer.Option(
            help="Comma-separated; also cascade-crop, cascade-gt, cascade-oof, box3d-detector, slicebox, ones, shifted."
        ),
    ] = "unet,box3d,cascade",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; each has its own split and weights.")] = 5,
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "phantom",
    label: Annotated[int | None, typer.Option(min=1, help=LABEL_HELP)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study that is there.")] = False,
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Stop after that long, everything saved.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help='Address of a dask scheduler for the seeds, or "local".')
    ] = None,
):
    """Compare the arms of the paper's Table 1 over several seeds and splits."""
    from .ablation import Plan, run_study
    from .experiment import get_profile
    from .memory import check_training

    check_folder(out, data)
    check_label(data, label)
    names = arm_names(arms)
    if not scheduler:  # whose workers are other machines
        check_training(get_profile(profile.value))
    plan = Plan(get_profile(profile.value), names, data, label)
    complete = run_study(
        plan, range(seeds), out, resume=resume, max_minutes=max_minutes, scheduler=scheduler, report=print,
        foretell=partial(foretell, plan.profile),
    )  # fmt: skip
    print(f"{'complete' if complete else 'not complete yet'}: {out}")


@app.command()
def plan(
    profile: Annotated[ProfileName, typer.Option(envvar="SEGDET_PROFILE", help=PROFILE_HELP)] = ProfileName.laptop,
    arms: Annotated[str, typer.Option(help="Comma-separated, as of `segdet ablate`.")] = "unet,box3d,cascade",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 5,
):
    """Say what an ablation costs before it begins: trainings, operations, time on this machine, memory."""
    from .experiment import get_profile
    from .planning import plan_lines

    for line in plan_lines(get_profile(profile.value), arm_names(arms), seeds):
        print(line, flush=True)


@app.command()
def detectors(
    out: Annotated[Path, typer.Option(help="The study's folder, results/NAME.")],
    profile: Annotated[ProfileName, typer.Option(envvar="SEGDET_PROFILE", help=PROFILE_HELP)] = ProfileName.laptop,
    variants: Annotated[str | None, typer.Option(help="Comma-separated names. Default: all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; each has its own split and weights.")] = 3,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study that is there.")] = False,
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Stop after that long, everything saved.")] = None,
):
    """Compare what the paper leaves open about the detector, one choice at a time."""
    from .detector_study import run_detectors
    from .experiment import get_profile
    from .memory import check_training

    check_folder(out)
    check_training(get_profile(profile.value), ["detector"])
    names = None if variants is None else [name.strip() for name in variants.split(",")]
    size = get_profile(profile.value)
    done = run_detectors(
        size, range(seeds), out, names, resume=resume, max_minutes=max_minutes, foretell=partial(foretell, size)
    )
    print(f"{'complete' if done else 'not complete yet'}: {out}")


@app.command()
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Which: phantom, reading, detector, segmenter, cascade, metrics, inference. Default: all."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also add what was measured to a JSON file, by machine.")] = None,
):
    """Measure every claim about time and memory beside its peer, in one run."""
    from .bench import run
    from .outputs import check_outputs

    check_outputs({"measurements": out}, force=True)
    run(names or (), out)


def foretell(profile, work):
    """Say how long the work will take on this machine, after measuring it for a few seconds; smoke is sooner done."""
    from .cost import forecast

    if profile.name != "smoke":
        print(forecast(profile, work), flush=True)


def arm_names(text):
    """The arms of a comma-separated list, each once."""
    from .experiment import ARMS

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in ARMS:
            raise SegdetError(f"there is no arm {name!r}; choose from {', '.join(ARMS)}")
    return names


def check_folder(out, data="phantom"):
    """Refuse a file where a folder is to be filled, and a folder that would be taken for a scan."""
    if out.exists() and not out.is_dir():
        raise SegdetError(f"{out}: is a file; --out must be a folder")
    scans = [] if data == "phantom" else [Path(data, kind).resolve() for kind in ("images", "labels")]
    if any(out.resolve().is_relative_to(folder) for folder in scans):
        raise SegdetError(f"{out}: lies among the scans of {data}; name another --out folder")


def check_label(data, label):
    """Refuse a label where there is nothing to choose from."""
    if data == "phantom" and label is not None:
        raise SegdetError("--label chooses from the annotation of --data; a simulated hip has one label only")


def main():
    """Run the command; an error of the user's is one line on stderr and exit code 2."""
    warnings.formatwarning = lambda message, *_, **__: f"segdet: {message}\n"
    try:
        app()
    except SegdetError as error:
        print(f"segdet: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"segdet: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"segdet: {NO_ROOM}", file=sys.stderr)
        sys.exit(2)
