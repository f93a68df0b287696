"""How good a prediction is, against a truth."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from geoseg.options import Metavar, Options, path_text

DEFAULT_RESOLUTION_M = 0.3

NOT_FOR_RUNS = frozenset({"raster", "raster_content", "raster_resolution", "crs", "resume", "overwrite"})
"""Options of a prediction that an evaluation sets itself."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EvaluateOptions(Options):
    """How a prediction is compared with the truth.

    Raises
    ------
    InvalidOption
        One line on the first that is wrong.
    """

    class_attribute: Annotated[str | None, Metavar("COLUMN")] = None
    """Column of a vector truth that holds the class, as id or name."""

    truth_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of a vector truth, where several hold polygons."""

    prediction_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of a vector prediction, where several hold polygons."""

    ignore_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of a vector truth inside whose polygons nothing is known."""

    truth_values: Annotated[str | None, Metavar("255=1,127=ignore…")] = None
    """What values of the truth mean: a class (id or name), background or ignore."""

    prediction_values: Annotated[str | None, Metavar("VALUE=CLASS,…")] = None
    """The same for a prediction that is a class map."""

    classes: Annotated[str | None, Metavar("1=house,2=road…")] = None
    """Ids and names of the classes, where no file tells them."""

    labelled_area: Annotated[str | None, BeforeValidator(path_text), Metavar("FILE")] = None
    """Polygons inside which the truth is complete; outside, nothing is compared."""

    labelled_area_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of --labelled-area, where several hold polygons."""

    resolution: Annotated[Positive | None, Metavar("M")] = None
    """Pixel size in metres where two vector files are compared; 0.3 unless given."""

    coco: bool = False
    """Average precision and recall as COCO has them, by the confidence of predicted polygons."""

    boundary: Annotated[Positive, Metavar("M")] = 1.0
    """Width in metres of the band of boundary IoU."""

    blocks: Annotated[Positive, Metavar("M")] = 100.0
    """Side in metres of the blocks that intervals come from."""

    seed: Annotated[int, Field(ge=0), Metavar("N")] = 0
    """Of the resampling of blocks."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.labelled_area_layer is not None and self.labelled_area is None:
            raise ValueError("--labelled-area-layer is for --labelled-area")
        return self
