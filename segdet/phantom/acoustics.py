"""A simulated 3D ultrasound scan of an infant hip, to test every claim without patients (chapter 02).

One chain of public functions, :func:`anatomy` -> :func:`scatter` -> :func:`attenuate` -> :func:`focus` ->
:func:`image`; :func:`stages` runs it and keeps every step. It works on the baseband echo: a complex number
a voxel whose modulus is the envelope, so the carrier is never sampled. Arithmetic is float64 so that the
last rounding to uint8 does not depend on the number of threads.

Not modelled: refraction, aberration, reverberation, side lobes, spatial compounding and vendor filters, motion
during the sweep, frequency-dependent attenuation within the band, and the annotator's own variation.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import torch

from ..volume import Volume
from .anatomy import anatomy, check_request, draw_normal, random_stream
from .canvas import smooth_field
from .parameters import HipParameters

VERSION = "1"


@contextmanager
def noise_beside(seed, shape, device="cpu"):
    """The noise of `scatter` and of `image` as two futures: it is drawn in a thread while the anatomy is painted."""
    with ThreadPoolExecutor(1) as thread:
        yield [thread.submit(circular_noise, seed, stream, shape, device) for stream in ("speckle", "noise")]


def scatter(body, seed, device="cpu", noise=None):
    """Scatterers: circular complex Gaussian noise with the local echogenicity, plus the interfaces.

    Parameters
    ----------
    body : Anatomy
    seed : int
    device : str or torch.device
        Where this and every later step is computed; it needs float64.
    noise : Tensor of complex128, optional
        What `seed` draws, where it has been drawn already; it is changed.

    Returns
    -------
    Tensor of complex128, (D, H, W)
        Mean power 1 in muscle.
    """
    noise = circular_noise(seed, "speckle", body.labels.shape, device) if noise is None else noise
    noise *= np.sqrt(0.5) * 10 ** (torch.as_tensor(body.echogenicity_db, device=device) / 20)
    return noise.add_(torch.as_tensor(body.specular, device=device))


def circular_noise(seed, stream, shape, device):
    """Complex Gaussian numbers, deviation 1 in each part, the same ones on every device."""
    pairs = random_stream(seed, stream).standard_normal((*shape, 2))
    return torch.view_as_complex(torch.from_numpy(pairs).to(device))


def attenuate(body, scatterers, parameters=None):
    """What is left of each echo after the way in and the way out; below bone next to nothing (the shadow).

    Parameters
    ----------
    body : Anatomy
    scatterers : Tensor of complex128, (D, H, W)
    parameters : HipParameters, optional

    Returns
    -------
    Tensor of complex128, (D, H, W)
    """
    p = parameters or HipParameters()
    decibels = torch.as_tensor(body.attenuation, device=scatterers.device).cumsum(1)
    decibels *= -2 * p.frequency_mhz * body.spacing[1] / 10  # there and back; mm to cm
    return scatterers * 10 ** (decibels / 20)


def focus(echo, spacing, parameters=None):
    """Blur with the point-spread function: Gaussian, separable, wider away from the focus.

    Axial width c / (2 B); lateral and elevational width lambda F sqrt(1 + ((y - focus) / (4 lambda F^2))^2),
    all full widths at half maximum, in quadrature with the voxel. Each row of weights has unit energy, so the
    mean power of speckle is kept.

    Parameters
    ----------
    echo : Tensor of complex128, (D, H, W)
    spacing : (dz, dy, dx) in mm
    parameters : HipParameters, optional

    Returns
    -------
    Tensor of complex128, (D, H, W)
        Its modulus is the envelope.
    """
    p = parameters or HipParameters()
    d, h, w = echo.shape
    wavelength = p.speed_of_sound_m_per_s / p.frequency_mhz / 1000  # mm
    from_focus = (np.arange(h) + 0.5) * spacing[1] - p.focus_mm

    def width(f_number):
        return wavelength * f_number * np.sqrt(1 + (from_focus / (4 * wavelength * f_number**2)) ** 2)

    axial = _weights(h, spacing[1], wavelength / (2 * p.fractional_bandwidth)).to(echo.device)  # (H, H)
    lateral = _weights(w, spacing[2], width(p.lateral_f_number)).to(echo.device)  # (H, W, W)
    elevation = _weights(d, spacing[0], width(p.elevation_f_number)).to(echo.device)  # (H, D, D)
    parts = torch.view_as_real(echo).permute(3, 1, 0, 2)  # (2, H, D, W): every axis is a matrix product
    parts = torch.matmul(axial, parts.reshape(2, h, d * w)).view(2, h, d, w)
    parts = elevation @ (parts @ lateral.mT)
    return torch.complex(parts[0], parts[1]).transpose(0, 1)


def _weights(n, spacing, width_mm):
    """Gaussian blur as matrices (..., n, n), one for each full width at half maximum in `width_mm` (...)."""
    variance = (np.asarray(width_mm)[..., None, None] / 2.3548) ** 2 + spacing**2 / 12
    steps = np.abs(np.arange(n)[:, None] - np.arange(n))
    weights = np.exp(-((np.arange(n) * spacing) ** 2) / (2 * variance[..., 0]))[..., steps]
    return torch.from_numpy(weights / np.linalg.norm(weights, axis=-1, keepdims=True))


def image(echo, spacing, seed, parameters=None, noise=None):
    """Receiver: electronic noise, an imperfect time-gain compensation, envelope, log compression, uint8.

    Grey = 255 (muscle_grey + level / dynamic_range_db), clipped; the level is in dB relative to muscle.

    Parameters
    ----------
    echo : Tensor of complex128, (D, H, W)
    spacing : (dz, dy, dx) in mm
    seed : int
    parameters : HipParameters, optional
    noise : Tensor of complex128, optional
        As of `scatter`.

    Returns
    -------
    ndarray of uint8, (D, H, W)
    """
    p = parameters or HipParameters()
    z, y, x = ((np.arange(n) + 0.5) * s for n, s in zip(echo.shape, spacing, strict=True))
    rng = random_stream(seed, "gain")
    gain = 2 * draw_normal(rng, *p.tgc_db_per_cm_mhz) * p.frequency_mhz * y / 10  # there and back; mm to cm
    gain += p.tgc_ripple_db * smooth_field(rng, (y,), 7.0)
    gain = gain[:, None] + p.contact_db * smooth_field(rng, (z, x), 8.0)[:, None, :]
    noise = circular_noise(seed, "noise", echo.shape, echo.device) if noise is None else noise
    noise *= np.sqrt(0.5) * 10 ** (p.noise_db / 20)
    noise += echo
    level = 10 * torch.log10(noise.real**2 + noise.imag**2 + 1e-30)
    level += torch.as_tensor(gain, device=echo.device)
    grey = 255 * (p.muscle_grey + level / p.dynamic_range_db)
    return grey.round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()


def stages(seed, shape=(128, 184, 96), contrast_db=6.0, side=None, age_days=None, parameters=None, device="cpu"):
    """Every step of the simulation; the arguments are those of :func:`anatomy` and :func:`scatter`.

    Returns
    -------
    dict
        "anatomy" (Anatomy), "scatterers", "attenuated", "focused" (complex128 Tensors, (D, H, W)), "volume" (Volume).
    """
    p = parameters or HipParameters()
    check_request(seed, shape, contrast_db, side, age_days, p)
    with noise_beside(seed, shape, device) as (speckle, noise):
        body = anatomy(seed, shape, contrast_db, side, age_days, p)
        scatterers = scatter(body, seed, device, speckle.result())
        attenuated = attenuate(body, scatterers, p)
        focused = focus(attenuated, body.spacing, p)
        voxels = image(focused, body.spacing, seed, p, noise.result())
    meta = {"modality": "US", "phantom_version": VERSION, "seed": int(seed), "side": body.side}
    meta |= {"age_days": body.age_days, "contrast_db": float(contrast_db)}
    changed = [f.name for f in fields(p) if getattr(p, f.name) != f.default]
    if changed:
        meta["changed"] = ", ".join(f"{name}={getattr(p, name)}" for name in changed)
    volume = Volume.from_spacing(voxels, body.spacing, body.mask, name=f"phantom-{seed:04d}", meta=meta)
    return {
        "anatomy": body,
        "scatterers": scatterers,
        "attenuated": attenuated,
        "focused": focused,
        "volume": volume,
    }


def make_phantom(seed, shape=(128, 184, 96), contrast_db=6.0, side=None, age_days=None, parameters=None, device="cpu"):
    """A simulated scan of an infant hip with its femoral head annotated; same arguments, same bytes.

    The arguments and errors are those of :func:`anatomy`. Another `device` gives the same anatomy and the same noise,
    so the same image but for a grey value that rounds the other way.

    Returns
    -------
    Volume
        uint8 voxels (elevation, depth, lateral), mask, a name such as "phantom-0007" and meta: modality,
        phantom_version, seed, side, age_days, contrast_db and, where parameters are not the default's, changed.
    """
    return stages(seed, shape, contrast_db, side, age_days, parameters, device)["volume"]
