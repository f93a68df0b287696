"""The JSON of a model's card, ``model.json``: a STAC Item with the MLM extension.

Fields of geoseg's own carry the prefix ``geoseg:`` and exist only where MLM 1.x has none; what they
hold is in `geoseg.models.own_fields`. The classes mirror the JSON and check it; `geoseg.models.card`
turns them into what other rooms read.

See https://github.com/stac-extensions/mlm and docs/models.md.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from geoseg.models.own_fields import (
    Accuracy,
    Instances,
    Int8Loss,
    Number,
    Positive,
    Split,
    Text,
    TrainingData,
    TrainingStatistics,
)

MLM_SCHEMA = "https://crim-ca.github.io/mlm-extension/v1.4.0/schema.json"
"""The version of the extension that geoseg writes; any 1.x is read."""

VERSION = 1
"""The version of the ``geoseg:`` fields that this geoseg reads and writes."""

MODEL_NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,98}[A-Za-z0-9]"
"""What a model may be called, as a regular expression."""

_MLM = re.compile(r"https://[\w./-]*/mlm(-extension)?/v(\d+)\.\d+\.\d+\S*/schema\.json")

Radius = Annotated[int, Field(ge=0)]
ModelTask = Literal["semantic", "instance"]
Activation = Literal["sigmoid", "softmax", "probability"]
DataType = Literal["uint8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]


class _Part(BaseModel):
    """A piece of the card; keys of other STAC extensions are kept and ignored."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class Band(_Part):
    """A band as the sensor delivers it (STAC 1.1 band object)."""

    name: Text
    data_type: DataType = "uint8"


class ValueScaling(_Part):
    """The normalization of one band (MLM value scaling object), or of all."""

    type: Literal["z-score", "min-max", "scale", "offset"]
    mean: Number = 0.0
    stddev: Positive = 1.0
    minimum: Number = 0.0
    maximum: Number = 1.0
    value: Number = 1.0

    def shift_and_divisor(self) -> tuple[float, float]:
        """Return (shift, divisor): the network sees (pixel - shift) / divisor."""
        match self.type:
            case "z-score":
                return self.mean, self.stddev
            case "min-max":
                return self.minimum, self.maximum - self.minimum
            case "scale":
                return 0.0, self.value
            case "offset":
                return self.value, 1.0


