"""What a run takes is computed, and a budget is kept or refused at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.backends.footprint import Footprint
from geoseg.errors import InvalidOption
from geoseg.grid import TileGrid
from geoseg.prediction.budget import FEWEST_THREADS, TILES_A_GPU, default_budget, fit_memory, fit_run
from geoseg.prediction.journal import Journal, kept_sides
from geoseg.prediction.options import PredictOptions, parse_memory
from geoseg.prediction.plan import Plan
from geoseg.prediction.resources import Machine, Resources, largest_side, memory_limit, memory_use
from tests.plans import make_test_plan

sides = st.integers(1, 200_000)
plans = st.builds(
    lambda height, width, tile, share, channels: make_test_plan(
        (height, width), tile=32 * tile, overlap=int(16 * tile * share), channels=channels
    ),
    sides,
    sides,
    st.integers(2, 32),
    st.floats(0, 1),
    st.integers(1, 4),
)
resources = st.builds(
    lambda threads, batch, workers, fixed, pixel: Resources(
        threads, (workers or 1) * threads + 1, batch, workers, network=Footprint(fixed, pixel, requests=4)
    ),
    st.integers(1, 8),
    st.integers(1, 64),
    st.none() | st.integers(1, 4),
    st.integers(0, 10**9),
    st.floats(0, 1000),
)


def fit(plan: Plan, machine: Resources, budget: int | str, **more: object) -> tuple[Plan, Resources]:
    options = PredictOptions(max_memory=budget)  # type: ignore[arg-type]
    return fit_memory(plan, machine, options, 10**9, **more)  # type: ignore[arg-type]


@settings(max_examples=60)
@given(plans, resources, st.integers(10**6, 10**10))
def test_a_budget_is_kept_or_refused_with_the_smallest_that_would_do(
    plan: Plan, machine: Resources, budget: int
) -> None:
    try:
        assert sum(memory_use(*fit(plan, machine, budget)).values()) <= budget
    except InvalidOption as error:
        named = parse_memory(str(error).partition("needs ")[2].split()[0])
        assert named > budget
        assert sum(memory_use(*fit(plan, machine, named)).values()) <= named
        with pytest.raises(InvalidOption):
            fit(plan, machine, named - 10**6)


@settings(max_examples=60)
@given(plans, resources)
def test_more_of_anything_takes_no_less(plan: Plan, machine: Resources) -> None:
    use = sum(memory_use(plan, machine).values())
    more = [
        (plan, dataclasses.replace(machine, threads=machine.threads + 1)),
        (plan, dataclasses.replace(machine, in_flight=machine.in_flight + 1)),
        (plan, dataclasses.replace(machine, batch=machine.batch + 1)),
        (dataclasses.replace(plan, wants_raster=False), machine),
    ]
    assert all(sum(memory_use(*other).values()) >= use for other in more[:3])
    assert sum(memory_use(*more[3]).values()) <= use


@given(st.integers(1, 3000), st.integers(1, 6))
def test_no_block_covers_more_than_the_largest_side(n: int, block: int) -> None:
    axis = make_test_plan((n, 50), tile=64, overlap=16).tiles.rows
    grid = TileGrid(axis, axis, block)
    extents = {grid.extent(index).height for index in grid.blocks()}
    assert max(extents) <= largest_side(axis, block) < max(extents) + axis.stride


def test_a_worker_is_counted_with_what_it_loads_and_only_where_it_has_work() -> None:
    """Measured: 113 MB of libraries, of 227 where a cluster is started; the sum was 450 MB too high."""
    machine = Resources(1, 3, 4, workers=2, network=Footprint(10**8))
    wide, small = make_test_plan((5000, 5000), tile=512, overlap=64), make_test_plan((400, 400), tile=512)
    for plan, busy in ((wide, 2), (small, 1)):
        parts = memory_use(plan, machine)
        assert parts["libraries"] == 560_000_000
        assert parts["model"] == (1 + busy) * 10**8
        more = memory_use(plan, dataclasses.replace(machine, workers=3, in_flight=4))
        assert more["libraries"] - parts["libraries"] == 150_000_000
        assert (more["blocks at work"] > parts["blocks at work"]) == (plan is wide)
        assert (more["file cache"] > parts["file cache"]) == (plan is wide)


def test_a_taller_scene_takes_no_more() -> None:
    machine = Resources(2, 3, 4)
    small, tall = (make_test_plan((rows, 20_000), tile=512, overlap=64) for rows in (7_680, 72_192))
    weights = sum(memory_use(tall, machine).values()) - sum(memory_use(small, machine).values())
    assert 0 <= weights < 5_000_000  # the weights of the rows' tiles


def test_without_a_budget_a_large_model_runs_in_what_it_needs() -> None:
    plan, large = make_test_plan((5000, 5000), tile=512, overlap=64), Footprint(3 * 10**9)
    machine = Resources(2, 3, 4, network=large)
    settled = sum(memory_use(*fit(plan, machine, "auto")).values())
    assert 3 * 10**9 < settled < 4.5 * 10**9
    with pytest.raises(InvalidOption, match="smaller --tile"):
        fit(plan, machine, "auto", limit=10**9)


def test_a_budget_beyond_what_the_process_may_have_is_cut_to_it_or_refused() -> None:
    plan, machine = make_test_plan((5000, 5000), tile=512, overlap=64), Resources(2, 3, 4)
    fitting = fit(plan, machine, 10**12, limit=6 * 10**8)
    assert sum(memory_use(*fitting).values()) <= 6 * 10**8
    assert sum(memory_use(*fit(plan, machine, 10**12)).values()) > 6 * 10**8
    with pytest.raises(InvalidOption, match=r"more than the 24MB that it may have .*ulimit"):
        fit(plan, machine, 7 * 10**8, limit=24 * 10**6)
    with pytest.raises(InvalidOption, match="--max-memory 20MB: this run needs"):
        fit(plan, machine, 2 * 10**7, limit=24 * 10**6)


def test_the_blocks_of_an_interrupted_run_are_kept_under_another_budget(tmp_path: Path) -> None:
    plan, out = make_test_plan((5000, 5000), tile=512, overlap=64), tmp_path / "out.gpkg"
    machine = Resources(2, 3, 4)
    old = plan.with_blocks(1)
    assert kept_sides(out, plan) == ()
    journal = Journal.beside(out, old.digest)
    journal.begin()
    (journal.folder / f"0_0-{old.digest[:16]}.npz").touch()
    (journal.folder / f"0_0-{'f' * 16}.npz").touch()
    known = kept_sides(out, plan)
    assert known == (1,)
    assert fit(plan, machine, 2 * 10**9)[0].tiles.block > 1
    assert fit(plan, machine, 2 * 10**9, known=known)[0].digest == old.digest


def test_the_limits_of_containers_count(tmp_path: Path) -> None:
    for name, place, file in (
        ("one", "4:memory:/a/b", "sys/fs/cgroup/memory/a/memory.limit_in_bytes"),
        ("two", "0::/a/b", "sys/fs/cgroup/a/memory.max"),
        ("hidden", "0::/a/b", "sys/fs/cgroup/memory.max"),
    ):
        root = tmp_path / name
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(f"1:cpu:/\n{place}\n")
        (root / file).parent.mkdir(parents=True)
        (root / file).write_text("12345678\n")
        assert memory_limit(root) == 12345678
        (root / file).write_text("max\n")
        assert memory_limit(root) == memory_limit(tmp_path)
    assert default_budget(10**9) == 250_000_000
    assert default_budget(None) == default_budget(10**12) == 2 * 10**9
    assert default_budget(None, workers=4) == 2 * 10**9
    assert default_budget(10**12, cuda=10**9) == 3 * 10**9
    assert default_budget(10**12, cuda=10**9, workers=4) == 4 * 2 * 10**9 + 5 * 10**9
    assert default_budget(8 * 10**9, cuda=10**9, workers=4) == 2 * 10**9


@settings(max_examples=60)
@given(plans, resources, st.integers(10**8, 10**10))
def test_a_batch_divides_a_block_evenly(plan: Plan, machine: Resources, budget: int) -> None:
    try:
        chosen, fitted = fit(plan, machine, budget)
    except InvalidOption:
        return
    grid = chosen.tiles
    tiles = min(grid.block, len(grid.rows)) * min(grid.block, len(grid.cols))
    fed = -(-2 * (machine.network.requests or 0) // fitted.threads)
    assert fitted.batch <= min(max(machine.batch, fed), tiles)
    passes = -(-tiles // fitted.batch)
    assert passes * (fitted.batch - 1) < tiles  # one tile less would not do


@pytest.mark.parametrize("side", [8192, 40_000])
@pytest.mark.parametrize("cores", [1, 2, 4, 6, 8, 12, 16])
def test_all_cores_of_a_machine_are_given_tiles(side: int, cores: int) -> None:
    plan = make_test_plan((side, side), tile=608, overlap=64)
    network = Footprint(115 * 10**6, 157.0, requests=cores)  # the default model's

    def chosen(memory: int | str, **more: int) -> tuple[Plan, Resources]:
        options = PredictOptions(max_memory=memory, **more)  # type: ignore[arg-type]
        return fit_run(plan, options, "cpu", network, Machine(cores))

    _, usual = chosen("auto")
    assert usual.threads * usual.batch >= min(cores, 12)
    assert usual.threads >= min(FEWEST_THREADS, cores + 1)
    rich, fed = chosen(10**11)
    assert fed.threads * fed.batch >= 1.5 * cores
    assert (rich.tiles.block, fed.threads) == (3, min(cores + 1, 8))
    assert chosen(10**11, batch=1)[1].batch == 1


@pytest.mark.parametrize("side", [4096, 16_384, 40_000, 200_000])
@pytest.mark.parametrize("gpus", [1, 4])
def test_a_gpu_gets_whole_batches_before_many_threads(side: int, gpus: int) -> None:
    plan = make_test_plan((side, side), tile=736, overlap=64)
    machine = Machine(16, tuple(map(str, range(gpus))))
    fitted, chosen = fit_run(plan, PredictOptions(), "cuda", Footprint(2 * 10**9), machine)
    used = min(gpus, max(1, len(plan.tiles.rows) ** 2 // TILES_A_GPU))
    assert chosen.workers == (used if used > 1 else None)
    assert (fitted.tiles.block, chosen.batch) == (3, 9)  # the largest that there is
    assert chosen.threads >= FEWEST_THREADS
