"""Figures that measure: where a surface lies."""

import numpy as np
import pytest

from segdet import plots


def test_a_surface_lies_where_the_mask_does():
    mask = np.zeros((6, 8, 10), bool)
    mask[2:4, 3:6, 4:9] = True
    mesh = plots.surface(mask, (2.0, 1.0, 0.5), plots.BLUE, "box")
    assert (min(mesh.x), max(mesh.x)) == (3.5 * 0.5, 8.5 * 0.5)  # half a voxel beyond the outer centres
    assert (min(mesh.y), max(mesh.y)) == (1.5 * 2.0, 3.5 * 2.0)
    assert (-max(mesh.z), -min(mesh.z)) == (2.5 * 1.0, 5.5 * 1.0)
    with pytest.raises(ValueError, match="liver: an empty mask has no surface"):
        plots.surface(mask & False, (1, 1, 1), plots.BLUE, "liver")
