"""A live map of scenes on this machine: imagery, predictions computed where one looks, polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from geoseg.options import Metavar, Options


class ServeOptions(Options):
    """What is served beside predictions, and where.

    Examples
    --------
    >>> ServeOptions(port="8080").port
    8080
    """

    layer: Annotated[tuple[Path, ...], Metavar("FILE")] = ()
    """Polygons to show, all layers of a file in any format that geoseg reads; can be given several times."""

    port: Annotated[Annotated[int, Field(ge=0, le=65535)], Metavar("N")] = 8765
    """Where the page is, on this machine alone; 0: any that is free."""

    read_only: bool = False
    """Leave out "map this view", so that nothing is run or written."""
