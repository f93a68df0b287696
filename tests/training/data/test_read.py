"""From files to ground: labels of every kind, and one clear line for each that cannot be used."""

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely

from geoseg.errors import GeosegError, InvalidOption
from geoseg.labels.classes import IGNORE, ClassTable
from geoseg.labels.masks import open_mask
from geoseg.labels.polygons import read_polygons
from geoseg.raster.scene import open_scene
from geoseg.testing import make_scene
from geoseg.training.data.read import MaskLabels, read_data
from geoseg.training.data.spec import ChipsSpec, ClassSpec, DataSpec, Draws, Place, SceneSpec, ValidationSpec
from geoseg.values import Window
from tests.training.data.fakes import UTM, write, write_chips, write_polygons

SHARED = Path(__file__).resolve().parents[3] / "../shared/data"
DRAWS = Draws(crop=32)
HELD = ValidationSpec(scenes=("held",))
HOUSES = [(20, 30, 50, 60), (70, 70, 90, 80)]
TWO = (
    ClassSpec(id=1, name="Building", color=(1, 2, 3)),
    ClassSpec(id=3, name="road", color=(4, 5, 6)),
)
FAR = (0.3, 0.0, 600_000.0, 0.0, -0.3, 5_000_000.0)


@pytest.fixture
def folder(tmp_path):
    """A scene, and another one far away to be held out."""
    make_scene(tmp_path / "a.tif", size=(100, 120))
    make_scene(tmp_path / "held.tif", size=(100, 120), transform=FAR)
    return tmp_path


def split(folder, classes=None, **scene):
    shown = {"scene": "a.tif", "labels": "a.gpkg"} | scene
    options = {} if classes is None else {"classes": classes}
    scenes = (SceneSpec(**shown), SceneSpec(scene="held.tif", labels=None))
    return read_data(DataSpec(scenes=scenes, **options), HELD, DRAWS, folder)


def labels_of(folder, **options):
    (ground,) = split(folder, **options).training
    return ground.read(Window(0, 0, *ground.shape), ground.shape)[1]


def truth(boxes=HOUSES, shape=(100, 120), ids=(1, 1, 1)):
    expected = np.zeros(shape, np.uint8)
    for (left, top, right, bottom), number in zip(boxes, ids, strict=False):
        expected[top:bottom, left:right] = number
    return expected


def geobox(folder):
    return open_scene(folder / "a.tif").geobox


@pytest.mark.parametrize(
    ("suffix", "crs"),
    [
        (".geojson", "EPSG:4326"),
        *((suffix, crs) for suffix in (".gpkg", ".shp", ".fgb", ".parquet") for crs in (UTM, "EPSG:3035")),
    ],
)
def test_polygons_of_any_format_and_crs(folder, suffix, crs):
    # A quarter of a pixel off the centres, so that rounding decides nothing.
    boxes = [tuple(value + 0.2 for value in box) for box in HOUSES]
    write_polygons(folder / f"a{suffix}", boxes, geobox(folder), crs=crs)
    assert np.array_equal(labels_of(folder, labels=f"a{suffix}"), truth())


def test_classes_by_attribute(folder):
    boxes, kinds = [*HOUSES, (100, 5, 110, 15)], ["building", "Road", "ignore"]
    write_polygons(folder / "a.gpkg", boxes, geobox(folder), kind=kinds, code=[1.0, 3.0, 0.0])
    named = labels_of(folder, classes=TWO, class_attribute="kind")
    assert np.array_equal(named, truth(boxes, ids=(1, 3, IGNORE)))
    numbered = labels_of(folder, classes=TWO, class_attribute="code")
    assert np.array_equal(numbered, truth(boxes, ids=(1, 3, 0)))


def test_outside_the_labelled_area_nothing_is_known(folder):
    write_polygons(folder / "a.gpkg", HOUSES, geobox(folder))
    write_polygons(folder / "area.gpkg", [(0, 0, 60, 100)], geobox(folder), crs="EPSG:4326")
    expected = truth()
    expected[:, 60:] = IGNORE
    assert np.array_equal(labels_of(folder, labelled_area="area.gpkg"), expected)


def test_invalid_polygons_are_repaired_and_counted(folder):
    bow = shapely.transform(shapely.Polygon([(20, 30), (50, 60), (50, 30), (20, 60)]), geobox(folder).to_crs)
    write(folder / "a.gpkg", [bow], UTM)
    found = split(folder)
    assert any("1 of 1 polygons were invalid and are repaired" in note for note in found.notes)
    assert found.training[0].has_objects


