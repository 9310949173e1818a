"""Splits of tiles into training and validation that do not leak.

Neighbouring crops show the same roofs and the same sun; a random split of them measures memory, not skill.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from ..errors import DatasetError
from ..raster.gdal import GDAL_ERRORS
from .folders import LabelledTile, select_tiles
from .footprints import Footprint, find_footprint

_TRAILING_NUMBER = re.compile(r"[_\-. ]?\d+$")
_ROW_AND_COLUMN = re.compile(
    r"(.+?)[_\-. ](?:row|r|y|x)?(\d+)[_\-. ]?(?:col|c|x|y|(?<=[_\-. ]))(\d+)", re.IGNORECASE
)
_TELLING_RATIO = 3.0  # validation tiles with a third to three times the class share can tell models apart
_TOUCHING = 0.001  # share of the smaller tile; neighbours that share an edge do not overlap

Split = tuple[list[LabelledTile], list[LabelledTile], str]
"""Training tiles, validation tiles, and one sentence that says how the split was made."""


@dataclass(frozen=True)
class SplitPlan:
    """A split.

    Attributes:
        train: Training tiles.
        validation: Validation tiles.
        left_out: Tiles on neither side, since they show what tiles of the other side show.
        how: One sentence that says how the split was made.
    """

    train: list[LabelledTile]
    validation: list[LabelledTile]
    left_out: list[LabelledTile]
    how: str


def split_tiles(
    tiles: Sequence[LabelledTile], class_shares: Sequence[float], validation_share: float
) -> Split:
    """`plan_split`, with the footprints read from the tiles, and without those that are left out."""
    plan = plan_split(tiles, class_shares, validation_share)
    return plan.train, plan.validation, plan.how


def plan_split(
    tiles: Sequence[LabelledTile],
    class_shares: Sequence[float],
    validation_share: float,
    footprints: Sequence[Footprint | None] | None = None,
) -> SplitPlan:
    """Split tiles into training and validation.

    Where the tiles are georeferenced, by blocks of ground; else by area where the names tell areas apart
    (``t1_001``, ``t2_001``: the part before the last number, as of scenes and events); else by blocks of
    rows and columns where the names hold these (``town_3_7``); else by a run of neighbouring names (crops are
    mostly numbered along their scene). Tiles that overlap tiles of the other side, or stand next to them by
    their names where nothing else is known, are left out. Of several ways, the one whose validation tiles
    hold the class about as often as all tiles: a model cannot be judged by tiles without it.

    Args:
        tiles: At least two.
        class_shares: Share of the class in each, 0 to 1.
        validation_share: Share of the tiles for validation, 0 to 1.
        footprints: Where each lies on the earth, as the index knows it; none: read from the tiles.

    Raises:
        DatasetError: There are too few tiles, or all overlap.
    """
    if len(tiles) < 2:
        raise DatasetError(
            "One labelled tile cannot be split: add tiles, or name a folder of validation tiles."
        )
    if footprints is None:
        footprints = [_read_footprint(t.image) for t in tiles]
    wanted = min(max(1, round(len(tiles) * validation_share)), len(tiles) - 1)
    order = sorted(range(len(tiles)), key=lambda i: tiles[i].stem)
    tiles, shares = [tiles[i] for i in order], [class_shares[i] for i in order]
    footprints = [footprints[i] for i in order]
    chosen, left_out, how = _choose([t.stem for t in tiles], shares, footprints, wanted)
    overlapping = _find_overlapping(footprints, chosen)
    left_out |= overlapping
    if len(chosen) + len(left_out) == len(tiles):
        raise DatasetError(
            "The tiles overlap so much that no split is honest: name a folder of validation tiles."
        )
    if left_out:
        why = "overlap them" if left_out == overlapping else "stand next to them by their names"
        how += f" {len(left_out)} tiles that {why} are left out."
    return _plan(tiles, chosen, left_out, how)


def plan_listed_split(
    tiles: Sequence[LabelledTile],
    lists: Mapping[str, Sequence[str]],
    folder: Path,
    footprints: Sequence[Footprint | None] | None = None,
) -> SplitPlan:
    """Split tiles as lists of their stems say; training tiles that overlap validation tiles are left out.

    Args:
        tiles: The usable tiles of a folder.
        lists: ``train`` and ``validation``, as of `folders.read_splits`.
        folder: Whose tiles they are; for the sentences.
        footprints: As in `plan_split`.

    Raises:
        DatasetError: A stem has no tile, or stands in both lists.
    """
    wanted = {part: list(dict.fromkeys(lists.get(part, []))) for part in ("train", "validation")}
    both = sorted(set(wanted["train"]) & set(wanted["validation"]))
    if both:
        raise DatasetError(
            f"The lists for {folder} name {both[0]!r} for training and for validation ({len(both)} such "
            "tiles): take it out of one of them."
        )
    listed = select_tiles(tiles, [*wanted["train"], *wanted["validation"]], folder)
    known = dict(zip((t.stem for t in tiles), footprints or [None] * len(tiles), strict=True))
    if footprints is None:
        known = {t.stem: _read_footprint(t.image) for t in listed}
    chosen = set(range(len(wanted["train"]), len(listed)))
    left_out = _find_overlapping([known[t.stem] for t in listed], chosen)
    how = "Training and validation tiles are those of the lists."
    if left_out:
        how += f" {len(left_out)} training tiles that overlap validation tiles are left out."
    return _plan(listed, chosen, left_out, how)


def plan_folder_split(
    tiles: Sequence[LabelledTile],
    held_out: Sequence[LabelledTile],
    folder: Path,
    footprints: Sequence[Footprint | None],
    held_out_footprints: Sequence[Footprint | None],
) -> SplitPlan:
    """Keep a folder for validation; training tiles that overlap tiles of it are left out.

    Args:
        tiles: The usable tiles of the training folder.
        held_out: Those of the validation folder.
        folder: The validation folder; for the sentences.
        footprints: Of `tiles`.
        held_out_footprints: Of `held_out`.

    Raises:
        DatasetError: Both folders hold the same image.
    """
    theirs = {tile.image.resolve() for tile in held_out}
    same = [tile.image for tile in tiles if tile.image.resolve() in theirs]
    if same:
        raise DatasetError(
            f"{same[0]} is a training tile and a validation tile ({len(same)} such tiles): name "
            "another folder of validation tiles, or none."
        )
    both = [*tiles, *held_out]
    chosen = set(range(len(tiles), len(both)))
    left_out = _find_overlapping([*footprints, *held_out_footprints], chosen)
    how = f"The validation tiles are those of {folder.name}."
    if left_out:
        how += f" {len(left_out)} training tiles that overlap them are left out."
    return _plan(both, chosen, left_out, how)


def _plan(tiles: Sequence[LabelledTile], chosen: set[int], left_out: set[int], how: str) -> SplitPlan:
    return SplitPlan(
        [t for i, t in enumerate(tiles) if i not in chosen and i not in left_out],
        [t for i, t in enumerate(tiles) if i in chosen],
        [t for i, t in enumerate(tiles) if i in left_out],
        how,
    )


def _choose(
    stems: Sequence[str], shares: Sequence[float], footprints: Sequence[Footprint | None], wanted: int
) -> tuple[set[int], set[int], str]:
    """The validation tiles, those next to them by their names, and how they were chosen."""
    corners = np.array([f for f in footprints if f is not None])
    if len(corners) == len(stems):
        blocks = _cut_into_blocks(corners.reshape(-1, 4, 2).mean(axis=1), wanted)
        chosen, names = _choose_areas(shares, blocks, wanted)
        return chosen, set(), f"Validation tiles are {len(names)} of {len(blocks)} blocks of ground."
    areas = _group(stems, lambda stem: _TRAILING_NUMBER.sub("", stem))
    places = [_ROW_AND_COLUMN.fullmatch(stem) for stem in stems]
    found = [p for p in places if p is not None]
    if len(found) == len(stems):
        areas = _group(stems, lambda stem: stem[: _end_of_prefix(stem)])
        if len(areas) == 1:
            ranks = _rank(np.array([(int(p[2]), int(p[3])) for p in found]))
            blocks = _cut_into_blocks(ranks.astype(float), wanted)
            chosen, names = _choose_areas(shares, blocks, wanted)
            how = (
                f"Validation tiles are {len(names)} of {len(blocks)} blocks of rows and columns in the names."
            )
            return chosen, _neighbours(ranks, chosen), how
    if len(areas) > 1:
        chosen, names = _choose_areas(shares, areas, wanted)
        named = ", ".join(sorted(names)[:5]) + (" …" if len(names) > 5 else "")
        return chosen, set(), f"Validation tiles are of areas of their own: {named}."
    return _choose_run(stems, shares, wanted)


def _lack(shares: Sequence[float], chosen: Sequence[int]) -> float:
    """How far the class share of the chosen tiles lies under or over that of all, as a ratio from 1 on."""
    mean_of_all = sum(shares) / len(shares)
    mean = sum(shares[i] for i in chosen) / len(chosen)
    low, high = sorted((mean, mean_of_all))
    return (high + 1e-6) / (low + 1e-6)


def _choose_areas(
    shares: Sequence[float], areas: Mapping[str, list[int]], wanted: int
) -> tuple[set[int], list[str]]:
    """Whole areas, those first that have about the class share of all and about the size that is wanted."""

    def unfitness(name: str) -> tuple[bool, int, float, str]:
        lack = _lack(shares, areas[name])
        return (lack > _TELLING_RATIO, abs(len(areas[name]) - wanted), lack, name)

    names: list[str] = []
    held = 0
    for name in sorted(areas, key=unfitness):
        size = len(areas[name])
        if (not names or held + size <= 1.5 * wanted) and len(names) < len(areas) - 1:
            names.append(name)
            held += size
    return {i for name in names for i in areas[name]}, names


def _choose_run(stems: Sequence[str], shares: Sequence[float], wanted: int) -> tuple[set[int], set[int], str]:
    runs = [range(start, start + wanted) for start in range(len(stems) - wanted + 1)]
    run = min(reversed(runs), key=lambda r: _lack(shares, r))
    has_room = len(stems) > 2 * wanted + 2
    seam = {i for i in (run.start - 1, run.stop) if 0 <= i < len(stems)} if has_room else set()
    how = (
        f"Validation tiles are {stems[run.start]} to {stems[run.stop - 1]}; give a folder of validation "
        "tiles if others overlap them."
    )
    return set(run), seam, how


def _cut_into_blocks(centres: NDArray[np.float64], most: int) -> dict[str, list[int]]:
    """Halve the tiles across their longer extent, again and again, until no block has more than `most`.

    Args:
        centres: Of the tiles, shape (n, 2).
        most: At least 1.
    """
    blocks: list[list[int]] = []
    waiting = [list(range(len(centres)))]
    while waiting:
        block = waiting.pop()
        if len(block) <= most:
            blocks.append(block)
            continue
        axis = int(np.ptp(centres[block], axis=0).argmax())
        ordered = sorted(block, key=lambda i: (centres[i, axis], centres[i, 1 - axis]))
        waiting += [ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]]
    return {f"{number:06d}": block for number, block in enumerate(blocks)}


def _find_overlapping(footprints: Sequence[Footprint | None], chosen: set[int]) -> set[int]:
    """The tiles that are not chosen and overlap chosen ones by more than a sliver."""
    placed = [i for i, f in enumerate(footprints) if f is not None]
    shapes = shapely.polygons(np.array([footprints[i] for i in placed], float).reshape(-1, 4, 2))
    inside = np.array([i in chosen for i in placed], dtype=bool)
    ours, others = shapes[inside], shapes[~inside]
    if not len(ours) or not len(others):
        return set()
    pairs = shapely.STRtree(ours).query(others, predicate="intersects")
    common = shapely.area(shapely.intersection(others[pairs[0]], ours[pairs[1]]))
    smaller = np.minimum(shapely.area(others[pairs[0]]), shapely.area(ours[pairs[1]]))
    numbers = np.array(placed)[~inside]
    return {int(i) for i in numbers[np.unique(pairs[0][common > _TOUCHING * smaller])]}


def _group(stems: Sequence[str], name_of: Callable[[str], str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i, stem in enumerate(stems):
        groups.setdefault(name_of(stem), []).append(i)
    return groups


def _end_of_prefix(stem: str) -> int:
    found = _ROW_AND_COLUMN.fullmatch(stem)
    return found.end(1) if found else len(stem)


def _rank(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows and columns, or pixel offsets, as counts: shape (n, 2)."""
    return np.stack([np.unique(axis, return_inverse=True)[1] for axis in places.T], axis=1)


def _neighbours(ranks: NDArray[np.int64], chosen: set[int]) -> set[int]:
    """The tiles that are not chosen and touch chosen ones, diagonally too."""
    held = {
        (row + i, column + j)
        for row, column in ranks[sorted(chosen)].tolist()
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    }
    return {i for i, place in enumerate(ranks.tolist()) if tuple(place) in held} - chosen


def _read_footprint(image: Path) -> Footprint | None:
    """Where an image lies; none without a CRS, or where the file is broken."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(image) as source:
                return find_footprint(source.crs, source.transform, source.width, source.height)
    except GDAL_ERRORS:
        return None
