"""Objects of other tools: COCO's JSON both ways, and masks whose values number objects.

The format: https://cocodataset.org/#format-data; pixels of an image count from its upper left corner.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import shapely.geometry
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoseg.errors import GeosegError, InvalidOption
from geoseg.files import check_writable, replacing
from geoseg.labels.masks import open_labels
from geoseg.labels.places import change
from geoseg.labels.polygons import is_vector, need_polygons, read_polygons
from geoseg.raster.scene import open_scene, read_patch
from geoseg.values import GeoBox, Window
from geoseg.vector.sink.stream import check_stream_path, wkb_field, write_layer

_LARGEST = 1 << 28
"""Pixels of a mask of numbers, which is read as a whole."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """An object of an image: its outline in the image's CRS, its class, and the image's name."""

    outline: BaseGeometry
    kind: str
    image: str
    crs: str
    crowd: bool = False


def import_labels(
    source: Path, out: Path, *, images: Path | None = None, overwrite: bool = False
) -> tuple[int, int]:
    """Write the objects of a COCO file, or of a mask of their numbers, as polygons.

    Parameters
    ----------
    source : Path
        JSON; else a raster of numbers of objects, 0 and nodata aside.
    out : Path
        A layer with the attributes ``class_name`` and ``image``.
    images : Path, optional
        Folder of the images that a COCO file names; default: that of the file.
    overwrite : bool

    Returns
    -------
    objects : int
    crowds : int
        Left out: each is the place of an unknown number of objects.

    Raises
    ------
    GeosegError
        If the source is no such file, an image is missing, of another size or without a CRS, or there is no
        object.
    """
    import pyarrow
    import pyproj

    check_stream_path(out, overwrite=overwrite)
    if source.suffix.lower() == ".json":
        every = list(_of_coco(source, images or source.parent))
    else:
        every = list(_of_numbers(source))
    found = [one for one in every if not one.crowd]
    if not found:
        raise InvalidOption(f"{source}: holds no objects")
    crs = found[0].crs
    outlines = [_carried(one, crs) for one in found]
    names = [[one.kind for one in found], [one.image for one in found]]
    schema = pyarrow.schema(
        [("class_name", pyarrow.string()), ("image", pyarrow.string()), wkb_field("geom")]
    )
    batch = pyarrow.record_batch([*map(pyarrow.array, names), shapely.to_wkb(outlines)], schema=schema)
    write_layer(
        out,
        schema,
        [batch],
        geometry="geom",
        crs=pyproj.CRS.from_user_input(crs),
        kind="Unknown",
        overwrite=overwrite,
    )
    return len(found), len(every) - len(found)


def export_coco(
    labels: Path, scene: Path, out: Path, *, attribute: str | None = None, overwrite: bool = False
) -> int:
    """Write the polygons of a layer that lie on a scene as COCO's JSON; return how many.

    Outlines without holes are written as rings, those with holes as runs of pixels.

    Parameters
    ----------
    attribute : str, optional
        Holds the class; default: all are of one.

    Raises
    ------
    GeosegError
        If a file cannot be read or written, or no polygon lies on the scene.
    """
    check_writable(out, overwrite=overwrite)
    grid = open_scene(scene).geobox
    polygons = need_polygons(read_polygons(labels, columns=() if attribute is None else (attribute,)))
    parts, owners = polygons.placed(grid)
    kinds = [""] * len(owners) if attribute is None else polygons.values(attribute)[owners].tolist()
    inside = shapely.intersection(parts, shapely.box(0, 0, grid.width, grid.height))
    named = {kind: number for number, kind in enumerate(sorted(set(map(str, kinds))), 1)}
    annotations = [
        _annotation(outline, named[str(kind)], grid) | {"id": number, "image_id": 1}
        for number, (outline, kind) in enumerate(
            (pair for pair in zip(inside, kinds, strict=True) if shapely.area(pair[0]) > 0), 1
        )
    ]
    if not annotations:
        raise InvalidOption(f"{labels}: no polygon lies on {scene}")
    content = {
        "images": [{"id": 1, "file_name": scene.name, "width": grid.width, "height": grid.height}],
        "categories": [{"id": number, "name": kind or "object"} for kind, number in named.items()],
        "annotations": annotations,
    }
    with replacing(out, overwrite=overwrite) as path:
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return len(annotations)


def _of_coco(source: Path, folder: Path) -> Iterator[Labelled]:
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
        pictures = {str(one["id"]): str(one["file_name"]) for one in content["images"]}
        sizes = {str(one["file_name"]): (one.get("height"), one.get("width")) for one in content["images"]}
        kinds = {str(one["id"]): str(one["name"]) for one in content["categories"]}
        annotations = [
            (str(one["image_id"]), str(one["category_id"]), one["segmentation"], bool(one.get("iscrowd")))
            for one in content["annotations"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidOption(
            f"{source}: cannot be read as COCO's JSON ({type(error).__name__}: {error})"
        ) from error
    for number, (image, category, *_) in enumerate(annotations):
        for what, one, known in (("image", image, pictures), ("category", category, kinds)):
            if one not in known:
                raise InvalidOption(
                    f"{source}: annotation {number} is of {what} {one}, which the file does not list; add "
                    "it, or remove the annotation"
                )
    wanted = {pictures[image] for image, *_ in annotations}
    missing = sorted(name for name in wanted if not (folder / name).is_file())
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InvalidOption(
            f"{source}: images are missing in {folder}: {', '.join(missing[:3])}{more}; give their folder "
            "(--images)"
        )
    boxes = {name: _placed(folder / name) for name in sorted(wanted)}
    for name, box in boxes.items():
        if any(told is not None and told != is_ for told, is_ in zip(sizes[name], box.shape, strict=True)):
            raise InvalidOption(
                f"{source}: {name} has {box.width} × {box.height} pixels, not {sizes[name][1]} × "
                f"{sizes[name][0]}; give the folder of the images that were labelled (--images)"
            )
    for number, (image, category, shape, crowd) in enumerate(annotations):
        name = pictures[image]
        try:
            outline = outline_of(shape, boxes[name].shape)
        except (ValueError, KeyError, TypeError, IndexError, shapely.errors.ShapelyError) as error:
            raise InvalidOption(
                f"{source}: annotation {number} of {name} has no outline that can be read ({error})"
            ) from error
        if outline.area > 0:
            placed = shapely.transform(outline, boxes[name].to_crs)
            yield Labelled(placed, kinds[category], name, str(boxes[name].crs), crowd)


def _placed(path: Path) -> GeoBox:
    box = open_scene(path).geobox
    if box.crs is None:
        raise InvalidOption(f"{path}: has no CRS, so that objects on it have no place; give it one")
    return box


def outline_of(shape: Any, size: tuple[int, int]) -> BaseGeometry:
    """Return what a COCO segmentation covers, in pixels: of rings, or of runs, with their holes.

    Raises
    ------
    ValueError, KeyError, TypeError, IndexError
        If it is no segmentation of an image of that size.

    Examples
    --------
    >>> outline_of([[0, 0, 4, 0, 4, 2, 0, 2]], (9, 9)).area
    8.0
    >>> outline_of({"size": [3, 3], "counts": [0, 4, 1, 4]}, (3, 3)).area
    8.0
    """
    if not isinstance(shape, Mapping):
        rings = [np.array(ring, np.float64).reshape(-1, 2) for ring in shape]
        return shapely.union_all(shapely.make_valid([shapely.Polygon(ring) for ring in rings]))
    if tuple(shape["size"]) != size:
        raise ValueError(f"runs of {shape['size']}, and the image has {list(size)} rows and columns")
    counts = shape["counts"]
    edges = np.cumsum(_decoded(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if not len(edges) or edges[-1] != size[0] * size[1] or (np.diff(edges, prepend=0) < 0).any():
        raise ValueError("its runs do not fill the image")
    flat = np.zeros(edges[-1], np.uint8)
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=False):
        flat[start:stop] = 1
    return _traced(flat.reshape(size[::-1]).T)


def _decoded(text: str) -> list[int]:
    """Return the runs of COCO's text: five bits a letter, differences from the run before the last."""
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def runs_of(mask: NDArray[Any], window: Window, size: tuple[int, int]) -> list[int]:
    """Return how many pixels of an image, column by column, are outside, inside, and so on.

    >>> runs_of(np.ones((1, 2)), Window(1, 0, 1, 2), (2, 2))
    [1, 1, 1, 1, 0]
    """
    inside = np.argwhere(mask.T)
    places = (inside[:, 0] + window.col) * size[0] + inside[:, 1] + window.row
    if not len(places):
        return [size[0] * size[1]]
    begins = np.flatnonzero(np.diff(places, prepend=-2) > 1)
    starts, ends = places[begins], places[np.append(begins[1:], len(places)) - 1] + 1
    edges = np.append(np.stack([starts, ends], axis=1).ravel(), size[0] * size[1])
    return [int(run) for run in np.diff(edges, prepend=0)]


