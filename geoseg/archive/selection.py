"""Which scenes of the sources are meant, and what lists of them may lead to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from geoseg.archive.area import Area
from geoseg.archive.conditions import Condition, Period, moment_of
from geoseg.archive.entries import Entry
from geoseg.archive.facts import Look, Looked, look_at
from geoseg.archive.options import SelectOptions
from geoseg.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Selection:
    """The scenes that are meant.

    Parameters
    ----------
    entries : tuple of Entry
        Where the sources did not say when and where a scene was taken, its file has been asked.
    looks : mapping of str to Look
        What a look at each has shown, by name.
    left_out : mapping of str to int
        How many scenes are not meant, by reason.
    area : Area or None
        That they are clipped by, as it was read here: its file may change while they are done.
    """

    entries: tuple[Entry, ...]
    looks: Mapping[str, Look]
    left_out: Mapping[str, int]
    area: Area | None


def select(
    entries: Sequence[Entry],
    options: SelectOptions,
    folder: Path,
    *,
    aoi: tuple[Path, str | None] | None = None,
    opening: bool = False,
    verify: bool = False,
    on_look: Callable[[Looked], None] = lambda _: None,
) -> Selection:
    """Select the scenes that are meant, and look at them.

    Where a list says where and when a scene was taken, that decides which scenes are opened; those that
    are opened are clipped, and left out, by their own pixels.

    Parameters
    ----------
    entries : sequence of Entry
    options : SelectOptions
    folder : Path
        Of the archive; it exists. What is remembered of scenes lies there.
    aoi : (Path, layer), optional
        Polygons that scenes are selected and clipped by.
    opening : bool
        Open all scenes, even where nothing that is asked for depends on it.
    verify : bool
        See `geoseg.archive.facts.look_at`.
    on_look : callable
        Called after each scene that was looked at.

    Raises
    ------
    InvalidOption
        If no scene is meant, or what is asked for cannot be decided.
    """
    if aoi and options.bbox:
        raise InvalidOption("--aoi and --bbox exclude each other")
    box = None if options.bbox is None else Area.of_box(options.bbox, options.bbox_crs)
    sieve = _Sieve(
        None if options.where is None else Condition(options.where),
        _period(options),
        Area.of_file(*aoi) if aoi else box,
    )
    if sieve.condition is not None:
        sieve.condition.check({name for entry in entries for name in entry.properties})
    listed = [entry for entry in entries if sieve.passes_listed(entry)]
    looks = look_at(
        listed,
        folder,
        hosts=frozenset(options.allow_host),
        opening=opening or any(map(sieve.needs_file, listed)),
        verify=verify,
        on_look=on_look,
    )
    found = [_completed(entry, looks[entry.name]) for entry in listed]
    found = [entry for entry in found if sieve.passes_opened(entry, looks[entry.name])]
    if entries and not found:
        raise InvalidOption(f"no scene matches: {_counted(len(entries), +sieve.left_out)}")
    return Selection(tuple(found), looks, +sieve.left_out, sieve.area)


def _period(options: SelectOptions) -> Period | None:
    since = moment_of(options.since) if options.since else None
    until = moment_of(options.until, end=True) if options.until else None
    if since and until and until < since:
        raise InvalidOption(f"--until {options.until}: is before --since {options.since}")
    return Period(since, until) if since or until else None


@dataclass(frozen=True, slots=True)
class _Sieve:
    """What is asked for, and how many scenes were left out for which reason."""

    condition: Condition | None
    period: Period | None
    area: Area | None
    left_out: Counter[str] = field(default_factory=Counter)

    def passes_listed(self, entry: Entry) -> bool:
        """Whether a scene may be meant by what the sources say of it, be it that it cannot be read."""
        if entry.problem and not entry.properties:
            return True
        if self.condition is not None:
            holds = self.condition.holds(entry.properties, entry.location)
            if not holds:
                return self._out("not known by --where" if holds is None else "not as --where asks")
        if self.period is not None and self.period.holds(entry.datetime) is False:
            return self._out("of another date")
        if self.area is not None and entry.bbox is not None and not self.area.may_touch(entry.bbox):
            return self._out("outside the area")
        return True

    def needs_file(self, entry: Entry) -> bool:
        """Whether the sources do not say enough of a scene."""
        return self.area is not None or (
            self.period is not None and self.period.holds(entry.datetime) is None
        )

    def passes_opened(self, entry: Entry, look: Look) -> bool:
        """Whether a scene is meant by what its file says; one that cannot be read is, so that it is told."""
        if entry.problem or look.facts is None:
            return True
        if self.period is not None and not (holds := self.period.holds(entry.datetime)):
            return self._out("undated" if holds is None else "of another date")
        if self.area is not None:
            grid = look.facts.grid
            if grid.crs is None:
                return self._out("without a CRS")
            if not self.area.touches(grid):
                return self._out("outside the area")
        return True

    def _out(self, reason: str) -> bool:
        self.left_out[reason] += 1
        return False


def _completed(entry: Entry, look: Look) -> Entry:
    """Return a scene with what its file says where the sources say nothing; a date that is none counts so."""
    if look.problem or look.facts is None:
        return replace(entry, problem=look.problem)
    moment = moment_of(entry.datetime or "") or moment_of(look.facts.datetime or "")
    return replace(entry, datetime=moment.isoformat() if moment else None, bbox=look.facts.bbox or entry.bbox)


def _counted(total: int, left_out: Mapping[str, int]) -> str:
    """Say how many scenes are left out, and why.

    Examples
    --------
    >>> _counted(3, {"undated": 1, "outside the area": 2})
    'of 3 scenes 1 is undated, 2 are outside the area'
    """
    parts = ", ".join(f"{count} {'is' if count == 1 else 'are'} {why}" for why, count in left_out.items())
    return f"of {total} scene{'' if total == 1 else 's'} {parts}"
