"""A scene on the map: which tiles of the model a tile of the map needs, and what it shows of them."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from geoseg.errors import UnreadableScene
from geoseg.grid import Tile, blend_window, classify
from geoseg.prediction.decide import Decision
from geoseg.prediction.plan import Plan
from geoseg.raster.encoding import Encoding
from geoseg.raster.environment import environment
from geoseg.raster.opening import Stamp, reading, stamp
from geoseg.raster.pixels import apply_stretch, rgb_bands
from geoseg.raster.scene import opened_scene, stretch_to_bytes
from geoseg.serve.mercator import SIDE, MapTile, Place, bounds_in_degrees
from geoseg.serve.tiles import Inferred
from geoseg.values import ClassRule, ProbabilityBlock, Window

MOST_STRIDES, MOST_PIXELS = 3, 1024
"""Strides of the model's tiles, or pixels where these are more, that a tile of the map may be wide to be
computed as a whole: of the usual tiles 16 at most reach into it."""

PREVIEW_STRIDES = 2
"""Strides, each of as many tiles as are left out for one, that a tile of a preview is wide at most: it shows
9 windows or fewer."""

SMALLEST_WINDOW = 4
"""Pixels on the map of a window of a preview, at least; coarser zooms show nothing."""

MOST_SOURCE = 1 << 24
"""Pixels of a scene's file, or of its coarsest overview, that a tile of imagery may be read from."""

OPACITY = 150
"""Of 255, of a class on a styled tile: the imagery stays visible under it."""


