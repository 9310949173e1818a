"""Vector results in the format that the user's file name asks for; the worker writes GeoPackages."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qgis.core import QgsCoordinateTransformContext, QgsVectorFileWriter, QgsVectorLayer

from ..core.errors import JobError, OutputError
from .translation import tr

WORKER_SUFFIX = ".gpkg"
FORMATS = ("gpkg", "shp", "geojson", "fgb")


@dataclass(frozen=True)
class VectorOutput:
    """One vector result on its way to the user's file.

    Attributes:
        destination: The user's file; empty: the result is not wanted.
        geopackage: What the worker writes; the destination itself where that is a GeoPackage.
    """

    destination: str
    geopackage: str

    @classmethod
    def at(cls, destination: str, scratch: Path, name: str) -> VectorOutput:
        """Plan for a result; what the worker writes in between lies in `scratch`.

        Raises:
            JobError: The destination is of no known format.
        """
        suffix = Path(destination).suffix.lower()
        if not destination or suffix == WORKER_SUFFIX:
            return cls(destination, destination)
        if suffix[1:] not in FORMATS:
            raise JobError(
                tr("{} is of no format that Aftermap writes: choose a name that ends in {}.").format(
                    destination, ", ".join(f".{name}" for name in FORMATS)
                )
            )
        return cls(destination, str(scratch / f"{name}{WORKER_SUFFIX}"))

    def finish(self, transforms: QgsCoordinateTransformContext) -> None:
        """Convert what the worker has written, if the destination is no GeoPackage.

        Raises:
            OutputError: The file cannot be written.
        """
        if self.destination == self.geopackage:
            return
        destination = Path(self.destination)
        layer = QgsVectorLayer(self.geopackage, destination.stem, "ogr")
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName = QgsVectorFileWriter.driverForExtension(destination.suffix)
        options.fileEncoding = "UTF-8"
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".aftermap-", dir=destination.parent) as folder:
                code, message, *_ = QgsVectorFileWriter.writeAsVectorFormatV3(
                    layer, str(Path(folder) / destination.name), transforms, options
                )
                if code != QgsVectorFileWriter.WriterError.NoError:
                    raise OutputError(
                        tr("{} cannot be written ({}): choose another format or folder.").format(
                            destination, message
                        )
                    )
                for part in Path(folder).iterdir():  # a shapefile is several files
                    part.replace(destination.parent / part.name)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                tr("{} cannot be written ({}): choose another folder.").format(destination, error)
            ) from error


def finish_outputs(
    outputs: Iterable[VectorOutput], manifest: Path, transforms: QgsCoordinateTransformContext
) -> Path:
    """Convert the vector results of a run, and keep its manifest where they go.

    Returns:
        Where the manifest is.

    Raises:
        OutputError: A file cannot be written.
    """
    for output in outputs:
        output.finish(transforms)
        if output.geopackage and manifest.parent == Path(output.geopackage).parent:
            manifest = keep_file(manifest, Path(output.destination).parent)
    return manifest


def keep_file(path: Path, folder: Path) -> Path:
    """Copy a file that lies in a scratch folder to where the results are; it may be there already."""
    kept = folder / path.name
    if kept != path:
        shutil.copyfile(path, kept)
    return kept
