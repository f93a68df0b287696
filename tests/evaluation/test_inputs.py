"""What is compared where: grids, CRSs, unknown ground, classes, and refusals in one line."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import GeosegError, InvalidOption
from geoseg.evaluation import EvaluateOptions
from geoseg.evaluation.inputs import Sources, open_inputs, tile_layers
from geoseg.options import parse_pairs
from geoseg.raster.encoding import Encoding, facts_of
from geoseg.testing import make_scene
from geoseg.values import ClassInfo, ClassRule, LayerSchema, Window
from tests.evaluation.files import boxes, burned, class_map, compare, polygons, probabilities

SIZE = (240, 220)
HOUSES = ((10, 10, 40, 40), (100, 60, 60, 50), (180, 150, 30, 50))


@pytest.mark.parametrize(
    ("crs", "suffix"),
    [
        ("EPSG:32633", ".gpkg"),
        ("EPSG:4326", ".geojson"),
        ("EPSG:3857", ".parquet"),
        ("EPSG:32632", ".fgb"),
        ("EPSG:4326", ".shp"),
    ],
)
def test_truth_in_any_crs_and_format(crs: str, suffix: str, tmp_path: Path) -> None:
    truth = polygons(tmp_path / f"truth{suffix}", boxes(*HOUSES), crs)
    result = compare(truth, class_map(tmp_path / "map.tif", burned(SIZE, *HOUSES)))
    assert result.pixels.mean_iou.value > 0.99
    assert result.objects[0].f1.value == 1
    assert result.outlines[0].mean_m.value < 0.02


def test_a_raster_on_another_grid_is_read_at_the_nearest_pixel(tmp_path: Path) -> None:
    truth = burned(SIZE, *HOUSES)
    fine = class_map(
        tmp_path / "fine.tif",
        np.kron(truth, np.ones((2, 2))),
        transform=(0.15, 0, 500_000, 0, -0.15, 5_000_000),
    )
    coarse = class_map(tmp_path / "coarse.tif", truth)
    for one, other in ((fine, coarse), (coarse, fine)):
        result = compare(one, other)
        assert result.pixels.mean_iou.value == 1
        assert result.pixels.unknown_pixels == 0


def test_what_lies_outside_the_other_raster_is_unknown(tmp_path: Path) -> None:
    truth = burned(SIZE, *HOUSES)
    part = class_map(tmp_path / "part.tif", truth[100:, 50:], transform=(0.3, 0, 500_015, 0, -0.3, 4_999_970))
    result = compare(part, class_map(tmp_path / "whole.tif", truth))
    assert result.pixels.known_pixels == 140 * 170
    assert result.pixels.mean_iou.value == 1
    assert result.objects[0].truth == 2


def test_a_mask_without_georeference_lies_on_a_grid_of_its_size(tmp_path: Path) -> None:
    truth = burned(SIZE, *HOUSES)
    mask = class_map(tmp_path / "mask.png.tif", truth * 255, crs=None, transform=None)
    whole = class_map(tmp_path / "map.tif", truth)
    assert compare(mask, whole, truth_values="255=1").pixels.mean_iou.value == 1
    small = class_map(tmp_path / "small.tif", truth[1:] * 255, crs=None, transform=None)
    with pytest.raises(InvalidOption, match="another size"):
        compare(small, whole, truth_values="255=1")


def test_outside_the_labelled_area_nothing_counts(tmp_path: Path) -> None:
    area = polygons(tmp_path / "area.gpkg", boxes((0, 0, 90, 220)), "EPSG:4326")
    truth = polygons(tmp_path / "truth.gpkg", boxes(HOUSES[0]))
    whole = class_map(tmp_path / "map.tif", burned(SIZE, *HOUSES))
    inside = compare(truth, whole, labelled_area=str(area))
    assert inside.pixels.mean_iou.value == inside.objects[0].f1.value == 1
    assert inside.pixels.known_pixels == 90 * 220
    everywhere = compare(truth, whole)
    assert everywhere.objects[0].precision.value == pytest.approx(1 / 3)
    assert any("no --labelled-area" in note for note in everywhere.notes)


def test_objects_that_are_mostly_hidden_are_excused(tmp_path: Path) -> None:
    """The area's border takes 10, 24 and 36 of the 40 rows of three houses."""
    houses = [(110, 10, 40, 20), (124, 60, 40, 20), (136, 110, 40, 20)]
    area = polygons(tmp_path / "area.gpkg", boxes((0, 0, 140, 220)))
    scene = make_scene(tmp_path / "scene.tif", size=SIZE)
    nothing = polygons(tmp_path / "nothing.gpkg", boxes((20, 150, 20, 20)))
    (score,) = compare(
        polygons(tmp_path / "truth.gpkg", boxes(*houses)), nothing, scene=scene, labelled_area=str(area)
    ).objects
    assert (score.truth, score.predicted, score.excused) == (1, 1, 2)
    (same,) = compare(
        tmp_path / "truth.gpkg", tmp_path / "truth.gpkg", scene=scene, labelled_area=str(area)
    ).objects
    assert (same.truth, same.matched, same.excused) == (3, 3, 0)


