"""Figures that measure: where a surface lies."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from skimage.measure import marching_cubes

from segdet.analysis.verdicts import judge
from segdet.figures import findings, plots
from segdet.volume import Volume


def test_a_surface_lies_where_the_mask_does():
    mask = np.zeros((14, 16, 22), bool)
    mask[2:10, 3:12, 4:19] = True
    mesh = plots.surface(mask, (2.0, 1.0, 0.5), plots.BLUE, "box")
    assert np.allclose((min(mesh.x), max(mesh.x)), (3.5 * 0.5, 18.5 * 0.5), atol=0.05)  # half a voxel beyond the
    assert np.allclose((min(mesh.y), max(mesh.y)), (1.5 * 2.0, 9.5 * 2.0), atol=0.1)  # outer centres
    assert np.allclose((-max(mesh.z), -min(mesh.z)), (2.5 * 1.0, 11.5 * 1.0), atol=0.05)
    voxel = np.zeros_like(mask)
    voxel[5, 6, 7] = True
    mesh = plots.surface(voxel, (2.0, 1.0, 0.5))
    assert (min(mesh.x), max(mesh.x), min(mesh.y), max(mesh.y)) == (6.5 * 0.5, 7.5 * 0.5, 4.5 * 2, 5.5 * 2)
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


def radii(mesh, spacing, centre):
    points = np.stack([-np.array(mesh.z), np.array(mesh.y), np.array(mesh.x)], 1)  # depth, elevation, lateral
    return np.linalg.norm(points[:, [1, 0, 2]] - np.array(centre) * spacing, axis=1)


def test_the_surface_of_a_ball_is_round_and_has_its_radius():
    spacing = (1.04, 0.88, 1.6)
    z, y, x = (np.arange(24) * step for step in spacing)
    centre = (12, 12, 12)
    distance = np.sqrt((z[:, None, None] - 12 * 1.04) ** 2 + (y[:, None] - 12 * 0.88) ** 2 + (x - 12 * 1.6) ** 2)
    found = radii(plots.surface(distance < 8, spacing), spacing, centre)
    steps, *_ = marching_cubes((distance < 8).astype(float), 0.5, spacing=spacing)
    blocky = np.linalg.norm(steps - np.array(centre) * spacing, axis=1)
    assert abs(found.mean() - 8) < 0.2
    assert found.std() < 0.6 * blocky.std()


@pytest.mark.parametrize(
    ("columns", "pixel", "length", "words"),
    [(96, 0.4, 10, "10 mm"), (10, 1.0, 5, "5 mm"), (30, 0.1, 1, "1 mm"), (250, 1.6, 200, "200 mm")],
)
def test_a_scale_bar_is_as_long_as_it_says(columns, pixel, length, words):
    _, ax = plt.subplots()
    plots.show_plane(ax, np.zeros((8, columns)), (1.0, pixel))
    (bar,) = (artist for artist in ax.artists if isinstance(artist, AnchoredSizeBar))
    (stroke,) = bar.size_bar.get_children()
    assert np.isclose(stroke.get_width() * pixel, length)
    assert bar.txt_label.get_text() == words
    plt.close()


def test_one_colour_has_one_meaning():
    mask = np.zeros((8, 10), bool)
    mask[2:5, 3:7] = True
    figure, ax = plt.subplots()
    boxes = [[1, 1, 4, 4], [2, 2, 2, 2]]  # the second has no area
    plots.show_plane(ax, np.zeros(mask.shape), (1, 1), mask, annotation=mask, boxes=boxes, annotated=[[2, 2, 5, 5]])
    plots.legend_of(figure, "annotation", "box", ("other", plots.SKY))

    def named(colours):
        return [mpl.colors.to_hex(colour).upper() for colour in colours]

    outlines = named(collection.get_edgecolor()[0] for collection in ax.collections)
    assert outlines == [plots.ANNOTATION, plots.PREDICTION]
    assert named(patch.get_edgecolor() for patch in ax.patches) == [plots.ANNOTATION, plots.BOX]
    (legend,) = figure.legends
    shown = {text.get_text(): handle for text, handle in zip(legend.get_texts(), legend.get_patches(), strict=True)}
    assert list(shown) == ["annotation", "box", "other"]
    assert named(handle.get_edgecolor() for handle in shown.values()) == [plots.ANNOTATION, plots.BOX, plots.SKY]
    plt.close()


def test_the_browser_has_every_slice():
    volume = Volume.from_spacing(np.random.default_rng(0).random((9, 8, 10)), (3, 1, 1))
    figure = plots.volume_browser(volume, "title")
    assert [frame.name for frame in figure.frames] == [str(index) for index in range(9)]
    assert len({frame.layout.images[0].source for frame in figure.frames}) == 9


def test_a_hot_voxel_does_not_blacken_the_browser():
    voxels = np.random.default_rng(0).random((9, 8, 10))
    hot = voxels.copy()
    hot[0, 0, 0] = 1e6
    shown = [
        [frame.layout.images[0].source for frame in plots.volume_browser(Volume.from_spacing(v, (3, 1, 1)), "").frames]
        for v in (voxels, hot)
    ]
    assert shown[0][1:] == shown[1][1:]


@pytest.mark.parametrize("rows", [1, 2])
def test_pictures_of_scans_are_300_pixels_wide(rows):
    plots.use_style()
    figure, axes = plots.panels(rows, 3)
    for ax in axes.flat:
        plots.show_plane(ax, np.zeros((184, 96)), (0.22, 0.4), title="title")
    plots.legend_of(figure, "annotation")
    figure.draw_without_rendering()
    assert min(ax.get_window_extent().width for ax in axes.flat) >= 300
    assert figure.bbox.width <= 970  # the column of the page
    plt.close(figure)


def test_a_forest_of_findings():
    first, second = judge([([0.1, 0.2, 0.3], None), ([0.0, -0.1, 0.1], None)])
    (alone,) = judge([([0.4], None)])
    _, ax = plt.subplots()
    rows = [("a", first, True, 0.087), ("b", second, False, None), ("one seed", alone, False, None)]
    findings.forest(ax, rows, 0.02)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one seed", "b", "a"]
    lines = [(line.get_xdata(), line.get_marker(), line.get_mfc()) for line in ax.lines]
    (_, dot, colour), *_ = [line for line in lines if list(line[0]) == [pytest.approx(0.2)]]
    assert (dot, colour) == ("o", plots.BLUE)  # planned
    assert [mfc for x, marker, mfc in lines if marker == "o"].count("none") == 2
    assert any(list(x) == [pytest.approx(end) for end in first.interval] for x, *_ in lines)
    assert any(list(x) == [0.087] for x, *_ in lines)
    assert -1 < ax.get_xlim()[0] < ax.get_xlim()[1] < 1  # an interval without limits is not drawn


def test_names_of_rows_stand_above_them_and_leave_no_margin():
    _, ax = plt.subplots()
    plots.name_rows(ax, ["first", "second"])
    ax.figure.draw_without_rendering()
    for label, place, name in zip(ax.get_yticklabels(), (0, 1), ("second", "first"), strict=True):
        box = label.get_window_extent()
        assert label.get_text() == name
        assert box.x0 >= ax.bbox.x0
        assert ax.transData.transform((0, place))[1] < box.y0 < box.y1 < ax.transData.transform((0, place + 0.8))[1]


def test_means_along_a_dial():
    _, ax = plt.subplots()
    rows = [{"seed": s, "step": x, "gain": s + x / 10} for s in (1, 2, 3) for x in (0, 10) for _ in range(2)]
    found = findings.along(ax, rows, "step", "gain", "", plots.RED)
    assert [row[:2] for row in found] == [(0, pytest.approx(2)), (10, pytest.approx(3))]
    assert found[0][2:] == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
