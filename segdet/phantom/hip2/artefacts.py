"""What tissue adds to the echo of version 2 and takes from it: multiple echoes below bone, shadows beside the head."""

import numpy as np
import torch

from ..anatomy import draw_normal
from .anatomy import stream
from .parameters import Hip2Parameters
from .scanners import Scanner

ONSET_MM = 4.0  # over which a shadow beside the head sets in
FLAT = 0.25  # tangent of the tilt at which bone throws the beam aside
DECIBELS = 10 / np.log(10)  # of a power that is e times larger
SOFT_DB_PER_CM_MHZ = 0.84  # the mean of what the multiple echoes pass through


def echo_again(body, scatterers, echo, seed, parameters=None, scanner=None):
    """Add the echoes that go to and fro between bone and what lies over it, and the haze of those that go astray.

    Bone throws the beam back, a layer d above it reflects it, and bone again: it arrives like an echo from d below
    the bone, having passed d of tissue twice more. So the shadow holds a mirror image of what is above, weakened by
    two reflections and, the deeper the more, by the roughness of bone (Kremkau 1986). Bone that does not face the beam
    throws it aside. What rough bone scatters comes back from everywhere: noise, as deep tissue would give it.

    Parameters
    ----------
    body : Hip2
    scatterers : Tensor of complex128, (D, H, W)
        Whose noise the haze takes, without its echogenicity.
    echo : Tensor of complex128, (D, H, W)
        Attenuated, with nothing but the shadow below bone. It is changed.
    seed : int
    parameters : Hip2Parameters, optional
    scanner : Scanner, optional

    Returns
    -------
    Tensor of complex128, (D, H, W)
    """
    p, frequency = parameters or Hip2Parameters(), (scanner or Scanner()).frequency_mhz
    rng = stream(seed, "artefacts")
    at_bone, haze = draw_normal(rng, *p.echo_again_db), draw_normal(rng, *p.haze_db)
    fall = p.echo_again_fall_db_per_mm + 4 * SOFT_DB_PER_CM_MHZ * frequency / 10  # to and fro twice; cm to mm
    dz, dy, dx = body.spacing
    slope2 = np.gradient(body.first_bone * dy, dz, axis=0) ** 2 + np.gradient(body.first_bone * dy, dx, axis=2) ** 2
    beams = np.nonzero(body.first_bone[:, 0] < echo.shape[1])  # those that meet bone: N pairs (slice, column)
    bone = body.first_bone[beams[0], 0, beams[1]][:, None]  # (N, 1)
    rows = np.arange(echo.shape[1])
    below = rows - bone  # (N, H)
    again = at_bone - DECIBELS * slope2[beams[0], 0, beams[1]][:, None] / FLAT**2 - fall * below * dy
    again = np.where((below > 0) & (below <= bone), np.exp(again / (2 * DECIBELS)), 0)
    passed = 2 * SOFT_DB_PER_CM_MHZ * frequency * (rows + 0.5) * dy / 10  # dB, there and back
    astray = haze - p.echo_again_fall_db_per_mm * below * dy - passed - body.echogenicity_db[beams[0], :, beams[1]]
    astray = np.where(below > 0, np.exp(astray / (2 * DECIBELS)), 0)
    source = np.clip(bone - below, 0, echo.shape[1] - 1)
    source, again, astray = (torch.as_tensor(array, device=echo.device) for array in (source, again, astray))
    seen = echo[beams[0], :, beams[1]]
    seen += again * torch.take_along_dim(seen, source, 1) + astray * scatterers[beams[0], :, beams[1]]
    echo[beams[0], :, beams[1]] = seen
    return echo


def shade_edges(body, echo, seed, parameters=None):
    """Weaken what lies below the sides of the head, which the beam grazes and is bent away by (Robinson 1981).

    Parameters
    ----------
    body : Hip2
    echo : Tensor of complex128, (D, H, W)
        It is changed.
    seed : int
    parameters : Hip2Parameters, optional

    Returns
    -------
    Tensor of complex128, (D, H, W)
    """
    p = parameters or Hip2Parameters()
    decibels = stream(seed, "edges").uniform(*p.edge_shadow_db)
    (z, depth, x), radius = body.head_centre_mm, body.head_radius_mm
    dz = (np.arange(echo.shape[0]) + 0.5) * body.spacing[0] - z
    dx = (np.arange(echo.shape[2]) + 0.5) * body.spacing[2] - x
    # Left of the head the last factor is not limited to 1: up to 0.9 dB more are lost. Studies rest on these hips.
    from_side = np.hypot(dz[:, None], dx[None]) / radius - 1
    lost = decibels * np.exp(-((from_side / 0.1) ** 2)) * np.minimum(dx / radius, 1) ** 2  # a wide beam in elevation
    start = min(max(int(depth / body.spacing[1]), 0), echo.shape[1])
    onset = np.minimum(np.arange(echo.shape[1] - start) * body.spacing[1] / ONSET_MM, 1)
    left = 10 ** (-onset[:, None] * lost[:, None] / 20)
    echo[:, start:] *= torch.as_tensor(left, device=echo.device)
    return echo
