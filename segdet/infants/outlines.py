"""How far the outline of a label lies from the edge that is visible in the picture (chapter 12)."""

import numpy as np
from scipy import ndimage

RAYS = 72
REACH_MM, STEP_MM = 2.0, 0.1
SMOOTH_MM = 0.3
CONTROL_MM = 3.0  # by which the outline is moved for the control


def edge_offsets(picture, head):
    """Where the strongest edge lies, seen from the label's outline.

    Rays leave the centre of the label in 72 directions. Within 2 mm on either side of the outline, the place where the
    picture, smoothed by 0.3 mm, brightens most towards the outside counts as the visible edge: the head is darker than
    its capsule. Where the outline has nothing to do with the picture, that place is anywhere in these 4 mm, 1 mm
    away in the median; `control_offsets` measures how far it is then.

    Parameters
    ----------
    picture : Volume
        One picture, (1, H, W).
    head : ndarray of bool, (1, H, W)
        In one piece, its centre in it.

    Returns
    -------
    ndarray, (n,)
        In mm, positive where the edge lies outside the outline; rays that leave the picture are left out.
    """
    return _offsets(picture, head[0], (0.0, 0.0))


def control_offsets(picture, head):
    """The same for the outline moved by 3 mm, in each of eight directions: ndarray, (n,)."""
    turns = np.arange(8) * np.pi / 4
    moves = CONTROL_MM * np.c_[np.sin(turns), np.cos(turns)]
    return np.concatenate([_offsets(picture, head[0], move) for move in moves])


def outline_row(infant):
    """What `edge_offsets` and `control_offsets` say of an infant, a `Stills`, over all its outlined pictures.

    Returns
    -------
    dict
        ``median_mm``: median offset, positive where the label is too small. ``away_mm``: median distance.
        ``within_half``: share of the rays whose edge is within 0.5 mm. ``control_away_mm``, ``control_within_half``:
        the same of the outlines moved by 3 mm.
    """
    pairs = [(p, head) for p, head in zip(infant.pictures, infant.heads, strict=True) if head.any()]
    own, control = (np.concatenate([offsets(*pair) for pair in pairs]) for offsets in (edge_offsets, control_offsets))
    row = {"pictures": len(pairs), "median_mm": float(np.median(own))}
    for name, values in (("", np.abs(own)), ("control_", np.abs(control))):
        row |= {f"{name}away_mm": float(np.median(values)), f"{name}within_half": float((values <= 0.5).mean())}
    return row


def _offsets(picture, head, move):
    spacing = np.array(picture.spacing[1:])
    grey = ndimage.gaussian_filter(picture.voxels[0].astype(float), SMOOTH_MM / spacing)
    centre = np.array(ndimage.center_of_mass(head)) * spacing  # mm
    turns = np.arange(RAYS) * 2 * np.pi / RAYS
    rays = np.stack([np.sin(turns), np.cos(turns)])  # (2, R)
    outline = _outline(head, centre, rays, spacing)
    steps = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    places = (centre + move)[:, None, None] + rays[..., None] * (outline[:, None] + steps)  # (2, R, S)
    at = places / spacing[:, None, None]
    inside = ((at >= 0) & (at <= np.array(grey.shape)[:, None, None] - 1)).all((0, 2))
    rise = np.gradient(ndimage.map_coordinates(grey, at[:, inside], order=1), axis=1)
    return steps[rise.argmax(1)]


def _outline(head, centre, rays, spacing):
    """The distance in mm along each ray at which the head ends for the last time, (R,)."""
    reach = np.arange(0, np.hypot(*(np.array(head.shape) * spacing)), STEP_MM)
    at = (centre[:, None, None] + rays[..., None] * reach) / spacing[:, None, None]
    within = ndimage.map_coordinates(head.astype(float), at, order=1) >= 0.5
    return reach[len(reach) - 1 - within[:, ::-1].argmax(1)]
