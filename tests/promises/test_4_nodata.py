"""Promise 4: nodata is truth, however the file says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from shapely import union_all
from shapely.geometry import Polygon

from geoseg.testing import ValidityKind, make_scene
from tests.runs import BRIGHT, picture, predict

SIZE = (90, 110)


def known() -> np.ndarray:
    """All but a slanted corner and a hole."""
    rows, cols = np.indices(SIZE)
    return (rows + cols > 50) & ~((rows > 60) & (rows < 70) & (cols > 80) & (cols < 95))


def validity_outline(valid: np.ndarray) -> Polygon:
    from rasterio.features import shapes
    from shapely.geometry import shape

    return union_all([shape(geometry) for geometry, value in shapes(valid.astype(np.uint8)) if value])


@pytest.mark.parametrize("kind", ["nodata", "nan", "mask", "msk", "alpha"])
@pytest.mark.parametrize("outline", ["pixel", "smooth"])
def test_nothing_in_nodata_and_everything_beside_it(
    kind: ValidityKind, outline: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dtype = np.float32 if kind == "nan" else np.uint8
    pixels = np.full((3, *SIZE), BRIGHT, dtype)
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels, validity=kind, valid=known())
    stretch = ["--stretch", "0,255"] if kind == "nan" else []
    result = predict(
        capfd, scene, "--outline", outline, "--simplify", 0, "--raster", tmp_path / "p.tif", *stretch
    )
    assert result.code == 0, result.err
    assert result.summary["coverage"] == pytest.approx(known().mean(), abs=1e-6)
    features = result.features
    with rasterio.open(scene) as dataset:
        inverse = ~dataset.transform
    found = union_all(
        [
            Polygon(
                [inverse @ point for point in polygon.exterior.coords],
                [[inverse @ point for point in ring.coords] for ring in polygon.interiors],
            )
            for polygon in features.geometry
        ]
    )
    # All of it is building: the outline is the exact outline of validity.
    assert found.symmetric_difference(validity_outline(known())).area < 1e-3
    assert features.touches_nodata.all()
    assert features.touches_edge.all()
    with rasterio.open(tmp_path / "p.tif") as dataset:
        assert dataset.nodata is not None
        assert ((dataset.read(1) != dataset.nodata) == known()).all()


def test_zero_without_a_nodata_tag_is_data(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = picture((20, 20, 30, 30), size=SIZE)
    pixels[2, 25:35, 25:35] = 0  # roofs without blue are roofs
    scene = make_scene(tmp_path / "scene.tif", pixels=pixels)
    result = predict(capfd, scene)
    assert result.summary["coverage"] == 1
    assert result.features.area_m2.sum() == pytest.approx(30 * 30 * 0.09, rel=1e-3)


def test_a_scene_that_is_all_nodata_gives_an_empty_layer(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scene = make_scene(
        tmp_path / "scene.tif",
        pixels=np.zeros((3, *SIZE), np.uint8),
        validity="nodata",
        valid=np.zeros(SIZE, bool),
    )
    result = predict(capfd, scene)
    assert result.code == 0, result.err
    assert result.summary["tiles"]["inferred"] == 0
    assert result.summary["coverage"] == 0
    assert len(result.features) == 0
    assert result.features.crs is not None
