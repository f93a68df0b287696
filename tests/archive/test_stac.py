"""STAC items, collections, item collections and catalogs, from files and a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from geoseg.archive.entries import Entry, entries_of
from geoseg.errors import GeosegError
from tests.raster.serve import Served, served

RGB = ("red", "green", "blue")
TIFF = "image/tiff; application=geotiff"


def asset(
    href: str, *bands: str, kind: str | None = TIFF, roles: tuple[str, ...] = ("data",)
) -> dict[str, Any]:
    return {
        "href": href,
        **({"type": kind} if kind else {}),
        "roles": list(roles),
        **(
            {"eo:bands": [{"name": f"B{i}", "common_name": name} for i, name in enumerate(bands)]}
            if bands
            else {}
        ),
    }


def item(name: str, **assets: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [[[1, 2], [3, 2], [3, 4], [1, 4], [1, 2]]]},
        "bbox": [1, 2, 3, 4],
        "properties": {"datetime": "2024-05-01T10:00:00Z", "eo:cloud_cover": 7},
        "links": [],
        "assets": assets or {"image": asset(f"{name}.tif")},
    }


def catalog(*links: tuple[str, str], kind: str = "Catalog") -> dict[str, Any]:
    extent = {"spatial": {"bbox": [[1, 2, 3, 4]]}, "temporal": {"interval": [[None, None]]}}
    return {
        "type": kind,
        "stac_version": "1.0.0",
        "id": "all",
        "description": "all",
        **({"license": "CC0-1.0", "extent": extent} if kind == "Collection" else {}),
        "links": [{"rel": relation, "href": href} for relation, href in links],
    }


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def archive(folder: Path) -> Path:
    """A catalog with a collection of two items, which links back to where it hangs."""
    write(folder / "c/one/one.json", item("one"))
    write(folder / "c/two.json", item("two", visual=asset("../pixels/two.tif", roles=("visual",))))
    back = ("root", "../catalog.json"), ("parent", "../catalog.json"), ("child", "../catalog.json")
    write(
        folder / "c/collection.json",
        catalog(("item", "one/one.json"), ("item", "./two.json"), *back, kind="Collection"),
    )
    return write(folder / "catalog.json", catalog(("child", "c/collection.json"), ("child", "catalog.json")))


def of(*sources: object, **options: Any) -> list[Entry]:
    return entries_of([str(source) for source in sources], **{"bands": RGB, **options})


def refusal(*sources: object, **options: Any) -> str:
    with pytest.raises(GeosegError) as caught:
        of(*sources, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served")) as running:
        yield running


def test_a_catalog_on_disk(tmp_path: Path) -> None:
    one, two = of(archive(tmp_path))
    assert (one.name, one.location) == ("one", str(tmp_path / "c/one/one.tif"))
    assert (two.name, two.location) == ("two", str(tmp_path / "pixels/two.tif"))
    assert one.datetime == "2024-05-01T10:00:00+00:00"
    assert one.properties["eo:cloud_cover"] == 7
    assert (one.bbox, one.item) == ((1, 2, 3, 4), str(tmp_path / "c/one/one.json"))
    assert one.properties["id"] == "one"


def test_the_same_catalog_on_a_server(server: Served) -> None:
    archive(server.folder)
    names = [(entry.name, entry.location) for entry in of(f"{server.url}/catalog.json")]
    assert names == [("one", f"{server.url}/c/one/one.tif"), ("two", f"{server.url}/pixels/two.tif")]
    (single,) = of(f"{server.url}/c/two.json")
    assert single.item == f"{server.url}/c/two.json"


def test_answers_of_a_stac_api(server: Served) -> None:
    page = {
        "type": "FeatureCollection",
        "features": [item("a")],
        "links": [{"rel": "next", "href": "page2?token=x"}],
    }
    write(server.folder / "search", page)
    write(
        server.folder / "page2?token=x",
        {**page, "features": [item("b")], "links": [{"rel": "next", "href": "search"}]},
    )
    assert [entry.name for entry in of(f"{server.url}/search")] == ["a", "b"]


def test_an_item_collection_and_an_item(tmp_path: Path) -> None:
    both = write(
        tmp_path / "items.geojson", {"type": "FeatureCollection", "features": [item("a"), item("b")]}
    )
    assert [entry.name for entry in of(both)] == ["a", "b"]
    single = write(tmp_path / "a.json", item("a/x"))
    assert [(entry.name, entry.location) for entry in of(single)] == [("a_x", str(tmp_path / "a/x.tif"))]


def test_which_asset_is_the_scene(tmp_path: Path) -> None:
    def chosen(bands: tuple[str, ...] = RGB, named: str | None = None, **assets: Any) -> tuple[str, Any]:
        (entry,) = of(write(tmp_path / "i.json", item("i", **assets)), bands=bands, asset=named)
        return Path(entry.location).name, entry.bands

    preview = {
        "thumbnail": asset("t.png", kind="image/png", roles=("thumbnail",)),
        "meta": asset("m.xml", kind="text/xml"),
    }
    visual, bgrn = asset("v.tif", roles=("visual",)), asset("b.tif", "blue", "green", "red", "nir")
    assert chosen(image=asset("x.tif", kind=""), **preview) == ("x.tif", None)
    assert chosen(visual=visual, analytic=asset("a.tif"), **preview) == ("v.tif", None)
    assert chosen(visual=visual, all=bgrn) == ("b.tif", (3, 2, 1))
    assert chosen(("nir", "red"), visual=visual, all=bgrn) == ("b.tif", (4, 3))
    assert chosen(named="visual", visual=visual, all=bgrn) == ("v.tif", None)
    cog = asset("c.tif", kind="image/tiff; application=geotiff; profile=cloud-optimized")
    assert chosen(data=asset("d.jp2", kind="image/jp2"), cog=cog) == ("c.tif", None)
    assert chosen(x=asset("x.tif", "pan"), y=asset("y.tif", roles=())) == ("y.tif", None)


def test_items_without_a_usable_asset_name_theirs(tmp_path: Path) -> None:
    path = tmp_path / "i.json"
    write(path, item("i", meta=asset("m.xml", kind="text/xml")))
    assert "item i: has no asset that is a raster with the model's bands" in refusal(path)
    assert "its assets are meta (text/xml)" in refusal(path)
    write(path, item("i", a=asset("a.tif"), b=asset("b.tif")))
    assert "several assets that may be the scene (a, b); choose one: --asset NAME" in refusal(path)
    assert "has no asset c; its assets are a" in refusal(path, asset="c")
    write(path, item("i", **{name: asset(f"{name}.tif", name) for name in RGB}))
    said = refusal(path)
    assert "its bands red, green, blue are assets of their own" in said
    assert "gdalbuildvrt -separate i.vrt red.tif green.tif blue.tif" in said


def test_one_bad_item_of_many_is_kept_with_its_reason(tmp_path: Path) -> None:
    bad = [item("bad", meta=asset("m.xml", kind="text/xml")), {"type": "Feature", "id": "worse"}, "worst"]
    both = write(tmp_path / "items.json", {"type": "FeatureCollection", "features": [item("good"), *bad]})
    found = {entry.name: entry.problem for entry in of(both)}
    assert found["good"] == ""
    assert "its assets are meta" in found["bad"]
    assert "items.json: worse is no valid STAC item" in found["worse"]
    assert "items.json: item 4 is no valid STAC item" in found["item 4"]


def test_broken_links_are_kept_with_their_reason(tmp_path: Path, server: Served) -> None:
    links = ("item", "good.json"), ("item", "gone.json"), ("item", "text.json")
    for folder, place in ((tmp_path, str(tmp_path)), (server.folder / "broken", f"{server.url}/broken")):
        write(folder / "good.json", item("good"))
        write(folder / "text.json", "no JSON")
        write(folder / "catalog.json", catalog(*links))
        found = {entry.name: entry.problem for entry in of(f"{place}/catalog.json")}
        assert found["good"] == ""
        assert "no such file" in found["gone"]
        assert "is no JSON" in found["text"]
        write(folder / "catalog.json", catalog(("item", "gone.json")))
        assert "no such file" in refusal(f"{place}/catalog.json")


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"stac_version": "1.0.0", "type": "Other"}', ""])
def test_json_that_is_no_stac(text: str, tmp_path: Path) -> None:
    assert str(tmp_path / "a.json") in refusal(write(tmp_path / "a.json", text))


def test_links_and_assets_stay_where_naming_the_file_allows(tmp_path: Path, server: Served) -> None:
    path = tmp_path / "i.json"
    for href, words in {
        "/vsicurl/http://h.org/a.tif": "virtual paths",
        "https://h.org/a.tif": "--allow-host h.org",
        "other.json": "another list",
    }.items():
        write(path, item("i", image=asset(href)))
        assert words in refusal(path)
    write(path, catalog(("item", f"{server.url}/c/two.json")))
    archive(server.folder)
    assert "--allow-host 127.0.0.1" in refusal(path)
    host = server.url.removeprefix("http://")
    assert [entry.name for entry in of(path, hosts=[host])] == ["two"]
    write(server.folder / "away.json", item("i", image=asset("http://h.org/a.tif")))
    assert "on another host" in refusal(f"{server.url}/away.json")
    write(server.folder / "local.json", item("i", image=asset("file:///etc/a.tif")))
    assert "http, https, s3, gs and az only" in refusal(f"{server.url}/local.json")


def test_what_may_not_be_opened_is_kept_with_its_reason(tmp_path: Path) -> None:
    away = item("away", image=asset("https://h.org/a.tif"))
    write(tmp_path / "good.json", item("good"))
    write(tmp_path / "away.json", away)
    links = [("item", name) for name in ("good.json", "away.json", "https://h.org/far.json")]
    found = {entry.name: entry.problem for entry in of(write(tmp_path / "c.json", catalog(*links)))}
    assert found.pop("good") == ""
    assert all("--allow-host h.org" in problem for problem in found.values())
    assert set(found) == {"away", "far"}


def test_no_redirect_to_another_host(server: Served, tmp_path: Path) -> None:
    archive(server.folder)
    write(server.folder / "catalog2.json", catalog(("item", f"to/{server.url[7:]}/c/two.json")))
    assert [entry.name for entry in of(f"{server.url}/catalog2.json")] == ["two"]
    with served(tmp_path) as other:
        write(tmp_path / "i.json", item("i"))
        said = refusal(f"{server.url}/to/{other.url[7:]}/i.json")
        assert f"leads to another host ({other.url}/i.json)" in said
        assert not other.log()
        assert of(f"{server.url}/to/{other.url[7:]}/i.json", hosts=[other.url[7:]])


def test_lists_on_a_server(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    write(server.folder / "l/list.csv", "location,n\na b.tif,1\n/x/c.tif,2\n")
    found = of(f"{server.url}/l/list.csv")
    assert [(entry.name, entry.location) for entry in found] == [
        ("a b", f"{server.url}/l/a%20b.tif"),
        ("x/c", f"{server.url}/x/c.tif"),
    ]
    monkeypatch.setattr("geoseg.raster.environment.PAUSES", (0.0, 0.0))
    assert "no such file (HTTP 404)" in refusal(f"{server.url}/l/missing.csv")
    monkeypatch.setattr("geoseg.archive.consent.TIMEOUT", 0.2)
    assert "the server does not answer" in refusal(f"{server.url}/mute/list.csv")
    assert "no connection to the server" in refusal("http://127.0.0.1:1/list.csv")
    assert "lists are read from files, http and https" in refusal("s3://bucket/list.csv")
    assert of(f"{server.url}/503x1/l/list.csv")
