"""clDice and APLS, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from aftermap.core.evaluation.topology import (
    CONTROL_M,
    SHORTEST_M,
    SNAP_M,
    apls,
    cldice,
    cldice_counts,
    trace_network,
)

SIDES = (((0, 0), (100, 0)), ((100, 0), (100, 100)), ((100, 100), (0, 100)), ((0, 100), (0, 0)))


def network(*lines: tuple[tuple[float, float], ...]) -> np.ndarray:
    found = np.empty(len(lines), dtype=object)
    found[:] = [shapely.LineString(line) for line in lines]
    return found


def test_the_constants_are_those_of_spacenet():
    assert (CONTROL_M, SNAP_M, SHORTEST_M) == (50.0, 4.0, 10.0)


@pytest.mark.parametrize(("shift_m", "expected"), [(0.0, 1.0), (3.9, 1.0), (4.1, 0.0)])
def test_a_shifted_line_is_the_same_within_the_snap_and_missing_beyond(shift_m: float, expected: float):
    truth = network(((0, 0), (200, 0)))
    assert apls(truth, network(((0, shift_m), (200, shift_m)))) == pytest.approx(expected)


def test_a_line_that_stops_halfway():
    # Truth: 0 to 200 m, control points at 0, 50, 100, 150, 200; proposal: 0 to 100 m, points at 0, 50, 100.
    # Truth in proposal: of 10 pairs the 3 between 0, 50 and 100 are there, 7 lack an end: 1 - 7 / 10 = 0.3.
    # Proposal in truth: all 3 pairs are there: 1. Harmonic mean: 2 * 0.3 / 1.3.
    found = apls(network(((0, 0), (200, 0))), network(((0, 0), (100, 0))))
    assert found == pytest.approx(0.6 / 1.3)


def test_a_square_with_a_missing_side():
    # Control points every 50 m around 400 m: 8. The proposal lacks the side from 300 to 400 m, and with
    # it the point at 350 m. Truth in proposal: of 28 pairs, 7 lack an end: 7. Of the others, those 250 m
    # apart along the proposal (2) are 150 m apart around the square: |150 - 250| / 150 = 2/3 each; that
    # 300 m apart (1) is 100 m apart: min(1, 2) = 1. The rest is equal. 1 - (7 + 4/3 + 1) / 28 = 2/3.
    # Proposal in truth: 7 points, 21 pairs: |250 - 150| / 250 = 0.4 (2 pairs), |300 - 100| / 300 = 2/3
    # (1).
    forth, back = 2 / 3, 1 - (0.8 + 2 / 3) / 21
    found = apls(network(*SIDES), network(*SIDES[:3]))
    assert found == pytest.approx(2 * forth * back / (forth + back))
    assert apls(network(*SIDES[:3]), network(*SIDES)) == pytest.approx(found)


def test_a_missing_branch():
    # A road of two lines that meet at (100, 0), and a branch of 50 m from there; the proposal lacks the
    # branch. Truth: points at 0, 50, 100, 150, 200 m and the branch's end: 15 pairs, 5 of which lack that
    # end: 1 - 5 / 15 = 2/3. Proposal in truth: 1. Harmonic mean: 2 * 2/3 / (5/3) = 0.8.
    road = ((0, 0), (100, 0)), ((100, 0), (200, 0))
    assert apls(network(*road, ((100, 0), (100, 50))), network(*road)) == pytest.approx(0.8)


def test_a_gap_cuts_the_routes_across_it():
    # Points at 0, 50, 100, 150, 200 m; the gap of 6 m lies between 97 and 103 m, so that the point at 100
    # m is found at 97 m (3 m away, the first of two equals) or at 103 m. Truth in proposal: say it is
    # found on the left. Left: 0, 50, 97; right: 150, 200. Equal are 0-50 and 150-200; 0-100 costs 3/100
    # and 50-100 3/50; the other 6 of 10 pairs are cut: cost 6.09. Proposal in truth: lines of 97 m,
    # points at 0, 48.5, 97 and 103, 151.5, 200: 6 paths, all equal: 1.
    truth = network(((0, 0), (200, 0)))
    proposal = network(((0, 0), (97, 0)), ((103, 0), (200, 0)))
    forth = 1 - 6.09 / 10
    assert apls(truth, proposal) == pytest.approx(2 * forth / (forth + 1))


def test_lines_that_cross_without_a_common_end_do_not_meet():
    # 4 ends and, every 50 m, 2 middles at the same place (one point): of 5 points 10 pairs. In the truth
    # all are linked; in the proposal the middle is found on one of both lines: 2 of its 4 pairs are cut,
    # as are the 4 pairs between the ends of different lines; the 2 along a line are whole. 1 - 6 / 10.
    # Back: only pairs along a line exist. 4 ends and one point in the middle: it lies on one line; 2
    # pairs of ends and 2 with the middle: all are whole in the truth: 1.
    truth = network(*(((50, 50), end) for end in ((0, 50), (100, 50), (50, 0), (50, 100))))
    proposal = network(((0, 50), (100, 50)), ((50, 0), (50, 100)))
    assert apls(truth, proposal) == pytest.approx(2 * 0.4 / 1.4)


def test_of_two_roads_between_the_same_junctions_the_shorter_counts():
    # Both 40 and 60 m long: the ends are 40 m apart with and without the longer one, whose middle is
    # missing in the proposal. Points: two ends, and the middle of the longer (60 m is cut in two). Truth
    # in proposal: 40 m is whole, two pairs with the middle are missing: 1 - 2/3. Proposal in truth: 1.
    detour = ((0, 0), (20, np.sqrt(500.0)), (40, 0))
    assert shapely.length(shapely.LineString(detour)) == pytest.approx(60)
    straight = ((0, 0), (40, 0))
    assert apls(network(detour, straight), network(straight)) == pytest.approx(2 * (1 / 3) / (4 / 3))


def test_networks_without_paths():
    road, nothing, stub = network(((0, 0), (100, 0))), network(), network(((0, 0), (9.9, 0)))
    assert apls(road, nothing) == 0.0
    assert apls(road, stub) == 0.0
    assert np.isnan(apls(nothing, road))
    assert np.isnan(apls(stub, road))


def test_networks_of_many_control_points_are_sampled_evenly():
    # 1 500 streets of 40 m, apart from each other: 3 000 control points, of which every third begins paths.
    streets = [((0, 10.0 * i), (40, 10.0 * i)) for i in range(1500)]
    whole, half = network(*streets), network(*streets[::2])
    assert apls(whole, whole) == pytest.approx(1.0)
    assert apls(whole, half) == pytest.approx(2 * 0.5 / 1.5, abs=0.01)


def street_grid(size_px: int = 400, spacing_px: int = 100, width_px: int = 8) -> np.ndarray:
    mask = np.zeros((size_px, size_px), bool)
    for at in range(spacing_px // 2, size_px, spacing_px):
        mask[at : at + width_px] = mask[:, at : at + width_px] = True
    return mask


def test_a_mask_becomes_the_network_of_its_streets_in_metres():
    mask = street_grid()
    lines = trace_network(mask, np.zeros(mask.shape, np.float32), 0.5)
    # 4 streets each way, 200 m long; between 16 crossings lie 4 * 3 * 2 lines, and 16 lead out of the tile.
    assert len(lines) == 24 + 16
    assert shapely.length(lines).sum() == pytest.approx(8 * 200, rel=0.01)
    assert apls(lines, lines) == pytest.approx(1.0)


def test_a_network_reaches_the_border_of_its_tile():
    mask = np.zeros((100, 100), bool)
    mask[40:48] = True
    (line,) = trace_network(mask, np.zeros(mask.shape, np.float32), 1.0)
    assert shapely.bounds(line)[[0, 2]].tolist() == [0.0, 100.0]
    assert shapely.length(line) == pytest.approx(100, abs=0.5)


def test_a_street_that_is_cut_costs_routes_and_hardly_any_pixels():
    truth = street_grid()
    cut = truth.copy()
    cut[40:70, 180:230] = False  # 25 m of one street, and no other
    unknown = np.zeros(truth.shape, np.float32)
    similarity = apls(trace_network(truth, unknown, 0.5), trace_network(cut, unknown, 0.5))
    assert 0.5 < similarity < 0.97
    assert (truth & cut).sum() / truth.sum() > 0.98


def test_no_road_makes_no_network():
    assert len(trace_network(np.zeros((50, 50), bool), np.zeros((50, 50), np.float32), 1.0)) == 0


def test_cldice_by_hand():
    # A true road of 100 x 9 px and a predicted one of half its length: the predicted line lies inside the
    # true mask (precision 1), and half of the true line inside the predicted one: 2 * 0.5 / 1.5.
    truth, prediction = np.zeros((60, 100), bool), np.zeros((60, 100), bool)
    truth[20:29], prediction[20:29, :50] = True, True
    assert cldice(cldice_counts(prediction, truth)) == pytest.approx(2 / 3, abs=0.03)
    assert cldice(cldice_counts(truth, truth)) == 1.0


def test_cldice_forgives_width_and_not_place():
    truth = np.zeros((60, 100), bool)
    truth[20:29] = True
    thin = np.zeros_like(truth)
    thin[23:26] = True
    assert cldice(cldice_counts(thin, truth)) == 1.0
    assert cldice(cldice_counts(np.roll(truth, 20, axis=0), truth)) == 0.0


def test_cldice_of_nothing():
    road, nothing = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    road[8:12] = True
    assert np.isnan(cldice(cldice_counts(nothing, nothing)))
    assert cldice(cldice_counts(nothing, road)) == cldice(cldice_counts(road, nothing)) == 0.0


def test_a_skeleton_goes_straight_to_the_border():
    road = np.zeros((40, 60), bool)
    road[15:24] = True
    assert cldice_counts(road, road)[1] == 60