def _traced(mask: NDArray[np.uint8]) -> BaseGeometry:
    from rasterio.features import shapes

    found = shapes(np.ascontiguousarray(mask), mask=mask > 0)
    return shapely.union_all([shapely.geometry.shape(shape) for shape, _ in found])


def _annotation(outline: BaseGeometry, kind: int, grid: GeoBox) -> dict[str, Any]:
    from rasterio.features import rasterize

    left, top, right, bottom = outline.bounds
    facts: dict[str, Any] = {
        "category_id": kind,
        "iscrowd": 0,
        "bbox": [left, top, right - left, bottom - top],
        "area": outline.area,
    }
    parts = [part for part in shapely.get_parts([outline]) if part.geom_type == "Polygon"]
    if not any(len(part.interiors) for part in parts):
        return facts | {"segmentation": [np.ravel(part.exterior.coords).tolist() for part in parts]}
    window = Window(int(top), int(left), int(bottom) + 1 - int(top), int(right) + 1 - int(left))
    window = window.intersection(grid.window)
    moved = shapely.transform(outline, lambda points: points - np.array([window.col, window.row]))
    mask = rasterize([moved], window.shape, dtype="uint8")
    return facts | {"segmentation": {"size": list(grid.shape), "counts": runs_of(mask, window, grid.shape)}}


