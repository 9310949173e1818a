"""The index of a folder: class shares of its tiles, computed once and kept.

Filtering tiles in the data loader reads every mask at every start; the index reads each file once, and
again only when its size or date changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import AftermapError
from .folders import IGNORE, LabelledTile, read_tile

_FORMAT = 1


@dataclass(frozen=True)
class TileRecord:
    """What the index knows of a tile.

    Attributes:
        stem: Its name.
        fingerprint: Sizes and dates of its files; another one means that it is read again.
        width: In pixels.
        height: In pixels.
        valid_px: Pixels that are neither nodata nor unlabelled.
        road_px: Road pixels among them.
        building_px: Building pixels among them; none where there is no building mask.
        problem: Why it cannot be used; empty if it can.
    """

    stem: str
    fingerprint: str
    width: int = 0
    height: int = 0
    valid_px: int = 0
    road_px: int = 0
    building_px: int | None = None
    problem: str = ""

    @property
    def road_share(self) -> float:
        """Share of the road pixels among the valid ones, 0 to 1."""
        return self.road_px / self.valid_px if self.valid_px else 0.0


@dataclass(frozen=True)
class IndexProgress:
    """How many tiles are indexed."""

    done: int
    total: int


def index_tiles(
    tiles: Sequence[LabelledTile], cache: Path, gsd_m: float = 1.0
) -> Iterator[IndexProgress | list[TileRecord]]:
    """Index tiles; yields progress, and at last the records in the order of `tiles`.

    Args:
        tiles: What to index; tiles that cannot be read are records with a `problem`.
        cache: Folder that keeps the index between runs.
        gsd_m: Ground resolution of tiles that state none (shares do not depend on it).
    """
    path = cache / f"index-{_key(tiles)}.json"
    known = _load(path)
    records: list[TileRecord] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs: list[TileRecord | Future[TileRecord]] = []
        for tile in tiles:
            fingerprint = _fingerprint(tile)
            old = known.get(tile.stem)
            if old is not None and old.fingerprint == fingerprint:
                jobs.append(old)
            else:
                jobs.append(pool.submit(_read_record, tile, fingerprint, gsd_m))
        try:
            for i, job in enumerate(jobs):
                records.append(job if isinstance(job, TileRecord) else job.result())
                if not isinstance(job, TileRecord):
                    yield IndexProgress(i + 1, len(tiles))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            # What has been read stays read, also after a cancel.
            _save(path, {**known, **{r.stem: r for r in records}})
    yield records


def _read_record(tile: LabelledTile, fingerprint: str, gsd_m: float) -> TileRecord:
    try:
        labels = read_tile(tile, gsd_m).labels
    except AftermapError as error:
        return TileRecord(tile.stem, fingerprint, problem=str(error))
    road, building = labels
    valid = road != IGNORE
    return TileRecord(
        tile.stem,
        fingerprint,
        width=road.shape[1],
        height=road.shape[0],
        valid_px=int(valid.sum()),
        road_px=int((road == 1).sum()),
        building_px=int((building == 1).sum()) if tile.building_mask else None,
    )


def _files(tile: LabelledTile) -> list[Path]:
    return [p for p in (tile.image, tile.mask, tile.building_mask) if p is not None]


def _fingerprint(tile: LabelledTile) -> str:
    stats = [p.stat() for p in _files(tile)]
    return ";".join(f"{s.st_size}:{s.st_mtime_ns}" for s in stats)


def _key(tiles: Sequence[LabelledTile]) -> str:
    folders = sorted({str(p.parent.resolve()) for t in tiles for p in _files(t)})
    return hashlib.sha256("\n".join(folders).encode()).hexdigest()[:16]


def _load(path: Path) -> dict[str, TileRecord]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body["format"] != _FORMAT:
            return {}
        return {r["stem"]: TileRecord(**r) for r in body["records"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # none yet, or another version's: it is computed anew


def _save(path: Path, records: dict[str, TileRecord]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".tmp")
    body = {"format": _FORMAT, "records": [dataclasses.asdict(r) for r in records.values()]}
    staged.write_text(json.dumps(body), encoding="utf-8")
    staged.replace(path)