def test_nodata_of_the_scene_is_not_compared(tmp_path: Path) -> None:
    valid = np.ones(SIZE, bool)
    valid[:, 110:] = False
    scene = make_scene(tmp_path / "scene.tif", size=SIZE, validity="mask", valid=valid)
    truth = polygons(tmp_path / "truth.gpkg", boxes(*HOUSES))
    found = polygons(tmp_path / "found.gpkg", boxes(*HOUSES[:2]))
    result = compare(truth, found, scene=scene)
    assert result.pixels.known_pixels == 240 * 110
    assert result.pixels.mean_iou.value == result.objects[0].f1.value == 1


def test_values_ignore_layers_and_names(tmp_path: Path) -> None:
    truth = polygons(
        tmp_path / "truth.gpkg", boxes(*HOUSES), kind=["House", "shed", "ruin"], number=[1.0, 1.0, 2.0]
    )
    found = polygons(
        tmp_path / "found.gpkg", boxes(*HOUSES[:2]), **{"class": [1, 2], "class_name": ["house", "shed"]}
    )
    scene = make_scene(tmp_path / "scene.tif", size=SIZE)
    result = compare(truth, found, scene=scene, class_attribute="kind", truth_values="ruin=ignore")
    assert [info.name for info in result.classes] == ["house", "shed"]
    assert result.pixels.mean_iou.value == 1
    assert result.pixels.unknown_pixels == 30 * 50
    more = compare(truth, found, scene=scene, class_attribute="kind")
    assert [info.name for info in more.classes] == ["house", "shed", "ruin"]
    assert any("ruin" in note for note in more.notes)
    numbers = compare(truth, found, scene=scene, class_attribute="number", truth_values="2=background")
    assert numbers.objects[0].truth == 2


def test_missing_attributes_name_no_class(tmp_path: Path) -> None:
    truth = polygons(tmp_path / "kinds.gpkg", boxes(*HOUSES), kind=["house", None, "house"])
    assert "'null' is no class" in refused(tmp_path, truth=truth, class_attribute="kind")
    found = polygons(tmp_path / "found.gpkg", boxes(*HOUSES), **{"class": ["house", "house", "shed"]})
    scene = make_scene(tmp_path / "scene.tif", size=SIZE)
    result = compare(truth, found, scene=scene, class_attribute="kind", truth_values="null=ignore")
    assert [info.name for info in result.classes] == ["house", "shed"]
    assert result.objects[0].f1.value == pytest.approx(2 / 3)
    assert result.objects[1].predicted == 1


def test_pixels_of_their_own_where_both_are_polygons(tmp_path: Path) -> None:
    truth = polygons(tmp_path / "truth.gpkg", boxes(*HOUSES), "EPSG:4326")
    result = compare(truth, truth, resolution=0.5)
    assert result.resolution_m == pytest.approx((0.5, 0.5), rel=2e-3)
    assert result.pixels.mean_iou.value == 1
    ground = result.grid.height * result.grid.width * 0.25
    assert ground == pytest.approx(200 * 190 * 0.09, rel=0.03)


def test_without_any_crs_lengths_are_pixels(tmp_path: Path) -> None:
    ids = class_map(tmp_path / "map.tif", burned(SIZE, *HOUSES), crs=None, transform=None)
    result = compare(ids, ids, blocks=50.0)
    assert result.resolution_m is None
    assert result.objects[0].sizes == ()
    assert result.outlines[0].boundary_iou.value == 1
    assert any("pixels" in note for note in result.notes)


def test_broken_polygons_are_repaired_and_counted(tmp_path: Path) -> None:
    bow = shapely.Polygon([(10, 10), (50, 50), (50, 10), (10, 50)])
    truth = polygons(tmp_path / "truth.gpkg", np.array([bow, *boxes(HOUSES[1])], dtype=object))
    result = compare(truth, class_map(tmp_path / "map.tif", burned(SIZE, *HOUSES)))
    assert any("1 of 2 polygons were invalid" in note for note in result.notes)


