"""A STAC collection of results: an item each, which says what it was made of, with what, and how.

Nothing in it depends on when it was written, so the same results have the same catalogue.
STAC 1.1: https://stacspec.org; processing: https://github.com/stac-extensions/processing
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from geoseg.archive.area import Degrees
from geoseg.archive.facts import SceneFacts
from geoseg.files import replacing
from geoseg.vector.place import place
from geoseg.vector.reproject import WGS84

PROCESSING = "https://stac-extensions.github.io/processing/v1.1.0/schema.json"

MEDIA = {
    ".parquet": "application/vnd.apache.parquet",
    ".gpkg": "application/geopackage+sqlite3",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
}

ALWAYS = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
"""STAC wants a time or an interval: that of a scene of unknown date."""

WHOLE_EARTH = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True, slots=True)
class Part:
    """A scene with a result.

    Parameters
    ----------
    row : mapping
        What the status of the archive says of it.
    path : Path
        Its polygons.
    facts : SceneFacts or None
        What the scene itself shows; None where it can no longer be read.
    problem : str
        Why it cannot.
    moment : datetime or None
        When it was taken.
    """

    row: Mapping[str, Any]
    path: Path
    facts: SceneFacts | None
    problem: str
    moment: datetime | None

    @property
    def name(self) -> str:
        """Of the result."""
        return str(self.row["name"])

    @property
    def time(self) -> str | None:
        """When it was taken, as RFC 3339 writes it."""
        if self.moment is None:
            return None
        known = self.moment if self.moment.tzinfo else self.moment.replace(tzinfo=UTC)
        return known.astimezone(UTC).isoformat().replace("+00:00", "Z")


def write_catalogue(
    folder: Path, dataset: Path, parts: Sequence[Part], made: Mapping[str, Any], card: str | None
) -> None:
    """Write a collection and its items into `folder`, which is replaced as a whole.

    Parameters
    ----------
    folder : Path
    dataset : Path
        Folder of the dataset of all; lies beside `folder`.
    parts : sequence of Part
    made : mapping
        What fixes the results: model, options, version of geoseg.
    card : str or None
        The model's card, a STAC item with the MLM extension, where it is at hand.
    """
    with replacing(folder) as path:
        path.mkdir()
        if card is not None:
            _write(path / "model.json", json.loads(card))
        _write(path / "collection.json", _collection(dataset, parts, made, card is not None))
        for part in parts:
            target = path / "items" / f"{part.name}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            depth = part.name.count("/") + 1
            _write(target, _item(part, made, "../" * depth, folder.parent, card is not None))


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _collection(
    dataset: Path, parts: Sequence[Part], made: Mapping[str, Any], has_card: bool
) -> dict[str, Any]:
    boxes = [box for part in parts if (box := _bbox(part)) is not None]
    times = sorted(part.time for part in parts if part.time)
    extent = {
        "spatial": {"bbox": [_around(boxes)]},
        "temporal": {"interval": [[times[0], times[-1]] if len(times) == len(parts) else [None, None]]},
    }
    files = sorted(path.name for path in dataset.glob("*.parquet"))
    links = [_link("root", "collection.json"), *(_link("item", f"items/{part.name}.json") for part in parts)]
    if has_card:
        links.append(_link("related", "model.json", "the model, with the MLM extension"))
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": "results",
        "title": "Results of geoseg batch",
        "description": f"Polygons that {made.get('model', 'a model')} found in {len(parts)} scenes.",
        "license": "other",
        "extent": extent,
        "links": links,
        "assets": {
            name.removesuffix(".parquet"): _asset(f"../{dataset.name}/{name}", "all results, sorted by place")
            for name in files
        },
    }


def _item(part: Part, made: Mapping[str, Any], up: str, archive: Path, has_card: bool) -> dict[str, Any]:
    row, geometry, bbox = part.row, _outline(part), _bbox(part)
    links = [_link(rel, f"{up}collection.json") for rel in ("root", "parent", "collection")]
    if row["item"]:
        links.append(_link("derived_from", str(row["item"]), "the item of the scene"))
    links.append({"rel": "via", "href": str(row["location"]), "title": "the scene"})
    if has_card:
        links.append(_link("related", f"{up}model.json", "the model, with the MLM extension"))
    facts: dict[str, Any] = {"datetime": part.time}
    if part.time is None:
        facts |= dict(zip(("start_datetime", "end_datetime"), ALWAYS, strict=True))
    facts |= {
        "processing:software": {"geoseg": str(made.get("geoseg", ""))},
        "geoseg:model": str(made.get("model", "")),
        "geoseg:options": {name: value for name, value in made.items() if name not in ("model", "geoseg")},
        "geoseg:state": row["state"],
        "geoseg:coverage": row["coverage"],
        "geoseg:features": row["features"],
        **({"geoseg:reason": row["reason"]} if row["reason"] else {}),
    }
    kinds = {".tif": ("raster", "probabilities or classes")}
    assets = {}
    for file in row["files"]:
        name, title = kinds.get(Path(file).suffix, ("polygons", "polygons"))
        place_of = archive / file
        inside = place_of.resolve().is_relative_to(archive.resolve())
        assets[name] = _asset(f"{up}../{file}" if inside else str(place_of.resolve()), title)
    document = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [PROCESSING],
        "id": part.name,
        "geometry": None if geometry is None else json.loads(shapely.to_geojson(geometry)),
        **({} if bbox is None or geometry is None else {"bbox": list(bbox)}),
        "properties": facts,
        "links": links,
        "assets": assets,
        "collection": "results",
    }
    return document


def _link(rel: str, href: str, title: str = "") -> dict[str, str]:
    kind = "application/geo+json" if rel in ("item", "derived_from", "related") else "application/json"
    return {"rel": rel, "href": href, "type": kind, **({"title": title} if title else {})}


def _asset(href: str, title: str) -> dict[str, Any]:
    return {"href": href, "type": MEDIA[Path(href).suffix], "title": title, "roles": ["data"]}


def _outline(part: Part) -> shapely.Geometry | None:
    """Return the outline of a scene in longitude and latitude; None where it is not known."""
    if part.facts is not None and part.facts.crs is not None:
        grid = part.facts.grid
        placed, _ = place(np.array([shapely.box(0, 0, grid.width, grid.height)]), grid, WGS84)
        outline: shapely.Geometry = placed[0]
        return outline
    box = part.row["bbox"]
    return shapely.box(*box) if box and box[0] <= box[2] else None


def _bbox(part: Part) -> Degrees | None:
    box = part.facts.bbox if part.facts is not None and part.facts.bbox else part.row["bbox"]
    return None if not box else (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


def _around(boxes: Sequence[Degrees]) -> list[float]:
    """Return a box around boxes; the whole Earth where one lies across 180°, or there is none."""
    if not boxes or any(west > east for west, _, east, _ in boxes):
        return list(WHOLE_EARTH)
    found = np.array(boxes)
    return [*found[:, :2].min(axis=0).tolist(), *found[:, 2:].max(axis=0).tolist()]
