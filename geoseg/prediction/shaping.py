"""How polygons are shaped and which are objects, by the options and the model's card."""

from __future__ import annotations

from typing import Literal, Protocol

from geoseg.errors import InvalidOption
from geoseg.models.card import ModelCard
from geoseg.models.own_fields import Split
from geoseg.prediction.options import AUTO, PredictOptions
from geoseg.vector.pieces import PLAIN, Calibration
from geoseg.vector.shape import ShapeRules
from geoseg.vector.split import SplitRule

NOISE_PIXELS = 25
"""The default of --min-area, in pixels of the working grid."""

SMALLEST_PART, PART_MARGIN = 3, 32
"""Where no model's card says it: the smallest part that --split makes, in smallest objects, and pixels round
a part that are looked at."""


class ShapeOptions(Protocol):
    """Options that say how polygons are shaped."""

    @property
    def simplify(self) -> float | Literal["auto"]:
        """Tolerance in metres."""

    @property
    def min_hole(self) -> float | Literal["auto"]:
        """Smallest hole in m²."""

    @property
    def max_deviation(self) -> float | Literal["auto"]:
        """In metres."""

    @property
    def regularize(self) -> bool | None:
        """Whether to; None: as the card says."""


def shape_rules(
    options: ShapeOptions,
    outline: Literal["smooth", "pixel"],
    *,
    pixel_m: float,
    min_area_m2: float,
    classes: int,
    card: ModelCard | None = None,
) -> ShapeRules:
    """Resolve how polygons are shaped.

    Parameters
    ----------
    pixel_m : float
        Side of a pixel of the working grid in metres, 1 where that is not known.
    classes : int
        How many the layer has.
    card : ModelCard, optional
        What to regularize unless the options say so.

    Raises
    ------
    InvalidOption
        If several classes are to be regularized.
    """
    # Half a pixel takes the tracing's small steps out of a straight wall and moves nothing visibly;
    # exact pixel edges stay exact unless something else is asked for.
    smooth = outline == "smooth"
    regularize, known, calibration = options.regularize, pixel_m, PLAIN
    if card is not None:
        regularize = card.man_made and smooth if regularize is None else regularize
        known = card.max_deviation_m or pixel_m
        if card.confidence is not None:
            calibration = Calibration(card.confidence.slope, card.confidence.intercept)
    if regularize and classes > 1:
        raise InvalidOption(
            f"--regularize: the layer has {classes} classes, whose polygons share their borders; it is for "
            "objects of one class"
        )
    return ShapeRules(
        simplify_m=0.5 * pixel_m * smooth if options.simplify == AUTO else options.simplify,
        min_area_m2=min_area_m2,
        metres_per_pixel=pixel_m,
        min_hole_m2=min_area_m2 / 4 if options.min_hole == AUTO else options.min_hole,
        max_deviation_m=(known if options.max_deviation == AUTO else options.max_deviation)
        if regularize
        else None,
        calibration=calibration,
    )


def split_rule(options: PredictOptions, card: ModelCard, pixel_m: float) -> tuple[SplitRule | None, float]:
    """Return when parts are objects, in pixels, and the metres round a part that are looked at."""
    if (
        card.instances is not None
        or options.split == "none"
        or (options.split == AUTO and card.split is None)
    ):
        return None, 0.0
    smallest = SMALLEST_PART * smallest_object_m2(card.min_area_m2, pixel_m)
    known = card.split or Split(smallest_m2=smallest, margin_m=PART_MARGIN * pixel_m)
    return SplitRule(known.gate, known.smallest_m2 / pixel_m**2), max(known.margin_m, 4 * pixel_m)


def smallest_object_m2(known: float | None, pixel_m: float) -> float:
    """Return the area below which polygons are taken for noise, in m².

    Parameters
    ----------
    known : float or None
        What a model's card says; None: nothing.
    pixel_m : float
        Side of a pixel of the working grid in metres.

    Examples
    --------
    >>> smallest_object_m2(None, 0.5)
    6.25
    >>> smallest_object_m2(12.0, 0.5)
    12.0
    """
    return NOISE_PIXELS * pixel_m**2 if known is None else known
