"""A real QGIS with the plugin in it, and small generated scenes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

if importlib.util.find_spec("aftermap") is None:
    # The checkout's folder may have any name; in QGIS's plugin folder it is called aftermap.
    spec = importlib.util.spec_from_file_location(
        "aftermap", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["aftermap"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["aftermap"])


@pytest.fixture(scope="session")
def desktop(qgis_iface, qgis_processing):
    """pytest-qgis's interface, with what the plugin uses of the real one and this one lacks."""
    from qgis.core import QgsLayerTreeModel, QgsProject
    from qgis.gui import QgsBrowserGuiModel, QgsLayerTreeView, QgsMessageBar

    window = qgis_iface.mainWindow()
    toolbar = window.addToolBar("Plugins")
    menus = {}
    bar = QgsMessageBar(window)
    browser = QgsBrowserGuiModel(window)
    tree = QgsLayerTreeView(window)
    tree.setModel(QgsLayerTreeModel(QgsProject.instance().layerTreeRoot(), tree))
    qgis_iface.option_pages = []
    qgis_iface.plugin_toolbar = toolbar
    qgis_iface.raster_menus = menus
    qgis_iface.addToolBarIcon = toolbar.addAction
    qgis_iface.removeToolBarIcon = toolbar.removeAction
    qgis_iface.addPluginToRasterMenu = lambda menu, action: menus.setdefault(menu, []).append(action)
    qgis_iface.removePluginRasterMenu = lambda menu, action: menus[menu].remove(action)
    qgis_iface.registerOptionsWidgetFactory = qgis_iface.option_pages.append
    qgis_iface.unregisterOptionsWidgetFactory = qgis_iface.option_pages.remove
    qgis_iface.addDockWidget = window.addDockWidget
    qgis_iface.removeDockWidget = window.removeDockWidget
    qgis_iface.messageBar = lambda: bar
    qgis_iface.browserModel = lambda: browser
    qgis_iface.layerTreeView = lambda: tree
    return qgis_iface


@pytest.fixture
def plugin(desktop, qgis_new_project):
    """The plugin, as QGIS loads it."""
    import aftermap

    plugin = aftermap.classFactory(desktop)
    plugin.initGui()
    yield plugin
    plugin.unload()


@pytest.fixture(scope="session")
def worker_python():
    """The worker's own Python; the tests that run the real worker need it."""
    from aftermap.core.errors import WorkerError
    from aftermap.plugin.interpreter import InterpreterFinder

    try:
        return InterpreterFinder(str).find()
    except WorkerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def model(worker_python, tmp_path_factory):
    """A model package whose network calls bright pixels road, and building."""
    path = tmp_path_factory.mktemp("models") / "bright.aftermap"
    script = Path(__file__).with_name("make_model.py")
    subprocess.run([str(worker_python), "-I", str(script), str(ROOT), str(path)], check=True, timeout=120)
    return path


@pytest.fixture
def damage_model(tmp_path):
    """A damage model in the user's folder of models: its card alone."""
    from aftermap.plugin.settings import Settings

    from .damage_files import write_card

    Settings(models=str(tmp_path / "models")).save()
    yield write_card(tmp_path / "models", "made")
    Settings().save()


@pytest.fixture(scope="module")
def toolbox(qgis_processing, tmp_path_factory):
    """The plugin's algorithms in the registry; one worker serves the tests of a module."""
    import aftermap
    from aftermap.plugin.settings import Settings

    Settings(cache=str(tmp_path_factory.mktemp("cache"))).save()
    plugin = aftermap.classFactory(None)
    plugin.initProcessing()
    yield plugin
    plugin.unload()
    Settings().save()


@pytest.fixture
def write_scene():
    """`_write_scene`, for tests that need another one."""
    return _write_scene


@pytest.fixture
def scene(tmp_path):
    """A georeferenced scene of 256 × 256 pixels of 0.5 m: bright streets on dark ground."""
    return _write_scene(tmp_path / "scene.tif")


def _write_scene(path: Path, epsg: int = 32637, pixel: float = 0.5, size: int = 256) -> Path:
    """Write a GeoTIFF of three bands; no CRS where `epsg` is 0."""
    from osgeo import gdal, osr

    data = gdal.GetDriverByName("GTiff").Create(str(path), size, size, 3, gdal.GDT_Byte)
    data.SetGeoTransform((500000, pixel, 0, 4100000, 0, -pixel))
    if epsg:
        reference = osr.SpatialReference()
        reference.ImportFromEPSG(epsg)
        data.SetProjection(reference.ExportToWkt())
    dark, bright = bytes([60]) * size, bytes([180]) * size
    road = range(size // 2 - 8, size // 2 + 8)
    rows = b"".join(bright if row in road else dark for row in range(size))
    for band, colour in enumerate((gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand), 1):
        data.GetRasterBand(band).WriteRaster(0, 0, size, size, rows)
        data.GetRasterBand(band).SetColorInterpretation(colour)
    data.FlushCache()
    return path
