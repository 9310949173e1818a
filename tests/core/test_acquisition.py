"""What a raster says of when and how it was taken; nonsense is as good as nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio

from aftermap.core.raster.acquisition import Acquisition, read_acquisition


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, Acquisition()),
        ({"TIFFTAG_DATETIME": "2023:02:07 10:00:00"}, Acquisition("2023-02-07")),
        ({"TIFFTAG_DATETIME": "0000:00:00 00:00:00"}, Acquisition()),
        ({"acquisition_date": "20231345"}, Acquisition()),
        (
            {"TIFFTAG_DATETIME": "2024:01:01 00:00:00", "ACQUISITIONDATETIME": "2023-02-07T08:31"},
            Acquisition("2023-02-07"),
        ),
        ({"OFF_NADIR": "-23.5"}, Acquisition("", 23.5)),
        ({"OFF_NADIR": "steep"}, Acquisition()),
    ],
)
def test_tags_tell_the_day_and_the_angle(tmp_path: Path, tags: dict[str, str], expected: Acquisition):
    path = tmp_path / "image.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8", crs="EPSG:32637"
    ) as file:
        file.write(np.zeros((1, 4, 4), np.uint8))
        file.update_tags(**tags)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that it lies nowhere is not said here
        assert read_acquisition(str(path)) == expected


def test_what_cannot_be_opened_says_nothing(tmp_path: Path):
    assert read_acquisition(str(tmp_path / "nothing.tif")) == Acquisition()
