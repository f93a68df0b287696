"""From probabilities to outlines, one region at a time.

The regions partition the grid. What a region returns depends only on the pixels of the region and
those next to it, and the parts that reach a seam meet those of the neighbouring region in identical
points, so `geoseg.vector.pieces.Joiner` puts together what tracing the whole scene at once would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.values import ClassRule, ProbabilityBlock, Window
from geoseg.vector.cells import Cells, cross_cells, crossings
from geoseg.vector.halfedges import HalfEdges, find_contacts, link, seam_keys
from geoseg.vector.pieces import NO_PIXEL, Arc, Evidence, OpenPiece, Piece, Pieces
from geoseg.vector.rings import components, make_polygons
from geoseg.vector.samples import Cuts, Floats, Index, Runs, Samples, find_changes, find_runs, take_samples

__all__ = ["Pieces", "trace"]

Outline = Literal["smooth", "pixel"]

_BATCH = 1 << 16
"""Pixels that are summed up in one go: their indices take four times the memory of the pixels."""


def trace(
    block: ProbabilityBlock,
    region: Window,
    grid_shape: tuple[int, int],
    rule: ClassRule,
    outline: Outline = "smooth",
    cuts: Cuts | None = None,
) -> Pieces:
    """Trace the outlines of all classes, or of their parts, in one region.

    Parameters
    ----------
    block : ProbabilityBlock
        Must cover the region and, where the grid goes on, one pixel more on every side.
    region : Window
        The pixels that this call owns. The regions of all calls partition the grid by rows and
        columns; every one of them has to be traced, also where nothing is valid.
    grid_shape : tuple of int
        Rows and columns of the grid.
    rule : ClassRule
        Which class a pixel has.
    outline : {"smooth", "pixel"}
        Where the interpolated probabilities cross, or along the exact edges of pixels. Pixels are
        connected over their edges, not their corners.
    cuts : Cuts, optional
        Where objects of a class are told apart; both sides of a seam need the same. Parts are what
        is connected in spite of the cuts, and share the walls between them vertex by vertex.

    Returns
    -------
    Pieces
        In pixel coordinates (col, row).
    """
    samples = take_samples(block, region, grid_shape, rule, cuts)
    smooth = outline == "smooth"
    changes = find_changes(samples)
    cells = cross_cells(samples, changes, smooth=smooth)
    edges = link(samples, cells)
    runs = find_runs(samples, changes)
    ring, behind = _rings_beside(samples, edges, runs)
    slit, around = _slits(samples, cells, edges, runs, ring)
    piece = components(edges.rings + 1, (np.append(ring, slit), np.append(behind, around)))
    owner = piece[ring]
    evidence = count(samples, runs, owner, block, grid_shape)
    labels = np.zeros(len(evidence), np.int64)
    labels[owner] = samples.labels.ravel().take(runs.row * samples.stride + runs.first).astype(np.int64)
    contact, row, col = find_contacts(samples, region, grid_shape)
    touched = piece[edges.ring_at(samples, row, col)]
    chains = _chains(samples, cells, edges, piece, smooth=smooth)
    is_open = np.zeros(len(evidence), bool)
    is_open[touched] = True
    return Pieces(
        _whole(chains, is_open, labels, evidence),
        _parts(chains, np.flatnonzero(is_open), labels, evidence, (touched, contact)),
    )


def _rings_beside(samples: Samples, edges: HalfEdges, runs: Runs) -> tuple[Index, Index]:
    """Return the rings at the left and the right end of each run: they bound the same piece."""
    rows, cols = samples.labels.shape
    inner = (runs.row > 0) & (runs.row < rows - 1)
    before = np.empty(len(runs.row), np.int64)
    outer = ~inner | (runs.first == 0)
    before[outer] = edges.ring_at(samples, runs.row[outer], runs.first[outer])
    before[~outer] = edges.ring[edges.lower]
    behind = before.copy()
    outer = inner & (runs.last == cols - 1)
    behind[outer] = edges.ring_at(samples, runs.row[outer], runs.last[outer])
    behind[inner & ~outer] = edges.ring[edges.upper]
    return before, behind


def _slits(
    samples: Samples, cells: Cells, edges: HalfEdges, runs: Runs, before: Index
) -> tuple[Index, Index]:
    """Return the rings round cuts that end no run, level ones inside a part, and a ring of the same part."""
    if samples.cuts is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    loose = np.setdiff1d(edges.ring, before)
    first = np.unique(edges.ring, return_index=True)[1][loose]
    cell, side = np.divmod(edges.owner[first], 4)
    corner = cells.index[cell] + np.array([0, 1, samples.stride + 1, samples.stride])[side]
    run = np.searchsorted(runs.row * samples.stride + runs.first, corner, side="right") - 1
    return loose, before[run]


@dataclass(frozen=True, eq=False, slots=True)
class _Chains:
    """Rings, and arcs between seams, in the order of the pieces they bound.

    ``vertices[starts[i] : starts[i + 1]]`` are those of chain `i`; `begin` and `end` are the keys of
    its seam points, -1 for a ring.
    """

    vertices: Floats
    starts: Index
    piece: Index
    begin: Index
    end: Index


def _chains(samples: Samples, cells: Cells, edges: HalfEdges, piece: Index, *, smooth: bool) -> _Chains:
    """Put half-edges in order and collect their vertices."""
    order = _order(edges, piece)
    vertices, offsets = _vertices(samples, cells, edges, order, smooth=smooth)
    ring = edges.ring[order]
    begins = edges.starts[order]
    begins[:1] = True
    begins[1:] |= ring[1:] != ring[:-1]
    first = np.flatnonzero(begins)
    tails = order[np.append(first[1:], len(order)) - 1] if len(order) else order
    heads = order[first]
    begin, end = np.full(len(first), -1), np.full(len(first), -1)
    begun, ended = np.flatnonzero(edges.starts[heads]), np.flatnonzero(edges.ends[tails])
    cell, side = np.divmod(edges.owner[heads[begun]], 4)
    begin[begun] = seam_keys(samples, cells.index[cell], side, begins=True)
    cell = edges.owner[tails[ended]] // 4
    goal = edges.goal[tails[ended]].astype(np.int64)
    end[ended] = seam_keys(samples, cells.index[cell], goal, begins=False)
    starts = np.append(offsets[first], len(vertices))
    return _Chains(vertices, starts, piece[ring[first]], begin, end)


def _order(edges: HalfEdges, piece: Index) -> Index:
    """Return the half-edges piece by piece, ring by ring, in the direction of the ring."""
    sizes = np.bincount(edges.ring, minlength=edges.rings)
    by_piece = np.argsort(piece[: edges.rings], kind="stable")
    offsets = np.empty(edges.rings, np.int64)
    offsets[by_piece] = np.cumsum(sizes[by_piece]) - sizes[by_piece]
    passed = np.where(edges.ahead > 0, sizes.take(edges.ring) - edges.ahead, 0)
    order = np.empty(len(edges.ring), np.int64)
    order[offsets.take(edges.ring) + passed] = np.arange(len(order))
    return order


def _vertices(
    samples: Samples, cells: Cells, edges: HalfEdges, order: Index, *, smooth: bool
) -> tuple[Floats, Index]:
    """Collect the vertices of half-edges in their order: of each its start point, then inner ones.

    The start is a vertex only where probabilities were interpolated: the middle of a pixel's edge
    lies on a straight line.

    Returns
    -------
    vertices : ndarray of float64, shape (n, 2)
    offsets : ndarray of int64, shape of `order`
        Where those of each half-edge in the order begin.
    """
    starting = cells.valid.ravel().take(edges.owner) & smooth
    number = np.searchsorted(edges.owner, cells.via.owner)
    known = np.append(edges.owner, -1)[number] == cells.via.owner
    place, points = number[known], cells.via.points[known]
    lengths = (starting + np.bincount(place, minlength=len(order)))[order]
    offsets = np.cumsum(lengths) - lengths
    base = np.empty(len(order), np.int64)
    base[order] = offsets
    vertices = np.empty((int(lengths.sum()), 2))
    ordinal = np.arange(len(place)) - np.searchsorted(place, place)
    vertices[base[place] + starting[place] + ordinal] = points
    owner = edges.owner[starting]
    vertices[base[starting]] = crossings(samples, cells.index.take(owner // 4), owner % 4)[0]
    return vertices, offsets


def _whole(
    chains: _Chains, is_open: NDArray[np.bool_], labels: Index, evidence: list[Evidence]
) -> tuple[Piece, ...]:
    """Build the polygons that touch no seam."""
    closed = ~is_open[chains.piece]
    sizes = np.diff(chains.starts)
    rings = chains.vertices.take(np.flatnonzero(np.repeat(closed, sizes)), axis=0)
    starts = np.cumsum(sizes[closed]) - sizes[closed]
    pieces = np.flatnonzero(~is_open)
    owner = np.searchsorted(pieces, chains.piece[closed])
    polygons = make_polygons(rings, starts, owner)
    every = zip(labels[pieces].tolist(), polygons, [evidence[i] for i in pieces.tolist()], strict=True)
    return tuple([Piece(*values) for values in every])


def _parts(
    chains: _Chains, pieces: Index, labels: Index, evidence: list[Evidence], contacts: tuple[Index, Index]
) -> tuple[OpenPiece, ...]:
    """Collect what goes on beyond a seam; vertices are copied so that the others can be let go."""
    first, stop = np.searchsorted(chains.piece, pieces), np.searchsorted(chains.piece, pieces, side="right")
    order = np.argsort(contacts[0], kind="stable")
    touched, keys = contacts[0][order], contacts[1][order]
    begins, ends = np.searchsorted(touched, pieces), np.searchsorted(touched, pieces, side="right")
    parts = []
    spans = np.column_stack([pieces, first, stop, begins, ends])
    for piece, i, j, k, m in spans.tolist():
        rings, arcs = [], []
        for chain in range(i, j):
            points = chains.vertices[chains.starts[chain] : chains.starts[chain + 1]].copy()
            if chains.begin[chain] < 0:
                rings.append(points)
            else:
                arcs.append(Arc(int(chains.begin[chain]), int(chains.end[chain]), points))
        parts.append(
            OpenPiece(
                int(labels[piece]), evidence[piece], tuple(rings), tuple(arcs), tuple(keys[k:m].tolist())
            )
        )
    return tuple(parts)


def count(
    samples: Samples,
    runs: Runs,
    owner: Index,
    block: ProbabilityBlock,
    grid_shape: tuple[int, int],
) -> list[Evidence]:
    """Sum up the evidence of runs by the piece that owns them; only the region's own pixels count.

    Parameters
    ----------
    owner : ndarray of int64, shape (len(runs.row),)
        Number of the piece each run lies in; all pieces from 0 to the largest number are returned.
    """
    height, width = samples.labels.shape[0] - 1, samples.stride - 1
    pieces = int(owner.max(initial=-1)) + 1
    kept = (runs.row < height) & (runs.first < width)
    row, first, owner = runs.row[kept], runs.first[kept], owner[kept]
    length = np.minimum(runs.last[kept] + 1, width) - first
    start = (row + samples.row) * grid_shape[1] + first + samples.col
    right = first + length + samples.col == grid_shape[1]
    at_edge = (row + samples.row == 0) | (row + samples.row == grid_shape[0] - 1)
    at_edge |= (first + samples.col == 0) | right

    offset = (samples.row - samples.window.row) * samples.window.width + samples.col - samples.window.col
    there = row * samples.window.width + first + offset
    near = _near_invalid(block, grid_shape)

    pixels, total = np.zeros(pieces, np.int64), np.zeros(pieces, np.int64)
    lowest = np.full(pieces, NO_PIXEL)
    edge, nodata = np.zeros(pieces, bool), np.zeros(pieces, bool)
    if len(row):
        np.add.at(pixels, owner, length)
        np.add.at(total, owner, _sum_runs(samples.strongest, there, length))
        np.minimum.at(lowest, owner, start)
        edge[owner[at_edge]] = True
        if near is not None:
            nodata[owner[_sum_runs(near, there, length) > 0]] = True
    columns = (pixels, total, lowest, edge, nodata)
    return [Evidence(*values) for values in zip(*[column.tolist() for column in columns], strict=True)]


def _sum_runs(pixels: NDArray[np.generic], first: Index, length: Index) -> Index:
    """Sum up the pixels of runs; `first` are flat indices."""
    ends = np.cumsum(length)
    total = np.empty(len(first), np.int64)
    cuts = np.searchsorted(ends, np.arange(0, ends[-1], _BATCH)).tolist()
    for one, two in pairwise([*cuts, len(first)]):
        begin = ends[one:two] - length[one:two]
        begin -= begin[:1]
        place = np.repeat(first[one:two] - begin, length[one:two])
        place += np.arange(len(place))
        total[one:two] = np.add.reduceat(pixels.ravel().take(place), begin, dtype=np.int64)
    return total


def _near_invalid(block: ProbabilityBlock, grid_shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Mark the pixels of a block with an invalid one of the grid next to them; None if there is none."""
    if block.valid.all():
        return None
    window, inside = block.window, block.window.intersection(Window(0, 0, *grid_shape))
    rows, cols = inside.within(window)
    frame = np.zeros((window.height + 2, window.width + 2), bool)
    np.logical_not(block.valid[rows, cols], out=frame[1:-1, 1:-1][rows, cols])
    near = frame[:-2] | frame[1:-1] | frame[2:]
    return np.asarray(near[:, :-2] | near[:, 1:-1] | near[:, 2:])
