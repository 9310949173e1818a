"""Pooling of class probabilities by footprint: each footprint once, whatever it is and however it is read."""

from collections.abc import Generator

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine

from aftermap.core.raster.grid import Grid
from aftermap.core.vector.pooling import PooledFeatures, pool_footprints
from aftermap.core.vector.scanlines import batches, scan_polygons
from aftermap.core.vector.windows import Window

SIZE = 150


def grid(width: int = SIZE, height: int = SIZE, gsd_m: float = 1.0) -> Grid:
    return Grid(width, height, Affine.identity(), None, gsd_m, (1.0, 1.0))


def pool(codes: np.ndarray, footprints: list, ring_m: float = 3.0, block_px: int = 1024) -> PooledFeatures:
    def read(w: Window) -> np.ndarray:
        assert w.row >= 0
        assert w.col >= 0
        part = codes[:, w.row : w.row + w.height, w.col : w.col + w.width]
        assert part.shape == (len(codes), w.height, w.width)
        return part

    return finish(
        pool_footprints(
            read,
            len(codes),
            grid(codes.shape[2], codes.shape[1]),
            np.array(footprints, object),
            ring_m=ring_m,
            block_px=block_px,
        )
    )


def finish(steps: Generator[float, None, PooledFeatures]) -> PooledFeatures:
    shares = []
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as end:
            assert shares == sorted(shares)
            assert all(0 < share <= 1 for share in shares)
            return end.value


