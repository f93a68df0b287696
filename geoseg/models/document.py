"""The JSON of a model's card, ``model.json``: a STAC Item with the MLM extension.

Fields of geoseg's own carry the prefix ``geoseg:`` and exist only where MLM 1.x has none. The classes mirror
the JSON and check it; `geoseg.models.card` turns them into what other rooms read.

See https://github.com/stac-extensions/mlm and docs/models.md.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from geoseg.models.value_check import TrainingStatistics

MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
"""The version of the extension that geoseg writes; any 1.x is read."""

VERSION = 1
"""The version of the ``geoseg:`` fields that this geoseg reads and writes."""

MODEL_NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,98}[A-Za-z0-9]"
"""What a model may be called, as a regular expression."""

_MLM = re.compile(r"https://[\w./-]*/mlm(-extension)?/v(\d+)\.\d+\.\d+\S*/schema\.json")

Text = Annotated[str, Field(min_length=1, max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Radius = Annotated[int, Field(ge=0)]
ModelTask = Literal["semantic", "instance"]
Activation = Literal["sigmoid", "softmax", "probability"]
DataType = Literal["uint8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]


class _Part(BaseModel):
    """A piece of the card; keys of other STAC extensions are kept and ignored."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


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

    shape: tuple[int, int, int, int]
    dim_order: tuple[Literal["batch"], Literal["channel", "class"], Literal["height"], Literal["width"]]
    data_type: Text

    @field_validator("shape")
    @classmethod
    def _sizes(cls, value: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        if min(value) < -1 or 0 in value:
            raise ValueError("must be sizes from 1, or -1 where any will do")
        return value


class ModelInput(_Part):
    """MLM model input object."""

    name: Text
    bands: Annotated[tuple[Text, ...], Field(min_length=1, max_length=64)]
    input: Structure
    value_scaling: tuple[ValueScaling, ...] | None = None

    @model_validator(mode="after")
    def _one_a_band(self) -> Self:
        bands, (_, channels, height, width) = len(self.bands), self.input.shape
        if channels != bands:
            raise ValueError(f"its shape has {channels} channels for {bands} bands")
        if height != width:
            raise ValueError("height and width must be equal")
        if self.value_scaling is not None and len(self.value_scaling) not in (1, bands):
            raise ValueError(f"value_scaling must have 1 or {bands} entries, one a band")
        if any(scaling.shift_and_divisor()[1] <= 0 for scaling in self.value_scaling or ()):
            raise ValueError("value_scaling must not divide by 0 or less")
        return self


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

    @model_validator(mode="after")
    def _one_a_channel(self) -> Self:
        ids, channels = [entry.value for entry in self.classes], self.result.shape[1]
        if len(set(ids)) < len(ids):
            raise ValueError("two classes have the same value")
        if not any(ids):
            raise ValueError("needs a class with a value from 1 to 255 (0 is the background)")
        if len(ids) != channels and not (channels == 1 and len(ids) == 2 and 0 in ids):
            raise ValueError(f"has {len(ids)} classes for {channels} channels")
        return self


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
    confidence: Annotated[Confidence | None, Field(alias="geoseg:confidence")] = None
    split: Annotated[Split | None, Field(alias="geoseg:split")] = None
    instances: Annotated[Instances | None, Field(alias="geoseg:instances")] = None
    training_data: Annotated[tuple[TrainingData, ...], Field(alias="geoseg:training_data")] = ()
    accuracy: Annotated[tuple[Accuracy, ...], Field(alias="geoseg:accuracy")] = ()
    int8_loss: Annotated[Int8Loss | None, Field(alias="geoseg:int8_loss_iou_points")] = None
    training_statistics: Annotated[TrainingStatistics | None, Field(alias="geoseg:training_statistics")] = (
        None
    )

    @field_validator("version")
    @classmethod
    def _readable(cls, value: int) -> int:
        if value != VERSION:
            raise ValueError(f"{value} is not a version that this geoseg reads ({VERSION}); update geoseg")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        bands, fixed = len(self.inputs[0].bands), self.inputs[0].input.shape[2]
        trained = bands if self.training_statistics is None else len(self.training_statistics.mean)
        unknown = [key for key in self.model_extra or () if key.startswith("geoseg:")]
        finest, coarsest = self.resolution_range or (1.0, 1.0)
        ids = sorted([entry.value for entry in self.outputs[0].classes if entry.value])
        half, known = self.tile // 2, {"semantic-segmentation", "segmentation", "instance-segmentation"}
        wrong = (
            (
                not known & set(self.tasks),
                "mlm:tasks: has no semantic-segmentation or instance-segmentation, all that geoseg runs",
            ),
            (0 < fixed != self.tile, f"geoseg:tile: must be {fixed}, the fixed size in mlm:input"),
            (
                fixed < 0 and (self.tile % 32 or self.tile < 64),
                "geoseg:tile: must be a multiple of 32 and at least 64",
            ),
            (
                max(self.overlap, self.smallest_overlap or 0) > half,
                f"geoseg:overlap: must be at most half of geoseg:tile, {half}; also geoseg:smallest_overlap",
            ),
            (finest > coarsest, "geoseg:resolution_range_m: must be [finest, coarsest]"),
            (trained != bands, f"geoseg:training_statistics: has {trained} bands, the input has {bands}"),
            (
                ("instance-segmentation" in self.tasks) != (self.instances is not None),
                "geoseg:instances is for the task instance-segmentation, which needs it",
            ),
            (
                self.instances is not None and sorted(self.instances.labels) != ids,
                f"geoseg:instances.labels: must be the values of all classes, {ids}",
            ),
            (unknown, f"{min(unknown, default='')}: is no field that geoseg knows"),
        )
        for is_so, what in wrong:
            if is_so:
                raise ValueError(what)
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
