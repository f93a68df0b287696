"""``--progress json``: a line of JSON an event on stderr, by the schema in docs/progress.md."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

SECONDS = 0.25
"""Between two events of progress, at least; the last is always told."""


def progress_option(command: F) -> F:
    """Give a command its option ``--progress``."""
    return click.option(
        "--progress",
        type=click.Choice(["auto", "json"]),
        default="auto",
        show_default=True,
        help="How progress is shown: a bar or lines for people, or a line of JSON an event, on stderr.",
    )(command)


class EventLines:
    """Prints events; call it with each, and `summarize` what came of the run.

    Parameters
    ----------
    share : str
        Unit of events that are a share of the whole.
    """

    def __init__(self, share: str = "share") -> None:
        self._share = share
        self._start = time.monotonic()
        self._last = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open; what went wrong is told as always, in a line that is no JSON."""

    def __call__(self, event: object) -> None:
        """Print an event, unless one of progress was printed just before."""
        told = _progress(event, 1.0, self._share) if isinstance(event, float) else None
        facts = told or _EVENTS[type(event).__name__](event)
        if facts["event"] == "progress":
            now = time.monotonic()
            if now - self._last < SECONDS and facts["done"] < facts["total"]:
                return
            self._last = now
        self._print(facts)

    def summarize(self, outcome: object, **more: Any) -> None:
        """Print the event ``done``, with what is to be said besides."""
        self._print({"event": "done", **_OUTCOMES[type(outcome).__name__](outcome), **more})

    def _print(self, facts: Mapping[str, Any]) -> None:
        seconds = round(time.monotonic() - self._start, 3)
        click.echo(json.dumps({**_finite(facts), "elapsed": seconds}, ensure_ascii=False), err=True)


def _finite(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts with null for what JSON has no number for."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in facts.items()
    }


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
    "VectorizeReport": lambda one: one.as_json() | {"exit_code": 0},
    "RegularizeReport": lambda one: dataclasses.asdict(one) | {"exit_code": 0},
    "Evaluation": lambda one: one.as_json(),
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
