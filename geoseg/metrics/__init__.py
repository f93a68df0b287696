"""How good a map is: pixels and objects, compared with the truth. Pure functions."""

from geoseg.metrics.objects import ObjectMatch, match_objects, overlaps
from geoseg.metrics.pixels import Confusion, confusion

__all__ = ["Confusion", "ObjectMatch", "confusion", "match_objects", "overlaps"]
