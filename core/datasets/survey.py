"""All that is known of a folder of labelled tiles, from its layout and its index together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import DatasetError
from .index import IndexProgress, TileRecord, index_tiles
from .layouts import FolderContent, LabelledTile, list_content
from .masks import MaskCoding

_MOST_OF_IT = 0.6  # roads and buildings cover less of the densest town


@dataclass(frozen=True)
class Survey:
    """A folder of labelled tiles.

    Attributes:
        content: Its files.
        records: What the index knows of each tile of `content`, in its order.
    """

    content: FolderContent
    records: tuple[TileRecord, ...]

    @cached_property
    def usable(self) -> list[tuple[LabelledTile, TileRecord]]:
        """The tiles without a problem, which know how their masks are coded, with their records."""
        return [
            (tile.coded(record.coding), record)
            for tile, record in zip(self.content.tiles, self.records, strict=True)
            if not record.problem
        ]

    @property
    def coding(self) -> MaskCoding:
        """How the masks are coded."""
        return self.records[0].coding

    @property
    def problems(self) -> list[str]:
        """A sentence for each tile that cannot be used and each file without a partner."""
        folder = self.content.folder
        return [
            *(r.problem for r in self.records if r.problem),
            *(
                f"{folder / name} has no partner of the same name (an image needs a mask, a mask an image): "
                "add it, or remove the file."
                for name in self.content.unmatched
            ),
        ]

    @property
    def concerns(self) -> list[str]:
        """Sentences about the folder as a whole that a training should know."""
        folder, records = self.content.folder, [r for _, r in self.usable]
        if not any(r.class_px for r in records):
            return [
                f"All masks of {folder} are background ({len(records)} tiles; {self.coding}): there is "
                "nothing to learn. Check the value that marks the class."
            ]
        share = sum(r.class_px for r in records) / sum(r.valid_px for r in records)
        if share > _MOST_OF_IT:
            return [
                f"The class covers {share:.0%} of {folder} ({self.coding}): if the masks show it in black, "
                "name 0 as the value that marks the class."
            ]
        if len(records) == 1:
            return [
                f"{folder} holds a single usable tile, which cannot be split into training and validation: "
                "add tiles, or name a folder of validation tiles."
            ]
        return []


def survey_folder(
    folder: Path, cache: Path, *, task: str = "roads", mask_value: str = ""
) -> Iterator[IndexProgress | Survey]:
    """Look at a folder; yields progress for each tile that has to be read, and at last the survey.

    Args:
        folder: Which.
        cache: Folder that keeps the index between runs.
        task: ``roads`` or ``buildings``.
        mask_value: What in a mask is the class: a code or a colour; empty: it is found out.

    Raises:
        DatasetError: There is no folder, it holds no labelled tiles or none that can be used, it disappeared
            meanwhile, or its masks do not say what the class is.
        JobError: The task or `mask_value` makes no sense.
        OutputError: The cache cannot be written.
    """
    content = list_content(folder, task)
    for news in index_tiles(content.tiles, cache, mask_value=mask_value, known_coding=content.coding):
        if isinstance(news, IndexProgress):
            yield news
            continue
        survey = Survey(content, tuple(news))
        if not survey.usable:
            more = f" ({len(news)} tiles, none can be used)" if len(news) > 1 else ""
            raise DatasetError(f"{folder} holds no usable tile{more}. {news[0].problem}")
        yield survey
