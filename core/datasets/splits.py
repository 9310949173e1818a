"""Splits of tiles into training and validation that do not leak.

Neighbouring crops show the same roofs and the same sun; a random split of them measures memory, not skill.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import rasterio
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from ..errors import DatasetError
from .folders import LabelledTile

_TRAILING_NUMBER = re.compile(r"[_\-. ]?\d+$")


def split_tiles(
    tiles: Sequence[LabelledTile], validation_share: float
) -> tuple[list[LabelledTile], list[LabelledTile], str]:
    """Split tiles into training and validation.

    By area where the names tell areas apart (``t1_001``, ``t2_001``: the part before the last number);
    else, where the tiles are georeferenced, by a line across the ground, tiles that touch both sides left
    out; else by a run of neighbouring names (crops are mostly numbered along their scene), with the crop at
    the seam left out.

    Args:
        tiles: At least two.
        validation_share: Share of the tiles for validation, 0 to 1.

    Returns:
        Training tiles, validation tiles, and one sentence that says how the split was made.

    Raises:
        DatasetError: There are too few tiles.
    """
    if len(tiles) < 2:
        raise DatasetError(
            "One labelled tile cannot be split: add tiles, or name a folder of validation tiles."
        )
    wanted = min(max(1, round(len(tiles) * validation_share)), len(tiles) - 1)
    areas: dict[str, list[LabelledTile]] = {}
    for tile in sorted(tiles, key=lambda t: t.stem):
        areas.setdefault(_TRAILING_NUMBER.sub("", tile.stem), []).append(tile)
    if len(areas) > 1:
        return _split_by_area(areas, wanted)
    bounds = [_bounds(t) for t in tiles]
    if all(b is not None for b in bounds):
        return _split_by_line(list(tiles), [b for b in bounds if b is not None], wanted)
    ordered = sorted(tiles, key=lambda t: t.stem)
    seam = 1 if len(ordered) > 2 * wanted + 2 else 0
    return (
        ordered[: len(ordered) - wanted - seam],
        ordered[len(ordered) - wanted :],
        "Validation tiles are the last of the names, the one before them left out; give a folder of "
        "validation tiles if neighbours by name overlap.",
    )


def _split_by_area(
    areas: dict[str, list[LabelledTile]], wanted: int
) -> tuple[list[LabelledTile], list[LabelledTile], str]:
    # The areas whose size comes nearest to what is wanted, smallest first, and never all of them.
    validation: list[str] = []
    for name in sorted(areas, key=lambda a: (abs(len(areas[a]) - wanted), a)):
        held = sum(len(areas[v]) for v in validation)
        if validation and held + len(areas[name]) > 1.5 * wanted:
            continue
        if len(validation) < len(areas) - 1:
            validation.append(name)
    chosen = [t for name in sorted(validation) for t in areas[name]]
    rest = [t for name, tiles in areas.items() if name not in validation for t in tiles]
    return rest, chosen, f"Validation tiles are of areas of their own: {', '.join(sorted(validation))}."


def _split_by_line(
    tiles: list[LabelledTile], bounds: list[tuple[float, float, float, float]], wanted: int
) -> tuple[list[LabelledTile], list[LabelledTile], str]:
    extent = [max(b[i + 2] for b in bounds) - min(b[i] for b in bounds) for i in (0, 1)]
    axis = 0 if extent[0] >= extent[1] else 1
    order = sorted(range(len(tiles)), key=lambda i: bounds[i][axis])
    line = bounds[order[len(tiles) - wanted]][axis]
    validation = [tiles[i] for i in order if bounds[i][axis] >= line]
    training = [tiles[i] for i in order if bounds[i][axis + 2] <= line + 1e-9]
    if not training:
        raise DatasetError("All tiles overlap, so no split is honest: name a folder of validation tiles.")
    left_out = len(tiles) - len(training) - len(validation)
    side = "east" if axis == 0 else "north"
    return (
        training,
        validation,
        f"Validation tiles lie {side} of a line; {left_out} tiles across it are left out.",
    )


def _bounds(tile: LabelledTile) -> tuple[float, float, float, float] | None:
    """Bounds in longitude and latitude; none without a CRS, or where the file is broken."""
    try:
        with rasterio.open(tile.image) as source:
            if source.crs is None:
                return None
            found: tuple[float, float, float, float] = transform_bounds(
                source.crs, "EPSG:4326", *source.bounds
            )
            return found
    except (RasterioError, OSError):
        return None
