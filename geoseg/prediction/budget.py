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
from geoseg.prediction.resources import FEWEST_THREADS_GPU, Resources

MEGABYTE = 10**6

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
    batches = _halves(resources.batch) if options.batch == AUTO else [resources.batch]
    asked = options.max_memory
    budget = default if asked == AUTO else min(asked, limit or asked)
    if found := first_within(choices(plan, resources, known, batches), budget):
        return found
    every = [*choices(plan, resources, _sides(plan), batches)]
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
    plan: Plan, resources: Resources, sides: Sequence[int], batches: Sequence[int]
) -> Iterator[Choice]:
    """Yield ways to do the run, the fastest first.

    Smaller blocks cost little, smaller batches next to nothing on a CPU, and a single thread lets
    reading and inference wait for each other: so the blocks give way first, then the batches, then the
    threads. On a GPU, which a block of less than a batch starves, some threads go before such blocks.

    Parameters
    ----------
    sides : sequence of int
        Tiles along a side of a block, in the order of preference.
    batches : sequence of int
        Tiles a forward pass, in the order of preference.
    """
    most = resources.threads
    few, full = most, list(sides)
    if resources.gpu:
        few = min(most, FEWEST_THREADS_GPU)
        full = [side for side in sides if side**2 >= batches[0]] or list(sides[:1])
    for threads in range(most, few - 1, -1):
        for side in full:
            yield _choice(plan, resources, side, batches[0], threads)
    for side in sides:
        if side not in full:
            yield _choice(plan, resources, side, batches[0], few)
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
