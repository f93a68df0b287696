"""One peer's way from a scene to polygons: run by ``peers.py`` with the peer's own Python.

    PYTHON benchmarks/peer_recipes.py NAME scene.tif out.gpkg task.json

Imports nothing of geoseg's. Prints what peers.py reads on the last line of stdout.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any


def network(task: dict[str, Any], scale: float, head: str) -> Any:
    """Return the model as a module that takes pixels times `scale` and gives what a peer expects.

    Parameters
    ----------
    head : {"probability", "two logits"}
        One channel, 0 … 1; or background and class as logits whose softmax is that probability.
    """
    import segmentation_models_pytorch as smp
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = smp.from_pretrained(task["folder"])

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits = self.net((pixels.float() * (task["scale"] / scale) - task["mean"]) / task["std"])
            if head == "probability":
                return torch.sigmoid(logits)
            return torch.cat([torch.zeros_like(logits), logits], dim=1)

    return Whole().eval().requires_grad_(False)


def monai(scene: Path, out: Path, task: dict[str, Any]) -> None:
    """Run the usual recipe: sliding_window_inference, then rasterio.features.shapes."""
    import rasterio
    import torch
    from monai.inferers import sliding_window_inference

    with rasterio.open(scene) as dataset:
        pixels, transform, crs = dataset.read(), dataset.transform, dataset.crs
    model = network(task, 1.0, "probability")
    with torch.inference_mode():
        probability = sliding_window_inference(
            torch.from_numpy(pixels)[None].float(),
            roi_size=(task["tile"], task["tile"]),
            sw_batch_size=4,
            predictor=model,
            overlap=task["overlap"] / task["tile"],
            mode="gaussian",
        )
    write_shapes(probability[0, 0].numpy() >= task["threshold"], transform, crs, out, task)


def untiled(scene: Path, out: Path, task: dict[str, Any]) -> None:
    """Run the whole scene through the network at once; the reference that tiling should come close to."""
    import rasterio
    import torch

    with rasterio.open(scene) as dataset:
        pixels, transform, crs = dataset.read(), dataset.transform, dataset.crs
    height, width = pixels.shape[1:]
    model = network(task, 1.0, "probability")
    beyond = (0, -width % 32, 0, -height % 32)
    with torch.inference_mode():
        padded = torch.nn.functional.pad(torch.from_numpy(pixels)[None].float(), beyond, mode="reflect")
        probability = model(padded)[0, 0, :height, :width].numpy()
    write_shapes(probability >= task["threshold"], transform, crs, out, task)


def write_shapes(mask: Any, transform: Any, crs: Any, out: Path, task: dict[str, Any]) -> None:
    """Write the polygons of a mask but those that are smaller than geoseg's smallest."""
    import geopandas
    import numpy as np
    from rasterio.features import shapes
    from shapely.geometry import shape

    traced = shapes(mask.astype(np.uint8), mask=mask, transform=transform)
    polygons = geopandas.GeoSeries([shape(one) for one, _ in traced], crs=crs)
    polygons[polygons.area >= task["smallest_m2"]].to_frame("geometry").to_file(out)


def geo_inference(scene: Path, out: Path, task: dict[str, Any]) -> None:
    """Run NRCan's geo-inference; it overlaps by half a tile always, and makes polygons of its nodata too."""
    import geopandas
    import torch
    from geo_inference.geo_inference import GeoInference

    with tempfile.TemporaryDirectory() as folder:
        path, example = Path(folder) / "model.pt", torch.zeros(1, 3, task["tile"], task["tile"])
        trace: Any = torch.jit.trace
        trace(network(task, 1.0, "probability"), example).save(str(path))
        run = GeoInference(
            model=str(path),
            work_dir=folder,
            mask_to_vec=True,
            device="cpu",
            num_classes=1,
            prediction_threshold=task["threshold"],
        )
        run(inference_input=str(scene), patch_size=task["tile"], workers=len(os.sched_getaffinity(0)))
        found = geopandas.read_file(next(Path(folder).glob("*_polygons_*.geojson")))
    found[found["value"] == 1].to_file(out)


def geoai(scene: Path, out: Path, task: dict[str, Any]) -> None:
    """Run geoai: semantic inference, then raster_to_vector."""
    import torch
    from geoai.train import semantic_inference_on_geotiff
    from geoai.utils.raster import raster_to_vector

    with tempfile.TemporaryDirectory() as folder:
        mask = str(Path(folder) / "mask.tif")
        semantic_inference_on_geotiff(
            network(task, 1 / 255, "two logits"),
            str(scene),
            mask,
            window_size=task["tile"],
            overlap=task["overlap"],
            batch_size=4,
            device=torch.device("cpu"),
            probability_threshold=task["threshold"],
            quiet=True,
        )
        raster_to_vector(mask, str(out), min_area=task["smallest_m2"], output_format="gpkg")


def geodeep(scene: Path, out: Path, task: dict[str, Any]) -> None:
    """Run GeoDeep on ONNX Runtime; tiles are cropped hard, the mask is filtered by a median."""
    import geopandas
    import rasterio
    from geodeep import segment

    with rasterio.open(scene) as dataset:
        crs = dataset.crs
    found = segment(str(scene), task["onnx"], output_type="geojson", classes=["building"])
    table = geopandas.GeoDataFrame.from_features(json.loads(found), crs="EPSG:4326")
    table.to_crs(crs).to_file(out)


RECIPES = {
    "untiled": (untiled, "torch"),
    "monai": (monai, "monai"),
    "geo-inference": (geo_inference, "geo-inference"),
    "geoai": (geoai, "geoai-py"),
    "geodeep": (geodeep, "geodeep"),
}
"""Name to recipe and package."""


def peak_memory() -> int:
    """Return the largest resident size of this process in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main() -> None:
    """Run one recipe."""
    name, scene, out, task = sys.argv[1:]
    recipe, package = RECIPES[name]
    recipe(Path(scene), Path(out), json.loads(Path(task).read_text(encoding="utf-8")))
    print()
    print(json.dumps({"version": version(package), "peak_memory_bytes": peak_memory()}))


if __name__ == "__main__":
    main()
