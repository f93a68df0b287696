"""A whole training run: read, check, train, measure, publish."""

from __future__ import annotations

from collections.abc import Callable

from geoseg.files import check_writable
from geoseg.models.bundle import Bundle
from geoseg.training.data.read import read_data
from geoseg.training.data.sampler import Sampler
from geoseg.training.loop import train
from geoseg.training.network import make_network
from geoseg.training.publish import publish
from geoseg.training.recipe import Recipe
from geoseg.training.watch import Event, ignore
from geoseg.training.worlds import render_worlds


def train_model(
    recipe: Recipe,
    *,
    resume: bool = True,
    overwrite: bool = False,
    on_event: Callable[[Event], None] = ignore,
) -> Bundle:
    """Train a model and write its folder, ``recipe.out``; everything foreseeable fails before the first step.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    resume : bool
        Go on where a run of this recipe stopped, if one did.
    overwrite : bool
        Replace a model that is there.
    on_event : callable
        Told what happens.

    Raises
    ------
    GeosegError
        One line on what is wrong with data, recipe, network or output.
    """
    check_writable(recipe.out, overwrite=overwrite)
    start = make_network(recipe.model, len(recipe.data.bands), len(recipe.data.classes), recipe.seed)
    split = read_data(recipe.data, recipe.validation, recipe.draws, recipe.base)
    worlds = render_worlds(recipe.seed, recipe.draws, recipe.data.classes[0].id)
    sampler = Sampler(split.training, worlds, recipe.draws)
    best = train(recipe, split, sampler, start, resume=resume, on_event=on_event)
    return publish(recipe, split, sampler, start, best)
