"""What every writer of a vector format is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geoseg.values import LayerSchema


@dataclass(frozen=True, slots=True)
class Target:
    """A vector file to be.

    Parameters
    ----------
    path : Path
        The name it gets when it is complete.
    schema : LayerSchema
    metadata : mapping of str to str
        Filled while features are written: to be read last.
    overwrite : bool
    """

    path: Path
    schema: LayerSchema
    metadata: Mapping[str, str]
    overwrite: bool
