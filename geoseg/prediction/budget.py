"""Choosing the resources of a run, and fitting it into memory: blocks, threads, tiles a pass. Pure."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from geoseg.backends.footprint import NOTHING, Footprint
from geoseg.errors import InvalidOption
from geoseg.prediction.options import AUTO, PredictOptions
from geoseg.prediction.plan import BLOCK_PIXELS, Plan
from geoseg.prediction.resources import ADDRESSES, Machine, Resources, memory_use

BATCH_PIXELS = 3 << 19
"""Pixels of a batch on the CPU: enough that its end, where the engine runs dry, comes seldom."""

GPU_BATCH = 16
"""Tiles of a batch on a GPU."""

MOST_THREADS = 8
"""Threads of a run in one process: one more than cores, as most wait for the backend, which has threads of
its own. To read, cut, blend and trace, a thread takes a second for 25 megapixels; more than these are in
each other's way, and a large machine takes several processes better."""

FEWEST_THREADS = 3
"""Threads that keep a backend busy for most of the time, and blocks that a process infers on a GPU at once:
as many as batches are under way to it and back."""

TILES_A_GPU = 2000
"""Tiles that are worth another GPU: about what one does while another's process starts, for which ten
seconds are assumed."""

MEGABYTE = 10**6

DEFAULT_MEMORY = 2 * 10**9
"""Largest default budget of a run in bytes; on several GPUs, for each of them."""

DEFAULT_SHARE = 4
"""The default budget is at most the memory divided by this: a quarter."""

TILES_A_REQUEST = 2
"""Tiles that are under way for each that the backend works at a time: one that is worked, one that waits.
Fewer leave cores of a large machine without work."""

Choice = tuple[Plan, Resources]


def fit_run(
    plan: Plan,
    options: PredictOptions,
    device: str,
    network: Footprint,
    machine: Machine,
    known: Sequence[int] = (),
) -> Choice:
    """Choose the size of blocks and the resources of a run, so that it keeps its budget of memory.

    Of several GPUs, none of which the options name, as many are used as the budget has room for processes.

    Parameters
    ----------
    plan : Plan
        With blocks of any size.
    options : PredictOptions
        The budget, and what is not to be changed.
    device : str
        Where the model runs, as the predictor names it.
    network : Footprint
        What the model takes in each process.
    known : sequence of int
        Sizes of blocks that an earlier run has left results of, in tiles a side, the one with most
        first: they are preferred to any other.

    Raises
    ------
    InvalidOption
        If the budget is not enough for anything; names the smallest that is.
    """
    tiles = len(plan.tiles.rows) * len(plan.tiles.cols)
    gpus = choose_gpus(options, machine.gpus, device, tiles)
    while True:
        offered = replace(machine, gpus=gpus)
        resources = choose_resources(options, plan.tiles.rows.size, device, offered, network)
        cuda = network.fixed if resources.gpu else 0
        default = default_budget(machine.memory, cuda=cuda, workers=resources.workers or 0)
        if len(gpus) < 2 or options.workers is not None:
            return fit_memory(plan, resources, options, default, machine.memory, known)
        with contextlib.suppress(InvalidOption):
            return fit_memory(plan, resources, options, default, machine.memory, known)
        gpus = gpus[:-1]


