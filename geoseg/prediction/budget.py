"""Dividing a budget of memory: how large blocks are, how many at once, how many tiles a pass. Pure."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from geoseg.errors import InvalidOption
from geoseg.prediction.machine import ADDRESSES
from geoseg.prediction.memory import memory_use
from geoseg.prediction.options import AUTO, PredictOptions
from geoseg.prediction.plan import BLOCK_PIXELS, Plan
from geoseg.prediction.resources import FEWEST_THREADS, Resources

MEGABYTE = 10**6

TILES_A_REQUEST = 2
"""Tiles that are under way for each that the backend works at a time: one that is worked, one that waits.
Fewer leave cores of a large machine without work."""

Choice = tuple[Plan, Resources]


def settle_memory(
    plan: Plan,
    resources: Resources,
    options: PredictOptions,
    *,
    default: int,
    limit: int | None = None,
    known: Sequence[int] = (),
) -> Choice:
    """Choose the size of blocks, and cut the resources, so that the run keeps its budget.

    Of several GPUs that nobody asked for, as many are used as the budget has room for processes.

    Parameters
    ----------
    plan : Plan
        With blocks of any size.
    resources : Resources
        What the machine offers.
    options : PredictOptions
        The budget, and a batch that is not to be changed.
    default : int
        Bytes where the options name no budget: a wish, more is taken where nothing less would do.
    limit : int or None
        Bytes that the process may have at all.
    known : sequence of int
        Sizes of blocks that an earlier run has left results of, in tiles a side, the one with most
        first: they are preferred to any other.

    Raises
    ------
    InvalidOption
        If the budget is not enough for anything; names the smallest that is.
    """
    while len(resources.gpus) > 1 and options.workers is None:
        with contextlib.suppress(InvalidOption):
            return _settle(plan, resources, options, default, limit, known)
        resources = resources.on(resources.gpus[:-1])
    return _settle(plan, resources, options, default, limit, known)


def _settle(
    plan: Plan,
    resources: Resources,
    options: PredictOptions,
    default: int,
    limit: int | None,
    known: Sequence[int],
) -> Choice:
    batches, under_way = [resources.batch], 0
    if options.batch == AUTO:
        batches = _halves(resources.batch)
    if options.batch == AUTO and options.scheduler is None:  # of its workers' cores nothing is known here
        under_way = TILES_A_REQUEST * (resources.network.requests or 0)
    asked = options.max_memory
    budget = default if asked == AUTO else min(asked, limit or asked)
    if found := first_within(choices(plan, resources, known, batches, under_way), budget):
        return found
    every = [*choices(plan, resources, _sides(plan), batches, under_way)]
    if found := first_within(every, budget):
        return found
    least = min(every, key=_total)
    if asked != AUTO and _total(least) > asked:
        raise InvalidOption(
            f"--max-memory {_megabytes(asked)}: this run needs {_megabytes(_total(least))} at least; "
            f"give that, or a smaller --tile{_fewer(resources)}"
        )
    if limit is not None and _total(least) > limit:
        raise InvalidOption(
            f"this run needs {_megabytes(_total(least))} of memory, more than the {_megabytes(limit)} "
            f"that it may have by the machine, its container or ulimit (of ulimit -v {_megabytes(ADDRESSES)} "
            f"are set aside for libraries); give a smaller --tile{_fewer(resources)}"
        )
    # A little above the least, so that a large model does not make all blocks tiny.
    return first_within(every, min(_total(least) * 5 // 4, limit or sys.maxsize)) or least


def choices(
    plan: Plan, resources: Resources, sides: Sequence[int], batches: Sequence[int], under_way: int = 0
) -> Iterator[Choice]:
    """Yield ways to do the run, the fastest first.

    Smaller blocks cost little, down to those of a single batch, of less a GPU or a CPU of many cores
    starves. Some threads more than a few gain little, a single one lets reading and inference wait for
    each other. So blocks give way first, then threads down to a few, then whole batches, then the rest.

    Parameters
    ----------
    sides : sequence of int
        Tiles along a side of a block, in the order of preference.
    batches : sequence of int
        Tiles a forward pass, in the order of preference.
    under_way : int
        Tiles that all threads are to have under way at a time: fewer threads take larger batches.
    """
    most = resources.threads
    few = min(most, FEWEST_THREADS)
    smaller = []
    for threads in range(most, few - 1, -1):
        batch = max(batches[0], math.ceil(under_way / threads))
        full = [side for side in sides if side**2 >= batch] or list(sides[:1])
        smaller += [(place, -threads, batch) for place, side in enumerate(sides) if side not in full]
        for side in full:
            yield _choice(plan, resources, side, batch, threads)
    for place, threads, batch in sorted(smaller):
        yield _choice(plan, resources, sides[place], batch, -threads)
    for side in sides[-1:]:
        for batch in batches[1:]:
            yield _choice(plan, resources, side, batch, few)
        for threads in range(few - 1, 0, -1):
            yield _choice(plan, resources, side, batches[-1], threads)


def _choice(plan: Plan, resources: Resources, side: int, batch: int, threads: int) -> Choice:
    """Return blocks of a size, and a batch that divides one evenly: a rest would waste a pass."""
    plan = replace(plan, tiles=replace(plan.tiles, block=side))
    tiles = min(side, len(plan.tiles.rows)) * min(side, len(plan.tiles.cols))
    passes = math.ceil(tiles / batch)
    return plan, resources.cut(batch=math.ceil(tiles / passes), threads=threads)


def first_within(candidates: Sequence[Choice] | Iterator[Choice], budget: int) -> Choice | None:
    """Return the first choice whose use of memory keeps a budget; None where there is none."""
    return next((choice for choice in candidates if _total(choice) <= budget), None)


def _sides(plan: Plan) -> range:
    return range(max(1, BLOCK_PIXELS // plan.tiles.rows.stride), 0, -1)


def _halves(batch: int) -> list[int]:
    return [batch >> step for step in range(batch.bit_length())]


def _total(choice: Choice) -> int:
    return memory_use(*choice).total


def _megabytes(size: int) -> str:
    """Return a size rounded up, so that to give it is enough."""
    return f"{math.ceil(size / MEGABYTE)}MB"


def _fewer(resources: Resources) -> str:
    return " or fewer --workers" if (resources.workers or 1) > 1 else ""