def test_pictures_show_what_was_compared(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene.tif", size=SIZE, dtype="uint16")
    truth = polygons(tmp_path / "truth.gpkg", boxes(*HOUSES))
    sources = Sources(truth=str(truth), prediction=str(truth), scene=str(scene))
    layers = tile_layers(open_inputs(sources, EvaluateOptions()), Window(100, 50, 64, 64))
    assert layers.scene is not None
    assert layers.scene.dtype == np.uint8
    assert layers.scene.shape == (3, 64, 64)
    assert layers.scene.max() > layers.scene.min()
    assert (layers.truth == burned(SIZE, *HOUSES)[100:164, 50:114]).all()
    assert layers.known.all()


def said(path: Path, items: dict[str, str], *bands: str) -> Path:
    """Write metadata into a raster: of the file, and the class ids of bands."""
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**items)
        for index, band in enumerate(bands, 1):
            dataset.update_tags(index, CLASS=band)
    return path


def test_the_threshold_of_the_run_is_used_unless_another_is_given(tmp_path: Path) -> None:
    values = np.where(burned(SIZE, *HOUSES), 0.9, 0.6)[None]
    raster = said(probabilities(tmp_path / "p.tif", values), {"geoseg_threshold": "0.7"})
    truth = polygons(tmp_path / "truth.gpkg", boxes(*HOUSES))
    known = compare(truth, raster)
    assert known.confidence[0].used == 0.7
    assert known.pixels.mean_iou.value == 1
    assert any("a probability of 0.7 (--threshold)" in note for note in known.notes)
    given = compare(truth, raster, threshold=0.5)
    assert given.confidence[0].used == 0.5
    assert given.pixels.classes[0].recall.value == 1
    assert given.pixels.classes[0].precision.value < 0.5
    beside = compare(truth, truth, probability=raster)
    assert beside.confidence[0].used == 0.7
    silent = compare(truth, said(raster, {"geoseg_threshold": "nan"}))
    assert silent.confidence[0].used == 0.5


def test_bands_say_which_class_they_are_of(tmp_path: Path) -> None:
    roof, road = burned(SIZE, HOUSES[0]), burned(SIZE, *HOUSES[1:])
    names = {"CLASS_3": "road", "CLASS_9": "roof"}
    raster = said(probabilities(tmp_path / "p.tif", np.stack([roof, road])), names, "9", "3")
    result = compare(class_map(tmp_path / "t.tif", 9 * roof + 3 * road), raster)
    assert [(info.id, info.name) for info in result.classes] == [(3, "road"), (9, "roof")]
    assert [score.iou.value for score in result.pixels.classes] == [1, 1]
    # Ids that the classes do not have, or that two bands have, say nothing.
    for bands in (("9", "9"), ("0", "3"), ("9", "x")):
        raster = said(probabilities(tmp_path / "p.tif", np.stack([road, roof])), names, *bands)
        result = compare(class_map(tmp_path / "t.tif", 2 * roof + road), raster, classes="1=a,2=b")
        assert [score.iou.value for score in result.pixels.classes] == [1, 1]


words = st.sampled_from(["", "1", "7", "255", "256", "-1", "1.5", "٣", "x", "nan", "inf", "0.3", "9" * 5000])


@given(
    items=st.dictionaries(st.sampled_from(["geoseg_threshold", "CLASS_", "CLASS_1", "CLASS_x", "a"]), words),
    bands=st.lists(words, max_size=3),
)
def test_metadata_of_anybody_is_no_failure(items: dict[str, str], bands: list[str]) -> None:
    facts = facts_of(items, bands)
    assert facts.threshold in {None, 0.3}
    assert len(facts.band_ids) in {0, len(bands)}
    assert set(facts.band_ids) <= {1, 7, 255}
    assert set(facts.names) <= {1}


