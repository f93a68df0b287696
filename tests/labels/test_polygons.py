"""Labelled polygons: features of several taken apart, and what is wrong told in one line."""

from __future__ import annotations

import geopandas
import numpy as np
import pytest
import shapely

from geoseg.errors import InvalidOption
from geoseg.labels.classes import UNKNOWN, ClassTable
from geoseg.labels.polygons import read_labelled, read_polygons
from geoseg.testing import NORTH_UP
from geoseg.values import GeoBox

UTM = GeoBox(100, 120, NORTH_UP, "EPSG:32633")
TABLE = ClassTable.named({1: "building", 2: "road"})


def write(path, *geometries, crs="EPSG:32633", **columns):
    placed = shapely.transform(np.array(geometries, object), UTM.to_crs)
    geopandas.GeoDataFrame(columns, geometry=placed, crs=crs).to_file(path)
    return path


def test_a_feature_of_several_polygons_counts_as_several_and_is_told(tmp_path) -> None:
    parts = [shapely.box(i, i, i + 1, i + 1) for i in range(0, 10, 2)]
    path = write(
        tmp_path / "a.gpkg",
        shapely.MultiPolygon(parts),
        shapely.box(50, 50, 60, 60),
        kind=["road", "building"],
    )
    polygons, ids = read_labelled(path, TABLE, "kind")
    assert ids.tolist() == [2] * 5 + [1]
    assert (shapely.get_type_id(polygons.parts) == shapely.GeometryType.POLYGON).all()
    (note,) = polygons.notes
    assert "1 features consist of several polygons (5 in all), each of which counts as an object" in note


def test_values_are_read_as_names_of_classes(tmp_path) -> None:
    boxes = [shapely.box(i, 0, i + 1, 1) for i in range(5)]
    kinds = ["Building ", "ROAD", "ignore", "background", "1"]
    _, ids = read_labelled(write(tmp_path / "a.gpkg", *boxes, kind=kinds), TABLE, "kind")
    assert ids.tolist() == [1, 2, 255, 0, 1]
    found = read_polygons(tmp_path / "a.gpkg", columns=("kind",))
    assert found.class_ids(TABLE, "kind", "x").tolist() == [1, 2, UNKNOWN, 0, 1]
    empty = write(tmp_path / "b.gpkg", *boxes, kind=["road", "", "  ", None, "road"])
    with pytest.raises(InvalidOption, match=r"'null' is no class \(3 features have no value\)"):
        read_labelled(empty, TABLE, "kind")


def test_only_polygons_near_a_grid_are_placed_on_it(tmp_path) -> None:
    near, far = shapely.box(10, 10, 20, 20), shapely.box(9000, 10, 9010, 20)
    found = read_polygons(write(tmp_path / "a.gpkg", far, near))
    placed, index = found.placed(UTM)
    assert index.tolist() == [1]
    assert shapely.equals_exact(shapely.normalize(placed), shapely.normalize(near), 1e-6).all()
    with pytest.raises(InvalidOption, match="cannot be placed on a raster without a CRS"):
        found.placed(GeoBox(9, 9, NORTH_UP, None))
