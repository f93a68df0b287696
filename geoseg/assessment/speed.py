"""How fast a model is here in each precision, and whether the rule of ``--precision auto`` is the fastest.

A run times nothing to choose its precision. To use the fastest one, measure it here and type it.
Where a CPU has AMX units, a U-Net of depthwise convolutions ran in INT8 at 0.8 times its speed in bf16,
one with a ResNet-34 at 2.7 times: no rule over instruction sets can tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from geoseg.backends.base import Predictor
from geoseg.backends.hardware import usable_cores
from geoseg.backends.precision import PRECISIONS
from geoseg.backends.select import backends_of, load_predictor
from geoseg.errors import BackendUnavailable, InvalidModel
from geoseg.models.bundle import Bundle

SECONDS = 2.0
"""For how long the precisions take turns, after the first pass of each, which compiles."""

TURNS = 3
"""Turns of each, at least."""

TILE = 384
"""Side of the tiles, unless the model takes another only: large enough to be like those of a run."""

WORTH = 1.1
"""How many times as fast another precision has to be to be worth a mention."""


def measure_speeds(bundle: Bundle) -> dict[str, float]:
    """Return the megapixels of tiles a second that OpenVINO does in each precision that it runs.

    Empty where the model has no file for OpenVINO.

    Parameters
    ----------
    bundle : Bundle
    """
    if "openvino" not in backends_of(bundle):
        return {}
    side = bundle.card.tile if bundle.card.fixed_tile else min(TILE, bundle.card.tile)
    shape = (usable_cores(), len(bundle.card.inputs.bands), side, side)
    tiles = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    turns: dict[str, Callable[[], object]] = {}
    for precision in PRECISIONS:
        try:
            predictor: Predictor = load_predictor(bundle, backend="openvino", precision=precision)
            predictor(tiles)
        except (BackendUnavailable, InvalidModel):  # not shipped, or not run on this CPU
            continue
        turns[precision] = partial(predictor, tiles)
    pixels = shape[0] * side**2 / 1e6
    return {precision: pixels / seconds for precision, seconds in best_turns(turns).items()}


def best_turns(
    turns: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the seconds of the best turn of each: what disturbs only slows.

    Parameters
    ----------
    turns : mapping of str to callable
        They alternate, so that a change of the machine's load meets all.
    clock : callable
        Returns seconds.
    """
    best: dict[str, float] = {}
    began, done = clock(), 0
    while turns and (done < TURNS or clock() - began < SECONDS):
        for name, turn in turns.items():
            start = clock()
            turn()
            best[name] = min(best.get(name, float("inf")), max(clock() - start, 1e-9))
        done += 1
    return best


def advise(speeds: Mapping[str, float], taken: str, reason: str) -> str:
    """Return in a line what ``--precision auto`` takes, and what to type where another one is faster.

    Parameters
    ----------
    speeds : mapping of str to float
        See `measure_speeds`.
    taken : str
        The precision that the rule takes.
    reason : str
        Why, see `geoseg.backends.precision.by_rule`.

    Examples
    --------
    >>> advise({"f32": 4.0, "bf16": 8.0}, "bf16", "this CPU computes in it")
    'bf16 is taken unasked (this CPU computes in it), and is the fastest here'
    >>> advise({"bf16": 8.0, "int8": 16.0}, "bf16", "this CPU has AMX")
    'bf16 is taken unasked (this CPU has AMX); int8 is 2.0 times as fast here: --precision int8'
    """
    fastest = max(speeds, key=lambda name: speeds[name])
    gain = speeds[fastest] / speeds[taken] if taken in speeds else float("inf")
    unasked = f"{taken} is taken unasked ({reason})"
    if gain >= WORTH:
        how = f"{gain:.1f} times as fast here" if taken in speeds else "the fastest that runs here"
        return f"{unasked}; {fastest} is {how}: --precision {fastest}"
    return f"{unasked}, and is the fastest here"
