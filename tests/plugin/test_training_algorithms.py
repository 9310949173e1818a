"""Train, evaluate and export by Processing: a real QGIS, the real worker, a few small tiles."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import pytest
from qgis.core import (
    QgsFeature,
    QgsGeometry,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("toolbox")


class Feedback(QgsProcessingFeedback):
    """Cancels at the first progress that `cancel_at` accepts."""

    def __init__(self, cancel_at=lambda text: False):
        super().__init__()
        self.texts, self.warnings = [], []
        self._cancel_at = cancel_at

    def setProgressText(self, text):  # noqa: N802
        self.texts.append(text)
        if self._cancel_at(text):
            self.cancel()

    def pushWarning(self, text):  # noqa: N802
        self.warnings.append(text)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are slower in several threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def tiles(worker_python, tmp_path_factory):
    """Ten generated tiles of 160 px."""
    folder = tmp_path_factory.mktemp("data") / "town"
    launcher = ROOT / "core" / "launcher.py"
    options = ("--count", "10", "--size", "160", "--gsd", "0.8", "--style", "grid")
    subprocess.run(
        [str(worker_python), "-I", str(launcher), "generate", str(folder), *options], check=True, timeout=120
    )
    return folder


def run(algorithm, parameters, feedback=None):
    import processing  # QGIS puts it on the path when it starts

    return processing.run(f"aftermap:{algorithm}", parameters, feedback=feedback)


def training(tiles, output):
    return {
        "FOLDER": str(tiles),
        "MODEL": "starter",
        "STEPS": 4,
        "BATCH_SIZE": 1,
        "CROP": 64,
        "DEVICE": "cpu",
        "OUTPUT_MODEL": str(output),
    }


@pytest.fixture(scope="module")
def trained(tiles, toolbox, tmp_path_factory):
    output = tmp_path_factory.mktemp("models") / "town.aftermap"
    return run("trainmodel", training(tiles, output))


def test_trained_model_is_a_package_with_scores_and_a_report(trained):
    from aftermap.core.cards import read_package

    card = read_package(Path(trained["OUTPUT_MODEL"])).card
    assert card.task == "roads"
    assert card.threshold == pytest.approx(trained["THRESHOLD"], abs=0.01)
    assert 0 < trained["IOU"] < 1
    assert "<html" in Path(trained["REPORT"]).read_text(encoding="utf-8")
    assert list(Path(trained["FIGURES"]).glob("*.png"))


def test_trained_model_segments(trained, tiles, tmp_path):
    image = next((tiles / "images").glob("*.tif"))
    parameters = {"INPUT": str(image), "MODEL": trained["OUTPUT_MODEL"]}
    results = run("segmentroads", {**parameters, "OUTPUT_PROBABILITY": str(tmp_path / "p.tif")})
    assert QgsRasterLayer(results["OUTPUT_PROBABILITY"], "p").isValid()


def test_cancelled_training_writes_no_model_and_continues(tiles, trained, tmp_path):
    parameters = training(tiles, tmp_path / "town.aftermap")
    parameters["SEED"] = 2
    assert run("trainmodel", parameters, Feedback(lambda text: "step 3 of 4" in text)) == {}
    assert not (tmp_path / "town.aftermap").exists()
    feedback = Feedback()
    assert run("trainmodel", parameters, feedback)["IOU"] > 0
    assert not [text for text in feedback.texts if "step 1 of 4" in text], "step 1 is not done again"


def test_evaluation_gives_numbers_and_a_report(trained, tiles, tmp_path):
    results = run(
        "evaluatemodel",
        {"MODEL": trained["OUTPUT_MODEL"], "FOLDER": str(tiles), "OUTPUT_REPORT": str(tmp_path / "report")},
    )
    for name in ("IOU", "F1", "PRECISION", "RECALL", "RELAXED_F1", "CLDICE", "ECE"):
        assert 0 <= results[name] <= 1, name
    assert results["TILES"] == 10
    assert results["F1"] == pytest.approx(2 * results["IOU"] / (1 + results["IOU"]))
    assert Path(results["REPORT_HTML"]).is_file()
    assert "WORST_DROP" not in results


def test_threshold_of_the_evaluation_is_the_users(trained, tiles):
    results = run("evaluatemodel", {"MODEL": trained["OUTPUT_MODEL"], "FOLDER": str(tiles), "THRESHOLD": 0.9})
    assert results["USED_THRESHOLD"] == pytest.approx(0.9)


def test_folder_without_tiles_is_a_sentence(tmp_path):
    with pytest.raises(QgsProcessingException, match=str(tmp_path)):
        run("trainmodel", {"FOLDER": str(tmp_path), "OUTPUT_MODEL": str(tmp_path / "m.aftermap")})


def test_parameters_and_job_say_the_same(tiles, qgis_processing):
    """What the dialog hands to the algorithm comes out of it as the same job."""
    from qgis.core import QgsApplication, QgsProcessingContext

    from aftermap.core.jobs import TrainModel
    from aftermap.plugin.algorithms.train_model import FIELDS, parameters_of
    from aftermap.plugin.settings import Settings

    odd = {bool: True, int: 7, float: 0.25, type(None): 0.75}
    defaults = {field: getattr(TrainModel, field) for field in FIELDS.values()}
    values = {field: odd[type(v)] for field, v in defaults.items() if not isinstance(v, str)}
    values |= {"scale_jitter": 1.5, "loss": "focal", "schedule": "step", "step_unit": "batch"}
    values |= {"sampler": "uniform", "augmentation": "mild", "device": "cpu", "mask_value": "#ffff00"}
    values |= {
        "task": "damage",
        "start_from": "scratch",
        "validation": "/v",
        "splits": "/s.json",
        "encoder_weights": "/e",
    }
    settings = Settings.load()
    job = TrainModel(
        folders=("/a", "/b c"),
        output="/m.aftermap",
        model_folders=tuple(str(folder) for folder in settings.model_folders),
        cache=settings.cache,
        **values,
    )
    assert set(FIELDS.values()) == set(values), "a new parameter wants its place here"
    algorithm = QgsApplication.processingRegistry().createAlgorithmById("aftermap:trainmodel")
    assert algorithm._job(parameters_of(job), QgsProcessingContext()) == job


@pytest.fixture(scope="module")
def towns(worker_python, tmp_path_factory):
    """Four generated towns before and after an event."""
    folder = tmp_path_factory.mktemp("data") / "towns"
    launcher = ROOT / "core" / "launcher.py"
    options = ("--damage", "--damage-share", "0.5", "--count", "4", "--size", "192", "--seed", "5")
    subprocess.run(
        [str(worker_python), "-I", str(launcher), "generate", str(folder), *options], check=True, timeout=120
    )
    return folder


@pytest.fixture(scope="module")
def trained_for_damage(towns, toolbox, tmp_path_factory):
    output = tmp_path_factory.mktemp("models") / "towns.aftermap"
    feedback = Feedback()
    parameters = {**training(towns, output), "TASK": "damage", "VALIDATION_SHARE": 0.5, "MIN_SHARE": 0.2}
    return run("trainmodel", parameters, feedback), feedback


def test_damage_model_is_trained_with_scores_of_its_own(trained_for_damage):
    from aftermap.core.cards import read_package

    results, feedback = trained_for_damage
    assert read_package(Path(results["OUTPUT_MODEL"])).card.task == "damage"
    for name in ("BUILDING_IOU", "BUILDING_F1", "MACRO_F1", "THRESHOLD"):
        assert 0 <= results[name] <= 1, name
    assert results["BUILDINGS"] > 0
    assert "F1" not in results, "there is one for each level"
    assert "Learning curves" in Path(results["REPORT"]).read_text(encoding="utf-8")
    assert any("Without effect" in text and "min share" in text for text in feedback.warnings)


def test_evaluation_of_damage_gives_its_scores_as_numbers(trained_for_damage, towns, tmp_path):
    feedback = Feedback()
    results = run(
        "evaluatemodel",
        {
            "MODEL": trained_for_damage[0]["OUTPUT_MODEL"],
            "FOLDER": str(towns),
            "PROBE": True,
            "GSD": 0.5,
            "OUTPUT_REPORT": str(tmp_path / "report"),
        },
        feedback,
    )
    for name in (
        "BUILDING_IOU",
        "BUILDING_F1",
        "MACRO_F1",
        "DESTROYED_F1",
        "AUC",
        "AUC_WITHIN_TILES",
        "XVIEW2",
    ):
        assert 0 <= results[name] <= 1, name
    assert results["BUILDINGS"] > results["TILES"] > 0
    assert "IOU" not in results
    assert "WORST_DROP" not in results
    assert Path(results["REPORT_HTML"]).is_file()
    (warning,) = feedback.warnings
    assert "the colour probe, the ground size of a pixel" in warning


@pytest.fixture
def digitised(scene):
    """The road of the scene as a line with its width in metres."""
    layer = QgsVectorLayer("LineString?crs=EPSG:32637&field=w:double", "roads", "memory")
    feature = QgsFeature(layer.fields())
    feature.setGeometry(QgsGeometry.fromWkt("LineString(500000 4099936, 500128 4099936)"))
    feature.setAttributes([8.0])
    layer.dataProvider().addFeature(feature)
    QgsProject.instance().addMapLayer(layer)
    yield layer
    QgsProject.instance().removeMapLayer(layer)


def test_exported_tiles_can_be_trained_on(scene, digitised, tmp_path):
    results = run(
        "exporttrainingtiles",
        {
            "INPUT": str(scene),
            "LABELS": digitised.id(),
            "WIDTH_FIELD": "w",
            "TILE_SIZE": 128,
            "OUTPUT": str(tmp_path / "tiles"),
        },
    )
    images = sorted(path.name for path in (tmp_path / "tiles" / "images").iterdir())
    assert results["TILES"] + results["SKIPPED"] == 4
    assert len(images) == results["TILES"]
    assert len(list((tmp_path / "tiles" / "masks").iterdir())) == results["TILES"]
    # 8 m of 128 m, in the tiles that the road crosses.
    assert results["CLASS_SHARE"] == pytest.approx(8 / 128 * 4 / results["TILES"], rel=0.15)
    layer = QgsRasterLayer(str(tmp_path / "tiles" / "images" / images[0]), "tile")
    assert layer.crs().authid() == "EPSG:32637"
    assert math.isclose(layer.rasterUnitsPerPixelX(), 0.5)


def test_export_does_not_write_into_a_folder_that_holds_tiles(scene, digitised, tmp_path):
    parameters = {
        "INPUT": str(scene),
        "LABELS": digitised.id(),
        "TILE_SIZE": 128,
        "OUTPUT": str(tmp_path / "tiles"),
    }
    run("exporttrainingtiles", parameters)
    with pytest.raises(QgsProcessingException, match="tiles"):
        run("exporttrainingtiles", parameters)


def test_layer_without_vectors_is_refused(scene, tmp_path):
    with pytest.raises(QgsProcessingException):
        run(
            "exporttrainingtiles",
            {"INPUT": str(scene), "LABELS": "/no/such.gpkg", "OUTPUT": str(tmp_path / "tiles")},
        )
