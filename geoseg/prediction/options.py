"""The options of a prediction, each defined once.

The fields of `PredictOptions` carry default, help text and spelling; the command line and the
docs are made from them.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from geoseg.errors import InvalidOption

AUTO: Literal["auto"] = "auto"
Auto = Literal["auto"]
Limits = tuple[float, float]
RasterContent = Literal["probability", "probability-float32", "class"]
RasterResolution = Literal["scene", "model"]
Outline = Literal["smooth", "pixel"]
Backend = Literal["auto", "openvino", "onnx", "pytorch"]
Precision = Literal["auto", "f32", "bf16", "int8"]

CHOICES: dict[str, tuple[str, ...]] = {
    "raster_content": get_args(RasterContent),
    "raster_resolution": get_args(RasterResolution),
    "outline": get_args(Outline),
    "backend": get_args(Backend),
    "precision": get_args(Precision),
}


def option(default: Any, help: str, *, metavar: str | None = None) -> Any:
    """Return a dataclass field that carries its help text and the placeholder of its value."""
    return dataclasses.field(default=default, metadata={"help": help, "metavar": metavar})


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How to predict one scene. ``auto`` is resolved from the model's card and the machine."""

    model: str = option("buildings", "Model to run.", metavar="NAME|FOLDER|FILE.onnx")
    bands: tuple[int, ...] | None = option(
        None, "Bands of the scene to feed the model, in its order, counted from 1.", metavar="R,G,B…"
    )
    stretch: Auto | Literal["none"] | Limits = option(
        AUTO,
        "How values of another type than the model's map to its own: percentiles of the scene, "
        "not at all, or the two values that become black and white.",
        metavar="auto|none|LOW,HIGH",
    )
    aoi: Path | None = option(None, "Predict only inside these polygons.", metavar="FILE")
    aoi_layer: str | None = option(None, "Layer of --aoi, where several hold polygons.", metavar="NAME")
    bbox: tuple[float, float, float, float] | None = option(
        None, "Predict only inside this box, in the scene's CRS.", metavar="W S E N"
    )
    raster: Path | None = option(None, "Also write a Cloud Optimized GeoTIFF.", metavar="FILE.tif")
    raster_content: RasterContent = option(
        "probability", "What the raster holds: probabilities (uint8 with a scale, or float32) or class ids."
    )
    raster_resolution: RasterResolution = option(
        "scene", "Grid of the raster: the scene's own, or the one the model worked on."
    )
    threshold: float | Auto = option(AUTO, "Probability from which a pixel is an object.", metavar="0…1")
    outline: Outline = option("smooth", "Outlines at sub-pixel accuracy, or exact pixel edges.")
    simplify: float | Auto = option(
        AUTO, "Tolerance of simplification in metres; 0 keeps every vertex.", metavar="M"
    )
    min_area: float | Auto = option(
        AUTO,
        "Leave out polygons smaller than this, in m²; auto: what the model's card says, else 25 pixels.",
        metavar="M2",
    )
    crs: str | None = option(None, "CRS of the polygons; the scene's own unless given.", metavar="CRS")
    tile: int | Auto = option(
        AUTO,
        "Side of a tile in pixels of the model's resolution; auto: what the card suggests, or up to a fifth "
        "more or less where the scene is covered with fewer pixels so.",
        metavar="PX",
    )
    overlap: int | Auto = option(
        AUTO,
        "Pixels that neighbouring tiles share, at most half a tile; auto: what was measured, else what "
        "the model's card suggests.",
        metavar="PX",
    )
    batch: int | Auto = option(AUTO, "Tiles in one forward pass, at most.", metavar="N")
    device: str = option(AUTO, "Where the model runs.", metavar="auto|cpu|cuda|cuda:N")
    backend: Backend = option(AUTO, "What runs the model.")
    precision: Precision = option(AUTO, "Numbers that the model is computed in.")
    tta: bool = option(False, "Average each tile over its four mirror images; takes four times as long.")
    max_memory: int | Auto = option(
        AUTO,
        "Most memory that the run may take, such as 1GB; auto: a quarter of the machine's, 2 GB at most, or "
        "more where nothing less would do.",
        metavar="SIZE",
    )
    workers: int | None = option(None, "Run on a local cluster of this many processes.", metavar="N")
    scheduler: str | None = option(None, "Run on this dask.distributed cluster.", metavar="ADDRESS")
    resume: bool = option(True, "Go on where a killed run of the same plan stopped.")
    overwrite: bool = option(False, "Replace outputs that exist.")

    def __post_init__(self) -> None:
        checks = {
            "--threshold must lie between 0 and 1": self.threshold == AUTO or 0 < self.threshold < 1,
            "--simplify must be 0 or more": self.simplify == AUTO or 0 <= self.simplify < math.inf,
            "--min-area must be 0 or more": self.min_area == AUTO or 0 <= self.min_area < math.inf,
            "--overlap must be 0 or more": self.overlap == AUTO or self.overlap >= 0,
            "--batch must be 1 or more": self.batch == AUTO or self.batch >= 1,
            "--workers must be 1 or more": self.workers is None or self.workers >= 1,
            "--workers and --scheduler exclude each other": not (self.workers and self.scheduler),
            "--aoi and --bbox exclude each other": not (self.aoi and self.bbox),
            "--aoi-layer is for --aoi": self.aoi_layer is None or self.aoi is not None,
            "--bands must be counted from 1": all(band >= 1 for band in self.bands or ()),
        }
        for name, choices in CHOICES.items():
            wrong = f"--{name.replace('_', '-')} must be one of {', '.join(choices)}"
            checks[wrong] = getattr(self, name) in choices
        for message, fine in checks.items():
            if not fine:
                raise InvalidOption(message)


def parse_bands(text: str) -> tuple[int, ...]:
    """Parse ``4,3,2``.

    Raises
    ------
    InvalidOption
        If it is not a list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidOption(f"--bands takes numbers such as 4,3,2, not {text!r}") from None


def parse_stretch(text: str) -> Auto | Literal["none"] | Limits:
    """Parse ``auto``, ``none`` or ``LOW,HIGH``.

    Raises
    ------
    InvalidOption
        If it is none of these, or LOW is not below HIGH.
    """
    if text == "auto":
        return "auto"
    if text == "none":
        return "none"
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InvalidOption(f"--stretch takes auto, none or LOW,HIGH, not {text!r}") from None
    if not -math.inf < low < high < math.inf:
        raise InvalidOption(f"--stretch needs LOW below HIGH, not {text!r}")
    return low, high


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_memory(text: str) -> int:
    """Parse a size such as ``2GB``, ``512MiB`` or plain bytes.

    Raises
    ------
    InvalidOption
        If it is no size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise InvalidOption(
            f"--max-memory takes a size in kB, MB, GB, KiB, MiB or GiB, such as 2GB, not {text!r}"
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])