@dataclass(frozen=True, eq=False)
class LiveScene:
    """A scene that is open to be looked at."""

    name: str
    """In addresses."""
    source: str
    """As it was given."""
    decision: Decision
    """What a run of the scene would do."""

    @property
    def plan(self) -> Plan:
        """The plan whose tiles are shown."""
        return self.decision.plan

    @cached_property
    def digest(self) -> str:
        """Of all that predictions depend on."""
        return self.plan.digest

    @cached_property
    def place(self) -> Place:
        """Where the working grid lies."""
        return Place(self.plan.grid, self.plan.scene.name)

    @cached_property
    def _stamp(self) -> Stamp | None:
        return stamp(self.plan.scene.uri)

    def check_unchanged(self) -> None:
        """Check that the file is the one that was opened: what is kept would not fit another.

        Raises
        ------
        UnreadableScene
        """
        if stamp(self.plan.scene.uri) != self._stamp:
            raise UnreadableScene(
                f"{self.plan.scene.name}: has changed or gone since it was opened; start geoseg serve again"
            )

    def facts(self, base: str) -> dict[str, Any]:
        """Return what the page shows of it, ready for JSON; addresses begin with `base`.

        Bounds of a scene across 180 degrees go on beyond them.
        """
        plan = self.plan
        return {
            "name": self.name,
            "size": [plan.scene.geobox.width, plan.scene.geobox.height],
            "resolution_m": plan.scene.resolution,
            "bounds": bounds_in_degrees(self.place.bounds),
            "zoom": self.place.zoom,
            "imagery": f"{base}tiles/{self.name}.json",
            "prediction": f"{base}prediction/{self.name}.json",
            "model": plan.model_name,
            "classes": [{"id": one.id, "name": one.name, "color": list(one.color)} for one in plan.classes],
            "channels": list(plan.rule.channels),
            "threshold": plan.rule.threshold,
            "warnings": list(self.decision.remarks.warnings),
        }

    @property
    def _stride(self) -> int:
        return min(self.plan.tiles.rows.stride, self.plan.tiles.cols.stride)

    @cached_property
    def whole_from(self) -> int:
        """The coarsest zoom whose tiles are computed as a whole."""
        return _coarsest(self.place, _widest(self.plan))

    @cached_property
    def preview_from(self) -> int:
        """The coarsest zoom that shows windows."""
        return min(self.whole_from, _coarsest(self.place, self._stride * SIDE / SMALLEST_WINDOW))

    @cached_property
    def imagery_from(self) -> int:
        """The coarsest zoom at which imagery is read from a bounded number of pixels."""
        scene = self.plan.scene
        height, width = min([scene.geobox.shape, *scene.overviews])
        if height * width <= MOST_SOURCE:
            return 0
        shrink = self.plan.grid.width / width
        return _coarsest(self.place, math.sqrt(MOST_SOURCE) * shrink)

    def needs(self, tile: MapTile) -> list[Tile]:
        """Return the tiles of the model that a tile of the map shows: all, or a few windows of a preview."""
        window = self.place.window(tile)
        if window is None or tile.z < self.preview_from:
            return []
        grid, step = self.plan.tiles, self._step(tile.z)
        return [
            grid.tile(row, col)
            for row in grid.rows.covering(window.row, window.row_stop)
            for col in grid.cols.covering(window.col, window.col_stop)
            if row % step == 0 and col % step == 0
        ]

    def is_preview(self, zoom: int) -> bool:
        """Whether tiles of a zoom show a few windows only."""
        return zoom < self.whole_from

    def draw(self, tile: MapTile, known: Mapping[Tile, Inferred]) -> ProbabilityBlock:
        """Return the probabilities that a tile of the map shows, over its own pixels.

        Parameters
        ----------
        known : mapping
            All that `needs` says.
        """
        shown = ProbabilityBlock(
            tile.box.window,
            np.zeros((len(self.plan.rule.channels), SIDE, SIDE), np.uint16),
            np.zeros((SIDE, SIDE), bool),
        )
        window = self.place.window(tile)
        if window is None or not any(one.values is not None for one in known.values()):
            return shown
        if not self.is_preview(tile.z):
            return self._warp(self.blend(window, known), tile)
        for one, inferred in known.items():
            if inferred.values is not None:
                inside = one.window.intersection(self.plan.tiles.window)
                alone = self._warp(self.blend(inside, {one: inferred}), tile)
                shown.values[:, alone.valid] = alone.values[:, alone.valid]
                shown.valid[:] |= alone.valid
        return shown

    def _warp(self, block: ProbabilityBlock, tile: MapTile) -> ProbabilityBlock:
        """Return a block on the pixels of a tile: bilinear among valid pixels, averaged where coarser."""
        grid, target = self.plan.grid, tile.box
        source = block.values.astype(np.float32)
        source[:, ~block.valid] = np.nan
        found = np.full((len(source), *target.shape), np.nan, np.float32)
        a, b, _, d, e, _ = grid.transform
        (x, y) = grid.to_crs(np.array([[block.window.col, block.window.row]], np.float64))[0]
        # GDAL's own guess depends on the window, and would show where two windows meet.
        scale = min(1.0, SIDE / self.place.pixels_across(tile.z))
        with environment(""):
            reproject(
                source,
                found,
                src_transform=Affine(a, b, x, d, e, y),
                src_crs=CRS.from_user_input(grid.crs),
                src_nodata=np.nan,
                dst_transform=Affine(*target.transform),
                dst_crs=CRS.from_user_input(target.crs),
                dst_nodata=np.nan,
                resampling=Resampling.bilinear,
                XSCALE=scale,
                YSCALE=scale,
            )
        valid = np.isfinite(found[0])
        return ProbabilityBlock(target.window, np.rint(np.where(valid, found, 0)).astype(np.uint16), valid)

    def _step(self, zoom: int) -> int:
        """Return every how many tiles of the model one is shown: a power of two, so that zooms share them."""
        if not self.is_preview(zoom):
            return 1
        across = self.place.pixels_across(zoom) / (PREVIEW_STRIDES * self._stride)
        return int(2 ** max(0, math.ceil(math.log2(across))))

    def blend(self, window: Window, known: Mapping[Tile, Inferred]) -> ProbabilityBlock:
        """Blend a window as a run does; what is not known counts as missing."""
        grid = self.plan.tiles
        valid = np.zeros(window.shape, bool)
        missing = []
        for row in grid.rows.covering(window.row, window.row_stop):
            for col in grid.cols.covering(window.col, window.col_stop):
                tile = grid.tile(row, col)
                inferred = known.get(tile, Inferred(broken=True))
                if inferred.broken:
                    missing.append(tile)
                elif inferred.valid is not None:
                    inside = tile.window.intersection(grid.window)
                    shared = inside.intersection(window)
                    valid[shared.within(window)] |= inferred.valid[shared.within(inside)]
        values = {tile: one.values for tile, one in known.items() if one.values is not None}
        return blend_window(grid, window, values, valid, missing, len(self.plan.rule.channels))

    @cached_property
    def picture(self) -> tuple[tuple[int, ...], Any]:
        """The bands that imagery shows as red, green and blue (or one as grey), and their stretch."""
        bands = rgb_bands(self.plan.inputs.bands, self.plan.bands)
        return bands, stretch_to_bytes(self.plan.scene, bands)

    def imagery(self, tile: MapTile) -> bytes:
        """Return a tile of the scene's imagery as PNG, transparent where there is no data.

        Raises
        ------
        UnreadableScene
            If the data is missing or damaged.
        """
        if self.place.window(tile) is None or tile.z < self.imagery_from:
            return nothing()
        scene, limits = self.plan.scene, self.picture[1]
        found = reading(scene.uri, partial(self._part, tile))
        pixels, valid = np.asarray(found.data), ~np.ma.getmaskarray(found).all(axis=0)
        if scene.palette:
            colors = np.array(scene.palette, np.uint8)[pixels[0]]
            pixels, valid = np.moveaxis(colors[..., :3], -1, 0), valid & (colors[..., 3] > 0)
        if limits is not None:
            pixels = np.rint(apply_stretch(np.nan_to_num(pixels), limits))
        image = np.zeros((SIDE, SIDE, 4), np.uint8)
        image[..., :3] = np.moveaxis(pixels, 0, -1)  # one band is grey
        image[..., 3] = 255 * valid
        return png(image)

    def _part(self, tile: MapTile) -> NDArray[Any]:
        """Return the scene's own values on a tile, masked where there are none."""
        from rio_tiler.reader import part

        scene, (bands, limits) = self.plan.scene, self.picture
        beyond = self.place.degrees_beyond(tile)
        method: Any = "nearest" if scene.palette else "bilinear"
        with opened_scene(scene, (SIDE, SIDE)) as dataset:
            turned = dataset.transform.translation(-beyond, 0) * dataset.transform
            found: NDArray[Any] = part(
                dataset,
                tile.bounds,
                height=SIDE,
                width=SIDE,
                bounds_crs=tile.box.crs,
                dst_crs=dataset.crs.from_string(tile.box.crs),
                indexes=[1] if scene.palette else list(bands),
                resampling_method=method,
                reproject_method=method,
                unscale=limits is not None,
                vrt_options={"src_transform": turned} if beyond else None,
            ).array
        return found


