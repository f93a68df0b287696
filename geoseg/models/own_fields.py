"""What geoseg adds to the JSON of a model's card: the objects that its ``geoseg:`` fields hold."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Text = Annotated[str, Field(min_length=1, max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _OwnPart(BaseModel):
    """A piece of the card that geoseg defines: an unknown key is a typing error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TrainingData(_OwnPart):
    """One source that the model was trained on."""

    name: Text
    licence: Text
    url: str | None = None
    note: str | None = None


class Accuracy(_OwnPart):
    """One measured figure: what, how much, on which data, how."""

    metric: Text
    value: Number
    where: Text
    how: Text


class Int8Loss(_OwnPart):
    """What the INT8 file loses against float32: IoU points (per cent), on which data, how measured."""

    value: Number
    where: Text
    how: Text


Shares = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=3, max_length=255)]


class TrainingStatistics(_OwnPart):
    """Values that the model was trained on, one entry a band; see `geoseg.models.statistics`.

    ``p1`` and ``p99`` are percentiles. ``histograms`` are shares in equal bins that sum to 1, values outside
    counted in the outermost: of each band over ``range``, then of the difference of each band to the one
    before it over a quarter of that range either way.
    """

    range: tuple[Number, Number]
    mean: tuple[Number, ...]
    stddev: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]
    p1: tuple[Number, ...]
    p99: tuple[Number, ...]
    histograms: tuple[Shares, ...]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        bands = len(self.mean)
        if not bands == len(self.stddev) == len(self.p1) == len(self.p99):
            raise ValueError("mean, stddev, p1 and p99 must have one entry a band")
        if len(self.histograms) != 2 * bands - 1 or len({len(row) for row in self.histograms}) != 1:
            raise ValueError(f"histograms: must be {2 * bands - 1} of one length")
        if not self.range[0] < self.range[1]:
            raise ValueError("range: must be [low, high]")
        return self

    def as_property(self) -> dict[str, object]:
        """Return the JSON of the card's field, rounded."""
        short = {
            name: [float(f"{value:.5g}") for value in getattr(self, name)]
            for name in ("range", "mean", "stddev", "p1", "p99")
        }
        return {**short, "histograms": [[round(share, 5) for share in row] for row in self.histograms]}


GATE = 0.1
"""By how much the probability between two objects lies below the top of either, unless a card says it."""


class Split(_OwnPart):
    """When parts of an object are objects of their own, see `geoseg.vector.split`.

    The probability between two parts lies `gate` below the top of either, and both measure
    `smallest_m2`; seen from within `margin_m`.
    """

    gate: Annotated[float, Field(gt=0, lt=1)] = GATE
    smallest_m2: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    margin_m: Positive


class Confidence(_OwnPart):
    """How likely an object is right, from its mean probability, see `geoseg.vector.pieces.Calibration`."""

    slope: Positive
    intercept: Number


class Instances(_OwnPart):
    """How a Mask R-CNN finds objects, see `geoseg.backends.regions`.

    ``labels`` are the class ids of its channels after the background, ``anchors`` the sides in pixels of the
    regions that it looks at on each level, ``ratios`` their heights to widths; ``largest_m`` is the size of
    the largest object that it was trained on.
    """

    labels: Annotated[tuple[Annotated[int, Field(ge=1, le=255)], ...], Field(min_length=1)]
    anchors: tuple[Positive, Positive, Positive, Positive, Positive]
    ratios: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=9)] = (0.5, 1.0, 2.0)
    proposals: Annotated[int, Field(ge=1, le=5000)] = 1000
    proposal_iou: Annotated[float, Field(gt=0, le=1)] = 0.7
    objects: Annotated[int, Field(ge=1, le=5000)] = 100
    box_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    least_score: Annotated[float, Field(ge=0, lt=1)] = 0.05
    largest_m: Positive
