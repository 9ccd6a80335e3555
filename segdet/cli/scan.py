"""Commands for a scan: look at it, simulate one, fetch some, segment it."""

import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated

import numpy as np
import typer

from ..errors import SegdetError
from ..intensities import two_values_note
from .app import Engine, ForceOption, FrameOption, PresetOption, ScanArgument, SeriesOption, Side, app, as_options


@app.command()
def info(
    scan: ScanArgument,
    frame: FrameOption = None,
    series: SeriesOption = None,
    png: Annotated[Path | None, typer.Option(help="Also save the three middle planes as a picture.")] = None,
    pixel_mm: Annotated[
        float | None, typer.Option(help="Of still pictures: the size of a pixel in mm, where they do not say it.")
    ] = None,
    force: ForceOption = False,
):
    """Say what a scan is: geometry, intensities, what was understood and what was not; of pictures, how large."""
    from ..io.checks import own_name
    from ..io.dicom.read import identifying_tags
    from ..io.files import load_volume
    from ..io.outputs import check_outputs
    from ..io.screen.frames import holds_stills

    if holds_stills(scan):
        if png or series is not None:
            raise SegdetError(f"{scan}: holds still pictures; --png and --series are for scans")
        return _info_of_stills(scan, frame, pixel_mm)
    if pixel_mm is not None:
        raise SegdetError(f"{scan}: is a scan, whose header says the size of its voxels; --pixel-mm is for pictures")

    check_outputs({"a picture": png}, scan, force)
    volume = load_volume(scan, frame=frame, series=series)
    rows = [("scan", own_name(scan)), *_facts(volume)]
    rows += [("privacy", warning) for warning in identifying_tags(scan)]
    _print_rows(rows, max(len(key) for key, _ in rows) + 1)
    _save_picture(png, volume)


