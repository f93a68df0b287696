"""Complete pieces become features beside the rest of the run, and are written in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from geoseg.prediction.plan import Plan

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from geoseg.vector.pieces import Piece

VERTICES = 200_000
"""Vertices of a batch: enough that the cost of a batch does not count, few enough to stay small."""


class FeatureSink(Protocol):
    """Where finished polygons go."""

    def write(self, features: GeoDataFrame) -> None:
        """Take a batch of features."""


class Shaper:
    """Shapes pieces in batches of bounded size on threads of its own; the caller's thread writes them.

    No more batches wait to be written than there are threads, so what is held stays bounded.
    Use it as a context manager: leaving it ends the threads.

    Parameters
    ----------
    plan : Plan
        How polygons are shaped, and the layer that they are for.
    sink : FeatureSink
        Gets the batches in the order of the pieces.
    threads : int
        Batches that may be shaped at a time.
    """

    def __init__(self, plan: Plan, sink: FeatureSink, threads: int = 1) -> None:
        self._plan = plan
        self._sink = sink
        self._threads = threads
        self._waiting: list[Piece] = []
        self._vertices = 0
        self._pool = ThreadPoolExecutor(threads, "geoseg-shape")
        self._shaped: deque[Future[GeoDataFrame]] = deque()
        self.features = 0
        self.area_m2: float | None = None if plan.grid.crs is None else 0.0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is being shaped; forget what is not."""
        self._pool.shutdown(cancel_futures=True)

    def add(self, pieces: Sequence[Piece]) -> None:
        """Take pieces, and write batches before them that are shaped."""
        import shapely

        counts = shapely.get_num_coordinates([piece.polygon for piece in pieces])
        for piece, count in zip(pieces, counts.tolist(), strict=True):
            self._waiting.append(piece)
            self._vertices += count
            if self._vertices >= VERTICES:
                self._shape()
        while self._shaped and self._shaped[0].done():
            self._write()

    def finish(self) -> None:
        """Shape and write what is left."""
        self._shape()
        while self._shaped:
            self._write()

    def _shape(self) -> None:
        """Begin to shape what was collected, once there is room for it."""
        from geoseg.vector.shape import finish

        if not self._waiting:
            return
        while len(self._shaped) >= self._threads:
            self._write()
        plan = self._plan
        shaped = self._pool.submit(finish, self._waiting, plan.grid, plan.shape_rules, plan.schema)
        self._shaped.append(shaped)
        self._waiting, self._vertices = [], 0

    def _write(self) -> None:
        """Write the first batch, waiting for it if need be."""
        features = self._shaped.popleft().result()
        if len(features):
            self._sink.write(features)
            self.features += len(features)
            if self.area_m2 is not None:
                self.area_m2 += float(features["area_m2"].sum())
