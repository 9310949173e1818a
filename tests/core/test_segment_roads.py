"""Segment Roads as a whole: a raster and a model in, layers out; stopped anywhere, it goes on from there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from shapely.geometry import box

from aftermap.core import cards
from aftermap.core.describe_raster import describe_raster
from aftermap.core.errors import (
    AftermapError,
    GroundResolutionError,
    JobError,
    ModelError,
    OutputError,
    RasterError,
    VectorError,
)
from aftermap.core.jobs import (
    DescribeRaster,
    Progress,
    Result,
    SegmentRoads,
    VectorizeProbabilities,
    Warning,
    to_json,
)
from aftermap.core.raster.probability import NODATA, read_tags
from aftermap.core.segment_roads import segment_roads
from aftermap.core.vectorize_probabilities import vectorize_probabilities

from .bright_model import UTM, draw_roads, save_bright_model, write_scene

ROOT = Path(__file__).resolve().parents[2]
PHASES = (
    "Loading the model",
    "Segmenting: tile 0",
    "Segmenting: tile 5",
    "Writing the probability raster",
    "Tracing roads",
    "Tracing roads: part",
    "Putting the files",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bright_model(tmp_path_factory.mktemp("model") / "bright.aftermap")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif")


@pytest.fixture
def job(model: Path, scene: Path, tmp_path: Path, unbroken: SegmentRoads) -> SegmentRoads:
    return job_like(unbroken, tmp_path)


@pytest.fixture(scope="module")
def unbroken(model: Path, scene: Path, tmp_path_factory: pytest.TempPathFactory) -> SegmentRoads:
    job = job_for(model, scene, tmp_path_factory.mktemp("unbroken"))
    finish(job)
    return job


def job_like(other: SegmentRoads, folder: Path) -> SegmentRoads:
    """The same job elsewhere, in a cache of its own."""
    return job_for(Path(other.model), Path(other.raster), folder)


def job_for(model: Path, scene: Path, folder: Path, **fields: Any) -> SegmentRoads:
    out = folder / "out"
    return SegmentRoads(
        **{
            "raster": str(scene),
            "model": str(model),
            "output_probability": str(out / "scene_road_probability.tif"),
            "output_polygons": str(out / "scene_road_polygons.gpkg"),
            "output_centrelines": str(out / "scene_road_centrelines.gpkg"),
            "cache": str(folder / "cache"),
            "device": "cpu",
            **fields,
        }
    )


def finish(job: SegmentRoads | VectorizeProbabilities) -> tuple[Result, list[str], list[str]]:
    """Run a job to its end: the result, the progress messages, the warnings."""
    flow = segment_roads if isinstance(job, SegmentRoads) else vectorize_probabilities
    events = list(flow(job))
    fractions = [e.fraction for e in events if isinstance(e, Progress)]
    assert fractions == sorted(fractions)
    assert all(0.0 <= f <= 1.0 for f in fractions)
    assert isinstance(events[-1], Result)
    return (
        events[-1],
        [e.message for e in events if isinstance(e, Progress)],
        [e.message for e in events if isinstance(e, Warning)],
    )


def run_until(job: SegmentRoads, message: str) -> None:
    """Run a job until it says something that begins so, and cancel it there."""
    events = segment_roads(job)
    for event in events:
        if isinstance(event, Progress) and event.message.startswith(message):
            events.close()
            return
    pytest.fail(f"the run never said {message!r}")


def read_pixels(path: str | Path) -> np.ndarray[Any, Any]:
    with rasterio.open(path) as file:
        return file.read(1)


def read_outputs(job: SegmentRoads) -> tuple[np.ndarray[Any, Any], list[geopandas.GeoDataFrame]]:
    layers = [geopandas.read_file(p) for p in (job.output_polygons, job.output_centrelines)]
    return read_pixels(job.output_probability), [layer.drop(columns="date") for layer in layers]


def assert_same(job: SegmentRoads, other: SegmentRoads) -> None:
    (pixels, layers), (other_pixels, other_layers) = read_outputs(job), read_outputs(other)
    np.testing.assert_array_equal(pixels, other_pixels)
    for layer, other_layer in zip(layers, other_layers, strict=True):
        assert layer.equals(other_layer)


def is_untouched(job: SegmentRoads) -> bool:
    return not Path(job.output_probability).parent.exists()


def kept_work(job: SegmentRoads) -> list[Path]:
    return list((Path(job.cache) / "runs").iterdir())


# --------------------------------------------------------------------------------------- the results


def test_bright_streets_become_a_raster_and_two_layers(job: SegmentRoads, scene: Path) -> None:
    result, messages, warnings = finish(job)
    with rasterio.open(scene) as source, rasterio.open(job.output_probability) as probability:
        assert probability.transform == source.transform
        assert probability.crs == source.crs
        assert (probability.dtypes, probability.nodata) == (("uint8",), NODATA)
        assert probability.overviews(1) or max(probability.shape) <= 512
        truth = source.read(1) > 128
        assert ((probability.read(1) > 127) == truth).all()
    polygons, lines = geopandas.read_file(job.output_polygons), geopandas.read_file(job.output_centrelines)
    assert polygons.crs == lines.crs == UTM
    assert polygons.area.sum() == pytest.approx(truth.sum(), rel=1e-6)
    assert {"class", "area_m2", "mean_prob", "model", "source", "date"} <= set(polygons.columns)
    assert set(polygons["source"]) == {"scene.tif"}
    assert result.values["polygons"] == len(polygons)
    assert result.values["centrelines"] == len(lines)
    assert result.values["length_m"] == pytest.approx(lines["length_m"].sum())
    assert result.values["area_m2"] == pytest.approx(polygons["area_m2"].sum())
    assert (result.values["threshold"], result.values["uncertain_from"]) == (0.5, 0.2)
    assert result.values["device"] == "cpu"
    assert any("Segmenting: tile 12 of 12" in m and "megapixels/s" in m for m in messages)
    assert not warnings
    assert kept_work(job) == []


def test_the_manifest_stands_beside_and_in_every_output(job: SegmentRoads, scene: Path) -> None:
    result, _, _ = finish(job)
    manifest = json.loads(Path(result.outputs["manifest"]).read_text())
    assert Path(result.outputs["manifest"]).name == "scene_roads.manifest.json"
    assert manifest["job"] == json.loads(to_json(job))
    assert manifest["model"]["name"] == "bright"
    assert len(manifest["model"]["sha256"]) == 64
    assert manifest["inputs"]["raster"]["size"] == scene.stat().st_size
    assert manifest["prediction"] == {"device": "cpu", "precision": result.values["precision"], "tiles": 12}
    assert {"aftermap", "torch", "rasterio", "gdal", "python"} <= set(manifest["versions"])
    assert manifest["started"] <= manifest["finished"]
    for layer in (job.output_polygons, job.output_centrelines):
        assert json.loads(pyogrio.read_info(layer)["dataset_metadata"]["AFTERMAP_MANIFEST"]) == manifest
    inside = read_tags(Path(job.output_probability)).manifest
    assert inside == {key: manifest[key] for key in inside}
    assert {"job", "model", "inputs", "prediction", "settings", "versions"} <= set(inside)


@pytest.mark.parametrize("wanted", ["output_probability", "output_polygons", "output_centrelines"])
def test_outputs_that_are_not_wanted_are_not_made(job: SegmentRoads, wanted: str) -> None:
    names = ("output_probability", "output_polygons", "output_centrelines")
    only = dataclasses.replace(job, **{name: "" for name in names if name != wanted})
    result, messages, _ = finish(only)
    out = Path(getattr(job, wanted))
    assert sorted(p.name for p in out.parent.iterdir()) == sorted([out.name, "scene_roads.manifest.json"])
    assert set(result.outputs) == {wanted.removeprefix("output_"), "manifest"}
    assert any("Tracing" in m for m in messages) is (wanted != "output_probability")
    assert any("Writing" in m for m in messages) is (wanted == "output_probability")


def test_vectors_made_anew_equal_those_of_the_run(job: SegmentRoads, tmp_path: Path) -> None:
    finish(job)
    again = VectorizeProbabilities(
        probability=job.output_probability,
        output_polygons=str(tmp_path / "again" / "polygons.gpkg"),
        output_centrelines=str(tmp_path / "again" / "centrelines.gpkg"),
        cache=job.cache,
    )
    result, _, _ = finish(again)
    for new, old in (
        (again.output_polygons, job.output_polygons),
        (again.output_centrelines, job.output_centrelines),
    ):
        assert geopandas.read_file(new).equals(geopandas.read_file(old))
    assert result.values["threshold"] == 0.5
    assert json.loads(Path(result.outputs["manifest"]).read_text())["prediction"]["model"]["name"] == "bright"
    assert kept_work(job) == []


def test_a_stated_threshold_is_used_and_the_lower_one_keeps_its_ratio(scene: Path, tmp_path: Path) -> None:
    model = save_bright_model(tmp_path / "low.aftermap", threshold=0.4, threshold_low=0.2)
    job = job_for(model, scene, tmp_path, threshold=0.8)
    result, _, _ = finish(job)
    tags = read_tags(Path(job.output_probability))
    assert (tags.threshold, tags.threshold_low) == (0.8, pytest.approx(0.4))
    assert (result.values["threshold"], result.values["uncertain_from"]) == (0.8, 0.2)


def test_an_area_of_interest_leaves_tiles_and_pixels_out(job: SegmentRoads, tmp_path: Path) -> None:
    area = box(300_000, 4_099_950, 300_060, 4_100_000)
    geopandas.GeoDataFrame(geometry=[area], crs=UTM).to_crs(4326).to_file(tmp_path / "aoi.gpkg")
    result, _, _ = finish(dataclasses.replace(job, aoi=str(tmp_path / "aoi.gpkg")))
    pixels = read_pixels(job.output_probability)
    assert result.values["tiles"] == 1
    assert (pixels[:49, :59] != NODATA).all()
    assert (pixels[52:, :] == NODATA).all()
    assert (pixels[:, 62:] == NODATA).all()
    assert geopandas.read_file(job.output_polygons).union_all().difference(area.buffer(2)).is_empty


def test_an_extent_in_another_crs_is_brought_to_the_raster(job: SegmentRoads) -> None:
    bounds = (
        geopandas.GeoSeries([box(300_000, 4_099_950, 300_060, 4_100_000)], crs=UTM).to_crs(4326).total_bounds
    )
    result, _, _ = finish(
        dataclasses.replace(job, extent=tuple(float(v) for v in bounds), extent_crs="EPSG:4326")
    )
    assert result.values["tiles"] == 1
    assert 2900 < (read_pixels(job.output_probability) != NODATA).sum() < 3400


def test_the_best_fitting_model_is_found_where_none_is_named(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    save_bright_model(folder / "a.aftermap", name="fits", gsd_m=0.99)
    save_bright_model(folder / "b.aftermap", name="too coarse", gsd_m=8.0, gsd_range_m=(4, 16))
    monkeypatch.setattr(cards, "STARTER_FOLDER", folder)
    asked = [*describe_raster(DescribeRaster(str(scene)))][-1]
    assert asked.values["model"] == "fits"
    job = dataclasses.replace(job_for(folder, scene, tmp_path), model="")
    assert finish(job)[0].values["model"] == "fits"


def test_transparency_is_no_band_for_the_best_fit(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    save_bright_model(folder / "three.aftermap", name="three")
    four = {"architecture": {"name": "textbook_unet", "bands": 4, "heads": ["road"], "width": 2}}
    radiometry = {"scaling": "unit", "mean": [0.0] * 4, "std": [1.0] * 4}
    save_bright_model(
        folder / "four.aftermap", name="four", bands=tuple("rgbn"), radiometry=radiometry, **four
    )
    monkeypatch.setattr(cards, "STARTER_FOLDER", folder)
    with rasterio.open(scene) as source:
        profile = {**source.profile, "count": 4, "photometric": "RGB", "alpha": "yes"}
        pixels = source.read()
    path = tmp_path / "rgba.tif"
    with rasterio.open(path, "w", **profile) as target:
        target.write(np.concatenate([pixels, np.full_like(pixels[:1], 255)]))
    assert [*describe_raster(DescribeRaster(str(path)))][-1].values["model"] == "three"


# ---------------------------------------------------------------------------------- stopped anywhere


@pytest.mark.parametrize("phase", PHASES)
def test_a_cancelled_run_leaves_nothing_and_the_next_equals_an_unbroken_one(
    job: SegmentRoads, unbroken: SegmentRoads, phase: str
) -> None:
    threads = threading.active_count()
    run_until(job, phase)
    assert is_untouched(job)
    assert threading.active_count() == threads
    finish(job)
    assert_same(job, unbroken)
    assert kept_work(job) == []


# Moment of the kill: a message of the run, or a file in its cache; and what the next run says first.
KILLS = {
    "message Loading": "Loading the model",
    "message Segmenting: tile 7": "Loading the model",
    "file probability.tif": "Writing the probability raster",
    "file polygons.gpkg": "Tracing roads",
    "file centrelines.gpkg": "Tracing roads",
    "end": "Putting the files",
}

# Runs each job in a child of its own, which is killed at its moment. One process loads torch for all of them.
KILLER = """
import os, signal, sys, threading
from pathlib import Path
import aftermap.core.networks.segmenter
import aftermap.core.vector.road_layers
from aftermap.core.flows import run_flow
from aftermap.core.jobs import Progress, job_from_json

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def watch(cache, name):
    while not any(Path(cache).rglob(name)):
        pass
    die()

