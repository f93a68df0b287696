"""Archives whose scenes are crops of one world, predicted in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.archive.manifest import Manifest, Result
from geoseg.models.bundle import save_bundle
from geoseg.models.card import Head
from geoseg.models.card_json import make_document
from geoseg.models.inputs import InputSpec
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.session import Session
from geoseg.testing import make_scene
from geoseg.values import ClassInfo
from tests.runs import BRIGHT, DARK, bright_model

EXACT: dict[str, Any] = {"outline": "pixel", "simplify": 0, "min_area": 0, "min_hole": 0, "regularize": False}
ORIGIN = (500_000.0, 5_000_000.0)
PIXEL = 0.5


def world(seed: int, size: tuple[int, int] = (120, 160), houses: int = 30) -> NDArray[np.uint8]:
    """Dark ground with bright L-shaped houses; some reach over its edge."""
    rng = np.random.default_rng(seed)
    pixels = np.full((3, *size), DARK, np.uint8)
    for _ in range(houses):
        row, col = rng.integers(-4, size[0]), rng.integers(-4, size[1])
        height, width = rng.integers(3, 30, 2)
        top, left = max(row, 0), max(col, 0)
        pixels[:, top : max(row + height, 0), left : max(col + width, 0)] = BRIGHT
        pixels[:, top : max(row + height // 2, 0), left : max(col + width // 2, 0)] = DARK
    return pixels


def crop(
    path: Path, pixels: NDArray[np.uint8], row: int, col: int, height: int, width: int, **more: Any
) -> Path:
    """Write a crop of a world as a scene."""
    pixel = more.pop("pixel", PIXEL)
    transform = (pixel, 0.0, ORIGIN[0] + pixel * col, 0.0, -pixel, ORIGIN[1] - pixel * row)
    part = pixels[:, row : row + height, col : col + width]
    return make_scene(path, pixels=part, transform=transform, **more)


def archive_of(
    folder: Path, scenes: Sequence[Path], dates: Mapping[str, str] | None = None, **options: Any
) -> Path:
    """Predict scenes into an archive as ``geoseg batch`` leaves it."""
    folder.mkdir()
    results = []
    with Session(PredictOptions(**{"model": str(bright_model()), **EXACT, **options})) as session:
        for scene in scenes:
            out = folder / f"{scene.stem}.parquet"
            report = session.predict(scene, out)
            results.append(
                Result(
                    scene.stem,
                    str(scene),
                    "done",
                    digest="d",
                    features=report.features,
                    coverage=round(report.coverage, 6),
                    files=(out.name,),
                    datetime=(dates or {}).get(scene.stem),
                )
            )
    put(folder, results)
    return folder


def put(folder: Path, results: Sequence[Result]) -> None:
    """Write what an archive knows of its scenes."""
    with Manifest(folder) as manifest:
        manifest.put(results)
        manifest.set_facts(made='{"model": "bright 0", "geoseg": "0.1.0", "threshold": "auto"}')
        manifest.write_status({"running": False}, now=True)


def land_model(folder: Path) -> Path:
    """Write a model of two classes: where green, and where blue, is the largest of the bands."""
    import onnx
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    result = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 3, "h", "w"])
    same = helper.make_node("Identity", ["image"], ["probability"])
    graph = helper.make_graph([same], "land", [image], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder.with_suffix(".onnx")
    onnx.save(model, path)
    spec = InputSpec(("red", "green", "blue"), "uint8", 1 / 255, (0.0,) * 3, (1.0,) * 3)
    classes = (ClassInfo(1, "wood", (0, 160, 0)), ClassInfo(2, "water", (0, 0, 160)))
    document = make_document("land", spec, Head(classes, (0, 1, 2), "probability"), tile=64, overlap=16)
    save_bundle(folder, document, {"model.onnx": path}, overwrite=True)
    return folder
