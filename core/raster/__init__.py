"""Opening rasters: bands, radiometry, nodata, ground resolution, the tile grid, probability files."""
