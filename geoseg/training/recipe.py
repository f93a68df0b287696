"""What a training run is made of: a YAML file, checked before anything is read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from geoseg.backends.families import find_encoder, find_family
from geoseg.errors import InvalidOption, suggest
from geoseg.models.document import MODEL_NAME
from geoseg.recipefiles import below, expand, merged, read_layers
from geoseg.training.data.spec import Blocks, DataSpec, Draws, Positive, Section, Share, ValidationSpec

LOSSES = ("ce", "bce", "dice", "focal", "lovasz")
"""Terms of a loss; ce and bce are the same."""

Count = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=2**31)]
Optimizer = Literal["adamw", "adam", "radam", "nadam", "sgd"]
Device = Literal["auto", "cpu", "cuda"]


def _checked(check: Callable[[str], object]) -> Callable[[str], str]:
    """Return a validator that leaves a name as it is written once `check` has found it."""

    def name(name: str) -> str:
        check(name)
        return name

    return name


def _terms(name: str) -> None:
    for part in name.lower().split("+"):
        if part not in LOSSES:
            raise ValueError(f"{part!r} is no term of a loss; {suggest(part, LOSSES)}; join terms with +")


def _name(name: str) -> None:
    if not re.fullmatch(MODEL_NAME, name):
        raise ValueError(
            f"{name!r} cannot be the name of a model: 2 to 100 letters, digits and _ . -, a letter first"
        )


ModelName = Annotated[str, AfterValidator(_checked(_name))]
Arch = Annotated[str, AfterValidator(_checked(find_family))]
Encoder = Annotated[str, AfterValidator(_checked(find_encoder))]
LossName = Annotated[str, AfterValidator(_checked(_terms))]


class ModelSpec(Section):
    """The network."""

    arch: Arch = "unet"
    encoder: Encoder | None = None
    """`arch`, `encoder`: See `geoseg.backends.architectures.make_config`; the encoder may be left to the
    architecture."""
    details: dict[str, object] = Field(default_factory=dict)
    """Further arguments of the architecture, e.g. ``decoder_channels``."""
    weights: Literal["imagenet"] | None = None
    """What the encoder starts from. ``imagenet`` needs a package that holds the weights: nothing is
    downloaded."""
    start: Annotated[
        tuple[str, ...], BeforeValidator(lambda name: (name,) if isinstance(name, str) else name)
    ] = ()
    """A model (name or folder, in a recipe relative to it) whose weights training starts from, those of its
    last layer only if it has as many classes; it brings architecture and encoder with it. Several must be one
    network, trained from one another: the mean of their weights."""


class LossSpec(Section):
    """What is made small; see `geoseg.training.losses.make_loss`."""

    name: LossName = "ce+dice"
    gap_weight: Positive = 3.0
    outline_weight: Positive = 1.0


class Optimization(Section):
    """How the weights are found."""

    optimizer: Optimizer = "adamw"
    """``adamw``, ``adam``, ``radam``, ``nadam`` or ``sgd`` (momentum 0.9, Nesterov)."""
    learning_rate: Positive = 1e-3
    """Peak of the cosine schedule."""
    encoder_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the learning rate that the encoder gets: less than 1 keeps more of what a pretrained one
    knows."""
    final_rate: Share = 0.0
    """Share of the peak at which the schedule ends. Above 0 the weights never come to rest, and their moving
    average spans more of what they could be (stochastic weight averaging, Izmailov et al. 2018)."""
    cycles: Count = 1
    """Times that the rate falls from its peak to its end within the schedule (warm restarts). After several,
    the mean of the weights at their ends is tried as well, and kept if it does best."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Of matrices, never of biases and norms."""
    warmup_steps: Count = 50
    """Of linear warm-up."""
    clip: Positive = 2.0
    """Largest norm of the gradient."""
    batch: Count = 16
    steps: Steps = 2000
    """`batch`, `steps`: Samples a step (of each process), and steps of the schedule. 0 steps train nothing:
    what training would begin with is measured and published."""
    minutes: Positive | None = None
    """Training time after which the schedule has come to its end, if the steps have not."""
    ema_decay: Share = 0.995
    """Of the moving average of the weights, which is what is validated and kept."""
    epoch: Count = 50
    """Steps between checkpoints; a killed run resumes at the last one."""
    validate_every: Count = 4
    """Epochs between validations."""
    pictures_every: Annotated[int, Field(ge=0)] = 3
    """Validations between pictures of validation tiles; 0 makes none."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the forward pass; ``auto``: bfloat16 where the device computes in it."""
    device: Device = "auto"
    """``auto``: all GPUs that are there, else the CPU."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that draw samples; None: none on a CPU, one a core beside a GPU, 16 at most."""


