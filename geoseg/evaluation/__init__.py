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
    """Attribute of a vector truth that holds the class, as id or name."""

    truth_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of a vector truth, where several hold polygons."""

    prediction_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of a vector prediction, where several hold polygons."""

    ignore_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of a vector truth with areas where nothing is known."""

    truth_values: Annotated[str | None, Metavar("255=1,127=ignore…")] = None
    """What the values of a raster truth mean: a class (id or name), background or ignore."""

    prediction_values: Annotated[str | None, Metavar("VALUE=CLASS,…")] = None
    """The same for the values of a predicted class map."""

    classes: Annotated[str | None, Metavar("1=house,2=road…")] = None
    """Ids and names of the classes, where no file names them."""

    labelled_area: Annotated[str | None, BeforeValidator(path_text), Metavar("FILE")] = None
    """Polygons inside which the truth is complete; nothing outside is compared."""

    labelled_area_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of --labelled-area, where several hold polygons."""

    resolution: Annotated[Positive | None, Metavar("M")] = None
    """Pixel size in metres at which two vector files are compared: 0.3 unless given."""

    coco: bool = False
    """Add the average precision and recall of COCO, by the confidence of predicted polygons."""

    boundary: Annotated[Positive, Metavar("M")] = 1.0
    """Width of the band of boundary IoU, in metres."""

    blocks: Annotated[Positive, Metavar("M")] = 100.0
    """Side of the blocks that are resampled for the intervals, in metres."""

    seed: Annotated[int, Field(ge=0), Metavar("N")] = 0
    """Seed of the resampling."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.labelled_area_layer is not None and self.labelled_area is None:
            raise ValueError("--labelled-area-layer is for --labelled-area")
        return self
