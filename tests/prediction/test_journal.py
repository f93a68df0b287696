from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.backends.base import BatchSize
from geoseg.errors import UnwritableOutput
from geoseg.grid import BlockIndex
from geoseg.prediction.blocks import Inferred, infer_pixels
from geoseg.prediction.journal import Journal
from geoseg.prediction.plan import Plan
from geoseg.prediction.schedulers import run_on_threads
from geoseg.prediction.tasks import pack_sums, unpack_sums
from geoseg.prediction.wiring import Work, read_block
from geoseg.testing import ReferencePredictor
from tests.plans import ArrayReader, Load, make_test_plan

SHAPE = (60, 75)


def reader(seed: int = 0) -> ArrayReader:
    pixels = np.random.default_rng(seed).random((1, *SHAPE)).astype(np.float32)
    return ArrayReader(pixels, pixels[0] > 0.1)


def infer(plan: Plan, block: BlockIndex, seed: int = 0, channels: int = 1) -> Inferred:
    pixels = read_block(plan, block, reader(seed))
    return infer_pixels(plan, block, pixels, ReferencePredictor(channels), BatchSize(2))


@settings(max_examples=15)
@given(st.integers(0, 100), st.sampled_from([1, 3]))
def test_a_record_gives_back_what_was_stored(tmp_path_factory: object, seed: int, channels: int) -> None:
    folder = Path(tmp_path_factory.mktemp("journal"))  # type: ignore[attr-defined]
    plan = make_test_plan(SHAPE, channels=channels)
    journal = Journal(folder / "journal", plan.digest)
    journal.begin()
    for block in plan.tiles.blocks():
        inferred = infer(plan, block, seed, channels)
        journal.store(block, pack_sums(inferred))
        again = journal.load(plan.tiles, block, unpack_sums)
        assert again is not None
        assert again.tally == inferred.tally
        for taker, share in inferred.shares.items():
            assert (again.shares[taker].sums == share.sums).all()
            assert (again.shares[taker].valid == share.valid).all()


def stored(tmp_path: Path) -> tuple[Journal, BlockIndex]:
    plan = make_test_plan(SHAPE)
    journal = Journal.beside(tmp_path / "out.gpkg", plan.digest)
    assert journal.begin() == 0
    block = next(plan.tiles.blocks())
    journal.store(block, pack_sums(infer(plan, block)))
    return journal, block


def test_a_damaged_record_is_not_believed(tmp_path: Path) -> None:
    journal, block = stored(tmp_path)
    grid = make_test_plan(SHAPE).tiles
    (record,) = journal.folder.glob("*.npz")
    whole = record.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:2000] + b"\xff" + whole[2001:], b""):
        record.write_bytes(damaged)
        assert journal.load(grid, block, unpack_sums) is None
    record.write_bytes(whole)
    assert journal.load(grid, block, unpack_sums) is not None


def test_records_of_another_plan_are_thrown_away(tmp_path: Path) -> None:
    journal, block = stored(tmp_path)
    other = make_test_plan(SHAPE, taper="linear")
    assert Journal(journal.folder, other.digest).load(other.tiles, block, unpack_sums) is None
    assert journal.begin() == 1
    assert Journal(journal.folder, other.digest).begin() == 0
    assert not list(journal.folder.iterdir())


def test_a_journal_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.npz").write_text("precious")
    journal = Journal.beside(tmp_path / "out.gpkg", "a" * 64)
    journal.folder.symlink_to(other)
    with pytest.raises(UnwritableOutput, match=r"it is a link.*--no-resume"):
        journal.begin()
    journal.remove()
    assert (other / "mine.npz").read_text() == "precious"


def test_only_records_are_deleted_from_a_journal(tmp_path: Path) -> None:
    journal, _ = stored(tmp_path)
    (tmp_path / "mine").write_text("precious")
    (journal.folder / "link.npz").symlink_to(tmp_path / "mine")
    for folder in ("folder", "folder.npz"):
        (journal.folder / folder).mkdir()
        (journal.folder / folder / "mine").write_text("precious")
    assert Journal(journal.folder, "b" * 64).begin() == 0
    journal.remove()
    assert {path.name for path in journal.folder.iterdir()} == {"folder", "folder.npz"}
    assert (journal.folder / "folder.npz" / "mine").read_text() == "precious"
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_journal_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path) -> None:
    journal, block = stored(tmp_path)
    plan = make_test_plan(SHAPE)
    journal.remove()
    journal.folder.write_text("in the way")
    journal.store(block, pack_sums(infer(plan, block)))
    with pytest.raises(UnwritableOutput, match="--no-resume"):
        journal.begin()


class Counting(ReferencePredictor):
    """Counts its tiles."""

    seen = 0

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
        Counting.seen += len(batch)
        return super().__call__(batch)


def test_work_begins_before_its_first_result_is_asked_for_and_ends_when_closed() -> None:
    began, plan = threading.Event(), make_test_plan(SHAPE, block=1)

    class Noticed(ReferencePredictor):
        def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
            began.set()
            return super().__call__(batch)

    stream = run_on_threads(Work(plan, reader(), Load(Noticed()), 2), 2, 3)
    assert began.wait(60)
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "geoseg-graph"]


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    plan = make_test_plan(SHAPE, block=1)
    journal = Journal.beside(tmp_path / "out.gpkg", plan.digest)
    journal.begin()
    work = Work(plan, reader(), Load(Counting()), 2, journal)
    whole = [
        result.raster.values for result in run_on_threads(replace(work, journal=None), 2, 3) if result.raster
    ]
    tiles = Counting.seen
    Counting.seen = 0
    first = run_on_threads(work, 2, 3)
    for _ in range(7):
        next(first)
    first.close()  # type: ignore[attr-defined]
    before = Counting.seen
    assert 7 <= before < tiles
    again = [result.raster.values for result in run_on_threads(work, 2, 3) if result.raster]
    assert Counting.seen == tiles
    assert all((a == b).all() for a, b in zip(whole, again, strict=True))
