"""Scoring a network on labelled tiles, through the same inference as a run on a raster."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from .datasets.folders import (
    IGNORE,
    LabelledTile,
    open_labelled,
    read_codes,
    read_splits,
    read_tile,
    select_tiles,
)
from .datasets.survey import Survey, survey_folder
from .errors import DatasetError
from .evaluation.colour_probe import PerturbedNetwork, ProbedNetwork, perturbations
from .evaluation.pixel_scores import LevelCounts, RelaxedCounts, level_of, relaxed_counts
from .evaluation.tile_scores import TileScores, score_masks
from .inference.pipeline import predict_raster, rows_file
from .jobs import Progress
from .raster.grid import plan_grid
from .raster.probability import NODATA, decode_probabilities
from .raster.region import plan_region
from .raster.tiling import plan_tiles
from .runs import cache_folder

OCCLUSIONS = {1: "cars", 2: "trees", 3: "shadows"}
"""Codes of occlusion masks, and what they mean."""


@dataclass(frozen=True)
class ScoredTile:
    """A tile with what the network says of it, at the resolution of its mask.

    Attributes:
        stem: Its name.
        tile: Its files.
        gsd_m: Its ground resolution.
        image: uint8 (bands, h, w).
        labels: uint8 (2, h, w): the class, and buildings where they are not the class; 0, 1 or `IGNORE`.
        levels: uint8 (h, w): probability levels 0 to 254, 255 no data.
        counts: Its pixels by level.
        hidden: Its pixels of the class by level, under each kind of cover (1 a car, 2 a tree, 3 a shadow).
    """

    stem: str
    tile: LabelledTile
    gsd_m: float
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    levels: NDArray[np.uint8]
    counts: LevelCounts
    hidden: dict[int, LevelCounts]

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """float32 (h, w), 0 where there are no data."""
        return decode_probabilities(self.levels)[0]

    def masks(self, level: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """What is at or over a level, and what is the class, bool (h, w) each; neither where not known."""
        known = (self.labels[0] != IGNORE) & (self.levels != NODATA)
        return (self.levels >= level) & known, (self.labels[0] == 1) & known

    def relaxed(self, level: int) -> RelaxedCounts:
        """`relaxed_counts` with what is at or over a level as the prediction."""
        return relaxed_counts(*self.masks(level))

    def scores(self, threshold: float, is_linear: bool) -> TileScores:
        """All of the tile's scores at a threshold; it takes about a third of a second a megapixel.

        Args:
            threshold: 0 to 1.
            is_linear: Whether the class is one of lines, which topology scores judge.
        """
        prediction, truth = self.masks(level_of(threshold))
        relaxed, cldice, apls = score_masks(prediction, truth, self.probabilities, self.gsd_m, is_linear)
        return TileScores(
            stem=self.stem,
            image=str(self.tile.image),
            mask=str(self.tile.mask),
            counts=self.counts,
            hidden={OCCLUSIONS[code]: counts for code, counts in self.hidden.items()},
            pixels=self.counts.counts_at(threshold),
            relaxed=relaxed,
            cldice=cldice,
            apls=apls,
        )


def find_scored_tiles(
    folder: Path, task: str, mask_value: str, splits: str, part: str
) -> Generator[Progress, None, list[LabelledTile]]:
    """The tiles of a folder that are to be scored, which know how their masks are coded.

    Args:
        folder: Which.
        task: For what they are labelled.
        mask_value: What in a mask is the class; empty: it is found out from all masks of the folder.
        splits: JSON file with lists of tiles; empty: all tiles are scored.
        part: Which of its lists.

    Raises:
        DatasetError: There are none, or one of them cannot be used: a score without it would be another.
        JobError: `mask_value` makes no sense.
    """
    for news in survey_folder(folder, cache_folder() / "indexes", task=task, mask_value=mask_value):
        if isinstance(news, Survey):
            survey = news
        else:
            yield Progress(0.0, f"Indexing {folder.name}: tile {news.done} of {news.total}")
    tiles = [replace(t, coding=r.coding) for t, r in zip(survey.content.tiles, survey.records, strict=True)]
    if splits:
        tiles = select_tiles(tiles, read_splits(Path(splits), folder, task).get(part, []), folder)
    problem_of = {r.stem: r.problem for r in survey.records}
    for tile in tiles:
        if problem_of[tile.stem]:
            raise DatasetError(problem_of[tile.stem])
    if not tiles:
        raise DatasetError(f"{splits} has no tiles of {folder.name} under {part!r}: choose another part.")
    return tiles


def score_tiles(
    tiles: Sequence[LabelledTile], segmenter: ProbedNetwork, bands: int, gsd_m: float
) -> Iterator[ScoredTile]:
    """Run a network over labelled tiles, one after the other.

    Args:
        tiles: Which.
        segmenter: The network.
        bands: Number of its bands.
        gsd_m: Ground resolution of tiles that state none.

    Raises:
        RasterError: An image cannot be read.
        DatasetError: A mask cannot be read, or does not fit its image.
    """
    with tempfile.TemporaryDirectory(prefix="aftermap-scores-") as folder:
        for i, tile in enumerate(tiles):
            arrays = read_tile(tile, gsd_m, bands)
            levels = _predict(tile, segmenter, bands, gsd_m, Path(folder) / str(i))
            levels = _at_size(levels, arrays.labels.shape[1:])
            counts = LevelCounts()
            buildings = arrays.labels[1] if tile.building_mask else None
            counts.add(levels, arrays.labels[0], buildings)
            hidden = _count_hidden(tile, levels, arrays.labels[0])
            yield ScoredTile(
                tile.stem, tile, arrays.gsd_m, arrays.image, arrays.labels, levels, counts, hidden
            )


def probe_tiles(
    tiles: Sequence[LabelledTile], segmenter: ProbedNetwork, bands: int, gsd_m: float, threshold: float
) -> Iterator[tuple[str, float | None]]:
    """Score tiles under each of `colour_probe.perturbations`: each is one more run of the network.

    Args:
        tiles: Which.
        segmenter: The network.
        bands: Number of its bands.
        gsd_m: Ground resolution of tiles that state none.
        threshold: At which it works.

    Yields:
        The name of the perturbation after each tile, with none; and with its IoU over all tiles at its end.
    """
    for name, perturb in perturbations(bands).items():
        total = LevelCounts()
        for tile in score_tiles(tiles, PerturbedNetwork(segmenter, perturb), bands, gsd_m):
            total.merge(tile.counts)
            yield name, None
        yield name, total.scores(threshold)["iou"]


def _count_hidden(
    tile: LabelledTile, levels: NDArray[np.uint8], road: NDArray[np.uint8]
) -> dict[int, LevelCounts]:
    if tile.occlusion_mask is None:
        return {}
    covers = read_codes(tile.occlusion_mask)
    found = {}
    for code in OCCLUSIONS:
        found[code] = LevelCounts()
        found[code].add(levels, np.where((covers == code) & (road == 1), 1, IGNORE).astype(np.uint8))
    return found


def _predict(
    tile: LabelledTile, segmenter: ProbedNetwork, bands: int, gsd_m: float, work: Path
) -> NDArray[np.uint8]:
    with open_labelled(tile, gsd_m, bands) as source:
        grid = plan_grid(source, segmenter.gsd_m)
        region = plan_region(grid)
        plan = plan_tiles(
            grid,
            region,
            tile_px=segmenter.tile_px,
            margin_px=segmenter.margin_px,
            stride_px=segmenter.stride_px,
        )
        for _ in predict_raster(source, grid, region, plan, segmenter, work):
            pass
    return np.fromfile(rows_file(work), dtype=np.uint8).reshape(grid.height, grid.width)


def _at_size(levels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bring levels from the network's grid to the pixels of the mask (bilinear; no data stays no data)."""
    if levels.shape == shape:
        return levels
    rows, cols = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(shape, levels.shape, strict=True))
    at = np.meshgrid(rows, cols, indexing="ij")
    values, valid = decode_probabilities(levels)
    resized = map_coordinates(values * 254, at, order=1, mode="nearest")
    known = map_coordinates(valid.astype(np.float32), at, order=1, mode="nearest") > 0.5
    return np.where(known, np.rint(resized), NODATA).astype(np.uint8)
