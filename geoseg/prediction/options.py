"""The options of a prediction, each defined once: the command line and the docs are made from them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from geoseg.options import Metavar, Options, numbers, path_text

AUTO: Literal["auto"] = "auto"
Auto = Literal["auto"]
Limits = tuple[float, float]
RasterContent = Literal["auto", "probability", "probability-float32", "class", "instance"]
RasterResolution = Literal["scene", "model"]
Outline = Literal["smooth", "pixel"]
Backend = Literal["auto", "openvino", "onnx", "pytorch"]
Precision = Literal["auto", "f32", "bf16", "int8"]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_memory(value: Any) -> Any:
    """Parse a size such as ``2GB``, ``512MiB`` or plain bytes; what is no text is returned unchanged.

    >>> parse_memory("1.5 GB")
    1500000000

    Raises
    ------
    ValueError
        If the text is no size.
    """
    if not isinstance(value, str) or value == AUTO:
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", value)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(
            f"must be a size in kB, MB, GB, KiB, MiB or GiB, such as 2GB, or auto, not {value!r}"
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _bands(value: Any) -> Any:
    if isinstance(value, str):
        return value.split(",")
    return (value,) if isinstance(value, int) else value


def _ascending(limits: Any) -> Any:
    if isinstance(limits, tuple) and not -math.inf < limits[0] < limits[1] < math.inf:
        raise ValueError(f"needs LOW below HIGH, not {limits[0]:g},{limits[1]:g}")
    return limits


def layer_crs_text(value: Any) -> Any:
    """Return the CRS of another package (pyproj, rasterio) as text."""
    if hasattr(value, "to_wkt"):
        return value.to_wkt()
    return f"EPSG:{value}" if isinstance(value, int) else value


Share = Annotated[float, Field(gt=0, lt=1)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class PredictOptions(Options):
    """How to predict one scene. ``auto`` is resolved from the model's card and the machine.

    Raises
    ------
    InvalidOption
        One line on the first that is wrong.

    Examples
    --------
    >>> PredictOptions(threshold="0.4", bands="4,3,2").bands
    (4, 3, 2)
    >>> PredictOptions(tile=512.5)
    Traceback (most recent call last):
    geoseg.errors.InvalidOption: --tile must be a whole number or auto, not 512.5
    """

    model: Annotated[str, BeforeValidator(path_text), Metavar("NAME|FOLDER|FILE.onnx")] = "buildings"
    """Model to run."""

    bands: Annotated[
        Annotated[tuple[Count, ...], Field(min_length=1)] | None, BeforeValidator(_bands), Metavar("R,G,B…")
    ] = None
    """Bands of the scene to feed the model, in its order, counted from 1."""

    stretch: Annotated[
        Auto | Literal["none"] | tuple[float, float],
        BeforeValidator(numbers(2, "auto, none or LOW,HIGH")),
        AfterValidator(_ascending),
        Metavar("auto|none|LOW,HIGH"),
    ] = AUTO
    """How values of another type than the model's map to its own: percentiles of the scene, not at all, or
    the two values that become black and white."""

    aoi: Annotated[Path | None, Metavar("FILE")] = None
    """Predict only inside these polygons."""

    aoi_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of --aoi, where several hold polygons."""

    bbox: Annotated[
        tuple[Finite, Finite, Finite, Finite] | None,
        BeforeValidator(numbers(4, "the four numbers W S E N")),
        Metavar("W S E N"),
    ] = None
    """Predict only inside this box, in the scene's CRS."""

    raster: Annotated[Path | None, Metavar("FILE.tif")] = None
    """Cloud Optimized GeoTIFF of what the model found, beside the polygons."""

    raster_content: RasterContent = AUTO
    """What the raster holds: probabilities (uint8 with a scale, or float32), class ids, or of objects the
    number in the column `instance`; auto: probabilities, of models that find objects instance."""

    raster_resolution: RasterResolution = "scene"
    """Grid of the raster: the scene's own, or the one the model worked on."""

    threshold: Annotated[Share | Auto, Metavar("0…1")] = AUTO
    """Probability from which a pixel is an object."""

    split: Literal["auto", "touching", "none"] = AUTO
    """Whether objects that touch become polygons of their own, where the probability falls between them;
    auto: what the model's card says."""

    outline: Outline = "smooth"
    """Outlines at sub-pixel accuracy, or exact pixel edges."""

    simplify: Annotated[Size | Auto, Metavar("M")] = AUTO
    """Tolerance of simplification in metres; 0 keeps every vertex."""

    min_area: Annotated[Size | Auto, Metavar("M2")] = AUTO
    """Leave out polygons smaller than this, in m²; auto: what the model's card says, else 25 pixels."""

    regularize: bool | None = None
    """Straight walls, right angles and circles, within --max-deviation; unless given, what the model's
    card says (objects made by people)."""

    max_deviation: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | Auto, Metavar("M")] = AUTO
    """How far traced vertices may lie from the walls of --regularize, in metres (a new corner up
    to a pixel further from the traced outline); auto: what the model's card says, else a pixel."""

    min_hole: Annotated[Size | Auto, Metavar("M2")] = AUTO
    """Close holes smaller than this, in m²; auto: a quarter of --min-area."""
    min_confidence: Annotated[Annotated[float, Field(ge=0, le=1)] | Auto, Metavar("0…1")] = AUTO
    """Leave out polygons of lower mean probability; auto: what the model's card says, else none."""

    crs: Annotated[str | None, BeforeValidator(layer_crs_text), Metavar("CRS")] = None
    """CRS of the polygons; the scene's own unless given."""

    tile: Annotated[Count | Auto, Metavar("PX")] = AUTO
    """Side of a tile in pixels of the model's resolution; auto: what the card suggests, or up to a fifth
    more or less where the scene is covered with fewer pixels so."""

    overlap: Annotated[Annotated[int, Field(ge=0)] | Auto, Metavar("PX")] = AUTO
    """Pixels that neighbouring tiles share, at most half a tile; auto: what was measured, else what the
    model's card suggests."""

    align_tiles: bool | None = None
    """Start tiles at multiples of their step from the origin of the CRS, so that scenes that overlap are seen
    alike; resampled scenes excepted. Unless given, geoseg batch does so with --reconcile."""

    max_object: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, Metavar("M")] = None
    """Size in metres up to which objects are seen whole, by tiles that overlap so far (half a tile at most);
    for models that find objects, else what their card says."""

    batch: Annotated[Count | Auto, Metavar("N")] = AUTO
    """Tiles in one forward pass, at most."""

    device: Annotated[str, Metavar("auto|cpu|cuda|cuda:N")] = AUTO
    """Where the model runs."""

    backend: Backend = AUTO
    """What runs the model."""

    precision: Precision = AUTO
    """Numbers that the model is computed in."""

    tta: bool = False
    """Average each tile over its four mirror images; takes four times as long."""

    max_memory: Annotated[Count | Auto, BeforeValidator(parse_memory), Metavar("SIZE")] = AUTO
    """Most memory that the run may take, such as 1GB; auto: a quarter of the machine's, 2 GB at most, or more
    where nothing less would do."""

    workers: Annotated[Count | None, Metavar("N")] = None
    """Run on a local cluster of this many processes."""

    scheduler: Annotated[str | None, Metavar("ADDRESS")] = None
    """Run on this dask.distributed cluster."""

    resume: bool = True
    """Go on where a killed run of the same plan stopped."""

    overwrite: bool = False
    """Replace outputs that exist."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.workers and self.scheduler:
            raise ValueError("--workers and --scheduler exclude each other")
        if self.overlap != AUTO and self.max_object is not None:
            raise ValueError("--max-object and --overlap exclude each other")
        if self.aoi and self.bbox:
            raise ValueError("--aoi and --bbox exclude each other")
        if self.aoi_layer is not None and self.aoi is None:
            raise ValueError("--aoi-layer is for --aoi")
        if self.raster is None and (self.raster_content, self.raster_resolution) != (AUTO, "scene"):
            raise ValueError("--raster-content and --raster-resolution are for --raster, which is not given")
        return self
