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
    """Vector file to show, with all its layers. Repeat for several."""

    port: Annotated[Annotated[int, Field(ge=0, le=65535)], Metavar("N")] = 8765
    """Port of the page, on this machine only; 0 takes a free one."""

    read_only: bool = False
    """Without "map this view": nothing is run or written."""
