"""Progress of work whose share done is all that is known: on stderr, and only if it takes a while."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

import click

from geoseg.cli.progress import LINE_SECONDS

PATIENCE = 2.0
"""Seconds before anything is shown."""


class StepDisplay:
    """A bar on a terminal, a line now and then elsewhere; call it with the share that is done."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title, self._quiet = title, quiet
        self._live = sys.stderr.isatty() and not quiet
        self._bar: Any = None
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: float) -> None:
        """Show the share that is done, 0 … 1."""
        now = time.monotonic()
        if self._bar is None and self._live and now - self._start > PATIENCE:
            self._begin()
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif not (self._live or self._quiet) and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            click.echo(f"geoseg: {self._title}: {done:.0%}", err=True)

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self._title, total=1.0)
        self._bar.start()
