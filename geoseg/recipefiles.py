"""YAML files that extend one another, take variables of the environment, and know their lines."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from geoseg.errors import InvalidOption

RECIPE_LIMIT = 1_000_000
"""Largest recipe in bytes."""

NODES = 100_000
"""Most keys and values of a recipe, those that aliases repeat counted each time."""

_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Layer:
    """What one file says."""

    path: Path
    """The file; `folder` is what paths in it are relative to."""
    content: dict[str, Any]
    """As written, without ``extends``."""

    @property
    def folder(self) -> Path:
        """Absolute path of the folder that the file lies in."""
        return self.path.resolve().parent


def read_layers(path: Path) -> list[Layer]:
    """Read a recipe and those that it extends, the farthest first; nothing in them is checked yet.

    Raises
    ------
    InvalidOption
        If a file is missing, too large, or not a YAML mapping, names a key twice, or recipes extend one
        another in a circle.
    """
    layers: list[Layer] = []
    following: Path | None = path
    while following is not None:
        if following.resolve() in {layer.path.resolve() for layer in layers}:
            raise InvalidOption(f"{path}: extends itself")
        content = _read_mapping(following)
        parent = content.pop("extends", None)
        if not isinstance(parent, str | None):
            raise InvalidOption(f"{following}: extends must be the name of a recipe")
        layers.append(Layer(following, content))
        following = None if parent is None else following.parent / expand(parent)
    return layers[::-1]


def merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge layers: a later one overrides those before it.

    Mappings are merged key by key; all else, lists too, is replaced as a whole.

    Examples
    --------
    >>> merged([{"a": {"x": 1, "y": 1}, "b": [1, 2]}, {"a": {"y": 2}, "b": [3]}])
    {'a': {'x': 1, 'y': 2}, 'b': [3]}
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old: Any = result.get(key)
            both = isinstance(old, dict) and isinstance(value, dict)
            result[key] = merged([old, value]) if both else value
    return result


def expand(value: Any) -> Any:
    """Put the values of environment variables in the place of ``${NAME}``, at any depth.

    Raises
    ------
    InvalidOption
        If there is no such variable.
    """
    if isinstance(value, dict):
        return {key: expand(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner) for inner in value]
    return _VARIABLE.sub(_variable, value) if isinstance(value, str) else value


def _variable(match: re.Match[str]) -> str:
    value = os.environ.get(match[1])
    if value is None:
        raise InvalidOption(f"{match[0]}: the environment has no such variable; set it: export {match[1]}=…")
    return value


def below(folder: Path, value: Any) -> Any:
    """Make a path relative to `folder` absolute; URLs, and what is no text, stay unchanged.

    Variables stay: only whether theirs is an absolute path is looked at.

    Examples
    --------
    >>> below(Path("/maps"), "a/b.tif"), below(Path("/maps"), "https://example.org/b.tif")
    ('/maps/a/b.tif', 'https://example.org/b.tif')
    """
    if not isinstance(value, str):
        return value
    plain = expand(value)
    whole = "://" in plain or os.path.isabs(plain)
    return value if whole else os.path.normpath(folder / value) if plain == value else str(folder / value)


def parse_change(text: str) -> dict[str, Any]:
    """Return what ``--set`` says as the content of a recipe; the value is YAML.

    Examples
    --------
    >>> parse_change("predict.min_area=20")
    {'predict': {'min_area': 20}}

    Raises
    ------
    InvalidOption
        If it is no key and value.
    """
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise InvalidOption(f"--set {text}: takes KEY=VALUE, such as predict.min_area=20")
    try:
        content: Any = _plain(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise InvalidOption(f"--set {text}: the value is not YAML: {_reason(error)}") from error
    for part in reversed(parts):
        content = {part: content}
    return dict(content)


def place_of(path: Path, key: Sequence[str | int], changes: Sequence[str] = ()) -> str:
    """Return where a key comes from: ``--set …``, or the file and line, for the begin of a message.

    Parameters
    ----------
    path : Path
        A recipe that `read_layers` has read; the key may stand in one that it extends.
    key : sequence of str or int
        Names and positions from the top down; what lies below a line that is written counts for it.
    changes : sequence of str
        What ``--set`` said.
    """
    for change in reversed(changes):
        parts = change.partition("=")[0].strip().split(".")
        if parts == [str(part) for part in key[: len(parts)]]:
            return f"--set {change}"
    found = [(*_line(layer.path, key), layer.path) for layer in reversed(read_layers(path))]
    depth, line, file = max(found, key=lambda one: one[0])
    return f"{file}, line {line}" if depth else str(path)


def _line(path: Path, key: Sequence[str | int]) -> tuple[int, int]:
    """Return how many parts of a key a file has, and the line of the last of them."""
    node = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    line = 0
    for depth, part in enumerate(key):
        if isinstance(node, yaml.MappingNode):
            pairs = {str(_plain(name.value)): (name, value) for name, value in node.value}
            name, node = pairs.get(str(part), (None, None))
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            name = node = node.value[part]
        else:
            return depth, line
        if name is None:
            return depth, line
        line = name.start_mark.line + 1
    return len(key), line


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(RECIPE_LIMIT + 1)
        if len(text) > RECIPE_LIMIT:
            raise InvalidOption(f"{path}: larger than {RECIPE_LIMIT // 1000} kB: not a recipe")
        node = yaml.compose(text.decode("utf-8"), Loader=yaml.SafeLoader)
        _check(path, node)
        content = _plain(yaml.safe_load(text.decode("utf-8")))
    except OSError as error:
        raise InvalidOption(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidOption):
            raise
        raise InvalidOption(f"{path}: not valid YAML: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise InvalidOption(f"{path}: not a recipe: its top level must be a mapping of keys")
    return content


def _check(path: Path, root: yaml.Node | None) -> None:
    """Refuse a key that is given twice, and aliases that repeat one another without end."""
    waiting, seen = [root] if root else [], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > NODES:
            raise InvalidOption(f"{path}: more than {NODES} keys and values: not a recipe")
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if isinstance(node, yaml.MappingNode):
            waiting += [value for _, value in node.value]
            known: set[str] = set()
            for name, _ in node.value:
                if isinstance(name.value, str) and name.value in known:
                    line = name.start_mark.line + 1
                    raise InvalidOption(f"{path}, line {line}: {name.value} is given twice; leave one")
                known.add(str(name.value))


def _plain(value: Any) -> Any:
    """Return keys as text and dates as ISO 8601, at any depth."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
