"""A damage layer as the files that other programs read: all of them appear, or none."""

from __future__ import annotations

import tempfile
from pathlib import Path

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFeatureRequest,
    QgsFeatureSource,
    QgsFeedback,
    QgsFields,
    QgsVectorFileWriter,
)

from ...core.errors import OutputError, VectorError
from ..translation import tr
from .buildings import find_levels, read_buildings
from .summary import summarize, to_csv

STEM = "building_damage"
SUMMARY_NAME = f"{STEM}_summary.csv"
# Suffix → driver and its options. GeoJSON is in degrees of WGS 84 by its standard.
FORMATS = {
    "gpkg": ("GPKG", []),
    "shp": ("ESRI Shapefile", ["ENCODING=UTF-8"]),
    "geojson": ("GeoJSON", ["RFC7946=YES"]),
}
WGS_84 = "EPSG:4326"
FIELD_NAME_LENGTH = 10  # of a Shapefile


def export_damage(
    source: QgsFeatureSource,
    name: str,
    folder: Path,
    transforms: QgsCoordinateTransformContext,
    feedback: QgsFeedback,
) -> dict[str, Path]:
    """Write the buildings as GeoPackage, Shapefile and GeoJSON, and their counts as a table.

    May run in any thread.

    Args:
        source: The damage layer, or what is selected of it; it has the fields of one.
        name: What it is called, for messages.
        folder: Where the files go; made if missing.
        transforms: Of the project.
        feedback: Is told how far it is, and cancels.

    Returns:
        Suffix of each format, and ``csv``, to its file; empty if it was cancelled.

    Raises:
        VectorError: The layer has no CRS.
        OutputError: The folder holds an export already, or a file cannot be written.
    """
    if not source.sourceCrs().isValid():
        raise VectorError(
            tr("“{}” has no CRS, without which nobody knows where its buildings lie: set one first.").format(
                name
            )
        )
    taken = [path.name for path in folder.glob(f"{STEM}*")] if folder.is_dir() else []
    if taken:
        raise OutputError(
            tr("{} holds an export already ({}): choose another folder.").format(folder, sorted(taken)[0])
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".aftermap-", dir=folder) as scratch:
            for step, suffix in enumerate(FORMATS):
                _write(source, Path(scratch), suffix, transforms, feedback)
                if feedback.isCanceled():
                    return {}
                feedback.setProgress(100 * (step + 1) / (len(FORMATS) + 1))
            fields = source.fields()
            summary = summarize(list(read_buildings(source, fields)), find_levels(source, fields))
            Path(scratch, SUMMARY_NAME).write_text(to_csv(summary), encoding="utf-8")
            _move_all(Path(scratch), folder)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            tr("The export cannot be written to {} ({}): choose another folder.").format(folder, error)
        ) from error
    return {**{suffix: folder / f"{STEM}.{suffix}" for suffix in FORMATS}, "csv": folder / SUMMARY_NAME}


def shortened_names(fields: QgsFields) -> list[str]:
    """Fields whose names a Shapefile cannot hold whole."""
    return [field.name() for field in fields if len(field.name().encode()) > FIELD_NAME_LENGTH]


def _write(
    source: QgsFeatureSource,
    folder: Path,
    suffix: str,
    transforms: QgsCoordinateTransformContext,
    feedback: QgsFeedback,
) -> None:
    driver, layer_options = FORMATS[suffix]
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = driver
    options.layerName = STEM
    options.fileEncoding = "UTF-8"
    options.layerOptions = layer_options
    fields, crs = source.fields(), source.sourceCrs()
    request = QgsFeatureRequest()
    request.setInvalidGeometryCheck(QgsFeatureRequest.InvalidGeometryCheck.GeometryNoCheck)
    if suffix == "geojson":
        request.setDestinationCrs(QgsCoordinateReferenceSystem(WGS_84), transforms)
        crs = QgsCoordinateReferenceSystem(WGS_84)
    path = folder / f"{STEM}.{suffix}"
    writer = QgsVectorFileWriter.create(str(path), fields, source.wkbType(), crs, transforms, options)
    _check(writer, path)
    for feature in source.getFeatures(request):
        if feedback.isCanceled():
            break
        if not writer.addFeature(feature):
            _check(writer, path)
    writer.flushBuffer()
    _check(writer, path)
    del writer  # which closes the file


def _check(writer: QgsVectorFileWriter, path: Path) -> None:
    if writer.hasError() != QgsVectorFileWriter.WriterError.NoError:
        raise OutputError(
            tr("{} cannot be written ({}): choose another folder.").format(path.name, writer.errorMessage())
        )


def _move_all(source: Path, folder: Path) -> None:
    """Move the files of `source` to `folder`; if one cannot be moved, none is there."""
    moved: list[Path] = []
    try:
        for path in sorted(source.iterdir()):
            target = folder / path.name
            path.replace(target)
            moved.append(target)
    except OSError:
        for path in moved:
            path.unlink(missing_ok=True)
        raise
