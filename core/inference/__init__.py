"""The pipeline from windows of a raster to a probability raster."""
