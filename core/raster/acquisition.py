"""When and how an image was taken, as far as its file tells."""

from __future__ import annotations

import re
from dataclasses import dataclass

import rasterio

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
        with rasterio.open(path) as dataset:
            tags = {domain: dataset.tags(ns=domain) for domain in (None, "IMAGERY", "IMD")}
    except GDAL_ERRORS:
        return Acquisition()
    date, angle = "", None
    for domain, key in _DATES:
        if not date and (found := _DATE.match(tags[domain].get(key, "").strip('" '))):
            date = "-".join(found.groups())
    for domain, key in _ANGLES:
        text = tags[domain].get(key, "").strip('" ')
        if angle is None and re.fullmatch(r"-?\d+(\.\d+)?", text):
            angle = abs(float(text))
    return Acquisition(date, angle)
