"""What changed between two layers is told for every feature of both."""

from __future__ import annotations

from pathlib import Path

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
    line = "2 unchanged, 1 changed, 2 split, 1 merged, 1 added, 1 removed"
    assert capfd.readouterr().err.strip() == line
    found = pyogrio.read_dataframe(out, layer="changes")
    assert found["status"].tolist() == EXPECTED
    assert found["iou"][0] == pytest.approx(1, abs=1e-3)
    assert found["iou"][1] == pytest.approx(9 / 11, abs=1e-3)
    assert found["shift_m"][1] == pytest.approx(1, abs=0.01)
    assert found["old_id"][:7].fillna(-1).tolist() == [100, 101, 102, 102, 103, 106, -1]
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
    named = set(found.old.tolist()) - {-1}
    merged = [i for i in range(len(old)) if i not in named]
    assert all(shapely.intersects(old[i], new).any() for i in merged)
    names = [STATUS[status].name for status in found.status]
    assert ((found.iou >= iou) | ~np.isin(names, ["unchanged", "split", "merged"])).all()
    apart = np.array([shapely.affinity.translate(box, 20 * i) for i, box in enumerate(new)], object)
    assert [STATUS[status].name for status in compare(apart, apart, iou).status] == ["unchanged"] * len(new)
