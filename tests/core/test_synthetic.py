"""The generated towns: exact truth, seeds, windows, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.ndimage import distance_transform_edt

from aftermap.core.datasets.synthetic import (
    STYLES,
    Occluder,
    Scene,
    Town,
    generate_scene,
    write_scene,
    write_town,
)
from aftermap.core.datasets.synthetic_canvas import Canvas
from aftermap.core.datasets.synthetic_noise import hash_lattice, value_noise

LAYERS = ("image", "road", "building", "occluded")


def test_a_seed_fixes_the_scene() -> None:
    one, same, other = (generate_scene(seed, 128) for seed in (3, 3, 4))
    for layer in LAYERS:
        np.testing.assert_array_equal(getattr(one, layer), getattr(same, layer))
    assert (one.transform, one.crs) == (same.transform, same.crs)
    assert (one.image != other.image).any()


@pytest.mark.parametrize("style", STYLES)
def test_windows_of_a_town_agree_on_shared_pixels(style: str) -> None:
    town = Town(5, style, 0.6)
    whole, part = town.render(-70, 33, 230, 210), town.render(-13, 90, 120, 140)
    for layer in LAYERS:
        expected = getattr(whole, layer)[57:177, 57:197]
        np.testing.assert_array_equal(getattr(part, layer), expected, err_msg=layer)


def test_windows_agree_across_jpeg_blocks_haze_and_sharpening() -> None:
    for seed in range(8):
        town = Town(seed, "suburb", 1.0)
        left, right = town.render(0, 0, 40, 75), town.render(3, 41, 37, 60)
        np.testing.assert_array_equal(left.image[3:, 41:], right.image[:, :34])


@pytest.mark.parametrize("style", STYLES)
def test_road_and_building_shares_are_those_of_such_towns(style: str) -> None:
    scenes = [generate_scene(seed, 320, 1.0, style) for seed in range(3)]
    road = np.mean([scene.road.mean() for scene in scenes])
    building = np.mean([scene.building.mean() for scene in scenes])
    low, high = (0.015, 0.09) if style == "rural" else (0.06, 0.25)
    assert low < road < high
    assert (0.0005 if style == "rural" else 0.06) < building < 0.45


def test_all_styles_are_drawn_when_none_is_named() -> None:
    assert {Town(seed).style for seed in range(60)} == set(STYLES)


def test_buildings_stand_on_no_road() -> None:
    for style in STYLES:
        scene = generate_scene(8, 400, 0.5, style)
        assert not (scene.road & scene.building).any()


def test_flat_roofs_come_in_the_greys_of_the_streets() -> None:
    def histogram(pixels: np.ndarray) -> np.ndarray:
        counts, _ = np.histogram(pixels.mean(-1), bins=26, range=(0, 256))
        return counts / counts.sum()

    overlaps = []
    for seed in range(6):
        scene = generate_scene(seed, 400, 0.6, "grid")
        bare = scene.road & (scene.occluded == Occluder.NONE)
        streets, roofs = histogram(scene.image[bare]), histogram(scene.image[scene.building])
        overlaps.append(np.minimum(streets, roofs).sum())
    assert np.mean(overlaps) > 0.4
    assert max(overlaps) > 0.6


def test_only_roads_are_occluded_and_all_three_ways_occur() -> None:
    seen = np.zeros(4, int)
    for seed in range(6):
        scene = generate_scene(seed, 384, 0.6, "suburb")
        assert not scene.occluded[~scene.road].any()
        seen += np.bincount(scene.occluded[scene.road], minlength=4)
    assert (seen[1:] > 50).all()
    assert seen[Occluder.NONE] > seen[1:].sum()


def test_streets_from_alleys_to_motorways() -> None:
    widest, narrow = 0.0, 0
    for seed in range(3):
        for style in ("old_town", "industrial"):
            scene = generate_scene(seed, 500, 1.0, style)
            widest = max(widest, 2 * distance_transform_edt(scene.road).max())
            # Alleys vanish under an opening that streets of 6 m survive.
            core = distance_transform_edt(scene.road) > 2.5
            opened = distance_transform_edt(~core) <= 2.5
            narrow += int((scene.road & ~opened).sum())
    assert widest > 15
    assert narrow > 2000


def test_ground_resolution_scales_the_same_town() -> None:
    coarse = Town(2, "suburb", 1.0).render(0, 0, 200, 200)
    fine = Town(2, "suburb", 0.5).render(0, 0, 400, 400)
    agree = fine.road[::2, ::2] == coarse.road
    assert agree.mean() > 0.97


def test_the_scene_is_georeferenced() -> None:
    town = Town(1, gsd_m=0.3)
    scene, moved = town.render(0, 0, 64, 64), town.render(100, 200, 64, 64)
    assert rasterio.crs.CRS.from_user_input(scene.crs).linear_units == "metre"
    assert scene.transform.a == pytest.approx(0.3)
    assert scene.transform.e == pytest.approx(-0.3)
    assert 1e5 < scene.transform.c < 9e5
    assert moved.transform.c - scene.transform.c == pytest.approx(60)
    assert scene.transform.f - moved.transform.f == pytest.approx(30)


def test_height_and_width_may_differ() -> None:
    scene = generate_scene(1, (40, 70))
    assert scene.image.shape == (40, 70, 3)
    assert scene.image.dtype == np.uint8
    for name in ("road", "building", "occluded"):
        assert getattr(scene, name).shape == (40, 70)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"style": "atlantis"}, "atlantis"),
        ({"gsd_m": 0.0}, "metres per pixel"),
        ({"size_px": 0}, "1 or more"),
        ({"seed": -1}, "0 or more"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        generate_scene(**{"seed": 1, "size_px": 32, **arguments})  # type: ignore[arg-type]


def test_a_written_scene_reads_back(tmp_path: Path) -> None:
    scene = generate_scene(9, (150, 300), 0.5, "suburb")
    path = tmp_path / "town.tif"
    write_scene(scene, path, truth=True)
    _check(path, scene.image.transpose(2, 0, 1), scene)
    _check(tmp_path / "town_roads.tif", scene.road[None] * np.uint8(255), scene)
    _check(tmp_path / "town_buildings.tif", scene.building[None] * np.uint8(255), scene)


def test_a_town_is_streamed_as_it_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "town.tif"
    steps = list(write_town(path, 4, (300, 520), 0.8, "grid", truth=True, window_px=256))
    assert steps == [(k, 6) for k in range(1, 7)]
    scene = generate_scene(4, (300, 520), 0.8, "grid")
    _check(path, scene.image.transpose(2, 0, 1), scene)
    _check(tmp_path / "town_roads.tif", scene.road[None] * np.uint8(255), scene)


def _check(path: Path, bands: np.ndarray, scene: Scene) -> None:
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), bands)
        assert file.crs.to_string() == scene.crs
        assert file.transform == scene.transform
        assert file.profile["tiled"]
        assert file.compression.name == "deflate"


# ---------------------------------------------------------------------- the parts


def test_a_polygon_takes_the_pixels_whose_centres_it_holds() -> None:
    canvas = Canvas(-2, -3, 12, 14)
    square = np.array([[[0.0, 1.0], [4.0, 1.0], [4.0, 3.0], [0.0, 3.0]]])
    for corners in (square, square[:, ::-1]):
        canvas.labels[:] = 0
        canvas.paint_polygons(corners, np.array([7], np.int32))
        rows, cols = np.nonzero(canvas.labels == 7)
        assert (set(rows - 2), set(cols - 3)) == ({1, 2}, {0, 1, 2, 3})
        assert len(rows) == 8


def test_polygons_that_share_edges_neither_overlap_nor_leave_gaps() -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(9) * 5.0, np.arange(9) * 5.0), -1)
    grid[1:-1, 1:-1] += rng.uniform(-1.5, 1.5, (7, 7, 2))
    quads = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], 2).reshape(-1, 4, 2)
    covered = np.zeros((40, 40), int)
    for quad in quads:
        canvas = Canvas(0, 0, 40, 40)
        canvas.paint_mask(quad[None])
        covered += canvas.labels
    assert (covered == 1).all()


def test_later_shapes_lie_on_top() -> None:
    canvas = Canvas(0, 0, 10, 10)
    canvas.paint_discs(np.array([[5.0, 5.0, 4.0], [5.0, 5.0, 2.0]]), np.array([1, 2], np.int32))
    assert canvas.labels[5, 5] == 2
    assert canvas.labels[5, 2] == 1
    assert canvas.labels[0, 0] == 0
    assert np.isclose((canvas.labels > 0).sum(), np.pi * 16, atol=3)


def test_noise_depends_on_the_place_alone() -> None:
    whole, part = value_noise(1, -20, 5, 60, 70, 7.3), value_noise(1, 3, 17, 20, 30, 7.3)
    np.testing.assert_array_equal(whole[23:43, 12:42], part)
    nodes = hash_lattice(1, np.arange(300), np.arange(300))
    assert abs(nodes.mean()) < 0.01
    assert nodes.std() == pytest.approx(1 / np.sqrt(3), abs=0.01)
    assert abs(np.corrcoef(nodes[:-1].ravel(), nodes[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(nodes[:, :-1].ravel(), nodes[:, 1:].ravel())[0, 1]) < 0.02
