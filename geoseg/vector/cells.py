"""How outlines cross a cell of four pixel centres: marching squares for any number of classes.

Corners and sides of a cell are numbered in the order that keeps the inside on the left in the
(col, row) plane::

    corner 0 ── side 0 ── corner 1
       │                     │
    side 3                side 1
       │                     │
    corner 3 ── side 2 ── corner 2

A side whose corners have different labels, or a cut between them, holds one *crossing*. Every part
of a cell, of a label or cut off, is bounded by *half-edges*, each from the crossing after the part's
last corner to another crossing, with the part on its left. So from every crossing of every cell one
half-edge starts, with the label of the corner before it, and one ends, with that of the corner after it.

The smooth outline puts crossings where the linearly interpolated probabilities are equal (Lorensen
and Cline, 1987), and half-way along a cut. Three or four labels meet at the mean of their crossings,
four parts at the middle of the cell where there is a cut. Around invalid pixels
and at the scene's edge, where there is nothing to interpolate, an outline runs from its last
crossing straight to the nearest point of the invalid quarter pixels and then along their exact edge:
the polygons of all labels partition the valid area exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.samples import Changes, Floats, Index, Labels, Samples

Byte = TypeVar("Byte", np.int8, np.uint8)

_RIGHT, _DOWN = np.array([0, 1, 0, 0]), np.array([0, 0, 1, 0])
"""Columns and rows from a cell's upper left sample to the first (upper or left) one of each side."""

_SIDES = np.unpackbits(np.arange(16, dtype=np.uint8)[:, None], axis=1, bitorder="little")[:, :4]
"""Whether each side is in a set of sides, per set; sets of sides, or corners, are bits of a number."""


_BEFORE = (np.arange(4)[:, None] - np.arange(1, 5)) % 4
"""The sides before each side, the nearest first, itself last."""

_PREVIOUS = _BEFORE[np.arange(4), _SIDES[:, _BEFORE].argmax(axis=2)].astype(np.int8)
"""The crossed side before each side, per set of crossed sides."""


def _rows(table: NDArray[Byte], pattern: NDArray[np.uint8]) -> NDArray[Byte]:
    """Return the rows of a table of 16 x 4 bytes, four bytes at a time."""
    return table.view(np.uint32)[:, 0].take(pattern).view(table.dtype).reshape(-1, 4)


@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """The cells that an outline of a class crosses."""

    index: Index
    """int64, shape (n,). Flat index of each cell's upper left sample, increasing."""
    bounding: NDArray[np.bool_]
    """bool, shape (n, 4). Whether the side is crossed, with a class at its first corner: a half-edge of that
    class starts here."""
    valid: NDArray[np.bool_]
    """bool, shape (n, 4). Whether both corners of the side are valid."""
    target: NDArray[np.int8]
    """int8, shape (n, 4). The side where the half-edge ends that starts at this one."""
    via: Via
    """Vertices of half-edges inside the cells."""


@dataclass(frozen=True, eq=False, slots=True)
class Via:
    """Vertices between the ends of half-edges, in order."""

    owner: Index
    """int64, shape (n,). ``4 * cell + side`` of the half-edge, increasing; cells counted in their list."""
    points: Floats
    """float64, shape (n, 2)."""


