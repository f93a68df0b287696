"""Polygons: trace, join, shape, measure, write."""
