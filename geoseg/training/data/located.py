"""Ground and where it lies on the Earth."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg.training.data.ground import Ground
from geoseg.values import GeoBox


@dataclass(frozen=True, slots=True)
class Located:
    """Ground and where it lies.

    Parameters
    ----------
    ground : Ground
        The ground.
    path : str
        Its file.
    geobox : GeoBox or None
        Its native pixels on the Earth; None: unknown.
    """

    ground: Ground
    path: str
    geobox: GeoBox | None
