"""Jobs, events, errors and cards keep their meaning across the process line and on disk."""

from __future__ import annotations

import dataclasses
import json
import math
import zipfile
from pathlib import Path

import pytest

from aftermap.core import errors
from aftermap.core.cards import (
    CARD_NAME,
    STARTER_FOLDER,
    Card,
    Package,
    best_fit,
    card_from_json,
    find_damage_package,
    find_package,
    list_packages,
    read_package,
)
from aftermap.core.errors import AftermapError, JobError, ModelError, OutputError, RasterError, error_named
from aftermap.core.flows import FLOWS
from aftermap.core.jobs import (
    CONTRACT_VERSION,
    EVENT_TYPES,
    JOB_TYPES,
    AssessDamage,
    CompareRuns,
    CopyTiles,
    DescribeRaster,
    DetectBuildings,
    EvaluateModel,
    Event,
    ExportTrainingTiles,
    Failure,
    Figure,
    FindLearningRate,
    GenerateScenes,
    Job,
    Metric,
    Partial,
    PlanTraining,
    Progress,
    Result,
    ScanTiles,
    SegmentRoads,
    TrainModel,
    VectorizeProbabilities,
    Warning,
    event_from_json,
    job_from_json,
    to_json,
)

JOBS: list[Job] = [
    SegmentRoads(
        raster="/vsizip/Żółw scenes.zip/post event.tif",
        bands=(4, 3, 2),
        extent=(25.5, 36.25, 25.75, 36.5),
        extent_crs="EPSG:4326",
        threshold=0.35,
        gsd_m=0.3,
        model_folders=("models",),
    ),
    VectorizeProbabilities(probability="p.tif", threshold=0.25),
    DetectBuildings(raster="scene.tif", threshold=0.4, regularize=False),
    AssessDamage(post="after.tif", pre="before.tif", nudge_m=(1.5, -2.0), post_date="2023-02-07"),
    DescribeRaster(raster="line\nbreak.tif", bands=(1,)),
    TrainModel(folders=("tiles", "more tiles"), output="m.aftermap", architecture={"name": "unet"}),
    ScanTiles(folders=("tiles",), mask_value="#ffff00"),
    PlanTraining(folders=("tiles",), output="m.aftermap", schedule="step", epochs=5, preview="preview"),
    FindLearningRate(folders=("tiles",), output="m.aftermap", figure="curve.png"),
    ExportTrainingTiles(raster="scene.tif", labels="roads.gpkg", folder="tiles", bands=(3, 2, 1)),
    CopyTiles(folders=("tiles",), folder="selected", min_share=0.2),
    EvaluateModel(model="m.aftermap", folder="tiles"),
    CompareRuns(models=("a.aftermap", "b.aftermap"), folder="tiles", report="report"),
    GenerateScenes(folder="scenes", count=2),
]
EVENTS: list[Event] = [
    Progress(0.25, "3 of 12 tiles"),
    Metric("loss", {"train": 0.5, "validation": None}, step=10),
    Figure("Learning curve", "curve.png"),
    Partial("buildings", "partial/buildings-1.gpkg", 12, {"levels": [{"code": 4, "name": "destroyed"}]}),
    Warning("Grey imagery is shown to the model as three equal bands."),
    Result({"polygons": "roads.gpkg"}, {"device": "cpu", "polygons": 12}),
    Failure("RasterError", "It cannot be read.", "Traceback …"),
]

CARD = Card(
    name="roads-test",
    title="Roads, for a test",
    task="roads",
    architecture={"name": "unet", "encoder": "mobilenet_v2"},
    classes=({"code": 1, "name": "road", "colour": "#e6007e"},),
    bands=("red", "green", "blue"),
    radiometry={"scaling": "per type", "mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]},
    gsd_m=0.8,
    gsd_range_m=(0.2, 2.0),
    tile_px=512,
    margin_px=64,
    stride_px=32,
    threshold=0.35,
    threshold_low=0.15,
    metrics=({"data": "somewhere", "tiles": 3, "iou": 0.5},),
)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: type(job).__name__)
def test_a_job_survives_its_line(job: Job) -> None:
    line = to_json(job)
    assert "\n" not in line
    assert job_from_json(line) == job
    assert to_json(job_from_json(line)) == line, "the line is the key of the cache: it must be stable"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives_its_line(event: Event) -> None:
    line = to_json(event)
    assert "\n" not in line
    assert event_from_json(line) == event


