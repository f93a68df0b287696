"""Scenes that STAC files name: items, collections, item collections and catalogs, and which asset to take.

The links of a STAC file are followed to other STAC files as far as `geoseg.archive.consent` allows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from geoseg.archive.consent import fetch, is_url, linked_location
from geoseg.errors import GeosegError, InvalidOption, UnreadableScene

if TYPE_CHECKING:
    import pystac

READERS = 16
"""STAC files that are read at once: each waits for a disk or a server."""

_BELOW = ("item", "child", "items", "next")
"""Relations of links to what belongs to a STAC file: static catalogs, and answers of a STAC API."""

_RASTERS = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2", "image/png", "image/jpeg", "image/webp")
_SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".img", ".vrt", ".ntf", ".webp"})
_NO_SCENES = frozenset({"thumbnail", "overview", "metadata", "cloud", "cloud-shadow", "data-mask"})
_RGB = frozenset({"red", "green", "blue"})


@dataclass(frozen=True, slots=True)
class Item:
    """An item, or why there is none."""

    href: str
    """Absolute path or URL of the file that it stands in."""
    item: pystac.Item | None = None
    """None: it cannot be read."""
    problem: str = ""
    """Why; empty where there is an item."""
    name: str = ""
    """Of an item that cannot be read among others of one file: its id, or its number."""


class Asset(NamedTuple):
    """The asset of an item that is a scene."""

    href: str
    """As it stands in the item."""
    bands: tuple[int, ...] | None
    """Its bands for those of the model, counted from 1; None: it does not say."""


def is_stac(document: Any) -> bool:
    """Whether parsed JSON is STAC, and no other GeoJSON.

    Examples
    --------
    >>> is_stac({"type": "FeatureCollection", "features": [{"type": "Feature", "stac_version": "1.0.0"}]})
    True
    >>> is_stac({"type": "FeatureCollection", "features": []})
    False
    """
    if not isinstance(document, dict):
        return False
    features = document.get("features")
    first = features[0] if isinstance(features, list) and features else None
    return "stac_version" in document or (isinstance(first, dict) and "stac_version" in first)


def read_items(source: str, document: Any, hosts: frozenset[str]) -> Iterator[Item]:
    """Yield the items of a STAC file and of all that it links to.

    Parameters
    ----------
    source : str
        Absolute path or URL of the file.
    document : object
        What it holds, parsed.
    hosts : frozenset of str
        Where links may lead besides the host of `source`.

    Raises
    ------
    GeosegError
        If the file is no STAC.
    """
    seen: set[str] = {source}
    level: list[tuple[str, _Found | GeosegError]] = [(source, _parsed(document, source))]
    with ThreadPoolExecutor(READERS) as readers:
        while level:
            below: dict[str, None] = {}
            for href, found in level:
                if isinstance(found, GeosegError):
                    yield Item(href, problem=str(found))
                    continue
                yield from found.items
                for link in found.links:
                    try:
                        below[linked_location(link, href, hosts)] = None
                    except InvalidOption as error:  # what lies behind it fails alone
                        yield Item(link, problem=str(error))
            new = [href for href in below if href not in seen]
            seen.update(new)
            level = list(zip(new, readers.map(lambda href: _read(href, hosts), new), strict=True))


class _Found(NamedTuple):
    items: list[Item]
    links: list[str]


def _read(href: str, hosts: frozenset[str]) -> _Found | GeosegError:
    """Return items and links of one file, or why it cannot be read."""
    try:
        return _parsed(load_json(href, hosts), href)
    except GeosegError as error:
        return error


def _parsed(document: Any, href: str) -> _Found | GeosegError:
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "Feature":
        return _Found([_item(document, href)], [])
    if kind == "FeatureCollection" and isinstance(document.get("features"), list):
        items = [_item(one, href, number) for number, one in enumerate(document["features"], 1)]
        return _Found(items, _links(document, ("next",)))
    if kind in {"Catalog", "Collection"}:
        return _Found([], _links(document, _BELOW))
    return UnreadableScene(f"{href}: is no STAC item, collection or catalog")


def load_json(href: str, hosts: frozenset[str]) -> Any:
    """Return what a file or URL of JSON holds.

    Raises
    ------
    UnreadableScene
        If it cannot be read, or is no JSON.
    """
    try:
        content = fetch(href, hosts)[0] if is_url(href) else Path(href).read_bytes()
        return json.loads(content)
    except GeosegError:
        raise
    except OSError as error:
        raise UnreadableScene(f"{href}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableScene(f"{href}: is no JSON ({error})") from error


def _links(document: Mapping[str, Any], relations: Sequence[str]) -> list[str]:
    links = document.get("links")
    found = [
        link
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and isinstance(link.get("href"), str) and link.get("rel") in relations
    ]
    return [link["href"] for link in found if str(link.get("method", "GET")).upper() == "GET"]


def _item(document: Any, href: str, number: int | None = None) -> Item:
    import pystac

    try:
        return Item(href, pystac.Item.from_dict(document, href=href, preserve_dict=False))
    except Exception as error:  # pystac raises what it stumbles over
        reason = " ".join(str(error).split()) or type(error).__name__
        named = document.get("id") if isinstance(document, dict) else None
        name = str(named or f"item {number}") if number else ""
        what = f"{name} is" if name else "is"
        return Item(href, problem=f"{href}: {what} no valid STAC item ({reason})", name=name)


def choose_asset(item: pystac.Item, wanted: Sequence[str], named: str | None = None) -> Asset:
    """Choose the asset of an item that is the scene.

    Of the rasters among the assets, but for thumbnails and the like: the one that says it has the model's
    bands; else, for a model of red, green and blue, the visual one; else the one with the role data; else
    the only one.

    Parameters
    ----------
    item : pystac.Item
    wanted : sequence of str
        Bands of the model.
    named : str, optional
        The asset that the user asks for.

    Raises
    ------
    InvalidOption
        If there is no such asset, none will do, or it is not clear which; the message names the assets.
    """
    if named is not None:
        if named not in item.assets:
            raise InvalidOption(f"item {item.id}: has no asset {named}; {_named(item.assets)}")
        asset = item.assets[named]
        return Asset(asset.href, _places(_bands(asset), wanted))
    rasters = {key: asset for key, asset in item.assets.items() if _is_raster(asset)}
    ranks = {key: rank for key, asset in rasters.items() if (rank := _rank(key, asset, wanted)) is not None}
    if not ranks:
        raise InvalidOption(f"item {item.id}: {_why_none(item, rasters, wanted)}")
    best = [key for key, rank in ranks.items() if rank == max(ranks.values())]
    if len(best) > 1:
        raise InvalidOption(
            f"item {item.id}: has several assets that may be the scene ({', '.join(best)}); "
            "choose one: --asset NAME"
        )
    asset = rasters[best[0]]
    return Asset(asset.href, _places(_bands(asset), wanted))


def _is_raster(asset: pystac.Asset) -> bool:
    if _NO_SCENES & {role.lower() for role in asset.roles or ()}:
        return False
    if asset.media_type:
        return asset.media_type.lower().split(";")[0].strip() in _RASTERS
    return PurePosixPath(asset.href.partition("?")[0]).suffix.lower() in _SUFFIXES


def _bands(asset: pystac.Asset) -> list[frozenset[str]]:
    """Return the names of an asset's bands, in STAC 1.1 and before: each its own and its common name."""
    bands = asset.extra_fields.get("bands") or asset.extra_fields.get("eo:bands") or []
    keys = ("name", "common_name", "eo:common_name", "description")
    return [
        frozenset(str(band[key]).lower() for key in keys if band.get(key))
        for band in bands
        if isinstance(band, dict)
    ]


