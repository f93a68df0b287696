"""Progress of work that tells its share done, or only what it is doing: on stderr, if it takes a while."""

from __future__ import annotations

import time

import click

from geoseg.cli.progress import LINE_SECONDS, Display

PATIENCE = 2.0
"""Seconds before anything is shown."""


class StepDisplay(Display):
    """A bar on a terminal, a line now and then elsewhere; call it with the share that is done."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        super().__init__(quiet=quiet)
        self._title = title

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


class StatusDisplay(Display):
    """What is being done, turning on a terminal; call it with each step's name."""

    def __call__(self, doing: str) -> None:
        """Show what is being done; elsewhere than on a terminal, only after some time has gone by."""
        if self._live:
            from rich.console import Console

            self._bar = self._bar or Console(stderr=True).status("")
            self._bar.update(doing)
            self._bar.start()
        elif not self._quiet and time.monotonic() - self._start > PATIENCE:
            click.echo(f"geoseg: {doing}", err=True)
