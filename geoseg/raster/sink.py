"""Probabilities or classes as a Cloud Optimized GeoTIFF, streamed."""

from __future__ import annotations

import contextlib
import ctypes
import math
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
import rasterio.windows
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import rasterize

from geoseg import files
from geoseg.errors import InvalidOption, UnwritableOutput, silenced
from geoseg.raster.describe import SceneInfo
from geoseg.raster.encoding import CLASS_ITEM, NODATA, Content, Encoding
from geoseg.raster.environment import environment
from geoseg.raster.opening import GDAL_ERRORS, opened, reason_of
from geoseg.raster.pixels import taps
from geoseg.raster.scene import read_validity
from geoseg.values import ClassRule, GeoBox, LayerSchema, ProbabilityBlock, Window

_TILE = 512
_STEP = 2 * _TILE


@dataclass(eq=False)
class RasterSink:
    """Writes blocks of probabilities, in any order, and publishes a COG when all went well.

    A context manager: the file appears under its name at the end, complete, or not at all. Meanwhile
    the blocks lie in a sparse temporary file beside it. Blocks that are never written stay nodata.
    The names of the classes are metadata ``CLASS_<id>``, the threshold ``geoseg_threshold``; bands of
    probabilities are named and have their class id as ``CLASS``, class maps carry a colour table.

    Raises
    ------
    UnwritableOutput
        If the name, the folder or an existing file forbids it (on entering), or writing failed.
    InvalidOption
        If a class has the id of nodata.
    """

    path: Path
    """Ends in ``.tif`` or ``.tiff``."""
    grid: GeoBox
    """The working grid, that of the blocks."""
    _: KW_ONLY
    scene: SceneInfo
    """What the grid was made from."""
    schema: LayerSchema
    """Classes with names and colours; metadata that becomes the file's."""
    rule: ClassRule
    """What the channels stand for."""
    content: Content = "probability"
    """What to write and how, see `Encoding`."""
    resolution: Literal["scene", "model"] = "scene"
    """On the scene's own grid, masked with its full-resolution validity, or on the working grid."""
    overwrite: bool = False
    """Whether an existing file may be replaced."""
    bands: Sequence[int] | None = None
    """Bands of the scene that were used (a pixel is invalid where one of them is not finite). Default:
    all."""
    _encoding: Encoding = field(init=False)
    _stack: contextlib.ExitStack = field(init=False)
    _temporary: Path = field(init=False)
    _work: Any = field(init=False)
    _written: dict[Window, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.suffix.lower() not in {".tif", ".tiff"}:
            raise UnwritableOutput(f"{self.path}: a raster output must end in .tif")
        if self.content == "class" and NODATA in self.rule.channels:
            raise InvalidOption(f"{self.path}: class {NODATA} is what nodata is called in a class raster")
        self._encoding = Encoding(self.content, self.rule)

    def __enter__(self) -> RasterSink:
        with contextlib.ExitStack() as stack:
            self._temporary = stack.enter_context(files.replacing(self.path, overwrite=self.overwrite))
            stack.callback(_remove_parts, self._temporary)
            stack.enter_context(_quiet_libtiff())
            stack.enter_context(environment(str(self.path)))
            self._work = stack.enter_context(self._create("blocks", self.grid))
            self._stack = stack.pop_all()
        return self

    def write(self, block: ProbabilityBlock) -> None:
        """Write a block; its window lies in the grid and overlaps none written before.

        Not safe for several threads at once.

        Raises
        ------
        UnwritableOutput
            If the disk is full, or on another write error.
        ValueError
            If the window reaches outside the grid.
        """
        block.window.within(self.grid.window)
        if block.valid.any():
            with self._translating():
                self._put(self._work, self._encoding.encode(block), block.window)

    def draw(self, shapes: Sequence[Any], values: Sequence[int]) -> None:
        """Draw outlines in pixels of the grid: those whose centres lie inside take the outline's value.

        Raises
        ------
        UnwritableOutput
            If the disk is full, or on another write error.
        """
        parts: dict[Window, list[tuple[Any, int]]] = {}
        for shape, value in zip(shapes, values, strict=True):
            left, top, right, bottom = shape.bounds
            for window in _windows(self.grid, (math.floor(top), math.floor(left), bottom, right)):
                parts.setdefault(window, []).append((shape, value))
        with self._translating():
            for window, some in parts.items():
                stored = self._work.read(window=_frame(window))
                place = rasterio.Affine.translation(window.col, window.row)
                rasterize(some, out=stored[0], transform=place)
                self._put(self._work, stored, window)

    def fill_background(self, inside: Any | None = None) -> None:
        """Fill what was not drawn on: with 0 where the scene holds data, else with nodata.

        Parameters
        ----------
        inside : shapely geometry, optional
            In pixels of the grid: what lies outside is nodata.
        """
        bands = self.bands or [band.index for band in self.scene.bands]
        with self._translating():
            for window in _windows(self.grid):
                valid = read_validity(self.scene, window, bands)
                if inside is not None:
                    place = rasterio.Affine.translation(window.col, window.row)
                    valid &= rasterize([inside], window.shape, transform=place, dtype="uint8") > 0
                if valid.any() or window in self._written:
                    stored = self._work.read(window=_frame(window))
                    stored = np.where(self._encoding.valid(stored), stored, stored.dtype.type(0))
                    self._put(self._work, self._encoding.fill(stored, valid), window)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            with self._translating():
                self._stack.__exit__(kind, error, traceback)
            return
        with self._stack, self._translating():
            self._work.close()
            source = self._part("blocks")
            if self.resolution == "scene" and self.grid != self.scene.geobox:
                source = self._onto_scene(source)
            self._optimize(source)
            self._verify(self._temporary)

    def _onto_scene(self, blocks: Path) -> Path:
        """Resample the written blocks, window by window, onto the scene's own grid."""
        box = self.scene.geobox
        bands = self.bands or [band.index for band in self.scene.bands]
        self._verify(blocks)
        self._written.clear()
        with (
            opened(str(blocks), ("GTiff",)) as source,
            self._create("scene", box, compress="deflate", zlevel=1) as target,
        ):
            for window in _windows(box):
                rows = taps(window.row, window.row_stop, box.height, self.grid.height)
                cols = taps(window.col, window.col_stop, box.width, self.grid.width)
                height, width = rows.stop - rows.start, cols.stop - cols.start
                stored = source.read(window=_frame(Window(rows.start, cols.start, height, width)))
                if self._encoding.valid(stored).any():
                    stored = self._encoding.resample(stored, rows, cols)
                    stored = self._encoding.fill(stored, read_validity(self.scene, window, bands))
                    self._put(target, stored, window)
        return self._part("scene")

    def _put(self, dataset: rasterio.io.DatasetWriter, stored: NDArray[np.generic], window: Window) -> None:
        dataset.write(stored, window=_frame(window))
        self._written[window] = zlib.crc32(stored.tobytes())

    def _verify(self, path: Path) -> None:
        """Read everything back: what fails when GDAL flushes its cache, it may keep to itself."""
        with opened(str(path), ("GTiff",)) as dataset:
            for window, digest in self._written.items():
                if zlib.crc32(dataset.read(window=_frame(window)).tobytes()) != digest:
                    reason = "what was written reads back differently; is the disk full?"
                    raise UnwritableOutput(f"{self.path}: cannot be written ({reason})")

    def _optimize(self, source: Path) -> None:
        classes = self.content in ("class", "instance")

        def copy() -> None:
            with environment(str(self.path)):
                rasterio.shutil.copy(
                    source,
                    self._temporary,
                    driver="COG",
                    blocksize=_TILE,
                    compress="DEFLATE",
                    predictor="NO" if classes else "YES",
                    overview_resampling="MODE" if classes else "AVERAGE",
                    bigtiff="IF_SAFER",
                    num_threads="ALL_CPUS",
                    sparse_ok=True,
                )

        _interruptibly(copy)

    @contextlib.contextmanager
    def _create(self, part: str, box: GeoBox, **options: Any) -> Iterator[rasterio.io.DatasetWriter]:
        encoding = self._encoding
        profile = {
            "driver": "GTiff",
            "height": box.height,
            "width": box.width,
            "count": encoding.count,
            "dtype": encoding.dtype,
            "crs": box.crs,
            "transform": rasterio.Affine(*box.transform),
            "nodata": encoding.nodata,
            "tiled": True,
            "blockxsize": _TILE,
            "blockysize": _TILE,
            "bigtiff": "YES",
            "sparse_ok": True,
        }
        with self._translating(), silenced(NotGeoreferencedWarning):
            dataset = rasterio.open(self._part(part), "w+", **profile, **options)
        with dataset:
            self._annotate(dataset)
            yield dataset

    def _annotate(self, dataset: rasterio.io.DatasetWriter) -> None:
        dataset.update_tags(**self._encoding.items(self.schema))
        if self.content == "class":
            nothing = dict.fromkeys((0, NODATA), (0, 0, 0, 0))
            dataset.write_colormap(1, nothing | {info.id: (*info.color, 255) for info in self.schema.classes})
            return
        if self.content == "instance":
            dataset.set_band_description(1, "instance")
            return
        names = {info.id: info.name for info in self.schema.classes}
        dataset.scales = (self._encoding.scale,) * dataset.count
        for band, class_id in enumerate(self._encoding.band_classes, 1):
            dataset.set_band_description(band, names.get(class_id, f"class {class_id}"))
            dataset.update_tags(band, **{CLASS_ITEM: str(class_id)})

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            with files.telling_full_disks(self.path):
                yield
        except GDAL_ERRORS as error:
            raise UnwritableOutput(f"{self.path}: cannot be written ({reason_of(error)})") from error

    def _part(self, name: str) -> Path:
        return self._temporary.with_name(f"{self._temporary.stem}.{name}.tif")


def _interruptibly(function: Callable[[], None]) -> None:
    """Call long-running C code so that Ctrl-C need not wait for it: this thread only waits."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:  # raised again by the thread that waits
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.2)
    if errors:
        raise errors[0]


@contextlib.contextmanager
def _quiet_libtiff() -> Iterator[None]:
    """Keep libtiff from printing itself what GDAL raises, where it is the one of rasterio's wheel."""
    found = [*Path(rasterio.__file__).parents[1].glob("rasterio.libs/libtiff*")]
    with contextlib.ExitStack() as stack:
        for library in found:
            handle = ctypes.CDLL(str(library)).TIFFSetErrorHandler
            handle.argtypes, handle.restype = [ctypes.c_void_p], ctypes.c_void_p
            stack.callback(handle, handle(None))
        yield


def _remove_parts(temporary: Path) -> None:
    for part in temporary.parent.glob(f"{temporary.stem}.*"):
        if part != temporary:
            part.unlink(missing_ok=True)


def _windows(box: GeoBox, inside: tuple[float, float, float, float] | None = None) -> Iterator[Window]:
    """Yield the windows that a grid is worked in, those that touch (row, col, row, col)."""
    top, left, bottom, right = inside or (0, 0, box.height, box.width)
    first_row, first_col = (int(max(0, edge) // _STEP * _STEP) for edge in (top, left))
    for row in range(first_row, min(box.height, math.ceil(bottom)), _STEP):
        for col in range(first_col, min(box.width, math.ceil(right)), _STEP):
            yield Window(row, col, _STEP, _STEP).intersection(box.window)


def _frame(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)
