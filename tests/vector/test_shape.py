"""Features: simplified, measured, placed, and independent of the batch they are in."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod, Transformer

from geoseg.errors import InvalidOption
from geoseg.testing import assert_same_polygons
from geoseg.values import ClassInfo, ClassRule, GeoBox, LayerSchema, Transform
from geoseg.vector.features import COLUMNS, finish, no_features
from geoseg.vector.pieces import Calibration, Evidence, Piece
from geoseg.vector.place import measure
from geoseg.vector.shape import ShapeRules
from geoseg.vector.simplify import simplify_shared
from tests.vector.fields import Field, building, fields, whole

CLASSES = tuple(ClassInfo(i, f"class {i}", (10 * i, 0, 0)) for i in range(1, 256))
UTM: Transform = (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_000_000.0)


def schema(crs: str | None = "EPSG:32633", classes: int = 255) -> LayerSchema:
    return LayerSchema("layer", crs, CLASSES[:classes])


def grid(field: Field, transform: Transform = UTM, crs: str | None = "EPSG:32633") -> GeoBox:
    return GeoBox(*field.valid.shape, transform, crs)


def rectangle(*bounds: float) -> Piece:
    return Piece(1, shapely.box(*bounds), Evidence(10, 10 * 49152, 7, True, False))


def blobs(side: int = 60, seed: int = 0, channels: int = 1) -> Field:
    """Return smooth noise with many shapes, for one class or several."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(channels, side, side)))
    rows, cols = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    waves = np.fft.irfft2(spectrum * np.exp(-((rows**2 + cols**2) * 300)), s=(side, side))
    waves = 0.5 + 0.2 * waves / waves.std()
    if channels == 1:
        return building(waves[0])
    field = building(waves[0])
    values = np.round(np.clip(waves, 0, 1) * 65535).astype(np.uint16)
    return Field(values, field.valid, type(field.rule)(tuple(range(channels)), 0.3))


def test_confidence_is_calibrated_and_what_is_left_out_goes_by_it() -> None:
    pieces = [Piece(1, shapely.box(9 * i, 3, 9 * i + 6, 9), Evidence(1, i * 6553, i)) for i in range(1, 11)]
    layer = GeoBox(99, 99, UTM, "EPSG:32633"), schema()
    plain = finish(pieces, layer[0], ShapeRules(), layer[1])["confidence"].to_numpy()
    rules = ShapeRules(calibration=Calibration(2.4, -1.0))
    found = np.sort(finish(pieces, layer[0], rules, layer[1])["confidence"])
    odds = np.sort(plain / (1 - plain))
    assert found == pytest.approx(odds**2.4 / (odds**2.4 + np.exp(1.0)))
    kept = finish(pieces, layer[0], replace(rules, min_confidence=found[4]), layer[1])["confidence"]
    assert np.sort(kept).tolist() == found[4:].tolist()


def test_columns_and_their_values() -> None:
    table = finish([rectangle(2, 3, 12, 7)], GeoBox(50, 50, UTM, "EPSG:32633"), ShapeRules(), schema())
    assert list(table.columns) == [*COLUMNS, "geometry"]
    assert table.dtypes[:-1].astype(str).to_dict() == COLUMNS
    row = table.iloc[0]
    assert (row["class"], row["class_name"]) == (1, "class 1")
    assert 0 < row["id"] < 2**52
    assert not row["regularized"]
    assert math.isnan(row["deviation_m"])
    assert row["confidence"] == pytest.approx(49152 / 65535)
    assert row["touches_edge"]
    assert not row["touches_nodata"]
    assert row["geometry"].equals(shapely.box(500_001, 4_999_996.5, 500_006, 4_999_998.5))
    assert row["area_m2"] == pytest.approx(5 * 2 / 0.9996**2, rel=1e-6)
    assert row["perimeter_m"] == pytest.approx(14 / 0.9996, rel=1e-6)
    assert table.crs.to_epsg() == 32633


def test_an_empty_layer_has_all_columns() -> None:
    for table in (no_features(schema()), finish([], GeoBox(5, 5, UTM, "EPSG:32633"), ShapeRules(), schema())):
        assert len(table) == 0
        assert table.dtypes[:-1].astype(str).to_dict() == COLUMNS
        assert table.crs.to_epsg() == 32633


transforms = st.sampled_from(
    [
        UTM,
        (0.5, 0.0, 500_000.0, 0.0, 0.5, 5_000_000.0),
        (0.3, 0.4, 500_000.0, 0.4, -0.3, 5_000_000.0),
        (-0.5, 0.1, 500_000.0, 0.2, -0.7, 5_000_000.0),
    ]
)


