"""The STAC collection of results: valid, offline, and the same whenever it is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft7Validator, ValidationError
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

from geoseg.archive.manifest import Manifest
from geoseg.archive.merge import merge
from geoseg.archive.options import MergeOptions
from geoseg.models.bundle import find_model
from tests.archive.merging import archive_of, crop, put, world
from tests.runs import bright_model


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    pixels = world(1)
    scenes = [crop(tmp_path / f"s{col}.tif", pixels, 0, col, 120, 80) for col in (0, 40, 80)]
    folder = archive_of(tmp_path / "archive", scenes, {"s40": "2024-05-01T12:00:00+02:00"})
    with Manifest(folder) as manifest:
        first, second, third = manifest.results()
        made = json.dumps(
            {
                "model": f"bright {find_model(str(bright_model())).card.digest[:16]}",
                "geoseg": "1",
                "threshold": 0.5,
            }
        )
        (folder / "deep").mkdir()
        (folder / "s80.parquet").rename(folder / "deep" / "s80.parquet")
        deep = replace(
            third, name="deep/s80", files=("deep/s80.parquet",), state="partial", reason="a tile is lost"
        )
    (folder / "manifest.sqlite").unlink()
    put(folder, [first, replace(second, item="https://example.org/items/40.json"), deep])
    with Manifest(folder) as manifest:
        manifest.set_facts(made=made)
        manifest.write_status({"running": False}, now=True)
    return folder


@pytest.fixture(scope="module")
def schemas() -> Registry:
    """Return the schemas of STAC 1.1, which pystac brings along, and of extensions."""
    found = get_local_schema_cache()
    site = "https://stac-extensions.github.io"
    for path in (Path(__file__).parent / "schemas").glob("*.json"):
        found[f"{site}/{path.stem.replace('-v', '/v')}/schema.json"] = json.loads(path.read_text())
    found[f"{site}/classification/v1.1.0/schema.json"] = found[f"{site}/classification/v2.0.0/schema.json"]
    return Registry().with_resources((uri, Resource.from_contents(schema)) for uri, schema in found.items())


def check(document: dict, schemas: Registry) -> None:
    """Validate against the schemas of STAC 1.1 and of all extensions that are named."""
    kind = {"Feature": "item", "Collection": "collection"}[document["type"]]
    core = f"https://schemas.stacspec.org/v1.1.0/{kind}-spec/json-schema/{kind}.json"
    for uri in (core, *document.get("stac_extensions", [])):
        Draft7Validator(schemas.contents(uri), registry=schemas).validate(document)


def test_the_catalogue_is_valid_and_says_what_was_made_of_what(archive: Path, schemas: Registry) -> None:
    merged = merge(archive, MergeOptions(merge=True), str(bright_model()))
    root = json.loads((merged.catalogue / "collection.json").read_text())
    check(root, schemas)
    import pystac

    read = pystac.Collection.from_file(merged.catalogue / "collection.json")
    items = {item.id: item for item in read.get_items()}
    assert sorted(items) == ["deep/s80", "s0", "s40"]
    for item in items.values():
        check(json.loads(Path(item.get_self_href()).read_text()), schemas)
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href()).exists()
        assert "created" not in item.properties
        assert item.properties["processing:software"] == {"geoseg": "1"}
        assert item.properties["geoseg:options"] == {"threshold": 0.5}
        assert item.get_collection().id == "results"
        (model,) = item.get_links("related")
        assert model.get_absolute_href() == str(merged.catalogue / "model.json")
    assert all(Path(asset.get_absolute_href()).exists() for asset in read.assets.values())
    assert items["s40"].properties["datetime"] == "2024-05-01T10:00:00Z"
    assert items["s0"].properties["datetime"] is None
    assert items["s40"].get_links("derived_from")[0].href == "https://example.org/items/40.json"
    assert items["deep/s80"].properties["geoseg:reason"] == "a tile is lost"
    assert items["s0"].bbox[0] < items["s40"].bbox[0] < items["deep/s80"].bbox[0]
    assert items["s0"].geometry["type"] == "Polygon"


def test_the_model_is_described_by_mlm(archive: Path, schemas: Registry) -> None:
    merged = merge(archive, MergeOptions(merge=True), str(bright_model()))
    card = json.loads((merged.catalogue / "model.json").read_text())
    check(card, schemas)
    from stac_model.schema import MLModelProperties

    MLModelProperties.model_validate(card["properties"])
    merged = merge(archive, MergeOptions(merge=True), "buildings")  # not the model that it was
    assert not (merged.catalogue / "model.json").exists()


def test_the_shipped_card_is_valid_and_each_extension_finds_what_is_wrong(schemas: Registry) -> None:
    text = (find_model("buildings").path / "model.json").read_text()
    check(json.loads(text), schemas)
    for right, wrong in (
        ("mlm:framework", "mlm:frame"),
        ('"file:size": ', '"file:size": -'),
        ('"color_hint": "', '"color_hint": "#'),
    ):
        assert right in text
        with pytest.raises(ValidationError):
            check(json.loads(text.replace(right, wrong)), schemas)