def _places(bands: Sequence[frozenset[str]], wanted: Sequence[str]) -> tuple[int, ...] | None:
    """Return which bands, counted from 1, are those of the model; None if any is not named.

    Examples
    --------
    >>> _places([frozenset({"b", "blue"}), frozenset({"r", "red"})], ["red", "blue"])
    (2, 1)
    """
    places = [next((i for i, names in enumerate(bands, 1) if name.lower() in names), None) for name in wanted]
    return None if None in places or not places else tuple(place for place in places if place is not None)


def _rank(key: str, asset: pystac.Asset, wanted: Sequence[str]) -> tuple[int, int] | None:
    """Return how well an asset suits, the larger the better; None: not at all."""
    bands = [names for names in _bands(asset) if names]
    words = {key.lower(), *(role.lower() for role in asset.roles or ())}
    media = (asset.media_type or "").lower()
    format_rank = 2 if "cloud-optimized" in media else 1 if "tiff" in media else 0
    if _places(bands, wanted):
        return 3, format_rank
    if bands and len(bands) < len(wanted):
        return None
    if "visual" in words and _RGB.issuperset(wanted):
        return 2, format_rank
    return (1 if words & {"data", "image"} else 0), format_rank


def _why_none(item: pystac.Item, rasters: Mapping[str, pystac.Asset], wanted: Sequence[str]) -> str:
    single = {
        name: asset.href
        for name in wanted
        for asset in rasters.values()
        if len(bands := _bands(asset)) == 1 and name.lower() in bands[0]
    }
    if wanted and len(single) == len(set(wanted)):
        files = " ".join(single[name] for name in wanted)
        return (
            f"its bands {', '.join(wanted)} are assets of their own; make one scene of them: "
            f"gdalbuildvrt -separate {item.id}.vrt {files}"
        )
    return (
        f"has no asset that is a raster with the model's bands ({', '.join(wanted)}); {_named(item.assets)}"
    )


def _named(assets: Mapping[str, pystac.Asset]) -> str:
    shown = (f"{key} ({asset.media_type})" if asset.media_type else key for key, asset in assets.items())
    return f"its assets are {', '.join(shown)}" if assets else "it has no assets"
