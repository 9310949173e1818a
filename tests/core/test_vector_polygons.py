"""Polygons along pixel edges: exact areas, valid geometries, nothing lost in simplification."""

import numpy as np
import pytest
import rasterio.features
import shapely
from scipy import ndimage

from aftermap.core.vector.components import Components, find_components
from aftermap.core.vector.polygons import polygonize_mask
from aftermap.core.vector.simplification import simplify_polygons


def blobs(seed: int, size: int = 160) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(size, size))
    return ndimage.gaussian_filter(noise, 3) > 0.05


def labels_of(components: Components) -> np.ndarray:
    """The component of each pixel, counted from 1."""
    labels = np.zeros(components.shape, int)
    labels.reshape(-1)[components.pixels()] = np.repeat(components.label + 1, components.lengths_px)
    return labels


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("diagonal", [False, True])
def test_components_are_those_of_a_dense_search(share, diagonal):
    rng = np.random.default_rng(11)
    for shape in [(1, 1), (1, 40), (40, 1), (23, 31), (31, 23), (50, 50)]:
        mask = rng.random(shape) < share
        components = find_components(mask, diagonal=diagonal)
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)) if diagonal else None)
        np.testing.assert_array_equal(labels_of(components), labels)
        assert components.count == count
        np.testing.assert_array_equal(components.sizes_px(), np.bincount(labels.ravel())[1:])
        border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        np.testing.assert_array_equal(components.touch_border(), np.isin(np.arange(1, count + 1), border))
        np.testing.assert_array_equal(components.in_row(0) + 1, labels[0])
        np.testing.assert_array_equal(components.in_row(shape[0] - 1) + 1, labels[-1])
        left, right = components.in_border_columns()
        np.testing.assert_array_equal(left + 1, labels[:, 0])
        np.testing.assert_array_equal(right + 1, labels[:, -1])


@pytest.mark.parametrize("width_px", [1, 2, 3, 6])
def test_squares_and_roads_keep_their_exact_area(width_px):
    mask = np.zeros((40, 60), bool)
    mask[5 : 5 + width_px, 5 : 5 + width_px] = True
    mask[20 : 20 + width_px, 3:57] = True
    square, road = polygonize_mask(mask).polygons
    assert square.equals(shapely.box(5, 5, 5 + width_px, 5 + width_px))
    assert road.area == 54 * width_px
    assert len(road.exterior.coords) == 5


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.6, 0.8, 0.95, 1.0])
def test_rasterising_the_polygons_gives_the_mask_again(share):
    rng = np.random.default_rng(7)
    for _ in range(10):
        mask = rng.random((23, 31)) < share
        outlines = polygonize_mask(mask)
        assert shapely.is_valid(outlines.polygons).all()
        np.testing.assert_array_equal(shapely.area(outlines.polygons), outlines.components.sizes_px())
        shapes = [(polygon, i + 1) for i, polygon in enumerate(outlines.polygons)]
        back = rasterio.features.rasterize(shapes, out_shape=mask.shape) if shapes else np.zeros_like(mask)
        np.testing.assert_array_equal(back, labels_of(outlines.components))


def test_pixels_that_meet_in_a_point_are_two_polygons():
    assert len(polygonize_mask(np.eye(2, dtype=bool)).polygons) == 2
    assert len(polygonize_mask(np.eye(2, dtype=bool)[::-1]).polygons) == 2


def test_an_outline_that_touches_itself_becomes_a_hole_that_touches_it():
    mask = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    (ring,) = polygonize_mask(mask).polygons
    assert ring.is_valid
    assert len(ring.interiors) == 1
    assert ring.area == 7


def test_nothing_gives_nothing():
    outlines = polygonize_mask(np.zeros((4, 5), bool))
    assert len(outlines.polygons) == 0
    assert outlines.components.count == 0
    assert len(outlines.components.pixels()) == 0


@pytest.mark.parametrize("tolerance_px", [0.3, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("cut_px", [0, 50])
def test_simplification_is_valid_and_keeps_every_road_and_hole(tolerance_px, cut_px):
    for mask in (blobs(1), np.random.default_rng(2).random((80, 80)) < 0.5):
        exact = polygonize_mask(mask).polygons
        simple = simplify_polygons(exact, tolerance_px, cut_px, mask.shape[::-1])
        assert shapely.is_valid(simple).all()
        assert (shapely.get_type_id(simple) == shapely.GeometryType.POLYGON).all()
        np.testing.assert_array_equal(
            shapely.get_num_interior_rings(simple), shapely.get_num_interior_rings(exact)
        )
        assert shapely.area(simple).sum() == pytest.approx(shapely.area(exact).sum(), rel=0.02)
        assert shapely.area(shapely.union_all(simple)) == pytest.approx(shapely.area(simple).sum())


def test_simplified_roads_have_smooth_edges_and_their_area():
    rows, cols = np.indices((400, 400))
    for slope in (0.0, 0.13, 0.5, 1.0):
        distance = np.abs(rows - 60 - slope * cols) / np.hypot(1, slope)
        mask = distance < 4.2
        exact = polygonize_mask(mask).polygons
        (road,) = simplify_polygons(exact, 0.6, 0, (400, 400))
        assert road.area == pytest.approx(mask.sum(), rel=2e-3)
        assert shapely.hausdorff_distance(road, exact[0]) < 1.2
        assert len(road.exterior.coords) < 16


def test_simplification_does_not_depend_on_where_a_ring_begins():
    exact = polygonize_mask(blobs(3)).polygons
    turned = shapely.reverse(exact)
    for one, other in zip(
        simplify_polygons(exact, 1.0, 0, (160, 160)),
        simplify_polygons(turned, 1.0, 0, (160, 160)),
        strict=True,
    ):
        assert one.equals_exact(other, 0.0)


def test_both_sides_of_a_line_match_after_simplification():
    mask = blobs(4)
    sides = [
        simplify_polygons(
            shapely.transform(
                polygonize_mask(mask[:, part]).polygons, lambda p, x=part.start: p + np.array([x, 0])
            ),
            0.8,
            80,
            (160, 160),
        )
        for part in (slice(0, 80), slice(80, 160))
    ]
    line = shapely.LineString([(80, 0), (80, 160)])
    left, right = (shapely.union_all(side) for side in sides)
    assert not left.relate_pattern(right, "T********")
    rows = (mask[:, 79] & mask[:, 80]).sum()
    assert left.intersection(right).intersection(line).length == rows


def test_zero_tolerance_keeps_pixel_edges():
    exact = polygonize_mask(blobs(5)).polygons
    assert all(a is b for a, b in zip(exact, simplify_polygons(exact, 0.0, 0, (160, 160)), strict=True))
