"""The classes of a task by name and id, and what the values of labels mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption, suggest
from geoseg.models.card import class_color
from geoseg.values import ClassInfo

BACKGROUND = "background"
"""What labels call ground without any class."""

IGNORED = "ignore"
"""What labels call ground where nothing is known."""

MISSING = "null"
"""What an attribute without a value is called."""

UNKNOWN = -1
"""In place of a class id: nothing is known there. As uint8 it is `IGNORE`."""

IGNORE = 255
"""`UNKNOWN` in arrays of uint8, where class ids are 1 to 254."""

Ids = NDArray[np.int16]
"""Class ids, 0 for the background, `UNKNOWN`."""


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The classes of a task.

    Examples
    --------
    >>> table = ClassTable.named({1: "building", 2: "Road"})
    >>> [table.find(word) for word in (" ROAD ", 2.0, "background", "ignore", "tower")]
    [2, 2, 0, -1, None]
    """

    classes: tuple[ClassInfo, ...]
    """By id."""

    @classmethod
    def named(cls, names: Mapping[int, str], known: Iterable[ClassInfo] = ()) -> ClassTable:
        """Make the table of names by id, with the colours of classes that are known.

        Raises
        ------
        InvalidOption
            If an id is not in 1 … 255.
        """
        colors = {info.id: info.color for info in known}
        for class_id, name in names.items():
            if not 1 <= class_id <= 255:
                raise InvalidOption(
                    f"class {class_id} {name}: ids of classes are 1 … 255; 0 is the background"
                )
        return cls(
            tuple(
                ClassInfo(class_id, name, colors.get(class_id, class_color(class_id)))
                for class_id, name in sorted(names.items())
            )
        )

    @property
    def ids(self) -> tuple[int, ...]:
        """Class ids, ascending."""
        return tuple(info.id for info in self.classes)

    @property
    def text(self) -> str:
        """All classes for a message."""
        return ", ".join(f"{info.id} {info.name}" for info in self.classes)

    def find(self, value: object) -> int | None:
        """Return the id, 0 or `UNKNOWN` that a word or number means; None if it names no class."""
        word = text_of(value)
        for meanings in (
            {info.name.strip(): info.id for info in self.classes},
            {_folded(info.name): info.id for info in reversed(self.classes)},
            {str(info.id): info.id for info in self.classes},
            {BACKGROUND: 0, "0": 0, IGNORED: UNKNOWN},
        ):
            for spelling in (word, _folded(word)):
                if spelling in meanings:
                    return meanings[spelling]
        return None

    def meanings(self, pairs: Mapping[Any, Any], option: str) -> dict[str, int]:
        """Return what each value means, by its text; `pairs` gives a class, background or ignore for it.

        Raises
        ------
        InvalidOption
            If one names a class that does not exist.
        """
        found = {}
        for value, word in pairs.items():
            meaning = self.find(word)
            if meaning is None:
                raise InvalidOption(f"{option}: {text_of(word)!r} is no class; {self._suggest(word)}")
            found[_folded(text_of(value))] = meaning
        return found

    def numbers(self, pairs: Mapping[Any, Any], option: str) -> dict[int, int]:
        """Return what the values of a raster mean: 0 is the background, and what `pairs` say.

        The id of a class stands for it unless `pairs` name another value for that class.

        Raises
        ------
        InvalidOption
            If a value is no whole number, or a class does not exist.
        """
        given = self.meanings(pairs, option)
        try:
            named = {int(value): meaning for value, meaning in given.items()}
        except ValueError:
            raise InvalidOption(f"{option}: the values of a raster are whole numbers") from None
        plain = {class_id: class_id for class_id in self.ids if class_id not in named.values()}
        return {0: 0} | plain | named

    def look_up(
        self, values: Iterable[Any], where: str, given: Mapping[str, int] | None = None, advice: str = ""
    ) -> Ids:
        """Return what the attribute of each feature means.

        Parameters
        ----------
        values : iterable
            Of the attribute, as the file holds them.
        where : str
            File and attribute, for messages.
        given : mapping of str to int, optional
            From `meanings`: what the user says.
        advice : str
            Option that says what a value means, for messages.

        Raises
        ------
        InvalidOption
            If a value is no class; the message names the nearest.
        """
        words = [text_of(value) or MISSING for value in values]
        known = {}
        for word in dict.fromkeys(words):
            meaning = (given or {}).get(_folded(word), self.find(word))
            if meaning is None:
                count = f" ({words.count(word)} features have no value)" if word == MISSING else ""
                way = f"; or say what it means: {advice} {word}=CLASS (or background, or ignore)"
                raise InvalidOption(
                    f"{where}: {word!r} is no class{count}; {self._suggest(word)}{way if advice else ''}"
                )
            known[word] = meaning
        return np.array([known[word] for word in words], np.int16)

    def extended(
        self, values: Iterable[Any], pairs: Mapping[Any, Any] | None = None
    ) -> tuple[ClassTable, list[str]]:
        """Add a class for each value that names none: under its own number, else the next free one.

        Parameters
        ----------
        values : iterable
            Of an attribute.
        pairs : mapping, optional
            Names to read in place of values.

        Returns
        -------
        table : ClassTable
        added : list of str
            Names of the new classes.
        """
        given = {_folded(text_of(value)): text_of(name) for value, name in (pairs or {}).items()}
        table, added = self, []
        for value in dict.fromkeys(text_of(value) or MISSING for value in values):
            word = given.get(_folded(value), value)
            if word == MISSING or table.find(word) is not None:
                continue
            names = {info.id: info.name for info in table.classes}
            names[int(word) if word.isdecimal() else max(names, default=0) + 1] = word
            table = ClassTable.named(names, table.classes)
            added.append(word)
        return table, added

    def _suggest(self, word: object) -> str:
        return suggest(text_of(word), [*(info.name for info in self.classes), BACKGROUND, IGNORED])


def translate(values: NDArray[np.generic], meanings: Mapping[int, int]) -> Ids:
    """Return what the values of a raster mean.

    Parameters
    ----------
    values : ndarray
        Of any type.
    meanings : mapping of int to int
        Class id, 0 or `UNKNOWN` by value.

    Raises
    ------
    ValueError
        With a value that has no meaning.

    Examples
    --------
    >>> translate(np.array([0, 255, 127], np.uint8), {0: 0, 255: 1, 127: UNKNOWN})
    array([ 0,  1, -1], dtype=int16)
    """
    none = -2
    if values.dtype == np.uint8:
        # Masks are mostly bytes: one look-up.
        found = np.array([meanings.get(value, none) for value in range(256)], np.int16)[values]
    else:
        keys = np.array(sorted(meanings))
        place = np.searchsorted(keys, values).clip(0, len(keys) - 1)
        found = np.array([meanings[key] for key in keys.tolist()], np.int16)[place]
        found[keys[place] != values] = none
    if (found == none).any():
        raise ValueError(f"{values[found == none].flat[0]:g}")
    return np.asarray(found, np.int16)


def text_of(value: object) -> str:
    """Return the value of an attribute as text, without blanks around it; nothing as nothing.

    Examples
    --------
    >>> [text_of(value) for value in (" road ", 3.0, 2.5, None, float("nan"))]
    ['road', '3', '2.5', '', '']
    """
    if value is None or value != value:  # noqa: PLR0124 (NaN, NaT)
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _folded(word: str) -> str:
    return word.strip().casefold()
