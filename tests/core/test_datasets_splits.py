from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin

from aftermap.core.datasets.footprints import find_footprint
from aftermap.core.datasets.layouts import LabelledTile
from aftermap.core.datasets.splits import SplitPlan, plan_folder_split, plan_listed_split, plan_split
from aftermap.core.errors import DatasetError

TOWN = Path("town")


def tiles_named(*stems: str) -> list[LabelledTile]:
    return [LabelledTile(s, TOWN / f"{s}.png", TOWN / f"{s}.png") for s in stems]


def footprint(west: float, north: float, size: float = 100.0):
    # far from the central meridian, where a grid of tiles is turned against the meridians
    return find_footprint(
        CRS.from_epsg(32637), from_origin(west + 8e5, north + 7e6, 1, 1), int(size), int(size)
    )


def grid_of_tiles(side: int, step: float):
    places = [(i * step, j * step) for i in range(side) for j in range(side)]
    tiles = tiles_named(*(f"x{k:04d}y" for k in range(len(places))))  # the names tell nothing
    return tiles, places, [footprint(*p) for p in places]


def stems(tiles) -> list[str]:
    return [t.stem for t in tiles]


def is_whole(plan: SplitPlan, tiles) -> bool:
    parts = [*stems(plan.train), *stems(plan.validation), *stems(plan.left_out)]
    return sorted(parts) == sorted(stems(tiles))


@pytest.mark.parametrize("step", [100.0, 60.0, 40.0])
def test_tiles_that_overlap_never_stand_on_both_sides(step: float):
    tiles, places, footprints = grid_of_tiles(10, step)
    shares = np.random.default_rng(0).random(100) * 0.2
    plan = plan_split(tiles, shares.tolist(), 0.2, footprints)
    where = dict(zip(stems(tiles), places, strict=True))
    for a in stems(plan.train):
        for b in stems(plan.validation):
            assert max(abs(p - q) for p, q in zip(where[a], where[b], strict=True)) >= 100
    assert is_whole(plan, tiles)
    assert 10 <= len(plan.validation) <= 30
    assert len(plan.train) >= 30
    assert bool(plan.left_out) == (step < 100)  # neighbours that share an edge do not overlap
    assert "blocks of ground" in plan.how
    assert ("left out" in plan.how) == (step < 100)


def test_the_order_of_the_tiles_does_not_matter():
    tiles, _, footprints = grid_of_tiles(6, 60.0)
    shares = np.linspace(0, 0.3, 36).tolist()
    plan = plan_split(tiles, shares, 0.2, footprints)
    assert plan_split(tiles[::-1], shares[::-1], 0.2, footprints[::-1]) == plan


def test_tiles_that_all_overlap_cannot_be_split():
    tiles = tiles_named("a", "b", "c")
    with pytest.raises(DatasetError, match="overlap so much that no split is honest"):
        plan_split(tiles, [0.1] * 3, 0.3, [footprint(i, 0) for i in range(3)])


def test_overlapping_tiles_are_left_out_also_where_names_decide():
    tiles = tiles_named("a_1", "a_2", "b_1", "b_2")
    footprints = [footprint(0, 0), footprint(500, 0), footprint(50, 50), None]
    plan = plan_split(tiles, [0.1] * 4, 0.5, footprints)
    assert len(plan.left_out) == 1
    assert len(plan.validation) == 2
    assert is_whole(plan, tiles)


def test_events_and_scenes_stay_whole():
    tiles = tiles_named(*(f"{e}_{n:08d}" for e in ("fire-one", "flood-two", "quake") for n in range(5)))
    plan = plan_split(tiles, [0.1] * 15, 0.3)
    events = [{s.rpartition("_")[0] for s in stems(part)} for part in (plan.train, plan.validation)]
    assert events[0].isdisjoint(events[1])
    assert not plan.left_out


@pytest.mark.parametrize("name", ["scene_{}_{}", "scene_r{}_c{}", "scene_y{:04d}x{:04d}"])
@pytest.mark.parametrize("step", [1, 256])
def test_rows_and_columns_in_names_keep_a_distance(name: str, step: int):
    places = [(i, j) for i in range(8) for j in range(8)]
    tiles = tiles_named(*(name.format(i * step, j * step) for i, j in places))
    plan = plan_split(tiles, [0.1] * 64, 0.2)
    where = dict(zip(stems(tiles), places, strict=True))
    for a in stems(plan.train):
        for b in stems(plan.validation):
            assert max(abs(p - q) for p, q in zip(where[a], where[b], strict=True)) > 1
    assert is_whole(plan, tiles)
    assert "rows and columns" in plan.how


def test_scenes_of_rows_and_columns_stay_whole():
    tiles = tiles_named(*(f"{s}_{i}_{j}" for s in ("a", "b", "c") for i in range(3) for j in range(3)))
    plan = plan_split(tiles, [0.1] * 27, 0.3)
    assert {s[0] for s in stems(plan.train)}.isdisjoint({s[0] for s in stems(plan.validation)})
    assert not plan.left_out


def test_a_run_of_names_leaves_out_its_neighbours():
    tiles = tiles_named(*(f"crop_{i:02d}" for i in range(20)))
    shares = [0.0] * 20
    shares[8:12] = [0.2] * 4
    plan = plan_split(tiles, shares, 0.1)
    numbers = [int(s[-2:]) for s in stems(plan.validation)]
    assert stems(plan.left_out) == [f"crop_{n:02d}" for n in (numbers[0] - 1, numbers[-1] + 1)]


def test_lists_are_followed_and_leaks_in_them_left_out():
    tiles = tiles_named("a", "b", "c", "d")
    footprints = [footprint(0, 0), footprint(50, 0), footprint(500, 0), None]
    lists = {"train": ["d", "b", "c"], "validation": ["a"]}
    plan = plan_listed_split(tiles, lists, TOWN, footprints)
    assert (stems(plan.train), stems(plan.validation)) == (["d", "c"], ["a"])
    assert stems(plan.left_out) == ["b"]
    with pytest.raises(DatasetError, match="'a' for training and for validation"):
        plan_listed_split(tiles, {"train": ["a"], "validation": ["a"]}, TOWN, footprints)
    with pytest.raises(DatasetError, match="no labelled tile 'x'"):
        plan_listed_split(tiles, {"train": ["x"]}, TOWN, footprints)


def test_a_folder_of_validation_tiles_is_followed_and_leaks_left_out():
    tiles, held_out = tiles_named("a", "b"), [LabelledTile("a", Path("v/a.png"), Path("v/a.png"))]
    plan = plan_folder_split(tiles, held_out, Path("v"), [footprint(0, 0), None], [footprint(50, 50)])
    assert (stems(plan.train), stems(plan.left_out), plan.validation) == (["b"], ["a"], held_out)
    with pytest.raises(DatasetError, match="is a training tile and a validation tile"):
        plan_folder_split(tiles, tiles[:1], TOWN, [None, None], [None])
