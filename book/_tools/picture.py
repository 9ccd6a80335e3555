"""Draw the README's picture, book/_static/overview.png, from the networks that the chapters trained."""

import matplotlib.pyplot as plt
import numpy as np
from runner import ROOT
from skimage.measure import marching_cubes

from segdet.experiments.chapters import chapter_run
from segdet.figures import plots


def main():
    """One test scan: its boxes, its attention, the mask, the surface."""
    plots.use_style()
    run = chapter_run("laptop")
    case = run.test[0]
    mask = run.predict(run.segmenter("cascade")[0], "cascade", case)
    attention = run.attention(case, "detector")
    index = int(case.mask.sum((1, 2)).argmax())
    spacing = case.spacing[1:]
    figure = plt.figure(figsize=(10, 2.9))
    panels = [figure.add_subplot(1, 4, i + 1) for i in range(3)] + [figure.add_subplot(1, 4, 4, projection="3d")]
    fine = run.grids.spacing(run.grids.detector_shape)[1:]
    boxes = run.detect(case)[index]
    plots.show_plane(panels[0], case.slices[index], fine, boxes=boxes, title="detected box")
    plots.show_plane(panels[1], case.image[index], spacing, attention=attention[index], title="attention")
    plots.show_plane(panels[2], case.image[index], spacing, mask[index], attention[index], title="segmentation")
    corners, faces, _, _ = marching_cubes(np.pad(mask, 2).astype(np.float32), 0.5, spacing=case.spacing)
    z, y, x = corners.T
    panels[3].plot_trisurf(x, z, -y, triangles=faces, color=plots.PREDICTION, lw=0, antialiased=False)
    panels[3].set_aspect("equal")
    panels[3].set_axis_off()
    panels[3].set_title("in 3D")
    figure.savefig(ROOT / "book/_static/overview.png", dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main()
