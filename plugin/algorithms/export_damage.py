"""Export Damage: a damage layer as GeoPackage, Shapefile, GeoJSON and a table of counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputFile,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFolderDestination,
)
from qgis.PyQt.QtGui import QIcon

from ...core.errors import AftermapError
from ..collector import collector_paused
from ..damage.buildings import require_damage
from ..damage.export import export_damage, shortened_names
from ..icons import EXPORT_DAMAGE_ICON
from ..translation import tr


class ExportDamage(QgsProcessingAlgorithm):
    """The algorithm ``aftermap:exportdamage``; QGIS alone does it, without the worker."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"
    FILES = (
        ("GEOPACKAGE", "gpkg", "GeoPackage"),
        ("SHAPEFILE", "shp", "Shapefile"),
        ("GEOJSON", "geojson", "GeoJSON"),
        ("SUMMARY", "csv", "CSV"),
    )

    def createInstance(self) -> ExportDamage:  # noqa: D102, N802
        return ExportDamage()

    def name(self) -> str:  # noqa: D102
        return "exportdamage"

    def displayName(self) -> str:  # noqa: D102, N802
        return tr("Export Damage")

    def group(self) -> str:  # noqa: D102
        return tr("Buildings")

    def groupId(self) -> str:  # noqa: D102, N802
        return "buildings"

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(str(EXPORT_DAMAGE_ICON))

    def tags(self) -> list[str]:  # noqa: D102
        return tr("damage,building,export,shapefile,geopackage,geojson,csv").split(",")

    def shortDescription(self) -> str:  # noqa: D102, N802
        return tr("Writes building damage as GeoPackage, Shapefile, GeoJSON and a table of counts.")

    def shortHelpString(self) -> str:  # noqa: D102, N802
        return tr(HELP).replace("\n", " ")

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: D102, N802
        self.addParameter(
            QgsProcessingParameterFeatureSource(
                self.INPUT, tr("Building damage"), [QgsProcessing.SourceType.TypeVectorPolygon]
            )
        )
        self.addParameter(QgsProcessingParameterFolderDestination(self.OUTPUT, tr("Folder")))
        for name, _, text in self.FILES:
            self.addOutput(QgsProcessingOutputFile(name, text))

    def processAlgorithm(  # noqa: D102, N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        source = self.parameterAsSource(parameters, self.INPUT, context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, self.INPUT))
        folder = Path(self.parameterAsString(parameters, self.OUTPUT, context))
        try:
            require_damage(source.fields(), source.sourceName())
            with collector_paused():
                files = export_damage(
                    source, source.sourceName(), folder, context.transformContext(), feedback
                )
        except AftermapError as error:
            raise QgsProcessingException(str(error)) from error
        if not files:
            return {}
        long_names = shortened_names(source.fields())
        if long_names:
            feedback.pushInfo(
                tr("A Shapefile cuts names of fields after ten bytes: {}.").format(", ".join(long_names))
            )
        return {self.OUTPUT: str(folder), **{name: str(files[suffix]) for name, suffix, _ in self.FILES}}


HELP = """
<p>Writes a layer of <i>Assess Damage</i> for other programs, into one folder: GeoPackage, Shapefile (UTF-8,
with its CRS), GeoJSON (in degrees, as its standard asks), and a table (CSV) of how many buildings there are
of each level, with their area. A selection or filter of the layer holds.</p>
<p>Either all files appear or none. A folder that holds an export already is refused.</p>
<p>In the table, counts are called <i>model count, unreviewed</i> until a sample was reviewed; after it, they
come with corrected counts and 95 % intervals.</p>
"""
