"""The review of a damage layer: a stratified random sample, building by building, written as it goes."""

from __future__ import annotations

from collections.abc import Sequence

from qgis.core import (
    QgsFeature,
    QgsGeometry,
    QgsVectorDataProvider,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...core.damage_fields import UNKNOWN, Level, level_of
from ...core.errors import VectorError
from ..translation import tr
from .buildings import REVIEW_FIELDS, levels_of, number, read_buildings
from .statistics import SAMPLE_SIZE, draw_sample
from .summary import strata_of


class Review(QObject):
    """Goes through the sample of a layer, from its first building that nobody has looked at.

    What is said of a building is in the layer's file at once. The sample follows from the layer: a later
    review goes on where this one stopped, and a larger one adds to it.

    Attributes:
        layer: The damage layer.
        levels: Levels that the layer tells apart, unknown as the last.
        sample: Ids of the buildings, in their order.
        position: Which of them is looked at; the number of all once every one was.
    """

    moved = pyqtSignal()
    refused = pyqtSignal(str)

    def __init__(self, layer: QgsVectorLayer, size: int = SAMPLE_SIZE, parent: QObject | None = None) -> None:
        """Draw the sample.

        Raises:
            VectorError: The layer has no fields for it, cannot be written, is being edited, or has no
                building whose damage is known.
        """
        super().__init__(parent)
        _require_writable(layer)
        self.layer = layer
        self.levels: Sequence[Level] = levels_of(layer)
        self.analyst = ""
        buildings = list(read_buildings(layer, layer.fields()))
        self.sample = draw_sample(strata_of(buildings), size)
        if not self.sample:
            raise VectorError(
                tr("No building of “{}” has a known level of damage: there is nothing to review.").format(
                    layer.name()
                )
            )
        self._reviewed = {building.id for building in buildings if building.is_reviewed}.intersection(
            self.sample
        )
        self.position = next(
            (place for place, id_ in enumerate(self.sample) if id_ not in self._reviewed), len(self.sample)
        )

    @property
    def is_over(self) -> bool:
        """Whether no building is looked at: all were."""
        return self.position >= len(self.sample)

    @property
    def reviewed_count(self) -> int:
        """How many buildings of the sample were reviewed."""
        return len(self._reviewed)

    def feature(self) -> QgsFeature:
        """The building that is looked at; not valid if it is gone, or none is left."""
        if self.is_over:
            return QgsFeature()
        return self.layer.getFeature(self.sample[self.position])

    def geometry(self) -> QgsGeometry:
        """Its footprint."""
        return self.feature().geometry()

    def accept(self) -> None:
        """The level that is shown is right."""
        feature = self.feature()
        if feature.isValid():
            self._write(feature, int(number(feature["damage"]) or UNKNOWN))
        else:
            self._go(1)

    def relabel(self, code: int) -> None:
        """It is of another level, which must be one of the layer's."""
        feature = self.feature()
        if code not in {level.code for level in self.levels}:
            self.refused.emit(
                tr(
                    "The model of this layer does not tell “{}” apart: choose one of the levels below."
                ).format(level_of(code).name)
            )
        elif feature.isValid():
            self._write(feature, code)
        else:
            self._go(1)

    def back(self) -> None:
        """Look at the building before again; what was said of it holds until something else is."""
        if self.position > 0:
            self._go(-1)

    def _write(self, feature: QgsFeature, code: int) -> None:
        before = int(number(feature["damage"]) or UNKNOWN)
        named = number(feature["model_dam"])
        model_code = before if named is None else int(named)
        values = {
            "reviewed": 1,
            "analyst": self.analyst,
            "damage": code,
            "damage_nam": next(level.name for level in self.levels if level.code == code),
            "model_dam": None if code == model_code else model_code,
            "ems": level_of(code).ems,  # which is “possibly” no longer
            "unosat": level_of(code).unosat,
        }
        fields = self.layer.fields()
        changes = {fields.indexOf(name): value for name, value in values.items() if fields.indexOf(name) >= 0}
        if not self.layer.dataProvider().changeAttributeValues({feature.id(): changes}):
            self.refused.emit(
                tr("“{}” cannot be written: is its file open in another program?").format(self.layer.name())
            )
            return
        self._reviewed.add(feature.id())
        self.layer.dataChanged.emit()  # the provider does not say so by itself
        self._go(1)

    def _go(self, step: int) -> None:
        self.position += step
        self.moved.emit()


def current_level(review: Review) -> Level | None:
    """The level that the layer shows for the building that is looked at."""
    feature = review.feature()
    if not feature.isValid():
        return None
    code = int(number(feature["damage"]) or UNKNOWN)
    return next((level for level in review.levels if level.code == code), level_of(UNKNOWN))


def _require_writable(layer: QgsVectorLayer) -> None:
    missing = [name for name in REVIEW_FIELDS if layer.fields().indexOf(name) < 0]
    if missing:
        raise VectorError(
            tr("“{}” has no field {} for a review: choose a layer of Assess Damage.").format(
                layer.name(), ", ".join(missing)
            )
        )
    if layer.isEditable():
        raise VectorError(tr("“{}” is being edited: save or drop the changes first.").format(layer.name()))
    can_change = QgsVectorDataProvider.Capability.ChangeAttributeValues
    if layer.readOnly() or not layer.dataProvider().capabilities() & can_change:
        raise VectorError(
            tr("“{}” cannot be changed where it is: export it as a GeoPackage and review that.").format(
                layer.name()
            )
        )
