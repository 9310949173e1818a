"""Run Segment Roads and Assess Damage in a headless QGIS, and have QGIS draw what came out.

Runs in QGIS's Python with the plugin's parent folder on its path.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsMapLayer,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QRectF, QSize, Qt
from qgis.PyQt.QtGui import QColor, QFont, QImage, QPainter

from aftermap.core.damage_fields import LEVELS
from aftermap.plugin.damage.style import style_buildings
from aftermap.plugin.layers import LayerLook, RoadLayer, style_layer

PANEL_PX = 1100
CAPTION_PX = 46
GAP_PX = 8


WORKER = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "aftermap"


def make_damaged_town(folder: Path, seed: int) -> dict[str, Path]:
    """Generate a town before and after an earthquake; what is there already is kept.

    Returns:
        The files: ``pre`` and ``post`` (GeoTIFF), ``footprints`` (GeoJSON).

    Raises:
        SystemExit: The worker's command line failed; it has said why.
    """
    if not list(folder.glob("scenes/*/footprints.geojson")):
        town = ["--count", "1", "--seed", str(seed), "--size", "1024", "--gsd", "0.5", "--style", "suburb"]
        event = ["--damage", "--damage-share", "0.35", "--hazard", "earthquake"]
        command = [str(WORKER), "generate", str(folder), *town, *event]
        print("$", *command, flush=True)
        if subprocess.run(command, check=False).returncode:
            sys.exit("No damaged town was generated: the command says why above.")
    town = next(folder.glob("scenes/*/footprints.geojson")).parent
    return {"pre": town / "pre.tif", "post": town / "post.tif", "footprints": town / "footprints.geojson"}


def run_in_qgis(algorithm: str, parameters: dict[str, object], outputs: dict[str, Path]) -> None:
    """Run an algorithm as a user of the command line would.

    Raises:
        SystemExit: It failed; QGIS has said why.
    """
    # Debian 12's wrapper `qgis_process` passes an option that the program does not know.
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        sys.exit("There is no qgis_process here: install QGIS first.")
    for output in outputs.values():
        output.unlink(missing_ok=True)
    given = {**parameters, **outputs}
    command = [program, "run", f"aftermap:{algorithm}", *(f"--{k}={v}" for k, v in given.items())]
    print("$", *command, flush=True)
    done = subprocess.run(command, check=False)
    missing = [path for path in outputs.values() if not path.is_file()]
    if done.returncode or missing:
        sys.exit(f"{algorithm} did not run (exit status {done.returncode}): QGIS says why above.")


def open_layers(outputs: dict[str, Path], base: QgsRasterLayer) -> list[QgsMapLayer]:
    """The results with their style, from the top down."""
    probability = outputs["OUTPUT_PROBABILITY"]
    threshold = float(gdal.Open(str(probability)).GetMetadataItem("AFTERMAP_THRESHOLD"))
    layers = {
        RoadLayer.CENTRELINES: QgsVectorLayer(str(outputs["OUTPUT_CENTRELINES"]), "centrelines"),
        RoadLayer.POLYGONS: QgsVectorLayer(str(outputs["OUTPUT_POLYGONS"]), "polygons"),
        RoadLayer.PROBABILITY: QgsRasterLayer(str(probability), "probability"),
    }
    for kind, layer in layers.items():
        if not layer.isValid():
            sys.exit(f"QGIS cannot open {layer.source()}.")
        look = LayerLook(
            kind=kind,
            threshold=threshold,
            uncertain_from=min(0.2, threshold / 2),
            group="",
            has_crs=base.crs().isValid(),
        )
        style_layer(layer, look)
    return list(layers.values())


def draw_map(layers: list[QgsMapLayer], extent: QgsRectangle) -> QImage:
    """Draw layers as QGIS's canvas would."""
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(layers[-1].crs())
    settings.setExtent(extent)
    settings.setBackgroundColor(QColor("white"))
    longest = max(extent.width(), extent.height())
    settings.setOutputSize(
        QSize(round(PANEL_PX * extent.width() / longest), round(PANEL_PX * extent.height() / longest))
    )
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    return job.renderedImage()


