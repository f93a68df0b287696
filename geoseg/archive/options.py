"""The options of a run over many scenes that are not those of each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from geoseg.options import Metavar, Options

OF_THE_RUN = frozenset({"workers", "scheduler", "batch", "device", "backend", "precision", "max_memory"})
"""Options of a prediction that change how fast it is done; the precision is told apart by what it becomes."""


def _parts(value: Any) -> Any:
    return value.split("/") if isinstance(value, str) else value


def _within(shard: Any) -> Any:
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"must be a number and how many there are, such as 2/8, not {shard[0]}/{shard[1]}")
    return shard


class BatchOptions(Options):
    """How to run over an archive."""

    format: Literal["parquet", "gpkg"] = "parquet"
    """Of the polygons of each scene: GeoParquet or GeoPackage."""

    retry: Literal["failed"] | None = None
    """Try again the scenes that failed, and those that were given up as workers died of them."""

    redo: bool = False
    """Do again what was done with another model or other options; otherwise that is refused."""

    take_over: bool = False
    """Take over an archive from a run on another machine that is no more."""

    shard: Annotated[
        tuple[int, int] | None, BeforeValidator(_parts), AfterValidator(_within), Metavar("I/N")
    ] = None
    """Do only the I-th of N parts of the scenes: for machines that share a folder but no scheduler."""
