"""The options of a run over many scenes that are not those of each: which scenes, and how they are run."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from geoseg.archive.conditions import moment_of
from geoseg.options import Alone, Metavar, Options, flag, numbers
from geoseg.prediction.options import PredictOptions

OF_THE_RUN = frozenset({"workers", "scheduler", "batch", "device", "backend", "precision", "max_memory"})
"""Options of a prediction that change how fast it is done; the precision is told apart by what it becomes."""


NOT_FOR_MANY = ("bbox", "overwrite", "resume")
"""Options of one scene that an archive has no use for."""


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

    verify: bool = False
    """Hash all bytes of the scenes, in place of samples, to find those that have changed. What is hashed so
    for the first time cannot be compared."""

    take_over: bool = False
    """Take over an archive from a run on another machine that is no more."""

    shard: Annotated[
        tuple[int, int] | None, BeforeValidator(_parts), AfterValidator(_within), Metavar("I/N")
    ] = None
    """Do only the I-th of N parts of the scenes: for machines that share a folder but no scheduler."""

    dashboard: bool = False
    """Print the link of dask's dashboard; where the cluster is started here, only this machine sees it."""


class MergeOptions(Options):
    """Whether and how the results of all scenes are put together."""

    def prediction(self, options: PredictOptions) -> PredictOptions:
        """Return the options of the scenes: with tiles on one grid where they are to be reconciled."""
        wanted = self.reconcile is not None and options.align_tiles is None
        return options.model_copy(update={"align_tiles": True}) if wanted else options

    merge: bool = False
    """Afterwards, make one GeoParquet dataset of all results, sorted by place, and a STAC collection."""

    reconcile: Annotated[Literal["same-date", "any-date"] | None, Metavar("any-date"), Alone("same-date")] = (
        None
    )
    """In the dataset, make one feature of an object that several scenes show: those of one day, or of any."""

    merge_crs: Annotated[str | None, Metavar("CRS")] = None
    """CRS of the dataset; that of all results where they share one, else longitude and latitude."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for name in ("reconcile", "merge_crs"):
            if getattr(self, name) is not None and not self.merge:
                raise ValueError(f"{flag(name)} is a step of --merge")
        return self


def _moment(value: Any) -> Any:
    """Return a date or a time of ISO 8601 as it was written, once it is known to be one."""
    if isinstance(value, date):
        value = value.isoformat()
    if isinstance(value, str) and moment_of(value) is None:
        raise ValueError(f"must be a date such as 2024-05-31 or 2024-05-31T12:00:00Z, not {value!r}")
    return value


def _hosts(hosts: Any) -> Any:
    return tuple(
        str(host).lower().rstrip("/").removeprefix("https://").removeprefix("http://") for host in hosts
    )


class SelectOptions(Options):
    """Which scenes of the sources are done, and what lists of them may lead to."""

    bbox: Annotated[
        tuple[float, float, float, float] | None,
        BeforeValidator(numbers(4, "the four numbers W S E N")),
        Metavar("W S E N"),
    ] = None
    """Only scenes that this box touches, and of them only what lies inside; in degrees of longitude and
    latitude. W is more than E across 180°."""

    bbox_crs: Annotated[str | None, Metavar("CRS")] = None
    """CRS of --bbox, where it is not longitudes and latitudes."""

    since: Annotated[str | None, BeforeValidator(_moment), Metavar("DATE")] = None
    """Only scenes taken then or later, by STAC or the column datetime, else by their TIFFTAG_DATETIME."""

    until: Annotated[str | None, BeforeValidator(_moment), Metavar("DATE")] = None
    """Only scenes taken then or before; a day counts whole."""

    where: Annotated[str | None, Metavar("CQL2")] = None
    """Only scenes of which this holds, on the columns of lists and indexes and the properties of STAC items:
    "eo:cloud_cover < 10"."""

    asset: Annotated[str | None, Metavar("NAME")] = None
    """Asset of STAC items to take; the one with the model's bands unless given."""

    allow_host: Annotated[tuple[str, ...], BeforeValidator(_hosts), Metavar("HOST")] = ()
    """Host that lists may lead to besides their own; may be repeated."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.bbox_crs is not None and self.bbox is None:
            raise ValueError("--bbox-crs is for --bbox")
        return self
