"""How results look in QGIS: the style of each layer, and the group that a run's layers go to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from qgis.core import (
    QgsColorRampShader,
    QgsCoordinateReferenceSystem,
    QgsLayerTreeGroup,
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsProject,
    QgsRasterLayer,
    QgsRasterShader,
    QgsSingleBandPseudoColorRenderer,
)
from qgis.PyQt.QtGui import QColor

from .translation import tr

STYLES = Path(__file__).resolve().parent.parent / "resources" / "styles"
PROBABILITY_STEPS = 254  # how `core.raster.probability` encodes the probability 1
TURQUOISE = QColor(64, 224, 208, 170)
ROAD = QColor(230, 0, 110, 215)


class RoadLayer(IntEnum):
    """The layers of a run, in their order from the top of the layer tree."""

    CENTRELINES = 0
    POLYGONS = 1
    PROBABILITY = 2


class Look(Protocol):
    """How a result looks, and where it goes; the thread that it is made in is not the layer's."""

    @property
    def group(self) -> str:
        """Group of the layer tree that it goes to; empty: it stays where it is."""

    @property
    def order(self) -> int:
        """Its place among the layers of its run, from the top."""

    def apply(self, layer: QgsMapLayer) -> None:
        """Give the layer its style; this runs on the layer's thread."""


@dataclass(frozen=True)
class LayerLook:
    """What the post-processor needs to know of a layer with roads.

    Attributes:
        kind: Which of the layers it is.
        threshold: Probability from which a pixel is road.
        uncertain_from: Probability from which a pixel may be road.
        group: Group of the layer tree that it goes to; empty: it stays where it is.
        has_crs: Whether the raster that it was made from has a CRS.
    """

    kind: RoadLayer
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
        style_layer(layer, self)


class LayerStyles:
    """Has results styled once they are loaded, and keeps the post-processors alive until then.

    Processing keeps only a pointer to a post-processor.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._pending: set[_PostProcessor] = set()

    def attach(self, context: QgsProcessingContext, path: str, look: Look) -> None:
        """Style the layer at `path` when it is loaded, if it will be."""
        if not context.willLoadLayerOnCompletion(path):
            return
        details = context.layerToLoadOnCompletionDetails(path)
        groups_itself = hasattr(details, "groupName")  # QGIS 3.32
        if groups_itself:
            details.groupName = look.group
            details.layerSortKey = -look.order  # the greater, the higher
        processor = _PostProcessor(look, moves_layer=not groups_itself, done=self._pending.discard)
        self._pending.add(processor)
        details.setPostProcessor(processor)


class _PostProcessor(QgsProcessingLayerPostProcessorInterface):
    """Styles one layer, and moves it to its group where QGIS does not."""

    def __init__(self, look, moves_layer, done) -> None:
        super().__init__()
        self._look = look
        self._moves_layer = moves_layer
        self._done = done

    def postProcessLayer(  # noqa: N802  QGIS's name
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        self._look.apply(layer)
        if self._moves_layer and self._look.group:
            move_to_group(layer, layer.project(), self._look.group, self._look.order)
        self._done(self)


def style_layer(layer: QgsMapLayer, look: LayerLook) -> None:
    """Give a result its style."""
    if not look.has_crs:
        # A GeoPackage has no way to say so; GDAL gives such a layer an “Undefined Cartesian SRS”.
        layer.setCrs(QgsCoordinateReferenceSystem())
    if look.kind is RoadLayer.PROBABILITY:
        labels = (tr("No road"), tr("Road"))
        layer.setRenderer(probability_renderer(layer, look.threshold, look.uncertain_from, labels, ROAD))
    else:
        layer.loadNamedStyle(str(STYLES / f"road_{look.kind.name.lower()}.qml"))
    layer.triggerRepaint()


def probability_renderer(
    layer: QgsRasterLayer, threshold: float, uncertain_from: float, labels: tuple[str, str], colour: QColor
) -> QgsSingleBandPseudoColorRenderer:
    """Transparent below `uncertain_from`, turquoise up to `threshold`, a strong colour from there on.

    Args:
        layer: Probabilities as uint8, p × 254.
        threshold: Probability from which a pixel is of the class, 0 to 1.
        uncertain_from: Probability from which a pixel may be of the class, 0 to 1.
        labels: What the legend calls a pixel that is not of the class, and one that is.
        colour: Of the class.
    """
    item = QgsColorRampShader.ColorRampItem
    uncertain = tr("Uncertain: {:.2f} to {:.2f}").format(uncertain_from, threshold)
    function = QgsColorRampShader(0, PROBABILITY_STEPS)
    function.setColorRampType(QgsColorRampShader.Type.Discrete)
    function.setColorRampItemList(
        [
            item(_code_below(uncertain_from), QColor(0, 0, 0, 0), labels[0]),
            item(_code_below(threshold), TURQUOISE, uncertain),
            item(PROBABILITY_STEPS, colour, tr("{}: from {:.2f}").format(labels[1], threshold)),
        ]
    )
    shader = QgsRasterShader(0, PROBABILITY_STEPS)
    shader.setRasterShaderFunction(function)
    renderer = QgsSingleBandPseudoColorRenderer(layer.dataProvider(), 1, shader)
    renderer.setClassificationMin(0)
    renderer.setClassificationMax(PROBABILITY_STEPS)
    return renderer


def _code_below(probability: float) -> int:
    """The largest code that stands for less than `probability`: the end of a class of the discrete shader."""
    return math.ceil(probability * PROBABILITY_STEPS) - 1


def move_to_group(layer: QgsMapLayer, project: QgsProject, name: str, order: int) -> None:
    """Move a layer of the project into the group `name`, made at the top if there is none."""
    root = project.layerTreeRoot()
    node = root.findLayer(layer.id())
    if node is None:
        return
    group = root.findGroup(name) or root.insertGroup(0, name)
    moved = node.clone()
    moved.setCustomProperty("aftermap/order", order)
    group.insertChildNode(_place_in(group, order), moved)
    (node.parent() or root).removeChildNode(node)


def _place_in(group: QgsLayerTreeGroup, order: int) -> int:
    """Before the first layer that belongs below; layers of other runs keep their order."""
    for index, child in enumerate(group.children()):
        if int(child.customProperty("aftermap/order", -1)) >= order:
            return index
    return len(group.children())