def test_polygons_without_an_area_are_left_out_and_counted(folder):
    write_polygons(folder / "a.gpkg", HOUSES, geobox(folder))
    usual = labels_of(folder)
    whole = read_polygons(folder / "a.gpkg").parts.tolist()
    point, line = shapely.Polygon([(5e5, 5e6)] * 4), shapely.Polygon([(5e5, 5e6), (6e5, 5e6), (5e5, 5e6)])
    write(folder / "a.gpkg", [point, *whole, line], UTM)
    found = split(folder)
    assert any("2 features without an area are left out (first: feature 0)" in note for note in found.notes)
    assert np.array_equal(labels_of(folder), usual)


def test_masks_on_the_same_grid_and_on_another(folder):
    grid = geobox(folder)
    make_scene(folder / "mask.tif", pixels=truth()[None] * 255)
    assert np.array_equal(labels_of(folder, labels="mask.tif"), truth())
    # The left part of the scene only, at half the pixel size.
    a, b, c, d, e, f = grid.transform
    half = (a / 2, b, c, d, e / 2, f)
    fine = np.kron(truth()[:, :80], np.ones((2, 2), np.uint8)) * 2
    make_scene(folder / "fine.tif", pixels=fine[None], transform=half)
    expected = truth()
    expected[:, 80:] = IGNORE
    assert np.array_equal(labels_of(folder, labels="fine.tif", mask_values={2: "building"}), expected)


def test_a_mask_in_another_crs_is_looked_up_where_it_lies(folder):
    grid = geobox(folder)
    corners = np.array([[0.0, 0.0], [120.0, 100.0]])
    forward = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    (west, north), (east, _) = (forward.transform(*point) for point in grid.to_crs(corners).tolist())
    step = (east - west) / 1200
    transform = (step, 0, west - 50 * step, 0, -step, north + 50 * step)
    cols, rows = np.meshgrid(np.arange(1400) + 0.5, np.arange(1400) + 0.5)
    back = pyproj.Transformer.from_crs("EPSG:4326", UTM, always_xy=True)
    x, y = back.transform(transform[2] + cols.ravel() * step, transform[5] - rows.ravel() * step)
    place = grid.to_pixels(np.column_stack([x, y]))
    inside = [
        (place[:, 0] >= left) & (place[:, 0] < right) & (place[:, 1] >= top) & (place[:, 1] < bottom)
        for left, top, right, bottom in HOUSES
    ]
    mask = np.any(inside, axis=0).reshape(1, 1400, 1400).astype(np.uint8)
    make_scene(folder / "degrees.tif", pixels=mask, transform=transform, crs="EPSG:4326")
    table = ClassTable.named({1: "building"})
    found = open_mask(folder / "degrees.tif", table, {}, "mask_values")
    labels = MaskLabels.over(found, grid, "a.tif").burn((0, 0, 120, 100), (100, 120))
    assert np.array_equal(labels == 1, truth() == 1)


def test_nodata_of_a_mask_says_nothing_but_zero_is_background(folder):
    mask = truth()
    mask[:10] = 9
    make_scene(folder / "m.tif", pixels=mask[None], validity="nodata", valid=mask != 9, nodata=9)
    expected = truth()
    expected[:10] = IGNORE
    assert np.array_equal(labels_of(folder, labels="m.tif"), expected)
    make_scene(folder / "z.tif", pixels=truth()[None], validity="nodata", valid=truth() != 0, nodata=0)
    assert np.array_equal(labels_of(folder, labels="z.tif"), truth())