def _widest(plan: Plan) -> int:
    """Return how many pixels a tile of the map may be wide to be computed as a whole."""
    return max(MOST_STRIDES * min(plan.tiles.rows.stride, plan.tiles.cols.stride), MOST_PIXELS)


def _coarsest(place: Place, pixels: float) -> int:
    """Return the coarsest zoom whose tiles are at most so many pixels of the grid wide."""
    return max(0, math.ceil(math.log2(place.pixels_across(0) / pixels)))


def png(image: NDArray[np.uint8]) -> bytes:
    """Return pixels of shape (rows, cols) or (rows, cols, 3 or 4) as PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


@cache
def nothing() -> bytes:
    """Return a tile that is transparent all over."""
    return png(np.zeros((SIDE, SIDE, 4), np.uint8))


def drawing_bytes(plan: Plan) -> int:
    """Return what drawing a tile of the map takes: sums, probabilities, what is warped."""
    return int(2 * _widest(plan) ** 2 * (12 * len(plan.rule.channels) + 2))


def styled_png(block: ProbabilityBlock, plan: Plan) -> bytes:
    """Return a tile in the colours of the classes, transparent where there is none."""
    colors = np.zeros((256, 4), np.uint8)
    for info in plan.classes:
        colors[info.id] = (*info.color, OPACITY)
    return png(colors[classify(block.values, plan.rule) * block.valid])


def raw_png(block: ProbabilityBlock, plan: Plan) -> bytes:
    """Return a tile of probabilities in 8 bits, as a raster of a run has them.

    Of one class it is grey. Of several, red is the largest probability, green the id of its class (0 the
    background), blue nothing.
    """
    ids, largest = plan.rule.channels, replace(block, values=block.values.max(axis=0)[None])
    steps = Encoding("probability", ClassRule((1,), plan.rule.threshold)).encode(largest)[0].astype(np.uint8)
    if len(ids) == 1:
        return png(steps)
    winner = np.array(ids, np.uint8)[block.values.argmax(axis=0)] * block.valid
    return png(np.dstack([steps, winner, np.zeros_like(steps)]))
