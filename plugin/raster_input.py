"""How a raster layer reaches the worker: by its path, or exported by QGIS to a temporary GeoTIFF.

What belongs to the layer is taken from it on its own thread (`of_layer`); the export runs later and in the
background.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsProcessingFeedback,
    QgsProviderRegistry,
    QgsRaster,
    QgsRasterBlockFeedback,
    QgsRasterFileWriter,
    QgsRasterLayer,
    QgsRasterNuller,
    QgsRasterPipe,
    QgsRasterRange,
    QgsRectangle,
)

from ..core.errors import RasterError
from .ground_resolution import units_per_metre
from .translation import tr

# What every build of GDAL opens alike; of other files the worker is asked whether its own does.
PLAIN_SUFFIXES = (".tif", ".tiff", ".vrt")


@dataclass(frozen=True)
class RasterInput:
    """A raster layer, as its job needs it.

    Attributes:
        name: The layer's name.
        path: What the worker's GDAL opens; empty: nothing, the layer must be exported.
        is_plain: The worker's GDAL is sure to open `path`.
        crs: CRS that the layer has and its file has not; empty: the file's own counts.
        has_crs: Whether the layer has a CRS, from its file or from the user.
        band_count: Number of bands, transparency left out.
    """

    name: str
    path: str
    is_plain: bool
    crs: str
    has_crs: bool
    band_count: int

    @classmethod
    def of_layer(cls, layer: QgsRasterLayer) -> RasterInput:
        """Take what a job needs from a layer; call this on the layer's thread."""
        path = gdal_path(layer)
        crs = "" if layer.dataProvider().crs().isValid() else crs_text(layer.crs())
        is_plain = Path(path).suffix.lower() in PLAIN_SUFFIXES and Path(path).is_file()
        return cls(layer.name(), path, is_plain, crs, layer.crs().isValid(), image_band_count(layer))


@dataclass(frozen=True)
class RasterExport:
    """A layer on its way to a GeoTIFF: data values where its provider has them, else what it shows.

    Attributes:
        name: The layer's name.
        origin: Where the pixels come from, without credentials, for the manifest.
        pipe: Provider, and renderer for what is shown; clones, so that the layer may go meanwhile.
        shows_only: The provider gives colours, as tile services do, and no data values.
        extent: What to export, in `crs`; null: all.
        layer_extent: All that there is, in `crs`.
        crs: CRS of the layer.
        pixel: Size of a pixel of the layer in map units; (0, 0) where it has none of its own.
        transforms: For distances on the ellipsoid, and for the writer.
    """

    name: str
    origin: str
    pipe: QgsRasterPipe
    shows_only: bool
    extent: QgsRectangle
    layer_extent: QgsRectangle
    crs: QgsCoordinateReferenceSystem
    pixel: tuple[float, float]
    transforms: QgsCoordinateTransformContext

    @classmethod
    def of_layer(
        cls,
        layer: QgsRasterLayer,
        extent: QgsRectangle,
        transforms: QgsCoordinateTransformContext,
    ) -> RasterExport:
        """Take what an export needs from a layer; call this on the layer's thread."""
        provider = layer.dataProvider()
        shows_only = provider.dataType(1) in (Qgis.DataType.ARGB32, Qgis.DataType.ARGB32_Premultiplied)
        has_pixels = not shows_only and provider.xSize() > 0 and provider.ySize() > 0
        pipe = QgsRasterPipe()
        pipe.set(provider.clone())
        if shows_only:
            pipe.set(layer.renderer().clone())
        elif nodata_of_layer(layer):
            nuller = QgsRasterNuller()
            for band, ranges in nodata_of_layer(layer).items():
                nuller.setNoData(band, ranges)
            pipe.insert(1, nuller)  # `set` knows no place for it
        return cls(
            name=layer.name(),
            origin=public_origin(layer),
            pipe=pipe,
            shows_only=shows_only,
            extent=extent,
            layer_extent=layer.extent(),
            crs=layer.crs(),
            pixel=(layer.rasterUnitsPerPixelX(), layer.rasterUnitsPerPixelY()) if has_pixels else (0.0, 0.0),
            transforms=transforms,
        )

    def write(self, path: Path, gsd_m: float, feedback: QgsProcessingFeedback) -> None:
        """Write the GeoTIFF; may run in any thread.

        Args:
            path: The GeoTIFF.
            gsd_m: Ground resolution at which a layer without pixels of its own is fetched.
            feedback: Is told what is fetched, and cancels.

        Raises:
            RasterError: The layer has no size of its own and there is no extent, the extent lies beside the
                layer, or the file cannot be written.
        """
        extent = self._covered_extent()
        columns, rows = self._size_px(extent, gsd_m)
        feedback.pushInfo(
            tr("QGIS exports {} × {} pixels ({:.1f} million) of {}.").format(
                columns, rows, columns * rows / 1e6, self.origin
            )
        )
        if self.shows_only:
            feedback.pushInfo(
                tr(
                    "They come from a tile or map service: its terms of use decide whether you may fetch and "
                    "analyse them, and what you may do with the result."
                )
            )
        block_feedback = QgsRasterBlockFeedback()
        feedback.canceled.connect(block_feedback.cancel)
        block_feedback.progressChanged.connect(feedback.setProgress)
        writer = QgsRasterFileWriter(str(path))
        writer.setOutputFormat("GTiff")
        writer.setCreateOptions(["COMPRESS=DEFLATE", "TILED=YES", "BIGTIFF=IF_SAFER"])
        failed = writer.writeRaster(
            self.pipe, columns, rows, extent, self.crs, self.transforms, block_feedback
        )
        if failed and not feedback.isCanceled():
            raise RasterError(
                tr("QGIS could not export {} (error {}): is there space in {}?").format(
                    self.origin, int(failed), path.parent
                )
            )

    def _covered_extent(self) -> QgsRectangle:
        if self.extent.isNull():
            if self.pixel == (0.0, 0.0):
                raise RasterError(
                    tr("The layer “{}” is a service without a size of its own: give an extent.").format(
                        self.name
                    )
                )
            return self.layer_extent
        covered = self.extent.intersect(self.layer_extent)
        if covered.isEmpty():
            raise RasterError(
                tr("The extent does not overlap the layer “{}”: choose another.").format(self.name)
            )
        return covered

    def _size_px(self, extent: QgsRectangle, gsd_m: float) -> tuple[int, int]:
        pixel = self.pixel
        if pixel == (0.0, 0.0):
            x, y = units_per_metre(self.crs, self.transforms, extent)
            pixel = (gsd_m * x, gsd_m * y)
        return max(1, round(extent.width() / pixel[0])), max(1, round(extent.height() / pixel[1]))


