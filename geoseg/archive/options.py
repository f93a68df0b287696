"""The options of a run over many scenes that are not those of each: which scenes, and how they are run.

What ``--since``, ``--until`` and ``--where`` ask of a scene is decided here, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from geoseg.errors import InvalidOption, suggest
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


DEEPEST = 200
"""Most parentheses in a condition: its parser would run out of stack."""

_EXAMPLE = "an example: \"eo:cloud_cover < 10 AND season = 'spring'\""


def moment_of(text: str, *, end: bool = False) -> datetime | None:
    """Return a moment in UTC; None where the text is none.

    Parameters
    ----------
    text : str
        Of ISO 8601, or as TIFF has it; without a zone it is UTC.
    end : bool
        Of a day, its last moment in place of its first.

    Examples
    --------
    >>> moment_of("2024-05-31T12:00:00+02:00").isoformat()
    '2024-05-31T10:00:00+00:00'
    >>> moment_of("2024:05:31 12:00:00").isoformat(), moment_of("soon") is None
    ('2024-05-31T12:00:00+00:00', True)
    >>> moment_of("2024-05-31", end=True).isoformat()
    '2024-05-31T23:59:59.999999+00:00'
    """
    text = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", text.strip())
    try:
        day = len(text) == 10
        found = datetime.fromisoformat(text)
        found = datetime.combine(found, time.max) if day and end else found
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Period:
    """From one moment to another; None: open."""

    since: datetime | None
    until: datetime | None

    def holds(self, taken: str | None) -> bool | None:
        """Whether a moment lies in it; None: it is not known."""
        moment = moment_of(taken) if taken else None
        if moment is None:
            return None
        return (self.since is None or moment >= self.since) and (self.until is None or moment <= self.until)


class Condition:
    """What ``--where`` asks of a scene's properties, in CQL2.

    https://docs.ogc.org/is/21-065r2/21-065r2.html

    Parameters
    ----------
    text : str

    Raises
    ------
    InvalidOption
        If it does not parse.
    """

    def __init__(self, text: str) -> None:
        import cql2

        self._text = text
        if text.count("(") > DEEPEST or text.upper().count("NOT") > DEEPEST:
            raise InvalidOption(f"--where {text[:60]}…: is nested too deeply")
        try:
            self._expression = cql2.parse_text(text)
        except cql2.ParseError as error:
            place = re.search(r"-->\s*\d+:(\d+)", str(error))
            at = f" at column {place[1]}" if place else ""
            raise InvalidOption(f"--where {text}: does not parse{at}; {_EXAMPLE}") from None
        self.properties = frozenset(_properties(self._expression.to_json()))

    def check(self, known: Collection[str]) -> None:
        """Check that each property is known of some scene.

        Raises
        ------
        InvalidOption
        """
        for name in sorted(self.properties):
            if _top(name, known) is None:
                there = suggest(name, sorted(known)) if known else "the sources say nothing of their scenes"
                raise InvalidOption(f"--where {self._text}: no property {name}; {there}")

    def holds(self, properties: Mapping[str, object], name: str) -> bool | None:
        """Whether it holds for a scene; None: what it takes is not known of it.

        Raises
        ------
        InvalidOption
            If it compares what cannot be compared.
        """
        tops = {top for one in self.properties if (top := _top(one, properties)) is not None}
        known = {top: properties[top] for top in tops if properties[top] is not None}
        try:
            return bool(self._expression.matches(known))
        except Exception as error:  # of no kind of its own
            if len(known) < len(self.properties):
                return None
            values = ", ".join(f"{key} is {value!r}" for key, value in sorted(known.items()))
            raise InvalidOption(
                f"--where {self._text}: cannot be decided for {name}, where {values}"
            ) from error


def _properties(node: Any) -> list[str]:
    if isinstance(node, dict):
        if isinstance(node.get("property"), str):
            return [node["property"]]
        node = list(node.values())
    return [name for part in node for name in _properties(part)] if isinstance(node, list) else []


def _top(name: str, known: Collection[str]) -> str | None:
    """Return the property that a name means, which may be of something within it."""
    top = name.partition(".")[0]
    return name if name in known else top if top in known else None