def test_each_job_and_each_event_is_tried_here() -> None:
    assert {type(j).__name__ for j in JOBS} == set(JOB_TYPES)
    assert {type(e).__name__ for e in EVENTS} == set(EVENT_TYPES)


def test_every_job_has_a_flow() -> None:
    assert set(FLOWS) == set(JOB_TYPES)


def test_only_a_result_and_a_failure_end_a_run() -> None:
    assert {type(e).__name__ for e in EVENTS if e.is_last} == {"Result", "Failure"}


def test_a_metric_that_is_not_a_number_arrives_as_such() -> None:
    event = event_from_json(to_json(Metric("loss", {"train": math.nan})))
    assert isinstance(event, Metric)
    assert math.isnan(event.values["train"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("not JSON", "Not a line of JSON"),
        ("[1, 2]", "Not a JSON object"),
        (json.dumps({"type": "SegmentRoads", "raster": "a.tif"}), "restart QGIS"),
        (
            json.dumps({"type": "SegmentRoads", "raster": "a.tif", "version": CONTRACT_VERSION + 1}),
            "restart QGIS",
        ),
        (
            json.dumps({"type": "Progress", "fraction": 1, "version": CONTRACT_VERSION}),
            "Unknown message 'Progress'",
        ),
        (json.dumps({"type": "SegmentRoads", "version": CONTRACT_VERSION}), "incomplete"),
        (
            json.dumps(
                {"type": "SegmentRoads", "raster": "a.tif", "treshold": 0.5, "version": CONTRACT_VERSION}
            ),
            "no field treshold",
        ),
    ],
)
def test_a_line_that_is_no_job_is_refused_in_a_sentence(line: str, says: str) -> None:
    with pytest.raises(JobError, match=says):
        job_from_json(line)


def test_a_job_is_no_event() -> None:
    with pytest.raises(JobError, match="Unknown message 'SegmentRoads'"):
        event_from_json(json.dumps({"type": "SegmentRoads", "raster": "a.tif"}))


@pytest.mark.parametrize("name", [n for n, c in vars(errors).items() if isinstance(c, type)])
def test_an_error_crosses_the_line_as_what_it_is(name: str) -> None:
    error = error_named(name, "What, which file, what next.")
    assert type(error).__name__ == name
    assert str(error) == "What, which file, what next."


@pytest.mark.parametrize("name", ["KeyError", "annotations", "error_named", "", "Cancelled"])
def test_an_unknown_kind_of_error_is_still_one_of_ours(name: str) -> None:
    assert type(error_named(name, "Something.")) is AftermapError


def test_errors_are_also_what_a_caller_would_expect() -> None:
    assert issubclass(RasterError, OSError)
    assert issubclass(OutputError, OSError)
    assert issubclass(JobError, ValueError)


def test_a_card_survives_its_file() -> None:
    assert card_from_json(CARD.to_json(), Path(CARD_NAME)).to_json() == CARD.to_json()


def test_a_damage_card_lists_the_levels_that_are_supported() -> None:
    levels = ({"code": 1, "name": "no visible damage"}, {"code": 4, "name": "destroyed or damaged"})
    card = dataclasses.replace(CARD, task="damage", classes=levels)
    text = card.to_json()
    assert json.loads(text)["levels_supported"] == ["no visible damage", "destroyed or damaged"]
    assert card_from_json(text, Path(CARD_NAME)).to_json() == text
    assert "levels_supported" not in json.loads(CARD.to_json())


@pytest.mark.parametrize("path", STARTER_FOLDER.parent.glob("models*/**/damage*"), ids=lambda path: path.stem)
def test_damage_models_come_with_their_levels_on_the_card(path: Path) -> None:
    text = zipfile.ZipFile(path).read(CARD_NAME) if path.suffix else (path / CARD_NAME).read_bytes()
    assert json.loads(text)["levels_supported"] == list(read_package(path).card.levels_supported)


