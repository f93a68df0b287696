"""Which scenes of the sources are meant, why each is to be done, and why a result may not be replaced."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geoseg.archive.area import Area
from geoseg.archive.entries import Entry
from geoseg.archive.facts import Look, Looked, look_at
from geoseg.archive.identity import same_scene
from geoseg.archive.manifest import FINISHED, Result
from geoseg.archive.options import OF_THE_RUN, Condition, Period, SelectOptions, moment_of
from geoseg.archive.places import Places
from geoseg.errors import InvalidOption
from geoseg.models.bundle import Bundle
from geoseg.prediction.options import PredictOptions


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


def check_bands(bands: Sequence[int], wanted: Sequence[str], found: Selection) -> None:
    """Check that --bands fits the model, and some scene: that is not told of one scene after another.

    Parameters
    ----------
    bands : sequence of int
    wanted : sequence of str
        Bands of the model.
    found : Selection

    Raises
    ------
    InvalidOption
    """
    given = ",".join(map(str, bands))
    if len(bands) != len(wanted):
        raise InvalidOption(
            f"--bands {given}: must name {len(wanted)} bands, which the model needs for {', '.join(wanted)}"
        )
    facts = [found.looks[entry.name].facts for entry in found.entries if entry.bands is None]
    most = max((len(one.bands) for one in facts if one is not None), default=max(bands))
    if max(bands) > most:
        raise InvalidOption(f"--bands {given}: no scene has so many; they have {most} at most")


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


COMPUTES = "computes in"
"""Under this name the facts that fix a result hold which predictor computes it, in which precision."""

NOT_OPTIONS = OF_THE_RUN | {"raster", "resume", "overwrite", "model", "aoi"}
"""Fields that the digest does not hold as they are."""


def facts_of(
    options: PredictOptions, bundle: Bundle, area: Area | None, form: str, *, raster: bool
) -> dict[str, Any]:
    """Return all that fixes a result, but for the scene and what the model is computed in."""
    return {
        "model": model_name(bundle),
        "aoi": None if area is None else area.digest,
        **options.model_dump(mode="json", exclude=set(NOT_OPTIONS)),
        "align_tiles": bool(options.align_tiles),
        "format": form,
        "raster": raster,
        "geoseg": version("geoseg"),
    }


def model_name(bundle: Bundle) -> str:
    """Return what the facts call a model: its name, and what tells it from others of the name."""
    return f"{bundle.path.name} {bundle.card.digest[:16]}"


def digest_of(made: Mapping[str, Any]) -> str:
    """Return a digest of the facts that fix a result."""
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


# Why a scene is to be done.
NEW, CHANGED, GONE = "new", "changed", "its result is gone"
ELSEWHERE = "its raster is in another folder"
OTHERWISE, ANOTHER = "done with another model or other options", "the result is another scene's"
AGAIN = "failed before, or done in part"


def why_do(known: Result | None, new: Result, digest: str, places: Places, *, retried: bool) -> str:
    """Return why a scene is to be done; empty where it is not.

    Parameters
    ----------
    known : Result or None
        What has become of it before.
    new : Result
        The scene as it is now, with its identity.
    digest : str
        Of model and options.
    places : Places
        Where its files are to be.
    retried : bool
        Whether scenes that failed are tried again.
    """
    if known is None or known.state in ("pending", "running"):
        return NEW
    unchanged = same_scene(known.identity, new.identity)
    if known.digest != digest:
        return OTHERWISE
    if not unchanged:
        return CHANGED if known.location == new.location else ANOTHER
    if known.state != "done" and retried:
        return AGAIN
    elsewhere = known.state in FINISHED and known.files != places.files(new.name)
    if not elsewhere and all((places.out / path).exists() for path in known.files):
        return ""
    return ELSEWHERE if elsewhere else GONE


def why_refused(
    known: Result, new: Result, why: str, before: Mapping[str, Any], made: Mapping[str, Any]
) -> str:
    """Return why a result is not to be replaced unless --redo asks for it; empty where it may be.

    A whole result is not given up for another scene; what is partial is, such as for the scene repaired.

    Parameters
    ----------
    why : str
        Of `why_do`.
    before, made : mapping
        The facts that fixed the result, and those that would.
    """
    if why == OTHERWISE and known.state in FINISHED:
        return f"{difference(before, made)}; give --redo, or another --out"
    if why == ANOTHER and known.state == "done":
        return (
            f"{known.name} is the result of {known.location}, not of {new.location}; "
            "give another --out, or --redo to replace it"
        )
    return ""


def difference(before: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """Say how the results that are there were made otherwise."""
    if before.get("align_tiles", made["align_tiles"]) != made["align_tiles"]:
        how, other = ("without", "--no-align-tiles") if made["align_tiles"] else ("with", "--align-tiles")
        return f"holds results made {how} --align-tiles: {other} resumes it"
    for name, value in made.items():
        if name in before and before[name] != value:
            return f"holds results made with {name} {before[name]}, not {value}"
    return "holds results made with another model or other options"
