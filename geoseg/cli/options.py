"""Command-line options made from the fields of `PredictOptions`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from geoseg.errors import InvalidOption
from geoseg.prediction.options import AUTO, PredictOptions, parse_bands, parse_memory, parse_stretch

F = TypeVar("F", bound=Callable[..., Any])


class Parsed(click.ParamType[Any]):
    """A value that a function parses; its `InvalidOption` becomes a usage error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; let defaults through."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except (InvalidOption, ValueError) as error:
            self.fail(str(error), param, ctx)


def _or_auto(parse: Callable[[str], Any], what: str) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        if text == AUTO:
            return AUTO
        try:
            return parse(text)
        except InvalidOption:
            raise
        except ValueError:
            raise InvalidOption(f"{text!r} is neither {what} nor auto") from None

    return convert


_TYPES: dict[str, click.ParamType[Any]] = {
    "bands": Parsed("bands", parse_bands),
    "stretch": Parsed("stretch", parse_stretch),
    "max_memory": Parsed("size", _or_auto(parse_memory, "a size")),
    "aoi": click.Path(path_type=Path),
    "raster": click.Path(path_type=Path),
}


def predict_options(command: F) -> F:
    """Give a command one option for each field of `PredictOptions`, in their order."""
    return options_of(PredictOptions)(command)


def options_of(kind: type, *, without: Collection[str] = ()) -> Callable[[F], F]:
    """Return a decorator that gives a command one option for each field of a dataclass, in their order.

    Parameters
    ----------
    kind : type
        A dataclass whose fields are made by `geoseg.prediction.options.option`.
    without : collection of str
        Names of fields that get none.
    """

    def decorate(command: F) -> F:
        hints = typing.get_type_hints(kind)
        for field in reversed(dataclasses.fields(kind)):
            if field.name not in without:
                command = _decorator(field, hints[field.name])(command)
        return command

    return decorate


def _decorator(field: dataclasses.Field[Any], hint: Any) -> Callable[[F], F]:
    name = f"--{field.name.replace('_', '-')}"
    shared = {
        "default": field.default,
        "help": field.metadata["help"],
        "show_default": field.default is not None,
    }
    if field.name == "bbox":
        return click.option(name, nargs=4, type=float, metavar=field.metadata["metavar"], **shared)
    if hint is bool:
        spelling = name if field.default is False else f"{name}/--no-{name[2:]}"
        return click.option(spelling, is_flag=True, **shared)
    metavar = field.metadata["metavar"]
    return click.option(name, type=_TYPES.get(field.name) or _type(hint), metavar=metavar, **shared)


def _type(hint: Any) -> click.ParamType[Any]:
    """Return the parameter type of a field's type: a choice, a number, a number or auto, text."""
    if typing.get_origin(hint) is Literal:
        return click.Choice(typing.get_args(hint))
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    number = next((part for part in parts if part in (int, float)), None)
    if number is None:
        return click.STRING
    what = "a whole number" if number is int else "a number"
    if any(typing.get_origin(part) is Literal for part in parts):
        return Parsed(what, _or_auto(number, what))
    return click.INT if number is int else click.FLOAT
