"""Facts as labels and values: a table on a terminal, aligned lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print labels and values on stdout; a label may repeat, warnings stand out."""
    if sys.stdout.isatty():
        _table(rows)
        return
    width = max(len(label) for label, _ in rows)
    click.echo("\n".join(f"{label:<{width}}  {value}" for label, value in rows))


def _table(rows: Sequence[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for label, value in rows:
        style = "yellow" if label == "warning" else "bold"
        table.add_row(Text(label, style), Text(value))
    Console().print(table)