def _of_numbers(source: Path) -> Iterator[Labelled]:
    """Yield the objects of a mask, one for each number."""
    from rasterio.features import shapes

    try:
        scene = open_labels(source)
    except GeosegError as error:
        if is_vector(source):
            raise InvalidOption(f"{source}: holds shapes already; give it to --labels as it is") from error
        raise
    box = scene.geobox
    whole = len(scene.bands) == 1 and np.dtype(scene.bands[0].dtype).kind in "iu"
    if not whole or box.crs is None or box.height * box.width > _LARGEST:
        raise InvalidOption(
            f"{source}: is neither a COCO file (.json) nor a raster whose values number objects: "
            f"one band of whole numbers with a CRS, {_LARGEST >> 20} million pixels at most"
        )
    patch = read_patch(scene, box.window, box, (1,))
    values, inside = patch.pixels[0], patch.valid & (patch.pixels[0] != 0)
    if values.itemsize > 4:
        values = np.unique(values, return_inverse=True)[1]
    parts: dict[int, list[BaseGeometry]] = {}
    for shape, value in shapes(values.astype(np.int32), mask=inside):
        parts.setdefault(int(value), []).append(shapely.geometry.shape(shape))
    if len(parts) == 1 and len(*parts.values()) > 1:
        raise InvalidOption(
            f"{source}: has one value in {len(*parts.values())} places, so its values number no objects; "
            "if they are classes, give the raster to geoseg train as it is"
        )
    for number in sorted(parts):
        outline = shapely.union_all(parts[number])
        yield Labelled(shapely.transform(outline, box.to_crs), "object", source.name, str(box.crs))


def _carried(one: Labelled, crs: str) -> BaseGeometry:
    moved = change(one.crs, crs)
    if moved is None:
        return one.outline
    return shapely.transform(one.outline, lambda points: np.column_stack(moved.transform(*points.T)))
