"""Figures: slices with masks and boxes, the 3D surface, a volume to leaf through, intervals (all chapters)."""

import base64
import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from scipy import ndimage

from ..runtime.atomic import writing

# Okabe and Ito's palette, told apart by most colour-blind readers.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442",
)  # fmt: skip
# One meaning, one colour, in every picture of a scan; `book/_static/explorers.js` has the same.
ANNOTATION, ATTENTION, PREDICTION, BOX = GREEN, SKY, RED, ORANGE
INK = "#7b7b7b"  # of text and axes: it stands out equally from a white page and from a dark one
ARM_COLOURS = {
    "unet": BLUE, "box3d": ORANGE, "cascade": RED, "cascade-gt": PURPLE, "slicebox": GREEN, "cascade-oof": SKY,
    "box3d-detector": YELLOW, "cascade-crop": "#A65628", "ones": "0.6", "shifted": "0.4",
}  # fmt: skip


def use_style():
    """The book's matplotlib settings; the same input gives the same bytes. The ground is left to the page."""
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
            "legend.frameon": False,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
        }
    )


def panels(rows, columns):
    """A figure for pictures of slices, each 300 pixels wide or more where the page has the room.

    Returns
    -------
    figure, axes
        As `matplotlib.pyplot.subplots` gives them.
    """
    return plt.subplots(rows, columns, figsize=(3.2 * columns, 3.85 * rows))


def show_plane(
    ax, image, spacing, mask=None, attention=None, boxes=None, title=None, *, annotation=None, annotated=None
):
    """Draw one plane with what was found on it, what is true, and a scale bar.

    Parameters
    ----------
    ax : matplotlib Axes
    image : array, (H, W)
    spacing : (dy, dx) in mm; sets the aspect, so that a round head looks round.
    mask, attention, annotation : bool arrays, (H, W), optional
        A prediction, outlined in `PREDICTION`; a tint of `ATTENTION`; an outline in `ANNOTATION`.
    boxes, annotated : arrays, (n, 4), optional
        In pixels: what a detector says, in the colour `BOX`, and boxes of the annotation, in `ANNOTATION`.
    """
    ax.imshow(image, aspect=spacing[0] / spacing[1], interpolation="nearest")
    if attention is not None and np.any(attention):
        tint = np.zeros((*attention.shape, 4))
        tint[attention] = (*mpl.colors.to_rgb(ATTENTION), 0.3)
        ax.imshow(tint, aspect=spacing[0] / spacing[1], interpolation="nearest")
    for outline, colour in ((annotation, ANNOTATION), (mask, PREDICTION)):
        if outline is not None and np.any(outline):
            ax.autoscale(False)  # for the frame around the mask, which closes its outline at the border
            rows, columns = (np.arange(-1, n + 1) for n in outline.shape)
            ax.contour(columns, rows, np.pad(outline, 1), [0.5], colors=[colour], linewidths=1.4)
    draw_boxes(ax, annotated, ANNOTATION)
    draw_boxes(ax, boxes, BOX)
    scale_bar(ax, image.shape, spacing)
    ax.set(title=title, xticks=[], yticks=[])


def draw_boxes(ax, boxes, colour=BOX, **look):
    """Draw boxes (n, 4) of pixels, half-open; those without an area are left out. `look` goes to the rectangles."""
    for x0, y0, x1, y1 in np.asarray(boxes).tolist() if boxes is not None else ():
        if x1 > x0 and y1 > y0:
            look = {"fill": False, "ec": colour, "lw": 1.5} | look
            ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, **look))


def scale_bar(ax, shape, spacing):
    """Draw a bar of 1, 2 or 5 times a power of ten mm, at most half as wide as the picture, below on the right."""
    half = shape[1] * spacing[1] / 2
    decade = 10.0 ** np.floor(np.log10(half))
    length = next(step * decade for step in (5, 2, 1) if step * decade <= half)
    bar = AnchoredSizeBar(
        ax.transData, length / spacing[1], f"{length:g} mm", "lower right", pad=0.2, color="white", frameon=True
    )
    bar.patch.set(facecolor="black", alpha=0.5, edgecolor="none")
    ax.add_artist(bar)


def legend_of(figure, *meanings, columns=4):
    """Say below a figure what the colours of its pictures mean.

    Parameters
    ----------
    figure : matplotlib Figure
    *meanings : str
        Of "annotation", "attention", "prediction", "box"; or (name, colour) for others.
    columns : int
        At most so many names stand side by side.
    """
    colours = {"annotation": ANNOTATION, "attention": ATTENTION, "prediction": PREDICTION, "box": BOX}
    named = [(m, colours[m]) if isinstance(m, str) else m for m in meanings]
    handles = [Rectangle((0, 0), 1, 1, fill=False, ec=colour, lw=2) for _, colour in named]
    figure.legend(handles, [name for name, _ in named], loc="outside lower center", ncols=min(columns, len(named)))


