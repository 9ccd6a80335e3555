"""Draw the README's picture, book/_static/overview.png, with the network that comes with the package."""

import matplotlib.pyplot as plt
import numpy as np
from runner import ROOT
from skimage.measure import marching_cubes

from segdet import make_phantom
from segdet.attention import painted
from segdet.experiments.person import PERSONS, paint_some
from segdet.export.load import load_cascade
from segdet.figures import plots

SEED = 1042  # the first of the network's test scans
SLICES = 6  # that a simulated person paints


def main():
    """One test scan: its boxes, its attention, the mask, the surface."""
    plots.use_style()
    hip = make_phantom(SEED)
    boxes, _ = paint_some(PERSONS["hasty"], hip.mask, hip.spacing, SLICES, np.random.default_rng(SEED))
    attention = painted(boxes, hip.shape)
    found = load_cascade("hip-small").predict(hip, lambda _: attention)
    index = int(hip.mask.sum((1, 2)).argmax())
    plane, spacing = hip.voxels[index], hip.spacing[1:]
    figure = plt.figure(figsize=(10, 2.9))
    panels = [figure.add_subplot(1, 4, i + 1) for i in range(3)] + [figure.add_subplot(1, 4, 4, projection="3d")]
    plots.show_plane(panels[0], plane, spacing, boxes=boxes[index], title="box")
    plots.show_plane(panels[1], plane, spacing, attention=attention[index], title="attention")
    plots.show_plane(panels[2], plane, spacing, found.mask[index], attention[index], title="segmentation")
    corners, faces, _, _ = marching_cubes(np.pad(found.probability, 2), 0.5, spacing=hip.spacing, step_size=3)
    z, y, x = corners.T
    panels[3].plot_trisurf(x, z, -y, triangles=faces, color=plots.PREDICTION, lw=0, antialiased=False)
    panels[3].set_aspect("equal")
    panels[3].set_axis_off()
    panels[3].set_title("in 3D")
    figure.savefig(ROOT / "book/_static/overview.png", dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main()
