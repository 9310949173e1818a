"""How buildings look on the map."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from qgis.core import QgsCoordinateReferenceSystem, QgsMapLayer
from qgis.PyQt.QtGui import QColor

from .layers import STYLES, probability_renderer
from .translation import tr

BUILDING = QColor(255, 127, 14, 215)


class BuildingLayer(IntEnum):
    """The layers of a run, in their order from the top of the layer tree."""

    BUILDINGS = 0
    PROBABILITY = 1


@dataclass(frozen=True)
class BuildingLook:
    """What the post-processor needs to know of a layer with buildings.

    Attributes:
        kind: Which of the layers it is.
        threshold: Probability from which a pixel is building.
        uncertain_from: Probability from which a pixel may be building.
        group: Group of the layer tree that it goes to; empty: it stays where it is.
        has_crs: Whether the raster that it was made from has a CRS.
    """

    kind: BuildingLayer
    threshold: float
    uncertain_from: float
    group: str
    has_crs: bool

    @property
    def order(self) -> int:
        """Its place among the layers of its run, from the top."""
        return int(self.kind)

    def apply(self, layer: QgsMapLayer) -> None:
        """Give the layer its style."""
        if not self.has_crs:
            layer.setCrs(QgsCoordinateReferenceSystem())  # GDAL's “Undefined Cartesian SRS” is none
        if self.kind is BuildingLayer.BUILDINGS:
            layer.loadNamedStyle(str(STYLES / "buildings.qml"))
        else:
            labels = (tr("No building"), tr("Building"))
            layer.setRenderer(
                probability_renderer(layer, self.threshold, self.uncertain_from, labels, BUILDING)
            )
        layer.triggerRepaint()
