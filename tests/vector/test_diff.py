"""What changed between two layers is told for every feature of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
import shapely.affinity
from hypothesis import given
from hypothesis import strategies as st

from geoseg.cli import run
from geoseg.vector.diff import STATUS, compare

OLD = [
    shapely.box(0, 0, 10, 10),  # stays
    shapely.box(20, 0, 30, 10),  # moves by 1 m
    shapely.box(40, 0, 60, 10),  # is split
    shapely.box(68, 0, 80, 10),  # merged with the next
    shapely.box(80, 0, 90, 10),
    shapely.box(100, 0, 110, 10),  # goes
    shapely.box(120, 0, 130, 10),  # becomes much smaller
]
NEW = [
    shapely.box(0, 0, 10, 10),
    shapely.box(21, 0, 31, 10),
    shapely.box(40, 0, 49, 10),
    shapely.box(49, 0, 60, 10),
    shapely.box(68, 0, 90, 10),
    shapely.box(120, 0, 123, 10),
    shapely.box(140, 0, 150, 10),  # comes
]
EXPECTED = ["unchanged", "unchanged", "split", "split", "merged", "changed", "added", "removed"]


def layer(path: Path, polygons: list[shapely.Polygon], first: int, crs: str | None = "EPSG:32633") -> Path:
    placed = [shapely.affinity.translate(one, 500_000, 5_000_000) for one in polygons]
    frame = geopandas.GeoDataFrame({"id": np.arange(len(placed)) + first}, geometry=placed, crs="EPSG:32633")
    frame = frame.to_crs(crs) if crs else frame.set_crs(None, allow_override=True)
    frame.to_file(path) if path.suffix != ".parquet" else frame.to_parquet(path)
    return path


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_every_kind_of_change_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str], crs: str) -> None:
    old = layer(tmp_path / "old.parquet", OLD, 100, crs)
    new = layer(tmp_path / "new.gpkg", NEW, 0)
    out = tmp_path / "changes.gpkg"
    assert run(["diff", str(old), str(new), "--out", str(out), "--keep-ids"]) == 0
    line = "2 unchanged, 1 changed, 1 split into 2, 2 merged into 1, 1 added, 1 removed"
    assert capfd.readouterr().err.strip() == line
    found = pyogrio.read_dataframe(out, layer="changes")
    assert found["status"].tolist() == EXPECTED
    assert found["iou"][0] == pytest.approx(1, abs=1e-3)
    assert found["iou"][1] == pytest.approx(9 / 11, abs=1e-3)
    assert found["shift_m"][1] == pytest.approx(1, abs=0.01)
    assert found["old_id"][:7].fillna(-1).tolist() == [100, 101, 102, 102, 103, 106, -1]
    assert found["old_ids"][3:5].tolist() == ["102", "103,104"]
    assert found["shift_m"][2:5].isna().all()
    assert found["id"].tolist() == [100, 101, 2, 102, 103, 106, 6, 105]
    style = pyogrio.read_dataframe(out, layer="layer_styles")["styleQML"][0]
    assert all(info.name in style for info in STATUS)


def test_without_a_crs_one_line_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plain = layer(tmp_path / "plain.parquet", OLD, 0, None)
    new = layer(tmp_path / "new.gpkg", NEW, 0)
    assert run(["diff", str(plain), str(new), "--out", str(tmp_path / "c.gpkg")]) == 2
    assert "has no CRS" in capfd.readouterr().err
    assert not (tmp_path / "c.gpkg").exists()


@pytest.mark.parametrize("name", ["old.gpkg", "new.gpkg"])
def test_a_layer_that_is_read_is_not_replaced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    old, new = layer(tmp_path / "old.gpkg", OLD, 0), layer(tmp_path / "new.gpkg", NEW, 0)
    before = (tmp_path / name).read_bytes()
    assert run(["diff", str(old), str(new), "--out", str(tmp_path / name), "--overwrite"]) == 2
    assert "is the file that is read; write to another" in capfd.readouterr().err
    assert (tmp_path / name).read_bytes() == before


def frame(ids: list[Any] | None, polygons: list[Any]) -> geopandas.GeoDataFrame:
    columns = {} if ids is None else {"id": ids}
    return geopandas.GeoDataFrame(columns, geometry=polygons, crs="EPSG:32633")


def changes(folder: Path, old: geopandas.GeoDataFrame, new: geopandas.GeoDataFrame, *options: str) -> Any:
    old.to_file(folder / "old.gpkg")
    new.to_file(folder / "new.gpkg")
    out = folder / "changes.gpkg"
    assert run(["diff", str(folder / "old.gpkg"), str(folder / "new.gpkg"), "--out", str(out), *options]) == 0
    return pyogrio.read_dataframe(out, layer="changes")


@pytest.mark.parametrize("options", [[], ["--keep-ids"]])
def test_of_empty_layers_all_is_added_or_removed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str]
) -> None:
    full, empty = frame([1, 2], OLD[:2]), frame([1], OLD[:1])[:0]
    for old, new, status, told in (
        (full, empty, ["removed"] * 2, "0 added, 2 removed"),
        (empty, full, ["added"] * 2, "2 added, 0 removed"),
        (empty, empty, [], "0 added, 0 removed"),
    ):
        found = changes(tmp_path, old, new, "--overwrite", *options)
        assert found["status"].tolist() == status
        assert told in capfd.readouterr().err


def test_layers_without_polygons_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    points, new = tmp_path / "points.gpkg", layer(tmp_path / "new.gpkg", NEW, 0)
    frame([1], [shapely.Point(0, 0)]).to_file(points)
    for one, two in ((points, new), (new, points)):
        assert run(["diff", str(one), str(two), "--out", str(tmp_path / "c.gpkg")]) == 2
        assert capfd.readouterr().err.splitlines() == [f"geoseg: error: {points}: holds no polygons"]


def test_ids_of_different_types_become_text(tmp_path: Path) -> None:
    found = changes(tmp_path, frame([7, 8], OLD[:2]), frame(["a", None], [OLD[0], NEW[-1]]), "--keep-ids")
    assert found["old_id"].fillna("").tolist() == ["7", "", "8"]
    assert found["new_id"].fillna("").tolist() == ["a", "", ""]
    assert found["id"].tolist() == ["7", "1", "8"]


@pytest.mark.parametrize("new_ids", [[1, 3, 2, 3], None])
def test_every_id_stands_once(tmp_path: Path, new_ids: list[int] | None) -> None:
    old = frame([2, 3, 5, 5], [OLD[0], OLD[5], OLD[1], OLD[6]])
    new = frame(new_ids, [OLD[0], OLD[2], NEW[-1], OLD[1]])
    found = changes(tmp_path, old, new, "--keep-ids")
    assert found["id"].is_unique
    kept = dict(zip(found["old_id"], found["id"], strict=True))
    assert (kept[2], kept[3], found["id"][3]) == (2, 3, 5)
    assert changes(tmp_path, old, new, "--overwrite")["id"].is_unique


def test_of_several_to_several_every_old_one_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old = frame([1, 2], [shapely.box(0, 0, 10, 10), shapely.box(0, 0, 10, 9.5)])
    new = frame([1, 2], [shapely.box(0, 0, 5, 10), shapely.box(5, 0, 10, 10)])
    found = changes(tmp_path, old, new)
    assert found["old_ids"].tolist() == ["1,2", "1,2"]
    assert "0 changed, 2 split into 2, 0 merged, 0 added, 0 removed" in capfd.readouterr().err


boxes = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 4), st.integers(1, 4)), max_size=8
)


@given(boxes, boxes, st.floats(0.1, 1))
def test_every_polygon_is_accounted_for(
    one: list[tuple[int, ...]], two: list[tuple[int, ...]], iou: float
) -> None:
    old, new = (
        np.array([shapely.box(x, y, x + w, y + h) for x, y, w, h in sides], object) for sides in (one, two)
    )
    found = compare(old, new, iou)
    assert found.new[: len(new)].tolist() == list(range(len(new)))
    row, source = found.links.T
    assert set(source.tolist()) == set(range(len(old)))
    assert (found.old[row] >= 0).all()
    named = found.old >= 0
    assert set(zip(np.flatnonzero(named), found.old[named], strict=True)) <= set(
        zip(row, source, strict=True)
    )
    names = [STATUS[status].name for status in found.status]
    assert ((found.iou >= iou) | ~np.isin(names, ["unchanged", "split", "merged"])).all()
    apart = np.array([shapely.affinity.translate(box, 20 * i) for i, box in enumerate(new)], object)
    assert [STATUS[status].name for status in compare(apart, apart, iou).status] == ["unchanged"] * len(new)


def test_coordinates_that_are_no_degrees_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    metres = tmp_path / "metres.geojson"
    metres.write_text(shapely.to_geojson(shapely.box(500_000, 5_000_000, 500_009, 5_000_009)))
    new = layer(tmp_path / "new.gpkg", NEW, 0)
    for arguments in (["diff", metres, new], ["diff", new, metres], ["regularize", metres],
                      ["evaluate", metres, "--prediction", new]):  # fmt: skip
        out = [] if arguments[0] == "evaluate" else ["--out", tmp_path / "c.gpkg"]
        assert run([*map(str, arguments), *map(str, out)]) == 2
        assert "its coordinates cannot be degrees" in capfd.readouterr().err
