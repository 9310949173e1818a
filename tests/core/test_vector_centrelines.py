"""Centrelines: junctions, spurs, gaps, widths, and lines that meet at block lines."""

import numpy as np
import pytest
import shapely
from scipy import ndimage

from aftermap.core.vector.centrelines import Network, find_centrelines
from aftermap.core.vector.lines import Lines, cut_network
from aftermap.core.vector.paths import order_paths
from aftermap.core.vector.skeletons import NOWHERE, trace_paths
from aftermap.core.vector.windows import Window, plan_windows

GSD_M = 0.8


def road(points: list[tuple[float, float]], width_px: float, size: int = 400) -> np.ndarray:
    """A road along (column, row) points."""
    line = shapely.LineString(points).buffer(width_px / 2, cap_style="flat")
    cols, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    return shapely.contains_xy(line, cols, rows)


def network_of(mask: np.ndarray, background: float = 0.0, gsd_m: float = GSD_M) -> Network:
    return find_centrelines(mask, np.where(mask, 0.9, background).astype(np.float32), gsd_m)


def lines_of(mask: np.ndarray, background: float = 0.0) -> Lines:
    probability = np.where(mask, 0.9, background).astype(np.float32)
    window = Window(0, 0, *mask.shape)
    return cut_network(find_centrelines(mask, probability, GSD_M), probability, (0, 0), window, 0)


def degrees(network: Network) -> list[int]:
    ends = network.paths.ends
    return sorted(np.bincount(ends[ends != NOWHERE], minlength=len(network.paths.junctions)))


@pytest.mark.parametrize("width_px", [4, 7, 12, 20])
@pytest.mark.parametrize("end", [(350, 200), (350, 260), (300, 350), (200, 350)])
def test_a_straight_road_is_one_line_along_its_middle(width_px, end):
    truth = shapely.LineString([(60, 200 if end[0] == 350 else 60), end])
    lines = lines_of(road(list(truth.coords), width_px))
    (line,) = lines.geometries(1.0)
    assert shapely.hausdorff_distance(line, truth) < 0.5 * width_px + 0.5
    assert line.length == pytest.approx(truth.length, abs=width_px / 2 + 2)
    assert len(line.coords) < 8
    _, half_width, bridged = lines.means()[0]
    assert 2 * half_width == pytest.approx(width_px, abs=1.2)
    assert bridged == 0


def test_a_t_and_an_x_have_one_junction():
    across = road([(20, 200), (380, 200)], 9)
    down = road([(200, 200), (200, 380)], 7)
    assert degrees(network_of(across | down)) == [3]
    for x in (200, 260, 330):
        skew = road([(400 - x, 20), (x, 380)], 8)
        network = network_of(across | skew)
        assert degrees(network) == [4], x
        assert len(network.paths) == 4


def test_lines_end_exactly_in_their_junction():
    mask = road([(20, 190), (380, 210)], 9) | road([(190, 20), (215, 380)], 7)
    ends = shapely.get_coordinates(shapely.boundary(lines_of(mask).geometries(1.0)))
    points, counts = np.unique(ends, axis=0, return_counts=True)
    assert sorted(counts) == [1, 1, 1, 1, 4]
    assert np.abs(points[np.argmax(counts)] - 201).max() < 5


def test_a_roundabout_is_a_ring_with_its_roads():
    ring = shapely.Point(200, 200).buffer(40).boundary.buffer(4)
    cols, rows = np.meshgrid(np.arange(400) + 0.5, np.arange(400) + 0.5)
    mask = shapely.contains_xy(ring, cols, rows)
    for start, end in (((20, 200), (160, 200)), ((380, 200), (240, 200)), ((200, 380), (200, 240))):
        mask |= road([start, end], 8)
    network = network_of(mask)
    assert degrees(network) == [3, 3, 3]
    assert len(network.paths) == 6


def test_a_ring_without_junctions_is_one_closed_line():
    ring = shapely.Point(200, 200).buffer(60).boundary.buffer(5)
    cols, rows = np.meshgrid(np.arange(400) + 0.5, np.arange(400) + 0.5)
    (line,) = lines_of(shapely.contains_xy(ring, cols, rows)).geometries(1.0)
    assert line.is_ring
    assert line.length == pytest.approx(2 * np.pi * 60, rel=0.03)


@pytest.mark.parametrize(
    ("gap_m", "background", "is_bridged"), [(12, 0.2, True), (12, 0.0, False), (4, 0.0, True)]
)
def test_a_gap_is_bridged_where_the_probabilities_support_it(gap_m, background, is_bridged):
    gap_px = gap_m / GSD_M
    mask = road([(20, 180), (200 - gap_px / 2, 200)], 8) | road([(200 + gap_px / 2, 200), (380, 220)], 8)
    lines = lines_of(mask, background)
    assert len(lines) == (1 if is_bridged else 2)
    if is_bridged:
        assert lines.means()[0, 2] == pytest.approx(gap_px / 360, abs=0.02)


