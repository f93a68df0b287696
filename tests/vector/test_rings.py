"""Cycles, components, and rings that touch themselves."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.vector.rings import components, cycles, make_polygons


@given(st.permutations(range(30)), st.permutations(range(30)))
def test_cycles_lead_to_the_element_of_smallest_rank(successor: list[int], rank: list[int]) -> None:
    leader, ahead = cycles(np.array(successor), np.array(rank))
    for start in range(30):
        cycle, place = [start], successor[start]
        while place != start:
            cycle.append(place)
            place = successor[place]
        ranks = [rank[element] for element in cycle]
        assert leader[start] == min(ranks)
        assert ahead[start] == ranks.index(min(ranks))


def test_no_cycles_of_nothing() -> None:
    assert [len(part) for part in cycles(np.empty(0, int), np.empty(0, int))] == [0, 0]


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_components_are_those_of_a_flood(n: int, links: list[tuple[int, int]]) -> None:
    links = [(a % n, b % n) for a, b in links]
    found = components(n, (np.array([a for a, _ in links], int), np.array([b for _, b in links], int)))
    expected = list(range(n))
    for _ in range(n):
        for a, b in links:
            expected[a] = expected[b] = min(expected[a], expected[b])
    assert found.tolist() == [sorted(set(expected)).index(label) for label in expected]


def test_a_ring_that_touches_itself_becomes_a_shell_and_a_hole() -> None:
    ring = np.array([[0, 0], [4, 0], [4, 4], [2, 4], [3, 3], [2, 2], [1, 3], [2, 4], [0, 4]], float)
    (polygon,) = make_polygons(ring, np.array([0]), np.array([0]))
    assert polygon.is_valid
    assert polygon.area == 14
    assert len(polygon.interiors) == 1


def test_shells_come_before_their_holes() -> None:
    hole = np.array([[1, 1], [1, 2], [2, 2], [2, 1]], float)
    shell = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    rings = np.concatenate([hole, shell, shell + 10])
    first, second = make_polygons(rings, np.array([0, 4, 8]), np.array([0, 0, 1]))
    assert first.equals(shapely.box(0, 0, 4, 4) - shapely.box(1, 1, 2, 2))
    assert second.equals(shapely.box(10, 10, 14, 14))
