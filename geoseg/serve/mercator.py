"""Tiles of the web map, and where a grid of pixels lies among them: pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.values import GeoBox, Window

if TYPE_CHECKING:
    import pyproj

SIDE = 256
"""Pixels along a side of a tile."""

HALF = math.pi * 6_378_137
"""Metres from the centre of Web Mercator to its edges."""

MOST_ZOOM = 24
MARGIN = 2
"""Pixels around what a tile shows that its own are interpolated from."""

WEB_MERCATOR = "EPSG:3857"


class MapTile(NamedTuple):
    """A tile of the web map: zoom, column from the west, row from the north."""

    z: int
    x: int
    y: int

    @classmethod
    def of(cls, z: int, x: int, y: int) -> MapTile:
        """Return a tile that was asked for.

        Raises
        ------
        InvalidOption
            If there is no such tile.
        """
        if not (0 <= z <= MOST_ZOOM and 0 <= x < 2**z and 0 <= y < 2**z):
            raise InvalidOption(
                f"tile {z}/{x}/{y}: zoom is 0 to {MOST_ZOOM}, x and y are below 2 to the zoom"
            )
        return cls(z, x, y)

    @property
    def box(self) -> GeoBox:
        """The tile's pixels in Web Mercator.

        >>> MapTile(0, 0, 0).box.transform[0] == 2 * HALF / SIDE
        True
        """
        pixel = 2 * HALF / 2**self.z / SIDE
        west, north = self.x * SIDE * pixel - HALF, HALF - self.y * SIDE * pixel
        return GeoBox(SIDE, SIDE, (pixel, 0.0, west, 0.0, -pixel, north), WEB_MERCATOR)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in Web Mercator."""
        pixel, _, west, _, _, north = self.box.transform
        return west, north - SIDE * pixel, west + SIDE * pixel, north


