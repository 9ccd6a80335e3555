"""Version 2 of the simulated scan from the seed to the volume (chapter 02).

Scattering, attenuation and the point-spread function are version 1's; the hip, the artefacts of the tissue and the
receiver are its own.

Not modelled: refraction but for its shadow, aberration, side lobes, spatial compounding but for the speckle filter,
motion during the sweep, frequency-dependent attenuation within the band, and the annotator's own variation.
"""

from dataclasses import fields, replace
from functools import lru_cache

import torch

from ...volume import Volume
from ..acoustics import attenuate, focus, noise_beside, scatter
from ..anatomy import check_request
from .anatomy import STRUCTURES, anatomy, stream
from .artefacts import echo_again, shade_edges
from .parameters import Hip2Parameters
from .receiver import image, recorded
from .scanners import Scanner, scanner_of

VERSION = "2"


@lru_cache
def sheet_gain(spacing, scanner):
    """How much stronger than its voxels' amplitude the echo of a flat sheet is after `focus`; it depends on the grid.

    All voxels of a sheet have the same phase, so across the beam the weights of the point-spread function add up.
    """
    shape = tuple(2 * int(6 / step) + 1 for step in spacing)
    sheet = torch.zeros(shape, dtype=torch.complex128)
    middle = tuple(n // 2 for n in shape)
    sheet[:, middle[1]] = 1
    here = replace(scanner, focus_mm=(middle[1] + 0.5) * spacing[1])
    return float(focus(sheet, spacing, here)[middle].real)


def stages(
    seed, shape=(128, 184, 96), contrast_db=None, side=None, age_days=None, parameters=None, scanner=None, device="cpu"
):
    """Every step of the simulation; the arguments are those of `anatomy`, and the device of the arithmetic.

    Returns
    -------
    dict
        "anatomy" (Hip2), "scatterers", "attenuated", "focused" (complex128 Tensors, (D, H, W)), "volume" (Volume).
    """
    p, s = parameters or Hip2Parameters(), scanner or Scanner()
    check_request(seed, shape, contrast_db or 0.0, side, age_days, p)
    with noise_beside(seed, shape, device) as (speckle, noise):
        body = anatomy(seed, shape, contrast_db, side, age_days, p, s)
        sheets = body.specular / sheet_gain(body.spacing, s)
        scatterers = scatter(replace(body, specular=sheets), seed, device, speckle.result())
        attenuated = attenuate(body, scatterers, s)
        attenuated = shade_edges(body, echo_again(body, scatterers, attenuated, seed, p, s), seed, p)
        focused = focus(attenuated, body.spacing, s)
        voxels = image(focused, body.spacing, seed, s, noise.result())
    rows, columns = recorded(shape, body.spacing, seed, s)
    voxels, structures = voxels[:, :, columns], body.structures[:, :, columns]
    voxels[:, rows:] = structures[:, rows:] = 0
    meta = {"modality": "US", "phantom_version": VERSION, "seed": int(seed), "side": body.side}
    meta |= {"age_days": body.age_days, "contrast_db": body.contrast_db}
    changed = [(f.name, getattr(d, f.name)) for d in (p, s) for f in fields(d) if getattr(d, f.name) != f.default]
    if changed:
        meta["changed"] = ", ".join(f"{name}={value}" for name, value in changed)
    volume = Volume.from_spacing(
        voxels, body.spacing, structures == 2, name=f"phantom-{seed:04d}", meta=meta,
        labels=structures, label_names=STRUCTURES,
    )  # fmt: skip
    return {
        "anatomy": body,
        "scatterers": scatterers,
        "attenuated": attenuated,
        "focused": focused,
        "volume": volume,
    }


def make_hip2(
    seed, shape, contrast_db, *, parameters, preset, noise_db=None, side=None, age_days=None, device="cpu"
):  # fmt: skip
    """A simulated scan of version 2; see `segdet.phantom.make.make_phantom`."""
    seed, shape = check_request(seed, shape, contrast_db or 0.0, side, age_days, parameters)
    scanner = scanner_of(preset, stream(seed, "scanner"))
    if noise_db is not None:
        scanner = replace(scanner, noise_db=noise_db)
    volume = stages(seed, shape, contrast_db, side, age_days, parameters, scanner, device)["volume"]
    return replace(volume, meta=volume.meta | {"preset": preset})
