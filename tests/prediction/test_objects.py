"""Objects of a perfect detector: each comes out once and whole, however the scene is tiled."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
import rasterio.features
import shapely.geometry
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.backends.base import BatchSize, Detection, Detector
from geoseg.errors import OutOfDeviceMemory
from geoseg.grid import BlockIndex, Tile
from geoseg.prediction.plan import Plan
from geoseg.prediction.resources import Resources
from geoseg.prediction.schedulers import Scheduler
from geoseg.prediction.tasks import TASKS, infer_objects, pack_objects, place, unpack_objects
from geoseg.prediction.wiring import Work, read_block
from geoseg.values import Window
from geoseg.vector.pieces import Piece
from tests.plans import ArrayReader, Load, make_test_plan

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Seer:
    """Finds every object perfectly: bit i of a pixel says that it is part of object i."""

    name: str = "seer"
    device: str = "cpu"
    normalizes: bool = False

    def __call__(self, batch: NDArray[np.float32]) -> list[list[Detection]]:
        return [self._tile(tile[0].astype(np.int64)) for tile in batch]

    def _tile(self, bits: NDArray[np.int64]) -> list[Detection]:
        whole = Window(0, 0, *bits.shape)
        masks = [(number, bits >> number & 1) for number in range(20)]
        return [
            Detection(1, 0.6 + number / 100, whole, np.uint8(255) * mask.astype(np.uint8))
            for number, mask in masks
            if mask.any()
        ]


@dataclass(frozen=True)
class Wobbler(Seer):
    """Sees an object otherwise in each tile: shifted, scored otherwise, not at all, in two, with the next."""

    def _tile(self, bits: NDArray[np.int64]) -> list[Detection]:
        rng, found = np.random.default_rng(zlib.crc32(bits.tobytes())), list[Detection]()
        for one in super()._tile(bits):
            how, part = rng.integers(6), bool(rng.integers(2))
            values = [one.values]
            if how == 1:
                values = [np.roll(one.values, 1, axis=int(part))]
            elif how == 2:
                values = []
            elif how == 3:
                half = np.arange(len(one.values))[:, None] < np.flatnonzero(one.values.any(axis=1)).mean()
                values = [one.values * half, one.values * ~half]
            elif how == 4 and found:
                values = [np.maximum(found.pop().values, one.values)]
            score = one.score + rng.integers(3) / 100
            found += [Detection(1 + part, score, one.window, each) for each in values]
        return found


@dataclass(frozen=True)
class Cramped(Seer):
    """Has memory for two tiles at a time."""

    def __call__(self, batch: NDArray[np.float32]) -> list[list[Detection]]:
        if len(batch) > 2:
            raise OutOfDeviceMemory("full")
        return super().__call__(batch)


@dataclass(frozen=True)
class Reader(Seer):
    """Finds every object perfectly: a pixel is the number of the one that it is part of."""

    def _tile(self, bits: NDArray[np.int64]) -> list[Detection]:
        return [
            Detection(1, 0.9, Window(*(part.start for part in box), *mask.shape), np.uint8(255) * mask)
            for number, box in enumerate(ndimage.find_objects(bits), 1)
            if box is not None
            for mask in [bits[box] == number]
        ]


def rectangle(draw: st.DrawFn, shape: tuple[int, int], largest: int) -> tuple[slice, slice]:
    spans = []
    for side in shape:
        start = draw(st.integers(0, side - 1))
        spans.append(slice(start, draw(st.integers(start + 1, min(side, start + largest)))))
    return spans[0], spans[1]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Mask], Mask]:
    """Objects that touch, lie in holes of or within others, and ground without data beside them."""
    shape = draw(st.integers(20, 90)), draw(st.integers(20, 90))
    free, masks = np.ones(shape, bool), []
    for _ in range(draw(st.integers(1, 9))):
        rows, cols = rectangle(draw, shape, draw(st.sampled_from([6, 12, 40, 90])))
        mask = np.zeros(shape, bool)
        mask[rows, cols] = True
        hole = draw(st.integers(0, 3))
        mask[rows.start + hole : rows.stop - hole, cols.start + hole : cols.stop - hole] &= not hole
        mask &= free
        if not mask.any() or ndimage.label(mask)[1] != 1:
            continue
        free &= ~mask
        masks.append(mask)
        inner = ndimage.binary_erosion(mask, iterations=2)
        if draw(st.booleans()) and ndimage.label(inner)[1] == ndimage.label(mask & ~inner)[1] == 1:
            masks.append(inner)
    valid = np.ones(shape, bool)
    for _ in range(draw(st.integers(0, 2))):
        valid[rectangle(draw, shape, 40)] = False
    return masks, valid | ~free


@st.composite
def tilings(draw: st.DrawFn, shape: tuple[int, int]) -> Plan:
    tile = draw(st.sampled_from([16, 24, 32]))
    overlap = draw(st.integers(3, tile // 2))
    return object_plan(shape, tile=tile, overlap=overlap, block=draw(st.integers(1, 3)))


def object_plan(shape: tuple[int, int], *, tile: int, overlap: int, block: int) -> Plan:
    plan = make_test_plan(shape, tile=tile, overlap=overlap, block=block, outline="pixel")
    return replace(plan, task="instance", wants_raster=False)


def reader(masks: list[Mask], valid: Mask) -> ArrayReader:
    """Return a scene whose pixels tell a `Seer` the objects that they are part of."""
    bits = sum(
        (mask.astype(np.float32) * 2**i for i, mask in enumerate(masks)), np.zeros(valid.shape, np.float32)
    )
    return ArrayReader(bits[None], valid)


def run(
    plan: Plan,
    masks: list[Mask],
    valid: Mask,
    *,
    batch: int = 3,
    threads: int = 2,
    detector: Detector | None = None,
) -> list[Piece]:
    pieces = merged(Work(plan, reader(masks, valid), Load(detector or Seer()), batch), threads)  # type: ignore[arg-type]
    return sorted(pieces, key=lambda piece: piece.evidence.first_pixel)


def merged(work: Work, threads: int) -> list[Piece]:
    plan, batch = work.plan, work.batch
    merger, pieces = TASKS[plan.task].merger(plan), list[Piece]()
    with Scheduler() as scheduler, scheduler.results(work, Resources(threads, threads + 1, batch)) as stream:
        for result in stream:
            pieces += merger.add(result.pieces)
    merger.finish()
    return pieces


def outlines(masks: list[Mask]) -> list[shapely.Polygon]:
    """Return what is to come out, by an independent tracer; what lies within another cuts a hole into it."""
    result = []
    for mask in masks:
        left = mask.copy()
        for other in masks:
            if (other & mask).sum() == other.sum() < mask.sum():
                left &= ~other
        (shape,) = (
            s for s, value in rasterio.features.shapes(left.astype(np.uint8), connectivity=4) if value
        )
        result.append(shapely.geometry.shape(shape))
    return result


@settings(max_examples=60)
@given(st.data())
def test_every_object_comes_out_once_and_whole_for_any_tiling(data: st.DataObject) -> None:
    masks, valid = data.draw(scenes())
    plan = data.draw(tilings(valid.shape))
    pieces = run(plan, masks, valid)
    expected = outlines(masks)
    assert len(pieces) == len(expected)
    left = list(expected)
    for piece in pieces:
        (same,) = (one for one in left if one.equals(piece.polygon))
        left.remove(same)
        number = expected.index(same)
        assert piece.evidence.pixels == same.area
        assert piece.evidence.confidence == pytest.approx(0.6 + number / 100, abs=1e-4)
        bounds = np.array(same.bounds)
        height, width = valid.shape
        assert piece.evidence.touches_edge == bool((bounds == [0, 0, width, height]).any())
        around = ndimage.binary_dilation(
            rasterio.features.rasterize([same], valid.shape, dtype=np.uint8), np.ones((3, 3))
        )
        assert piece.evidence.touches_nodata == bool((around & ~valid).any())


@pytest.mark.parametrize("detector", [Seer(), Wobbler()])
@settings(max_examples=15)
@given(st.data(), st.integers(1, 3), st.integers(1, 5), st.integers(1, 3))
def test_blocks_batches_and_threads_change_nothing(
    detector: Detector, data: st.DataObject, block: int, batch: int, threads: int
) -> None:
    masks, valid = data.draw(scenes())
    plan = data.draw(tilings(valid.shape))
    first = run(plan, masks, valid, detector=detector)
    second = run(plan.with_blocks(block), masks, valid, batch=batch, threads=threads, detector=detector)
    assert [(p.label, p.evidence, p.polygon.wkb) for p in first] == [
        (p.label, p.evidence, p.polygon.wkb) for p in second
    ]


@settings(max_examples=10)
@given(st.data())
def test_the_journal_gives_back_what_was_found(data: st.DataObject) -> None:
    masks, valid = data.draw(scenes())
    plan = data.draw(tilings(valid.shape))
    for block in plan.tiles.blocks():
        pixels = read_block(plan, block, reader(masks, valid))
        found = infer_objects(plan, block, pixels, Seer(), BatchSize(2))
        again = unpack_objects(pack_objects(found), plan.tiles, block)
        assert again.tally == found.tally
        for one, two in zip(found.tiles, again.tiles, strict=True):
            assert one.tile == two.tile
            for seen, known in zip(one.seen, two.seen, strict=True):
                assert (seen.label, seen.score, seen.window) == (known.label, known.score, known.window)
                np.testing.assert_array_equal(seen.values, known.values)
                np.testing.assert_array_equal(seen.valid, known.valid)
    with pytest.raises(ValueError, match="another block"):
        unpack_objects(pack_objects(found), plan.tiles, BlockIndex(9, 9))


def test_a_batch_that_does_not_fit_is_halved_and_changes_nothing() -> None:
    masks = [np.zeros((60, 60), bool) for _ in range(3)]
    masks[0][3:30, 5:20] = masks[1][33:50, 5:50] = masks[2][50:60, 20:40] = True
    plan = object_plan((60, 60), tile=24, overlap=12, block=4)
    (block,) = plan.tiles.blocks()
    pixels, batch = read_block(plan, block, reader(masks, np.ones((60, 60), bool))), BatchSize(8)
    whole = pack_objects(infer_objects(plan, block, pixels, Seer(), BatchSize(8)))
    halved = infer_objects(plan, block, pixels, Cramped(), batch)
    assert halved.tally.shrunk_batch == batch.value == 2
    for name, values in pack_objects(halved).items():
        np.testing.assert_array_equal(values, whole[name])


def test_a_tile_that_cannot_be_read_takes_what_lies_in_it_alone() -> None:
    masks = [np.zeros((60, 60), bool) for _ in range(3)]
    masks[0][2:10, 2:10] = masks[1][40:50, 3:14] = masks[2][28:33, 28:33] = True
    plan = object_plan((60, 60), tile=24, overlap=8, block=2)
    whole = run(plan, masks, np.ones((60, 60), bool))
    scene = replace(reader(masks, np.ones((60, 60), bool)), broken=masks[2])
    left = merged(Work(plan, scene, Load(Seer()), 3), 2)  # type: ignore[arg-type]
    assert {piece.polygon for piece in left} == {piece.polygon for piece in whole[:1] + whole[2:]}
    assert len(whole) == 3


def test_what_is_found_in_the_mirror_image_alone_is_no_object() -> None:
    """A scene smaller than a tile is mirrored beyond its edges."""
    tile, scene = Tile(0, 0, Window(0, 0, 32, 32)), Window(0, 0, 20, 24)
    beside, below, across = (Window(3, 26, 5, 4), Window(25, 3, 4, 5), Window(10, 20, 6, 9))
    places = [
        place(
            Detection(1, 0.9, window, np.full(window.shape, 255, np.uint8)),
            tile,
            scene,
            np.ones(scene.shape, bool),
        )
        for window in (beside, below, across)
    ]
    assert [seen and seen.window for seen in places] == [None, None, Window(10, 20, 6, 4)]


@pytest.mark.slow
def test_of_5000_objects_none_is_doubled_cut_or_missed() -> None:
    """On 8192 x 8192 pixels; ten are longer than a tile, some lie in a hole of another."""
    side, count, rng = 8192, 5000, np.random.default_rng(1)
    numbers, number = np.zeros((1, side, side), np.uint16), 0
    while number < count:
        height, width = rng.integers(6, 90, 2) if number % 500 else (rng.integers(300, 1500), 40)
        row, col = rng.integers(0, side - height), rng.integers(0, side - width)
        spot = numbers[0, row : row + height, col : col + width]
        if not spot.any():
            number += 1
            spot[:] = number
            if number % 3 == 0 and min(height, width) > 12:
                number += 1
                spot[4:-4, 4:-4] = number
    plan = object_plan((side, side), tile=512, overlap=128, block=4)
    scene = ArrayReader(numbers, np.ones((side, side), bool))  # type: ignore[arg-type]
    pieces = merged(Work(plan, scene, Load(Reader()), 4), 2)  # type: ignore[arg-type]
    assert len(pieces) == number
    found = {int(numbers.flat[piece.evidence.first_pixel]): piece.polygon.area for piece in pieces}
    assert [found.get(one) for one in range(1, number + 1)] == np.bincount(numbers.flat)[1:].tolist()
