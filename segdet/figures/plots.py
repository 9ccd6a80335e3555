"""Figures: slices with masks and boxes, the 3D surface, a volume to leaf through, intervals (all chapters)."""

import base64
import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from ..runtime.atomic import writing

# Okabe and Ito's palette, told apart by most colour-blind readers.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442",
)  # fmt: skip
ARM_COLOURS = {
    "unet": BLUE, "box3d": ORANGE, "cascade": RED, "cascade-gt": PURPLE, "slicebox": GREEN, "cascade-oof": SKY,
    "box3d-detector": YELLOW, "cascade-crop": "0", "ones": "0.5", "shifted": "0.2",
}  # fmt: skip


def use_style():
    """The book's matplotlib settings; the same input gives the same bytes."""
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "svg.hashsalt": "segdet",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": mpl.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW]),
            "image.cmap": "gray",
            "font.size": 10,
        }
    )


def show_plane(ax, image, spacing, mask=None, attention=None, boxes=None, title=None):
    """Draw one plane with what was found on it.

    Parameters
    ----------
    ax : matplotlib Axes
    image : array, (H, W)
    spacing : (dy, dx) in mm; sets the aspect, so that a round head looks round.
    mask, attention : bool arrays, (H, W), optional
        An outline in red; a tint in blue.
    boxes : array, (n, 4), optional
        In pixels, drawn in orange.
    """
    ax.imshow(image, aspect=spacing[0] / spacing[1], interpolation="nearest")
    if attention is not None and attention.any():
        tint = np.zeros((*attention.shape, 4))
        tint[attention] = (*mpl.colors.to_rgb(SKY), 0.3)
        ax.imshow(tint, aspect=spacing[0] / spacing[1], interpolation="nearest")
    if mask is not None and mask.any():
        ax.autoscale(False)  # for the frame around the mask, which closes its outline at the border
        rows, columns = (np.arange(-1, n + 1) for n in mask.shape)
        ax.contour(columns, rows, np.pad(mask, 1), [0.5], colors=[RED], linewidths=1.2)
    for x0, y0, x1, y1 in boxes if boxes is not None else ():
        if x1 > x0 and y1 > y0:
            ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=ORANGE, lw=1.5))
    ax.set(title=title, xticks=[], yticks=[])


def show_planes(volume, mask=None):
    """A figure of the three planes of a `Volume` through the mask's centre, or else through the middle."""
    mask = volume.mask if mask is None else mask
    inside = np.argwhere(mask) if mask is not None and mask.any() else None
    centre = np.array(volume.shape) // 2 if inside is None else inside.mean(0).round().astype(int)
    dz, dy, dx = volume.spacing
    planes = [
        ((centre[0],), (dy, dx), f"slice {centre[0]}"),
        ((slice(None), slice(None), centre[2]), (dz, dy), f"column {centre[2]}"),
        ((slice(None), centre[1]), (dz, dx), f"row {centre[1]}"),
    ]
    voxels = volume.limited()[0].voxels  # one hot voxel would blacken the rest
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.4))
    for ax, (index, spacing, title) in zip(axes, planes, strict=True):
        show_plane(ax, voxels[index], spacing, None if mask is None else mask[index], title=title)
    return figure


def save_planes(volume, path, mask=None):
    """Save `show_planes` as a picture."""
    use_style()
    figure = show_planes(volume, mask)
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)


def surface(mask, spacing, colour=RED, name="mask", opacity=1.0):
    """The surface of a mask as a plotly Mesh3d in mm, by marching cubes; axes lateral, elevation, depth.

    Parameters
    ----------
    mask : bool array or probability, (D, H, W)
    spacing : (dz, dy, dx) in mm
    """
    import plotly.graph_objects as go
    from skimage.measure import marching_cubes

    if not np.any(mask >= 0.5):
        raise ValueError(f"{name}: an empty mask has no surface")
    vertices, faces, _, _ = marching_cubes(np.pad(mask.astype(np.float32), 1), 0.5, spacing=spacing)
    z, y, x = (vertices - np.float32(spacing)).T.round(2)  # the padding moved everything by one voxel
    i, j, k = faces.T
    return go.Mesh3d(
        x=x, y=z, z=-y, i=i, j=j, k=k, color=colour, opacity=opacity, name=name, showlegend=True, flatshading=False
    )


