"""The labelled tiles of a scan, and what a minimum share of the class does to them. Knows nothing of Qt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LISTED_PARTS = ("train", "validation")


@dataclass(frozen=True)
class Tile:
    """One labelled tile, as ``tiles`` of `jobs.ScanTiles` and `jobs.PlanTraining` tells of it.

    Attributes:
        folder: Folder of tiles that it lies in.
        stem: Its name there.
        image: Path of the image.
        mask: Path of the mask.
        width: In pixels.
        height: In pixels.
        gsd_m: Ground resolution in metres, where it states one.
        shares: Name of a class → its share of the labelled pixels, 0 to 1.
        levels: Code of a level of damage → number of its buildings; of pairs.
        bounds: West, south, east, north in degrees, where it has a place on the ground.
        problem: Why it cannot be used; empty: it can.
        part: ``train``, ``validation``, ``below_min_share``, ``left_out``; empty before there is a plan.
    """

    folder: str
    stem: str
    image: str
    mask: str
    width: int
    height: int
    gsd_m: float | None = None
    shares: dict[str, float] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)
    bounds: tuple[float, float, float, float] | None = None
    problem: str = ""
    part: str = ""

    @property
    def pixels(self) -> int:
        """How many it has."""
        return self.width * self.height


@dataclass(frozen=True)
class Side:
    """The tiles on one side of a minimum share.

    Attributes:
        tiles: How many.
        share: Class share of all their pixels; 0 where there are none.
    """

    tiles: int
    share: float


def read_tiles(path: Path) -> list[Tile]:
    """Read the list that the worker wrote; what it says beyond `Tile` is left aside."""
    names = set(Tile.__dataclass_fields__)
    return [
        Tile(**{k: tuple(v) if k == "bounds" and v else v for k, v in body.items() if k in names})
        for body in json.loads(path.read_text(encoding="utf-8"))
    ]


def write_lists(path: Path, tiles: Sequence[Tile]) -> None:
    """Write which tiles train and which judge as the lists that `jobs.TrainModel.splits` takes.

    Raises:
        OSError: The file cannot be written.
    """
    lists: dict[str, dict[str, list[str]]] = {}
    for tile in tiles:
        if tile.part in LISTED_PARTS:
            parts = lists.setdefault(Path(tile.folder).name, {part: [] for part in LISTED_PARTS})
            parts[tile.part].append(tile.stem)
    path.write_text(json.dumps(lists, indent=1), encoding="utf-8")


def class_names(tiles: Iterable[Tile]) -> list[str]:
    """The classes that tiles tell of, in the order in which they come."""
    return list(dict.fromkeys(name for tile in tiles for name in tile.shares))


def count_buildings(tiles: Iterable[Tile], code: int) -> int:
    """The buildings of a level of damage in the usable ones of some pairs."""
    return sum(tile.levels.get(str(code), 0) for tile in tiles if not tile.problem)


def split_at(tiles: Sequence[Tile], name: str, min_share: float, counted: str = "") -> tuple[Side, Side]:
    """The usable tiles below a minimum share of the class `name`, and those from it on.

    Args:
        tiles: Tiles of a scan.
        name: The class by which tiles are kept.
        min_share: From which share on they are.
        counted: The class whose share the sides tell; empty: `name`.
    """
    usable = [tile for tile in tiles if not tile.problem]
    below = [tile for tile in usable if tile.shares.get(name, 0.0) < min_share]
    above = [tile for tile in usable if tile.shares.get(name, 0.0) >= min_share]
    return _side(below, counted or name), _side(above, counted or name)


def _side(tiles: Sequence[Tile], name: str) -> Side:
    pixels = sum(tile.pixels for tile in tiles)
    of_class = sum(tile.pixels * tile.shares.get(name, 0.0) for tile in tiles)
    return Side(len(tiles), of_class / pixels if pixels else 0.0)
