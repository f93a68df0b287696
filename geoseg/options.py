"""Options that are checked once, the same from the command line, Python and recipes.

A field's type says what it takes, the text under it what it is for; help and docs are made from them.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from geoseg.errors import GeosegError, InvalidOption

_EXPECTED = {
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list of values",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "too_short": "a list of {min_length} or more",
    "missing": "given",
    "literal_error": "{expected}",
}
"""pydantic's type of error: what a value must be."""


@dataclass(frozen=True, slots=True)
class Metavar:
    """The placeholder of an option's value in help texts."""

    text: str


@dataclass(frozen=True, slots=True)
class Alone:
    """What an option means that is given without a value."""

    value: str


class Options(BaseModel):
    """Frozen options; what is wrong with them is one `InvalidOption`. None is the default of each.

    Examples
    --------
    >>> class Draw(Options):
    ...     width: float = 1.0
    >>> Draw(width="2.5").width
    2.5
    >>> Draw(wdith=2)
    Traceback (most recent call last):
    geoseg.errors.InvalidOption: --wdith: no such option; did you mean --width?
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    if not TYPE_CHECKING:  # so that the fields stay its signature

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise InvalidOption(explain(error, type(self).model_fields)) from None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        """Take None for the default, and NumPy's numbers and arrays (the bounds of a table) for Python's."""
        if not isinstance(values, Mapping):
            return values
        given = {key: one for key, one in values.items() if one is not None or key not in cls.model_fields}
        return {key: one.tolist() if hasattr(one, "tolist") else one for key, one in given.items()}


def path_text(value: Any) -> Any:
    """Return a path as text, anything else unchanged."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


_NUMBER = re.compile(r"\s*[-+.]?\d")


def numbers(count: int, what: str) -> Callable[[Any], Any]:
    """Return a validator that splits text at commas and refuses lists of another length.

    >>> numbers(2, "LOW,HIGH")("0,255")
    ['0', '255']
    >>> numbers(2, "LOW,HIGH")("auto")
    'auto'
    """

    def check(value: Any) -> Any:
        alone = isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.match(value))
        parts = str(value).split(",") if alone or (isinstance(value, str) and "," in value) else value
        if isinstance(parts, list | tuple) and len(parts) != count:
            raise ValueError(f"takes {what}, not {value!r}")
        return parts

    return check


def parse_pairs(text: str | None, name: str) -> dict[str, str]:
    """Parse ``255=1,127=ignore``; None gives no pairs.

    Examples
    --------
    >>> parse_pairs("255=1, 127 = ignore", "--truth-values")
    {'255': '1', '127': 'ignore'}

    Raises
    ------
    InvalidOption
        If it is no such list, or names a value twice.
    """
    if text is None:
        return {}
    pairs = []
    for part in text.split(","):
        left, equals, right = (word.strip() for word in part.partition("="))
        if not (left and equals and right):
            raise InvalidOption(f"{name} takes pairs such as 255=1,127=ignore, not {text!r}")
        pairs.append((left, right))
    if len({left for left, _ in pairs}) < len(pairs):
        raise InvalidOption(f"{name} {text}: names a value twice")
    return dict(pairs)


def parse_classes(text: str | None) -> dict[int, str]:
    """Return names by id from ``--classes``; None gives none.

    Raises
    ------
    InvalidOption
    """
    try:
        return {int(number): name for number, name in parse_pairs(text, "--classes").items()}
    except ValueError:
        raise InvalidOption("--classes takes ids and names such as 1=house,2=road") from None


def flag(name: str) -> str:
    """Return how the command line spells a field (``class_`` is ``--class``).

    >>> flag("min_area")
    '--min-area'
    """
    return f"--{name.rstrip('_').replace('_', '-')}"


@contextlib.contextmanager
def named_as_in_python(known: Collection[str]) -> Iterator[None]:
    """Let errors name options as a caller from Python gives them: ``overwrite=True``, not ``--overwrite``.

    Parameters
    ----------
    known : collection of str
        Fields of the options; what else begins with two dashes stays.

    Examples
    --------
    >>> with named_as_in_python(["max_memory", "resume"]):
    ...     raise InvalidOption("--max-memory 10 bytes: is too little; or give --no-resume")
    Traceback (most recent call last):
    geoseg.errors.InvalidOption: max_memory 10 bytes: is too little; or give resume=False
    """

    def spelled(found: re.Match[str]) -> str:
        negated, name = bool(found[1]), found[2].replace("-", "_")
        if name not in known:
            return found[0]
        switch = negated or name in _SWITCHES
        return f"{name}={not negated}" if switch else name

    try:
        yield
    except GeosegError as error:
        error.args = tuple(_FLAG.sub(spelled, one) if isinstance(one, str) else one for one in error.args)
        raise


_FLAG = re.compile(r"--(no-)?([a-z][a-z-]*[a-z])")
_SWITCHES = {"overwrite", "redo", "take_over", "tta"}
"""Fields that a message asks to be set, not to be given another value."""


def explain(error: ValidationError, known: Collection[str], spell: Callable[[str], str] = flag) -> str:
    """Return one line on the first mistake: the option, what it must be, what it is.

    Parameters
    ----------
    error : ValidationError
        Of a flat set of options.
    known : collection of str
        Names of all that there are.
    spell : callable
        How an option is written where it is given.
    """
    return " ".join(_first_mistake(error.errors(include_url=False), known, spell).split())


def _first_mistake(mistakes: Sequence[Any], known: Collection[str], spell: Callable[[str], str]) -> str:
    unknown = next((one for one in mistakes if one["type"] == "extra_forbidden"), None)
    if unknown is not None:
        name = str(unknown["loc"][-1])
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {spell(near[0])}?" if near else f"there are {', '.join(map(spell, known))}"
        return f"{spell(name)}: no such option; {hint}"
    first = mistakes[0]
    if not first["loc"]:  # about several options, which its text names
        return _reason(first)
    name = str(first["loc"][0])
    alternatives = [one for one in mistakes if str(one["loc"][0]) == name]
    told = next((one for one in alternatives if one["type"] == "value_error"), None)
    if told is not None:
        return f"{spell(name)} {_reason(told)}"
    # A number says more by its bounds than a word that it might have been as well: those come last.
    wanted = [_expected(one) for one in sorted(alternatives, key=lambda one: one["type"] == "literal_error")]
    *others, last = dict.fromkeys(wanted)
    choice = f"{', '.join(others)} or {last}" if others else last
    return f"{spell(name)} must be {choice}, not {_value(first)!r}"


def _reason(mistake: Any) -> str:
    return str(mistake["msg"]).removeprefix("Value error, ")


def _expected(mistake: Any) -> str:
    pattern = _EXPECTED.get(mistake["type"])
    if pattern is None:
        return str(mistake["msg"]).removeprefix("Input should be ")
    return pattern.format(**mistake.get("ctx", {})).replace("'", "")


def _value(mistake: Any) -> object:
    """Return what was given, cut where it is long."""
    text = mistake["input"]
    return text if len(repr(text)) <= 80 else f"{str(text)[:60]}…"
