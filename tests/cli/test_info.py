from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from geoseg.cli.scene import info
from geoseg.errors import UnreadableScene
from geoseg.testing import make_scene


def run(*arguments):
    return CliRunner().invoke(info, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_scene_in_plain_words(tmp_path):
    valid = np.ones((64, 64), bool)
    valid[:16] = False
    path = make_scene(tmp_path / "scene.tif", validity="nodata", valid=valid, overviews=(2,))
    lines = dict(line.split(None, 1) for line in run(path).output.splitlines())
    assert lines["CRS"] == "WGS 84 / UTM zone 33N (EPSG:32633)"
    assert lines["size"] == "64 x 64 pixels"
    assert lines["pixel"] == "0.3 metre"
    assert lines["resolution"].endswith("m on the ground")
    assert lines["validity"] == "75 % of the pixels are data (nodata)"
    assert lines["overviews"] == "32 x 32"
    assert "band 1      uint8, red, nodata 0\n" in run(path).output


def test_json_holds_the_same(tmp_path):
    path = make_scene(tmp_path / "scene.tif", dtype="float32", validity="nodata", nodata=np.nan)
    facts = json.loads(run(path, "--json").output)
    assert (facts["width"], facts["height"], facts["driver"]) == (64, 64, "GTiff")
    assert facts["crs"] == {"name": "WGS 84 / UTM zone 33N", "authority": "EPSG:32633", "unit": "metre"}
    assert facts["resolution_m"] == pytest.approx([0.3, 0.3], rel=1e-3)
    assert facts["bands"][0]["nodata"] == "nan"
    assert 90 < facts["valid_percent"] < 100
    assert facts["warnings"] == []


def test_without_a_crs(tmp_path):
    output = run(make_scene(tmp_path / "scene.tif", crs=None, transform=None)).output
    assert "CRS         none" in output
    assert "warning     has no CRS" in output


def test_a_terminal_gets_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    output = run(make_scene(tmp_path / "scene.tif")).output
    assert "WGS 84 / UTM zone 33N (EPSG:32633)" in output


def test_what_cannot_be_read_is_a_geoseg_error(tmp_path):
    with pytest.raises(UnreadableScene, match="no such file"):
        run(tmp_path / "nowhere.tif")
