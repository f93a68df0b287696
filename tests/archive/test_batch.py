"""Whole runs over an archive, on processes of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import geopandas
import pytest
from distributed import Client, LocalCluster

import geoseg
from geoseg.cli import run
from geoseg.errors import InvalidOption
from geoseg.testing import make_scene
from tests.runs import bright_model, picture

pytestmark = pytest.mark.slow


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


def batch(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[dict[str, object]], str]:
    given = [str(argument) for argument in arguments]
    capfd.readouterr()
    code = run(
        ["batch", *given, "--model", str(bright_model()), "--workers", "2", "--min-area", "0", "--json"]
    )
    captured = capfd.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_an_archive_is_done_once_and_what_is_bad_is_named(
    scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code, results, err = batch(capfd, scenes, "--out", out)
    assert code == 1
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
    code, again, err = batch(capfd, scenes, "--out", out)
    assert (code, again) == (1, results)
    assert "(7 of them before this run)" in err
    assert contents(out) == before

    (scenes / "s1.tif").rename(scenes / "s1.old")
    try:
        make_scene(scenes / "s1.tif", pixels=picture((10, 20, 30, 40), (60, 20, 10, 10)))
        code, changed, _ = batch(capfd, scenes, "--out", out)
    finally:
        shutil.move(scenes / "s1.old", scenes / "s1.tif")
    assert {result["name"] for result, old in zip(changed, results, strict=True) if result != old} == {"s1"}
    assert len(geopandas.read_parquet(out / "s1.parquet")) == 2


def test_other_options_are_refused_or_all_is_done_again(
    scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    one = scenes / "s0.tif"
    assert batch(capfd, one, "--out", out)[0] == 0
    code, _, err = batch(capfd, one, "--out", out, "--threshold", "0.7")
    assert code == 2
    assert "holds results made with threshold auto, not 0.7; give --redo" in err
    code, (result,), _ = batch(capfd, one, "--out", out, "--threshold", "0.7", "--redo")
    assert (code, result["state"]) == (0, "done")
    assert batch(capfd, one, "--out", out, "--threshold", "0.7")[0] == 0


def test_rasters_go_into_a_folder_of_their_own(
    scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, results, _ = batch(capfd, scenes / "more", "--out", tmp_path / "out", "--raster", tmp_path / "tif")
    assert code == 0
    assert {path.name for path in (tmp_path / "tif").iterdir()} == {"empty.tif", "odd näme.tif"}
    assert all(len(result["files"]) == 2 for result in results)  # type: ignore[arg-type]


def test_bad_input_gets_one_line(scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        ((scenes, "--out", "s3://bucket/results"), "a disk that all workers share"),
        ((scenes, "--out", tmp_path, "--shard", "0/0"), "--shard"),
        ((tmp_path / "*.tif", "--out", tmp_path), "names no scene"),
        ((scenes / "s0.tif", scenes / "more/../s0.tif", "--out", scenes / "s1.tif"), "cannot be made"),
    ):
        code, _, err = batch(capfd, *arguments)
        lines = err.splitlines()
        assert code == 2, err
        assert len(lines) == 1, err
        assert words in lines[0], err
    assert not Path("s3:").exists()


def test_from_python_on_a_cluster_that_is_given(scenes: Path, tmp_path: Path) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        model = str(bright_model())
        table = geoseg.batch([scenes / "more", scenes / "s0.tif"], tmp_path, model=model, client=client)
        assert client.status == "running"
    assert table.state.to_dict() == {"empty": "done", "odd näme": "done", "s0": "done"}
    assert table.files["s0"] == ("s0.parquet",)
    with pytest.raises(InvalidOption, match="treshold: no such option; did you mean threshold"):
        geoseg.batch(scenes, tmp_path, treshold=0.5)
