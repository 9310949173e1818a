"""Run Segment Roads in a headless QGIS, and have QGIS draw what came out.

Runs in QGIS's Python with the plugin's parent folder on its path.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
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

from aftermap.plugin.layers import LayerLook, RoadLayer, style_layer

PANEL_PX = 1100
CAPTION_PX = 46
GAP_PX = 8


def run_in_qgis(scene: Path, gsd_m: str, outputs: dict[str, Path]) -> None:
    """Run the algorithm as a user of the command line would.

    Raises:
        SystemExit: It failed; QGIS has said why.
    """
    # Debian 12's wrapper `qgis_process` passes an option that the program does not know.
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        sys.exit("There is no qgis_process here: install QGIS first.")
    parameters = {"INPUT": scene, **outputs}
    if gsd_m:
        parameters["GSD"] = gsd_m
    for output in outputs.values():
        output.unlink(missing_ok=True)
    command = [program, "run", "aftermap:segmentroads", *(f"--{k}={v}" for k, v in parameters.items())]
    print("$", *command, flush=True)
    done = subprocess.run(command, check=False)
    missing = [path for path in outputs.values() if not path.is_file()]
    if done.returncode or missing:
        sys.exit(f"Segment Roads did not run (exit status {done.returncode}): QGIS says why above.")


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


def draw_picture(base: QgsRasterLayer, results: list[QgsMapLayer], summary: str) -> QImage:
    """The scene bare and with its roads, side by side."""
    panels = {
        base.name(): draw_map([base], base.extent()),
        summary: draw_map([*results, base], base.extent()),
    }
    size = panels[summary].size()
    picture = QImage(2 * size.width() + GAP_PX, size.height() + CAPTION_PX, QImage.Format.Format_RGB32)
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


def draw(scene: Path, outputs: dict[str, Path], picture: Path) -> str:
    """Write the picture; every layer is gone on return, which QGIS's end asks for.

    Returns:
        What was found, in a line.
    """
    base = QgsRasterLayer(str(scene), scene.name)
    if not base.isValid():
        sys.exit(f"QGIS cannot open {scene}.")
    layers = open_layers(outputs, base)
    centrelines, polygons, _ = layers
    summary = f"{polygons.featureCount()} road polygons, {centrelines.featureCount()} centrelines"
    draw_picture(base, layers, summary).save(str(picture))
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--gsd", default="", help="metres per pixel, where the raster cannot tell")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder of the results")
    arguments = parser.parse_args()
    folder = arguments.out.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    outputs = {
        "OUTPUT_PROBABILITY": folder / "road_probability.tif",
        "OUTPUT_POLYGONS": folder / "road_polygons.gpkg",
        "OUTPUT_CENTRELINES": folder / "road_centrelines.gpkg",
    }
    scene = arguments.scene.absolute()
    run_in_qgis(scene, arguments.gsd, outputs)

    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ["GDAL_PAM_ENABLED"] = "NO"  # no .aux.xml beside what is only looked at
    qgis = QgsApplication([], False)
    qgis.initQgis()
    picture = folder / "roads.png"
    summary = draw(scene, outputs, picture)
    qgis.exitQgis()

    print(f"\n{summary} in {scene}")
    for path in (*outputs.values(), picture):
        print(f"  {path}")


if __name__ == "__main__":
    main()