def show_planes(volume, mask=None):
    """A figure of the three planes of a `Volume` through the centre of a mask, or else through the middle.

    `mask` is a prediction; without one the planes go through the volume's own annotation. Both are drawn.
    """
    centred = volume.mask if mask is None else mask
    inside = np.argwhere(centred) if centred is not None and centred.any() else None
    centre = np.array(volume.shape) // 2 if inside is None else inside.mean(0).round().astype(int)
    dz, dy, dx = volume.spacing
    planes = [
        ((centre[0],), (dy, dx), f"slice {centre[0]}"),
        ((slice(None), slice(None), centre[2]), (dz, dy), f"column {centre[2]}"),
        ((slice(None), centre[1]), (dz, dx), f"row {centre[1]}"),
    ]
    voxels = volume.limited()[0].voxels  # one hot voxel would blacken the rest
    figure, axes = panels(1, 3)
    for ax, (index, spacing, title) in zip(axes, planes, strict=True):
        outlines = [None if found is None else found[index] for found in (mask, volume.mask)]
        show_plane(ax, voxels[index], spacing, outlines[0], annotation=outlines[1], title=title)
    return figure


def save_planes(volume, path, mask=None):
    """Save `show_planes` as a picture."""
    use_style()
    figure = show_planes(volume, mask)
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=130, facecolor="white")
    plt.close(figure)


def surface(mask, spacing, colour=PREDICTION, name="mask", opacity=1.0):
    """The surface of a mask as a plotly Mesh3d in mm, by marching cubes; axes lateral, elevation, depth.

    Not the mask is contoured, whose voxels would show as steps, but the distance to its border, a little smoothed: a
    flat face stays in its place, and only edges are rounded.

    Parameters
    ----------
    mask : bool array, (D, H, W)
    spacing : (dz, dy, dx) in mm
    """
    import plotly.graph_objects as go
    from skimage.measure import marching_cubes

    if not np.any(mask):
        raise ValueError(f"{name}: an empty mask has no surface")
    padded = np.pad(mask, 3)
    inside, outside = (ndimage.distance_transform_edt(part, sampling=spacing) for part in (padded, ~padded))
    distance = ndimage.gaussian_filter(inside - outside, 0.7).astype(np.float32)
    if distance.max() <= 0:  # too thin for that
        distance = padded - np.float32(0.5)
    vertices, faces, _, _ = marching_cubes(distance, 0, spacing=spacing)
    z, y, x = (vertices - 3 * np.float32(spacing)).T.round(2)
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
            "camera": {"eye": {"x": 1.5, "y": 1.5, "z": 0.9}},
        },
        "legend": {"orientation": "h", "y": 0},
    }
    return go.Figure(meshes, layout)


def volume_browser(volume, title):
    """A plotly figure that leafs through all slices with a slider, with the outline on or off; needs no kernel.

    Slices are stored as small JPEG pictures, so the figure stays light: 128 of them take less than a megabyte.
    """
    import plotly.graph_objects as go

    voxels = volume.limited()[0].voxels.astype(np.float32)
    grey = np.clip(255 * (voxels - voxels.min()) / (np.ptp(voxels) or 1), 0, 255).astype(np.uint8)
    dy, dx = volume.spacing[1:]
    width_mm, height_mm = grey.shape[2] * dx, grey.shape[1] * dy

    def picture(index):
        source = data_uri(grey[index], "jpeg", quality=60)
        return {"source": source, "xref": "x", "yref": "y", "x": 0, "y": 0, "sizex": width_mm, "sizey": height_mm,
                "sizing": "stretch", "layer": "below"}  # fmt: skip

    def outline(index):
        contours = _contours(volume.mask[index]) if volume.mask is not None else ()
        gap = np.full((1, 2), np.nan)  # between two contours
        line = np.concatenate([gap, *(part for each in contours for part in (each * (dy, dx), gap))])
        y, x = line.astype(np.float32).T  # arrays are kept as bytes, which take less room than digits
        return go.Scatter(x=x, y=y, mode="lines", line={"color": ANNOTATION, "width": 2}, name="annotation")

    frames = [go.Frame(name=str(i), data=[outline(i)], layout={"images": [picture(i)]}) for i in range(len(grey))]
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
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)  # above, where it is no datum
    ax.axvline(0, color="0.6", lw=1)
    name_rows(ax, labels)


def name_rows(ax, labels):
    """Write names above rows of data, the first above the uppermost: a narrow page shows the data and no margin."""
    ax.set(ylim=(-0.6, len(labels) - 0.2))
    ax.set_yticks(np.arange(len(labels)) + 0.38, labels[::-1], ha="left", va="center")
    ax.tick_params(axis="y", length=0, pad=-3)


def data_uri(plane, kind, **options):
    """A uint8 picture (H, W) as text that a page can hold; `kind` is "png" or "jpeg", `options` are Pillow's."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, kind, optimize=True, **options)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def _contours(mask):
    from skimage.measure import find_contours

    return [c - 0.5 for c in find_contours(np.pad(mask, 1).astype(float), 0.5)]
