"""What verdicts do to a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import InvalidOption
from geoseg.files import check_not_read
from geoseg.labels.classes import text_of
from geoseg.labels.verdicts import RIGHT, WRONG, Verdicts, read_verdicts
from geoseg.review import ReviewOptions
from geoseg.review.choice import Precision, Stratum, precision
from geoseg.vector.sink.stream import check_stream_path, wkb_field, write_layer
from geoseg.vectorfiles.layers import LayerBatches, open_layer

if TYPE_CHECKING:
    import pyarrow

ADDED = "verdict"
"""Attribute that is added, or replaced; empty for what nobody has judged."""


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What was written."""

    file: str
    features: int
    counts: dict[str, int]
    """Verdicts of each kind; the wrong ones are not in the file."""
    precision: Precision | None
    """Of all polygons, where the verdicts are on a random sample of them."""

    @property
    def lines(self) -> list[str]:
        """Say it, one fact a line."""
        counts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(self.counts.items()))
        stated = [f"precision  {self.precision}"] if self.precision else []
        return [f"{self.features:,} features; of the verdicts {counts}", *stated, f"wrote      {self.file}"]


def apply_verdicts(
    verdicts: Path,
    path: Path,
    out: Path,
    options: ReviewOptions,
    on_step: Callable[[float], None] = lambda done: None,
) -> ApplyReport:
    """Write a layer without the polygons that were found wrong, in a stream.

    Parameters
    ----------
    verdicts : Path
        That a page has exported.
    path : Path
        The layer that was reviewed.
    out : Path
        Another layer, with all attributes and ``verdict``.
    options : ReviewOptions
        Its ``layer`` and ``overwrite``; what else is given is refused.
    on_step : callable
        Called with the share that is done, where it is known.

    Raises
    ------
    GeosegError
        If a file cannot be read or written, an option has no effect, or the verdicts are on another layer.
    """
    if options.changed:
        raise InvalidOption(f"--{min(options.changed)} is for making a page; leave it out with --apply")
    said = read_verdicts(verdicts)
    check_stream_path(out, overwrite=options.overwrite)
    check_not_read(out, path, verdicts)
    with open_layer(path, options.layer) as layer:
        if said.column == "id" and "id" not in layer.schema.names:
            said.check_found(set())
        kept = _Kept(said, layer, on_step)
        write_layer(
            out,
            kept.schema,
            kept.batches(),
            geometry=layer.geometry,
            crs=layer.crs,
            kind="Unknown",
            overwrite=options.overwrite,
        )
    return ApplyReport(str(out), kept.written, dict(Counter(said.of.values())), precision_of(said))


def precision_of(verdicts: Verdicts) -> Precision | None:
    """Return the share of a layer's polygons that are right; None unless a random sample was judged.

    An object whose outline is to be drawn anew is right; what nobody was sure of does not count.
    """
    strata = []
    for size, keys in verdicts.strata.values():
        said = Counter(verdicts.of[key] for key in keys)
        right = said[RIGHT] + said["redraw"]
        strata.append(Stratum(size, right + said[WRONG], right))
    return precision(strata)


class _Kept:
    """The features of a layer that were not found wrong."""

    def __init__(self, said: Verdicts, layer: LayerBatches, on_step: Callable[[float], None]) -> None:
        import pyarrow

        self._said, self._layer, self._on_step = said, layer, on_step
        fields = [one for one in layer.schema if one.name not in {ADDED, layer.geometry}]
        self.schema = pyarrow.schema([*fields, (ADDED, pyarrow.string()), wkb_field(layer.geometry)])
        self.written = 0

    def batches(self) -> Iterator[pyarrow.RecordBatch]:
        """Yield them; at the end it is seen whether there was a polygon for each verdict."""
        import pyarrow

        found: set[str] = set()
        row = 0
        for batch in self._layer.batches:
            by_id = self._said.column == "id"
            values = batch.column("id").to_pylist() if by_id else range(row + 1, row + 1 + len(batch))
            keys = [text_of(value) for value in values]
            row += len(batch)
            shapes = batch.column(self._layer.geometry).to_pylist()
            found |= self._said.found(keys, self._layer.shapes(batch), self._layer.crs)
            verdicts = [self._said.of.get(key) for key in keys]
            columns = [
                pyarrow.array(verdicts, pyarrow.string()) if name == ADDED else batch.column(name)
                for name in self.schema.names
            ]
            columns[-1] = pyarrow.array(shapes, pyarrow.binary())
            kept = pyarrow.record_batch(columns, schema=self.schema).filter(
                pyarrow.array([one != WRONG for one in verdicts])
            )
            self.written += len(kept)
            yield kept
            self._on_step(row / max(self._layer.features or 1, row))
        self._said.check_found(found)
