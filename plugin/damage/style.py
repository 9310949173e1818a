"""How damage looks on the map: a ramp that the colour-blind can read, hatched where the model is unsure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from qgis.core import (
    QgsColorRampShader,
    QgsCoordinateReferenceSystem,
    QgsFillSymbol,
    QgsLinePatternFillSymbolLayer,
    QgsMapLayer,
    QgsRasterLayer,
    QgsRasterShader,
    QgsRuleBasedRenderer,
    QgsSingleBandPseudoColorRenderer,
    QgsUnitTypes,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor, QIcon, QPixmap

from ...core.damage_fields import CERTAIN, FIELDS, LEVELS, UNKNOWN, Level
from ..layers import PROBABILITY_STEPS
from ..translation import tr
from .buildings import remember_levels

FILL_OPACITY = 0.75
HATCH_DISTANCE_MM = 2.0
OUTLINE_MM = 0.3
SWATCH_PX = 14
OUTLINE_DARKER = 130  # per cent, as QColor.darker takes it


class DamageLayer(IntEnum):
    """The layers of a run, in their order from the top of the layer tree."""

    BUILDINGS = 0
    PROBABILITY = 1


@dataclass(frozen=True)
class DamageLook:
    """What the post-processor needs to know of a layer with damage.

    Attributes:
        kind: Which of the layers it is.
        levels: The levels that the model tells apart, unknown as the last.
        group: Group of the layer tree that it goes to; empty: it stays where it is.
        has_crs: Whether the image that it was made from has a CRS.
    """

    kind: DamageLayer
    levels: tuple[Level, ...]
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
        if self.kind is DamageLayer.BUILDINGS:
            style_buildings(layer, self.levels)
        else:
            layer.setRenderer(destruction_renderer(layer))
        layer.triggerRepaint()


def style_buildings(layer: QgsVectorLayer, levels: Sequence[Level]) -> None:
    """Give a layer of buildings its colours, its fields their meanings, and a tip for the map."""
    remember_levels(layer, levels)
    layer.setRenderer(building_renderer(levels))
    for name, _, meaning in FIELDS:
        index = layer.fields().indexOf(name)
        if index >= 0:
            layer.setFieldAlias(index, tr(meaning))
    layer.setDisplayExpression("\"damage_nam\" || coalesce(' (' || round(\"confidence\" * 100) || ' %)', '')")
    layer.setMapTipTemplate(MAP_TIP)


def building_renderer(levels: Sequence[Level]) -> QgsRuleBasedRenderer:
    """One rule for each level, and one that hatches what is uncertain and was not reviewed."""
    root = QgsRuleBasedRenderer.Rule(None)
    for level in levels:
        rule = QgsRuleBasedRenderer.Rule(
            _fill(level.colour),
            filterExp=f'coalesce("damage", {UNKNOWN}) = {level.code}',
            label=_capital(level.name),
        )
        root.appendChild(rule)
    uncertain = QgsRuleBasedRenderer.Rule(
        _hatching(),
        filterExp=(f'"damage" <> {UNKNOWN} AND "confidence" < {CERTAIN} AND coalesce("reviewed", 0) <> 1'),
        label=tr("Uncertain (below {:.0f} %)").format(100 * CERTAIN),
    )
    root.appendChild(uncertain)
    return QgsRuleBasedRenderer(root)


def destruction_renderer(layer: QgsRasterLayer) -> QgsSingleBandPseudoColorRenderer:
    """The probability of destruction, from transparent to its colour.

    Args:
        layer: Probabilities of the classes as uint8, p × 254, a band each; destruction is the last.
    """
    item = QgsColorRampShader.ColorRampItem
    function = QgsColorRampShader(0, PROBABILITY_STEPS)
    function.setColorRampType(QgsColorRampShader.Type.Interpolated)
    items = []
    for share, colour, alpha in RAMP:
        shade = QColor(colour)
        shade.setAlpha(alpha)
        items.append(item(share * PROBABILITY_STEPS, shade, tr("Destroyed: {:.0f} %").format(100 * share)))
    function.setColorRampItemList(items)
    shader = QgsRasterShader(0, PROBABILITY_STEPS)
    shader.setRasterShaderFunction(function)
    renderer = QgsSingleBandPseudoColorRenderer(layer.dataProvider(), layer.bandCount(), shader)
    renderer.setClassificationMin(0)
    renderer.setClassificationMax(PROBABILITY_STEPS)
    return renderer


# Share of the probability, colour and its opacity (of 255): the upper half of the ramp of levels.
RAMP = (
    (0.0, LEVELS[2].colour, 0),
    (0.25, LEVELS[2].colour, 60),
    (0.5, LEVELS[3].colour, 150),
    (1.0, LEVELS[4].colour, 220),
)

MAP_TIP = """
<b>[% "damage_nam" %]</b>[% coalesce(', ' || round("confidence" * 100) || ' % sure', '') %]<br>
[% round("area_m2") %] m²
[% if(coalesce("reviewed", 0) = 1, '<br>reviewed by ' || coalesce("analyst", '?'), '') %]
"""


def _fill(colour: str) -> QgsFillSymbol:
    fill, outline = QColor(colour), QColor(colour).darker(OUTLINE_DARKER)
    fill.setAlphaF(FILL_OPACITY)
    symbol = QgsFillSymbol.createSimple(
        {"outline_width": str(OUTLINE_MM), "outline_color": outline.name(), "joinstyle": "miter"}
    )
    symbol.symbolLayer(0).setFillColor(fill)
    return symbol


def _hatching() -> QgsFillSymbol:
    """Dark lines with a light edge, which are seen on every colour of the ramp."""
    symbol = QgsFillSymbol()
    symbol.deleteSymbolLayer(0)
    for colour, width in (("#ffffff", 0.55), ("#1a1a1a", 0.3)):
        lines = QgsLinePatternFillSymbolLayer()
        lines.setLineAngle(45)
        lines.setDistance(HATCH_DISTANCE_MM)
        lines.setDistanceUnit(QgsUnitTypes.RenderUnit.RenderMillimeters)
        lines.subSymbol().setColor(QColor(colour))
        lines.subSymbol().setWidth(width)
        symbol.appendSymbolLayer(lines)
    return symbol


def swatch(colour: str) -> QIcon:
    """A square in the colour of a level."""
    picture = QPixmap(SWATCH_PX, SWATCH_PX)
    picture.fill(QColor(colour))
    return QIcon(picture)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