@settings(max_examples=60)
@given(fields(channels=(1, 1)), transforms, st.sampled_from([0.0, 0.4, 1.0]))
def test_rings_are_valid_and_turn_as_ogc_wants(field: Field, transform: Transform, simplify: float) -> None:
    table = finish(whole(field, "smooth"), grid(field, transform), ShapeRules(simplify), schema())
    for polygon in table.geometry:
        assert polygon.is_valid
        assert polygon.geom_type == "Polygon"
        assert polygon.exterior.is_ccw
        assert not any(hole.is_ccw for hole in polygon.interiors)


@settings(max_examples=60)
@given(fields(channels=(1, 1)), transforms)
def test_vertices_are_mapped_by_the_affine_transform(field: Field, transform: Transform) -> None:
    pieces, box = whole(field, "pixel"), grid(field, transform)
    table = finish(pieces, box, ShapeRules(), schema())
    expected = shapely.transform([piece.polygon for piece in pieces], box.to_crs)
    assert_same_polygons(table, zip((p.label for p in pieces), expected, strict=True))


def test_features_do_not_depend_on_the_batch_or_on_where_rings_begin() -> None:
    for field, classes in ((blobs(), 1), (blobs(channels=4), 255)):
        pieces = whole(field, "smooth")
        rules, layer = ShapeRules(0.5, 0.3, 0.5), schema(classes=classes)
        together = finish(pieces, grid(field), rules, layer)
        turned = [Piece(p.label, _begin_elsewhere(p.polygon), p.evidence) for p in pieces]
        alone = [finish([piece], grid(field), rules, layer) for piece in turned]
        assert_same_polygons(
            together, [pair for t in alone for pair in zip(t["class"], t.geometry, strict=True)]
        )
        assert together.geometry.iloc[0].wkb == alone[0].geometry.iloc[0].wkb


def _begin_elsewhere(polygon: shapely.Polygon) -> shapely.Polygon:
    def roll(ring: shapely.LinearRing) -> np.ndarray:
        points = shapely.get_coordinates(ring)[:-1]
        return np.roll(points, len(points) // 2, axis=0)

    return shapely.Polygon(roll(polygon.exterior), [roll(hole) for hole in polygon.interiors])


def test_simplification_stays_within_its_tolerance_and_keeps_holes() -> None:
    field = blobs(120)
    pieces = whole(field, "smooth")
    exact = finish(pieces, grid(field), ShapeRules(), schema(classes=1)).geometry
    simple = finish(pieces, grid(field), ShapeRules(0.25, 0, 0.5), schema(classes=1)).geometry
    assert (
        shapely.get_num_coordinates(simple.to_numpy()).sum()
        < 0.5 * shapely.get_num_coordinates(exact.to_numpy()).sum()
    )
    assert (shapely.hausdorff_distance(simple.to_numpy(), exact.to_numpy()) <= 0.25 + 1e-9).all()
    assert [len(p.interiors) for p in simple] == [len(p.interiors) for p in exact]


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 1.0, 2.0]))
def test_classes_still_share_their_borders_when_simplified(seed: int, tolerance: float) -> None:
    polygons = np.array([piece.polygon for piece in whole(blobs(seed=seed, channels=4), "smooth")])
    simplified = simplify_shared(shapely.normalize(polygons), tolerance)
    assert shapely.is_valid(simplified).all()
    assert shapely.coverage_is_valid(simplified)
    assert shapely.get_num_coordinates(simplified).sum() < 0.5 * shapely.get_num_coordinates(polygons).sum()
    assert shapely.hausdorff_distance(simplified, polygons).max() <= min(tolerance, 1.5)


@settings(max_examples=100)
@given(fields(channels=(2, 4)), st.sampled_from([0.3, 1.0, 9.0]))
def test_noise_and_nodata_stay_a_partition_when_simplified(field: Field, tolerance: float) -> None:
    polygons = np.array([piece.polygon for piece in whole(field, "smooth")], dtype=object)
    simplified = simplify_shared(shapely.normalize(polygons), tolerance)
    assert shapely.is_valid(simplified).all()
    assert shapely.coverage_is_valid(simplified)


def test_pixel_outlines_of_several_classes_keep_their_exact_edges() -> None:
    polygons = np.array([piece.polygon for piece in whole(blobs(channels=4), "pixel")])
    assert_same_polygons([(1, p) for p in simplify_shared(polygons, 3.0)], [(1, p) for p in polygons])


def quadrangle(south: float, north: float, degrees: float) -> float:
    """Return the area between two parallels and two meridians of WGS 84 (Snyder, 1987)."""
    ellipsoid = CRS("EPSG:4326").get_geod()
    assert isinstance(ellipsoid, Geod)
    e = math.sqrt(ellipsoid.es)

    def zone(latitude: float) -> float:
        s = math.sin(math.radians(latitude))
        return s / (1 - ellipsoid.es * s * s) + math.log((1 + e * s) / (1 - e * s)) / (2 * e)

    return ellipsoid.b**2 * math.radians(degrees) * (zone(north) - zone(south)) / 2


