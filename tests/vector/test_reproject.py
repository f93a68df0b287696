"""Polygons in another CRS: the same ground, along edges, round poles, over the antimeridian."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Geod, Transformer

from geoseg.errors import InvalidOption
from geoseg.values import ClassInfo, GeoBox, LayerSchema
from geoseg.vector import reproject as module
from geoseg.vector.features import DEVIATION, finish
from geoseg.vector.pieces import Evidence, Piece
from geoseg.vector.place import cut_and_rounded, measure
from geoseg.vector.reproject import TOLERANCE, WGS84, reproject
from geoseg.vector.shape import ShapeRules
from geoseg.vector.sink import layer_crs

EARTH = Geod(ellps="WGS84")
POLAR = ["EPSG:3031", "EPSG:3995", "EPSG:3413", "EPSG:3412", "EPSG:32661", "EPSG:5042"]
NORTHERN = {"EPSG:3995", "EPSG:3413", "EPSG:32661"}


def polar(crs: str, pixel: float, *, side: int = 100, flip: int = -1) -> GeoBox:
    """Return a grid with a pole in the middle."""
    pole = Transformer.from_crs(WGS84, crs, always_xy=True).transform(0, 90 if crs in NORTHERN else -90)
    half = side / 2 * pixel
    return GeoBox(side, side, (pixel, 0, pole[0] - half, 0, flip * pixel, pole[1] - flip * half), crs)


def one(polygon: shapely.Polygon, grid: GeoBox, crs: str) -> tuple[shapely.Polygon, float]:
    """Return the single feature made of a polygon, and its measured area."""
    layer = LayerSchema("layer", crs, (ClassInfo(1, "ice", (0, 0, 0)),))
    table = finish([Piece(1, polygon, Evidence(1, 1, 0))], grid, ShapeRules(), layer)
    assert len(table) == 1
    assert table.geometry[0].is_valid
    return table.geometry[0], table["area_m2"][0]


def area_on_earth(geometry: shapely.Geometry) -> float:
    """Return the area between parallels and meridians of what is drawn in longitude and latitude."""
    rings = [(ring, 1) for part in shapely.get_parts(geometry) for ring in [part.exterior]]
    rings += [(ring, -1) for part in shapely.get_parts(geometry) for ring in part.interiors]
    total = 0.0
    for ring, sign in rings:
        points = shapely.get_coordinates(shapely.segmentize(ring, shapely.length(ring) / 5_000))[:-1]
        total += sign * abs(EARTH.polygon_area_perimeter(*points.T)[0])
    return total


def holds(geometry: shapely.Geometry, *, north: bool) -> bool:
    """Tell whether a polygon reaches along the whole of a pole."""
    latitude = 90 if north else -90
    along = shapely.LineString([(-180, latitude), (180, latitude)])
    return shapely.length(shapely.intersection(geometry, along)) > 359.999


@st.composite
def stars(draw: st.DrawFn) -> shapely.Polygon:
    """Draw a polygon that winds about (50, 50), some with holes, the centre in, out or in a hole."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    angles = np.sort(rng.choice(360, draw(st.integers(5, 30)), replace=False)) * np.pi / 180
    reach = rng.uniform(8, 25, len(angles))
    shift = np.array(draw(st.sampled_from([(50, 50), (50.3, 49.6), (60, 45), (30, 70), (50, 58)])))
    ring = np.column_stack([np.cos(angles), np.sin(angles)])
    star = shapely.make_valid(shapely.Polygon(ring * reach[:, None] + shift))
    if draw(st.booleans()):
        star -= shapely.make_valid(shapely.Polygon(ring * reach[:, None] * 0.5 + shift))
    if draw(st.booleans()):
        star -= shapely.box(*(shift + 1), *(shift + 3))
    return max(shapely.get_parts(star), key=shapely.area)


