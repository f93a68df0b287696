"""Conditions on scenes: when they were taken, and what the sources say of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

from geoseg.errors import InvalidOption, suggest

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