def to_degrees(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return longitudes and latitudes of places in Web Mercator, shape (n, 2).

    >>> to_degrees(np.array([[HALF, 0.0]])).tolist()
    [[180.0, 0.0]]
    """
    lon, lat = points[:, 0] / HALF * 180, np.degrees(np.arctan(np.sinh(points[:, 1] / HALF * math.pi)))
    return np.column_stack([lon, lat])


def from_degrees(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places in Web Mercator of longitudes and latitudes, shape (n, 2).

    >>> from_degrees(np.array([[180.0, 0.0]])).round(3).tolist()
    [[20037508.343, 0.0]]
    """
    lat = np.clip(points[:, 1], -85.06, 85.06)
    return np.column_stack([points[:, 0] / 180 * HALF, np.arcsinh(np.tan(np.radians(lat))) / math.pi * HALF])


@dataclass(frozen=True, eq=False)
class Place:
    """Where a grid lies on the web map.

    Raises
    ------
    InvalidOption
        If the grid has no CRS, or no place on the web map.
    """

    grid: GeoBox
    """Has a CRS."""
    name: str
    """Of the scene, for messages."""

    def __post_init__(self) -> None:
        if self.grid.crs is None:
            raise InvalidOption(
                f"{self.name}: has no CRS, and a map needs one: gdal_edit.py -a_srs EPSG:CODE {self.name}"
            )
        west, south, east, north = self.bounds
        if not (west < east and south < north and 0 < self.pixel < math.inf):
            raise InvalidOption(f"{self.name}: has no place on a web map in its CRS")

    @cached_property
    def _forward(self) -> pyproj.Transformer:
        return _transformer(self.grid.crs, WEB_MERCATOR)

    @cached_property
    def _backward(self) -> pyproj.Transformer:
        return _transformer(WEB_MERCATOR, self.grid.crs)

    def to_map(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map pixel coordinates (col, row) to Web Mercator, as `project` does."""
        return self.project(self.grid.to_crs(pixels))

    def to_pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map Web Mercator to pixel coordinates (col, row), as `unproject` does."""
        return self.grid.to_pixels(self.unproject(points))

    def project(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map places in the CRS to Web Mercator, shape (n, 2); not finite beyond it.

        A grid across 180 degrees goes on beyond the map's edge.
        """
        x, y = self._forward.transform(*places.T)
        return np.column_stack([_nearest_turn(x, self._center, 2 * HALF), y])

    def unproject(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map Web Mercator to places in the CRS, shape (n, 2); not finite where undefined."""
        x, y = self._backward.transform(*points.T)
        if self._in_degrees:  # PROJ gives -180 to 180, and the grid may go beyond
            x = _nearest_turn(x, self._middle[0, 0], 360.0)
        return np.column_stack([x, y])

    def metres_beyond(self, west: float, east: float) -> float:
        """Return how far round the map what is projected lies from a box that it is shown in."""
        middle = np.array([(west + east) / 2])
        return float((_nearest_turn(middle, self._center, 2 * HALF) - middle)[0])

    def degrees_beyond(self, tile: MapTile) -> float:
        """Return how far round the Earth a grid in degrees lies from a tile that it is shown on: 0, ±360."""
        if not self._in_degrees:
            return 0.0
        west, _, east, _ = tile.bounds
        longitude = np.array([(west + east) / 2 / HALF * 180])
        return float((_nearest_turn(longitude, self._middle[0, 0], 360.0) - longitude).round()[0])

    @cached_property
    def _center(self) -> float:
        return float(self._forward.transform(*self._middle.T)[0][0])

    @cached_property
    def _middle(self) -> NDArray[np.float64]:
        return self.grid.to_crs(np.array([[self.grid.width / 2, self.grid.height / 2]]))

    @cached_property
    def _in_degrees(self) -> bool:
        crs = self._backward.target_crs
        return crs is not None and bool(crs.is_geographic)

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in Web Mercator, cut to the map in the south and north."""
        return _bounds(self.to_map(lattice(0, 0, self.grid.width, self.grid.height)))

    @cached_property
    def pixel(self) -> float:
        """Side of a pixel at the grid's centre, in metres of Web Mercator."""
        col, row = self.grid.width / 2, self.grid.height / 2
        around = np.array([[col - 0.5, row], [col + 0.5, row], [col, row - 0.5], [col, row + 0.5]])
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = self.to_map(around)
        return math.sqrt(abs(float((bx - ax) * (dy - cy) - (by - ay) * (dx - cx))))

    @property
    def zoom(self) -> int:
        """The zoom at which a pixel of the map comes nearest to one of the grid."""
        return min(MOST_ZOOM, max(0, round(math.log2(2 * HALF / SIDE / self.pixel))))

    def pixels_across(self, zoom: int) -> float:
        """Return how many pixels of the grid a tile of a zoom is wide."""
        return math.ldexp(2 * HALF / self.pixel, -zoom)

    def window(self, tile: MapTile) -> Window | None:
        """Return the pixels of the grid that a tile is made of; None where it shows none."""
        west, south, east, north = tile.bounds
        pixels = self.to_pixels(lattice(west, south, east, north))
        pixels = pixels[np.isfinite(pixels).all(axis=1)]
        if not len(pixels):
            return None
        margin = MARGIN * max(1.0, self.pixels_across(tile.z) / SIDE)
        limit = np.array([self.grid.width, self.grid.height])
        left, top = np.clip(np.floor(pixels.min(axis=0) - margin), 0, limit).astype(int).tolist()
        right, bottom = np.clip(np.ceil(pixels.max(axis=0) + margin), 0, limit).astype(int).tolist()
        return Window(top, left, bottom - top, right - left) if right > left and bottom > top else None


def _transformer(source: Any, target: Any) -> pyproj.Transformer:
    import pyproj

    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def _nearest_turn(x: NDArray[np.float64], centre: float, turn: float) -> NDArray[np.float64]:
    """Return the places of x, whole turns of the Earth aside, that lie nearest to a centre.

    >>> _nearest_turn(np.array([-179.0, 178.0]), 180.0, 360.0).tolist()
    [181.0, 178.0]
    """
    with np.errstate(invalid="ignore"):
        # A little less than half a turn stays, so that the two sides of the whole Earth are not exchanged.
        return x + turn * np.rint((centre - x) / turn * (1 - 1e-9))


def lattice(west: float, south: float, east: float, north: float, steps: int = 16) -> NDArray[np.float64]:
    """Return points all over a box, its corners included, shape ((steps + 1)², 2)."""
    x, y = np.meshgrid(np.linspace(west, east, steps + 1), np.linspace(south, north, steps + 1))
    return np.column_stack([x.ravel(), y.ravel()])


def _bounds(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    known = points[np.isfinite(points).all(axis=1)]
    if not len(known):
        return (math.nan,) * 4
    (west, south), (east, north) = known.min(axis=0).tolist(), known.max(axis=0).tolist()
    south, north = max(south, -HALF), min(north, HALF)
    return west, south, east, north


def tilejson(
    name: str, url: str, bounds: tuple[float, float, float, float], least: int, most: int
) -> dict[str, Any]:
    """Return a TileJSON 3.0.0 of tiles within bounds in Web Mercator."""
    west, south, east, north = bounds_in_degrees(bounds)
    center = [(west + east) / 2, (south + north) / 2, most]
    if west < -180 or east > 180:  # TileJSON knows no bounds across 180 degrees
        west, east, center[0] = -180.0, 180.0, (center[0] + 180) % 360 - 180
    return {
        "tilejson": "3.0.0",
        "name": name,
        "tiles": [url],
        "bounds": [west, south, east, north],
        "center": center,
        "minzoom": least,
        "maxzoom": max(least, min(MOST_ZOOM, most)),
    }


def bounds_in_degrees(bounds: tuple[float, float, float, float]) -> list[float]:
    """Return bounds in Web Mercator as west, south, east, north in degrees."""
    degrees: list[float] = to_degrees(np.array(bounds).reshape(2, 2)).ravel().round(7).tolist()
    return degrees
