"""What is wrong with a request is told before PyTorch is imported."""

from __future__ import annotations

import subprocess
import sys

import geopandas
import pytest
import shapely

from geoseg.raster.scene import open_scene
from geoseg.testing import make_scene

HEAVY = ("torch", "torchvision", "lightning", "timm", "segmentation_models_pytorch")

SCRIPT = f"""
import sys
from geoseg.cli import run
code = run(sys.argv[1:])
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert code == 2, code
assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scene with labels of two layers."""
    folder = tmp_path_factory.mktemp("told")
    grid = open_scene(make_scene(folder / "a.tif", size=(400, 400))).geobox
    for layer, side in (("houses", 20), ("roads", 10)):
        shapes = [shapely.transform(shapely.box(i, i, i + side, i + side), grid.to_crs) for i in (40, 200)]
        table = geopandas.GeoDataFrame({"kind": ["house", "shed"]}, geometry=shapes, crs=grid.crs)
        table.to_file(folder / "a.gpkg", layer=layer)
        if layer == "houses":
            table.to_file(folder / "one.gpkg")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--scene": "b.tif"}, "b.tif"),
        ({"--labels": "b.gpkg"}, "b.gpkg: no such file"),
        ({"--labelled-area": "b.gpkg"}, "b.gpkg: no such file"),
        ({"--class-attribute": "knd"}, "did you mean 'kind'"),
        ({"--class-attribute": "kind", "--class": "house"}, "'shed' is no class"),
        ({"--arch": "unett"}, "--arch unett: no such architecture; did you mean 'unet'"),
        ({"--encoder": "resnet19"}, "--encoder resnet19: no such encoder; did you mean 'resnet18'"),
        ({"--loss": "ce+dise"}, "did you mean 'dice'"),
        ({"--start": "buildigs"}, "buildigs"),
        ({"--hold-out": "c"}, "no scene is called so"),
        ({"--optimizer": "adm"}, "--optimizer must be adamw"),
        ({"--batch": "0"}, "--batch must be 1 or more"),
    ],
)
def test_before_anything_heavy_is_imported(folder, changes, words) -> None:
    options = {"--scene": "a.tif", "--labels": "one.gpkg", "--out": "model", "--crop": "64"} | changes
    arguments = [part for pair in options.items() for part in pair]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "train", *arguments],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert words in line
    assert not (folder / "model").exists()
