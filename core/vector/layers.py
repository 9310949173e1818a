"""Write features into a GeoPackage layer, part by part."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from rasterio.crs import CRS

from ..errors import OutputError

Columns = Mapping[str, NDArray[np.generic]]

ORIGIN_FIELDS = {"model": "object", "source": "object", "date": "object"}

BYTES_A_WRITE = 8_000_000  # of geometries; polygons of whole blocks have thousands of vertices
_VERSION = "1.2"  # what the GDAL of QGIS 3.22 reads without a warning
_UNDEFINED_SRID = 99999


def constant_columns(
    count: int, class_name: str, origin: Mapping[str, str]
) -> dict[str, NDArray[np.object_]]:
    """The columns that are the same on each of `count` features: the class and the `ORIGIN_FIELDS`."""
    values = {"class": class_name, **{name: origin.get(name, "") for name in ORIGIN_FIELDS}}
    return {name: np.full(count, value, object) for name, value in values.items()}


class LayerWriter:
    """One layer of a new GeoPackage; memory holds what is appended up to `BYTES_A_WRITE`.

    What it wrote is complete after `close`; what it leaves when it is not closed is for its owner to delete.
    """

    def __init__(
        self, path: Path, layer: str, geometry_type: str, crs: CRS | None, schema: Mapping[str, str]
    ) -> None:
        """Say what will be written; the file is made with the first features, or in `close`.

        Args:
            path: The GeoPackage; replaced if it is there.
            layer: Name of the layer.
            geometry_type: ``Polygon`` or ``LineString``.
            crs: CRS of the layer; none: undefined.
            schema: Name of each field to its numpy dtype.

        Raises:
            OutputError: A file that is there cannot be replaced.
        """
        self.path = path
        self.count = 0
        self._layer = layer
        self._geometry_type = geometry_type
        self._crs = crs.to_wkt() if crs else None
        self._schema = schema
        self._geometries: list[NDArray[np.object_]] = []
        self._columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in schema}
        self._waiting_bytes = 0
        self._is_made = False
        try:
            path.unlink(missing_ok=True)  # GDAL would keep the other layers of a file that is there
        except OSError as error:
            raise self._failure(error) from error

    def append(self, geometries: NDArray[np.object_], columns: Columns) -> None:
        """Add features.

        Args:
            geometries: In the CRS of the layer, shape (n,).
            columns: An array of shape (n,) for each field; NaN and what is masked are written as NULL.

        Raises:
            OutputError: The file cannot be written.
        """
        encoded = shapely.to_wkb(geometries)
        self._geometries.append(encoded)
        for name, parts in self._columns.items():
            parts.append(columns[name])
        self._waiting_bytes += sum(map(len, encoded))
        if self._waiting_bytes >= BYTES_A_WRITE:
            self._flush()

    def close(self) -> None:
        """Write what is left, so that the file is complete; without features, an empty layer.

        Raises:
            OutputError: The file cannot be written, or did not keep what was written.
        """
        if self._waiting_bytes or not self._is_made:
            self._flush()
        try:
            if self._crs is None:
                self._undefine_crs()
            kept = int(pyogrio.read_info(self.path, layer=self._layer, force_feature_count=True)["features"])
        except (DataSourceError, DataLayerError, sqlite3.Error) as error:
            raise self._failure(error) from error
        if kept != self.count:
            raise self._failure(f"{kept} of {self.count} features arrived")

    def _flush(self) -> None:
        geometries = np.concatenate([np.zeros(0, object), *self._geometries])
        columns, nulls = [], []
        for name, dtype in self._schema.items():
            parts = self._columns[name]
            columns.append(np.concatenate([np.zeros(0, dtype), *map(np.ma.getdata, parts)]))
            nulls.append(np.concatenate([np.zeros(0, bool), *map(_nulls, parts)]))
        options: dict[str, Any] = {}
        if not self._is_made:
            options["dataset_options"] = {"VERSION": _VERSION}
            options["layer_options"] = {"SPATIAL_INDEX": "YES"}
            if self._crs is None:
                options["layer_options"]["SRID"] = str(_UNDEFINED_SRID)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "'crs' was not provided")  # a raster may have none
                self._write(geometries, columns, nulls, options)
        except (DataSourceError, DataLayerError, FeatureError, FieldError, GeometryError, OSError) as error:
            raise self._failure(error) from error
        self._is_made = True
        self.count += len(geometries)
        self._waiting_bytes = 0
        self._geometries.clear()
        for parts in self._columns.values():
            parts.clear()

    def _write(
        self,
        geometries: NDArray[np.object_],
        columns: list[NDArray[np.generic]],
        nulls: list[NDArray[np.bool_]],
        options: Mapping[str, Any],
    ) -> None:
        pyogrio.raw.write(
            self.path,
            geometry=geometries,
            field_data=columns,
            field_mask=nulls,
            fields=list(self._schema),
            layer=self._layer,
            driver="GPKG",
            geometry_type=self._geometry_type,
            crs=self._crs,
            append=self._is_made,
            **options,
        )

    def _undefine_crs(self) -> None:
        """Make GDAL's entry for an undefined CRS one that every version takes for none.

        Before GDAL 3.9 it is read as a local CRS of the name "Undefined SRS", which QGIS then shows.
        """
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute(
                "UPDATE gpkg_spatial_ref_sys SET definition = '' WHERE srs_id = ?", (_UNDEFINED_SRID,)
            )

    def _failure(self, reason: object) -> OutputError:
        return OutputError(
            f"{self.path} cannot be written ({reason}): check that its folder is there and writable, that "
            "the disk is not full and that the file is not open elsewhere."
        )


def _nulls(column: NDArray[np.generic]) -> NDArray[np.bool_]:
    masked: NDArray[np.bool_] = np.ma.getmaskarray(column)
    return masked | np.isnan(np.ma.getdata(column)) if column.dtype.kind == "f" else masked
