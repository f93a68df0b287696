"""Command-line options made from the fields of `geoseg.options.Options`."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from geoseg.options import Alone, Metavar, Options, flag

F = TypeVar("F", bound=Callable[..., Any])

debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the whole traceback of an error."
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress and no summary.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print a machine-readable summary on stdout."
)
"""Options that several commands have."""


def out_option(text: str) -> Callable[[F], F]:
    """Return the option for the file that a command makes; the text is its help."""
    kind = click.Path(path_type=Path)
    return click.option("--out", "-o", required=True, type=kind, metavar="FILE", help=text)


def _only_one(_ctx: click.Context, _param: click.Parameter, scenes: tuple[str, ...]) -> str:
    scene, *more = scenes
    pattern = "*" in scene and "://" not in scene and not Path(scene).exists()
    if not (more or pattern):
        return scene
    raise click.UsageError(
        f"one scene a run, not {scene if pattern else len(scenes)}: run each, or make one scene of them "
        "first: gdalbuildvrt scene.vrt *.tif; many scenes one by one: geoseg batch"
    )


one_scene = click.argument("scene", nargs=-1, required=True, callback=_only_one, metavar="SCENE")
"""The argument SCENE; several, or a pattern, are told what to do instead."""


def options_of(kind: type[Options], *, without: Collection[str] = ()) -> Callable[[F], F]:
    """Return a decorator that gives a command one option for each field, in their order.

    Parameters
    ----------
    kind : type
        The options; text under a field is its help.
    without : collection of str
        Names of fields that get none.
    """

    def decorate(command: F) -> F:
        for name in reversed(kind.model_fields):
            if name not in without:
                command = _decorator(name, kind.model_fields[name])(command)
        return command

    return decorate


def _decorator(name: str, field: Any) -> Callable[[F], F]:
    shared = {
        "default": field.default,
        "help": " ".join(field.description.split()),
        "show_default": field.default is not None,
    }
    if field.annotation in {bool, bool | None}:
        spelling = flag(name) if field.default is False else f"{flag(name)}/--no-{flag(name)[2:]}"
        return click.option(spelling, is_flag=True, **shared)
    typed = click.UNPROCESSED  # checked with all other options, by their class
    marks = {type(part): part for part in field.metadata}
    metavar = marks.get(Metavar, Metavar("TEXT")).text
    if field.default == ():  # given once or more often
        return click.option(flag(name), name, type=typed, multiple=True, metavar=metavar, help=shared["help"])
    if typing.get_origin(field.annotation) is Literal:
        return click.option(flag(name), type=click.Choice(typing.get_args(field.annotation)), **shared)
    if Alone in marks:
        shared |= {"is_flag": False, "flag_value": marks[Alone].value}
        return click.option(flag(name), type=typed, metavar=f"[{metavar}]", **shared)
    values = len(metavar.split())  # W S E N are four
    return click.option(flag(name), type=typed, nargs=values, metavar=metavar, **shared)
