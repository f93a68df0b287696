"""Whole runs through the command line, in this process, and what they left behind."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
from numpy.typing import NDArray

from geoseg.cli import run
from geoseg.errors import InvalidOption
from geoseg.models.document import Instances
from geoseg.prediction.options import PredictOptions
from geoseg.testing import make_model, make_scene

SHARED = Path(__file__).resolve().parents[1] / "../shared/data"
REPOSITORY = Path(__file__).resolve().parents[1]

DARK, BRIGHT = 25, 230  # half-way lies the threshold: smooth outlines run along pixel edges
COLUMNS = [
    "id",
    "class",
    "class_name",
    "confidence",
    "area_m2",
    "perimeter_m",
    "regularized",
    "deviation_m",
    "touches_edge",
    "touches_nodata",
]

HOW = Instances(
    labels=(3, 7),
    anchors=(8.0, 16.0, 32.0, 64.0, 128.0),
    proposals=200,
    objects=20,
    least_score=0.2,
    largest_m=8.0,
)
"""How `object_model` finds objects."""


@cache
def bright_model(bands: int = 3) -> Path:
    """A model that calls bright pixels buildings; made once."""
    return make_model(Path(mkdtemp()) / "bright", bands=bands)


@cache
def object_model() -> Path:
    """A Mask R-CNN of random weights, which finds boxes of two classes everywhere; made once."""
    import torch

    from geoseg.backends import architectures
    from geoseg.backends.maskrcnn import MaskRCNN, export_parts
    from geoseg.models.bundle import save_bundle
    from geoseg.models.card import Head
    from geoseg.models.card_json import make_document
    from geoseg.models.inputs import InputSpec
    from geoseg.values import ClassInfo

    folder = Path(mkdtemp())
    config: dict[str, object] = {
        "_model_class": "MaskRCNN", "encoder_name": "tu-test_efficientnet", "in_channels": 4, "classes": 3,
        "channels": 32, "hidden": 64, "anchors": list(HOW.anchors),
    }  # fmt: skip
    torch.manual_seed(3)
    network = architectures.build(config)
    assert isinstance(network, MaskRCNN)
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight *= 30
        network.roi_heads.box_predictor.cls_score.bias[1] += 1.7  # else all is of the other class
        network.roi_heads.mask_predictor.mask_fcn_logits.weight *= 30
        network.roi_heads.mask_predictor.mask_fcn_logits.bias += 4
    architectures.round_to_half(network)
    architectures.save(network, config, folder)
    files = export_parts(network, folder, 4, folder / "model.safetensors")
    document = make_document(
        "objects",
        InputSpec(("red", "green", "blue", "nir"), "uint8", 1 / 255, (0.5,) * 4, (0.5,) * 4),
        Head((ClassInfo(3, "a", (1, 2, 3)), ClassInfo(7, "b", (4, 5, 6))), (0, 3, 7), "softmax", 0.3),
        tile=64,
        overlap=16,
        extra={"geoseg:instances": HOW.model_dump(mode="json")},
    )
    files |= {name: folder / name for name in ("model.safetensors", "config.json")}
    return save_bundle(folder / "model", document, files).path


def object_scene(path: Path) -> Path:
    """Write a scene in which `object_model` finds both classes, in several tiles."""
    rows, cols = np.indices((240, 240))
    bands = [rows * cols % 251, rows // 9 * 9 % 256, (rows + cols) % 240, rows % 200]
    return make_scene(path, pixels=np.stack(bands).astype(np.uint8), block=256)


def picture(
    *rectangles: tuple[int, int, int, int], size: tuple[int, int] = (100, 120), bands: int = 3
) -> NDArray[np.uint8]:
    """Dark ground with bright rectangles (row, col, height, width)."""
    pixels = np.full((bands, *size), DARK, np.uint8)
    for row, col, height, width in rectangles:
        pixels[:, row : row + height, col : col + width] = BRIGHT
    return pixels


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str
    path: Path

    @property
    def summary(self) -> dict[str, Any]:
        return dict(json.loads(self.out))

    @property
    def features(self) -> geopandas.GeoDataFrame:
        if self.path.suffix == ".parquet":
            return geopandas.read_parquet(self.path)
        return pyogrio.read_dataframe(self.path, layer=0)


def predict(
    capfd: pytest.CaptureFixture[str],
    scene: Path | str,
    *arguments: object,
    out: str = "out.gpkg",
    folder: Path | None = None,
    bands: int = 3,
) -> Run:
    """Run ``geoseg predict`` with the bright model, every polygon kept as traced."""
    path = (folder or Path(scene).parent) / out
    given = [str(argument) for argument in arguments]
    if "--model" not in given:
        given += ["--model", str(bright_model(bands))]
    defaults = {"--outline": "pixel", "--min-area": "0"}
    given += [part for name, value in defaults.items() if name not in given for part in (name, value)]
    capfd.readouterr()
    code = run(["predict", str(scene), "--out", str(path), "--json", *given])
    captured = capfd.readouterr()
    return Run(code, captured.out, captured.err, path)


def least_memory(scene: Path, **options: Any) -> str:
    """Return the smallest ``--max-memory`` that is taken: blocks are as small as they get with it."""
    from geoseg.prediction.decide import decide

    with pytest.raises(InvalidOption) as caught:
        decide(scene, PredictOptions(max_memory=1, **options))
    found = re.search(r"needs (\d+MB) at least", str(caught.value))
    assert found is not None, str(caught.value)
    return found[1]


def assert_refused(result: Run, *words: str) -> None:
    """One line on stderr that names the reason, exit code 2, nothing written."""
    assert result.code == 2, result.err
    lines = [line for line in result.err.splitlines() if not line.startswith("geoseg: warning")]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("geoseg: error: "), lines
    for word in words:
        assert word in lines[0], lines[0]
    assert not result.path.exists()
    assert not list(result.path.parent.glob(".*tmp*"))


def heed_interrupts() -> None:
    """Undo what a shell does to jobs in the background: they inherit SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
