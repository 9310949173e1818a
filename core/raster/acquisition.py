"""When and how an image was taken, as far as its file tells."""

from __future__ import annotations

import datetime
import re
import warnings
from dataclasses import dataclass

import rasterio
from rasterio.errors import NotGeoreferencedWarning

from .gdal import GDAL_ERRORS

_DATE = re.compile(r"(\d{4})[-:/]?(\d{2})[-:/]?(\d{2})")
# Domain and key, the most trustworthy first. TIFFTAG_DATETIME is when the file was written where a program
# rewrote it, so it comes last.
_DATES = (
    ("IMAGERY", "ACQUISITIONDATETIME"),
    ("IMD", "IMAGE_1.firstLineTime"),
    ("IMD", "IMAGE_1.FIRSTLINETIME"),
    (None, "ACQUISITIONDATETIME"),
    (None, "acquisition_date"),
    (None, "NITF_IDATIM"),
    (None, "TIFFTAG_DATETIME"),
)
_ANGLES = (
    ("IMD", "IMAGE_1.meanOffNadirViewAngle"),
    ("IMD", "IMAGE_1.MEANOFFNADIRVIEWANGLE"),
    (None, "OFF_NADIR"),
    (None, "view:off_nadir"),
)


@dataclass(frozen=True)
class Acquisition:
    """When and how an image was taken.

    Attributes:
        date: ISO 8601, the day; empty: not known.
        off_nadir: Off-nadir angle in degrees; none: not known.
    """

    date: str = ""
    off_nadir: float | None = None


def read_acquisition(path: str) -> Acquisition:
    """What the metadata of a raster say; nothing where they say nothing, or where it cannot be opened."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # its tags are all that matters here
            dataset = rasterio.open(path)
        with dataset:
            tags = {domain: dataset.tags(ns=domain) for domain in (None, "IMAGERY", "IMD")}
    except GDAL_ERRORS:
        return Acquisition()
    date, angle = "", None
    for domain, key in _DATES:
        date = date or _day_in(tags[domain].get(key, ""))
    for domain, key in _ANGLES:
        text = tags[domain].get(key, "").strip('" ')
        if angle is None and re.fullmatch(r"-?\d+(\.\d+)?", text):
            angle = abs(float(text))
    return Acquisition(date, angle)


def _day_in(text: str) -> str:
    """The day with which a text begins, as ISO 8601; empty where that is none, such as 0000:00:00."""
    found = _DATE.match(text.strip('" '))
    if not found:
        return ""
    day = "-".join(found.groups())
    try:
        datetime.date.fromisoformat(day)
    except ValueError:
        return ""
    return day
