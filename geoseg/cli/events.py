"""``--progress json``: a line of JSON an event on stderr, by the schema in docs/progress.md."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from geoseg.cli.progress import StepDisplay

SECONDS = 0.25
"""Between two events of progress, at least; the last is always told."""


def _remember(context: click.Context, _option: click.Parameter, value: str) -> None:
    context.meta[_ASKED] = value == "json"


progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "json"]),
    default="auto",
    show_default=True,
    expose_value=False,
    callback=_remember,
    help="Progress on stderr: a bar or lines for people (auto), or a line of JSON an event.",
)


class Silent(AbstractContextManager["Silent"]):
    """Shows nothing: the display of a command that is to be quiet."""

    share = ""

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def __call__(self, event: object) -> None:
        """Show nothing of an event."""

    def summarize(self, _outcome: Any, _lines: Sequence[str] = (), **_more: Any) -> None:
        """Say nothing of what came of it."""


def events(*, quiet: bool) -> EventLines | Silent | None:
    """Return what prints the events of this command, the same for all of its parts; None: a display does.

    Call it before anything that takes long, so that the first event comes at once.
    """
    if quiet:
        return Silent()
    context = click.get_current_context(silent=True)
    if context is None or not context.meta.get(_ASKED):
        return None
    if _LINES not in context.meta:
        context.meta[_LINES] = EventLines(context.info_name)
    lines: EventLines = context.meta[_LINES]
    return lines


_ASKED, _LINES = "geoseg.progress", "geoseg.events"
"""Where the context of a command holds whether events are asked for, and what prints them."""


def steps(title: str, *, quiet: bool) -> EventLines | Silent | StepDisplay:
    """Return the display of a work that tells the share that is done."""
    from geoseg.cli.progress import StepDisplay

    return events(quiet=quiet) or StepDisplay(title)


class EventLines(AbstractContextManager["EventLines"]):
    """Prints events, the first at once; call it with each, and `summarize` what came of the run."""

    share = "share"
    """Unit of a share that is done."""

    def __init__(self, command: str | None = None) -> None:
        self._start = time.monotonic()
        self._last = -math.inf
        self._print({"event": "started", "command": command})

    def __exit__(self, *_: object) -> None:
        """Nothing is open; what went wrong is told as always, in a line that is no JSON."""

    def __call__(self, event: object) -> None:
        """Print an event, unless one of progress was printed just before."""
        if isinstance(event, float):
            facts = _progress(event, 1.0, self.share, time.monotonic() - self._start)
        elif isinstance(event, str):
            facts = {"event": "note", "text": event}
        else:
            facts = _EVENTS[type(event).__name__](event)
        if facts["event"] == "progress":
            now = time.monotonic()
            if now - self._last < SECONDS and facts["done"] < facts["total"]:
                return
            self._last = now
        self._print(facts)

    def summarize(self, outcome: Any, _lines: Sequence[str] = (), **more: Any) -> None:
        """Print the event ``done``, with what is to be said besides."""
        tell = _OUTCOMES.get(type(outcome).__name__, _plain)
        self._print({"event": "done", **tell(outcome), **more})

    def _print(self, facts: Mapping[str, Any]) -> None:
        seconds = round(time.monotonic() - self._start, 3)
        told = {  # JSON has no number for what is not finite
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in facts.items()
        }
        click.echo(json.dumps({**told, "elapsed": seconds}, ensure_ascii=False), err=True)


def _plain(outcome: Any) -> dict[str, Any]:
    facts = outcome.as_json() if hasattr(outcome, "as_json") else dataclasses.asdict(outcome)
    return {**facts, "exit_code": 0}


def _progress(
    done: float, total: float, unit: str, seconds: float | None = None, **more: Any
) -> dict[str, Any]:
    left = seconds * (total / done - 1) if seconds is not None and done else None
    shown = None if left is None else round(left, 1)
    return {"event": "progress", "done": done, "total": total, "unit": unit, "left": shown, **more}


def _planned(event: Any) -> dict[str, Any]:
    rows, cols = event.plan.tiles.block_shape
    return {
        "event": "began",
        "scene": event.plan.scene.uri,
        "total": rows * cols,
        "unit": "blocks",
        "known": event.blocks_known,
        "warnings": list(event.remarks.warnings),
    }


_EVENTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Planned": _planned,
    "Progress": lambda one: _progress(one.blocks, one.blocks_total, "blocks", one.seconds, pixels=one.pixels),
    "Looked": lambda one: _progress(one.done, one.total, "looks"),
    "Progressed": lambda one: (
        _progress(one.scenes, one.scenes_total, "scenes", one.seconds, pixels=one.pixels, failed=one.failed)
        | {"workers": dict(one.doing)}
    ),
    "Began": lambda one: {
        "event": "began",
        "total": one.steps,
        "unit": "steps",
        "known": one.step,
        "warnings": list(one.notes),
    },
    "Stepped": lambda one: _progress(one.share, 1.0, "share", one.seconds, step=one.step, loss=one.loss),
    "Validated": lambda one: {
        "event": "validated",
        "step": one.step,
        "iou": dict(one.iou),
        "best": one.merit >= one.best,
    },
    "Noted": lambda one: {"event": "note", "text": one.text},
}
"""How each kind of event is told, by the name of its class: none of the rooms is imported for it."""

_OUTCOMES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "RunReport": lambda one: one.as_json(),
    "Bundle": lambda one: {
        "model": str(one.path),
        "digest": one.card.digest,
        "threshold": one.card.threshold,
        "accuracy": [figure.model_dump(mode="json") for figure in one.document.properties.accuracy],
        "exit_code": 0,
    },
    "Summary": lambda one: {
        "states": dict(one.counts),
        "before": one.before,
        "left_out": dict(one.left_out),
        "exit_code": one.exit_code,
    },
    "Merged": lambda one: {
        "dataset": str(one.dataset),
        "catalogue": str(one.catalogue),
        "features": one.features,
        "states": dict(one.states),
        "exit_code": one.exit_code,
    },
}