def run(job, how, what):
    if how == "file":
        threading.Thread(target=watch, args=(job.cache, what), daemon=True).start()
    for event in run_flow(job):
        if how == "message" and isinstance(event, Progress) and event.message.startswith(what):
            die()
        if how == "end" and isinstance(event, Progress) and event.fraction == 1.0:
            die()
    print(event, file=sys.stderr)

for line, moment in zip(sys.argv[1::2], sys.argv[2::2]):
    child = os.fork()
    if not child:
        run(job_from_json(line), *moment.partition(" ")[::2])
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def killed(unbroken: SegmentRoads, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SegmentRoads]:
    """A job for each moment, that was killed there."""
    jobs = {moment: job_like(unbroken, tmp_path_factory.mktemp("killed")) for moment in KILLS}
    arguments = [part for moment, job in jobs.items() for part in (to_json(job), moment)]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["-9"] * len(jobs), done.stderr
    return jobs


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_run_leaves_nothing_and_the_next_equals_an_unbroken_one(
    killed: dict[str, SegmentRoads], unbroken: SegmentRoads, moment: str
) -> None:
    job = killed[moment]
    out = Path(job.output_probability).parent
    assert not out.exists() or not any(out.iterdir())
    _, messages, _ = finish(job)
    assert messages[0].startswith(KILLS[moment])
    assert_same(job, unbroken)
    assert kept_work(job) == []


