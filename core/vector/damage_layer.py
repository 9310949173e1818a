"""The layer of buildings with their damage, and its summary by level."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from ..damage_fields import CERTAIN, FIELDS, MIN_SEEN, UNKNOWN, level_of
from ..errors import OutputError
from ..raster.grid import Grid
from ..raster.probability import unwritable
from .footprint_input import Column, Footprints, Shapes, onto_pixels
from .ground import Ground
from .layers import LayerWriter
from .scanlines import Floats, Ints

LAYER = "building_damage"

UNREVIEWED = "model count, unreviewed"

_NONE, _POSSIBLE = 1, 2  # codes: no visible damage, and minor damage for what is possibly damaged
_DTYPES = {"int": "i4", "real": "f8", "str": "object"}
_FEATURES_AT_ONCE = 10_000
_NAME_BYTES = 10  # of a Shapefile's field names
_RESERVED = {"", "fid", "ogc_fid", "geom", "geometry"}  # columns of their own in a GeoPackage
_POLYGON = 3  # shapely's type id


@dataclass(frozen=True)
class ModelLevel:
    """A level of damage that a model tells apart.

    Attributes:
        code: Of `damage_fields.LEVELS`; where levels are merged, of the one whose classes of EMS and UNOSAT
            and whose field it takes.
        name: As the model calls it.
    """

    code: int
    name: str


@dataclass(frozen=True)
class Assessment:
    """What a model says of n buildings.

    Attributes:
        levels: Those that it tells apart, k of them in ascending order of their codes.
        probabilities: float64 (n, k), rows that sum to 1; NaN where nothing was seen.
        seen: float64 (n,), share of the footprint that the images show.
        area_m2: float64 (n,); NaN where there is no geometry.
        moved_m: float64 (n,), how far each was moved to where the image shows it; none: they were not.
    """

    levels: tuple[ModelLevel, ...]
    probabilities: Floats
    seen: Floats
    area_m2: Floats
    moved_m: Floats | None = None

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """bool (n,): whether enough was seen for the damage to be known."""
        known: NDArray[np.bool_] = (self.seen >= MIN_SEEN) & np.isfinite(self.probabilities).all(axis=1)
        return known

    @property
    def damage(self) -> Ints:
        """int64 (n,): code of the most probable level, 0 where unknown."""
        return np.where(self.is_known, self._codes[self._named], UNKNOWN)

    def columns(self) -> dict[str, Column]:
        """The fields of `damage_fields.FIELDS` that follow from the model's answer; NaN where unknown."""
        known, named = self.is_known, self._named
        p = np.where(known[:, None], self.probabilities, np.nan)
        found: dict[str, Column] = {"damage": self.damage.astype(np.int32)}
        names = np.array([level.name for level in self.levels], object)
        found["damage_nam"] = np.where(known, names[named], level_of(UNKNOWN).name)
        for code in (1, 2, 3, 4):
            field = str(level_of(code).field)
            found[field] = p[:, self._codes == code].sum(axis=1) if code in self._codes else _nan(len(p))
        found["severity"] = p @ self._codes
        found["confidence"] = np.take_along_axis(p, named[:, None], axis=1)[:, 0]
        found["seen"], found["area_m2"] = self.seen, self.area_m2
        found["moved_m"] = np.zeros(len(p)) if self.moved_m is None else self.moved_m
        found["triage"] = found["p_destr"] * self.area_m2
        stands_for = [level_of(code) for code in self._crosswalk().tolist()]
        found["ems"] = np.array([level.ems for level in stands_for], object)
        found["unosat"] = np.array([level.unosat for level in stands_for], object)
        return found

    @property
    def _codes(self) -> Ints:
        return np.array([level.code for level in self.levels], np.int64)

    @property
    def _named(self) -> Ints:
        """Index of the most probable level."""
        named: Ints = np.nan_to_num(self.probabilities, nan=-1.0).argmax(axis=1)
        return named

    def _crosswalk(self) -> Ints:
        """The code whose class of EMS and UNOSAT is stated for each building.

        It is the worst level, up to the named one, that the building reaches or exceeds with a probability
        of at least `CERTAIN`: what may be destroyed or badly damaged *is* damaged. Where there is no such
        level the building is *possibly* damaged, which both call as they call minor damage.
        """
        at_least = np.cumsum(self.probabilities[:, ::-1], axis=1)[:, ::-1]
        up_to_named = np.arange(len(self.levels)) <= self._named[:, None]
        is_certain = (at_least >= CERTAIN) & up_to_named & (self._codes > _NONE)
        stated = np.where(is_certain, self._codes, 0).max(axis=1)
        shows_none = (self.probabilities[:, self._codes == _NONE] >= CERTAIN).any(axis=1)
        code = np.where(shows_none, _NONE, np.where(stated > 0, stated, _POSSIBLE))
        return np.where(self.is_known, code, UNKNOWN)


@dataclass(frozen=True)
class Origin:
    """What is the same for all buildings of a run.

    Attributes:
        model: Name of the model.
        pre_date: When the image before was taken; empty: not known.
        post_date: When the image after was taken.
        off_nadir: Off-nadir angle of the image after in degrees; none: not known.
    """

    model: str
    pre_date: str = ""
    post_date: str = ""
    off_nadir: float | None = None