@settings(max_examples=100)
@given(stars(), st.sampled_from(POLAR), st.sampled_from([0.5, 30.0, 2000.0]), st.sampled_from([-1, 1]))
@example(shapely.box(50, 50, 60, 70), "EPSG:3031", 30.0, -1)  # a corner on the pole
@example(shapely.box(30, 30, 70, 70) - shapely.box(50, 50, 70, 70), "EPSG:3413", 30.0, -1)
@example(shapely.box(40, 50, 60, 70), "EPSG:3413", 30.0, -1)  # an edge over the pole
@example(shapely.box(0, 52, 100, 60), "EPSG:3413", 2000.0, -1)
@example(shapely.affinity.rotate(shapely.box(40, 50, 60, 70), 20, (50, 50)), "EPSG:3031", 0.5, -1)
@example(shapely.box(0, 0, 100, 100) - shapely.box(40, 40, 60, 100), "EPSG:3995", 2000.0, 1)
@example(  # a hole over the antimeridian, and one round the pole
    shapely.box(10, 10, 90, 90) - shapely.box(45, 45, 55, 57) - shapely.box(42, 20, 58, 30),
    "EPSG:3995",
    30.0,
    -1,
)
def test_a_polygon_near_a_pole_has_its_area_in_longitude_and_latitude(
    polygon: shapely.Polygon, crs: str, pixel: float, flip: int
) -> None:
    assume(shapely.minimum_clearance(polygon) > 0.05)  # a hole along the shell: to be repaired
    grid, north, pole = polar(crs, pixel, flip=flip), crs in NORTHERN, shapely.Point(50, 50)
    apart = shapely.distance(polygon.boundary, pole)
    geometry, area = one(polygon, grid, WGS84)
    bound = TOLERANCE * pixel**2 * shapely.length(polygon)
    (cut,) = cut_and_rounded(np.array([geometry]))
    assert cut.is_valid
    assert cut.bounds[0] >= -180
    assert cut.bounds[2] <= 180
    for found in (geometry, cut):
        assert abs(area_on_earth(found) - area) < bound + 2e-4 * area
        # A pole on an edge but for the last bits lies on either side.
        if apart == 0 or apart > 1e-9:
            assert holds(found, north=north) == shapely.contains_properly(polygon, pole)
        assert not holds(found, north=not north)


