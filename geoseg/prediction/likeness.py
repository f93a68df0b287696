"""Whether a scene's values are like those that a model was trained on: a quick look at the scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoseg.errors import UnreadableScene
from geoseg.models.statistics import unlike_training

if TYPE_CHECKING:
    from geoseg.models.card import ModelCard
    from geoseg.prediction.plan import Plan

SAMPLE_PIXELS = 1 << 18
"""Pixels of the scene that are looked at: an overview, or four windows spread over it."""


def value_warnings(plan: Plan, card: ModelCard) -> tuple[str, ...]:
    """Return a line, or none, on values far from those of the training.

    Nothing is read where the card does not say what the model was trained on. A scene that is
    damaged is not judged: the run will name what it cannot read.

    Parameters
    ----------
    plan : Plan
        Its scene, bands and stretch.
    card : ModelCard
        Of the plan's model.
    """
    if card.trained_on is None:
        return ()
    from geoseg.raster.stretch import apply_stretch, sample

    known = []
    try:
        for patch in sample(plan.scene, plan.bands, budget=SAMPLE_PIXELS):
            pixels = patch.pixels if plan.stretch is None else apply_stretch(patch.pixels, plan.stretch)
            known.append(pixels[:, patch.valid])
    except UnreadableScene:
        return ()
    return unlike_training(np.concatenate(known, axis=1), card.trained_on, card.inputs.bands)