def test_sixteen_bits_are_stretched_and_bands_chosen(folder):
    pixels = np.random.default_rng(0).integers(0, 4000, (4, 100, 120)).astype(np.uint16)
    make_scene(folder / "a.tif", pixels=pixels)
    write_polygons(folder / "a.gpkg", HOUSES, geobox(folder))
    (ground,) = split(folder, bands=(4, 2, 1)).training
    found, _ = ground.read(Window(0, 0, 100, 120), (100, 120))
    assert found.dtype == np.uint8
    for one, other in zip(found, pixels[[3, 1, 0]], strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99


def broken(folder, what):
    """Write labels that are wrong in one way; return options of the scene."""
    grid, path = geobox(folder), folder / "a.gpkg"
    if what == "missing":
        return {}
    if what == "empty":
        write(path, [shapely.Point(*grid.transform[2::3])], UTM)
    elif what == "no crs":
        write(path, [shapely.box(0, 0, 1, 1)], None)
    elif what == "elsewhere":
        write_polygons(path, HOUSES, open_scene(folder / "held.tif").geobox)
    elif what == "not degrees":
        write_polygons(path, HOUSES, grid)
        write(path, [shapely.box(5e5, 5e6, 5e5 + 9, 5e6 + 9)], "EPSG:4326")
    elif what == "no area":
        write(path, [shapely.Polygon([(5e5, 5e6)] * 4)], UTM)
    elif what == "mosaic":
        path.write_text("<OGRVRTDataSource/>")
    elif what == "pipeline":
        path.write_text('{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read b.gpkg"}')
    elif what == "mask value":
        make_scene(path.with_suffix(".msk.tif"), pixels=truth()[None] * 7)
        return {"labels": "a.msk.tif"}
    elif what == "mask size":
        make_scene(path.with_suffix(".msk.tif"), size=(9, 9), bands=1, crs=None, transform=None)
        return {"labels": "a.msk.tif"}
    else:
        write_polygons(path, HOUSES, grid, kind=["building", "raod"])
    return {"attribute": {"class_attribute": "knd"}, "layer": {"labels_layer": "b"}}.get(what, {})


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "a.gpkg: no such file"),
        ("empty", "holds no polygons"),
        ("no crs", "has no CRS"),
        ("elsewhere", "lies elsewhere than a.tif: it covers x 600006 .* the scene x 500000"),
        ("not degrees", "its coordinates cannot be degrees"),
        ("no area", r"holds no polygons with an area"),
        ("mosaic", "is no GeoPackage"),
        ("pipeline", "is no GeoPackage"),
        ("mask value", r"mask_values knows 0, 1, 255 .*make polygons of them: geoseg labels import"),
        ("mask size", r"has no CRS, unlike a.tif, and another size \(9 x 9, not 120 x 100"),
        ("attribute", r"has no attribute 'knd'; did you mean 'kind'\?"),
        ("layer", "has no layer 'b' of polygons; there is a"),
    ],
)
def test_labels_that_cannot_be_used_get_one_line(folder, what, message):
    options = broken(folder, what)
    with pytest.raises(GeosegError, match=message) as error:
        split(folder, **options)
    assert "\n" not in str(error.value)


def test_classes_that_are_not_there(folder):
    write_polygons(folder / "a.gpkg", HOUSES, geobox(folder), kind=["building", "raod"])
    with pytest.raises(GeosegError, match=r"'raod' is no class; did you mean 'road'\?"):
        split(folder, classes=TWO, class_attribute="kind")
    with pytest.raises(GeosegError, match=r"which attribute holds .* give class_attribute"):
        split(folder, classes=TWO)


def test_scenes_that_are_too_small_or_without_objects(folder):
    write_polygons(folder / "a.gpkg", HOUSES, geobox(folder))
    data = DataSpec(
        scenes=(SceneSpec(scene="a.tif", labels="a.gpkg"), SceneSpec(scene="held.tif", labels=None))
    )
    with pytest.raises(GeosegError, match=r"covers 36 x 30 m, a window of 256 pixels at 0\.2 m needs 51 m"):
        read_data(data, HELD, Draws(crop=256), folder)
    with pytest.raises(GeosegError, match="no ground with objects is left"):
        read_data(data, ValidationSpec(scenes=("a",)), DRAWS, folder)
    make_scene(folder / "a.tif", size=(100, 120), crs=None, transform=None)
    with pytest.raises(GeosegError, match="its ground resolution is unknown"):
        split(folder)


@pytest.fixture
def chips(tmp_path):
    mask = np.zeros((80, 90), np.uint8)
    mask[20:40, 20:40], mask[:5] = 255, 127
    image = np.dstack([mask] * 3)
    chips = {"town/one": (image, mask), "town/two": (image, mask), "wood/three": (image, mask * 0)}
    write_chips(tmp_path, chips, place="Nowhere", tier="A")
    return tmp_path


def read(folder, **spec):
    held = ValidationSpec(places=(Place(name="there", source="*", stems=("two",)),))
    return read_data(DataSpec(chips=(ChipsSpec(**spec),)), held, DRAWS, folder)


def test_training_keeps_to_the_tiers_named_and_validation_does_not(tmp_path):
    mask = np.zeros((80, 90), np.uint8)
    mask[20:40, 20:40] = 255
    image = np.dstack([mask] * 3)
    tiers = {"one": "A", "two": "C", "three": "B", "four": "C"}
    lines = []
    for stem, tier in tiers.items():
        index = write_chips(tmp_path, {f"town/{stem}": (image, mask)}, tier=tier)
        lines += index.read_text().splitlines()[bool(lines) :]
    index.write_text("\n".join(lines))

    def split_by(*tiers):
        data = DataSpec(chips=(ChipsSpec(index=Path("index.csv")),), tiers=tiers)
        held = ValidationSpec(places=(Place(name="there", source="*", stems=("two",)),))
        found = read_data(data, held, DRAWS, tmp_path)
        assert [ground.name for ground in found.validation["there"]] == ["two"]
        return {ground.name for ground in found.training}

    assert split_by("A") == {"one"}
    assert split_by("A", "B") == {"one", "three"}
    assert split_by() == {"one", "three", "four"}
    with pytest.raises(InvalidOption, match="nothing to train on has tier 'D'"):
        split_by("A", "D")