def surface_figure(meshes, title):
    """A plotly figure of `surface` meshes, in true proportions; `title` is also its text for screen readers."""
    import plotly.graph_objects as go

    layout = {
        "title": title,
        "meta": {"alt": title},
        "height": 460,
        "margin": {"l": 0, "r": 0, "t": 40, "b": 0},
        "scene": {
            "aspectmode": "data",
            "xaxis_title": "lateral (mm)",
            "yaxis_title": "elevation (mm)",
            "zaxis_title": "depth (mm)",
        },
    }
    return go.Figure(meshes, layout)


def volume_browser(volume, title, every=4):
    """A plotly figure that leafs through the slices with a slider, with the outline on or off; needs no kernel.

    Slices are stored as small PNG pictures, so the figure stays light.
    """
    import plotly.graph_objects as go

    voxels = volume.voxels.astype(np.float32)
    grey = np.clip(255 * (voxels - voxels.min()) / (np.ptp(voxels) or 1), 0, 255).astype(np.uint8)
    chosen = range(min(every // 2, len(grey) - 1), len(grey), every)
    dy, dx = volume.spacing[1:]
    width_mm, height_mm = grey.shape[2] * dx, grey.shape[1] * dy

    def picture(index):
        return {"source": data_uri(grey[index], "png"), "xref": "x", "yref": "y", "x": 0, "y": 0, "sizex": width_mm,
                "sizey": height_mm, "sizing": "stretch", "layer": "below"}  # fmt: skip

    def outline(index):
        x, y = [], []
        for contour in _contours(volume.mask[index]) if volume.mask is not None else ():
            x += [*(contour[:, 1] * dx).round(2), None]
            y += [*(contour[:, 0] * dy).round(2), None]
        return go.Scatter(x=x, y=y, mode="lines", line={"color": RED, "width": 2}, name="annotation")

    frames = [go.Frame(name=str(i), data=[outline(i)], layout={"images": [picture(i)]}) for i in chosen]
    start = len(frames) // 2
    steps = [
        {
            "label": f.name,
            "method": "animate",
            "args": [[f.name], {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}],
        }
        for f in frames
    ]
    layout = {
        "title": title,
        "meta": {"alt": f"{title}: {len(frames)} slices to leaf through with a slider"},
        "height": 430,
        "margin": {"l": 40, "r": 10, "t": 40, "b": 10},
        "images": frames[start].layout.images,
        "xaxis": {"range": [0, width_mm], "title": "lateral (mm)", "constrain": "domain"},
        "yaxis": {"range": [height_mm, 0], "title": "depth (mm)", "scaleanchor": "x", "constrain": "domain"},
        "showlegend": True,
        "sliders": [{"active": start, "currentvalue": {"prefix": "slice "}, "steps": steps}],
    }
    return go.Figure(frames[start].data, layout, frames)


def intervals(ax, labels, comparisons, paper=None):
    """Draw differences with their 95 % intervals, one row each; the paper's values as open diamonds."""
    rows = np.arange(len(labels))[::-1]
    for row, c in zip(rows, comparisons, strict=True):
        ax.plot(c.interval, [row, row], color=BLUE, lw=3, solid_capstyle="butt")
        ax.plot(c.difference, row, "o", color=BLUE)
    if paper is not None:
        ax.plot(paper, rows, "D", mfc="none", mec=RED, label="paper")
        ax.legend(loc="best", frameon=False)
    ax.axvline(0, color="0.6", lw=1)
    ax.set(yticks=rows, yticklabels=labels, ylim=(-0.6, len(labels) - 0.4))


def data_uri(plane, kind, **options):
    """A uint8 picture (H, W) as text that a page can hold; `kind` is "png" or "jpeg", `options` are Pillow's."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, kind, optimize=True, **options)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def _contours(mask):
    from skimage.measure import find_contours

    return [c - 0.5 for c in find_contours(np.pad(mask, 1).astype(float), 0.5)]
