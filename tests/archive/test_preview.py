"""Whole runs of ``geoseg batch`` over lists, STAC and selections, and what a dry run says before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest

from geoseg.testing import make_scene
from tests.archive.conftest import Batch
from tests.archive.test_selection import box_around
from tests.archive.test_stac import asset, catalog, item, write
from tests.raster.serve import served
from tests.runs import BRIGHT, DARK, picture

Said = tuple[int, str, str]


def scene(path: Path, east: float = 0, **how: Any) -> Path:
    """Dark ground of 1 m pixels with one bright square of 10 m."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = how.pop("pixels", picture((10, 10, 10, 10), size=(40, 40)))
    return make_scene(path, pixels=pixels, transform=(1, 0, 500_000 + east, 0, -1, 5_000_000), **how)


def refusal(said: Said, *words: str) -> None:
    code, _, err = said
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    for word in words:
        assert word in err


@pytest.mark.slow
def test_a_catalog_on_a_server_selected_and_clipped(tmp_path: Path, batch: Batch) -> None:
    """Its asset has the bands in another order, and one that is no colour."""
    store, out = tmp_path / "store", tmp_path / "out"
    pixels = np.full((4, 40, 40), DARK, np.uint8)
    pixels[:3, 10:20, 10:20] = BRIGHT
    for name, east in (("a", 0), ("b", 100), ("c", 0)):
        scene(store / f"{name}.tif", east, pixels=np.roll(pixels, 1, axis=0))
        described = item(name, image=asset(f"{name}.tif", "nir", "blue", "green", "red"))
        described["bbox"] = list(box_around(east))
        described["properties"]["eo:cloud_cover"] = 50 if name == "c" else 5
        write(store / f"{name}.json", described)
    write(store / "catalog.json", catalog(*(("item", f"{name}.json") for name in ("a", "b", "c", "gone"))))
    half = box_around(0, 15)
    with served(store) as server:
        command = [f"{server.url}/catalog.json", "--out", out, "--bbox", *half]
        code, text, err = batch(*command, "--where", "eo:cloud_cover < 10", "--dry-run")
        assert code == 1, err
        assert "todo       1 (new)" in text
        assert "1 left out as not as --where asks, 1 left out as outside the area" in text
        assert "unreadable gone: " in text
        assert not list(out.glob("*.parquet"))
        code, _, err = batch(*command, "--where", "eo:cloud_cover < 10")
    assert code == 1, err
    assert "gone.json: no such file (HTTP 404)" in err
    assert [path.name for path in out.glob("*.parquet")] == ["a.parquet"]
    found = geopandas.read_parquet(out / "a.parquet")
    assert found.area.sum() == pytest.approx(5 * 10, rel=0.02)


@pytest.mark.slow
def test_a_list_with_a_bad_scene_and_a_dry_run_before_and_after(tmp_path: Path, batch: Batch) -> None:
    for number in range(3):
        scene(tmp_path / f"s/{number}.tif")
    listed = write(tmp_path / "list.csv", "location,kind\ns/0.tif,x\ns/1.tif,x\ns/2.tif,y\ngone.tif,x\n")
    out = tmp_path / "out"
    command = [listed, "--out", out, "--where", "kind = 'x'"]
    code, text, _ = batch(*command, "--dry-run")
    assert code == 1
    for line in ("todo       2 (new)", "unreadable gone: ", "1 left out as not as --where asks", "about"):
        assert line in text
    code, _, err = batch(*command)
    assert code == 1
    assert "gone.tif: no such file" in err
    assert {path.name for path in (out / "s").iterdir()} == {"0.parquet", "1.parquet"}
    scene(tmp_path / "s/0.tif", east=3)
    (out / "s/1.parquet").unlink()
    code, text, _ = batch(*command, "--dry-run", "--json")
    states = {one["name"]: (one["state"], one["why"]) for one in map(json.loads, text.splitlines())}
    assert states["s/0"] == ("redo", "changed")
    assert states["s/1"] == ("redo", "its result is gone")
    assert states["gone"][0] == "unreadable"
    code, text, _ = batch(*command, "--dry-run", "--threshold", "0.3")
    assert code == 2
    assert "REFUSED" in text
    assert "holds results made with threshold auto, not 0.3; give --redo" in text


def test_what_a_run_refuses_is_told_in_one_line_before_any_work(tmp_path: Path, batch: Batch) -> None:
    scene(tmp_path / "s/a.tif")
    write(tmp_path / "self.txt", "self.txt\n")
    write(tmp_path / "far.txt", "https://example.org/a.tif\n")
    write(tmp_path / "i.json", item("i", meta=asset("m.xml", kind="text/xml")))
    out = ["--out", tmp_path / "out", "--workers", "1"]  # none is started
    for sources, words in {
        ("self.txt",): ("self.txt", "another list"),
        ("far.txt",): ("--allow-host example.org",),
        ("i.json",): ("item i", "its assets are meta"),
        ("nothing.csv",): ("nothing.csv", "no such file"),
        ("nowhere",): ("no such file or folder",),
        ("/vsizip/a.zip/a.tif",): ("virtual paths are not accepted",),
        ("ftp://h.org/a.tif",): ("http, https, s3, gs and az only",),
        ("s", "--where", ""): ("--where", "does not parse"),
        ("s", "--bbox-crs", "EPSG:4326"): ("--bbox-crs is for --bbox",),
        ("s", "--where", "cloud <"): ("--where", "does not parse"),
        ("s", "--where", "cloud < 1"): ("no property cloud",),
        ("s", "--bbox", "0", "0", "1", "1"): ("no scene matches", "1 is outside the area"),
        ("s", "--since", "2020-01-01"): ("no scene matches", "1 is undated"),
        ("s", "--since", "yesterday"): ("--since",),
        ("s", "--aoi", "missing.gpkg"): ("missing.gpkg", "no such file"),
        ("s", "s/a.png"): ("would share the result",),
    }.items():
        if "a.png" in sources[-1]:
            make_scene(tmp_path / "s/a.png", size=(8, 8)).touch()
        named = [(index == 0 and "://" not in one) or one == "s/a.png" for index, one in enumerate(sources)]
        first = [tmp_path / one if mine else one for one, mine in zip(sources, named, strict=True)]
        refusal(batch(*first, *out), *words)
    assert not list((tmp_path / "out").rglob("*.parquet"))