def _facts(volume):
    """What is known of a scan, in words: pairs of a name and a text."""
    d, h, w = volume.shape
    extent = [n * s for n, s in zip(volume.shape, volume.spacing, strict=True)]
    rows = [
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
    return rows + [("note", as_options(note)) for note in volume.notes]


def _print_rows(rows, width):
    for key, value in rows:
        print(f"{key + ':':<{width}} {value}")


def _save_picture(png, volume, mask=None):
    """Save the three middle planes as a picture, if one is wanted."""
    if png:
        from ..figures.plots import save_planes

        save_planes(volume, png, mask)
        print(f"wrote {png}")


def _info_of_stills(path, picture, pixel_mm):
    """What still pictures are; those that have all in common share a line."""
    from ..io.checks import choose, own_name
    from ..io.dicom.read import identifying_tags
    from ..io.stills import read_stills

    stills = read_stills(path)
    if picture is not None:
        stills = [stills[choose(path, len(stills), picture, "pictures")]]
    said = defaultdict(list)
    for still in stills:
        said[still.described(pixel_mm)].append(still.name.removeprefix(f"{path.name}, ").removeprefix("picture "))
    rows = [("scan", own_name(path)), ("still pictures", f"{len(stills)}; they are no slices of one scan")]
    rows += [(f"picture {', '.join(names)}", description) for description, names in said.items()]
    rows += [("note", note) for note in dict.fromkeys(note for still in stills for note in still.notes)]
    rows += [("privacy", warning) for warning in identifying_tags(path)]
    _print_rows(rows, 14)


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="The DICOM file (Enhanced US Volume), .dcm; with --count a folder.")],
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Which hip; the same seed gives the same bytes.")] = 0,
    side: Annotated[Side | None, typer.Option(help="Default: drawn from the seed.")] = None,
    version: Annotated[int, typer.Option(min=1, max=2, help="1: as the first study used it. 2: looks like one.")] = 1,
    preset: PresetOption = None,
    contrast_db: Annotated[
        float | None,
        typer.Option(help="How much darker the femoral head is than its surroundings. Default: 6; version 2 draws it."),
    ] = None,
    noise_db: Annotated[
        float | None,
        typer.Option(help="Electronic noise, dB relative to muscle at the skin. Default: -60, or the preset's."),
    ] = None,
    look_alikes: Annotated[
        int | None,
        typer.Option(min=0, max=200, help="Dark pockets and vessels in the muscle. Default: 10 to 16, or 2 to 8."),
    ] = None,
    dysplastic: Annotated[bool, typer.Option("--dysplastic", help="A cup that covers too little of the head.")] = False,
    mask: Annotated[Path | None, typer.Option(help="Also write the annotation, .dcm or .nii.gz.")] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Make so many hips, from --seed on, as a folder for `segdet fit --data`.")
    ] = None,
    force: ForceOption = False,
):
    """Simulate a 3D ultrasound scan of an infant hip, or many, and write DICOM."""
    from ..io.dicom.write import write_volume
    from ..io.files import save_mask
    from ..io.outputs import check_outputs
    from ..phantom.cache import write_phantoms
    from ..phantom.make import make_phantom, parameters_of
    from ..phantom.parameters import DECIBELS, check_number

    parameters = parameters_of(version, preset, dysplastic)
    if look_alikes is not None:
        parameters = replace(parameters, look_alikes=(look_alikes, look_alikes))
    options = {"contrast_db": contrast_db, "noise_db": noise_db, "side": side.value if side else None}
    options |= {"parameters": parameters, "version": version, "preset": preset}
    for name in DECIBELS:  # before a folder is made
        if options[name] is not None:
            check_number(name, options[name])
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
    name: Annotated[
        str,
        typer.Argument(
            help="Which data set: hippocampus (MRI, 260 annotated scans, 28 MB) or hips (78 pictures, 18 MB)."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The folder to make. Default: data/NAME.")] = None,
):
    """Fetch real data: scans for `segdet fit --data` and `segdet ablate --data`, or pictures of infant hips."""
    from ..io.download import DATASETS
    from ..io.download import download as fetch

    out = out or Path("data") / name
    count = fetch(name, out)
    dataset = DATASETS[name]
    print(f"wrote {out}: {count} {dataset.holds}. {dataset.source}; {dataset.licence}")
    print(f"next: {dataset.next.format(out=out)}")


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
    from ..attention import painted
    from ..export.load import load_cascade
    from ..io.boxes_csv import read_boxes
    from ..io.checks import own_name
    from ..io.files import check_mask_path, load_volume, save_mask
    from ..io.outputs import check_outputs
    from ..runtime.progress import progress

    check_outputs({"a mask": out, "a picture": png}, scan, force)
    with progress(None, f"reading {own_name(model)}", total=1):
        cascade = load_cascade(model, engine and engine.value)
    with progress(None, f"reading {own_name(scan)}", total=1):
        volume = load_volume(scan, frame=frame, series=series)
    volume.check_scan()
    check_mask_path(out, volume, scan)
    drawn = boxes and read_boxes(boxes, volume.shape)
    for note in _notes(cascade.grids, volume, drawn, boxes):
        print(f"note: {as_options(note)}")
    start = time.monotonic()
    with progress(None, f"segmenting {' x '.join(map(str, volume.shape))} voxels", total=1):
        prediction = cascade.predict(volume, drawn and (lambda scan: painted(drawn, scan.shape)), step)
    seconds = time.monotonic() - start
    said = save_mask(prediction.mask, out, volume, source=scan)
    for line in _found(prediction, volume, drawn, seconds):
        print(line)
    print("; ".join([f"wrote {out}", *said]))
    _save_picture(png, volume, prediction.mask)


def _notes(grids, volume, drawn, boxes):
    """What to know before a mask is believed: notes on the scan, on boxes that were drawn, on what the model sees."""
    seen = grids.oriented(volume)
    extent, notes = np.multiply(seen.shape, seen.spacing), list(seen.notes)
    marked = [number for number, found in enumerate(drawn or ()) if len(found)]
    if marked and (gaps := marked[-1] - marked[0] + 1 - len(marked)):
        notes.append(f"{gaps} slices between the first and the last of {boxes} hold no box and count as outside")
    notes += two_values_note(volume.voxels)
    if (extent > np.multiply(grids.extent, 1.02)).any():
        central = " x ".join(f"{e:.0f}" for e in np.minimum(extent, grids.extent))
        notes.append(f"the model looks at the central {central} mm of this scan; the rest is background in the mask")
    return notes


def _found(prediction, volume, drawn, seconds):
    """What was found in a scan, in lines: how much, and why a mask is empty or rests on nothing."""
    detected = int(prediction.attention.any((1, 2)).sum())
    millilitres = prediction.mask.sum() * abs(np.linalg.det(volume.affine)) / 1000
    yield f"boxes on {detected} of {len(prediction.attention)} slices; mask {millilitres:.2f} ml; {seconds:.1f} s"
    if not prediction.mask.any() and drawn:
        yield "the mask is empty: the boxes miss what the model knows; paint every slice that shows the object"
    elif not prediction.mask.any():
        yield "the mask is empty: nothing in this scan looked like what the model was trained on"
    elif not detected:
        yield "there is no box: the mask rests on nothing"


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A folder that `segdet fit` wrote.")],
    out: Annotated[Path, typer.Option(help="The folder to make; `segdet predict --model` takes it as well.")],
):
    """Write both networks of a model as ONNX, and what else it takes to run it without PyTorch."""
    from ..cascade import Cascade
    from ..errors import CheckpointError
    from ..export.exported import SETTINGS
    from ..export.load import found_model
    from ..export.onnx import export as write

    model = found_model(model)
    if (model / SETTINGS).exists():
        raise CheckpointError(f"{model}: is an export already; `segdet predict --model` takes it as it is")
    differences = write(Cascade.load(model, "cpu"), out)
    names = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    print(f"wrote {out}; largest differences between ONNX Runtime and PyTorch: {names}")
    print(f"next: segdet predict SCAN --model {quote(str(out))} --out mask.nii.gz")