@given(
    ids=st.lists(st.integers(1, 255), min_size=1, max_size=5, unique=True),
    background=st.booleans(),
    threshold=st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_what_a_run_writes_is_understood(ids: list[int], background: bool, threshold: float) -> None:
    classes = tuple(ClassInfo(i, f"class {i}", (0, 0, 0)) for i in ids)
    encoding = Encoding("probability", ClassRule((*([0] * background), *ids), threshold))
    facts = facts_of(
        encoding.items(LayerSchema("a", None, classes)), [str(one) for one in encoding.band_classes]
    )
    assert facts.threshold == threshold
    assert facts.band_ids == tuple(ids)
    assert facts.names == {info.id: info.name for info in classes}


def refused(tmp_path: Path, **changes: object) -> str:
    """Compare a sound truth with a sound map after a change, and return the message."""
    given = {
        "truth": polygons(tmp_path / "truth.gpkg", boxes(*HOUSES), kind=["a", "b", "a"]),
        "prediction": class_map(tmp_path / "map.tif", burned(SIZE, *HOUSES)),
        **changes,
    }
    with pytest.raises(GeosegError) as caught:
        compare(given.pop("truth"), given.pop("prediction"), **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_attribute": "knd"}, "did you mean 'kind'"),
        ({"classes": "1=a,2=b"}, "--class-attribute"),
        ({"classes": "1=a", "class_attribute": "kind"}, "'b' is no class"),
        ({"classes": "0=a"}, "1 … 255"),
        ({"classes": "a=b"}, "ids and names"),
        ({"truth_layer": "roofs"}, "no layer 'roofs' of polygons; there is truth"),
        ({"ignore_layer": "roofs"}, "no layer 'roofs'"),
        ({"truth_values": "255", "class_attribute": "kind"}, "pairs such as"),
        ({"truth_values": "a=tower", "class_attribute": "kind", "classes": "1=b"}, "'tower' is no class"),
        ({"resolution": 0.5}, "--resolution"),
        ({"blocks": 1.0}, "16 pixels"),
        ({"labelled_area": "nowhere.gpkg"}, "no such file"),
        ({"truth": Path("nowhere.gpkg")}, "no such file"),
        ({"prediction": Path("nowhere.tif")}, "no such file"),
    ],
)
def test_bad_options_get_one_line(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    assert words in refused(tmp_path, **changes)


def test_bad_files_get_one_line(tmp_path: Path) -> None:
    far = polygons(tmp_path / "far.gpkg", boxes((5000, 5000, 10, 10)))
    assert "lies elsewhere than what it is compared with: it covers" in refused(tmp_path, truth=far)
    degrees = tmp_path / "degrees.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326").to_file(degrees)
    assert "lies elsewhere than what it is compared with: it covers" in refused(tmp_path, prediction=degrees)
    empty = polygons(tmp_path / "empty.gpkg", boxes())
    assert "holds no polygons" in refused(tmp_path, truth=empty)
    strange = class_map(tmp_path / "strange.tif", burned(SIZE, *HOUSES) * 7)
    assert "value 7, which is no class; --truth-values knows 0, 1, 255" in refused(tmp_path, truth=strange)
    assert "--prediction-values" in refused(tmp_path, prediction=strange)
    away = class_map(tmp_path / "away.tif", burned(SIZE), transform=(0.3, 0, 600_000, 0, -0.3, 5_000_000))
    assert "overlap" in refused(tmp_path, truth=class_map(tmp_path / "m.tif", burned(SIZE)), prediction=away)
    wild = probabilities(tmp_path / "wild.tif", np.full((1, *SIZE), 3.0))
    assert "no probabilities" in refused(tmp_path, prediction=wild)
    assert "class map" in refused(tmp_path, probability=tmp_path / "map.tif")
    plain = make_scene(tmp_path / "plain.tif", size=SIZE, crs=None, transform=None)
    assert "cannot be placed on a raster without a CRS; give" in refused(tmp_path, scene=plain)
    text = tmp_path / "text.gpkg"
    text.write_text("no polygons")
    assert "but is no GeoPackage" in refused(tmp_path, truth=text)


def test_an_empty_truth_is_fine_where_it_is_said_to_hold(tmp_path: Path) -> None:
    area = polygons(tmp_path / "area.gpkg", boxes((0, 0, *SIZE)))
    empty = polygons(tmp_path / "empty.gpkg", boxes())
    result = compare(empty, class_map(tmp_path / "map.tif", burned(SIZE, *HOUSES)), labelled_area=str(area))
    assert result.objects[0].precision.value == 0
    assert result.objects[0].false_per_km2.value > 0


def test_pairs() -> None:
    assert parse_pairs("255=1, 127 = ignore", "--x") == {"255": "1", "127": "ignore"}
    with pytest.raises(InvalidOption, match="twice"):
        parse_pairs("1=2,1=3", "--x")


@pytest.mark.parametrize("name", ["blocks", "boundary", "resolution"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_lengths_are_positive(name: str, value: float) -> None:
    with pytest.raises(InvalidOption, match=name):
        EvaluateOptions(**{name: value})
