"""Makes layers of damaged buildings as the worker writes them; GDAL alone, so that a peer can do it too."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

from osgeo import ogr, osr

ROOT = Path(__file__).resolve().parents[2]
STREET = "Şehit Ömer Sokağı 東京"
SIDE, SPACING, COLUMNS = 10.0, 16.0, 20
WEST, NORTH = 500_000.0, 4_100_000.0

# By the number of the building modulo ten: level, confidence.
PATTERN = (
    (1, 0.95),
    (1, 0.9),
    (1, 0.55),
    (2, 0.8),
    (1, 0.99),
    (4, 0.97),
    (4, 0.5),
    (1, 0.7),
    (2, 0.58),
    (0, None),
)
NAMES = {0: "unknown", 1: "no visible damage", 2: "damaged", 4: "destroyed"}
LEVELS = [
    {"code": code, "name": NAMES[code], "colour": colour}
    for code, colour in ((1, "#2c7bb6"), (2, "#f46d43"), (4, "#a50026"))
]
CROSSWALK = {0: "Not analysed", 1: "No visible damage", 2: "Possibly damaged", 4: "Destroyed"}


def fields():
    """Name, type and meaning of the contract's fields; loaded without the package."""
    spec = importlib.util.spec_from_file_location("damage_fields", ROOT / "core" / "damage_fields.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module.FIELDS


def attributes(number):
    level, confidence = PATTERN[number % len(PATTERN)]
    rest = None if confidence is None else 1 - confidence
    named = {1: "p_none", 2: "p_minor", 4: "p_destr"}
    values = {
        "damage": level,
        "damage_nam": NAMES[level],
        **(dict.fromkeys(named.values(), rest / 2) if level else {}),
        **({named[level]: confidence} if level else {}),
        "confidence": confidence,
        "seen": 1.0 if level else 0.2,
        "area_m2": SIDE * SIDE,
        "ems": CROSSWALK[level],
        "unosat": CROSSWALK[level],
        "source_id": f"osm/{number}",
        **({"triage": (confidence if level == 4 else rest / 2) * SIDE * SIDE} if level else {}),
        "post_date": "2023-02-08",
        "model": "made",
        "reviewed": 0,
    }
    return {name: value for name, value in values.items() if value is not None}


def write_buildings(path, count, epsg=32637, first=0):
    """Square buildings in rows of twenty, with the contract's fields and one of the source's own."""
    reference = None
    if epsg:
        reference = osr.SpatialReference()
        reference.ImportFromEPSG(epsg)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    data = ogr.GetDriverByName("GPKG").CreateDataSource(str(path))
    layer = data.CreateLayer("buildings", reference, ogr.wkbPolygon)
    kinds = {"int": ogr.OFTInteger, "real": ogr.OFTReal, "str": ogr.OFTString}
    for name, kind, _ in fields():
        layer.CreateField(ogr.FieldDefn(name, kinds[kind]))
    layer.CreateField(ogr.FieldDefn("street", ogr.OFTString))
    layer.StartTransaction()
    for number in range(first, first + count):
        feature = ogr.Feature(layer.GetLayerDefn())
        for name, value in attributes(number).items():
            feature.SetField(name, value)
        feature.SetField("street", STREET)
        west = WEST + SPACING * (number % COLUMNS)
        north = NORTH - SPACING * (number // COLUMNS)
        east, south = west + SIDE, north - SIDE
        corners = ((west, north), (east, north), (east, south), (west, south), (west, north))
        text = ", ".join(f"{x} {y}" for x, y in corners)
        feature.SetGeometry(ogr.CreateGeometryFromWkt(f"POLYGON (({text}))"))
        layer.CreateFeature(feature)
    layer.CommitTransaction()
    data.FlushCache()
    return str(path)


def counts(count):
    """Name of a level to its number of buildings."""
    found = dict.fromkeys(NAMES.values(), 0)
    for number in range(count):
        found[NAMES[PATTERN[number % len(PATTERN)][0]]] += 1
    return found


def write_card(folder, name, **changes):
    """A model package without weights: enough for what only reads cards."""
    from aftermap.core.cards import Card

    card = Card(
        **{
            "name": name,
            "title": f"The model {name}",
            "task": "damage",
            "architecture": {"name": "siamese", "heads": ["building", "none", "minor", "destroyed"]},
            "classes": tuple(LEVELS),
            "bands": ("red", "green", "blue") * 2,
            "radiometry": {},
            "gsd_m": 0.5,
            "gsd_range_m": (0.2, 1.5),
            "tile_px": 512,
            "margin_px": 64,
            "stride_px": 32,
            "threshold": 0.4,
            **changes,
        }
    )
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / f"{name}.aftermap"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("card.json", card.to_json())
    return path