def test_finished_tiles_are_not_computed_again(job: SegmentRoads) -> None:
    run_until(job, "Segmenting: tile 12")
    _, messages, _ = finish(job)
    first = next(m for m in messages if m.startswith("Segmenting"))
    assert int(first.split()[2]) >= 4


def test_another_threshold_after_a_cancelled_tracing_needs_no_new_prediction(job: SegmentRoads) -> None:
    run_until(job, "Tracing roads")
    result, messages, _ = finish(dataclasses.replace(job, threshold=0.3))
    assert not any(m.startswith(("Loading", "Segmenting")) for m in messages)
    assert result.values["threshold"] == 0.3
    assert read_tags(Path(job.output_probability)).threshold == 0.3


def test_without_resume_everything_is_computed_again(job: SegmentRoads) -> None:
    run_until(job, "Tracing roads")
    _, messages, _ = finish(dataclasses.replace(job, resume=False))
    assert any(m.startswith("Segmenting: tile 0") for m in messages)


def test_a_raster_that_changed_is_predicted_again(model: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    job = job_for(model, scene, tmp_path)
    run_until(job, "Tracing roads")
    write_scene(scene, draw_roads(300, 420)[:, ::-1].copy())
    finish(job)
    with rasterio.open(scene) as source:
        assert ((read_pixels(job.output_probability) > 127) == (source.read(1) > 128)).all()


# ------------------------------------------------------------------------------------------ bad input


@pytest.fixture
def refused(job: SegmentRoads) -> Iterator[Any]:
    """Run a job with changed fields; it must raise one sentence and leave nothing."""

    def refuse(error: type[AftermapError], part: str, **fields: Any) -> None:
        changed = dataclasses.replace(job, **fields)
        with pytest.raises(error, match=part) as raised:
            finish(changed)
        message = str(raised.value)
        assert type(raised.value) is error
        assert message.endswith(".")
        assert "\n" not in message

    yield refuse
    assert is_untouched(job)


def test_a_missing_raster(refused: Any) -> None:
    refused(RasterError, "nowhere.tif", raster="/nowhere.tif")


def test_a_truncated_raster(refused: Any, scene: Path, tmp_path: Path) -> None:
    (tmp_path / "half.tif").write_bytes(scene.read_bytes()[: scene.stat().st_size // 2])
    refused(RasterError, r"half\.tif", raster=str(tmp_path / "half.tif"))


def test_a_raster_of_nodata_alone(refused: Any, tmp_path: Path) -> None:
    empty = write_scene(tmp_path / "empty.tif", np.zeros((3, 200, 200), np.uint8), nodata=0)
    refused(RasterError, "no valid pixel", raster=str(empty))


def test_a_raster_without_crs_needs_its_ground_resolution(refused: Any, tmp_path: Path) -> None:
    bare = write_scene(tmp_path / "bare.tif", crs=None, transform=None)
    refused(GroundResolutionError, r"state the ground resolution \(GSD\)", raster=str(bare))


def test_a_model_with_other_bands(refused: Any, tmp_path: Path) -> None:
    four = save_bright_model(
        tmp_path / "four.aftermap",
        architecture={"name": "textbook_unet", "bands": 4, "heads": ["road"], "width": 2},
        bands=("red", "green", "blue", "nir"),
        radiometry={"scaling": "unit", "mean": [0.0] * 4, "std": [1.0] * 4},
    )
    refused(ModelError, "sees 4 bands and .* offers 3", model=str(four))
    refused(ModelError, "sees 3 bands .* and 2 were given", bands=(1, 2))


def test_a_damaged_model(refused: Any, model: Path, tmp_path: Path) -> None:
    (tmp_path / "half.aftermap").write_bytes(model.read_bytes()[:300])
    refused(ModelError, r"half\.aftermap is no model package", model=str(tmp_path / "half.aftermap"))


def test_a_resolution_far_from_the_models(refused: Any, tmp_path: Path) -> None:
    coarse = write_scene(tmp_path / "coarse.tif", transform=Affine(10, 0, 300_000, 0, -10, 4_100_000))
    refused(GroundResolutionError, "measure 10 m .* 0.5 to 1.5 m", raster=str(coarse))


def test_a_resolution_a_little_outside_the_models_is_a_warning(model: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "coarse.tif", transform=Affine(2, 0, 300_000, 0, -2, 4_100_000))
    _, _, warnings = finish(job_for(model, scene, tmp_path))
    assert any("measure 2 m" in warning for warning in warnings)


def test_outputs_that_cannot_be_written(refused: Any, tmp_path: Path) -> None:
    refused(OutputError, "/proc cannot be written to", output_polygons="/proc/sub/roads.gpkg")
    refused(JobError, r"ends in \.gpkg", output_polygons=str(tmp_path / "roads.shp"))
    refused(JobError, "write nothing", output_probability="", output_polygons="", output_centrelines="")


def test_the_raster_itself_is_never_an_output(refused: Any, scene: Path) -> None:
    before = scene.read_bytes()
    refused(JobError, "is read by this run", output_probability=str(scene))
    assert scene.read_bytes() == before


def test_numbers_that_make_no_sense(refused: Any) -> None:
    refused(JobError, "threshold of 1.5", threshold=1.5)
    refused(JobError, "threshold of nan", threshold=float("nan"))
    refused(JobError, "smallest area of -1", min_area_m2=-1.0)
    refused(JobError, "simplification of inf", simplify_m=float("inf"))


def test_places_that_do_not_touch_the_raster(refused: Any, tmp_path: Path) -> None:
    refused(JobError, "does not touch", extent=(0.0, 0.0, 10.0, 10.0))
    refused(VectorError, "aoi", aoi=str(tmp_path / "no_aoi.gpkg"))


@pytest.mark.parametrize("kilobytes", [100, 280, 340, 420])
def test_a_full_disk(refused: Any, job: SegmentRoads, tmp_path: Path, kilobytes: int) -> None:
    """Rows are 126 kB, the raster a few, each layer about 100: each size fills the disk in another phase."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a disk")
    try:
        refused(OutputError, "room", cache=str(disk))
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        finish(dataclasses.replace(job, cache=str(disk), output_probability=str(tmp_path / "roomy.tif")))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    for path in (job.output_polygons, job.output_centrelines):
        Path(path).unlink()
    Path(job.output_polygons).parent.rmdir()


# ---------------------------------------------------------------------------------- unusual rasters


def test_without_crs_but_with_ground_resolution_the_layers_are_in_pixels(model: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "bare.tif", crs=None, transform=None)
    job = job_for(model, scene, tmp_path, gsd_m=1.0)
    finish(job)
    polygons = geopandas.read_file(job.output_polygons)
    assert polygons.crs is None
    assert polygons.total_bounds.tolist() == [0.0, -300.0, 420.0, 0.0]
    assert polygons["area_m2"].sum() == pytest.approx(polygons.area.sum())


def test_a_constant_raster_has_no_roads(model: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "flat.tif", np.full((3, 200, 300), 60, np.uint8))
    job = job_for(model, scene, tmp_path)
    result, _, warnings = finish(job)
    assert any("same everywhere" in warning for warning in warnings)
    assert np.unique(read_pixels(job.output_probability)).size == 1
    assert result.values["polygons"] == result.values["centrelines"] == 0
    for path in (job.output_polygons, job.output_centrelines):
        assert len(geopandas.read_file(path)) == 0
        assert pyogrio.read_info(path)["crs"] == UTM


def test_a_raster_smaller_than_a_tile(model: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "small.tif", draw_roads(50, 70))
    job = job_for(model, scene, tmp_path)
    finish(job)
    with rasterio.open(scene) as source:
        assert ((read_pixels(job.output_probability) > 127) == (source.read(1) > 128)).all()


def test_a_geographic_raster_is_measured_in_true_metres(model: Path, tmp_path: Path) -> None:
    at_60_north = Affine(1 / 55_800, 0, 30.0, 0, -1 / 111_412, 60.0)
    scene = write_scene(tmp_path / "geographic.tif", crs="EPSG:4326", transform=at_60_north)
    job = job_for(model, scene, tmp_path)
    result, _, _ = finish(job)
    truth = (draw_roads(300, 420)[0] > 128).sum()
    assert geopandas.read_file(job.output_polygons).crs == "EPSG:4326"
    assert result.values["area_m2"] == pytest.approx(truth, rel=0.02)


# ------------------------------------------------------------------------------------ as QGIS runs it


def test_the_worker_runs_cancels_and_goes_on(job: SegmentRoads, unbroken: SegmentRoads) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-I", "-u", str(ROOT / "core" / "launcher.py"), "worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def send(line: str) -> None:
        worker.stdin.write(line + "\n")
        worker.stdin.flush()

    def last() -> dict[str, Any]:
        while (event := json.loads(worker.stdout.readline()))["type"] not in ("Result", "Failure"):
            pass
        return event

    with worker:
        send(to_json(job))
        send('{"type": "Cancel"}')
        assert last()["kind"] == "Cancelled"
        assert is_untouched(job)
        send(to_json(job))
        result = last()
        assert Path(result["outputs"]["polygons"]).is_file()
        worker.stdin.close()
        assert worker.wait(5) == 0
    assert_same(job, unbroken)
