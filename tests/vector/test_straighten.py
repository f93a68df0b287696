"""Any layer of polygons gets straight walls and keeps everything else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import geopandas
import numpy as np
import pandas
import pyarrow
import pyogrio
import pytest
import shapely
import shapely.affinity

from geoseg.cli import run
from geoseg.vector.straighten import RegularizeOptions, straighten
from tests.vector.test_regularize import corners, drawn

METRES = 0.3


def houses() -> list[shapely.Polygon]:
    """Return traced outlines of three houses, in metres."""
    shapes = [shapely.box(30, 30, 60, 50), shapely.box(20, 20, 70, 60) - shapely.box(20, 20, 45, 40)]
    turned = [shapely.affinity.rotate(one, angle) for one, angle in zip(shapes, (20, 50), strict=True)]
    return [shapely.affinity.scale(drawn(one, 3), METRES, -METRES, origin=(0, 0)) for one in turned]


def frame(crs: str | None) -> geopandas.GeoDataFrame:
    one, two = houses()
    apart = shapely.affinity.translate(one, 50, 0)
    wild = shapely.Point(200, 0).buffer(20).symmetric_difference(shapely.Point(215, 8).buffer(9))
    bow = shapely.Polygon([(300, 0), (310, 10), (310, 0), (300, 10)])
    shapes = [one, shapely.MultiPolygon([two, apart]), wild, bow]
    placed = [shapely.affinity.translate(shape, 500_000, 5_000_000) for shape in shapes]
    table = geopandas.GeoDataFrame(
        {"name": ["a", "b", None, "d"], "floors": [1, 2, 3, 4], "height": [1.5, np.nan, 2.5, 3.0]},
        geometry=placed,
        crs="EPSG:32633",
    )
    return table.to_crs(crs) if crs else table.set_crs(None, allow_override=True)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857", None])
@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet", ".geojson"])
def test_attributes_and_what_is_not_regular_stay(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, crs: str | None
) -> None:
    source, out = tmp_path / ("in.gpkg" if crs else "in.parquet"), tmp_path / f"out{suffix}"
    table = frame(crs)
    table.to_file(source, layer="in") if crs else table.to_parquet(source)
    code = run(["regularize", str(source), "--out", str(out), "--max-deviation", "0.6"])
    err = capfd.readouterr().err
    if suffix == ".geojson" and crs is None:
        assert code == 2
        assert "no CRS" in err
        return
    assert code == 0, err
    assert "not valid" in err
    found = geopandas.read_parquet(out) if suffix == ".parquet" else geopandas.read_file(out)
    found = found.sort_values("floors", ignore_index=True)
    for name in ("name", "floors", "height"):
        assert list(map(str, found[name])) == list(map(str, table[name]))
    assert found["regularized"].tolist() == [True, True, False, False]
    assert (found["deviation_m"][:2] <= 0.6).all()
    assert found["deviation_m"][2:].isna().all()
    counts = [corners(part) for shape in found.geometry[:2] for part in getattr(shape, "geoms", [shape])]
    assert counts == [4, 6, 4]
    expected = table.to_crs(4326) if suffix == ".geojson" else table
    assert shapely.hausdorff_distance(found.geometry[2], expected.geometry[2]) < 1e-8


def test_heights_are_dropped_with_a_note(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = frame("EPSG:32633")[:1]
    table = table.set_geometry(shapely.force_3d(table.geometry.to_numpy(), 7.0))
    table.to_file(tmp_path / "in.gpkg")
    assert run(["regularize", str(tmp_path / "in.gpkg"), "--out", str(tmp_path / "out.gpkg")]) == 0
    assert "heights" in capfd.readouterr().err
    assert not geopandas.read_file(tmp_path / "out.gpkg").has_z.any()


def test_a_layer_without_polygons_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = geopandas.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (9, 9)])] * 2, crs="EPSG:32633")
    source, out = tmp_path / "in.gpkg", tmp_path / "out.gpkg"
    lines.to_file(source)
    assert run(["regularize", str(source), "--out", str(out), "--quiet"]) == 2
    assert capfd.readouterr().err.splitlines() == [f"geoseg: error: {source}: holds no polygons"]
    assert [path.name for path in tmp_path.iterdir()] == ["in.gpkg"]
    mixed = tmp_path / "mixed.parquet"
    geopandas.GeoDataFrame(geometry=[*lines.geometry, houses()[0], None], crs="EPSG:32633").to_parquet(mixed)
    assert run(["regularize", str(mixed), "--out", str(out)]) == 0
    assert "2 features are no polygons and stay as they are" in capfd.readouterr().err
    assert run(["regularize", str(mixed), "--out", str(tmp_path / "out.fgb")]) == 2
    assert "takes no features without a geometry" in capfd.readouterr().err
    empty = geopandas.GeoDataFrame({"a": [1]}, geometry=houses()[:1], crs="EPSG:32633")[:0]
    empty.to_file(source)
    assert run(["regularize", str(source), "--out", str(out), "--overwrite"]) == 0


def test_a_full_disk_is_told_though_gdal_makes_room_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(reader: pyarrow.RecordBatchReader, *_: object, **__: object) -> None:
        reader.read_next_batch()
        raise pyogrio.errors.FeatureError("cannot rollback - no transaction is active")

    frame("EPSG:32633").to_file(tmp_path / "in.gpkg")
    out = tmp_path / "out.gpkg"
    monkeypatch.setattr("pyogrio.write_arrow", failing)
    for room, words in (
        (1000, f"no space left in {tmp_path}; make room"),
        (10**9, "cannot be written (cannot"),
    ):
        monkeypatch.setattr("shutil.disk_usage", lambda _, room=room: SimpleNamespace(free=room))
        assert run(["regularize", str(tmp_path / "in.gpkg"), "--out", str(out), "--quiet"]) == 2
        assert f"geoseg: error: {out}: {words}" in capfd.readouterr().err


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".parquet"])
def test_what_the_format_has_no_type_for_is_dropped_with_a_note(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str
) -> None:
    table = frame("EPSG:32633")[:2].assign(age=pandas.to_timedelta([1, 2], unit="h"), empty=None)
    table.to_parquet(tmp_path / "in.parquet")
    out = tmp_path / f"out{suffix}"
    assert run(["regularize", str(tmp_path / "in.parquet"), "--out", str(out)]) == 0
    kept = suffix == ".parquet"
    assert ("age" in (geopandas.read_parquet(out) if kept else geopandas.read_file(out))) == kept
    assert ("age is left out" in capfd.readouterr().err) != kept


def test_an_attribute_without_values_stays(tmp_path: Path) -> None:
    table = frame("EPSG:4326")[:2].assign(empty=None)
    table.to_file(tmp_path / "in.geojson")
    assert run(["regularize", str(tmp_path / "in.geojson"), "--out", str(tmp_path / "out.gpkg")]) == 0
    assert geopandas.read_file(tmp_path / "out.gpkg")["empty"].isna().all()


def test_the_file_that_is_read_is_not_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.gpkg"
    frame("EPSG:32633").to_file(path)
    before = path.read_bytes()
    assert run(["regularize", str(path), "--out", str(path), "--overwrite"]) == 2
    assert run(["regularize", str(path), "--out", str(tmp_path / "out.shp")]) == 2
    assert run(["regularize", str(path), "--layer", "no", "--out", str(tmp_path / "o.gpkg")]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 3
    assert path.read_bytes() == before


def test_twice_is_as_once() -> None:
    options = RegularizeOptions(max_deviation=0.6)
    shapes = np.array(frame("EPSG:32633").geometry[:2])
    once, accepted, _ = straighten(shapes, None, options)
    again, still, _ = straighten(once, None, options)
    assert accepted.all()
    assert still.all()
    assert shapely.hausdorff_distance(once, again).max() < 1e-5


def test_nothing_to_do() -> None:
    made, accepted, _ = straighten(np.array([shapely.Point(1, 1), None], object), None, RegularizeOptions())
    assert made[0] == shapely.Point(1, 1)
    assert not accepted.any()