def gdal_path(layer: QgsRasterLayer) -> str:
    """What another GDAL opens to see the same pixels; empty where there is no such thing."""
    if layer.providerType() == "gdal":
        parts = QgsProviderRegistry.instance().decodeUri("gdal", layer.source())
        # Credentials and open options live in QGIS's form of the name only, the user's nodata in the layer.
        is_qgis_only = parts.get("openOptions") or "authcfg" in layer.source() or "/vsimem/" in layer.source()
        if is_qgis_only or nodata_of_layer(layer):
            return ""
        return _absolute(layer.source())
    if layer.providerType() == "wms":
        parts = QgsProviderRegistry.instance().decodeUri("wms", layer.source())
        if parts.get("type") == "mbtiles":
            return _absolute(parts.get("path", ""))
    return ""


def nodata_of_layer(layer: QgsRasterLayer) -> dict[int, list[QgsRasterRange]]:
    """Values that the user calls nodata and the file does not, by band."""
    stated = layer.dataProvider().userNoDataValues
    return {band: stated(band) for band in range(1, layer.bandCount() + 1) if stated(band)}


def image_band_count(layer: QgsRasterLayer) -> int:
    """Number of the layer's bands that show something: transparency (alpha) does not."""
    colour = layer.dataProvider().colorInterpretation
    alpha = QgsRaster.ColorInterpretation.AlphaBand
    return sum(colour(band) != alpha for band in range(1, layer.bandCount() + 1))


def crs_text(crs: QgsCoordinateReferenceSystem) -> str:
    """A CRS as PROJ of any version reads it; empty if it is not known."""
    if not crs.isValid():
        return ""
    if crs.authid() and not crs.authid().startswith("USER:"):
        return crs.authid()
    return crs.toWkt(QgsCoordinateReferenceSystem.WktVariant.WKT_PREFERRED)


def public_origin(layer: QgsRasterLayer) -> str:
    """Name, file or address without user, password and key, and attribution of a layer."""
    uri = QgsProviderRegistry.instance().decodeUri(layer.providerType(), layer.source())
    address = urlsplit(unquote(uri.get("url", "")))
    place = urlunsplit((address.scheme, address.netloc.rpartition("@")[2], address.path, "", ""))
    path = uri.get("path", "")
    if not place and path and Path(path.partition("{")[0]).exists():  # up to the {z} of a folder of tiles
        place = path
    return ", ".join(part for part in (layer.name(), place, layer.attribution()) if part)


def _absolute(name: str) -> str:
    """The worker has its own current folder; GDAL names that are no files stay as they are."""
    return str(Path(name).absolute()) if name and Path(name).exists() else name
