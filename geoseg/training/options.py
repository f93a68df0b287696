"""The options of a training run: what to train on, and what changes a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, model_validator

from geoseg.options import Metavar, Options, path_text
from geoseg.training.data.spec import ClassName, Crop, Positive
from geoseg.training.recipe import (
    Arch,
    Count,
    Device,
    Encoder,
    LossName,
    ModelName,
    Optimizer,
    Seed,
    Steps,
)

KEYS = {
    "start": "model.start",
    "arch": "model.arch",
    "encoder": "model.encoder",
    "weights": "model.weights",
    "loss": "loss.name",
    "optimizer": "optimization.optimizer",
    "learning_rate": "optimization.learning_rate",
    "batch": "optimization.batch",
    "steps": "optimization.steps",
    "minutes": "optimization.minutes",
    "device": "optimization.device",
    "crop": "draws.crop",
    "seed": "seed",
    "name": "name",
}
"""Option: the key of a recipe that it sets. These also change what a recipe says; all others say what data to
train on, in place of a recipe."""


class NamedBands(NamedTuple):
    """Bands of the model, and where they lie in the scenes."""

    names: tuple[str, ...]
    numbers: tuple[int, ...] = ()
    """From 1, in the order of the names; empty: they are found by colour."""


def _several(value: Any) -> Any:
    """Return what may be given once or more often as a tuple, paths as text."""
    if isinstance(value, str | os.PathLike):
        return (path_text(value),)
    return tuple(map(path_text, value)) if isinstance(value, list | tuple) else value


def parse_named_bands(value: Any) -> Any:
    """Parse ``red,green,blue``, or ``red=4,green=3,blue=2`` with the bands' numbers in the scenes.

    Raises
    ------
    ValueError
        If a text is neither.

    Examples
    --------
    >>> parse_named_bands("red=4, nir=5")
    NamedBands(names=('red', 'nir'), numbers=(4, 5))
    """
    names_alone = isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
    text = ",".join(value) if names_alone else value
    if not isinstance(text, str):
        return value
    words = [word.strip() for word in text.split(",") if word.strip()]
    pairs = [tuple(part.strip() for part in word.partition("=")[::2]) for word in words]
    names, numbers = tuple(name for name, _ in pairs), [number for _, number in pairs if number]
    right = all(names) and not any(name.isdecimal() for name in names)
    if not right or len(numbers) not in (0, len(names)) or not all(map(_is_band_number, numbers)):
        raise ValueError(
            f"takes names, such as red,green,blue, or names with their numbers in the scenes, such as "
            f"red=4,green=3,blue=2, not {text!r}"
        )
    return NamedBands(names, tuple(map(int, numbers))) if names else None


def _is_band_number(text: str) -> bool:
    return text.isdecimal() and int(text) >= 1


Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_several)]


class TrainOptions(Options):
    """What to train on, and what changes a recipe.

    Raises
    ------
    InvalidOption
        One line on the first that is wrong.

    Examples
    --------
    >>> TrainOptions(scene="a.tif", labels="a.gpkg", steps="500").steps
    500
    >>> TrainOptions(optimizer="adm")
    Traceback (most recent call last):
    geoseg.errors.InvalidOption: --optimizer must be adamw, adam, radam, nadam or sgd, not 'adm'
    """

    scene: Annotated[Texts, Metavar("FILE")] = ()
    """Scene to train on. Repeat for several."""

    labels: Annotated[Paths, Metavar("FILE")] = ()
    """Labels of each --scene, polygons or a mask, in the same order."""

    chips: Annotated[Paths, Metavar("FOLDER|CSV")] = ()
    """Chips to train on: a folder with images/ and masks/, or an index.csv."""

    verdicts: Annotated[Paths, Metavar("FILE")] = ()
    """Verdicts of geoseg review on each --labels, in the same order: polygons found right are objects,
    polygons found wrong are background, nothing else is known."""

    class_attribute: Annotated[str | None, Metavar("NAME")] = None
    """Attribute of the labels that holds the class."""

    class_: Annotated[tuple[ClassName, ...], BeforeValidator(_several), Metavar("NAME")] = ()
    """Class to learn. Repeat for several.  [default: all of --class-attribute, else building]"""

    labelled_area: Annotated[Path | None, Metavar("FILE")] = None
    """Polygons inside which the labels are complete; outside, nothing is known."""

    labels_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of --labels, where several hold polygons."""

    labelled_area_layer: Annotated[str | None, Metavar("NAME")] = None
    """Layer of --labelled-area, where several hold polygons."""

    bands: Annotated[NamedBands | None, BeforeValidator(parse_named_bands), Metavar("NAMES")] = None
    """Bands of the model, by name. Add their numbers in the scenes where colours do not tell:
    red=4,green=3,blue=2.  [default: red,green,blue]"""

    chip_pixel: Annotated[Positive | None, Metavar("METRES")] = None
    """Ground size of a pixel of --chips that are not georeferenced."""

    hold_out: Annotated[Texts, Metavar("NAME")] = ()
    """Scene, or name pattern of chips, to validate on.  [default: a fifth of each scene, in squares]"""

    resolution: Annotated[Positive | None, Metavar("METRES")] = None
    """Ground size of a pixel that the model works at.  [default: that of --start or of the scenes]"""

    start: Annotated[Texts, Metavar("MODEL")] = ()
    """Model to fine-tune, a name or a folder. Repeat to start from the mean of several."""

    arch: Annotated[Arch | None, Metavar("NAME")] = None
    """unet, unet++, fcn, pspnet, deeplabv3, deeplabv3+, hrnet, fpn or segformer; maskrcnn finds objects."""

    encoder: Annotated[Encoder | None, Metavar("NAME")] = None
    """Encoder, by its name in timm.  [default: one that suits --arch]"""

    weights: Annotated[Literal["imagenet"] | None, Metavar("imagenet")] = None
    """Weights that the encoder starts from."""

    loss: Annotated[LossName | None, Metavar("TERMS")] = None
    """Terms joined by +: ce (or bce), dice, focal, lovasz.  [default: ce+dice]"""

    optimizer: Annotated[Optimizer | None, Metavar("NAME")] = None
    """adamw, adam, radam, nadam or sgd.  [default: adamw]"""

    learning_rate: Annotated[Positive | None, Metavar("RATE")] = None
    """Peak of the schedule.  [default: 0.001]"""

    batch: Annotated[Count | None, Metavar("N")] = None
    """Samples a step.  [default: 16]"""

    steps: Annotated[Steps | None, Metavar("N")] = None
    """Steps of the schedule.  [default: 2000]"""

    minutes: Annotated[Positive | None, Metavar("N")] = None
    """Stop after this training time."""

    device: Annotated[Device | None, Metavar("auto|cpu|cuda")] = None
    """Where to train; auto takes all GPUs, else the CPU."""

    crop: Annotated[Crop | None, Metavar("PX")] = None
    """Side of a sample in pixels.  [default: 256]"""

    seed: Annotated[Seed | None, Metavar("N")] = None
    """Seed of all that is random.  [default: 0]"""

    name: Annotated[ModelName | None, Metavar("NAME")] = None
    """Name of the model.  [default: that of its folder]"""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if len(self.scene) != len(self.labels):
            raise ValueError(
                f"{len(self.scene)} --scene and {len(self.labels)} --labels: each scene needs its own"
            )
        if self.verdicts and len(self.verdicts) != len(self.labels):
            raise ValueError(
                f"{len(self.labels)} --labels and {len(self.verdicts)} --verdicts: give them for each"
            )
        for option, values in (
            ("--scene", self.scene),
            ("--class", [name.casefold() for name in self.class_]),
        ):
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise ValueError(f"{option} {twice} is given twice")
        if self.start and self.weights:
            raise ValueError("--start and --weights both say what training begins with; give one")
        return self

    @property
    def data(self) -> dict[str, Any]:
        """The options given that say what to train on."""
        return {key: value for key, value in self if key not in KEYS and value not in (None, ())}