def random_polygons(seed: int, count: int, size: int = SIZE) -> list:
    """Crooked ones of all sizes, some with holes or of several parts, overlapping and reaching out."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        centre, radius = rng.uniform(-10, size + 10, 2), rng.uniform(0.3, 25)
        angle = np.sort(rng.uniform(0, 2 * np.pi, 8))
        points = (
            centre + np.column_stack([np.cos(angle), np.sin(angle)]) * rng.uniform(0.4, 1, (8, 1)) * radius
        )
        shape = shapely.Polygon(points).buffer(0)
        if rng.random() < 0.3:
            shape = shape.difference(shapely.Point(centre).buffer(radius / 4))
        if rng.random() < 0.2:
            shape = shapely.union(shape, shapely.affinity.translate(shape, 40, 5))
        found.append(shape)
    return found


def random_codes(seed: int, classes: int = 3, size: int = SIZE) -> np.ndarray:
    codes = np.random.default_rng(seed).integers(0, 255, (classes, size, size)).astype(np.uint8)
    codes[:, 30:50, 60:110] = 255
    codes[1, 100:104] = 255  # no data in one class is no data
    return codes


def mask_of(shape: shapely.Geometry, size: int = SIZE) -> np.ndarray:
    if shape.is_empty:
        return np.zeros((size, size), bool)
    return rasterio.features.rasterize([shape], (size, size), dtype="uint8").astype(bool)


def test_the_pixels_are_those_whose_centre_lies_inside():
    shapes = random_polygons(1, 60)
    masks = np.zeros((len(shapes), SIZE, SIZE), bool)
    masks[scan_polygons(np.array(shapes), Window(0, 0, SIZE, SIZE)).pixels()] = True
    for mask, shape in zip(masks, shapes, strict=True):
        np.testing.assert_array_equal(mask, mask_of(shape))


def test_polygons_that_share_edges_share_no_pixel_and_leave_none():
    # Edges run through pixel centres.
    shapes = shapely.voronoi_polygons(
        shapely.MultiPoint(np.random.default_rng(2).integers(0, 40, (60, 2)) + 0.5),
        extend_to=shapely.box(-5, -5, 45, 45),
    )
    _, row, col = scan_polygons(shapely.get_parts(shapes), Window(0, 0, 40, 40)).pixels()
    np.testing.assert_array_equal(np.sort(row * 40 + col), np.arange(1600))


def test_batches_cover_all_in_order_and_stay_near_their_limit():
    costs = np.array([5, 0, 3, 100, 1, 1, 9, 0])
    parts = list(batches(costs, 10))
    assert np.concatenate([np.arange(8)[part] for part in parts]).tolist() == list(range(8))
    assert all(costs[part][:-1].sum() < 10 for part in parts)
    assert list(batches(np.zeros(0, int), 10)) == []


def test_features_are_those_of_each_footprint_by_itself():
    codes, shapes = random_codes(3), random_polygons(4, 50)
    found = pool(codes, shapes)
    seen_px = (codes != 255).all(axis=0)
    buildings = np.zeros((SIZE, SIZE), bool)
    for shape in shapes:
        buildings |= mask_of(shape)
    checked = 0
    for i, shape in enumerate(shapes):
        inside = mask_of(shape)
        if not inside.any():
            continue
        covered = shape.intersection(shapely.box(0, 0, SIZE, SIZE)).area / shape.area
        values = codes[:, inside & seen_px]
        assert found.seen[i] == pytest.approx(covered * values.shape[1] / inside.sum())
        if not values.size:
            assert np.isnan(found.mean[i]).all()
            continue
        np.testing.assert_allclose(found.mean[i], values.mean(axis=1) / 254)
        p90 = np.percentile(values, 90, axis=1, method="inverted_cdf")
        np.testing.assert_allclose(found.p90[i], p90 / 254)
        around = mask_of(shape.buffer(3.0, quad_segs=2)) & seen_px & ~buildings
        if around.any():
            np.testing.assert_allclose(found.ring[i], codes[:, around].mean(axis=1) / 254)
        else:
            assert np.isnan(found.ring[i]).all()
        checked += 1
    assert checked > 30


@pytest.mark.parametrize("block_px", [7, 32, 64, 149])
def test_blocks_of_any_size_give_the_same(block_px):
    codes = random_codes(5)
    shapes = [*random_polygons(6, 60), shapely.box(-500, -20, 900, 400), shapely.Point(64, 64).buffer(0.2)]
    whole, parts = pool(codes, shapes), pool(codes, shapes, block_px=block_px)
    for name in ("mean", "p90", "ring", "seen"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_many_footprints_on_one_spot_are_pooled_each_by_itself(monkeypatch):
    codes = random_codes(7)
    shapes = [shapely.Point(75, 75).buffer(r) for r in range(2, 42)]
    whole = pool(codes, shapes)
    monkeypatch.setattr("aftermap.core.vector.pooling._PIXELS_AT_ONCE", 3000)
    parts = pool(codes, shapes)
    np.testing.assert_array_equal(parts.mean, whole.mean)
    np.testing.assert_array_equal(parts.ring, whole.ring)
    assert len(np.unique(whole.mean[:, 0])) == 40


@pytest.mark.filterwarnings("ignore:invalid value encountered in linearrings")
def test_every_footprint_gets_its_row():
    codes = np.zeros((2, 20, 20), np.uint8)
    codes[0], codes[1] = 254, 127
    codes[:, :, 10:] = 255
    bow_tie = shapely.Polygon([(1, 1), (5, 5), (5, 1), (1, 5)])
    shapes = [
        shapely.box(2, 2, 6, 6),
        shapely.Polygon(),
        None,
        shapely.box(40, 40, 50, 50),  # outside
        shapely.box(3.1, 3.1, 3.3, 3.3),  # holds no centre
        shapely.LineString([(2, 2), (4, 4)]),
        bow_tie,
        shapely.box(8, 8, 12, 10),  # half of it has no data
        shapely.box(-4, 0, 4, 4),  # half of it is outside
        shapely.box(15, 15, 18, 18),  # no data at all
        shapely.Polygon([(0, 0), (np.nan, 1), (1, 1), (0, 0)]),
        shapely.box(-1e9, -1e9, 1e9, 1e9),
        shapely.box(19.9, 5, 19.95, 5.2),
        shapely.box(-0.4, 5, 0.4, 5.3),  # its representative point lies on the border
    ]
    found = pool(codes, shapes)
    np.testing.assert_allclose(found.seen[:11], [1, 0, 0, 0, 1, 1, 1, 0.5, 0.5, 0, 0])
    assert found.seen[11] < 1e-6
    assert found.seen[12] == 0
    known = found.seen > 0
    np.testing.assert_allclose(found.mean[known, 0], 1.0)
    np.testing.assert_allclose(found.mean[known, 1], 0.5)
    assert np.isnan(found.mean[~known]).all()


def test_no_footprints_give_no_rows():
    found = pool(np.zeros((2, 9, 9), np.uint8), [])
    assert found.mean.shape == (0, 2)
    assert found.seen.shape == (0,)


def test_blocks_without_footprints_are_not_read():
    read = []

    def reader(w: Window) -> np.ndarray:
        read.append(w)
        return np.zeros((1, w.height, w.width), np.uint8)

    shapes = np.array([shapely.box(100, 100, 110, 110), shapely.box(5000, 300, 5010, 310)])
    finish(pool_footprints(reader, 1, grid(6000, 6000), shapes, ring_m=4.0))
    assert [(w.row, w.col, w.height, w.width) for w in read] == [(96, 96, 18, 18), (296, 4996, 18, 18)]


def test_the_ring_is_measured_in_metres_and_leaves_neighbours_out():
    codes = np.zeros((1, 40, 40), np.uint8)
    codes[0, 10:14, 10:14] = 254  # the footprint
    codes[0, 10:14, 15:20] = 200  # its neighbour
    shapes = np.array([shapely.box(10, 10, 14, 14), shapely.box(15, 10, 20, 14)])

    def ring_of(gsd_m: float) -> float:
        steps = pool_footprints(
            lambda w: codes[:, w.row : w.row + w.height, w.col : w.col + w.width],
            1,
            grid(40, 40, gsd_m),
            shapes,
            ring_m=2.0,
        )
        return finish(steps).ring[0, 0]

    assert ring_of(0.5) == 0.0
    codes[0, 11, 7] = 254  # three pixels away
    assert ring_of(0.5) > 0.0
    assert ring_of(1.0) == 0.0