def test_chips_of_an_index(chips):
    found = read(chips, index="index.csv", weights={"town": 2})
    one, three = found.training
    assert (one.source, one.name, one.has_objects, one.weight) == ("town", "one", True, 2)
    assert (three.source, three.has_objects) == ("wood", False)
    assert one.facts == {"place": "Nowhere", "tier": "A"}
    assert one.area_m2 == pytest.approx(80 * 90 * 0.09)
    assert sorted(np.unique(one.labels).tolist()) == [0, 1, IGNORE]
    assert [ground.name for ground in found.validation["there"]] == ["two"]
    assert [g.source for g in read(chips, index="index.csv", exclude=("w*",)).training] == ["town"]
    forgotten = read(chips, index="index.csv", rims={"town": 1.2}).training[0].labels
    assert (forgotten[10:50, 30] == IGNORE).sum() == 2 * 8
    assert (forgotten[24:36, 24:36] == 1).all()


def test_chips_of_folders(chips):
    for name in ("images", "masks"):
        (chips / name).mkdir()
    for stem in ("one", "two"):
        (chips / f"{stem}.tif").rename(chips / "images" / f"{stem}.tif")
        (chips / f"{stem}.png").rename(chips / "masks" / f"{stem}.png")
    folders = {"images": "images", "masks": "masks"}
    (one,) = read(chips, **folders, gsd_m=0.25, source="town").training
    assert (one.source, one.name, one.gsd_m) == ("town", "one", 0.25)
    with pytest.raises(GeosegError, match="ground resolution is unknown; give gsd_m"):
        read(chips, **folders)
    (chips / "masks/one.png").unlink()
    with pytest.raises(GeosegError, match="no mask for 1 of 2 pictures, first one"):
        read(chips, **folders, gsd_m=0.25)


def test_chips_that_cannot_be_used_get_one_line(chips):
    with pytest.raises(GeosegError, match=r"value 127, which is no class; mask_values knows 0, 255"):
        read(chips, index="index.csv", mask_values={255: 1})
    with pytest.raises(GeosegError, match=r"has no source 'twn'; did you mean 'town'\?"):
        read(chips, index="index.csv", weights={"twn": 1})
    make_scene(chips / "one.tif", size=(70, 90))
    with pytest.raises(GeosegError, match=r"one.png: is 90 x 80 pixels, its picture one.tif 90 x 70"):
        read(chips, index="index.csv")
    (chips / "one.png").unlink()
    (chips / "two.tif").unlink()
    with pytest.raises(GeosegError, match=r"one.png: no such file \(2 files of chips are missing\)"):
        read(chips, index="index.csv")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared imagery is not beside the checkout")
def test_real_chips_with_the_polygons_of_their_source():
    """South Tyrol: polygons agree with the masks but for the lines between touching houses."""
    everything_else = ("[!b]*",)
    places = (Place(name="pustertal", source="bolzano*", stems=("bz_*_133????_*", "bz_*_134????_*")),)
    spec = ChipsSpec(
        index="index.csv",
        exclude=everything_else,
        labels={"bolzano_south_tyrol": "train/bolzano_south_tyrol/buildings.gpkg"},
    )
    found = read_data(DataSpec(chips=(spec,)), ValidationSpec(places=places), Draws(), SHARED)
    assert len(found.training) + len(found.validation["pustertal"]) == 183
    agree, cut, total = 0, 0, 0
    for ground in found.training[:40]:
        drawn = ground.read(ground.region, ground.shape)[1]
        known = ground.labels != IGNORE
        agree += np.count_nonzero((drawn == ground.labels) & known)
        cut += np.count_nonzero((drawn == 0) & (ground.labels == 1))
        total += np.count_nonzero(known)
    assert agree / total > 0.985
    assert cut > 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared imagery is not beside the checkout")
def test_a_real_scene_with_polygons():
    scenes = SHARED / "scenes"
    path = scenes / "banepa_nepal_drone_z19x2_3857_buildings.gpkg"
    polygons = read_polygons(path, layer="buildings")
    scene = open_scene(scenes / "banepa_nepal_drone_z19x2_3857.tif")
    assert scene.resolution is not None
    placed = polygons.over(np.ones(len(polygons.parts), np.uint8), scene.geobox, scene.resolution, 0.0)
    with rasterio.open(scenes / "banepa_nepal_drone_z19x2_3857_mask.tif") as mask:
        truth = mask.read(1, window=((1000, 1800), (1000, 1800)))
    burnt = placed.burn((1000, 1000, 1800, 1800), (800, 800))
    known = truth != 127
    assert np.mean((burnt == 1)[known] == (truth == 255)[known]) > 0.995
