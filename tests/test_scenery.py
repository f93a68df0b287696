"""The synthetic scenes: deterministic, exact truth, visible buildings."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import DISTRICTS, World, render_world
from scenery.canvas import Sun, blur, shadow, smooth_noise

from geoseg.errors import InvalidOption

pytestmark = pytest.mark.slow


def centres_inside(world: World) -> np.ndarray:
    """Return which pixel centres lie in a footprint, by geometry alone."""
    rows, cols = world.labels.shape
    x, y = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    return shapely.contains_xy(shapely.union_all(list(world.footprints)), x, y)


@pytest.fixture(scope="module", params=["suburb", "rows", "informal"])
def built_up(request: pytest.FixtureRequest) -> World:
    return render_world(11, 320, 384, 0.3, districts=(request.param,))


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    gsd_m=st.sampled_from([0.1, 0.25, 0.3, 0.6, 1.0]),
)
def test_any_size_gives_a_world_with_true_labels(seed: int, height: int, width: int, gsd_m: float) -> None:
    world = render_world(seed, height, width, gsd_m)
    assert world.rgb.shape == (3, height, width)
    assert world.rgb.dtype == np.uint8
    assert world.labels.shape == (height, width)
    assert world.labels.dtype == np.uint8
    picture = shapely.box(0, 0, width, height)
    assert all(outline.is_valid and picture.covers(outline) for outline in world.footprints)
    # Footprints of less than a quarter of a pixel are dropped; on an edge a centre may fall either way.
    assert np.array_equal(world.labels == 1, centres_inside(world))


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = (render_world(3, 200, 160, districts=("village", "rows")) for _ in range(2))
    assert first.rgb.tobytes() == second.rgb.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()
    assert shapely.to_wkb(list(first.footprints)).tolist() == shapely.to_wkb(list(second.footprints)).tolist()


def test_another_seed_gives_another_world() -> None:
    assert not np.array_equal(render_world(0, 64, 64).rgb, render_world(1, 64, 64).rgb)


@pytest.mark.parametrize("kind", sorted(DISTRICTS))
def test_every_kind_of_district_renders(kind: str) -> None:
    world = render_world(5, 160, 160, 0.5, districts=(kind,))
    assert world.rgb.std() > 3
    if kind in ("suburb", "village", "informal", "rows", "industry", "estate"):
        assert world.labels.any()
    if kind in ("forest", "park", "shore"):
        assert not world.footprints


def test_worlds_drawn_by_seed_have_and_lack_buildings() -> None:
    shares = [render_world(seed, 96, 96, 0.6).labels.mean() for seed in range(12)]
    assert min(shares) == 0
    assert max(shares) > 0.1


def test_an_unknown_district_is_named() -> None:
    with pytest.raises(InvalidOption, match="castle"):
        render_world(0, 32, 32, districts=("castle",))


def test_footprints_do_not_overlap(built_up: World) -> None:
    outlines = list(built_up.footprints)
    assert len(outlines) > 20
    assert shapely.area(outlines).sum() == pytest.approx(
        shapely.union_all(outlines).area, abs=0.05 * len(outlines)
    )


def test_touching_houses_stay_apart_in_the_truth() -> None:
    world = render_world(11, 320, 384, 0.3, districts=("rows",))
    outlines = list(world.footprints)
    merged = len(shapely.get_parts(shapely.union_all(shapely.buffer(outlines, 0.02))))
    assert merged < 0.7 * len(outlines)


def test_outlines_lie_where_the_picture_changes(built_up: World) -> None:
    """Gradients are stronger on the true outline than on the same outline moved by 2 pixels any way."""
    gray = built_up.rgb.astype(np.float32).mean(axis=0)
    down, right = np.gradient(gray)
    steepness = np.hypot(down, right)
    true = _mean_on(steepness, built_up, 0, 0)
    moved = [_mean_on(steepness, built_up, dx, dy) for dx, dy in ((2, 0), (-2, 0), (0, 2), (0, -2))]
    assert true > 1.2 * max(moved)


def test_roofs_hide_what_is_behind_them_and_throw_shadows() -> None:
    """A tower in the sun: lit on top, dark on the far side only, as long as its height asks."""
    sun = Sun.at(np.pi / 2, np.pi / 4)  # from the right, 45 degrees high
    height = np.zeros((60, 120), np.float32)
    height[20:40, 60:80] = 10.0
    dark = shadow(height, sun, scale=2.0)
    assert not dark[20:40, 60:80].any()
    assert (dark[22:38, 42:59] == 1).all()  # 10 m high, 2 samples a metre: 20 samples to the left
    assert not dark[:, 80:].any()
    assert not dark[:, :38].any()
    assert not dark[:17].any()


def test_blur_keeps_the_mean_and_noise_its_deviation() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((2, 40, 50), dtype=np.float32)
    assert blur(np.full_like(image, 0.25), 1.3) == pytest.approx(0.25, abs=1e-6)
    assert blur(image, 2.0).std() < 0.4 * image.std()
    field = smooth_noise(rng, (400, 300), 7.0)
    assert field.std() == pytest.approx(1, abs=0.15)
    assert np.abs(np.diff(field, axis=1)).mean() < 0.3


def _mean_on(image: np.ndarray, world: World, dx: float, dy: float) -> float:
    points = np.concatenate(
        [
            shapely.get_coordinates(shapely.line_interpolate_point(ring, np.arange(0, ring.length, 1.0)))
            for ring in shapely.get_exterior_ring(np.array(world.footprints, dtype=object))
        ]
    )
    cols, rows = np.floor(points + np.array([dx, dy])).astype(int).T
    height, width = image.shape
    inside = (cols > 3) & (rows > 3) & (cols < width - 4) & (rows < height - 4)
    return float(image[rows[inside], cols[inside]].mean())
