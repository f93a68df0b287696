"""From what labels say to class ids."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidOption
from geoseg.training.data.sample import IGNORE
from geoseg.training.data.spec import IGNORED, ClassSpec

BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The classes of a run, by name and by id.

    Parameters
    ----------
    ids : mapping of str to int
        Class id by lower-case name, with `BACKGROUND` and `IGNORED`; and by the id as text.
    classes : tuple of ClassSpec
        As given.
    """

    ids: Mapping[str, int]
    classes: tuple[ClassSpec, ...]

    @classmethod
    def of(cls, classes: tuple[ClassSpec, ...]) -> ClassTable:
        """Make the table of some classes."""
        ids = {str(one.id): one.id for one in classes} | {"0": 0, BACKGROUND: 0, IGNORED: IGNORE}
        return cls(ids | {one.name.lower(): one.id for one in classes}, classes)

    @property
    def names(self) -> list[str]:
        """What labels may say, for messages."""
        return [one.name for one in self.classes] + [BACKGROUND, IGNORED]

    def only(self, otherwise: str) -> int:
        """Return the id of the only class.

        Raises
        ------
        InvalidOption
            If there are several; `otherwise` says what to do.
        """
        if len(self.classes) > 1:
            raise InvalidOption(f"{otherwise}: there are {len(self.classes)} classes to tell apart")
        return self.classes[0].id

    def look_up(self, values: Iterable[Any], where: str) -> NDArray[np.uint8]:
        """Return the class ids that names (any case) or ids stand for.

        Raises
        ------
        InvalidOption
            If one stands for no class; the message names the nearest.
        """
        texts = [text_of(value) for value in values]
        unknown = [text for text in texts if text.lower() not in self.ids]
        if unknown:
            first = f"no value in {len(unknown)} features" if not unknown[0] else f"no class {unknown[0]!r}"
            raise InvalidOption(f"{where}: {first}{hint(unknown[0], self.names)}")
        return np.array([self.ids[text.lower()] for text in texts], np.uint8)

    def mask_ids(self, values: Mapping[int, int | str] | None, where: str) -> dict[int, int]:
        """Return class ids by the value of a mask; None: see ``SceneSpec.mask_values``.

        Raises
        ------
        InvalidOption
            If a value is said to be a class that does not exist.
        """
        if values is None:
            known = {one.id: one.id for one in self.classes}
            return {255: next(iter(known)) if len(known) == 1 else IGNORE, **known, 0: 0}
        ids = self.look_up(values.values(), where)
        return {0: 0, **dict(zip(values, ids.tolist(), strict=True))}


def hint(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` or what there is, to end a message with."""
    names = list(known)
    near = difflib.get_close_matches(word.lower(), [name.lower() for name in names], 1)
    if near:
        return f"; did you mean {next(name for name in names if name.lower() == near[0])!r}?"
    return f"; there is {', '.join(names)}" if names else "; there is none"


def map_values(values: NDArray[np.generic], ids: Mapping[int, int]) -> NDArray[np.uint8]:
    """Map the values of a mask to class ids.

    Raises
    ------
    ValueError
        With a value that is not in `ids`.
    """
    if values.dtype == np.uint8:
        # Masks are mostly bytes: one look-up, the few values that occur are checked apart.
        wrong = set(np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()) - set(ids)
        if wrong:
            raise ValueError(f"{min(wrong)}")
        return np.asarray(np.array([ids.get(value, 0) for value in range(256)], np.uint8)[values])
    keys = np.array(sorted(ids))
    place = np.searchsorted(keys, values).clip(0, len(keys) - 1)
    other = keys[place] != values
    if other.any():
        raise ValueError(f"{values[other].flat[0]:g}")
    return np.asarray(np.array([ids[key] for key in keys.tolist()], np.uint8)[place])


def text_of(value: Any) -> str:
    """Return the value of an attribute as text: whole numbers without a point, nothing as nothing."""
    if value is None or value != value:  # noqa: PLR0124 (NaN, NaT)
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