def draw_picture(panels: dict[str, QImage]) -> QImage:
    """Maps of one size side by side, under their captions."""
    size = next(iter(panels.values())).size()
    width = len(panels) * (size.width() + GAP_PX) - GAP_PX
    picture = QImage(width, size.height() + CAPTION_PX, QImage.Format.Format_RGB32)
    picture.fill(QColor("white"))
    painter = QPainter(picture)
    font = QFont("DejaVu Sans")
    font.setPixelSize(20)
    painter.setFont(font)
    for column, (caption, panel) in enumerate(panels.items()):
        left = column * (size.width() + GAP_PX)
        painter.drawImage(left, CAPTION_PX, panel)
        box = QRectF(left + 10, 0, size.width() - 20, CAPTION_PX)
        painter.drawText(box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, caption)
    painter.end()
    return picture


def draw_roads(scene: Path, outputs: dict[str, Path], picture: Path) -> str:
    """Write the picture of the roads; every layer is gone on return, which QGIS's end asks for.

    Returns:
        What was found, in a line.
    """
    base = QgsRasterLayer(str(scene), scene.name)
    if not base.isValid():
        sys.exit(f"QGIS cannot open {scene}.")
    layers = open_layers(outputs, base)
    centrelines, polygons, _ = layers
    summary = f"{polygons.featureCount()} road polygons, {centrelines.featureCount()} centrelines"
    bare, found = draw_map([base], base.extent()), draw_map([*layers, base], base.extent())
    draw_picture({base.name(): bare, summary: found}).save(str(picture))
    return summary


def draw_damage(town: dict[str, Path], buildings: Path, picture: Path) -> str:
    """Write the picture of a town before, after, and with the damage of its buildings.

    Returns:
        What was found, in a line.
    """
    before, after = (QgsRasterLayer(str(town[name]), name) for name in ("pre", "post"))
    layer = QgsVectorLayer(str(buildings), "damage")
    for one in (before, after, layer):
        if not one.isValid():
            sys.exit(f"QGIS cannot open {one.source()}.")
    codes = Counter(feature["damage"] for feature in layer.getFeatures())
    levels = [level for level in LEVELS if codes[level.code]]
    style_buildings(layer, levels)
    summary = ", ".join(f"{codes[level.code]} {level.name}" for level in levels)
    extent = after.extent()
    panels = {
        "before": draw_map([before], extent),
        "after": draw_map([after], extent),
        summary: draw_map([layer, after], extent),
    }
    draw_picture(panels).save(str(picture))
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--gsd", default="", help="metres per pixel, where the raster cannot tell")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder of the results")
    parser.add_argument("--seed", type=int, default=7, help="of the damaged town")
    arguments = parser.parse_args()
    folder = arguments.out.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    scene = arguments.scene.absolute()
    roads = {
        "OUTPUT_PROBABILITY": folder / "road_probability.tif",
        "OUTPUT_POLYGONS": folder / "road_polygons.gpkg",
        "OUTPUT_CENTRELINES": folder / "road_centrelines.gpkg",
    }
    gsd = {"GSD": arguments.gsd} if arguments.gsd else {}
    run_in_qgis("segmentroads", {"INPUT": scene, **gsd}, roads)
    town = make_damaged_town(folder / f"town-{arguments.seed}", arguments.seed)
    damage = {
        "OUTPUT_BUILDINGS": folder / "building_damage.gpkg",
        "OUTPUT_DAMAGE": folder / "damage_probability.tif",
        "OUTPUT_SUMMARY": folder / "damage_summary.csv",
    }
    run_in_qgis("assessdamage", {"POST": town["post"], "PRE": town["pre"]}, damage)

    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ["GDAL_PAM_ENABLED"] = "NO"  # no .aux.xml beside what is only looked at
    qgis = QgsApplication([], False)
    qgis.initQgis()
    found = {
        folder / "roads.png": draw_roads(scene, roads, folder / "roads.png"),
        folder / "damage.png": draw_damage(town, damage["OUTPUT_BUILDINGS"], folder / "damage.png"),
    }
    qgis.exitQgis()

    for picture, outputs in zip(found, (roads, damage), strict=True):
        print(f"\n{found[picture]}")
        for path in (*outputs.values(), picture):
            print(f"  {path}")


if __name__ == "__main__":
    main()