def test_a_long_gap_is_bridged_only_in_line():
    gap_px = 60 / GSD_M
    straight = road([(20, 200), (160, 200)], 8) | road([(160 + gap_px, 200), (380, 200)], 8)
    assert len(lines_of(straight, 0.2)) == 1
    beside = road([(20, 200), (160, 200)], 8) | road([(160 + gap_px, 260), (380, 260)], 8)
    assert len(lines_of(beside, 0.2)) == 2


def test_a_side_road_is_joined_across_a_gap():
    mask = road([(20, 100), (380, 100)], 9) | road([(200, 118), (200, 380)], 7)
    assert degrees(network_of(mask, 0.2)) == [3]
    assert degrees(network_of(mask, 0.0)) == []


def test_spurs_are_pruned_and_side_roads_kept():
    main = road([(20, 200), (380, 200)], 10)
    assert len(network_of(main | road([(200, 200), (200, 211)], 4)).paths) == 1
    assert len(network_of(main | road([(200, 200), (200, 240)], 4)).paths) == 3


def test_blobs_have_no_hairy_lines():
    square = np.zeros((400, 400), bool)
    square[150:210, 120:180] = True
    assert len(network_of(square).paths) == 0
    parking = square | road([(20, 180), (130, 180)], 8)
    assert len(network_of(parking).paths) <= 1
    bites = ndimage.binary_dilation(np.random.default_rng(0).random((400, 400)) < 0.02, iterations=2)
    core, edge = road([(0, 200), (400, 200)], 24), road([(0, 200), (400, 200)], 30)
    ragged = ndimage.binary_fill_holes(edge & (core | ~bites))
    assert len(network_of(ragged).paths) == 1


def test_what_hangs_on_nothing_and_is_short_is_dropped():
    assert len(network_of(road([(100, 100), (120, 100)], 6)).paths) == 0
    assert len(network_of(road([(100, 100), (150, 100)], 6)).paths) == 1


def test_parallel_carriageways_stay_two_lines():
    mask = road([(0, 190), (400, 190)], 9) | road([(0, 204), (400, 204)], 9)
    assert len(lines_of(mask)) == 2


def test_islands_in_a_road_do_not_split_it():
    mask = road([(0, 200), (400, 200)], 16)
    mask[197:202, 150:158] = False
    assert len(lines_of(mask)) == 1


@pytest.mark.parametrize("mask", [np.zeros((50, 60), bool), np.ones((50, 60), bool)])
def test_nothing_and_everything_have_no_centrelines(mask):
    assert len(lines_of(mask)) == 0


def test_lines_are_cut_alike_from_both_sides():
    mask = road([(20, 150), (380, 260)], 9) | road([(150, 20), (260, 380)], 7)
    probability = mask.astype(np.float32)
    network = find_centrelines(mask, probability, GSD_M)
    whole = cut_network(network, probability, (0, 0), Window(0, 0, 400, 400), 128)
    parts = [
        cut_network(network, probability, (0, 0), window, 128)
        for (window,) in ((w,) for w in Window(0, 0, 400, 400).cells(128))
    ]
    lines = lambda part: {g.normalize().wkb for g in part.geometries(1.0)} if len(part) else set()  # noqa: E731
    assert lines(whole) == set().union(*map(lines, parts))
    ends = shapely.get_coordinates(shapely.boundary(whole.geometries(1.0)))
    on_line = ends[(ends % 128 == 0).any(axis=1)]
    assert len(on_line) >= 8
    assert (np.unique(on_line, axis=0, return_counts=True)[1] == 2).all()


def test_paths_and_rings_are_walked_in_order():
    tails, heads = np.array([0, 5, 2, 3, 4]), np.array([5, 1, 3, 4, 2])
    order, starts = order_paths(7, tails, heads)
    assert starts.tolist() == [0, 3, 6, 7]
    assert order[:3].tolist() == [0, 5, 1]
    assert order[3] == 2
    assert sorted(order[3:6]) == [2, 3, 4]
    assert order[6] == 6


def test_a_skeleton_is_traced_from_junction_to_junction():
    picture = """
        .........
        .xxxxxxx.
        ....x....
        ....x....
        .........
        .xxx.....
        .x.x.....
        .xxx...x."""
    skeleton = np.array([[c == "x" for c in row] for row in picture.split()])
    paths = trace_paths(skeleton)
    assert paths.lengths_px().tolist() == [3, 3, 2, 8, 0]
    assert paths.junctions.tolist() == [[1, 4]]
    assert len(set(paths.components()[:3])) == 1
    assert len(set(paths.components())) == 3
    np.testing.assert_array_equal(paths.drawn(np.ones(5, bool), skeleton.shape), skeleton)


@pytest.mark.parametrize("block_px", [0, 40, 900, 2560, 3000, 7000])
def test_windows_cover_the_raster_once_and_respect_blocks(block_px):
    height, width = 6001, 5200
    batches = plan_windows(height, width, block_px)
    windows = [window for batch in batches for window in batch]
    assert sum(w.height * w.width for w in windows) == height * width
    assert max(max(w.height, w.width) for w in windows) <= 2560
    if block_px:
        for batch in batches:
            top, left = min(w.row for w in batch), min(w.col for w in batch)
            assert top % block_px == 0
            assert left % block_px == 0
    else:
        assert len(batches) == 1
