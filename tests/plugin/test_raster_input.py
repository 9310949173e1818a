"""How layers of all kinds reach the worker."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsRasterLayer,
    QgsRasterRange,
    QgsRectangle,
)
from qgis.PyQt.QtGui import QColor, QImage

from aftermap.plugin.ground_resolution import pixel_size_m, units_per_metre
from aftermap.plugin.raster_input import (
    RasterExport,
    RasterInput,
    gdal_path,
    image_band_count,
    public_origin,
)

TRANSFORMS = QgsCoordinateTransformContext()
# A tile of level 18 in EPSG:3857, near 37° N, and what lies around it.
TILE = (155000, 102000)
WORLD = 20037508.342789244
SIDE = 2 * WORLD / 2**18


@pytest.fixture
def tiles(tmp_path, qgis_new_project):
    """An XYZ layer of local tiles: bright below, dark above the middle of the four of them."""
    for column in range(2):
        for row in range(2):
            image = QImage(256, 256, QImage.Format.Format_RGB32)
            image.fill(QColor(180, 180, 180) if row else QColor(60, 60, 60))
            path = tmp_path / "tiles" / "18" / str(TILE[0] + column) / f"{TILE[1] + row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert image.save(str(path))
    url = f"file://{tmp_path}/tiles/{{z}}/{{x}}/{{y}}.png"
    layer = QgsRasterLayer(f"type=xyz&zmin=18&zmax=18&url={url}", "tiles", "wms")
    assert layer.isValid()
    return layer


@pytest.fixture
def extent():
    """The four tiles, in EPSG:3857."""
    left, top = -WORLD + TILE[0] * SIDE, WORLD - TILE[1] * SIDE
    return QgsRectangle(left, top - 2 * SIDE, left + 2 * SIDE, top)


def test_file_goes_by_its_path(scene):
    raster = RasterInput.of_layer(QgsRasterLayer(str(scene), "scene"))
    assert (raster.path, raster.is_plain, raster.crs, raster.band_count) == (str(scene), True, "", 3)


def test_file_inside_an_archive_goes_by_its_name(scene):
    archive = shutil.make_archive(str(scene.with_suffix("")), "zip", scene.parent, scene.name)
    layer = QgsRasterLayer(f"/vsizip/{archive}/{scene.name}", "scene")
    assert layer.isValid()
    raster = RasterInput.of_layer(layer)
    assert raster.path == f"/vsizip/{archive}/{scene.name}"
    assert not raster.is_plain, "the worker is asked whether it opens it"


def test_crs_is_passed_where_the_file_has_none(write_scene, tmp_path):
    layer = QgsRasterLayer(str(write_scene(tmp_path / "bare.tif", epsg=0)), "bare")
    layer.setCrs(QgsCoordinateReferenceSystem())
    assert RasterInput.of_layer(layer).crs == ""
    layer.setCrs(QgsCoordinateReferenceSystem("EPSG:32637"))
    assert RasterInput.of_layer(layer).crs == "EPSG:32637"
    layer.setCrs(QgsCoordinateReferenceSystem.fromProj("+proj=tmerc +lat_0=10 +lon_0=20 +ellps=WGS84"))
    assert "Transverse" in RasterInput.of_layer(layer).crs


def test_ground_resolution_is_true_in_any_crs(write_scene, tmp_path):
    """At 37° N a unit of EPSG:3857 is cos 37° of a metre, give or take the flattening."""
    utm = QgsRasterLayer(str(write_scene(tmp_path / "utm.tif")), "utm")
    assert pixel_size_m(utm, TRANSFORMS) == pytest.approx(0.5 / 0.9996, rel=1e-4)
    mercator = QgsCoordinateReferenceSystem("EPSG:3857")
    x, y = units_per_metre(mercator, TRANSFORMS, QgsRectangle(3e6, 4438000, 3e6 + 100, 4438100))
    assert x == pytest.approx(1.2505, rel=2e-3)
    assert y == pytest.approx(1.2560, rel=2e-3)
    bare = QgsRasterLayer(str(write_scene(tmp_path / "bare.tif", epsg=0)), "bare")
    bare.setCrs(QgsCoordinateReferenceSystem())
    assert pixel_size_m(bare, TRANSFORMS) is None


def test_tile_service_has_no_path_and_keeps_its_secrets():
    layer = QgsRasterLayer(
        "type=xyz&url=https://user:word@tiles.example/{z}/{x}/{y}.png%3Fkey%3Dsecret&zmax=18", "tiles", "wms"
    )
    assert gdal_path(layer) == ""
    assert public_origin(layer) == "tiles, https://tiles.example/{z}/{x}/{y}.png"


def test_tile_service_is_exported_at_the_models_ground_resolution(tiles, extent, tmp_path):
    path = tmp_path / "exported.tif"
    feedback = QgsProcessingFeedback()
    RasterExport.of_layer(tiles, extent, TRANSFORMS).write(path, 0.5, feedback)
    exported = QgsRasterLayer(str(path), "exported")
    assert exported.crs().authid() == "EPSG:3857"
    assert pixel_size_m(exported, TRANSFORMS) == pytest.approx(0.5, rel=0.01)
    x = extent.center().x()
    for y, grey in ((extent.yMaximum() - 10, 60), (extent.yMinimum() + 10, 180)):
        value, found = exported.dataProvider().sample(point(x, y), 1)
        assert found
        assert value == grey
    assert f"{exported.width()} × {exported.height()} pixels" in feedback.textLog()
    assert "terms of use" in feedback.textLog()


def test_layer_of_another_provider_is_exported_with_its_values(write_scene, tmp_path):
    """An open option is a way of seeing the file that only QGIS's own name for the layer knows."""
    layer = QgsRasterLayer(f"{write_scene(tmp_path / 'scene.tif')}|option:NUM_THREADS=1", "scene")
    assert layer.isValid()
    assert gdal_path(layer) == ""
    path = tmp_path / "exported.tif"
    export = RasterExport.of_layer(layer, QgsRectangle(), TRANSFORMS)
    export.write(path, 1.0, QgsProcessingFeedback())
    exported = QgsRasterLayer(str(path), "exported")
    assert (exported.width(), exported.height(), exported.bandCount()) == (256, 256, 3)
    assert exported.extent() == layer.extent()