class Structure(_Part):
    """Shape and dtype of a tensor."""

    shape: tuple[int, ...]
    dim_order: tuple[Literal["batch"], Literal["channel", "class"], Literal["height"], Literal["width"]]
    data_type: Text

    @field_validator("shape")
    @classmethod
    def _four(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(value) != 4 or min(value) < -1 or 0 in value:
            raise ValueError("must be four sizes (batch, channel, height, width), -1 where any will do")
        return value


class ModelInput(_Part):
    """MLM model input object."""

    name: Text
    bands: Annotated[tuple[Text, ...], Field(min_length=1, max_length=64)]
    input: Structure
    value_scaling: tuple[ValueScaling, ...] | None = None

    @field_validator("input")
    @classmethod
    def _one_channel_a_band(cls, value: Structure, info: ValidationInfo) -> Structure:
        bands = info.data.get("bands", ())
        if bands and value.shape[1] != len(bands):
            raise ValueError(f"shape: has {value.shape[1]} channels for {len(bands)} bands")
        if value.shape[2] != value.shape[3]:
            raise ValueError("shape: height and width must be equal")
        return value

    @field_validator("value_scaling")
    @classmethod
    def _one_a_band(
        cls, value: tuple[ValueScaling, ...] | None, info: ValidationInfo
    ) -> tuple[ValueScaling, ...] | None:
        bands = info.data.get("bands", ())
        if value is not None and bands and len(value) not in (1, len(bands)):
            raise ValueError(f"must have 1 or {len(bands)} entries, one a band")
        if value is not None and min([scaling.shift_and_divisor()[1] for scaling in value], default=1) <= 0:
            raise ValueError("must not divide by 0 or less")
        return value


class ClassEntry(_Part):
    """Class object of the STAC classification extension; value 0 is the background."""

    value: Annotated[int, Field(ge=0, le=255)]
    name: Text
    color_hint: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{6}$")] | None = None


class ModelOutput(_Part):
    """MLM model output object; its classes are listed in the order of the channels."""

    name: Text
    tasks: tuple[Text, ...]
    result: Structure
    classes: Annotated[tuple[ClassEntry, ...], Field(alias="classification:classes")]

    @field_validator("classes")
    @classmethod
    def _one_a_channel(cls, value: tuple[ClassEntry, ...], info: ValidationInfo) -> tuple[ClassEntry, ...]:
        ids = [entry.value for entry in value]
        if len(set(ids)) < len(ids):
            raise ValueError("two classes have the same value")
        if not any(ids):
            raise ValueError("needs a class with a value from 1 to 255 (0 is the background)")
        if "result" in info.data:
            channels = info.data["result"].shape[1]
            if len(ids) != channels and not (channels == 1 and len(ids) == 2 and 0 in ids):
                raise ValueError(f"has {len(ids)} classes for {channels} channels")
        return value


class CardProperties(_Part):
    """The properties of the STAC Item."""

    name: Annotated[str, Field(alias="mlm:name", pattern=f"^{MODEL_NAME}$")]
    architecture: Annotated[Text, Field(alias="mlm:architecture")]
    framework: Annotated[Text, Field(alias="mlm:framework")] = "PyTorch"
    tasks: Annotated[tuple[Text, ...], Field(alias="mlm:tasks")]
    inputs: Annotated[tuple[ModelInput, ...], Field(alias="mlm:input", min_length=1, max_length=1)]
    outputs: Annotated[tuple[ModelOutput, ...], Field(alias="mlm:output", min_length=1, max_length=1)]
    bands: tuple[Band, ...] = ()
    version: Annotated[int, Field(alias="geoseg:version")] = VERSION
    activation: Annotated[Activation, Field(alias="geoseg:activation")]
    threshold: Annotated[float, Field(alias="geoseg:threshold", gt=0, lt=1)] = 0.5
    tile: Annotated[int, Field(alias="geoseg:tile", le=8192)]
    overlap: Annotated[int, Field(alias="geoseg:overlap", ge=0)]
    resolution_m: Annotated[Positive | None, Field(alias="geoseg:resolution_m")] = None
    resolution_range: Annotated[
        tuple[Positive, Positive] | None, Field(alias="geoseg:resolution_range_m")
    ] = None
    receptive_field: Annotated[tuple[Radius, Radius] | None, Field(alias="geoseg:receptive_field_px")] = None
    smallest_overlap: Annotated[int | None, Field(alias="geoseg:smallest_overlap", ge=0)] = None
    depends_on_extent: Annotated[bool | None, Field(alias="geoseg:depends_on_extent")] = None
    min_area_m2: Annotated[float | None, Field(alias="geoseg:min_area_m2", ge=0, allow_inf_nan=False)] = None
    man_made: Annotated[bool | None, Field(alias="geoseg:man_made")] = None
    max_deviation_m: Annotated[Positive | None, Field(alias="geoseg:max_deviation_m")] = None
    min_confidence: Annotated[float | None, Field(alias="geoseg:min_confidence", ge=0, le=1)] = None
    split: Annotated[Split | None, Field(alias="geoseg:split")] = None
    instances: Annotated[Instances | None, Field(alias="geoseg:instances")] = None
    training_data: Annotated[tuple[TrainingData, ...], Field(alias="geoseg:training_data")] = ()
    accuracy: Annotated[tuple[Accuracy, ...], Field(alias="geoseg:accuracy")] = ()
    int8_loss: Annotated[Int8Loss | None, Field(alias="geoseg:int8_loss_iou_points")] = None
    training_statistics: Annotated[TrainingStatistics | None, Field(alias="geoseg:training_statistics")] = (
        None
    )

    @field_validator("tasks")
    @classmethod
    def _segments(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not {"semantic-segmentation", "segmentation", "instance-segmentation"} & set(value):
            raise ValueError("has no semantic-segmentation or instance-segmentation, all that geoseg runs")
        return value

    @field_validator("version")
    @classmethod
    def _readable(cls, value: int) -> int:
        if value != VERSION:
            raise ValueError(f"{value} is not a version that this geoseg reads ({VERSION}); update geoseg")
        return value

    @field_validator("tile")
    @classmethod
    def _tile_fits(cls, value: int, info: ValidationInfo) -> int:
        fixed = info.data["inputs"][0].input.shape[2] if "inputs" in info.data else -1
        if fixed > 0 and value != fixed:
            raise ValueError(f"must be {fixed}, the fixed size in mlm:input")
        if fixed < 0 and (value % 32 or value < 64):
            raise ValueError("must be a multiple of 32 and at least 64")
        return value

    @field_validator("overlap", "smallest_overlap")
    @classmethod
    def _overlap_fits(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and "tile" in info.data and value > info.data["tile"] // 2:
            raise ValueError(f"must be at most half of geoseg:tile, {info.data['tile'] // 2}")
        return value

    @field_validator("resolution_range")
    @classmethod
    def _in_order(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError("must be [finest, coarsest]")
        return value

    @field_validator("training_statistics")
    @classmethod
    def _one_a_band(cls, value: TrainingStatistics | None, info: ValidationInfo) -> TrainingStatistics | None:
        bands = len(info.data["inputs"][0].bands) if "inputs" in info.data else None
        if value is not None and bands is not None and len(value.mean) != bands:
            raise ValueError(f"has {len(value.mean)} bands, the input has {bands}")
        return value

    @model_validator(mode="after")
    def _instances_are_described(self) -> Self:
        if (self.instances is not None) != ("instance-segmentation" in self.tasks):
            raise ValueError("geoseg:instances is for the task instance-segmentation, which needs it")
        return self

    @model_validator(mode="after")
    def _no_unknown_field(self) -> Self:
        unknown = [key for key in self.model_extra or () if key.startswith("geoseg:")]
        if unknown:
            raise ValueError(f"{unknown[0]}: is no field that geoseg knows")
        return self


class Asset(_Part):
    """STAC Asset; the checksum is a SHA-256 multihash (file extension)."""

    href: Text
    roles: tuple[str, ...] = ()
    checksum: Annotated[str | None, Field(alias="file:checksum", pattern=r"^1220[0-9a-f]{64}$")] = None


class CardDocument(_Part):
    """A whole ``model.json``."""

    type: Literal["Feature"]
    stac_version: Annotated[str, Field(pattern=r"^1\.[01]\.\d+$")]
    stac_extensions: tuple[str, ...]
    id: Text
    properties: CardProperties
    assets: dict[str, Asset]

    @field_validator("stac_extensions")
    @classmethod
    def _has_mlm(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        versions = [match[2] for url in value if (match := _MLM.fullmatch(url))]
        if versions != ["1"]:
            raise ValueError(f"must name the MLM extension once, in a version 1.x ({MLM_SCHEMA})")
        return value
