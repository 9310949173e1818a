"""Write generated pairs as xBD lays out its scenes, and as georeferenced rasters with footprints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image
from rasterio.warp import transform
from shapely.geometry.base import BaseGeometry

from .synthetic_damage import ScenePair
from .xbd import Damage

_SUBTYPES = {
    Damage.NO_DAMAGE: "no-damage",
    Damage.MINOR: "minor-damage",
    Damage.MAJOR: "major-damage",
    Damage.DESTROYED: "destroyed",
}
_DISASTER_TYPES = {"earthquake": "earthquake", "storm": "wind", "fire": "fire"}


def write_xbd_pair(pair: ScenePair, folder: Path, event: str, number: int) -> str:
    """Write images, labels and targets of a pair as `xbd.find_scenes` and `xbd.read_labels` read them.

    Args:
        pair: What to write.
        folder: Of all scenes; ``images/``, ``labels/`` and ``targets/`` are made in it.
        event: Name of the event; scenes of one event never stand on both sides of a split.
        number: Of the scene within the folder.

    Returns:
        The scene's stem, ``<event>_<number>``.
    """
    stem = f"{event}_{number:08d}"
    for part in ("images", "labels", "targets"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    targets = {"pre": (pair.damage > 0).astype(np.uint8), "post": pair.damage}
    for when, image in (("pre", pair.pre), ("post", pair.post)):
        name = f"{stem}_{when}_disaster"
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
        Image.fromarray(targets[when]).save(folder / "targets" / f"{name}_target.png")
        text = json.dumps(_labels(pair, event, f"{name}.png", is_post=when == "post"))
        (folder / "labels" / f"{name}.json").write_text(text, encoding="utf-8")
    return stem


def write_georeferenced_pair(pair: ScenePair, folder: Path) -> None:
    """Write ``pre.tif``, ``post.tif`` and ``footprints.geojson`` (WGS 84), as an analyst would get them.

    The footprints have ``id`` and ``truth``, a code of `Damage`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    height, width = pair.damage.shape
    for name, image in (("pre", pair.pre), ("post", pair.post)):
        with rasterio.open(
            folder / f"{name}.tif",
            "w",
            driver="GTiff",
            dtype="uint8",
            count=3,
            photometric="RGB",
            height=height,
            width=width,
            transform=pair.transform,
            crs=pair.crs,
            tiled=True,
            compress="deflate",
        ) as file:
            file.write(np.moveaxis(image, 2, 0))
    outlines = _in_degrees(pair, [building.outline for building in pair.buildings])
    features = [
        {
            "type": "Feature",
            "properties": {"id": f"{building.id:016x}", "truth": int(building.damage)},
            "geometry": shapely.geometry.mapping(outline),
        }
        for building, outline in zip(pair.buildings, outlines, strict=True)
    ]
    collection = {"type": "FeatureCollection", "name": "footprints", "features": features}
    (folder / "footprints.geojson").write_text(json.dumps(collection), encoding="utf-8")


def _labels(pair: ScenePair, event: str, image_name: str, *, is_post: bool) -> dict[str, Any]:
    """The content of a label file; those from before the event say nothing of damage."""
    height, width = pair.damage.shape
    # xBD knows no multi-part buildings: each part of one that the frame cuts is a building of its own.
    parts = [
        (building, number, part)
        for building in pair.buildings
        for number, part in enumerate(shapely.get_parts(building.outline))
        if part.area > 0
    ]
    pixels = [part for _, _, part in parts]
    lists: dict[str, list[dict[str, Any]]] = {"lng_lat": [], "xy": []}
    for name, outlines, digits in (("xy", pixels, 6), ("lng_lat", _in_degrees(pair, pixels), 10)):
        for (building, number, _), outline in zip(parts, outlines, strict=True):
            properties = {"feature_type": "building", "uid": str(UUID(int=building.id << 64 | number))}
            if is_post:
                properties["subtype"] = _SUBTYPES[building.damage]
            wkt = shapely.to_wkt(outline, rounding_precision=digits)
            lists[name].append({"properties": properties, "wkt": wkt})
    metadata = {
        "sensor": "generated",
        "gsd": pair.gsd_m,
        "disaster": event,
        "disaster_type": _DISASTER_TYPES[pair.hazard],
        "original_width": width,
        "original_height": height,
        "width": width,
        "height": height,
        "img_name": image_name,
    }
    return {"features": lists, "metadata": metadata}


def _in_degrees(pair: ScenePair, outlines: list[BaseGeometry]) -> list[BaseGeometry]:
    """Outlines in pixels as outlines in longitude and latitude."""

    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        grid, (column, row) = pair.transform, points.T
        x, y = grid.a * column + grid.b * row + grid.c, grid.d * column + grid.e * row + grid.f
        return np.stack(transform(pair.crs, "EPSG:4326", x, y), 1)

    return [shapely.transform(outline, project) for outline in outlines]