def choose_resources(
    options: PredictOptions, tile: int, device: str, machine: Machine, network: Footprint = NOTHING
) -> Resources:
    """Choose threads, processes, GPUs and batch where the options leave them open.

    Parameters
    ----------
    tile : int
        Side of a tile in pixels.
    device : str
        Where the model runs, as the predictor names it.
    machine : Machine
        Its GPUs are those that `choose_gpus` says.
    network : Footprint
        What the model takes in each process.

    Examples
    --------
    >>> chosen = choose_resources(PredictOptions(), 512, "cpu", Machine(cores=4))
    >>> chosen.threads, chosen.in_flight, chosen.batch
    (5, 6, 6)
    """
    usual = GPU_BATCH if device.startswith("cuda") else max(1, BATCH_PIXELS // tile**2)
    batch = usual if options.batch == AUTO else options.batch
    workers, gpus = options.workers, machine.gpus
    if workers is None:  # a process for each of several GPUs; one GPU needs none
        gpus = gpus if len(gpus) > 1 else ()
        workers, cores = len(gpus) or None, max(1, machine.cores // max(1, len(gpus)))
        threads = min(cores + 1, MOST_THREADS)
    else:
        gpus, threads = gpus[:workers], min(max(1, machine.cores // workers), MOST_THREADS)
    in_flight = (workers or 1) * threads + 1
    return Resources(
        threads, in_flight, batch, workers, options.scheduler, device, gpus, network, machine.cache
    )


def choose_gpus(options: PredictOptions, found: tuple[str, ...], device: str, tiles: int) -> tuple[str, ...]:
    """Return the GPUs that the processes of a run share out.

    All that were found where none of them was named (``--device auto`` or ``cuda``); one for each
    `TILES_A_GPU` tiles where the number of processes was not asked for either. None on a CPU, on one GPU
    that was named, and for a cluster that runs already: its workers have theirs.

    Examples
    --------
    >>> choose_gpus(PredictOptions(), ("0", "1"), "cuda", tiles=2 * TILES_A_GPU)
    ('0', '1')
    >>> choose_gpus(PredictOptions(), ("0", "1"), "cuda", tiles=10)
    ('0',)
    >>> choose_gpus(PredictOptions(), ("0", "1"), "cuda:1", tiles=2 * TILES_A_GPU)
    ()
    """
    if device != "cuda" or options.scheduler is not None:
        return ()
    return found if options.workers else found[: max(1, tiles // TILES_A_GPU)]


def default_budget(limit: int | None, *, cuda: int = 0, workers: int = 0) -> int:
    """Return the budget of a run that was given none, in bytes.

    Parameters
    ----------
    limit : int or None
        What the process may have at most: whatever else, no more than the share of it is taken.
    cuda : int
        Bytes that CUDA takes of the host in each process, which alone is about as much as
        `DEFAULT_MEMORY`; 0 on a CPU.
    workers : int
        Processes beside this one that each serve a GPU.

    Examples
    --------
    >>> default_budget(4 * 10**9)
    1000000000
    """
    wanted = DEFAULT_MEMORY * max(1, workers if cuda else 1) + cuda * (1 + workers)
    return wanted if limit is None else min(wanted, limit // DEFAULT_SHARE)


def fit_memory(
    plan: Plan,
    resources: Resources,
    options: PredictOptions,
    default: int,
    limit: int | None = None,
    known: Sequence[int] = (),
) -> Choice:
    """Choose the size of blocks, and cut the resources, so that the run keeps its budget.

    Parameters and errors are those of `fit_run`, and

    resources : Resources
        What the machine offers.
    default : int
        Bytes where the options name no budget: a wish, more is taken where nothing less would do.
    limit : int or None
        Bytes that the process may have at all.
    """
    batches, under_way = [resources.batch], 0
    if options.batch == AUTO:
        batches = [resources.batch >> step for step in range(resources.batch.bit_length())]
    if options.batch == AUTO and options.scheduler is None:  # of its workers' cores nothing is known here
        under_way = TILES_A_REQUEST * (resources.network.requests or 0)
    asked = options.max_memory
    budget = default if asked == AUTO else min(asked, limit or asked)
    if found := first_within(choices(plan, resources, known, batches, under_way), budget):
        return found
    sides = range(max(1, BLOCK_PIXELS // plan.tiles.rows.stride), 0, -1)
    every = [*choices(plan, resources, sides, batches, under_way)]
    if found := first_within(every, budget):
        return found
    least = min(every, key=_total)
    fewer = " or fewer --workers" if (resources.workers or 1) > 1 else ""
    if asked != AUTO and _total(least) > asked:
        given = _megabytes(asked) if asked >= MEGABYTE else f"{asked} bytes"
        raise InvalidOption(
            f"--max-memory {given}: this run needs {_megabytes(_total(least))} at least; "
            f"give that, or a smaller --tile{fewer}"
        )
    if limit is not None and _total(least) > limit:
        raise InvalidOption(
            f"this run needs {_megabytes(_total(least))} of memory, more than the {_megabytes(limit)} "
            f"that it may have by the machine, its container or ulimit (of ulimit -v {_megabytes(ADDRESSES)} "
            f"are set aside for libraries); give a smaller --tile{fewer}"
        )
    # A little above the least, so that a large model does not make all blocks tiny.
    return first_within(every, min(_total(least) * 5 // 4, limit or sys.maxsize)) or least


def choices(
    plan: Plan, resources: Resources, sides: Sequence[int], batches: Sequence[int], under_way: int = 0
) -> Iterator[Choice]:
    """Yield ways to do the run, the fastest first.

    Blocks shrink first, but not below one batch: smaller blocks leave the device idle. Then threads go
    down to a few; with a single one, reading and inference wait for each other. Then blocks shrink
    further, then batches, then the last threads go.

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
    plan = plan.with_blocks(side)
    tiles = min(side, len(plan.tiles.rows)) * min(side, len(plan.tiles.cols))
    batch = math.ceil(tiles / math.ceil(tiles / batch))
    in_flight = (resources.workers or 1) * threads + 1
    return plan, replace(resources, batch=batch, threads=threads, in_flight=in_flight)


def first_within(candidates: Iterable[Choice], budget: int) -> Choice | None:
    """Return the first choice whose use of memory keeps a budget; None where there is none."""
    for choice in candidates:
        if _total(choice) <= budget:
            return choice
    return None


def _total(choice: Choice) -> int:
    return sum(memory_use(*choice).values())


def _megabytes(size: int) -> str:
    """Return a size rounded up, so that to give it is enough."""
    return f"{math.ceil(size / MEGABYTE)}MB"
