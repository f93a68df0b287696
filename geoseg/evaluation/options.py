"""The options of an evaluation, each defined once; the command line is made from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geoseg.errors import InvalidOption
from geoseg.prediction.options import option

DEFAULT_RESOLUTION_M = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """How a prediction is compared with the truth."""

    class_attribute: str | None = option(
        None, "Column of a vector truth that holds the class, as id or name.", metavar="COLUMN"
    )
    truth_layer: str | None = option(
        None, "Layer of a vector truth, where several hold polygons.", metavar="NAME"
    )
    prediction_layer: str | None = option(
        None, "Layer of a vector prediction, where several hold polygons.", metavar="NAME"
    )
    ignore_layer: str | None = option(
        None, "Layer of a vector truth inside whose polygons nothing is known.", metavar="NAME"
    )
    truth_values: str | None = option(
        None,
        "What values of the truth mean: a class (id or name), background or ignore.",
        metavar="255=1,127=ignore…",
    )
    prediction_values: str | None = option(
        None, "The same for a prediction that is a class map.", metavar="VALUE=CLASS,…"
    )
    classes: str | None = option(
        None, "Ids and names of the classes, where no file tells them.", metavar="1=house,2=road…"
    )
    labelled_area: str | None = option(
        None, "Polygons inside which the truth is complete; outside, nothing is compared.", metavar="FILE"
    )
    labelled_area_layer: str | None = option(
        None, "Layer of --labelled-area, where several hold polygons.", metavar="NAME"
    )
    resolution: float | None = option(
        None,
        f"Pixel size in metres where two vector files are compared; {DEFAULT_RESOLUTION_M} unless given.",
        metavar="M",
    )
    boundary: float = option(1.0, "Width in metres of the band of boundary IoU.", metavar="M")
    blocks: float = option(100.0, "Side in metres of the blocks that intervals come from.", metavar="M")
    seed: int = option(0, "Of the resampling of blocks.", metavar="N")

    def __post_init__(self) -> None:
        positive = {"resolution": self.resolution, "boundary": self.boundary, "blocks": self.blocks}
        for name, value in positive.items():
            if value is not None and not 0 < value < math.inf:
                raise InvalidOption(f"--{name} must be more than 0, not {value:g}")
        if self.labelled_area_layer is not None and self.labelled_area is None:
            raise InvalidOption("--labelled-area-layer is for --labelled-area")
        if self.seed < 0:
            raise InvalidOption("--seed must be 0 or more")


def parse_pairs(text: str | None, name: str) -> dict[str, str]:
    """Parse ``255=1,127=ignore``; None gives no pairs.

    Examples
    --------
    >>> parse_pairs("255=1, 127 = ignore", "--truth-values")
    {'255': '1', '127': 'ignore'}

    Raises
    ------
    InvalidOption
        If it is no such list, or names a value twice.
    """
    if text is None:
        return {}
    pairs = []
    for part in text.split(","):
        left, equals, right = (word.strip() for word in part.partition("="))
        if not (left and equals and right):
            raise InvalidOption(f"{name} takes pairs such as 255=1,127=ignore, not {text!r}")
        pairs.append((left, right))
    if len({left for left, _ in pairs}) < len(pairs):
        raise InvalidOption(f"{name} {text}: names a value twice")
    return dict(pairs)


def parse_classes(text: str | None) -> dict[int, str]:
    """Return names by id from ``--classes``; None gives none.

    Raises
    ------
    InvalidOption
    """
    try:
        return {int(number): name for number, name in parse_pairs(text, "--classes").items()}
    except ValueError:
        raise InvalidOption("--classes takes ids and names such as 1=house,2=road") from None
