"""Buildings that are told while the network still runs, in a town whose roofs are dark where destroyed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pytest
import shapely
import torch
from numpy.typing import NDArray
from shapely import affinity

from aftermap.core import damage_preview
from aftermap.core.assess_damage import assess_damage
from aftermap.core.cards import read_package
from aftermap.core.command_line import main
from aftermap.core.errors import JobError
from aftermap.core.jobs import AssessDamage, Event, Partial, Progress, Result, to_json
from aftermap.core.networks.package import load_network, save_package

from .bright_model import UTM, save_bright_model, write_scene

HEIGHT, WIDTH = 900, 220
WEST, NORTH = 300_000.0, 4_100_000.0
LEVELS = (
    {"code": 1, "name": "no visible damage", "colour": "#2c7bb6"},
    {"code": 4, "name": "destroyed", "colour": "#a50026"},
)


def houses() -> list[shapely.Polygon]:
    """Footprints in metres of the CRS, from the top down."""
    corners = [(x, y) for y in range(12, HEIGHT - 30, 29) for x in range(10, WIDTH - 30, 31)]
    return [shapely.box(WEST + x, NORTH - y - 14, WEST + x + 18, NORTH - y) for x, y in corners]


def draw_town() -> NDArray[np.uint8]:
    """Dark ground (3, height, width) with roofs from grey to white."""
    random = np.random.default_rng(3)
    image = random.integers(20, 60, (3, HEIGHT, WIDTH), dtype=np.uint8)
    for house in houses():
        west, south, east, north = house.bounds
        rows, cols = slice(int(NORTH - north), int(NORTH - south)), slice(int(west - WEST), int(east - WEST))
        image[:, rows, cols] = random.integers(170, 250)
    return image


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("town") / "post.tif", draw_town())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is bright is a building, and what is not bright enough is destroyed."""
    path = tmp_path_factory.mktemp("model") / "bright.aftermap"
    heads = ["footprint", "none", "destroyed"]
    package = read_package(
        save_bright_model(
            path,
            task="damage",
            architecture={"name": "textbook_unet", "bands": 6, "heads": heads, "width": 2},
            classes=LEVELS,
            bands=("red", "green", "blue") * 2,
            radiometry={"scaling": "unit", "mean": [0.0] * 6, "std": [1.0] * 6},
        )
    )
    network = load_network(package)
    with torch.no_grad():
        for head, slope in ((1, 20.0), (2, -20.0)):
            network.head.weight[head, 0] = slope
            network.head.bias[head] = -0.82 * slope
    save_package(path, network, package.card)
    return path