class CardSpec(Section):
    """What only people know about a model, for its card."""

    description: str = ""
    """One paragraph."""
    licence: str = "other"
    """SPDX identifier, or ``other``."""
    tile: Annotated[int, Field(ge=64, multiple_of=32)] = 512
    """Tile size that the card suggests, in pixels."""
    overlap: Annotated[int, Field(ge=0)] | None = None
    """Overlap that the card suggests; None: a quarter of a tile. See also ``geoseg models check``."""
    min_area_m2: Annotated[float, Field(ge=0)] | None = None
    """Predictions leave out smaller polygons unless they are asked for, and so do the figures; None: 25
    pixels."""
    int8: bool = True
    """Quantize, and ship the result if it loses at most half a point of IoU."""


class Recipe(Section):
    """A whole training run."""

    kind: Literal["train"] = "train"
    """What ``geoseg run`` is to do with it."""
    name: str = ""
    """Name of the model."""
    out: Path
    """Model folder to write; the run's own files lie beside it in ``NAME.training``. In a recipe, relative to
    its folder."""
    seed: Seed = 0
    """Fixes initial weights and every sample: step n of a seed always sees the same batch."""
    base: Path = Path()
    """Folder that the paths of `data` are relative to."""
    data: DataSpec
    validation: ValidationSpec = ValidationSpec(blocks=Blocks())
    draws: Draws = Draws()
    model: ModelSpec = ModelSpec()
    loss: LossSpec = LossSpec()
    optimization: Optimization = Optimization()
    card: CardSpec = CardSpec()

    @property
    def run_folder(self) -> Path:
        """Where checkpoints, logs and pictures of the run lie."""
        return self.out.with_name(f"{self.out.name}.training")

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of all that changes a step of the run."""
        free: dict[str, Any] = dict.fromkeys(("kind", "out", "card", "name"), True)
        free["optimization"] = {"device", "workers", "pictures_every"}
        text = json.dumps(self.model_dump(mode="json", exclude=free), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe's YAML, not yet checked; relative paths are made relative to the recipe's folder.

    With a key ``extends``, what the recipe says changes the recipe named there, key by key; a list is
    replaced as a whole.

    Raises
    ------
    InvalidOption
        If a file is missing, too large, or not a YAML mapping, or recipes extend one another in a circle.
    """
    layers = read_layers(path)
    base = {"base": str(layers[0].folder)}
    content = merged([base, *(with_paths(layer.content, layer.folder) for layer in layers)])
    if content.get("kind", "train") != "train":
        raise InvalidOption(f"{path}: kind is {content['kind']}, not train; run it: geoseg run {path}")
    return dict(expand(content))


def with_paths(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths of a recipe in `folder` absolute, but those of `data`, which are relative to `base`."""
    placed = {key: below(folder, value) for key, value in content.items() if key in ("base", "out")}
    model = content.get("model")
    if isinstance(model, dict) and isinstance(model.get("start"), str | list):
        names = [model["start"]] if isinstance(model["start"], str) else model["start"]
        placed["model"] = model | {"start": [_beside(folder, name) for name in names]}
    return {**content, **placed}


def _beside(folder: Path, name: object) -> object:
    """Return a model's folder where the name is one beside the recipe; else the name as it is."""
    path = folder / str(name)
    return str(path) if path.is_dir() else name


def make_recipe(content: Mapping[str, object], source: str | Callable[[Sequence[str | int]], str]) -> Recipe:
    """Check a recipe; `source` is what errors call it, or tells where a key stands.

    Raises
    ------
    InvalidOption
        One line that names the key; an unknown one with the nearest that there is.
    """
    place = source if callable(source) else lambda _key: source
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        where, reason = _explain(error)
        raise InvalidOption(f"{place(where)}: {reason}") from error
    out = Path(os.path.abspath(recipe.out))  # without "..", which has no name
    if not out.name:
        raise InvalidOption(f"{place(['out'])}: out: {recipe.out} is no folder for a model")
    name = recipe.name or out.name
    try:
        _name(name)
    except ValueError as error:
        raise InvalidOption(f"{place(['name'])}: {error}; give it one (--name)") from None
    return recipe.model_copy(update={"out": out, "name": name})


def _explain(error: ValidationError) -> tuple[tuple[int | str, ...], str]:
    """Return the first mistake's key and one line on it.

    An unknown key comes first, as it is often why another is missing.
    """
    mistakes = error.errors(include_url=False)
    first = next((one for one in mistakes if one["type"] == "extra_forbidden"), mistakes[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return first["loc"], f"{where}: {first['msg'].removeprefix('Value error, ')}"
    section = _section_at(Recipe, first["loc"][:-1])
    known = sorted(section.model_fields) if section else []
    return first["loc"], f"{where}: no such key; {suggest(str(first['loc'][-1]), known)}"


def _section_at(section: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel] | None:
    """Return the class that checks what lies at a path below `section`."""
    for part in path:
        if isinstance(part, str) and part in section.model_fields:
            inner = section_in(section.model_fields[part].annotation)
            if inner is None:
                return None
            section = inner
    return section


def section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section within a field's type: itself, or the item of a tuple or of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, Union, UnionType, Annotated):
        return next((found for part in get_args(annotation) if (found := section_in(part))), None)
    return None