def test_areas_in_degrees_and_web_mercator_are_those_of_the_ellipsoid() -> None:
    degrees = (0.001, 0.0, 10.0, 0.0, -0.001, 60.0)
    box = GeoBox(400, 300, degrees, "EPSG:4326")
    area = finish([rectangle(0, 0, 300, 400)], box, ShapeRules(), schema("EPSG:4326"))["area_m2"][0]
    assert area == pytest.approx(quadrangle(59.6, 60.0, 0.3), rel=1e-8)

    to_mercator = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    (west, east), (south, north) = to_mercator.transform([10.0, 10.3], [59.6, 60.0])
    transform = ((east - west) / 300, 0.0, west, 0.0, (south - north) / 400, north)
    box = GeoBox(400, 300, transform, "EPSG:3857")
    area = finish([rectangle(0, 0, 300, 400)], box, ShapeRules(), schema("EPSG:3857"))["area_m2"][0]
    assert area == pytest.approx(quadrangle(59.6, 60.0, 0.3), rel=1e-8)


def test_areas_in_us_feet_are_in_square_metres() -> None:
    box = GeoBox(1000, 1000, (1.0, 0.0, 1_000_000.0, 0.0, -1.0, 200_000.0), "EPSG:2263")
    table = finish([rectangle(0, 0, 1000, 1000)], box, ShapeRules(), schema("EPSG:2263"))
    corners = np.array(table.geometry[0].exterior.coords)
    local = CRS("+proj=laea +lat_0=40.7154 +lon_0=-73.9359 +datum=NAD83 +type=crs")
    x, y = Transformer.from_crs("EPSG:2263", local, always_xy=True).transform(*corners.T)
    assert table["area_m2"][0] == pytest.approx(shapely.Polygon(np.column_stack([x, y])).area, rel=1e-7)
    assert table["area_m2"][0] == pytest.approx((1000 * 1200 / 3937) ** 2, rel=1e-4)
    assert table["perimeter_m"][0] == pytest.approx(4000 * 1200 / 3937, rel=1e-4)


def test_holes_are_taken_off_the_area_and_count_in_the_perimeter() -> None:
    ring = shapely.box(0, 0, 10, 10) - shapely.box(2, 2, 4, 4)
    table = finish(
        [Piece(1, ring, Evidence(96, 96, 0))], GeoBox(10, 10, UTM, "EPSG:32633"), ShapeRules(), schema()
    )
    assert table["area_m2"][0] == pytest.approx(96 / 4 / 0.9996**2, rel=1e-6)
    assert table["perimeter_m"][0] == pytest.approx((40 + 8) / 2 / 0.9996, rel=1e-6)


def test_without_a_crs_areas_are_unknown_and_pixels_decide() -> None:
    box = GeoBox(50, 50, UTM, None)
    table = finish([rectangle(0, 0, 3, 3), rectangle(0, 0, 2, 2)], box, ShapeRules(0, 5, 1), schema(None))
    assert len(table) == 1
    assert table[["area_m2", "perimeter_m"]].isna().all(axis=None)
    assert table.crs is None


def test_small_polygons_are_left_out_by_their_geodesic_area() -> None:
    pieces = [rectangle(0, 0, side, side) for side in (2, 4, 6)]
    table = finish(pieces, GeoBox(50, 50, UTM, "EPSG:32633"), ShapeRules(0, 4.001, 0.5), schema())
    assert len(table) == 2  # 4 px are 2 m: 4.0032 m² on the ellipsoid


def ties() -> Field:
    """Return two classes of certain pixels: where they meet, polygons of 3e-11 m² that measure 1e-5 m²."""
    values = np.random.default_rng(1).integers(0, 2, (2, 3, 16)) * 65535
    return Field(values.astype(np.uint16), np.ones((3, 16), bool), ClassRule((1, 2), 0.5))


def at_the_pole() -> Field:
    """Return a class whose polygon lies in half of a pixel of 5° x 2°, that next to the pole."""
    values = np.array([[[0, 1, 1], [1, 0, 0]], [[1, 1, 0], [0, 1, 0]]]) * 65535
    return Field(values.astype(np.uint16), np.ones((2, 3), bool), ClassRule((0, 1), 0.5))


