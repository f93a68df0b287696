"""How good a map is: pixels and objects, compared with the truth. Pure functions."""

from geoseg.metrics.objects import (
    ObjectMatch,
    held_twice,
    match_objects,
    match_pairs,
    overlaps,
    shared_areas,
)
from geoseg.metrics.pixels import Confusion, confusion, confusion_matrix

__all__ = [
    "Confusion",
    "ObjectMatch",
    "confusion",
    "confusion_matrix",
    "held_twice",
    "match_objects",
    "match_pairs",
    "overlaps",
    "shared_areas",
]
