"""Verdicts on the polygons of a layer, as the page of ``geoseg review`` exports them: CSV or GeoJSON."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InvalidOption, UnreadableScene, suggest
from geoseg.labels.classes import text_of
from geoseg.vectorfiles.crs import way

if TYPE_CHECKING:
    import pyproj

RIGHT, WRONG = "right", "wrong"

VERDICTS = (RIGHT, WRONG, "unsure", "redraw")
"""What a polygon may be found: ``redraw`` is an object whose outline is to be drawn anew."""

KEYS = ("id", "feature")
"""Columns that say which polygon: its attribute ``id``, or its number in the file, from 1."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What was said of polygons."""

    name: str
    """What the user called the file."""
    column: str
    """One of `KEYS`."""
    of: Mapping[str, str]
    """Verdict by key."""
    strata: Mapping[str, tuple[int, tuple[str, ...]]]
    """Of a random sample: how many polygons there are in a stratum, and the keys that were drawn from it and
    judged."""
    places: Mapping[str, tuple[float, float]]
    """Longitude and latitude of a point in the polygon, by key, where the file tells."""

    def found(self, keys: Sequence[str], polygons: NDArray[np.object_], crs: pyproj.CRS | None) -> set[str]:
        """Return those of a layer's keys that were judged, but for polygons that lie elsewhere.

        Other polygons may have the same numbers. Redrawn ones still hold the point, or nearly so: it may
        lie beyond their box by a tenth of its larger side.
        """
        judged = [i for i, key in enumerate(keys) if key in self.of]
        known = [i for i in judged if keys[i] in self.places]
        if crs is None or not known:
            return {keys[i] for i in judged}
        to_layer = way("OGC:CRS84", crs)
        x, y = to_layer.transform(*np.array([self.places[keys[i]] for i in known]).T)
        west, south, east, north = shapely.bounds(polygons[known]).T
        if crs.is_geographic:
            x += 360 * np.rint(((west + east) / 2 - x) / 360)
        room = 0.1 * np.maximum(east - west, north - south)
        near = (west - room <= x) & (x <= east + room) & (south - room <= y) & (y <= north + room)
        lost = {i for i, is_near in zip(known, near, strict=True) if not is_near}
        return {keys[i] for i in judged if i not in lost}

    def check_found(self, keys: set[str]) -> None:
        """Check that a layer has all the polygons that were judged.

        Raises
        ------
        InvalidOption
            If it is another layer.
        """
        lost = [key for key in self.of if key not in keys]
        if lost:
            raise InvalidOption(
                f"{self.name}: {len(lost)} of {len(self.of)} verdicts are on polygons that the layer does "
                f"not have (first: {self.column} {lost[0]}); give the layer that was reviewed"
            )


def keys_of(ids: Iterable[Any] | None, count: int) -> tuple[str, list[str]]:
    """Return what the polygons of a layer are called by, and the key of each.

    Examples
    --------
    >>> keys_of([7, 9], 2), keys_of([7, 7], 2)
    (('id', ['7', '9']), ('feature', ['1', '2']))
    """
    if ids is not None:
        keys = [text_of(one) for one in ids]
        if all(keys) and len(set(keys)) == count:
            return KEYS[0], keys
    return KEYS[1], [str(number) for number in range(1, count + 1)]


def read_verdicts(path: Path) -> Verdicts:
    """Read verdicts.

    Raises
    ------
    UnreadableScene
        If there is no such file.
    InvalidOption
        If it is none that ``geoseg review`` exports, or a verdict is none.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = _rows_of_json(text) if text.lstrip().startswith("{") else _rows_of_csv(text)
    except OSError as error:
        raise UnreadableScene(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise InvalidOption(f"{path}: cannot be read as CSV or GeoJSON ({error})") from error
    column = next((name for name in KEYS if rows and name in rows[0]), None)
    if column is None or not any(text_of(row.get("verdict")).strip() for row in rows):
        raise InvalidOption(
            f"{path}: holds no verdicts: give the CSV or GeoJSON that a page of geoseg review has exported"
        )
    found: dict[str, str] = {}
    strata: dict[str, tuple[int, tuple[str, ...]]] = {}
    places: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows, 1):
        key, verdict = text_of(row.get(column)), text_of(row.get("verdict")).strip().lower()
        if not verdict:  # taken back in a spreadsheet, or an empty row of one
            continue
        if verdict not in VERDICTS:
            raise InvalidOption(
                f"{path}: verdict {number}: {verdict!r} is none; {suggest(verdict, VERDICTS)}"
            )
        if not key or key in found:
            why = f"is there twice ({column} {key})" if key else f"has no {column}"
            raise InvalidOption(f"{path}: verdict {number} {why}")
        found[key] = verdict
        if place := _place(row):
            places[key] = place
        size = text_of(row.get("stratum_size"))
        if size.isdecimal():
            stratum = text_of(row.get("stratum"))
            strata[stratum] = int(size), (*strata.get(stratum, (0, ()))[1], key)
    return Verdicts(str(path), column, found, strata, places)


def _place(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return longitude and latitude; None where a spreadsheet has made something else of them."""
    with contextlib.suppress(ValueError):
        x, y = (float(text_of(row.get(name)).replace(",", ".")) for name in ("longitude", "latitude"))
        if abs(x) <= 180 and abs(y) <= 90:
            return x, y
    return None


def _rows_of_csv(text: str) -> list[dict[str, Any]]:
    """Return rows; a spreadsheet saves them with semicolons or tabs where commas are for decimals."""
    head = text.partition("\n")[0]
    return list(csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=head.count)))


def _rows_of_json(text: str) -> list[dict[str, Any]]:
    features = json.loads(text).get("features")
    if not isinstance(features, list) or not all(
        isinstance(one, dict) and isinstance(one.get("properties"), dict) for one in features
    ):
        raise ValueError("it is no collection of features")
    return [one["properties"] for one in features]
