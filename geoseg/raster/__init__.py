"""Scenes and rasters: the only door to GDAL's raster side."""