def test_a_card_may_hold_what_a_later_version_adds() -> None:
    body = {**json.loads(CARD.to_json()), "orientation": "north"}
    assert card_from_json(json.dumps(body), Path(CARD_NAME)).name == CARD.name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not readable"),
        ("[]", "not readable"),
        ("{}", "of format None"),
        (CARD.to_json().replace("aftermap-model/1", "aftermap-model/9"), "update Aftermap"),
        (json.dumps({"format": "aftermap-model/1", "name": "x"}), "incomplete"),
    ],
)
def test_a_broken_card_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as raised:
        card_from_json(text, Path("broken.aftermap"))
    assert "broken.aftermap" in str(raised.value)


def write_card(path: Path, card: Card) -> Path:
    """A package as far as its card goes, as a zip or a folder."""
    if path.suffix:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(CARD_NAME, card.to_json())
    else:
        path.mkdir()
        (path / CARD_NAME).write_text(card.to_json(), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["roads.aftermap", "roads"])
def test_a_package_is_a_zip_or_a_folder(tmp_path: Path, name: str) -> None:
    path = write_card(tmp_path / name, CARD)
    assert read_package(path).card.to_json() == CARD.to_json()


def test_what_is_no_package_is_refused_in_a_sentence(tmp_path: Path) -> None:
    text = tmp_path / "notes.aftermap"
    text.write_text("not a zip")
    for path in (text, tmp_path, tmp_path / "missing.aftermap"):
        with pytest.raises(ModelError, match="is no model package"):
            read_package(path)


def test_a_broken_package_does_not_hide_the_good_ones(tmp_path: Path) -> None:
    write_card(tmp_path / "good.aftermap", CARD)
    (tmp_path / "bad.aftermap").write_text("not a zip")
    write_card(tmp_path / "damage.aftermap", dataclasses.replace(CARD, name="damage-test", task="damage"))
    names = {p.card.name for p in list_packages([tmp_path, tmp_path / "missing"], task="roads")}
    assert "roads-test" in names
    assert "damage-test" not in names


def test_a_model_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = write_card(tmp_path / "file.aftermap", CARD)
    assert find_package("roads-test", [tmp_path]).path == path
    assert find_package(str(path)).card.name == "roads-test"
    with pytest.raises(ModelError, match="roads-test"):
        find_package("raods-test", [tmp_path])
    with pytest.raises(ModelError, match="not for damage"):
        find_package(str(path), task="damage")


def package(name: str, bands: int, gsd_m: float) -> Package:
    card = dataclasses.replace(CARD, name=name, bands=tuple("rgbnxyz"[:bands]), gsd_m=gsd_m)
    return Package(Path(f"{name}.aftermap"), card)


@pytest.mark.parametrize(
    ("bands", "gsd_m", "expected"),
    [
        (3, 0.5, "fine"),
        (3, 1.2, "coarse"),
        (1, 0.5, "fine"),  # grey is shown as three equal bands
        (4, 0.5, "infrared"),
        (3, None, "coarse"),  # nothing to tell them apart: by name, so the same each time
    ],
)
def test_the_best_fit_uses_most_bands_at_the_nearest_resolution(
    bands: int, gsd_m: float | None, expected: str
) -> None:
    models = [package("fine", 3, 0.5), package("coarse", 3, 1.0), package("infrared", 4, 1.0)]
    assert best_fit(models, bands, gsd_m).card.name == expected


def test_no_fit_is_a_sentence() -> None:
    with pytest.raises(ModelError, match="No model fits a raster of 3 bands"):
        best_fit([package("infrared", 4, 1.0)], 3, 0.5)


def test_damage_models_of_the_user_come_before_the_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    starter, own = tmp_path / "starter", tmp_path / "own"
    monkeypatch.setattr("aftermap.core.cards.STARTER_FOLDER", starter)
    with pytest.raises(ModelError, match="no damage model"):
        find_damage_package("", [own])
    for folder, name in ((starter, "a-generated"), (own, "b-real")):
        card = dataclasses.replace(CARD, name=name, task="damage")
        (folder / name).mkdir(parents=True)
        (folder / name / CARD_NAME).write_text(card.to_json(), encoding="utf-8")
    assert find_damage_package("", []).card.name == "a-generated"
    assert find_damage_package("", [own]).card.name == "b-real"
    assert find_damage_package("a-generated", [own]).card.name == "a-generated"