def cross_cells(samples: Samples, changes: Changes, *, smooth: bool) -> Cells:
    """Find the cells that outlines of classes cross, and how."""
    index, corners = _bounding(samples, changes.cells)
    crossed = _bits([one != two for one, two in zip(corners, [*corners[1:], corners[0]], strict=True)])
    cut = _cut_sides(samples, index)
    crossed |= cut
    of_class = _bits([corner > 0 for corner in corners])
    ok = _bits([corner >= 0 for corner in corners])
    target = _rows(_PREVIOUS, crossed)
    bounding = _rows(_SIDES, crossed & of_class).view(bool)
    valid = _rows(_SIDES, ok & np.asarray(ok >> 1 | (ok & 1) << 3, np.uint8)).view(bool)
    if smooth:
        via = _smooth(samples, index, corners, crossed, target, cut)
    else:
        # Where a cut or a border begins or forks, who goes straight on passes where others turn.
        highest = np.maximum(np.maximum(*corners[:2]), np.maximum(*corners[2:]))
        several = np.any([(corner > 0) & (corner < highest) for corner in corners], axis=0)
        forks = (several | (cut > 0)) & (_SIDES.sum(axis=1) >= 3)[crossed]
        owner = np.flatnonzero(bounding & ((target != np.arange(2, 6) % 4) | forks[:, None]))
        via = Via(owner, centers(samples, index[owner // 4]))
    return Cells(index, bounding, valid, target, via)


def _bounding(samples: Samples, index: Index) -> tuple[Index, list[Labels]]:
    """Return the cells with a class at a corner, and the labels at each of their corners."""
    flat, stride = samples.labels.ravel(), samples.stride
    corners = [flat.take(index + step) for step in (0, 1, stride + 1, stride)]
    bounding = np.maximum(np.maximum(*corners[:2]), np.maximum(*corners[2:])) > 0
    if bounding.all():
        return index, corners
    return index[bounding], [corner[bounding] for corner in corners]


def _cut_sides(samples: Samples, index: Index) -> NDArray[np.uint8]:
    """Return the sides of cells that are cut, a set of sides a cell."""
    if samples.cuts is None:
        return np.zeros(len(index), np.uint8)
    first = [index, index + 1, index + samples.stride, index]
    return _bits([samples.is_cut(one, side % 2 == 0) for side, one in enumerate(first)])


def _bits(flags: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Pack four flags a cell into a number."""
    one, two, three, four = [flag.view(np.uint8) for flag in flags]
    return np.asarray(one | two << 1 | three << 2 | four << 3, np.uint8)


def centers(samples: Samples, cell: Index) -> Floats:
    """Return the middle of cells, a pixel corner, as (col, row)."""
    rows, cols = samples.places(cell)
    return np.column_stack([cols + (samples.col + 1.0), rows + (samples.row + 1.0)])


def crossings(samples: Samples, cell: Index, side: Index) -> tuple[Floats, Floats]:
    """Return where outlines cross sides of cells whose ends are both valid.

    A crossing depends on the two samples alone and is computed from the upper or left one, so both
    cells of a side, and both regions of a seam, get the same bits.

    Returns
    -------
    points : ndarray of float64, shape (n, 2)
        As (col, row).
    balance : ndarray of float64, shape (n,)
        Sum of the leads of the first sample's label at both ends.
    """
    rows, cols = samples.places(cell)
    rows, cols = rows + _DOWN.take(side), cols + _RIGHT.take(side)
    across = side & 1 == 0
    here, there = samples.leads(rows, cols, across)
    along = here / (here - there)
    points = np.empty((len(cell), 2))
    np.add(cols + (samples.col + 0.5), along * across, out=points[:, 0])
    np.add(rows + (samples.row + 0.5), along * ~across, out=points[:, 1])
    return points, here + there


def _smooth(
    samples: Samples,
    index: Index,
    corners: list[Labels],
    crossed: NDArray[np.uint8],
    target: NDArray[np.int8],
    cut: NDArray[np.uint8],
) -> Via:
    """Choose the vertices inside cells; correct `target` where opposite corners are connected."""
    outline = np.minimum(np.minimum(*corners[:2]), np.minimum(*corners[2:])) < 0
    several = ~outline & (_SIDES.sum(axis=1) >= 3)[crossed]
    paired = several & (crossed == 15) & ((corners[0] == corners[2]) | (corners[1] == corners[3]))
    paired &= cut == 0
    saddle = np.flatnonzero(paired)
    target[saddle] = _connected(_saddle_corner(samples, index[saddle], _at(corners, saddle)))
    meeting, edge = np.flatnonzero(several & ~paired), np.flatnonzero(outline)
    vias = []
    if len(meeting):
        middle = (crossed[meeting] == 15) & (cut[meeting] > 0)
        vias.append(_junctions(samples, meeting, index, _SIDES[crossed].view(bool), middle))
    if len(edge):
        crosses = _SIDES[crossed[edge]].view(bool)
        vias.append(_along_outline(samples, edge, index, _at(corners, edge), crosses, target))
    if not vias:
        return Via(np.empty(0, np.int64), np.empty((0, 2)))
    owner = np.concatenate([via.owner for via in vias])
    order = np.argsort(owner, kind="stable")
    return Via(owner[order], np.concatenate([via.points for via in vias])[order])


def _at(corners: list[Labels], chosen: Index) -> Labels:
    """Return the labels at the corners of chosen cells, a cell a row."""
    return np.stack([corner[chosen] for corner in corners], axis=1)


def _connected(corner: Index) -> NDArray[np.int8]:
    """Return the targets of cells with four crossings whose corners `corner` and + 2 are connected."""
    sides = np.arange(4)
    joined = (sides - corner[:, None]) % 2 == 0
    return np.where(joined, sides + 1, sides - 1).astype(np.int8) % 4


def _saddle_corner(samples: Samples, cell: Index, corners: Labels) -> Index:
    """Return 0 or 1: which of two pairs of opposite corners is connected through the cell.

    The only pair with equal labels; of two such pairs the label that leads in the mean of the cell,
    the lower label where neither leads.
    """
    same = corners[:, :2] == corners[:, 2:]
    balance = [crossings(samples, cell, np.full(len(cell), side))[1] for side in range(4)]
    first_leads = balance[0] - balance[1] - balance[2] + balance[3]
    higher = corners[:, 0] > corners[:, 1]
    first = np.where(higher, first_leads > 0, first_leads >= 0)
    return np.where(same.all(axis=1), ~first, ~same[:, 0]).astype(np.int64)


def _junctions(
    samples: Samples, chosen: Index, index: Index, crossed: NDArray[np.bool_], in_middle: NDArray[np.bool_]
) -> Via:
    """Let all outlines of a cell meet at the mean of its crossings.

    Four that meet with a cut do so at the middle: there alone may an object touch itself, see
    `geoseg.vector.rings.make_polygons`.
    """
    cell, crossed = index[chosen], crossed[chosen]
    points = np.stack([crossings(samples, cell, np.full(len(cell), side))[0] for side in range(4)], axis=1)
    middle = (points * crossed[:, :, None]).sum(axis=1) / crossed.sum(axis=1)[:, None]
    middle[in_middle] = centers(samples, cell[in_middle])
    which, side = np.nonzero(crossed)
    return Via(4 * chosen[which] + side, middle[which])


def _along_outline(
    samples: Samples,
    chosen: Index,
    index: Index,
    corners: Labels,
    crossed: NDArray[np.bool_],
    target: NDArray[np.int8],
) -> Via:
    """Route half-edges of cells with invalid corners along the edge of the invalid quarters."""
    cell, invalid = index[chosen], corners < 0
    inner = crossed & ~invalid & ~np.roll(invalid, -1, axis=1)
    feet = _feet(samples, cell, invalid, inner)
    turns, direct = _turns(corners, invalid, chosen, target)
    goal = target[chosen].astype(np.int64)
    lines = np.arange(len(chosen))[:, None]
    middle = np.broadcast_to(centers(samples, cell)[:, None], feet.shape)
    ends = feet[lines, goal]
    leaves = crossed & inner & ~direct & ~(turns & (feet == middle).all(axis=2))
    arrives = crossed & inner[lines, goal] & ~direct & ~(turns & (ends == middle).all(axis=2))
    wanted = np.stack([leaves, crossed & turns, arrives], axis=2)
    which, side, step = np.nonzero(wanted)
    points = np.stack([feet, middle, ends], axis=2)
    return Via(4 * chosen[which] + side, points[which, side, step])


def _feet(samples: Samples, cell: Index, invalid: NDArray[np.bool_], inner: NDArray[np.bool_]) -> Floats:
    """Return, per side crossed between valid corners, the nearest point of the invalid quarters."""
    middle = centers(samples, cell)
    feet = np.full((len(cell), 4, 2), np.nan)
    lone = invalid.sum(axis=1) == 1
    right, low = invalid[:, 1] | invalid[:, 2], invalid[:, 2] | invalid[:, 3]
    for side in range(4):
        which = np.flatnonzero(inner[:, side])
        points = crossings(samples, cell[which], np.full(len(which), side))[0]
        along, after = side % 2, right if side % 2 == 0 else low
        here, center = points[:, along], middle[which, along]
        clipped = np.where(after[which], np.maximum(here, center), np.minimum(here, center))
        feet[which, side, along] = np.where(lone[which], clipped, here)
        feet[which, side, 1 - along] = middle[which, 1 - along]
    return feet


def _turns(
    corners: Labels, invalid: NDArray[np.bool_], chosen: Index, target: NDArray[np.int8]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which half-edges pass the cell's middle, and which avoid the invalid quarters.

    Valid corners opposite each other over a lone invalid one are connected if their labels are
    equal and differ from the corner between them; `target` is corrected for them.
    """
    count = invalid.sum(axis=1)
    hole = invalid.argmax(axis=1)
    lines, sides = np.arange(len(chosen)), np.arange(4)
    before, after, across = (hole + 3) % 4, (hole + 1) % 4, (hole + 2) % 4
    joined = (
        (count == 1)
        & (corners[lines, before] == corners[lines, after])
        & (corners[lines, before] != corners[lines, across])
    )
    target[chosen[joined]] = _connected(after[joined])
    goal = target[chosen]
    length = (sides - goal - 1) % 4 + 1
    passes = (sides - across[:, None]) % 4 < length
    cuts = sides == before[:, None]
    lone = np.where(joined[:, None], cuts, passes)
    apart = (count == 3) | ((count == 2) & (invalid[:, 0] == invalid[:, 2]))
    turns = np.where((count == 1)[:, None], lone, apart[:, None])
    return turns, joined[:, None] & ~cuts
