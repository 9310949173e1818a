"""xBD: buildings and their damage on pairs of images from before and after a disaster.

``images/<event>_<number>_{pre,post}_disaster.png`` with ``labels/`` of the same names (JSON, polygons in
pixels and in degrees) or ``targets/…_target.png`` (0 background, 1 to 4 damage, 255 un-classified), or both:
then the polygons count. The images carry no georeference; `fit_georeference` finds it from the polygons.

Reference: Gupta et al., *xBD: A Dataset for Assessing Building Damage from Satellite Imagery*, 2019.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from ..errors import DatasetError, RasterError
from ..raster.georeference import fit_control_points
from .layouts import images_by_stem
from .masks import IGNORE, read_pixels

_PRE, _POST, _TARGET = "_pre_disaster", "_post_disaster", "_target"


class Damage(IntEnum):
    """Levels of damage on the Joint Damage Scale; 0 is no building, `IGNORE` one that is not classified."""

    NO_DAMAGE = 1
    MINOR = 2
    MAJOR = 3
    DESTROYED = 4


_CODES = {
    "no-damage": int(Damage.NO_DAMAGE),
    "minor-damage": int(Damage.MINOR),
    "major-damage": int(Damage.MAJOR),
    "destroyed": int(Damage.DESTROYED),
    "un-classified": IGNORE,
}


@dataclass(frozen=True)
class XbdScene:
    """A pair of images with its labels, as files.

    Attributes:
        stem: ``<event>_<number>``.
        pre: Image from before the disaster.
        post: Image from after it.
        labels: JSON files of the two; none where there is no such file.
        targets: Rasters of the two; none where there is no such file.
    """

    stem: str
    pre: Path
    post: Path
    labels: tuple[Path | None, Path | None]
    targets: tuple[Path | None, Path | None]

    @property
    def event(self) -> str:
        """Name of the disaster: scenes of one event never stand on both sides of a split."""
        return self.stem.rpartition("_")[0]


@dataclass(frozen=True)
class XbdBuilding:
    """A building of a label file.

    Attributes:
        uid: The same before and after the disaster.
        damage: A code of `Damage`, `IGNORE` where un-classified; none in files from before the disaster.
        pixels: Its outline in pixels (column, row).
        degrees: Its outline in longitude and latitude; none where the file has none.
    """

    uid: str
    damage: int | None
    pixels: BaseGeometry
    degrees: BaseGeometry | None


@dataclass(frozen=True)
class XbdLabels:
    """The labels of a scene as arrays.

    Attributes:
        building: uint8 (h, w): 1 where a building stood before the disaster, 0 elsewhere.
        damage: uint8 (h, w): codes of `Damage` on the buildings, 0 elsewhere, `IGNORE` where un-classified.
    """

    building: NDArray[np.uint8]
    damage: NDArray[np.uint8]


def find_scenes(folder: Path) -> tuple[list[XbdScene], list[str]]:
    """The scenes of a folder, and the names of images that lack a partner or labels.

    Raises:
        DatasetError: The folder is not laid out as xBD, or no scene is complete.
    """
    if not (folder / "images").is_dir():
        raise DatasetError(f"{folder} is not laid out as xBD: it needs images/, and labels/ or targets/.")
    images = images_by_stem(folder / "images")
    targets = images_by_stem(folder / "targets") if (folder / "targets").is_dir() else {}
    scenes, alone = [], []
    for name, path in images.items():
        stem = name.removesuffix(_PRE).removesuffix(_POST)
        labels = [_existing(folder / "labels" / f"{stem}{when}.json") for when in (_PRE, _POST)]
        rasters = [targets.get(f"{stem}{when}{_TARGET}") for when in (_PRE, _POST)]
        both = [images.get(f"{stem}{when}") for when in (_PRE, _POST)]
        if both[0] is None or both[1] is None or (labels[1] is None and rasters[1] is None):
            alone.append(path.name)
        elif name.endswith(_POST):
            pair, codes = (labels[0], labels[1]), (rasters[0], rasters[1])
            scenes.append(XbdScene(stem, both[0], both[1], pair, codes))
    if not scenes:
        raise DatasetError(
            f"{folder} holds no complete xBD scene: each needs <name>_pre_disaster and <name>_post_disaster "
            "in images/, and the labels or the target of the latter."
        )
    return scenes, alone


def name_scenes(scenes: Sequence[XbdScene]) -> dict[str, XbdScene]:
    """Scenes by the name that lists give them: the number, or the stem where there are several events."""
    by_number = {scene.stem.rpartition("_")[2]: scene for scene in scenes}
    return by_number if len(by_number) == len(scenes) else {scene.stem: scene for scene in scenes}


def read_labels(scene: XbdScene, height: int, width: int) -> XbdLabels:
    """The labels of a scene, from its polygons, or from its targets where it has no polygons.

    Where files of both dates are there, the buildings are those from before the disaster.

    Raises:
        DatasetError: A file is damaged or of another size.
    """
    if scene.labels[1] is not None:
        after = read_buildings(scene.labels[1])
        before = read_buildings(scene.labels[0]) if scene.labels[0] is not None else after
        return XbdLabels(
            burn([b.pixels for b in before], [1] * len(before), height, width),
            burn([b.pixels for b in after], [_damage_of(b, scene) for b in after], height, width),
        )
    damage = read_target(_the(scene.targets[1], scene), height, width)
    if scene.targets[0] is None:
        return XbdLabels((damage != 0).astype(np.uint8), damage)
    return XbdLabels((read_target(scene.targets[0], height, width) != 0).astype(np.uint8), damage)


def read_buildings(path: Path) -> list[XbdBuilding]:
    """The buildings of a label file.

    Raises:
        DatasetError: It is no label file of xBD, or names a level of damage that there is not.
    """
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        degrees = {f["properties"]["uid"]: _outline(f) for f in features.get("lng_lat", [])}
        return [
            XbdBuilding(uid := f["properties"]["uid"], _code_of(f), _outline(f), degrees.get(uid))
            for f in features["xy"]
            if f["properties"]["feature_type"] == "building"
        ]
    except (OSError, ValueError, KeyError, TypeError, shapely.errors.ShapelyError) as error:
        raise DatasetError(
            f"{path} is no label file of xBD ({type(error).__name__}: {error}): replace or remove it."
        ) from error


def read_target(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """A target raster: uint8 (height, width) of 0, 1 to 4 and `IGNORE`.

    Raises:
        DatasetError: It cannot be read, is of another size, or holds other codes.
    """
    codes = read_pixels(path, what="target").bands[0]
    if codes.shape != (height, width):
        raise DatasetError(
            f"The target {path} has {codes.shape[1]} x {codes.shape[0]} pixels and its image {width} x "
            f"{height}: make them equal, or remove the scene."
        )
    unknown = sorted(set(np.unique(codes).tolist()) - {0, *_CODES.values()})
    if unknown:
        raise DatasetError(
            f"The target {path} holds the code {unknown[0]}: 0 is background, 1 to 4 are damage, 255 is not "
            "classified. Mend or remove it."
        )
    target: NDArray[np.uint8] = codes.astype(np.uint8)
    return target


def fit_georeference(buildings: Sequence[XbdBuilding]) -> tuple[Affine, float]:
    """Where an image lies, from the vertices of its buildings in pixels and in degrees (EPSG:4326).

    Args:
        buildings: Of a label file; at least one whose outline has both.

    Returns:
        The transform from (column, row), and the largest residual in pixels.

    Raises:
        DatasetError: There are no such vertices, or they lie in one line.
    """
    points = [
        GroundControlPoint(row=row, col=column, x=longitude, y=latitude)
        for building in buildings
        if building.degrees is not None
        for (column, row), (longitude, latitude) in _vertices(building.pixels, building.degrees)
    ]
    if len(points) < 3:
        raise DatasetError(
            "No building of the image has coordinates, so its place is not known: leave it out."
        )
    try:
        return fit_control_points(points)
    except RasterError as error:
        raise DatasetError(f"The place of the image cannot be found from its buildings ({error}).") from error


def burn(
    outlines: Sequence[BaseGeometry], codes: Sequence[int], height: int, width: int
) -> NDArray[np.uint8]:
    """Outlines in pixels as an array, the later over the earlier: uint8 (height, width), 0 elsewhere."""
    shapes = [(outline, code) for outline, code in zip(outlines, codes, strict=True) if outline.area > 0]
    if not shapes:
        return np.zeros((height, width), np.uint8)
    burnt: NDArray[np.uint8] = rasterize(shapes, (height, width), dtype="uint8")
    return burnt


def _code_of(feature: dict[str, Any]) -> int | None:
    level = feature["properties"].get("subtype")
    if level is None:
        return None
    if level not in _CODES:
        raise ValueError(f"there is no level of damage {level!r}, only {', '.join(_CODES)}")
    return _CODES[level]


def _outline(feature: dict[str, Any]) -> BaseGeometry:
    return shapely.from_wkt(feature["wkt"])


def _vertices(
    pixels: BaseGeometry, degrees: BaseGeometry
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Vertices that belong together; none where the outlines differ in their number."""
    a, b = shapely.get_coordinates(pixels).tolist(), shapely.get_coordinates(degrees).tolist()
    return [((u[0], u[1]), (v[0], v[1])) for u, v in zip(a, b, strict=True)] if len(a) == len(b) else []


def _damage_of(building: XbdBuilding, scene: XbdScene) -> int:
    if building.damage is None:
        raise DatasetError(
            f"{scene.labels[1]} does not say how damaged the building {building.uid} is: mend it."
        )
    return building.damage


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _the(target: Path | None, scene: XbdScene) -> Path:
    if target is None:
        raise DatasetError(f"The scene {scene.stem} has neither labels nor a target: add one.")
    return target
