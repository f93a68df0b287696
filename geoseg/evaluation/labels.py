"""Which classes there are, and what the values of files mean: pure functions."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.evaluation.options import BACKGROUND, IGNORE, Values
from geoseg.evaluation.rasters import UNKNOWN
from geoseg.values import ClassInfo

_COLORS = (
    (228, 87, 46), (23, 118, 182), (60, 150, 80), (240, 180, 40), (140, 90, 170),
    (90, 190, 200), (200, 90, 140), (120, 100, 80), (110, 120, 130), (170, 190, 60),
)  # fmt: skip

MISSING = "null"
"""How a missing attribute is called; it never names a class."""


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The classes of an evaluation.

    Parameters
    ----------
    classes : tuple of ClassInfo
        By id.
    """

    classes: tuple[ClassInfo, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """Class ids, ascending."""
        return tuple(info.id for info in self.classes)

    @property
    def text(self) -> str:
        """All classes for a message."""
        return ", ".join(f"{info.id} {info.name}" for info in self.classes)

    def find(self, word: str) -> int | None:
        """Return the id that a word means: an id, a name, ``background`` or ``ignore``; None if none."""
        if word == IGNORE:
            return UNKNOWN
        if word in {BACKGROUND, "0"}:
            return 0
        for same in (str, str.casefold):
            for info in self.classes:
                if same(word) in {same(info.name), str(info.id)}:
                    return info.id
        return None

    def meanings(self, pairs: Values, option: str) -> dict[str, int]:
        """Return what each value of a list given by the user means.

        Raises
        ------
        InvalidOption
            If it names a class that does not exist.
        """
        found = {}
        for value, word in pairs:
            meaning = self.find(word)
            if meaning is None:
                raise InvalidOption(f"{option}: no class {word!r}; there are {self.text}")
            found[value] = meaning
        return found

    def of_numbers(self, pairs: Values, option: str) -> dict[int, int]:
        """Return what the numbers in a raster mean: ids themselves, 0, and what the user says.

        Raises
        ------
        InvalidOption
        """
        plain = {0: 0} | {class_id: class_id for class_id in self.ids}
        given = self.meanings(pairs, option)
        try:
            return plain | {int(value): meaning for value, meaning in given.items()}
        except ValueError:
            raise InvalidOption(f"{option}: the values of a raster are whole numbers") from None

    def of_words(self, values: Sequence[str], pairs: Values, name: str) -> NDArray[np.int16]:
        """Return what the attribute of each polygon means: a class id, 0 or `UNKNOWN`.

        Raises
        ------
        InvalidOption
            If a value is no class.
        """
        given = self.meanings(pairs, "--truth-values")
        known = {}
        for value in dict.fromkeys(values):
            meaning = given.get(value, self.find(value))
            if meaning is None:
                raise InvalidOption(
                    f"{name}: the value {value!r} is no class; there are {self.text}; "
                    f"say what it means: --truth-values {value}=CLASS (or background, or ignore)"
                )
            known[value] = meaning
        return np.array([known[value] for value in values], np.int16)


def make_table(names: Mapping[int, str], known: Iterable[ClassInfo] = ()) -> ClassTable:
    """Return the classes by id, with the colours of those that are known and others for the rest.

    Raises
    ------
    InvalidOption
        If an id is not in 1 … 255.
    """
    colors = {info.id: info.color for info in known}
    for class_id, name in names.items():
        if not 1 <= class_id <= 255:
            raise InvalidOption(f"class {class_id} {name}: ids of classes are 1 … 255; 0 is the background")
    ordered = sorted(names.items())
    return ClassTable(
        tuple(
            ClassInfo(class_id, name, colors.get(class_id, _COLORS[i % len(_COLORS)]))
            for i, (class_id, name) in enumerate(ordered)
        )
    )


def parse_classes(pairs: Values) -> dict[int, str]:
    """Return names by id from ``--classes``.

    Raises
    ------
    InvalidOption
    """
    try:
        return {int(number): name for number, name in pairs}
    except ValueError:
        raise InvalidOption("--classes takes ids and names such as 1=house,2=road") from None


def extend(
    names: Mapping[int, str], values: Sequence[str], pairs: Values
) -> tuple[dict[int, str], list[str]]:
    """Add the classes of the truth that the prediction does not name.

    Returns
    -------
    names : dict of int to str
    added : list of str
        Names of the new ones. Numbers keep their value as id; others get the next free one.
    """
    given = dict(pairs)
    extended, added = dict(names), []
    for word in dict.fromkeys(given.get(value, value) for value in values):
        if word == MISSING or make_table(extended).find(word) is not None:
            continue
        number = int(word) if word.isdecimal() else max(extended, default=0) + 1
        extended[number] = word
        added.append(word)
    return extended, added


def to_words(values: NDArray[Any]) -> list[str]:
    """Return attribute values as text: whole numbers without a point, missing ones as ``null``."""
    return [_word(value) for value in values.tolist()]


def nearest(word: str, choices: Sequence[str]) -> str:
    """Return a hint at what a misspelt word may have meant, or all choices."""
    close = difflib.get_close_matches(word, choices, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"it has {', '.join(choices)}" if choices else "it has none"


def _word(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
