"""Whole runs over an archive, on processes of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import pytest
import rasterio
import shapely
from distributed import Client

import geoseg
from geoseg.archive import run as run_of_archives
from geoseg.archive.manifest import Manifest, read_status
from geoseg.archive.preview import preview
from geoseg.errors import InvalidOption
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.session import Session
from geoseg.testing import make_scene
from tests.archive.conftest import Batch
from tests.runs import bright_model, picture

pytestmark = pytest.mark.slow

Json = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few scenes, one of them damaged, one empty."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "more").mkdir()
    for number in range(4):
        make_scene(folder / f"s{number}.tif", pixels=picture((10, 20 + number, 30, 40)))
    make_scene(folder / "more" / "odd näme.tif", pixels=picture((10, 20, 30, 40)), crs="EPSG:3857")
    make_scene(folder / "more" / "empty.tif", pixels=picture(), validity="nodata", nodata=25)
    (folder / "bad.tif").write_bytes(b"II*\0 nothing")
    return folder


@pytest.fixture
def batch(batch: Batch) -> Json:
    """The same with what is told of each scene."""

    def called(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
        code, out, err = batch(*arguments, "--json")
        return code, [json.loads(line) for line in out.splitlines()], err

    return called


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_an_archive_is_done_once_and_what_is_bad_is_named(scenes: Path, tmp_path: Path, batch: Json) -> None:
    out = tmp_path / "out"
    code, results, err = batch(scenes, "--out", out, "--workers", "2", "--dashboard")
    assert code == 1
    assert re.search(r"^geoseg: dashboard: http://127\.0\.0\.1:\d+/status$", err, re.MULTILINE)
    states = {result["name"]: result["state"] for result in results}
    assert states == {
        "bad": "failed",
        "more/empty": "done",
        "more/odd näme": "done",
        **{f"s{number}": "done" for number in range(4)},
    }
    assert "bad.tif: not a raster" in err
    assert len(geopandas.read_parquet(out / "more" / "odd näme.parquet")) == 1
    left = {path.name for path in out.iterdir()} - {f"s{number}.parquet" for number in range(4)}
    assert left == {"more", "manifest.sqlite", "status.json", ".facts.sqlite"}

    before = contents(out)
    code, again, err = batch(scenes, "--out", out)
    assert (code, again) == (1, results)
    assert "(7 of them before this run)" in err
    assert contents(out) == before

    (scenes / "s1.tif").rename(scenes / "s1.old")
    try:
        make_scene(scenes / "s1.tif", pixels=picture((10, 20, 30, 40), (60, 20, 10, 10)))
        code, changed, _ = batch(scenes, "--out", out)
    finally:
        shutil.move(scenes / "s1.old", scenes / "s1.tif")
    assert {result["name"] for result, old in zip(changed, results, strict=True) if result != old} == {"s1"}
    assert len(geopandas.read_parquet(out / "s1.parquet")) == 2


def test_other_options_are_refused_or_all_is_done_again(scenes: Path, tmp_path: Path, batch: Json) -> None:
    out = tmp_path / "out"
    one = scenes / "s0.tif"
    assert batch(one, "--out", out)[0] == 0
    code, _, err = batch(one, "--out", out, "--threshold", "0.7")
    assert code == 2
    assert "holds results made with threshold auto, not 0.7; give --redo" in err
    code, (result,), _ = batch(one, "--out", out, "--threshold", "0.7", "--redo")
    assert (code, result["state"]) == (0, "done")
    assert batch(one, "--out", out, "--threshold", "0.7")[0] == 0


def test_rasters_go_into_a_folder_of_their_own(scenes: Path, tmp_path: Path, batch: Json) -> None:
    code, results, _ = batch(scenes / "more", "--out", tmp_path / "out", "--raster", tmp_path / "tif")
    assert code == 0
    assert {path.name for path in (tmp_path / "tif").iterdir()} == {"empty.tif", "odd näme.tif"}
    assert all(len(result["files"]) == 2 for result in results)  # type: ignore[arg-type]


def test_bad_input_gets_one_line(scenes: Path, tmp_path: Path, batch: Json) -> None:
    for arguments, words in (
        ((scenes, "--out", "s3://bucket/results"), "a disk that all workers share"),
        ((scenes, "--out", tmp_path, "--shard", "0/0"), "--shard"),
        ((tmp_path / "*.tif", "--out", tmp_path), "names no scene"),
        ((scenes / "s0.tif", scenes / "more/../s0.tif", "--out", scenes / "s1.tif"), "cannot be made"),
    ):
        code, _, err = batch(*arguments)
        lines = err.splitlines()
        assert code == 2, err
        assert len(lines) == 1, err
        assert words in lines[0], err
    assert not Path("s3:").exists()


def test_from_python_on_a_cluster_that_is_given(scenes: Path, tmp_path: Path, threads: Client) -> None:
    model = str(bright_model())
    table = geoseg.batch([scenes / "more", scenes / "s0.tif"], tmp_path, model=model, client=threads)
    assert threads.status == "running"
    assert table.state.to_dict() == {"empty": "done", "odd näme": "done", "s0": "done"}
    assert table.files["s0"] == ("s0.parquet",)
    with pytest.raises(InvalidOption, match="treshold: no such option; did you mean threshold"):
        geoseg.batch(scenes, tmp_path, treshold=0.5)


def states(folder: Path, out: Path, threads: Client, **options: object) -> dict[str, tuple[str, str]]:
    table = geoseg.batch(folder, out, model=str(bright_model()), client=threads, min_area=0, **options)
    return dict(zip(table.index, zip(table.state, table.reason, strict=True), strict=True))


def test_a_scene_replaced_before_it_is_read_is_not_taken_for_the_one_before(
    tmp_path: Path, threads: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "scenes", tmp_path / "out"
    folder.mkdir()
    make_scene(folder / "a.tif", pixels=picture((10, 20, 30, 40)))
    plain = Session.predict

    def late(self: Session, *given: Any, **more: Any) -> Any:
        make_scene(folder / "a.tif", pixels=picture((10, 20, 30, 40), (60, 20, 10, 10)))
        return plain(self, *given, **more)

    monkeypatch.setattr(Session, "predict", late)
    state, reason = states(folder, out, threads)["a"]
    assert (state, "a.tif: changed during this run" in reason) == ("failed", True)
    assert not list(out.glob("*.parquet"))
    monkeypatch.undo()
    assert states(folder, out, threads)["a"] == ("done", "")
    assert len(geopandas.read_parquet(out / "a.parquet")) == 2


def test_a_scene_of_which_nothing_can_be_read_has_failed(tmp_path: Path, threads: Client) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    for name, size, left in (("none", 40, 0.1), ("most", 200, 0.7)):
        scene = make_scene(folder / f"{name}.tif", pixels=picture(size=(size, size)), block=16)
        os.truncate(scene, int(left * scene.stat().st_size))
    found = states(folder, tmp_path / "out", threads)
    assert found["none"][0] == "failed"
    assert "none.tif: nothing of it could be read: 1 tile could not be read, the first:" in found["none"][1]
    assert not (tmp_path / "out/none.parquet").exists()
    assert found["most"][0] == "partial"


def test_an_area_that_is_edited_during_a_run_clips_as_it_was(
    tmp_path: Path, threads: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, aoi = tmp_path / "scenes", tmp_path / "area.gpkg"
    folder.mkdir()
    make_scene(folder / "a.tif", pixels=picture((10, 20, 30, 40)))
    with rasterio.open(folder / "a.tif") as raster:
        bounds, crs = raster.bounds, raster.crs
    whole = geopandas.GeoSeries([shapely.box(*bounds)], crs=crs)
    whole.to_file(aoi)
    plain = Session.predict

    def late(self: Session, *given: Any, **more: Any) -> Any:
        whole.scale(0.01, 0.01).to_file(aoi)
        return plain(self, *given, **more)

    monkeypatch.setattr(Session, "predict", late)
    assert states(folder, tmp_path / "out", threads, aoi=aoi)["a"] == ("done", "")
    assert len(geopandas.read_parquet(tmp_path / "out/a.parquet")) == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "a.parquet",
        "manifest.sqlite",
        "status.json",
        ".facts.sqlite",
    }


def test_a_copied_archive_takes_what_has_moved_and_redoes_what_was_partial(
    tmp_path: Path, threads: Client
) -> None:
    folder, moved, out = tmp_path / "scenes", tmp_path / "moved", tmp_path / "out"
    folder.mkdir()
    for name in ("a", "cut"):
        make_scene(folder / f"{name}.tif", pixels=picture((10, 20, 30, 40)))
    assert {state for state, _ in states(folder, out, threads).values()} == {"done"}
    with Manifest(out) as manifest:
        cut = manifest.get("cut")
        assert cut is not None
        manifest.put([replace(cut, state="partial", reason="1 tile could not be read")])
    shutil.copytree(folder, moved)
    make_scene(moved / "cut.tif", pixels=picture((10, 20, 30, 40), (60, 20, 10, 10)))
    before = (out / "a.parquet").stat().st_mtime_ns
    assert states(moved, out, threads) == {"a": ("done", ""), "cut": ("done", "")}
    assert (out / "a.parquet").stat().st_mtime_ns == before
    assert len(geopandas.read_parquet(out / "cut.parquet")) == 2

    make_scene(moved / "a.tif", pixels=picture((60, 20, 10, 10)))
    make_scene(folder / "a.tif", pixels=picture((50, 20, 10, 10)))
    options = PredictOptions(model=str(bright_model()), min_area=0)
    assert "a is the result of" in preview([str(folder)], out, options).refused
    with pytest.raises(InvalidOption, match=f"a is the result of {moved}/a.tif, not of {folder}/a.tif"):
        states(folder, out, threads)


def test_the_status_is_there_before_a_cluster_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    make_scene(tmp_path / "a.tif", pixels=picture())

    def refuse(*_: object, **__: object) -> None:
        assert read_status(out)[0]["running"] is True
        raise InvalidOption("no cluster")

    monkeypatch.setattr(run_of_archives, "opened", refuse)
    with pytest.raises(InvalidOption, match="no cluster"):
        geoseg.batch(tmp_path / "a.tif", out, model=str(bright_model()))
    assert read_status(out)[0]["running"] is False