@settings(max_examples=60)
@given(
    st.sampled_from(["EPSG:32645", "EPSG:3035", "EPSG:2193", "EPSG:3857", "EPSG:2056", "EPSG:3413"]),
    st.sampled_from([WGS84, "EPSG:3857", "EPSG:3034", "EPSG:4258", "EPSG:32633"]),
    st.sampled_from([0.5, 10.0]),
    st.integers(0, 2**32 - 1),
)
@example("EPSG:3035", "EPSG:32633", 0.5, 21855)  # an image like an S, straight in its middle
def test_edges_stay_where_they_were(source: str, target: str, pixel: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lon, lat = {"EPSG:32645": (86, 27), "EPSG:2193": (174, -41), "EPSG:3413": (40, 70)}.get(source, (8, 47))
    x, y = Transformer.from_crs(WGS84, source, always_xy=True).transform(lon, lat)
    grid = GeoBox(9, 9, (pixel, 0, x, 0, -pixel, y), source)
    far = 100_000 / pixel
    polygon = shapely.MultiPoint(rng.uniform(-far, far, (9, 2))).convex_hull
    (moved,), deviation = reproject(np.array([polygon]), grid, target)
    assert deviation == 0
    back = Transformer.from_crs(target, source, always_xy=True)
    along = shapely.segmentize(moved, shapely.length(moved) / 3000)
    drawn = grid.to_pixels(np.column_stack(back.transform(*shapely.get_coordinates(along).T)))
    off = shapely.distance(shapely.points(drawn), polygon.exterior)
    assert off.max() < 1.1 * TOLERANCE


@settings(max_examples=60)
@given(
    st.sampled_from(
        [("EPSG:3413", 100.0), ("EPSG:3413", 5000.0), ("EPSG:3035", 1000.0), ("EPSG:32660", 100.0)]
    ),
    st.integers(0, 2**32 - 1),
)
@example(("EPSG:3413", 100.0), 2287548)
def test_neighbours_share_their_edges_bit_for_bit(place: tuple[str, float], seed: int) -> None:
    crs, pixel = place
    rng = np.random.default_rng(seed)
    cells = shapely.get_parts(shapely.voronoi_polygons(shapely.MultiPoint(rng.uniform(0, 100, (12, 2)))))
    cells = shapely.set_precision(cells, 1 / 1024)
    if crs == "EPSG:3035":
        grid = GeoBox(100, 100, (pixel, 0, 4e6, 0, -pixel, 3e6), crs)
    else:
        x = 0.0 if crs == "EPSG:3413" else 833_000.0 - 50 * pixel  # zone 60 ends at the antimeridian
        grid = GeoBox(100, 100, (pixel, 0, x - 33.3 * pixel, 0, -pixel, 44.4 * pixel), crs)
    moved, _ = reproject(cells, grid, WGS84)
    turned, _ = reproject(shapely.reverse(cells), grid, WGS84)
    known = _edges(moved)
    assert known == _edges(turned)
    inner = [edge for edge, count in known.items() if count > 1]
    assert len(inner) >= 10


def _edges(moved: NDArray[np.object_]) -> dict[object, int]:
    """Count the edges of polygons, whatever their direction and turn round the Earth."""
    counts: dict[object, int] = {}
    for ring in shapely.get_rings(moved):
        points = shapely.get_coordinates(ring)
        points[points[:, 0] < 180, 0] += 360
        for pair in zip(map(tuple, points[:-1].tolist()), map(tuple, points[1:].tolist()), strict=True):
            key = frozenset(pair)
            counts[key] = counts.get(key, 0) + 1
    return counts


def test_short_edges_gain_no_vertices() -> None:
    grid = GeoBox(500, 500, (0.3, 0, 340_000, 0, -0.3, 3_060_000), "EPSG:32645")
    building = shapely.box(10, 10, 310, 60)
    (moved,), deviation = reproject(np.array([building]), grid, WGS84)
    assert (shapely.get_num_coordinates(moved), deviation) == (5, 0)


@pytest.mark.parametrize("crs", ["EPSG:20135", "EPSG:26716", "EPSG:23032", "EPSG:31467", "EPSG:2263"])
def test_another_datum_on_the_way_back_adds_no_vertices(crs: str) -> None:
    lon, lat = {"EPSG:20135": (39, 9), "EPSG:26716": (-87, 38), "EPSG:2263": (-74, 41)}.get(crs, (9, 48))
    x, y = Transformer.from_crs(WGS84, crs, always_xy=True).transform(lon, lat)
    grid = GeoBox(9, 9, (0.5, 0, x, 0, -0.5, y), crs)
    corners = np.random.default_rng(0).uniform(-1e5, 1e5, (200, 2))
    buildings = shapely.box(*corners.T, *(corners + np.array([20, 50])).T)
    for target in (WGS84, "EPSG:3857"):
        moved, deviation = reproject(buildings, grid, target)
        assert (shapely.get_num_coordinates(moved).max(), deviation) == (5, 0)


def test_where_the_bound_on_vertices_stops_it_the_deviation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = GeoBox(500, 500, (0.5, 0, 340_000, 0, -0.5, 3_060_000), "EPSG:32645")
    long = np.array([shapely.box(0, 0, 20_000, 20)])
    (exact,), none = reproject(long, grid, WGS84)
    monkeypatch.setattr(module, "DEPTH", 1)
    (bounded,), left = reproject(long, grid, WGS84)
    assert none == 0
    assert TOLERANCE < left < 2
    assert shapely.get_num_coordinates(bounded) == 7
    metres = shapely.hausdorff_distance(exact, bounded) * 111_320
    assert metres / 0.5 == pytest.approx(left, rel=0.2)
    layer = LayerSchema("layer", WGS84, (ClassInfo(1, "road", (0, 0, 0)),))
    table = finish([Piece(1, long[0], Evidence(1, 1, 0))], grid, ShapeRules(), layer)
    assert table.attrs[DEVIATION] == left


@pytest.mark.parametrize("crs", ["EPSG:3031", "EPSG:3413"])
@pytest.mark.parametrize("polygon", [shapely.box(20, 20, 70, 70), shapely.box(50, 50, 60, 60)])
def test_web_mercator_has_no_place_for_a_pole(crs: str, polygon: shapely.Polygon) -> None:
    with pytest.raises(InvalidOption, match="Pseudo-Mercator: a polygon holds a pole"):
        reproject(np.array([polygon]), polar(crs, 30), "EPSG:3857")
    (moved,), _ = reproject(np.array([polygon]), polar(crs, 30), crs_beside(crs))
    assert moved.is_valid


def crs_beside(crs: str) -> str:
    return "EPSG:32661" if crs in NORTHERN else "EPSG:3976"


def test_web_mercator_is_torn_at_the_antimeridian() -> None:
    grid = GeoBox(50, 50, (10.0, 0.0, 166_021.44 - 250, 0.0, -10.0, 500), "EPSG:32601")
    with pytest.raises(InvalidOption, match="cross the antimeridian"):
        reproject(np.array([shapely.box(0, 0, 50, 50)]), grid, "EPSG:3857")
    (moved,), _ = reproject(np.array([shapely.box(30, 0, 50, 50)]), grid, "EPSG:3857")
    assert shapely.length(moved) < 2000


def test_a_circle_of_400_grads_is_cut_at_200() -> None:
    x, y = Transformer.from_crs("EPSG:4807", "EPSG:32601", always_xy=True).transform(200, 1)  # from Paris
    grid = GeoBox(50, 50, (10.0, 0.0, x - 250, 0.0, -10.0, y), "EPSG:32601")
    (moved,), _ = reproject(np.array([shapely.box(0, 0, 50, 50)]), grid, "EPSG:4807")
    assert moved.is_valid
    assert moved.bounds[0] < 200 < moved.bounds[2]
    assert moved.bounds[2] - moved.bounds[0] == pytest.approx(500 / 100_000, rel=0.01)


@pytest.mark.parametrize("west", [179.999, -180.001])
def test_degrees_beyond_the_antimeridian_are_torn_or_followed(west: float) -> None:
    grid = GeoBox(100, 200, (1e-5, 0.0, west, 0.0, -1e-5, 60.0), "EPSG:4326")
    across = shapely.box(20, 20, 180, 80)
    with pytest.raises(InvalidOption, match="torn apart"):
        reproject(np.array([across]), grid, "EPSG:3857")
    (beside,), _ = reproject(np.array([shapely.box(110, 20, 180, 80)]), grid, "EPSG:3857")
    assert np.ptp(shapely.get_coordinates(beside)[:, 0]) < 100
    (polar,), _ = reproject(np.array([across]), grid, "EPSG:3995")
    assert polar.is_valid
    assert np.ptp(shapely.get_coordinates(polar), axis=0).max() < 1000


def test_the_whole_earth_in_degrees_is_not_torn() -> None:
    grid = GeoBox(180, 360, (1.0, 0.0, -180.0, 0.0, -1.0, 90.0), "EPSG:4326")
    (moved,), _ = reproject(np.array([shapely.box(0, 0, 360, 180)]), grid, WGS84)
    assert moved.equals(shapely.box(-180, -90, 180, 90))


def test_a_polygon_in_two_rows_has_its_area_once() -> None:
    grid = GeoBox(10, 10, (1.0, 0.0, 500_000.0, 0.0, -1.0, 5_000_000.0), "EPSG:32633")
    bow = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
    layer = LayerSchema("layer", "EPSG:32633", (ClassInfo(1, "bow", (0, 0, 0)),))
    table = finish([Piece(1, bow, Evidence(1, 1, 0))], grid, ShapeRules(), layer)
    area, _ = measure(np.array([bow]), grid)
    assert len(table) == 2
    assert len(finish([Piece(1, bow, Evidence(1, 1, 0))], grid, ShapeRules(), replace(layer, crs=WGS84))) == 1
    assert table["area_m2"].sum() == pytest.approx(area[0], rel=1e-5)
    assert table["area_m2"][0] == pytest.approx(table["area_m2"][1], rel=1e-5)


@pytest.mark.parametrize(
    ("crs", "reason"),
    [
        ("EPSG:5773", "is a Vertical CRS; give a horizontal CRS, such as EPSG:4326"),
        ("EPSG:4978", "is a Geocentric CRS"),
        ("EPSG:4979", "is a Geographic 3D CRS; give a horizontal CRS, such as EPSG:4326"),
        ("EPSG:7415", "is a Compound CRS; give a horizontal CRS, such as EPSG:28992"),
        ("EPSG:32633+5773", "such as EPSG:32633"),
        (
            'ENGCRS["a",EDATUM["b"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]',
            "Engin",
        ),
        ("EPSG:1", "not a CRS that PROJ knows"),
        ("north", "not a CRS that PROJ knows"),
    ],
)
def test_what_is_no_horizontal_crs_is_refused(crs: str, reason: str) -> None:
    for out in (None, Path("a.geojson")):
        with pytest.raises(InvalidOption, match="--crs") as caught:
            layer_crs(crs, "EPSG:32633", out)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


def test_geojson_is_in_longitude_and_latitude_only() -> None:
    for crs in (None, "EPSG:4326", "OGC:CRS84", "WGS84"):
        assert layer_crs(crs, "EPSG:32633", Path("a.geojson")) == WGS84
    for crs in ("EPSG:32633", "EPSG:4258", "EPSG:3857"):
        with pytest.raises(InvalidOption, match=f"--crs {crs}: GeoJSON is in longitude and latitude"):
            layer_crs(crs, "EPSG:32633", Path("a.geojson"))
    assert layer_crs(None, None, Path("a.geojson")) is None
    with pytest.raises(InvalidOption, match="has no CRS"):
        layer_crs("EPSG:4326", None)


@pytest.mark.parametrize(
    "scene", ['LOCAL_CS["mine",UNIT["m",1],AXIS["x",EAST],AXIS["y",NORTH]]', "IAU_2015:30100"]
)
def test_a_crs_without_a_way_to_the_earth_is_one_line(scene: str) -> None:
    grid = GeoBox(9, 9, (1.0, 0.0, 0.0, 0.0, -1.0, 9.0), scene)
    with pytest.raises(InvalidOption, match="PROJ knows no way") as caught:
        reproject(np.array([shapely.box(0, 0, 5, 5)]), grid, WGS84)
    assert "\n" not in str(caught.value)


def test_heights_of_the_scene_do_not_matter() -> None:
    flat, high = (
        GeoBox(9, 9, (1.0, 0.0, 85_000.0, 0.0, -1.0, 446_000.0), crs) for crs in ("EPSG:28992", "EPSG:7415")
    )
    box = np.array([shapely.box(0, 0, 5, 5)])
    assert reproject(box, flat, WGS84)[0][0].equals(reproject(box, high, WGS84)[0][0])
    assert measure(box, flat)[0] == pytest.approx(measure(box, high)[0])


@pytest.mark.parametrize("crs", ["EPSG:3035", "EPSG:2193", "EPSG:31467", "EPSG:4326"])
def test_x_is_east_whatever_the_order_of_axes(crs: str) -> None:
    lon, lat = (174, -41) if crs == "EPSG:2193" else (9, 50)
    grid = GeoBox(9, 9, (1e-5, 0.0, lon, 0.0, -1e-5, lat), WGS84)
    (moved,), _ = reproject(np.array([shapely.box(0, 0, 9, 9)]), grid, crs)
    assert moved.centroid.coords[0] == pytest.approx(
        Transformer.from_crs(WGS84, crs, always_xy=True).transform(lon + 4.5e-5, lat - 4.5e-5), rel=1e-7
    )
