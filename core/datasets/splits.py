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
_TELLING_RATIO = 3.0  # validation tiles with a third to three times the class share can tell models apart
_SLIVER = 1e-9  # degrees; neighbours that share an edge do not overlap


Split = tuple[list[LabelledTile], list[LabelledTile], str]
"""Training tiles, validation tiles, and one sentence that says how the split was made."""


def split_tiles(
    tiles: Sequence[LabelledTile], class_shares: Sequence[float], validation_share: float
) -> Split:
    """Split tiles into training and validation.

    Where the tiles are georeferenced, by a line across the ground, tiles that touch both sides left out;
    else by area where the names tell areas apart (``t1_001``, ``t2_001``: the part before the last number);
    else by a run of neighbouring names (crops are mostly numbered along their scene), with the crops at its
    ends left out. Of several ways, the one whose validation tiles hold the class about as often as all
    tiles: a model cannot be judged by tiles without it.

    Args:
        tiles: At least two.
        class_shares: Share of the class in each, 0 to 1.
        validation_share: Share of the tiles for validation, 0 to 1.

    Raises:
        DatasetError: There are too few tiles, or all overlap.
    """
    if len(tiles) < 2:
        raise DatasetError(
            "One labelled tile cannot be split: add tiles, or name a folder of validation tiles."
        )
    wanted = min(max(1, round(len(tiles) * validation_share)), len(tiles) - 1)
    order = sorted(range(len(tiles)), key=lambda i: tiles[i].stem)
    tiles, shares = [tiles[i] for i in order], [class_shares[i] for i in order]
    bounds = [_bounds(t) for t in tiles]
    if all(b is not None for b in bounds):
        return _split_by_line(tiles, shares, [b for b in bounds if b is not None], wanted)
    areas: dict[str, list[int]] = {}
    for i, tile in enumerate(tiles):
        areas.setdefault(_TRAILING_NUMBER.sub("", tile.stem), []).append(i)
    if len(areas) > 1:
        return _split_by_area(tiles, shares, areas, wanted)
    return _split_by_run(tiles, shares, wanted)


def _lack(shares: Sequence[float], chosen: Sequence[int]) -> float:
    """How far the class share of the chosen tiles lies under or over that of all, as a ratio from 1 on."""
    mean_of_all = sum(shares) / len(shares)
    mean = sum(shares[i] for i in chosen) / len(chosen)
    low, high = sorted((mean, mean_of_all))
    return (high + 1e-6) / (low + 1e-6)


def _split_by_area(
    tiles: Sequence[LabelledTile], shares: Sequence[float], areas: dict[str, list[int]], wanted: int
) -> Split:
    """Whole areas, those first that have about the class share of all and about the size that is wanted."""

    def unfitness(name: str) -> tuple[bool, int, float, str]:
        lack = _lack(shares, areas[name])
        return (lack > _TELLING_RATIO, abs(len(areas[name]) - wanted), lack, name)

    validation: list[str] = []
    held = 0
    for name in sorted(areas, key=unfitness):
        size = len(areas[name])
        if (not validation or held + size <= 1.5 * wanted) and len(validation) < len(areas) - 1:
            validation.append(name)
            held += size
    chosen = {i for name in validation for i in areas[name]}
    named = ", ".join(sorted(validation)[:5]) + (" …" if len(validation) > 5 else "")
    return *_parted(tiles, chosen, set()), f"Validation tiles are of areas of their own: {named}."


def _split_by_run(tiles: Sequence[LabelledTile], shares: Sequence[float], wanted: int) -> Split:
    runs = [range(start, start + wanted) for start in range(len(tiles) - wanted + 1)]
    run = min(reversed(runs), key=lambda r: _lack(shares, r))
    has_room = len(tiles) > 2 * wanted + 2
    seam = {run.start - 1, run.stop} if has_room else set()
    return (
        *_parted(tiles, set(run), seam),
        f"Validation tiles are {tiles[run.start].stem} to {tiles[run.stop - 1].stem}, their neighbours by "
        "name left out; give a folder of validation tiles if others overlap them.",
    )


def _split_by_line(
    tiles: Sequence[LabelledTile],
    shares: Sequence[float],
    bounds: Sequence[tuple[float, float, float, float]],
    wanted: int,
) -> Split:
    extent = [max(b[i + 2] for b in bounds) - min(b[i] for b in bounds) for i in (0, 1)]
    axis = 0 if extent[0] >= extent[1] else 1
    order = sorted(range(len(tiles)), key=lambda i: bounds[i][axis])
    upper, lower = order[-wanted:], sorted(order, key=lambda i: bounds[i][axis + 2])[:wanted]
    if _lack(shares, upper) <= _lack(shares, lower):
        side, line = ("east", "north")[axis], min(bounds[i][axis] for i in upper)
        chosen = {i for i in order if bounds[i][axis] >= line}
        across = {i for i in order if bounds[i][axis] < line < bounds[i][axis + 2] - _SLIVER}
    else:
        side, line = ("west", "south")[axis], max(bounds[i][axis + 2] for i in lower)
        chosen = {i for i in order if bounds[i][axis + 2] <= line}
        across = {i for i in order if bounds[i][axis] + _SLIVER < line < bounds[i][axis + 2]}
    training, validation = _parted(tiles, chosen, across)
    if not training:
        raise DatasetError("All tiles overlap, so no split is honest: name a folder of validation tiles.")
    how = f"Validation tiles lie {side} of a line; {len(across)} tiles across it are left out."
    return training, validation, how


def _parted(
    tiles: Sequence[LabelledTile], validation: set[int], left_out: set[int]
) -> tuple[list[LabelledTile], list[LabelledTile]]:
    training = [t for i, t in enumerate(tiles) if i not in validation and i not in left_out]
    return training, [t for i, t in enumerate(tiles) if i in validation]


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
