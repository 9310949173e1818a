"""Detect Buildings as a whole: a raster and a model in, one polygon a building out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from numpy.typing import NDArray

from aftermap.core import cards, command_line
from aftermap.core.cards import heads_of, read_package, threshold_of
from aftermap.core.detect_buildings import detect_buildings
from aftermap.core.errors import AftermapError, JobError, ModelError, OutputError, RasterError
from aftermap.core.jobs import DetectBuildings, Progress, Result, VectorizeProbabilities, Warning, to_json
from aftermap.core.raster.probability import read_tags
from aftermap.core.vectorize_probabilities import vectorize_probabilities

from .bright_model import UTM, save_bright_model, write_scene

HOUSES = [(20, 20, 40, 34), (60, 30, 74, 60), (110, 100, 160, 130), (200, 40, 222, 62), (120, 180, 142, 196)]
"""West, north, east and south of each, in pixels of a metre; the third lies across tiles of the network."""


def draw_houses() -> NDArray[np.uint8]:
    """A dark image (3, 220, 260) with bright roofs."""
    image = np.random.default_rng(1).integers(20, 90, (3, 220, 260), dtype=np.uint8)
    for west, north, east, south in HOUSES:
        image[:, north:south, west:east] = 220
    return image


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", draw_houses())


def save_model(path: Path, *heads: str, **changes: Any) -> Path:
    """A model for which what is bright is of each class."""
    architecture = {"name": "textbook_unet", "bands": 3, "heads": list(heads), "width": 2}
    return save_bright_model(path, architecture=architecture, **{"task": "buildings", **changes})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "bright.aftermap", "building")


@pytest.fixture
def job(model: Path, scene: Path, tmp_path: Path) -> DetectBuildings:
    out = tmp_path / "out"
    return DetectBuildings(
        raster=str(scene),
        model=str(model),
        output_probability=str(out / "scene_building_probability.tif"),
        output_buildings=str(out / "scene_buildings.gpkg"),
        cache=str(tmp_path / "cache"),
        device="cpu",
    )


def run(job: DetectBuildings) -> tuple[Result, list[str], list[str]]:
    """Run a job to its end: the result, the progress messages, the warnings."""
    events = list(detect_buildings(job))
    fractions = [e.fraction for e in events if isinstance(e, Progress)]
    assert fractions == sorted(fractions)
    assert isinstance(events[-1], Result)
    return (
        events[-1],
        [e.message for e in events if isinstance(e, Progress)],
        [e.message for e in events if isinstance(e, Warning)],
    )


def truth() -> NDArray[np.object_]:
    west, north, east, south = np.array(HOUSES, float).T
    houses: NDArray[np.object_] = shapely.box(
        300_000 + west, 4_100_000 - south, 300_000 + east, 4_100_000 - north
    )
    return houses


def test_every_bright_roof_becomes_one_polygon(job: DetectBuildings) -> None:
    result, messages, warnings = run(job)
    layer = geopandas.read_file(job.output_buildings)
    assert layer.crs == UTM
    assert len(layer) == result.values["buildings"] == len(HOUSES)
    for house in truth():
        overlap = layer.intersection(house).area / layer.union(house).area
        assert overlap.max() > 0.97
    assert set(layer["class"]) == {"building"}
    assert (layer.mean_p > 0.9).all()
    assert set(layer["source"]) == {"scene.tif"}
    assert layer.area_m2.sum() == pytest.approx(result.values["area_m2"])
    assert layer.area_m2.sum() == pytest.approx(shapely.area(truth()).sum(), rel=0.02)
    assert set(result.outputs) == {"probability", "buildings", "manifest"}
    assert (result.values["threshold"], result.values["uncertain_from"]) == (0.5, 0.2)
    assert result.values["model"] == "bright"
    assert {"device", "precision"} <= set(result.values)
    assert any(m.startswith("Outlining buildings: part 0 of 1") for m in messages)
    assert not warnings
    assert list((Path(job.cache) / "runs").iterdir()) == []


def test_the_probability_raster_and_the_manifest_say_what_they_are(job: DetectBuildings) -> None:
    result, _, _ = run(job)
    tags = read_tags(Path(job.output_probability))
    assert (tags.task, tags.class_name, tags.threshold) == ("buildings", "building", 0.5)
    manifest = json.loads(Path(result.outputs["manifest"]).read_text())
    assert Path(result.outputs["manifest"]).name == "scene_buildings.manifest.json"
    assert manifest["job"] == json.loads(to_json(job))
    assert manifest["buildings"]["buildings"] == len(HOUSES)
    inside = pyogrio.read_info(job.output_buildings)["dataset_metadata"]["AFTERMAP_MANIFEST"]
    assert json.loads(inside) == manifest


def test_roads_are_not_made_of_building_probabilities(job: DetectBuildings, tmp_path: Path) -> None:
    run(job)
    again = VectorizeProbabilities(job.output_probability, output_polygons=str(tmp_path / "roads.gpkg"))
    with pytest.raises(RasterError, match="of the class building, not of roads"):
        list(vectorize_probabilities(again))


@pytest.mark.parametrize("wanted", ["output_probability", "output_buildings"])
def test_outputs_that_are_not_wanted_are_not_made(job: DetectBuildings, wanted: str) -> None:
    names = ("output_probability", "output_buildings")
    result, _, _ = run(dataclasses.replace(job, **{name: "" for name in names if name != wanted}))
    out = Path(getattr(job, wanted))
    assert {p.name for p in out.parent.iterdir()} == {out.name, "scene_buildings.manifest.json"}
    assert set(result.outputs) == {wanted.removeprefix("output_"), "manifest"}


def test_least_area_and_outlines_are_as_asked(job: DetectBuildings) -> None:
    result, _, _ = run(dataclasses.replace(job, min_area_m2=400.0, regularize=False))
    assert result.values["buildings"] == sum((e - w) * (s - n) >= 400 for w, n, e, s in HOUSES)


@pytest.mark.parametrize("phase", ["Segmenting: tile 3", "Outlining buildings", "Putting the files"])
def test_a_cancelled_run_leaves_nothing_and_goes_on(job: DetectBuildings, phase: str) -> None:
    events = detect_buildings(job)
    assert any(isinstance(e, Progress) and e.message.startswith(phase) for e in events)
    events.close()
    assert not Path(job.output_buildings).parent.exists()
    result, messages, _ = run(dataclasses.replace(job, threshold=0.6))
    assert any(m.startswith("Segmenting") for m in messages) is phase.startswith("Segmenting")
    assert result.values["buildings"] == len(HOUSES)
    assert result.values["threshold"] == 0.6


# --------------------------------------------------------------------------------------- which model


def test_any_network_that_sees_buildings_will_do_at_its_own_threshold(
    job: DetectBuildings, tmp_path: Path
) -> None:
    roads = save_model(tmp_path / "a.aftermap", "road", "building", task="roads", threshold=0.9)
    result, _, _ = run(dataclasses.replace(job, model=str(roads)))
    assert result.values["buildings"] == len(HOUSES)
    assert result.values["threshold"] == cards.UNCALIBRATED_THRESHOLD
    calibrated = save_model(
        tmp_path / "b.aftermap",
        "road",
        "building",
        task="roads",
        threshold=0.9,
        calibration={"thresholds": {"building": 0.3}},
    )
    card = read_package(calibrated).card
    assert heads_of(card) == ("road", "building")
    assert (threshold_of(card, "road"), threshold_of(card, "building")) == (0.9, 0.3)


def test_a_model_for_buildings_comes_before_others_that_see_them(
    job: DetectBuildings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    save_model(folder / "a.aftermap", "road", "building", task="roads", name="roads")
    save_model(folder / "b.aftermap", "road", task="roads", name="only roads")
    monkeypatch.setattr(cards, "STARTER_FOLDER", folder)
    best = dataclasses.replace(job, model="")
    assert run(best)[0].values["model"] == "roads"
    save_model(folder / "c.aftermap", "building", name="buildings", gsd_m=1.4)
    assert run(best)[0].values["model"] == "buildings"
    with pytest.raises(ModelError, match="There is no model 'only roads'"):
        run(dataclasses.replace(job, model="only roads"))
    with pytest.raises(ModelError, match="without the class building"):
        run(dataclasses.replace(job, model=str(folder / "b.aftermap")))


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"threshold": 1.5}, JobError, "threshold of 1.5"),
        ({"min_area_m2": float("nan")}, JobError, "smallest area of nan"),
        ({"output_buildings": "houses.shp"}, JobError, r"ends in \.gpkg"),
        ({"output_buildings": "", "output_probability": ""}, JobError, "write nothing"),
        ({"output_buildings": "/proc/sub/houses.gpkg"}, OutputError, "cannot be written to"),
        ({"raster": "/nowhere.tif"}, RasterError, "nowhere.tif"),
        ({"bands": (1, 2)}, ModelError, "sees 3 bands .* and 2 were given"),
        ({"extent": (0.0, 0.0, 10.0, 10.0)}, JobError, "does not touch"),
    ],
)
def test_bad_input_is_one_sentence(
    job: DetectBuildings, fields: dict[str, Any], error: type[AftermapError], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        run(dataclasses.replace(job, **fields))
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)
    assert not Path(job.output_probability).parent.exists()


# --------------------------------------------------------------------------------------- command line


def test_the_command_line_runs_it(
    scene: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(model), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    status = command_line.main(
        ["detect-buildings", str(scene), *options, "--min-area", "300", "--no-regularize", "--device", "cpu"]
    )
    assert status == command_line.DONE
    with rasterio.open(tmp_path / "out" / "scene_building_probability.tif") as probability:
        assert probability.count == 1
    layer = geopandas.read_file(tmp_path / "out" / "scene_buildings.gpkg")
    assert (layer.area_m2 >= 290).all()
    assert f"buildings       {len(layer)}" in capsys.readouterr().out
