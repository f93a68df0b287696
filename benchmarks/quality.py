"""Objects found in a scene against its true footprints, smooth against pixel outlines.

uv run python benchmarks/quality.py sample_data/scene.tif sample_data/buildings.gpkg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray

import geoseg
from geoseg.metrics.objects import match_objects

Polygons = NDArray[np.object_]


def read(path: Path, layer: str | int, crs: object, area: shapely.Geometry | None) -> Polygons:
    """Return the valid polygons of a layer, cut to an area, in a CRS."""
    table = pyogrio.read_dataframe(path, layer=layer).to_crs(crs)
    polygons = shapely.make_valid(table.geometry.to_numpy())
    if area is not None:
        polygons = shapely.intersection(polygons, area)
    return np.array([p for p in polygons if p.area > 0], dtype=object)


def cut(polygons: Polygons, unknown: shapely.Geometry) -> Polygons:
    """Return polygons without what is unknown."""
    parts = shapely.difference(polygons, unknown)
    return np.array([part for part in parts if part.area > 0], dtype=object)


def main() -> None:
    """Print precision, recall and F1 at two thresholds for both outlines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--layer", default="buildings")
    parser.add_argument("--ignore-layer", help="what is inside these polygons does not count")
    parser.add_argument("--bbox", type=float, nargs=4, metavar=("W", "S", "E", "N"))
    parser.add_argument("--model", default="buildings")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    area = shapely.box(*options.bbox) if options.bbox else None
    rows = []
    print(f"{'outline':8} {'IoU':>4} {'precision':>9} {'recall':>7} {'F1':>6} {'predicted':>9} {'true':>5}")
    for outline in ("smooth", "pixel"):
        bbox = tuple(options.bbox) if options.bbox else None
        found = geoseg.predict(options.scene, model=options.model, outline=outline, bbox=bbox)
        predicted = found.geometry.to_numpy()
        truth = read(options.truth, options.layer, found.crs, area)
        if options.ignore_layer:
            unknown = shapely.union_all(read(options.truth, options.ignore_layer, found.crs, area))
            predicted, truth = (cut(polygons, unknown) for polygons in (predicted, truth))
        for threshold in (0.5, 0.9):
            match = match_objects(predicted, truth, threshold).counts
            row = {
                "outline": outline,
                "iou": threshold,
                "precision": match.precision,
                "recall": match.recall,
                "f1": match.f1,
                "predicted": len(predicted),
                "true": len(truth),
            }
            rows.append(row)
            print(
                f"{outline:8} {threshold:4} {match.precision:9.3f} {match.recall:7.3f} {match.f1:6.3f} "
                f"{len(predicted):9} {len(truth):5}"
            )
        shared = shapely.union_all(predicted).intersection(shapely.union_all(truth)).area
        union = shapely.union_all(predicted).union(shapely.union_all(truth)).area
        print(f"{outline:8} area IoU {shared / union:.3f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
