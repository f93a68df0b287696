"""Footprints against the truth: objects found, corners, and how far outlines lie from it.

    python benchmarks/footprints.py TRUTH [name=]PREDICTION …

Prints a row for each layer of polygons: how many for how many true ones, F1 at IoU 0.5, 0.75 and 0.9,
vertices a polygon, the mean Hausdorff distance of pairs, IoU of the areas, overlaps and invalid ones; and
one for what the package ``buildingregulariser`` makes of the first, where it is installed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import geopandas
import numpy as np
import shapely

HEAD = (
    "layer",
    "polygons : truth",
    "F1@.5",
    "F1@.75",
    "F1@.9",
    "vertices (truth)",
    "Hausdorff",
    "area IoU",
    "overlaps",
    "invalid",
)


def read(path: Path, crs: object = None) -> geopandas.GeoDataFrame:
    """Read polygons in metres."""
    frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path, layer=0)
    frame = frame[frame.geom_type.isin(("Polygon", "MultiPolygon"))].explode(ignore_index=True)
    return frame.to_crs(crs or frame.estimate_utm_crs())


def measure(found: np.ndarray, truth: np.ndarray) -> tuple[str, ...]:
    """Return the figures of a layer."""
    one, two = shapely.STRtree(truth).query(found, predicate="intersects")
    common = shapely.area(shapely.intersection(found[one], truth[two]))
    iou = common / (shapely.area(found)[one] + shapely.area(truth)[two] - common)
    order = np.argsort(-iou)
    pairs, seen, taken = [], set(), set()
    for k in order[iou[order] >= 0.5]:
        if one[k] not in seen and two[k] not in taken:
            pairs.append(k)
            seen.add(one[k])
            taken.add(two[k])
    scores = [2 * sum(iou[pairs] >= level) / max(1, len(found) + len(truth)) for level in (0.5, 0.75, 0.9)]
    away = shapely.hausdorff_distance(found[one[pairs]], truth[two[pairs]]) if pairs else np.array([np.nan])
    all_found, all_true = shapely.union_all(found), shapely.union_all(truth)
    both = shapely.intersection(all_found, all_true)
    left, right = shapely.STRtree(found).query(found, predicate="intersects")
    left, right = left[left < right], right[left < right]
    overlaps = shapely.relate_pattern(found[left], found[right], "T********").sum()
    vertices = [shapely.get_num_coordinates(some).mean() - 1 for some in (found, truth)]
    return (
        f"{len(found)} : {len(truth)}",
        *(f"{score:.3f}" for score in scores),
        f"{vertices[0]:.1f} ({vertices[1]:.1f})",
        f"{away.mean():.2f} m",
        f"{both.area / (all_found.area + all_true.area - both.area):.3f}",
        str(overlaps),
        str(int((~shapely.is_valid(found)).sum())),
    )


def peer(frame: geopandas.GeoDataFrame) -> tuple[str, np.ndarray] | None:
    """Return what buildingregulariser makes of a layer, and how fast."""
    try:
        from buildingregulariser import regularize_geodataframe
    except ImportError:
        return None
    started = time.perf_counter()
    made = regularize_geodataframe(frame[["geometry"]], allow_45_degree=True, allow_circles=True, num_cores=1)
    pace = len(frame) / (time.perf_counter() - started)
    return f"buildingregulariser, {pace:.0f}/s", np.array(made.explode().geometry)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("truth", type=Path)
    parser.add_argument("predictions", nargs="+", metavar="[name=]PREDICTION")
    arguments = parser.parse_args()
    truth = read(arguments.truth)
    known = np.array(truth.geometry)
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    for number, given in enumerate(arguments.predictions):
        name, _, path = given.rpartition("=")
        frame = read(Path(path), truth.crs)
        print("| " + " | ".join((name or Path(path).stem, *measure(np.array(frame.geometry), known))) + " |")
        other = None if number else peer(frame)
        if other is not None:
            print("| " + " | ".join((other[0], *measure(other[1], known))) + " |")


if __name__ == "__main__":
    main()
