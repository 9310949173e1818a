"""What the index of a folder saves: first scan, second opening, and the filter in the loader, side by side.

The filter is what a training script without an index does at each start: it reads every image with its
mask, and keeps those tiles that hold enough of the class.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from aftermap.core.datasets.survey import Survey, survey_folder

MIN_SHARE = 0.2


def main(arguments: list[str] | None = None) -> int:
    """Generate tiles, time the three, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--size", type=int, default=512, help="side of a tile in pixels")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="aftermap-bench-") as place:
        folder, cache = Path(place) / "tiles", Path(place) / "cache"
        write_tiles(folder, options.tiles, options.size)
        print(f"{options.tiles} tiles of {options.size} px")
        for name, work in (
            ("filter in the loader, at each start", lambda: filter_in_loader(folder)),
            ("index, first scan", lambda: open_index(folder, cache)),
            ("index, second opening", lambda: open_index(folder, cache)),
        ):
            seconds, kept = timed(work)
            print(f"{name:<38}{seconds:8.2f} s   {kept} tiles with {MIN_SHARE:.0%} of the class or more")
    return 0


def timed(work: Callable[[], int]) -> tuple[float, int]:
    """Seconds that some work takes, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def filter_in_loader(folder: Path) -> int:
    """Tiles that hold enough of the class, by reading each image and its mask."""
    kept = 0
    for path in sorted((folder / "images").iterdir()):
        np.asarray(Image.open(path))
        mask = np.asarray(Image.open(folder / "masks" / f"{path.stem}.png"))
        kept += int((mask > 127).mean() >= MIN_SHARE)
    return kept


def open_index(folder: Path, cache: Path) -> int:
    """Tiles that hold enough of the class, by the index."""
    *_, survey = survey_folder(folder, cache)
    assert isinstance(survey, Survey)
    return sum(record.class_share >= MIN_SHARE for _, record in survey.usable)


def write_tiles(folder: Path, count: int, size_px: int) -> None:
    """Images of noise with a road of random width across."""
    rng = np.random.default_rng(1)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        image = rng.integers(40, 200, (size_px, size_px, 3), dtype=np.uint8)
        mask = np.zeros((size_px, size_px), np.uint8)
        mask[: int(size_px * rng.random() ** 4)] = 255
        Image.fromarray(image).save(folder / "images" / f"tile_{number:05d}.jpg", quality=85)
        Image.fromarray(mask).save(folder / "masks" / f"tile_{number:05d}.png")


if __name__ == "__main__":
    sys.exit(main())