def test_tile_service_is_segmented_and_its_source_recorded(tiles, extent, model, toolbox, tmp_path):
    import processing

    parameters = {
        "INPUT": tiles,
        "MODEL": str(model),
        "EXTENT": extent,
        "OUTPUT_PROBABILITY": str(tmp_path / "p.tif"),
    }
    results = processing.run("aftermap:segmentroads", parameters)
    layer = QgsRasterLayer(results["OUTPUT_PROBABILITY"], "p")
    x = extent.center().x()
    assert layer.dataProvider().sample(point(x, extent.yMinimum() + 10), 1)[0] > 240
    assert layer.dataProvider().sample(point(x, extent.yMaximum() - 10), 1)[0] < 10
    source = json.loads(Path(results["MANIFEST"]).read_text())["job"]["source"]
    assert source.startswith("tiles, ")
    assert source.endswith(f"{tmp_path}/tiles/{{z}}/{{x}}/{{y}}.png")


def test_nodata_that_only_the_layer_has_is_honoured(scene, model, toolbox, tmp_path):
    """*Additional no data value* of the layer's properties: here the dark ground."""
    import processing

    layer = QgsRasterLayer(str(scene), "scene")
    for band in (1, 2, 3):
        layer.dataProvider().setUserNoDataValue(band, [QgsRasterRange(60, 60)])
    parameters = {"INPUT": layer, "MODEL": str(model), "OUTPUT_PROBABILITY": str(tmp_path / "p.tif")}
    results = processing.run("aftermap:segmentroads", parameters)
    probability = QgsRasterLayer(results["OUTPUT_PROBABILITY"], "p")
    assert json.loads(Path(results["MANIFEST"]).read_text())["job"]["source"] == f"scene, {scene}"
    assert probability.dataProvider().sample(point(500064, 4099936), 1)[0] > 240
    assert not probability.dataProvider().sample(point(500064, 4099980), 1)[1]


def test_transparency_is_no_band_of_the_image(tmp_path):
    from osgeo import gdal

    data = gdal.GetDriverByName("GTiff").Create(
        str(tmp_path / "rgba.tif"), 8, 8, 4, gdal.GDT_Byte, ["ALPHA=YES"]
    )
    data.FlushCache()
    layer = QgsRasterLayer(str(tmp_path / "rgba.tif"), "rgba")
    assert (layer.bandCount(), image_band_count(layer)) == (4, 3)


def test_tile_service_without_an_extent_is_refused(tiles, model, toolbox, tmp_path):
    import processing

    with pytest.raises(QgsProcessingException, match="give an extent"):
        processing.run(
            "aftermap:segmentroads",
            {"INPUT": tiles, "MODEL": str(model), "OUTPUT_PROBABILITY": str(tmp_path / "p.tif")},
        )


def point(x, y):
    from qgis.core import QgsPointXY

    return QgsPointXY(x, y)
