"""A whole training run: read, check, train, measure, publish."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from geoseg.backends.families import find_family
from geoseg.errors import InvalidModel, InvalidOption, UnwritableOutput
from geoseg.files import check_writable
from geoseg.models.bundle import CARD, CONFIG, WEIGHTS, Bundle, find_model
from geoseg.training import require_packages
from geoseg.training.data.read import read_data
from geoseg.training.data.sampler import Sampler
from geoseg.training.events import Event, ignore
from geoseg.training.folder import alone, is_first_process
from geoseg.training.recipe import ModelSpec, Recipe

__all__ = ["is_first_process", "train_model"]


def train_model(
    recipe: Recipe,
    *,
    resume: bool = True,
    overwrite: bool = False,
    on_event: Callable[[Event], None] = ignore,
) -> Bundle:
    """Train a model and write its folder, ``recipe.out``; everything foreseeable fails before the first step.

    What is wrong with names, files and data is told before PyTorch is imported.

    On several GPUs, Lightning runs the command line once more for each of the others. Those
    processes only train, and end here.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    resume : bool
        Continue where a run of this recipe stopped, if one did.
    overwrite : bool
        Replace a model that is there.
    on_event : callable
        Told what happens.

    Raises
    ------
    GeosegError
        One line on what is wrong with data, recipe, network or output.
    """
    require_packages(int8=recipe.card.int8)
    _check_out(recipe.out, overwrite=overwrite)
    _check_names(recipe.model)
    split = read_data(recipe.data, recipe.validation, recipe.draws, recipe.base)
    if not any(ground.has_objects for grounds in split.validation.values() for ground in grounds):
        raise InvalidOption(
            "the ground held out has no objects: nothing could be measured; hold out other ground"
        )
    from geoseg.training.loop import train
    from geoseg.training.network import make_network
    from geoseg.training.publish import publish

    model = recipe.model
    if finds_objects(model):
        from geoseg.training.instances import boxes_of, fit_anchors, numbered, sizes_of

        sampler = Sampler(numbered(split.training), recipe.draws)
        model = fit_anchors(model, sizes_of(boxes_of(sampler, recipe.seed)))
    else:
        sampler = Sampler(split.training, recipe.draws)
    start = make_network(model, len(recipe.data.bands), len(recipe.data.classes), recipe.seed)
    listener = on_event if is_first_process() else ignore
    with alone(recipe.run_folder) if is_first_process() else contextlib.nullcontext():
        best = train(recipe, split, sampler, start, resume=resume, on_event=listener)
        if not is_first_process():
            sys.exit(0)
        return publish(recipe, split, sampler, start, best, on_event=on_event)


def finds_objects(spec: ModelSpec) -> bool:
    """Return whether a recipe's network finds objects, rather than giving probabilities."""
    if spec.start:
        return find_model(spec.start[0]).card.instances is not None
    return find_family(spec.arch).model_class == "MaskRCNN"


def _check_names(spec: ModelSpec) -> None:
    """Check the names of models to start from; the recipe has checked the others, the rest needs PyTorch."""
    for name in spec.start:
        if not {WEIGHTS, CONFIG} <= set(find_model(name).files):
            raise InvalidModel(f"{name}: has no {WEIGHTS} to start from; an ONNX file cannot be trained")


def _check_out(out: Path, *, overwrite: bool) -> None:
    """Make the folder that the model will lie in; check that it replaces nothing but a model."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{out.parent}: cannot be written: {error.strerror}") from error
    check_writable(out, overwrite=overwrite)
    if out.exists() and not (out / CARD).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UnwritableOutput(f"{out}: is no model folder and is not replaced; choose another --out")
