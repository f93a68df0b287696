"""Polygons of a layer looked at one by one, and what was said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from geoseg.options import Metavar, Options

_Count = Annotated[int, Field(ge=1, le=5000)]


class ReviewOptions(Options):
    """What of a layer is looked at.

    Raises
    ------
    InvalidOption
        One line on the first that is wrong.
    """

    count: Annotated[_Count, Metavar("N")] = 300
    """Polygons on the page, the most doubtful first: low confidence, at the edge, odd shape."""

    older: Annotated[Path | None, Metavar("FILE")] = None
    """Older layer: polygons that differ from it are doubtful too."""

    sample: Annotated[_Count | None, Metavar("N")] = None
    """Draw so many at random, stratified by size, in place of the most doubtful. Only this tells how many of
    all polygons are right."""

    seed: Annotated[int, Field(ge=0), Metavar("S")] = 0
    """Seed of the random sample."""

    layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer to read, where there are several."""

    overwrite: bool = False
    """Replace an output that exists."""

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.sample is None:
            if "seed" in self.changed:
                raise ValueError("--seed is for --sample N, which draws at random; give both")
        elif others := self.changed - {"sample", "seed"}:
            raise ValueError(f"--sample draws at random, whatever --{min(others)} says; give one of them")
        return self

    @property
    def changed(self) -> set[str]:
        """Options of the page that are not at their defaults."""
        kinds = type(self).model_fields
        page = kinds.keys() - {"layer", "overwrite"}
        return {name for name in page if getattr(self, name) != kinds[name].default}