@dataclass(frozen=True)
class LevelTotal:
    """How many buildings have a level, and their area."""

    code: int
    name: str
    buildings: int
    area_m2: float


def measure_areas(shapes: Shapes, grid: Grid) -> Floats:
    """Ellipsoidal areas in square metres of shapes in the CRS of a grid, float64 (n,); NaN for empty ones."""
    areas = _nan(len(shapes))
    placed = ~shapely.is_empty(shapes)
    pixels = onto_pixels(shapes[placed], grid.transform)
    points = shapely.get_coordinates(shapely.point_on_surface(pixels))
    ground = Ground(grid.transform, grid.crs, grid.gsd_m)
    areas[placed] = shapely.area(pixels) * ground.square_metres_per_pixel(points)
    return areas


def write_damage_layer(
    path: Path, crs: CRS | None, footprints: Footprints, assessment: Assessment, origin: Origin
) -> None:
    """Write the building layer: one feature a footprint, in their order.

    Its fields are `damage_fields.FIELDS`, and after them the footprints' own attributes by
    `rename_attributes`. Buildings are yet to be reviewed.

    Args:
        path: The GeoPackage; replaced if it is there.
        crs: Of the footprints.
        footprints: n of them.
        assessment: Of the same.
        origin: Of the run.

    Raises:
        OutputError: The file cannot be written.
    """
    count, columns = len(footprints.shapes), assessment.columns()
    columns["source_id"] = footprints.ids
    columns["off_nadir"] = np.full(count, np.nan if origin.off_nadir is None else origin.off_nadir)
    for name, text in (
        ("pre_date", origin.pre_date),
        ("post_date", origin.post_date),
        ("model", origin.model),
    ):
        columns[name] = np.full(count, text or None, object)
    columns["reviewed"] = np.zeros(count, np.int32)
    columns["analyst"] = np.full(count, None, object)
    columns["model_dam"] = np.ma.MaskedArray(np.zeros(count, np.int32), mask=True)
    schema = {name: _DTYPES[kind] for name, kind, _ in FIELDS}
    for name, new_name in rename_attributes(footprints.attributes).items():
        columns[new_name] = footprints.attributes[name]
        schema[new_name] = columns[new_name].dtype.str

    kind, shapes = _of_one_kind(footprints.shapes)
    writer = LayerWriter(path, LAYER, kind, crs, schema)
    for begin in range(0, count, _FEATURES_AT_ONCE):
        part = slice(begin, begin + _FEATURES_AT_ONCE)
        writer.append(shapes[part], {name: columns[name][part] for name in schema})
    writer.close()


def rename_attributes(names: Iterable[str]) -> dict[str, str]:
    """What a footprint layer's own attributes are called beside the fields of the building layer.

    A name is cut to the ten bytes that a Shapefile keeps. Where a field of the building layer or an earlier
    attribute has it already (upper and lower case are the same there), ``src_`` is put before it; and where
    that is taken too, a number in the place of its last letters.
    """
    taken = {name for name, _, _ in FIELDS} | _RESERVED
    renamed = {}
    for name in names:
        new_name, number = _cut(name, _NAME_BYTES), 0
        while new_name.lower() in taken:
            ending = str(number or "")
            new_name = _cut(f"src_{name}", _NAME_BYTES - len(ending)) + ending
            number += 1
        taken.add(new_name.lower())
        renamed[name] = new_name
    return renamed


def sum_up(assessment: Assessment) -> list[LevelTotal]:
    """Counts and areas of the levels that the model tells apart, and of unknown, which comes last."""
    damage = assessment.damage
    totals = []
    for level in (*assessment.levels, ModelLevel(UNKNOWN, level_of(UNKNOWN).name)):
        has_level = damage == level.code
        area_m2 = float(np.nansum(assessment.area_m2[has_level]))
        totals.append(LevelTotal(level.code, level.name, int(has_level.sum()), area_m2))
    return totals


def write_summary(path: Path, totals: Sequence[LevelTotal]) -> None:
    """Write counts and areas as a CSV table (UTF-8), with a last row of their total.

    Raises:
        OutputError: The file cannot be written.
    """
    rows: list[tuple[Any, ...]] = [("damage", "level", f"buildings ({UNREVIEWED})", "area_m2")]
    rows += [(total.code, total.name, total.buildings, f"{total.area_m2:.1f}") for total in totals]
    area_m2 = sum(total.area_m2 for total in totals)
    rows.append(("", "total", sum(total.buildings for total in totals), f"{area_m2:.1f}"))
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    except OSError as error:
        raise OutputError(unwritable(path, str(error))) from error


def _of_one_kind(shapes: Shapes) -> tuple[str, Shapes]:
    """The geometry type of a layer of these, and they as such: multi-polygons if any is one."""
    is_single = shapely.get_type_id(shapes) == _POLYGON
    if is_single.all():
        return "Polygon", shapes
    alike = shapes.copy()
    alike[is_single] = shapely.multipolygons(shapes[is_single, None])
    alike[shapely.is_empty(shapes)] = shapely.MultiPolygon()
    return "MultiPolygon", alike


def _cut(name: str, size: int) -> str:
    """The letters of a name that fit into `size` bytes of UTF-8."""
    return name.encode()[:size].decode(errors="ignore")


def _nan(count: int) -> Floats:
    return np.full(count, np.nan)
