"""The outlines of tiles as a temporary layer of the project, coloured by what they are used for."""

from __future__ import annotations

from collections.abc import Sequence

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsCsException,
    QgsFeature,
    QgsFillSymbol,
    QgsGeometry,
    QgsProject,
    QgsRectangle,
    QgsRendererCategory,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas

from ..translation import tr
from .tiles import Tile

# From the palette of the charts, which the colour-blind tell apart too.
PART_COLOURS = {
    "train": "#0072b2",
    "validation": "#e69f00",
    "below_min_share": "#999999",
    "left_out": "#555555",
}
DEFINITION = "Polygon?crs=EPSG:4326&field=tile:string&field=part:string&field=share:double"
FILL_ALPHA = 70  # of 255


class TileOutlines:
    """One layer, which `clear` takes away again; the user may have done so before."""

    def __init__(self, canvas: QgsMapCanvas) -> None:
        """No layer yet; its tiles are shown on `canvas`."""
        self._canvas = canvas
        self._layer_id = ""

    def show(self, tiles: Sequence[Tile]) -> None:
        """Show the tiles that have a place on the ground, in place of those before."""
        self.clear()
        names = part_names()
        layer = QgsVectorLayer(DEFINITION, tr("Tiles of the training"), "memory")
        layer.setCustomProperty("skipMemoryLayersCheck", 1)  # QGIS asks not whether to keep it
        features = []
        for tile in tiles:
            if tile.bounds and tile.part in names:
                feature = QgsFeature(layer.fields())
                feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(*tile.bounds)))
                feature.setAttributes([tile.stem, tile.part, next(iter(tile.shares.values()), None)])
                features.append(feature)
        layer.dataProvider().addFeatures(features)
        layer.updateExtents()
        parts = {tile.part for tile in tiles}
        layer.setRenderer(
            QgsCategorizedSymbolRenderer(
                "part",
                [
                    QgsRendererCategory(part, _symbol(PART_COLOURS[part]), text)
                    for part, text in names.items()
                    if part in parts
                ],
            )
        )
        QgsProject.instance().addMapLayer(layer)
        self._layer_id = layer.id()

    def zoom(self) -> None:
        """Show all tiles on the canvas."""
        layer = QgsProject.instance().mapLayer(self._layer_id)
        if layer is None:
            return
        try:
            extent = self._canvas.mapSettings().layerToMapCoordinates(layer, layer.extent())
        except QgsCsException:
            return  # the project's CRS does not reach there
        extent.scale(1.1)
        self._canvas.setExtent(extent)
        self._canvas.refresh()

    def clear(self) -> None:
        """Take the layer away."""
        if QgsProject.instance().mapLayer(self._layer_id) is not None:
            QgsProject.instance().removeMapLayer(self._layer_id)
            self._canvas.refresh()
        self._layer_id = ""


def part_names() -> dict[str, str]:
    """The parts that tiles can be in, for reading."""
    return {
        "train": tr("training"),
        "validation": tr("validation"),
        "below_min_share": tr("below the minimum share"),
        "left_out": tr("left out: too near the other part"),
    }


def _symbol(colour: str) -> QgsFillSymbol:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return QgsFillSymbol.createSimple(
        {
            "color": f"{red},{green},{blue},{FILL_ALPHA}",
            "outline_color": colour,
            "outline_width": "0.8",
        }
    )
