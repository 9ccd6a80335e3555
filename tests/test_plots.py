"""Figures that measure: where a surface lies."""

import numpy as np
import pytest

from segdet.figures import plots
from segdet.volume import Volume


def test_a_surface_lies_where_the_mask_does():
    mask = np.zeros((6, 8, 10), bool)
    mask[2:4, 3:6, 4:9] = True
    mesh = plots.surface(mask, (2.0, 1.0, 0.5), plots.BLUE, "box")
    assert (min(mesh.x), max(mesh.x)) == (3.5 * 0.5, 8.5 * 0.5)  # half a voxel beyond the outer centres
    assert (min(mesh.y), max(mesh.y)) == (1.5 * 2.0, 3.5 * 2.0)
    assert (-max(mesh.z), -min(mesh.z)) == (2.5 * 1.0, 5.5 * 1.0)
    with pytest.raises(ValueError, match="liver: an empty mask has no surface"):
        plots.surface(mask & False, (1, 1, 1), plots.BLUE, "liver")


def test_the_planes_of_a_single_slice(tmp_path):
    mask = np.zeros((1, 8, 10), bool)
    mask[:, 2:5, 3:] = True
    volume = Volume.from_spacing(np.zeros(mask.shape), (3, 1, 1), mask)
    figure = plots.show_planes(volume)
    (outline,) = (c for c in figure.axes[0].collections)
    vertices = np.concatenate([path.vertices for path in outline.get_paths()])
    assert (vertices.min(0).tolist(), vertices.max(0).tolist()) == ([2.5, 1.5], [9.5, 4.5])  # closed at the border
    for axes, (rows, columns) in zip(figure.axes, ((8, 10), (1, 8), (1, 10)), strict=True):
        assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, columns - 0.5), (rows - 0.5, -0.5))
    plots.save_planes(volume, tmp_path / "planes.PNG")
    assert (tmp_path / "planes.PNG").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1