@example(at_the_pole(), ((5.0, 0.0, -170.0, 0.0, -2.0, 89.0), "EPSG:4326"), 0.0625, 0.5)
@example(at_the_pole(), ((5.0, 0.0, -170.0, 0.0, -0.5, 89.0), "EPSG:4326"), 0.0625, 0.5)
@example(ties(), (UTM, "EPSG:32633"), 0.0, 0.0)
@given(
    fields(channels=(1, 3)),
    st.sampled_from(
        [
            (UTM, "EPSG:32633"),
            ((0.01, 0.0, 10.0, 0.0, -0.01, 70.0), "EPSG:4326"),  # a pixel shrinks by 5 % in 60 rows
            ((5.0, 0.0, -170.0, 0.0, -2.0, 89.0), "EPSG:4326"),  # the whole Earth
            ((300.0, 100.0, 0.0, 100.0, -300.0, 9_000_000.0), "EPSG:3857"),
            ((1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None),
        ]
    ),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_what_is_left_out_unmeasured_was_too_small(
    field: Field, place: tuple[Transform, str | None], share: float, simplify: float
) -> None:
    transform, crs = place
    box, pieces = grid(field, transform, crs), whole(field, "smooth")
    rules = ShapeRules(simplify_m=simplify)
    everything = finish(pieces, box, rules, schema(crs))
    size = everything["area_m2"] if crs else everything.geometry.area
    least = float(size.quantile(share)) if len(everything) else 1.0
    found = finish(pieces, box, ShapeRules(simplify, min_area_m2=least), schema(crs))
    if crs:
        expected = everything[size >= least].reset_index(drop=True)
        assert found["id"].tolist() == expected["id"].tolist()
        assert found.geometry.geom_equals(expected.geometry).all()
    else:  # areas of the layer's geometry differ from those that decided by rounding
        assert set(everything["id"][size > least * (1 + 1e-9)]) <= set(found["id"])
        assert set(found["id"]) <= set(everything["id"][size >= least * (1 - 1e-9)])


def test_speckle_is_left_out_unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[shapely.Polygon] = []
    monkeypatch.setattr(
        "geoseg.vector.shape.measure",
        lambda polygons, box: (measured.extend(polygons), measure(polygons, box))[1],
    )
    speckle = [rectangle(col, 0, col + 2, 2) for col in range(0, 40, 4)]
    rules = ShapeRules(min_area_m2=25 * 0.25)
    found = finish([*speckle, rectangle(0, 10, 6, 16)], GeoBox(50, 50, UTM, "EPSG:32633"), rules, schema())
    assert (len(found), len(measured)) == (1, 1)


def test_straight_walls_end_with_the_area_of_interest() -> None:
    house = shapely.Polygon([(4, 4), (16, 4), (16, 10), (15, 11), (16, 12), (16, 20), (4, 20)])
    piece = Piece(1, shapely.segmentize(house, 1), Evidence(190, 190 * 60_000, 7, touches_nodata=True))
    area = shapely.Polygon([(0, 0), (15.5, 0), (15.5, 30), (0, 30)])
    for within, east in ((None, 16.0), (area, 15.5)):
        rules = ShapeRules(max_deviation_m=1, metres_per_pixel=0.5, within=within)
        table = finish([piece], GeoBox(50, 50, UTM, "EPSG:32633"), rules, schema(classes=1))
        assert table["regularized"].all()
        assert table.total_bounds[2] == pytest.approx(500_000 + east / 2, abs=0.06)
    assert table.total_bounds[2] <= 500_000 + 15.5 / 2
    assert table["area_m2"][0] == pytest.approx(table.geometry[0].area, rel=0.01)


def test_polygons_are_reprojected_to_the_crs_of_the_layer() -> None:
    box = GeoBox(50, 50, UTM, "EPSG:32633")
    table = finish([rectangle(0, 0, 50, 50)], box, ShapeRules(), schema("EPSG:4326"))
    assert table.crs.to_epsg() == 4326
    assert table.geometry[0].exterior.is_ccw
    corner = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(500_025, 4_999_975)
    assert table.geometry[0].bounds[1:3] == pytest.approx((corner[1], corner[0]))
    assert table["area_m2"][0] == pytest.approx(625 / 0.9996**2, rel=1e-6)


def test_polygons_over_the_antimeridian_stay_in_one_piece() -> None:
    box = GeoBox(50, 50, (10.0, 0.0, 166_021.44 - 250, 0.0, -10.0, 500), "EPSG:32601")
    table = finish([rectangle(0, 0, 50, 50)], box, ShapeRules(), schema("EPSG:4326"))
    west, _, east, _ = table.geometry[0].bounds
    assert west < 180 < east
    assert east - west < 0.01


@pytest.mark.parametrize(("source", "target"), [(None, "EPSG:4326"), ("EPSG:4326", "+proj=ortho +lat_0=-90")])
def test_a_crs_that_cannot_hold_the_polygons_is_refused(source: str | None, target: str) -> None:
    box = GeoBox(50, 50, (1.0, 0.0, 0.0, 0.0, -1.0, 90.0), source)
    with pytest.raises(InvalidOption, match="--crs"):
        finish([rectangle(0, 0, 50, 50)], box, ShapeRules(), schema(target))
