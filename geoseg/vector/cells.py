"""How outlines cross a cell of four pixel centres: marching squares for any number of classes.

Corners and sides of a cell are numbered in the order that keeps the inside on the left in the
(col, row) plane::

    corner 0 ── side 0 ── corner 1
       │                     │
    side 3                side 1
       │                     │
    corner 3 ── side 2 ── corner 2

A side whose corners have different labels holds one *crossing*. Every label's part of a cell is
bounded by *half-edges*, each from the crossing after the part's last corner to another crossing,
with the part on its left. So from every crossing of every cell one half-edge starts, with the label
of the corner before it, and one ends, with the label of the corner after it.

The smooth outline puts crossings where the linearly interpolated probabilities are equal (Lorensen
and Cline, 1987). Three or four labels meet at the mean of their crossings. Around invalid pixels
and at the scene's edge, where there is nothing to interpolate, an outline runs from its last
crossing straight to the nearest point of the invalid quarter pixels and then along their exact edge:
the polygons of all labels partition the valid area exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.samples import Floats, Index, Samples

_FIRST = np.array([[0, 0], [0, 1], [1, 0], [0, 0]])
"""Row and column, relative to the cell, of the first (upper or left) sample of each side."""


def _previous_crossings() -> NDArray[np.int8]:
    """Tabulate, per pattern of crossed sides (bits) and side, the crossed side before it."""
    table = np.zeros((16, 4), np.int8)
    for pattern in range(16):
        for side in range(4):
            before = [(side - step) % 4 for step in (1, 2, 3, 4)]
            table[pattern, side] = next((s for s in before if pattern >> s & 1), side)
    return table


_PREVIOUS = _previous_crossings()


@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """The cells that an outline of a class crosses.

    Parameters
    ----------
    index : ndarray of int64, shape (n,)
        Flat index of each cell's upper left sample, increasing.
    corners : ndarray of int16, shape (n, 4)
        Labels.
    crossed : ndarray of bool, shape (n, 4)
        Whether the side's corners differ.
    target : ndarray of int8, shape (n, 4)
        The side where the half-edge ends that starts at this one.
    via : Via
        Vertices of half-edges inside the cells.
    """

    index: Index
    corners: NDArray[np.int16]
    crossed: NDArray[np.bool_]
    target: NDArray[np.int8]
    via: Via


@dataclass(frozen=True, eq=False, slots=True)
class Via:
    """Vertices between the ends of half-edges, in order.

    Parameters
    ----------
    owner : ndarray of int64, shape (n,)
        ``4 * cell + side`` of the half-edge, increasing; cells counted in their list.
    points : ndarray of float64, shape (n, 2)
    """

    owner: Index
    points: Floats


def cross_cells(samples: Samples, *, smooth: bool) -> Cells:
    """Find the cells that outlines of classes cross, and how."""
    index, corners = _find(samples.labels)
    crossed = corners != np.roll(corners, -1, axis=1)
    target = _PREVIOUS[np.packbits(crossed, axis=1, bitorder="little")[:, 0]]
    if smooth:
        via = _smooth(samples, index, corners, crossed, target)
    else:
        turns = crossed & (corners > 0) & (target != np.arange(2, 6) % 4)
        owner = np.flatnonzero(turns)
        via = Via(owner, centers(samples, index[owner // 4]))
    return Cells(index, corners, crossed, target, via)


def _find(labels: NDArray[np.int16]) -> tuple[Index, NDArray[np.int16]]:
    """Return the flat indices and corners of cells whose corners differ, one of them a class."""
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    active = np.zeros(labels.shape, bool)
    cells = active[:-1, :-1]
    np.logical_or(across[:-1], across[1:], out=cells)
    cells |= down[:, 1:]
    cells |= down[:, :-1]
    index = np.flatnonzero(active)
    flat, stride = labels.ravel(), labels.shape[1]
    corners = np.stack([flat[index + step] for step in (0, 1, stride + 1, stride)], axis=1)
    bounding = corners.max(axis=1) > 0
    return (index, corners) if bounding.all() else (index[bounding], corners[bounding])


def centers(samples: Samples, cell: Index) -> Floats:
    """Return the middle of cells, a pixel corner, as (col, row)."""
    rows, cols = np.divmod(cell, samples.stride)
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
    rows, cols = np.divmod(cell, samples.stride)
    first = _FIRST[side]
    row, col = rows + first[:, 0], cols + first[:, 1]
    across = side % 2 == 0
    here, there = samples.leads((row, col, row + ~across, col + across))
    along = here / (here - there)
    x = (col + (samples.col + 0.5)) + np.where(across, along, 0.0)
    y = (row + (samples.row + 0.5)) + np.where(across, 0.0, along)
    return np.column_stack([x, y]), here + there


def _smooth(
    samples: Samples,
    index: Index,
    corners: NDArray[np.int16],
    crossed: NDArray[np.bool_],
    target: NDArray[np.int8],
) -> Via:
    """Choose the vertices inside cells; correct `target` where opposite corners are connected."""
    invalid = corners < 0
    outline = invalid.any(axis=1)
    count = crossed.sum(axis=1)
    same = corners[:, :2] == corners[:, 2:]
    saddle = np.flatnonzero(~outline & (count == 4) & same.any(axis=1))
    target[saddle] = _connected(_saddle_corner(samples, index[saddle], corners[saddle], same[saddle]))
    meeting = np.flatnonzero(~outline & (count >= 3) & ~((count == 4) & same.any(axis=1)))
    edge = np.flatnonzero(outline)
    vias = [
        _junctions(samples, meeting, index, crossed),
        _along_outline(samples, edge, index, corners, crossed, target),
    ]
    owner = np.concatenate([via.owner for via in vias])
    order = np.argsort(owner, kind="stable")
    return Via(owner[order], np.concatenate([via.points for via in vias])[order])


def _connected(corner: Index) -> NDArray[np.int8]:
    """Return the targets of cells with four crossings whose corners `corner` and + 2 are connected."""
    sides = np.arange(4)
    joined = (sides - corner[:, None]) % 2 == 0
    return np.where(joined, sides + 1, sides - 1).astype(np.int8) % 4


def _saddle_corner(
    samples: Samples, cell: Index, corners: NDArray[np.int16], same: NDArray[np.bool_]
) -> Index:
    """Return 0 or 1: which of two pairs of opposite corners is connected through the cell.

    The only pair with equal labels; of two such pairs the label that leads in the mean of the cell,
    the lower label where neither leads.
    """
    balance = [crossings(samples, cell, np.full(len(cell), side))[1] for side in range(4)]
    first_leads = balance[0] - balance[1] - balance[2] + balance[3]
    higher = corners[:, 0] > corners[:, 1]
    first = np.where(higher, first_leads > 0, first_leads >= 0)
    return np.where(same.all(axis=1), ~first, ~same[:, 0]).astype(np.int64)


def _junctions(samples: Samples, chosen: Index, index: Index, crossed: NDArray[np.bool_]) -> Via:
    """Let all outlines of a cell meet at the mean of its crossings."""
    cell, crossed = index[chosen], crossed[chosen]
    points = np.stack([crossings(samples, cell, np.full(len(cell), side))[0] for side in range(4)], axis=1)
    middle = (points * crossed[:, :, None]).sum(axis=1) / crossed.sum(axis=1)[:, None]
    which, side = np.nonzero(crossed)
    return Via(4 * chosen[which] + side, middle[which])


def _along_outline(
    samples: Samples,
    chosen: Index,
    index: Index,
    corners: NDArray[np.int16],
    crossed: NDArray[np.bool_],
    target: NDArray[np.int8],
) -> Via:
    """Route half-edges of cells with invalid corners along the edge of the invalid quarters."""
    cell, crossed, invalid = index[chosen], crossed[chosen], corners[chosen] < 0
    inner = crossed & ~invalid & ~np.roll(invalid, -1, axis=1)
    feet = _feet(samples, cell, invalid, inner)
    turns, direct = _turns(corners[chosen], invalid, chosen, target)
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
    corners: NDArray[np.int16], invalid: NDArray[np.bool_], chosen: Index, target: NDArray[np.int8]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which half-edges pass the cell's middle, and which avoid the invalid quarters.

    Valid corners opposite each other over a lone invalid one are connected if their labels are
    equal and differ from the corner between them; `target` is corrected for them.
    """
    count = invalid.sum(axis=1)
    hole = invalid.argmax(axis=1)
    lines, sides = np.arange(len(chosen)), np.arange(4)
    before, after, across = ((hole + step) % 4 for step in (3, 1, 2))
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
