"""A raster as a network sees it: bands in order, values 0 to 1, validity, true ground resolution."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from ..errors import AftermapError, GroundResolutionError, JobError, RasterError
from .bands import choose_bands
from .collar import COLLAR_MARGIN_PX, COLLAR_SHADES, CORNER_PX, find_collar
from .gdal import GDAL_ERRORS, bounded_gdal
from .georeference import UNREFERENCED, fit_control_points
from .grid import Grid
from .ground_resolution import measure_gsd
from .palette import PALETTE_COLOURS, expand_palette, read_palette
from .radiometry import Stretch, divide_by_255, sample_windows, stretch_percentiles
from .resampling import plan_taps, resample

_REDUCED_LEVELS = 8  # by which a pure block of a JPEG may differ when it is decoded at less than its size
_CHUNK_PX = 4_000_000  # source pixels that one read holds at most, where the grid is much coarser


class TileSource(Protocol):
    """What tiles are read from: a raster, or several as one."""

    @property
    def path(self) -> str:
        """Of the raster."""

    @property
    def bands(self) -> tuple[int, ...]:
        """Numbers of the bands that are read."""

    @property
    def width(self) -> int:
        """Columns of the raster."""

    @property
    def height(self) -> int:
        """Rows of the raster."""

    @property
    def dtype(self) -> str:
        """Type of its values."""

    def read(
        self, grid: Grid, row: int, col: int, height: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """A window: float32 (bands, height, width) in 0 to 1, and bool (height, width), where it is valid."""


class RasterSource:
    """An open raster; a context manager. Reading from one thread at a time is safe.

    Attributes:
        path: As given.
        width: Columns.
        height: Rows.
        count: Bands of the file.
        dtype: Of the file's bands, as numpy names it.
        crs: None where the raster has none (then `transform` is in units of its own).
        transform: From (column, row) to the coordinates of `crs`. Without any georeference (column, −row),
            which is where QGIS shows such a raster.
        bands: Numbers of the bands that are read, from 1, in the model's order.
        notices: Sentences about what was assumed.
    """

    def __init__(
        self, path: str, *, bands: Sequence[int], band_count: int, gsd_m: float | None, crs: str
    ) -> None:
        """Use `open_source`."""
        if gsd_m is not None and not (math.isfinite(gsd_m) and gsd_m > 0):
            raise JobError(f"A ground resolution (GSD) of {gsd_m} m makes no sense: give a positive number.")
        self.path = path
        self._levels: dict[int, rasterio.DatasetReader] = {}
        self._stated_gsd_m = gsd_m
        self._dataset = _open(path)
        try:
            with self._readable():
                self._describe(bands, band_count, crs)
                self._collar_shades = self._find_collar_shades()
                self._stretch = self._choose_stretch()
        except BaseException:
            self.close()
            raise

    def _describe(self, bands: Sequence[int], band_count: int, crs: str) -> None:
        dataset = self._dataset
        self._check_mosaic()
        self.width, self.height, self.count = dataset.width, dataset.height, dataset.count
        if self.count == 0 or self.width == 0 or self.height == 0:
            names = ", ".join(dataset.subdatasets[:3])
            hint = f"name one of the rasters inside it ({names} …)" if names else "choose another file"
            raise RasterError(f"{self.path} holds no pixels itself: {hint}.")
        self.dtype = str(np.result_type(*(np.dtype(t) for t in dataset.dtypes)))
        if np.dtype(self.dtype).kind == "c":
            raise RasterError(f"{self.path} holds complex numbers (radar?): convert it to amplitudes first.")
        notices: list[str] = []
        self._describe_georeference(crs, notices)
        self._palette = read_palette(dataset) if set(bands) <= {1} else None
        if self._palette is not None:  # its colours take the place of the one band of numbers
            colours, said = choose_bands(self.path, PALETTE_COLOURS, (), band_count)
            self.bands, self._read_bands = (1,) * band_count, [1]
            self._picked = [n - 1 for n in colours]
        else:
            self.bands, said = choose_bands(self.path, dataset.colorinterp, bands, band_count)
            self._read_bands = sorted(set(self.bands))
            self._picked = [self._read_bands.index(n) for n in self.bands]
        self.notices = (*notices, *said)
        flags = [dataset.mask_flag_enums[n - 1] for n in self._read_bands]
        self._has_mask = any(MaskFlags.all_valid not in band for band in flags)

    def _check_mosaic(self) -> None:
        """Refuse a mosaic with missing parts: GDAL shows these as black, or fails at the first read only."""
        if self._dataset.driver == "VRT":
            missing = [f for f in self._dataset.files if not f.startswith("/vsi") and not Path(f).exists()]
            if missing:
                raise RasterError(
                    f"{self.path} is a mosaic and {len(missing)} of its files are missing, the first is "
                    f"{missing[0]}: put them there, or build the mosaic anew."
                )

    def _describe_georeference(self, crs: str, notices: list[str]) -> None:
        dataset = self._dataset
        self.crs: CRS | None = dataset.crs
        self.transform: Affine = dataset.transform
        points, points_crs = dataset.gcps
        if self.transform == Affine.identity():
            if points:
                self.crs = points_crs or self.crs
                self.transform, residual_px = fit_control_points(points)
                if residual_px > 1.0:
                    notices.append(
                        f"{self.path} is placed by {len(points)} ground control points only, which an affine "
                        f"transform fits to {residual_px:.1f} px: warp it first if the layers lie beside it."
                    )
            else:
                self.transform = UNREFERENCED
        if self.crs is None and crs:
            try:
                self.crs = CRS.from_user_input(crs)
            except (RasterioError, ValueError) as error:
                raise JobError(f"{crs[:80]!r} is no CRS: give a code such as EPSG:32637, or WKT.") from error

    @cached_property
    def gsd_m(self) -> tuple[float, float]:
        """True ground metres per source pixel (x, y) at the raster's centre.

        Raises:
            GroundResolutionError: The raster cannot tell and no ground resolution was given.
        """
        if self.crs is not None and self.transform != UNREFERENCED:
            return measure_gsd(self.path, self.crs, self.transform, self.width, self.height)
        if self._stated_gsd_m is None:
            lack = "has no CRS" if self.crs is None else "has no georeference"
            raise GroundResolutionError(
                f"{self.path} {lack}: state the ground resolution (GSD), the size of its pixels in metres."
            )
        return self._stated_gsd_m, self._stated_gsd_m

    @property
    def image_count(self) -> int:
        """Bands that are imagery: all but transparency (alpha)."""
        return sum(colour is not ColorInterp.alpha for colour in self._dataset.colorinterp)

    @property
    def is_grey(self) -> bool:
        """Whether all bands are the same one."""
        return len(set(self.bands)) == 1 and self._palette is None

    @property
    def may_have_gaps(self) -> bool:
        """Whether any pixel may be invalid; False is certain, and known without reading."""
        is_float = np.dtype(self.dtype).kind == "f"
        return self._has_mask or is_float or self._palette is not None or bool(self._collar_shades)

    def read(
        self, grid: Grid, row: int, col: int, height: int, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a window of the grid; windows that overlap agree on the pixels that they share.

        Source pixels are averaged where the grid is coarser, and interpolated linearly where it is
        finer; overviews are used where these leave at least two of their pixels to one of the grid's.
        Invalid source pixels have no part in it. Memory: the window and about four million source
        pixels.

        Args:
            grid: Of `plan_grid` for this source.
            row: First row of the window in grid pixels; may be negative.
            col: First column, likewise.
            height: Rows; the window may stick out of the raster on any side.
            width: Columns.

        Returns:
            float32 (bands, height, width) in 0 to 1, invalid pixels 0; and bool (height, width), True
            where at least half of the grid pixel is valid.

        Raises:
            RasterError: The file is damaged.
        """
        image = np.zeros((len(self.bands), height, width), dtype=np.float32)
        valid = np.zeros((height, width), dtype=bool)
        top, bottom = max(row, 0), min(row + height, grid.height)
        left, right = max(col, 0), min(col + width, grid.width)
        if top >= bottom or left >= right:
            return image, valid
        with self._readable():
            dataset = self._level(grid)
            scale_x = grid.source_px[0] * dataset.width / self.width
            scale_y = grid.source_px[1] * dataset.height / self.height
            columns = plan_taps(left, right, scale_x, dataset.width)
            step = max(1, int(_CHUNK_PX / ((columns.stop - columns.start) * scale_y)))
            for first in range(top, bottom, step):
                rows = plan_taps(first, min(first + step, bottom), scale_y, dataset.height)
                window = Window.from_slices((rows.start, rows.stop), (columns.start, columns.stop))
                pixels, known = self._read_pixels(dataset, window)
                part = np.s_[first - row : min(first + step, bottom) - row, left - col : right - col]
                if known is None:
                    image[:, part[0], part[1]] = resample(pixels, rows, columns)
                    valid[part] = True
                else:
                    share = resample(known.astype(np.float32), rows, columns)
                    total = resample(np.where(known, pixels, 0).astype(np.float32), rows, columns)
                    np.divide(total, share, out=image[:, part[0], part[1]], where=share > 0)
                    valid[part] = share >= 0.5
        self._stretch.apply(image)
        if not valid.all():
            image *= valid
        return image, valid

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        for dataset in (self._dataset, *self._levels.values()):
            dataset.close()

    def __enter__(self) -> RasterSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _level(self, grid: Grid) -> rasterio.DatasetReader:
        """The file, or the coarsest of its overviews with two pixels or more to one of the grid's."""
        wanted = min(grid.source_px) / 2.0
        factors = self._dataset.overviews(self._read_bands[0])
        fitting = [(factor, index) for index, factor in enumerate(factors) if factor <= wanted]
        if not fitting:
            return self._dataset
        index = max(fitting)[1]
        if index not in self._levels:
            self._levels[index] = _open(self.path, overview_level=index)
        return self._levels[index]

    def _read_pixels(
        self, dataset: rasterio.DatasetReader, window: Window
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The bands in the model's order, and which pixels are valid (None: all of them)."""
        if self._collar_shades:
            return self._read_without_collar(dataset, window)
        raw, good = self._read_valid(dataset, window)
        if self._palette is not None:
            raw, opaque = expand_palette(raw[0], self._palette)
            good = opaque if good is None else good & opaque
        return self._in_order(raw), None if good is None or good.all() else good

    def _read_valid(
        self, dataset: rasterio.DatasetReader, window: Window, shape: tuple[int, int] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The bands as the file has them, and what it says is valid; decimated to `shape`."""
        bands = self._read_bands
        options = {"window": window, "out_shape": None if shape is None else (len(bands), *shape)}
        raw = dataset.read(bands, **options)
        good: NDArray[np.bool_] | None = None
        if self._has_mask:
            good = dataset.read_masks(bands, **options).any(axis=0)
        if raw.dtype.kind == "f":
            finite = np.isfinite(raw).all(axis=0)
            good = finite if good is None else good & finite
        return raw, good

    def _read_without_collar(
        self, dataset: rasterio.DatasetReader, window: Window
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The same where there may be collar: read with the pixels around that decide."""
        (top, bottom), (left, right) = window.toranges()
        low_row, low_col = max(top - COLLAR_MARGIN_PX, 0), max(left - COLLAR_MARGIN_PX, 0)
        high_row = min(bottom + COLLAR_MARGIN_PX, dataset.height)
        high_col = min(right + COLLAR_MARGIN_PX, dataset.width)
        wide = Window.from_slices((low_row, high_row), (low_col, high_col))
        raw = dataset.read(self._read_bands, window=wide)
        edges = (low_row == 0, high_row == dataset.height, low_col == 0, high_col == dataset.width)
        inside = np.s_[top - low_row : bottom - low_row, left - low_col : right - low_col]
        collar = find_collar(raw, self._collar_shades, edges)[inside]
        image = self._in_order(raw[:, inside[0], inside[1]])
        return image, ~collar if collar.any() else None

    def _find_collar_shades(self) -> tuple[int, ...]:
        """Which of black and white may be collar: those that fill a corner of the raster."""
        if self.dtype != "uint8" or self._has_mask or self._palette is not None:
            return ()
        if self._dataset.driver == "JPEG" and not self._has_flat_corner():
            return ()
        height, width = min(CORNER_PX, self.height), min(CORNER_PX, self.width)
        corners = [
            self._dataset.read(self._read_bands, window=Window(col, row, width, height))
            for row in (0, self.height - height)
            for col in (0, self.width - width)
        ]
        return tuple(s for s in COLLAR_SHADES if any((corner == s).all() for corner in corners))

    def _has_flat_corner(self) -> bool:
        """Whether a corner of a JPEG may be pure; False is certain, and found at a fraction of the decoding.

        GDAL decodes a JPEG at a half, a quarter or an eighth of its size. The outermost pixel of that comes
        from a block whose pixels all lie within `CORNER_PX` of the corner.
        """
        factor = max((f for f in self._dataset.overviews(1) if f <= CORNER_PX), default=1)
        if factor == 1:
            return True
        shape = (len(self._read_bands), -(-self.height // factor), -(-self.width // factor))
        reduced = self._dataset.read(self._read_bands, out_shape=shape)
        corners = reduced[:, [0, 0, -1, -1], [0, -1, 0, -1]].astype(np.int16)
        is_near = [(np.abs(corners - shade) <= _REDUCED_LEVELS).all(axis=0).any() for shade in COLLAR_SHADES]
        return any(is_near)

    def _in_order(self, raw: NDArray[Any]) -> NDArray[Any]:
        if self._picked == list(range(raw.shape[0])):
            return raw
        return raw[self._picked]

    def _choose_stretch(self) -> Stretch:
        if self.dtype == "uint8":
            return divide_by_255(len(self.bands))
        parts = []
        for window, shape in sample_windows(self._dataset):
            raw, good = self._read_valid(self._dataset, window, shape)
            parts.append(raw.reshape(len(raw), -1) if good is None else raw[:, good])
        return stretch_percentiles(self._in_order(np.concatenate(parts, axis=1)))

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn what GDAL and rasterio raise into the one sentence, and bound GDAL's block cache."""
        try:
            with bounded_gdal():
                yield
        except AftermapError:
            raise
        except GDAL_ERRORS as error:
            reason = str(error.__cause__ or error).strip().rstrip(".")
            raise RasterError(
                f"{self.path} cannot be read to its end ({reason}): the file is damaged or "
                "incomplete, get it again."
            ) from error


def open_source(
    path: str,
    *,
    bands: Sequence[int] = (),
    band_count: int = 3,
    gsd_m: float | None = None,
    crs: str = "",
) -> RasterSource:
    """Open any raster that GDAL opens.

    Bands: see `bands.choose_bands`; a palette is expanded to its colours. Invalid are pixels of nodata,
    of full transparency or outside a mask, pixels that are no numbers, and in uint8 imagery which states
    none of these the collar of pure white or black (see `collar.find_collar`). Values: uint8 / 255; any
    other type is stretched per band between its 0.5 and 99.5 percentiles.

    Args:
        path: File, or another name that GDAL knows.
        bands: Band numbers from 1 in the model's order; empty: chosen by colour.
        band_count: Bands that the model sees.
        gsd_m: Size of a pixel on the ground, used only where the raster cannot tell.
        crs: CRS (code or WKT) of a raster that states none.

    Raises:
        RasterError: It cannot be opened.
        ModelError: It has fewer bands than the model needs.
        JobError: A band, the CRS or the ground resolution that was asked for makes no sense.
    """
    return RasterSource(path, bands=bands, band_count=band_count, gsd_m=gsd_m, crs=crs)


def _open(path: str, **options: int) -> rasterio.DatasetReader:
    """Open for reading.

    Raises:
        RasterError: GDAL does not open it.
    """
    try:
        with bounded_gdal(), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it is handled, with a sentence
            return rasterio.open(path, **options)
    except GDAL_ERRORS as error:
        if (
            "://" not in path
            and ":" not in path[2:]
            and not path.startswith("/vsi")
            and not Path(path).exists()
        ):
            raise RasterError(f"There is no file {path}: check the path.") from error
        raise RasterError(
            f"{path} is no raster that can be opened: choose another file, or convert it to GeoTIFF."
        ) from error
