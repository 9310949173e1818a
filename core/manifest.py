"""The manifest of a run: what was computed from what, by which model, how; enough to repeat it.

It stands as JSON beside the outputs and in the metadata of each of them.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from .cards import Card
from .jobs import Job, to_json
from .runs import file_identity
from .version import read_version

FORMAT = "aftermap-manifest/1"
METADATA_KEY = "AFTERMAP_MANIFEST"

_LIBRARIES = ("torch", "numpy", "rasterio", "shapely", "pyogrio")


def begin_manifest(job: Job, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What is known of a run before it starts.

    Args:
        job: What was asked for; kept whole, so that the run can be repeated.
        inputs: Name of each file that is read to its path; empty paths are left out.
    """
    return {
        "format": FORMAT,
        "job": json.loads(to_json(job)),
        "inputs": {name: file_identity(path) for name, path in inputs.items() if path},
        "started": now(),
        "versions": _versions(),
    }


def describe_model(card: Card) -> dict[str, Any]:
    """Which model it was."""
    return {"name": card.name, "sha256": card.weights_sha256, "licence": card.licence}


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest as JSON that a person can read."""
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def embed_in_geopackage(path: Path, manifest: Mapping[str, Any]) -> None:
    """Put a manifest into the metadata of a GeoPackage, where GDAL and QGIS show it; an older one goes.

    Reference: OGC 12-128r19, annex F.8 (metadata extension), in the form that GDAL writes.
    """
    text = escape(json.dumps(manifest, ensure_ascii=False))
    document = (
        "<GDALMultiDomainMetadata>\n  <Metadata>\n"
        f'    <MDI key="{METADATA_KEY}">{text}</MDI>\n'
        "  </Metadata>\n</GDALMultiDomainMetadata>\n"
    )
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_METADATA_TABLES)
        database.execute(
            "DELETE FROM gpkg_metadata_reference WHERE md_file_id IN"
            " (SELECT id FROM gpkg_metadata WHERE instr(metadata, ?))",
            (METADATA_KEY,),
        )
        database.execute("DELETE FROM gpkg_metadata WHERE instr(metadata, ?)", (METADATA_KEY,))
        row = database.execute(
            "INSERT INTO gpkg_metadata (md_scope, md_standard_uri, mime_type, metadata)"
            " VALUES ('dataset', 'http://gdal.org', 'text/xml', ?)",
            (document,),
        )
        database.execute(
            "INSERT INTO gpkg_metadata_reference (reference_scope, md_file_id) VALUES ('geopackage', ?)",
            (row.lastrowid,),
        )


def _versions() -> dict[str, str]:
    versions = {"aftermap": read_version(), "python": platform.python_version()}
    for library in _LIBRARIES:
        versions[library] = importlib.metadata.version(library)
    from rasterio import __gdal_version__  # loads GDAL, which only runs need

    return {**versions, "gdal": __gdal_version__, "system": platform.platform()}


_METADATA_TABLES = """
CREATE TABLE IF NOT EXISTS gpkg_metadata (
    id INTEGER CONSTRAINT m_pk PRIMARY KEY ASC NOT NULL,
    md_scope TEXT NOT NULL DEFAULT 'dataset',
    md_standard_uri TEXT NOT NULL,
    mime_type TEXT NOT NULL DEFAULT 'text/xml',
    metadata TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS gpkg_metadata_reference (
    reference_scope TEXT NOT NULL,
    table_name TEXT,
    column_name TEXT,
    row_id_value INTEGER,
    timestamp DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    md_file_id INTEGER NOT NULL,
    md_parent_id INTEGER,
    CONSTRAINT crmr_mfi_fk FOREIGN KEY (md_file_id) REFERENCES gpkg_metadata(id),
    CONSTRAINT crmr_mpi_fk FOREIGN KEY (md_parent_id) REFERENCES gpkg_metadata(id));
CREATE TABLE IF NOT EXISTS gpkg_extensions (
    table_name TEXT,
    column_name TEXT,
    extension_name TEXT NOT NULL,
    definition TEXT NOT NULL,
    scope TEXT NOT NULL,
    CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name));
DELETE FROM gpkg_extensions WHERE extension_name = 'gpkg_metadata';
INSERT INTO gpkg_extensions VALUES
    ('gpkg_metadata', NULL, 'gpkg_metadata',
     'http://www.geopackage.org/spec120/#extension_metadata', 'read-write'),
    ('gpkg_metadata_reference', NULL, 'gpkg_metadata',
     'http://www.geopackage.org/spec120/#extension_metadata', 'read-write');
"""
