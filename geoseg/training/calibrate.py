"""Make probabilities say how often they are right: those of pixels, and the confidence of objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.labels.classes import IGNORE
from geoseg.metrics import match_objects
from geoseg.training.data.holdout import Split
from geoseg.training.loop import rule_of
from geoseg.training.recipe import Recipe
from geoseg.training.validate import Answer, Reading, answers, objects_of, outlines
from geoseg.values import CERTAIN

Floats = NDArray[np.float64]

BINS = 15
"""Of the expected calibration error (Guo et al. 2017)."""

FEWEST = 50
"""Objects of either kind, right and wrong, without which nothing is said about the others."""

STEEPEST = 10.0
"""Slope that is believed, at most, and its inverse, at least."""

_CLIP = 0.5 / CERTAIN
_RIDGE = 1e-6
_PASSES = 50


@dataclass(frozen=True, slots=True)
class Fitted:
    """What makes probabilities say how often they are right: sigmoid(slope · log odds + intercept).

    `error` is the expected calibration error with it, over all places together; `places` how many they are.
    """

    slope: float
    intercept: float
    error: float
    places: int


def calibrate_pixels(network: torch.nn.Module, recipe: Recipe, split: Split) -> Fitted | None:
    """Scale the logits of a network of one class by a temperature and a bias, in place (Guo et al. 2017).

    They are fitted on the places held out that have objects. None: there is none, or none that tells (see
    `fit`), or the network has no convolution at its end; it is left as it is.
    """
    rule, activation = rule_of(recipe)
    if len(rule.channels) > 1:
        return None
    counts = []
    for grounds in split.validation.values():
        answered = answers(network, grounds, recipe.draws.resolution_m, activation)
        found = pixel_counts(answered, rule.channels[0])
        if (found.sum(axis=0) > 0).all():
            counts.append(found)
    if not counts:
        return None
    fitted = fit([(np.arange(CERTAIN + 1) / CERTAIN, one) for one in counts])
    if fitted and scale_logits(network, len(recipe.data.bands), fitted.slope, fitted.intercept):
        return fitted
    return None


def calibrate_objects(
    network: torch.nn.Module, recipe: Recipe, split: Split, reading: Reading, min_area_m2: float
) -> Fitted | None:
    """Fit how often a polygon is right, by its mean probability, on the places held out that have objects.

    None: of several classes, or where right or wrong ones are fewer than `FEWEST`.
    """
    resolution, (_, activation) = recipe.draws.resolution_m, rule_of(recipe)
    if len(reading.rule.channels) > 1:
        return None
    places = []
    for grounds in split.validation.values():
        found = list(answers(network, grounds, resolution, activation))
        if any((answer.labels == reading.rule.channels[0]).any() for answer in found):
            mean, counts = object_counts(found, reading, resolution, min_area_m2)
            places += [(mean, counts)] * bool(len(mean))
    if not places or (sum(counts.sum(axis=0) for _, counts in places) < FEWEST).any():
        return None
    return fit(places)


def fit(places: Sequence[tuple[Floats, Floats]]) -> Fitted | None:
    """Fit probabilities of places, shape (n,), to how often each was wrong and right, shape (n, 2).

    None: probabilities say nothing or the contrary, or part right and wrong wholly, as of a network that is
    hardly trained, or on ground too small to tell.
    """
    slope, intercept = fit_logistic([(logit(probability), counts) for probability, counts in places])
    slope, intercept = round(slope, 4), round(intercept, 4)
    if not 1 / STEEPEST <= slope <= STEEPEST:
        return None
    probability = np.concatenate([one for one, _ in places])
    likely = 0.5 * (1 + np.tanh(0.5 * (slope * logit(probability) + intercept)))
    error = calibration_error(likely, np.concatenate([two for _, two in places]))
    return Fitted(slope, intercept, error, len(places))


def pixel_counts(found: Iterable[Answer], class_id: int) -> Floats:
    """Count known pixels by their 16-bit probability, those that are not of a class and those that are.

    Returns
    -------
    ndarray of float64, shape (65536, 2)
    """
    counts = np.zeros((CERTAIN + 1, 2))
    for answer in found:
        known = answer.labels != IGNORE
        right = answer.labels[known] == class_id
        both = np.bincount(answer.values[0][known].astype(np.int64) * 2 + right, minlength=2 * (CERTAIN + 1))
        counts += both.reshape(-1, 2)
    return counts


def object_counts(
    found: Iterable[Answer], reading: Reading, resolution_m: float, min_area_m2: float
) -> tuple[Floats, Floats]:
    """Return the mean probability of every polygon of one class, and whether it meets a true one at IoU 0.5.

    Returns
    -------
    mean : ndarray of float64, shape (n,)
    counts : ndarray of float64, shape (n, 2)
        (1, 0) where it is wrong, (0, 1) where it is right.
    """
    (class_id,) = reading.rule.channels
    mean: list[float] = []
    right: list[bool] = []
    for answer in found:
        pieces = objects_of(answer, reading, resolution_m, min_area_m2)
        truth = outlines(answer.labels == class_id)
        matched = match_objects(np.array([piece.polygon for piece in pieces], object), truth, 0.5).predicted
        mean += [piece.evidence.confidence for piece in pieces]
        right += np.isin(np.arange(len(pieces)), matched).tolist()
    yes = np.array(right, bool)
    return np.array(mean), np.stack([~yes, yes], axis=-1).astype(np.float64)


def logit(probability: Floats) -> Floats:
    """Return the log odds, of 0 and 1 those of half a step of 16 bits beside them.

    >>> logit(np.array([0.5, 0.9])).round(3).tolist()
    [0.0, 2.197]
    """
    inside = np.clip(probability, _CLIP, 1 - _CLIP)
    odds: Floats = np.log(inside) - np.log1p(-inside)
    return odds


def fit_logistic(places: Sequence[tuple[Floats, Floats]]) -> tuple[float, float]:
    """Fit P(right) = sigmoid(slope · x + intercept) by the log loss, every place weighing the same.

    By Newton's method with steps halved until the loss falls; of two parameters it is convex.

    >>> x, counts = np.array([-1.0, 1.0]), np.array([[3.0, 1.0], [1.0, 3.0]])
    >>> [round(value, 3) for value in fit_logistic([(x, counts)])]
    [1.099, 0.0]

    Parameters
    ----------
    places : sequence of tuple
        Of each place log odds, shape (n,), and how often each was wrong and right, shape (n, 2).
    """
    x = np.concatenate([one for one, _ in places])
    counts = np.concatenate([two / two.sum() for _, two in places])
    design, both = np.stack([x, np.ones_like(x)], axis=-1), counts.sum(axis=1)
    usual = np.array([1.0, 0.0])

    def loss(value: Floats) -> float:
        z = design @ value
        misfit = both @ np.logaddexp(0, z) - counts[:, 1] @ z
        return float(misfit + _RIDGE * np.square(value - usual).sum())

    value = usual
    for _ in range(_PASSES):
        likely = 0.5 * (1 + np.tanh(0.5 * (design @ value)))
        slope = design.T @ (both * likely - counts[:, 1]) + 2 * _RIDGE * (value - usual)
        curve = (design * (both * likely * (1 - likely))[:, None]).T @ design + 2 * _RIDGE * np.eye(2)
        step = np.linalg.solve(curve, slope)
        while np.abs(step).max() > 1e-12 and loss(value - step) > loss(value):
            step = step / 2
        value = value - step
        if np.abs(step).max() < 1e-9:
            break
    return float(value[0]), float(value[1])


def calibration_error(probability: Floats, counts: Floats) -> float:
    """Return the expected calibration error in `BINS` bins of equal width (Naeini et al. 2015).

    >>> calibration_error(np.array([0.25, 0.9]), np.array([[3.0, 1.0], [0.0, 4.0]]))
    0.05

    Parameters
    ----------
    probability : ndarray of float64, shape (n,)
    counts : ndarray of float64, shape (n, 2)
        How often each was wrong and right.
    """
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    said = np.bincount(place, probability * counts.sum(axis=1), BINS)
    was = np.bincount(place, counts[:, 1], BINS)
    return round(float(np.abs(said - was).sum() / counts.sum()), 6)


def scale_logits(network: torch.nn.Module, bands: int, slope: float, intercept: float) -> bool:
    """Make the last convolution give ``slope * logits + intercept``; False where it is not a network's end.

    Nothing is added to the network, so every engine runs it as fast as before.
    """
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    if last.bias is None:
        return False
    picture = torch.linspace(-1, 1, bands * 64 * 64).reshape(1, bands, 64, 64)
    kept = [value.detach().clone() for value in (last.weight, last.bias)]
    with torch.no_grad():
        wanted = network(picture) * slope + intercept
        last.weight.mul_(slope)
        last.bias.mul_(slope).add_(intercept)
        if torch.allclose(network(picture), wanted, rtol=1e-4, atol=1e-4):
            return True
        last.weight.copy_(kept[0])
        last.bias.copy_(kept[1])
    return False