@pytest.fixture
def job(town: Path, model: Path, tmp_path: Path) -> AssessDamage:
    return AssessDamage(
        post=str(town),
        pre=str(town),
        model=str(model),
        output_buildings=str(tmp_path / "buildings.gpkg"),
        device="cpu",
        cache=str(tmp_path / "cache"),
    )


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new row of tiles is looked at, however slow the machine is."""
    monkeypatch.setattr(damage_preview, "INTERVAL_S", 0.0)
    monkeypatch.setattr(damage_preview, "PAUSE", 0.0)
    monkeypatch.setattr(damage_preview, "WINDOW_ROWS", 64)
    monkeypatch.setattr(damage_preview, "_LONGEST_S", math.inf)


def parts_of(events: Iterator[Event]) -> tuple[geopandas.GeoDataFrame, list[Event]]:
    """The buildings of all parts, read when they are told, and all events."""
    parts, seen = [], []
    for event in events:
        seen.append(event)
        if isinstance(event, Partial):
            parts.append(geopandas.read_file(event.path, engine="pyogrio"))
            assert len(parts[-1]) == event.count > 0
    return pandas.concat(parts, ignore_index=True) if parts else geopandas.GeoDataFrame(), seen


def final(job: AssessDamage) -> geopandas.GeoDataFrame:
    return geopandas.read_file(job.output_buildings, engine="pyogrio")


def keyed(layer: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """Buildings by their shape, without the numbers that depend on the order."""
    return layer.set_index(layer.geometry.normalize().to_wkb()).drop(columns="source_id").sort_index()


@pytest.mark.usefixtures("_at_once")
def test_most_buildings_are_told_once_before_the_end_and_as_in_the_end(job: AssessDamage) -> None:
    early, events = parts_of(assess_damage(job))
    late = keyed(final(job))
    early = keyed(early)
    assert len(late) == len(houses())
    assert set(late.damage) == {1, 4}
    assert early.index.is_unique
    assert len(late) > len(early) > len(late) / 2
    pandas.testing.assert_frame_equal(early, late.loc[early.index])
    kinds = [type(event).__name__ for event in events]
    assert kinds.count("Partial") > 3
    after = next(i for i, e in enumerate(events) if isinstance(e, Progress) and e.message.startswith("Outl"))
    assert "Partial" not in kinds[after:]
    partial = next(event for event in events if isinstance(event, Partial))
    assert (partial.layer, partial.values) == ("buildings", {"levels": list(LEVELS)})
    assert isinstance(events[-1], Result)
    assert events[-1].values["levels"] == partial.values["levels"]
    assert not Path(partial.path).exists()
    to_json(partial)


@pytest.mark.usefixtures("_at_once")
def test_a_resumed_run_tells_what_is_there_before_it_goes_on(job: AssessDamage) -> None:
    run, told = assess_damage(job), 0
    for event in run:
        told += event.count if isinstance(event, Partial) else 0
        if told > 100:
            break
    run.close()
    early, events = parts_of(assess_damage(job))
    tiles = [e for e in events if isinstance(e, Progress) and e.message.startswith("Segmenting")]
    first = next(event for event in events if isinstance(event, Partial))
    assert events.index(first) == events.index(tiles[0]) + 1
    assert first.count >= told
    late = keyed(final(job))
    assert keyed(early).index.is_unique
    assert set(keyed(early).index) <= set(late.index)


def write_footprints(path: Path, east_m: float) -> str:
    """The houses beside their roofs, in an order of their own, one without geometry, one off the image."""
    shapes = [*(affinity.translate(house, east_m) for house in houses()), shapely.Polygon()]
    shapes.append(affinity.translate(shapes[0], 0.0, 200.0))
    order = np.random.default_rng(1).permutation(len(shapes))
    layer = {"osm_id": [f"way/{i}" for i in order], "floors": order % 5}
    geopandas.GeoDataFrame(layer, geometry=[shapes[i] for i in order], crs=UTM).to_file(path)
    return str(path)


@pytest.mark.usefixtures("_at_once")
def test_known_buildings_come_with_their_attributes_where_they_were_and_as_the_image_shows_them(
    job: AssessDamage, tmp_path: Path
) -> None:
    job = dataclasses.replace(job, footprints=write_footprints(tmp_path / "known.gpkg", 4.0))
    early, events = parts_of(assess_damage(job))
    assert events[-1].values["footprint_shift_m"][0] == pytest.approx(-4.0, abs=0.3)
    late = final(job).set_index("source_id")
    early = early.set_index("source_id")
    assert len(late) == len(houses()) + 2
    assert early.index.is_unique
    assert (early.seen == 1).all()
    assert len(houses()) > len(early) > len(houses()) / 2
    late = late.loc[early.index]
    assert early.geometry.geom_equals(late.geometry).all()
    assert (early.floors == late.floors).all()
    # The first few rows are too few for a shift that is sure; a roof 4 m off is still mostly that roof.
    assert (early.damage == late.damage).mean() > 0.9
    rest = early.iloc[len(early) // 2 :]
    np.testing.assert_allclose(rest.p_destr, late.p_destr.loc[rest.index], atol=0.05)


@pytest.mark.usefixtures("_at_once")
def test_a_nudge_holds_for_what_is_told_early(job: AssessDamage, tmp_path: Path) -> None:
    path = write_footprints(tmp_path / "known.gpkg", 4.0)
    job = dataclasses.replace(job, footprints=path, nudge_m=(-4.0, 0.0), align=False)
    early, _ = parts_of(assess_damage(job))
    late = final(job).set_index("source_id").loc[early.source_id]
    np.testing.assert_array_equal(early.p_destr, late.p_destr)
    assert (early.seen == 1).all()


@pytest.mark.usefixtures("_at_once")
def test_known_buildings_come_in_parts_of_bounded_size(
    job: AssessDamage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage_preview, "_MOST", 10)
    job = dataclasses.replace(job, footprints=write_footprints(tmp_path / "known.gpkg", 0.0))
    early, events = parts_of(assess_damage(job))
    assert max(event.count for event in events if isinstance(event, Partial)) == 10
    assert len(early) > len(houses()) / 4
    assert early.source_id.is_unique
    tops = early.geometry.bounds.maxy.to_numpy()
    assert tops[:10].min() > tops[-10:].max()


def test_the_layer_is_the_same_without_parts_and_a_short_run_has_none(
    job: AssessDamage, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    early, events = parts_of(assess_damage(job))
    assert len(early) == 0
    request.getfixturevalue("_at_once")
    again = dataclasses.replace(
        job, cache=str(tmp_path / "another"), output_buildings=str(tmp_path / "again.gpkg")
    )
    early, with_parts = parts_of(assess_damage(again))
    assert len(early) > 0
    pandas.testing.assert_frame_equal(final(job), final(again))
    same = ("counts", "areas_m2", "shift_m", "footprint_shift_m", "buildings")
    assert [events[-1].values[name] for name in same] == [with_parts[-1].values[name] for name in same]


@pytest.mark.usefixtures("_at_once")
def test_where_no_layer_is_wanted_none_is_shown(job: AssessDamage, tmp_path: Path) -> None:
    job = dataclasses.replace(job, output_buildings="", output_summary=str(tmp_path / "summary.csv"))
    for area in ({}, {"aoi": write_area(tmp_path / "area.gpkg"), "aoi_first": True}):
        early, _ = parts_of(assess_damage(dataclasses.replace(job, **area)))
        assert len(early) == 0


def write_area(path: Path) -> str:
    """An area of interest over the lower right, across the rows of roofs: a triangle."""
    east, south = WEST + WIDTH, NORTH - HEIGHT
    triangle = shapely.Polygon([(east, south), (east - 150, south), (east, south + 400)])
    geopandas.GeoDataFrame(geometry=[triangle], crs=UTM).to_file(path)
    return str(path)


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.usefixtures("_at_once")
def test_an_area_of_interest_is_told_first_and_the_layer_is_that_of_the_whole(
    job: AssessDamage, tmp_path: Path, is_known: bool
) -> None:
    if is_known:
        job = dataclasses.replace(job, footprints=write_footprints(tmp_path / "known.gpkg", 0.0), align=False)
    list(assess_damage(job))
    whole = final(job)
    area = write_area(tmp_path / "area.gpkg")
    output = str(tmp_path / "again.gpkg")
    job = dataclasses.replace(job, aoi=area, aoi_first=True, output_buildings=output)
    early, events = parts_of(assess_damage(job))
    pandas.testing.assert_frame_equal(final(job), whole)
    said = [event.message if isinstance(event, Progress) else "" for event in events]
    done = next(i for i, message in enumerate(said) if message.startswith("The area of interest is done"))
    first = sum(event.count for event in events[:done] if isinstance(event, Partial))
    assert f"{first} buildings" in said[done]
    inside = early.centroid.within(geopandas.read_file(area).geometry[0])
    assert inside.iloc[:first].all()
    assert not inside.iloc[first:].any()
    # Whole roofs as in the end; those across the border are cut by it where they are outlined.
    here = whole[whole.centroid.within(geopandas.read_file(area).geometry[0])]
    if is_known:
        assert set(early.source_id[:first]) == set(here.source_id)
        assert early.source_id.is_unique
    else:
        same = keyed(early.iloc[:first]).index.intersection(keyed(whole).index)
        assert 0.4 * len(here) < len(same) <= first
    shares = [event.fraction for event in events if isinstance(event, Progress)]
    assert shares == sorted(shares)


@pytest.mark.usefixtures("_at_once")
def test_another_area_first_is_not_taken_for_the_one_of_an_unfinished_run(
    job: AssessDamage, tmp_path: Path
) -> None:
    job = dataclasses.replace(job, aoi=write_area(tmp_path / "area.gpkg"), aoi_first=True)
    run = assess_damage(job)
    next(e for e in run if isinstance(e, Progress) and e.message.startswith("The area of interest"))
    run.close()
    box = shapely.box(WEST, NORTH - 200, WEST + WIDTH, NORTH)
    geopandas.GeoDataFrame(geometry=[box], crs=UTM).to_file(tmp_path / "other.gpkg")
    early, _ = parts_of(assess_damage(dataclasses.replace(job, aoi=str(tmp_path / "other.gpkg"))))
    assert early.centroid.iloc[:5].within(box).all()


def test_no_area_cannot_come_first(job: AssessDamage) -> None:
    with pytest.raises(JobError, match="area of interest cannot come first"):
        list(assess_damage(dataclasses.replace(job, aoi_first=True)))


@pytest.mark.usefixtures("_at_once")
def test_the_command_line_names_the_parts_and_takes_the_area_first(
    job: AssessDamage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"assess-damage {job.post} --pre {job.pre} --model {job.model} --out {tmp_path} --device cpu"
    aoi = write_area(tmp_path / "area.gpkg")
    assert main([*arguments.split(), "--cache", job.cache, "--aoi", aoi, "--aoi-first"]) == 0
    said = capsys.readouterr().err.splitlines()
    done = next(i for i, line in enumerate(said) if "The area of interest is done" in line)
    parts = [i for i, line in enumerate(said) if "more buildings: " in line]
    assert parts[0] < done < parts[-1]
