"""geoseg beside its peers: same model and scene, each in a fresh process.

    uv venv --python 3.11 /tmp/peers
    uv pip install --python /tmp/peers/bin/python torch segmentation-models-pytorch rasterio geopandas \
        monai geo-inference geodeep
    uv venv --python 3.11 /tmp/peers-geoai
    uv pip install --python /tmp/peers-geoai/bin/python geoai-py
    python benchmarks/peers.py --side 4096 --python /tmp/peers/bin/python \
        --python geoai=/tmp/peers-geoai/bin/python

Peers live in environments of their own, as they ask for other versions; geoai has one for itself.
geoseg runs twice: as it is called, and with the tile and overlap of the model's card, as the peers.
The recipes are in ``peer_recipes.py``. *Untiled* is the network on the whole scene at once: the
reference of the first two F1 columns; the truth of the last two are the sample's buildings,
mirrored like the scene. Polygons that geoseg leaves out as too small by default count for nobody.
Seconds are those of the whole process, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import common
import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from scenes import make_scene, true_buildings

from geoseg.metrics.objects import match_objects
from geoseg.models.bundle import ONNX, Bundle, find_model
from geoseg.models.card import ModelCard
from geoseg.prediction.view import smallest_object_m2

RECIPES = Path(__file__).with_name("peer_recipes.py")
PEERS = ("monai", "geo-inference", "geoai", "geodeep")
OWN, SAME = "geoseg", "geoseg, same tile"
UNTILED = "untiled"
UNTILED_BYTES = 450
"""Memory of the network on a whole scene, a pixel: 410 measured at 4096²."""

COLUMNS: common.Columns = {
    "name": ("", ""),
    "seconds": ("wall s", ".1f"),
    "MPix_s": ("scene MPix/s", ".2f"),
    "ratio": ("wall / geoseg's", ".1f"),
    "same": ("the same, same tile", ".1f"),
    "spread": ("spread %", ".0f"),
    "cpu_seconds": ("CPU s", ".0f"),
    "peak_MB": ("peak MB", ".0f"),
    "polygons": ("polygons", "d"),
    "untiled_50": ("F1@0.5 untiled", ".3f"),
    "untiled_90": ("F1@0.9 untiled", ".3f"),
    "truth_50": ("F1@0.5 truth", ".3f"),
    "truth_90": ("F1@0.9 truth", ".3f"),
}

Polygons = NDArray[np.object_]


def describe(bundle: Bundle, folder: Path) -> Path:
    """Write what a recipe needs to know, and the ONNX file that GeoDeep takes."""
    card = bundle.card
    inputs, pixel_m = card.inputs, card.resolution_m
    if len(set(inputs.mean)) > 1 or len(set(inputs.std)) > 1 or card.activation != "sigmoid" or not pixel_m:
        raise SystemExit(
            f"{bundle.path}: the recipes know one mean and std for all bands, sigmoid, and a known resolution"
        )
    task = {
        "folder": str(bundle.path),
        "tile": card.tile,
        "overlap": card.best_overlap,
        "threshold": card.threshold,
        "smallest_m2": smallest_object_m2(card.min_area_m2, pixel_m),
        "scale": inputs.scale,
        "mean": inputs.mean[0],
        "std": inputs.std[0],
        "onnx": str(_geodeep_model(bundle.files[ONNX], card, pixel_m, folder / "geodeep.onnx")),
    }
    path = folder / "task.json"
    path.write_text(json.dumps(task), encoding="utf-8")
    return path


def _geodeep_model(path: Path, card: ModelCard, pixel_m: float, out: Path) -> Path:
    """Write the network with GeoDeep's keys, its scale of pixels (0 … 1), and a background channel."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    graph, inputs = model.graph, card.inputs
    inner, logits = graph.input[0].name, graph.output[0].name
    constants = {"unit": 255 * inputs.scale, "mean": inputs.mean[0], "std": inputs.std[0], "none": 0.0}
    graph.initializer.extend(
        numpy_helper.from_array(np.float32(value), f"peer_{name}") for name, value in constants.items()
    )
    before = [
        helper.make_node("Mul", ["peer_image", "peer_unit"], ["peer_scaled"]),
        helper.make_node("Sub", ["peer_scaled", "peer_mean"], ["peer_shifted"]),
        helper.make_node("Div", ["peer_shifted", "peer_std"], [inner]),
    ]
    after = [
        helper.make_node("Sigmoid", [logits], ["peer_probability"]),
        helper.make_node("Mul", ["peer_probability", "peer_none"], ["peer_background"]),
        helper.make_node("Concat", ["peer_background", "peer_probability"], ["peer_classes"], axis=1),
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    size = [1, len(inputs.bands), card.tile, card.tile]
    graph.input.append(helper.make_tensor_value_info("peer_image", TensorProto.FLOAT, size))
    size[1] = 2
    graph.output.append(helper.make_tensor_value_info("peer_classes", TensorProto.FLOAT, size))
    keys = {
        "model_type": '"Segmentor"',
        "class_names": '{"0": "ground", "1": "building"}',
        "resolution": str(100 * pixel_m),
        "tiles_overlap": str(100 * card.best_overlap / card.tile),
        "seg_thresh": str(card.threshold),
        "seg_small_segment": "2",
    }
    helper.set_model_props(model, keys)
    onnx.save(model, out)
    return out


def fits_untiled(scene: Path) -> bool:
    """Whether the network on the whole scene at once fits this machine's memory; if not, say so."""
    with rasterio.open(scene) as dataset:
        needed: int = dataset.width * dataset.height * UNTILED_BYTES
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        print(
            f"{UNTILED}: left out, it takes about {needed / 1e9:.0f} GB of {memory / 1e9:.0f}",
            file=sys.stderr,
        )
    return needed <= memory


def run_all(scene: Path, folder: Path, options: argparse.Namespace) -> dict[str, list[common.Child] | str]:
    """Let geoseg and the peers take turns; a peer that fails is named with its reason."""
    bundle = find_model(options.model)
    task, card = describe(bundle, folder), bundle.card
    pythons = dict(_pair(text) for text in options.python)
    results: dict[str, list[common.Child] | str] = {}
    for turn in range(options.rounds):
        untiled = turn == 0 and not options.no_untiled and fits_untiled(scene)
        for name in (OWN, SAME, *options.peers, *([UNTILED] if untiled else [])):
            out = folder / f"{name}.gpkg"
            before = results.setdefault(name, [])
            if isinstance(before, str):
                continue
            out.unlink(missing_ok=True)
            try:
                if name in (OWN, SAME):
                    size = ["--tile", str(card.tile), "--overlap", str(card.best_overlap)] * (name == SAME)
                    before.append(common.predict(scene, out, "--model", options.model, *size))
                else:
                    python = pythons.get(name) or pythons.get("", "python")
                    before.append(common.run_child([python, RECIPES, name, scene, out, task]))
            except (common.ChildFailed, OSError) as error:
                results[name] = f"{name}: not measured: {error}"
    return results


def _pair(text: str) -> tuple[str, str]:
    name, separator, path = text.rpartition("=")
    return (name, path) if separator else ("", text)


def rows_of(results: dict[str, list[common.Child] | str], side: int, folder: Path) -> list[common.Row]:
    """Return one row for each, geoseg first."""
    truth = true_buildings(side, side)
    whole = folder / f"{UNTILED}.gpkg"
    smallest = json.loads((folder / "task.json").read_text(encoding="utf-8"))["smallest_m2"]
    reference = _polygons(whole, truth.crs, smallest) if whole.exists() else None
    rows = []
    for name, runs in results.items():
        if isinstance(runs, str):
            rows.append({"name": name, "note": runs})
            continue
        found = _polygons(folder / f"{name}.gpkg", truth.crs, smallest)
        row = _speed(name, runs, side) | {"polygons": len(found)}
        row |= {"ratio": _ratio(runs, results[OWN]), "same": _ratio(runs, results[SAME])}
        row |= _agreement("truth", found, truth.geometry.to_numpy())
        if reference is not None and name != UNTILED:
            row |= _agreement("untiled", found, reference)
        rows.append(row)
    return rows


def _ratio(runs: list[common.Child], own: list[common.Child] | str) -> float | None:
    """Return how many times as long as geoseg's the runs took: the median of the turns."""
    if isinstance(own, str):
        return None
    ratios = [run.seconds / geoseg.seconds for run, geoseg in zip(runs, own, strict=False)]
    return common.median(ratios) if ratios else None


def _speed(name: str, runs: list[common.Child], side: int) -> common.Row:
    seconds = [run.seconds for run in runs]
    version = runs[0].answer.get("version")
    return {
        "name": f"{name} {version}" if version and name != UNTILED else name,
        "seconds": common.median(seconds),
        "MPix_s": side**2 / 1e6 / common.median(seconds),
        "spread": common.spread(seconds),
        "cpu_seconds": common.median([run.cpu_seconds for run in runs]),
        "peak_MB": max(run.answer["peak_memory_bytes"] for run in runs) / 1e6,
    }


def _agreement(name: str, found: Polygons, expected: Polygons) -> common.Row:
    return {
        f"{name}_{round(100 * threshold)}": match_objects(found, expected, threshold).counts.f1
        for threshold in (0.5, 0.9)
    }


def _polygons(path: Path, crs: Any, smallest_m2: float) -> Polygons:
    """Return the polygons of a file, repaired where a peer wrote invalid ones, without the small ones."""
    geometry = geopandas.read_file(path, layer=0).to_crs(crs).geometry.to_numpy()
    parts = shapely.get_parts(shapely.make_valid(geometry))
    return np.asarray(parts[shapely.area(parts) >= smallest_m2], dtype=object)


def main() -> None:
    """Print one line for geoseg and each peer."""
    parser = common.parser(__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="buildings", help="its folder needs safetensors and ONNX")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument(
        "--python", action="append", default=[], metavar="[PEER=]PATH", help="Python of all peers, or of one"
    )
    parser.add_argument(
        "--no-untiled",
        action="store_true",
        help="without the reference, which takes a minute and 0.5 kB a pixel",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = make_scene(folder / "scene.tif", options.side, options.side)
        rows = rows_of(run_all(scene, folder, options), options.side, folder)
    common.report("peers", COLUMNS, rows, options)


if __name__ == "__main__":
    main()
