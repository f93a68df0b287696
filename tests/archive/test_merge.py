"""One dataset of all results: what is in it, who can read it, what becomes of what several scenes show."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import dataset, parquet

import geoseg.archive.dataset
from geoseg.archive.features import grid_around
from geoseg.archive.manifest import Manifest
from geoseg.archive.merge import Merged, merge
from geoseg.archive.options import MergeOptions
from geoseg.cli import run
from geoseg.errors import GeosegError
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.session import predict_scene
from geoseg.vector.place import place_keys
from tests.archive.merging import EXACT, archive_of, crop, land_model, put, world
from tests.runs import REPOSITORY, bright_model

pytestmark = pytest.mark.slow


def merged(folder: Path, **options: object) -> tuple[Merged, geopandas.GeoDataFrame]:
    done = merge(folder, MergeOptions(merge=True, **options), str(bright_model()))
    return done, geopandas.read_parquet(done.dataset)


def whole(folder: Path, pixels: np.ndarray, **options: object) -> geopandas.GeoDataFrame:
    """What predicting the world at once gives."""
    scene = crop(folder / "world.tif", pixels, 0, 0, *pixels.shape[1:])
    out = folder / "world.parquet"
    predict_scene(scene, out, PredictOptions(**{"model": str(bright_model()), **EXACT, **options}))
    return geopandas.read_parquet(out)


def assert_same_objects(found: geopandas.GeoDataFrame, expected: geopandas.GeoDataFrame, area: float) -> None:
    """Each polygon is one of the other's, but for `area`, and the sizes are those of the polygons."""
    assert len(found) == len(expected)
    one, two = (frame.geometry.to_numpy() for frame in (found, expected))
    tree = shapely.STRtree(two)
    for i, polygon in enumerate(one):
        near = tree.query(polygon, "intersects")
        off = shapely.area(shapely.symmetric_difference(two[near], polygon))
        best = near[off.argmin()]
        assert off.min() <= area
        assert found["area_m2"].iloc[i] == pytest.approx(
            expected["area_m2"].iloc[best], rel=1e-4, abs=2 * area
        )
        assert found["touches_edge"].iloc[i] == expected["touches_edge"].iloc[best]


QUARTERS = [(0, 0, 70, 100), (0, 60, 70, 100), (50, 0, 70, 100), (50, 60, 70, 100)]


def quarters(folder: Path, pixels: np.ndarray, order: tuple[int, ...] = (0, 1, 2, 3)) -> list[Path]:
    return [crop(folder / f"q{i}.tif", pixels, *QUARTERS[i]) for i in order]


@pytest.mark.parametrize("seed", range(6))
def test_crops_of_one_world_give_the_world(tmp_path: Path, seed: int) -> None:
    pixels = world(seed)
    archive = archive_of(tmp_path / "archive", quarters(tmp_path, pixels))
    done, found = merged(archive, reconcile="same-date")
    assert_same_objects(found, whole(tmp_path, pixels), 1e-4)
    assert done.features == len(found) < done.before
    names = {f"q{i}" for i in range(4)}
    assert all({row.scene} <= set(row.sources) <= names for row in found.itertuples())
    assert found["sources"].map(len).max() >= 2


@pytest.mark.parametrize("seed", range(2))
def test_smooth_outlines_of_crops_are_those_of_the_world(tmp_path: Path, seed: int) -> None:
    pixels = world(seed + 20)
    archive = archive_of(tmp_path / "archive", quarters(tmp_path, pixels), outline="smooth")
    _, found = merged(archive, reconcile="same-date")
    assert_same_objects(found, whole(tmp_path, pixels, outline="smooth"), 1e-3)


def test_a_building_that_no_scene_shows_whole_is_put_together(tmp_path: Path) -> None:
    pixels = world(0, houses=0)
    pixels[:, 40:60, 20:140] = 230
    scenes = [crop(tmp_path / f"s{col}.tif", pixels, 0, col, 120, 60) for col in (0, 30, 60, 90, 100)]
    _, found = merged(archive_of(tmp_path / "archive", scenes), reconcile="same-date")
    assert len(found) == 1
    assert shapely.equals(
        found.geometry[0].normalize(), shapely.box(500_010, 4_999_970, 500_070, 4_999_980).normalize()
    )
    assert list(found["sources"][0]) == ["s0", "s100", "s30", "s60", "s90"]
    assert not found["touches_edge"][0]
    assert found["area_m2"][0] == pytest.approx(600, rel=2e-3)


def test_what_is_joined_of_regularized_parts_is_regularized(tmp_path: Path) -> None:
    pixels = world(0, houses=0)
    pixels[:, 40:60, 20:140] = 230
    pixels[:, 60:62, 100] = 230
    scenes = [crop(tmp_path / f"s{col}.tif", pixels, 0, col, 120, 90) for col in (0, 70)]
    archive = archive_of(tmp_path / "archive", scenes, regularize=True, outline="smooth", max_deviation=1.0)
    _, found = merged(archive, reconcile="same-date")
    assert found["regularized"].tolist() == [True]
    assert shapely.get_num_coordinates(found.geometry[0]) == 5


def tables(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_neither_order_nor_windows_nor_another_day_change_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = world(3, houses=60)
    scenes = quarters(tmp_path, pixels)
    expected = None
    for number, order in enumerate(itertools.islice(itertools.permutations(scenes), 0, 24, 7)):
        rows = 1 << 20 if number == 0 else 3 * number
        monkeypatch.setattr(geoseg.archive.dataset, "SAMPLE", 1 if number else 256)
        monkeypatch.setattr(
            geoseg.archive.dataset.sort_features, "__kwdefaults__", {"run": 4 * rows, "window": rows}
        )
        archive = archive_of(tmp_path / f"archive{number}", order)
        done, _ = merged(archive, reconcile="same-date")
        found = tables(done.dataset) + tables(done.catalogue)
        assert expected in (None, found)
        expected = found
        again, _ = merged(archive, reconcile="same-date")
        assert tables(again.dataset) + tables(again.catalogue) == expected
        assert not list(archive.glob(".merge-*"))


@settings(max_examples=6)
@given(
    st.integers(0, 10_000),
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 90), st.integers(40, 60), st.integers(40, 70)),
        min_size=2,
        max_size=5,
    ),
    st.randoms(),
)
def test_any_crops_of_a_world_give_what_they_show_in_any_order(
    tmp_path_factory, seed, windows, random
) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("crops")
    pixels = world(seed)
    scenes = [crop(folder / f"s{i}.tif", pixels, *window) for i, window in enumerate(windows)]
    shown = np.zeros(pixels.shape[1:], bool)
    for row, col, height, width in windows:
        shown[row : row + height, col : col + width] = True
    one, found = merged(archive_of(folder / "one", scenes), reconcile="same-date")
    random.shuffle(scenes)
    two, _ = merged(archive_of(folder / "two", scenes), reconcile="same-date")
    assert tables(one.dataset) == tables(two.dataset)
    covered = shapely.area(shapely.union_all(found.geometry.to_numpy()))
    assert covered == pytest.approx(0.25 * ((pixels[0] > 128) & shown).sum(), abs=1e-3)
    assert shapely.area(found.geometry.to_numpy()).sum() == pytest.approx(covered, abs=1e-3)


def test_other_dates_stay_apart_unless_they_are_asked_for(tmp_path: Path) -> None:
    pixels = world(4)
    scenes = quarters(tmp_path, pixels)
    dates = {f"q{i}": f"202{i % 2}-05-01T10:00:00+00:00" for i in range(4)}
    archive = archive_of(tmp_path / "archive", scenes, dates)
    _, apart = merged(archive, reconcile="same-date")
    for _, rows in apart.groupby("datetime"):
        polygons = rows.geometry.to_numpy()
        assert shapely.area(shapely.union_all(polygons)) == pytest.approx(shapely.area(polygons).sum())
    assert shapely.area(apart.union_all()) < shapely.area(apart.geometry.to_numpy()).sum() - 10
    _, together = merged(archive, reconcile="any-date")
    assert_same_objects(together, whole(tmp_path, pixels), 1e-4)
    assert sorted(set(together["datetime"])) == ["2020-05-01T10:00:00Z", "2021-05-01T10:00:00Z"]


def test_without_reconciling_all_features_are_there_in_the_order_of_their_places(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", quarters(tmp_path, world(5)))
    done, found = merged(archive)
    per_scene = [geopandas.read_parquet(archive / f"q{i}.parquet") for i in range(4)]
    assert done.features == done.before == len(found) == sum(map(len, per_scene))
    assert found.crs == per_scene[0].crs
    for number, frame in enumerate(per_scene):
        mine = found[found["scene"] == f"q{number}"].sort_values("id")
        assert shapely.equals_exact(
            mine.geometry.to_numpy(), frame.sort_values("id").geometry.to_numpy()
        ).all()
        assert (mine["sources"].map(list) == mine["scene"].map(lambda name: [name])).all()
    grid = grid_around(found.geometry.to_numpy(), found.crs.to_wkt())
    keys = place_keys(shapely.transform(found.geometry.to_numpy(), grid.to_pixels), grid)
    assert (np.diff(keys) >= 0).all()


def test_who_asks_for_a_box_reads_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoseg.archive.dataset, "PART_GROUPS", 2)
    monkeypatch.setattr(
        geoseg.archive.dataset.Parts.__init__,
        "__defaults__",
        (8, *geoseg.archive.dataset.Parts.__init__.__defaults__[1:]),
    )
    pixels = world(6, houses=0)
    for row, col in itertools.product(range(2, 118, 8), range(2, 158, 8)):
        pixels[:, row : row + 5, col : col + 4] = 230
    done, found = merged(archive_of(tmp_path / "archive", quarters(tmp_path, pixels)))
    assert done.files == len(list(done.dataset.glob("*.parquet"))) > 1
    box = (500_010.0, 4_999_950.0, 500_030.0, 4_999_970.0)
    meets = shapely.intersects(shapely.box(*found.bounds.to_numpy().T), shapely.box(*box))
    expected = sorted(found[meets].geometry.to_wkb())
    assert 0 < len(expected) < len(found) / 2
    bounded = geopandas.read_parquet(done.dataset, bbox=box)
    assert sorted(bounded.geometry.to_wkb()) == expected
    corners = (
        dataset.field("bbox", "xmin"),
        dataset.field("bbox", "ymin"),
        dataset.field("bbox", "xmax"),
        dataset.field("bbox", "ymax"),
    )
    touching = (
        (corners[0] <= box[2]) & (corners[2] >= box[0]) & (corners[1] <= box[3]) & (corners[3] >= box[1])
    )
    everything = dataset.dataset(done.dataset)
    assert sorted(everything.to_table(filter=touching)["geometry"].to_pylist()) == expected
    groups = [part for file in everything.get_fragments() for part in file.split_by_row_group()]
    read = [part for file in everything.get_fragments(touching) for part in file.split_by_row_group(touching)]
    assert 0 < len(read) < len(groups)
    query = (
        f"select geometry from read_parquet('{done.dataset}/*.parquet') where bbox.xmin <= {box[2]} "
        f"and bbox.xmax >= {box[0]} and bbox.ymin <= {box[3]} and bbox.ymax >= {box[1]}"
    )
    import duckdb

    with duckdb.connect() as database:
        database.execute("SET enable_geoparquet_conversion = false")
        assert sorted(bytes(row[0]) for row in database.execute(query).fetchall()) == expected
    for path in done.dataset.glob("*.parquet"):
        geo = json.loads(parquet.read_metadata(path).metadata[b"geo"])
        assert geo["columns"]["geometry"]["covering"]["bbox"]["xmax"] == ["bbox", "xmax"]
        west, south, east, north = geo["columns"]["geometry"]["bbox"]
        assert geopandas.read_parquet(path).total_bounds.tolist() == [west, south, east, north]


def test_scenes_in_several_zones_share_longitude_and_latitude(tmp_path: Path) -> None:
    pixels = world(7)
    scenes = [
        crop(tmp_path / f"z{zone}.tif", pixels, 0, 0, 120, 160, crs=f"EPSG:326{zone}") for zone in (32, 33)
    ]
    archive = archive_of(tmp_path / "archive", scenes)
    done, found = merged(archive)
    assert done.crs == "EPSG:4326"
    assert found.crs.to_epsg() == 4326
    for zone in (32, 33):
        mine = found[found["scene"] == f"z{zone}"]
        expected = geopandas.read_parquet(archive / f"z{zone}.parquet")
        off = shapely.hausdorff_distance(
            mine.to_crs(expected.crs).sort_values("id").geometry.to_numpy(),
            expected.sort_values("id").geometry.to_numpy(),
        )
        assert off.max() < 0.1
    _, other = merged(archive, merge_crs="EPSG:3035")
    assert other.crs.to_epsg() == 3035


def test_scenes_that_are_not_whole_are_counted_and_what_cannot_be_merged_gets_one_line(
    tmp_path: Path,
) -> None:
    archive = archive_of(tmp_path / "archive", quarters(tmp_path, world(8)))
    with Manifest(archive) as manifest:
        results = list(manifest.results())
    put(archive, [replace(results[0], state="failed", files=()), replace(results[1], state="partial")])
    done, found = merged(archive)
    assert done.states == {"done": 2, "partial": 1, "failed": 1}
    assert (done.without, done.exit_code) == (1, 1)
    assert sorted(set(found["scene"])) == ["q1", "q2", "q3"]

    def told(*changed, **options):
        put(archive, changed)
        with pytest.raises(GeosegError) as caught:
            merged(archive, **options)
        return str(caught.value)

    assert "--merge-crs EPSG:0: not a CRS" in told(merge_crs="EPSG:0")
    assert "--redo" in told(replace(results[1], digest="e"))
    Path(results[2].location).unlink()
    reason = told(*results[:2], reconcile="same-date")
    assert "q2.tif: --reconcile needs its outline" in reason
    (archive / "q2.parquet").write_bytes(b"no")
    assert "q2.parquet: the result cannot be read" in told()
    assert "nothing to merge" in told(*(replace(one, state="failed", files=()) for one in results))
    bare = crop(tmp_path / "bare.tif", world(8), 0, 0, 60, 60, crs=None)
    archive_of(tmp_path / "bare", [bare])
    (tmp_path / "bare" / "bare.parquet").rename(archive / "bare.parquet")
    there = replace(results[1], name="bare", location=str(bare), files=("bare.parquet",))
    assert "bare: has no CRS" in told(*results[:2], there)
    with pytest.raises(GeosegError, match=r"^--reconcile is a step of --merge$"):
        MergeOptions(reconcile="same-date")


def test_the_default_model_finds_in_crops_of_a_scene_what_it_finds_in_the_whole(tmp_path: Path) -> None:
    """In float32: the rounding of INT8 carries what lies beyond a scene's edge all over the tile there."""
    with rasterio.open(REPOSITORY / "sample_data" / "scene.tif") as scene:
        pixels, valid = scene.read()[:, 700:1500], scene.dataset_mask()[700:1500] > 0

    def part(path: Path, first: int, width: int) -> Path:
        here = {"validity": "mask", "valid": valid[:, first : first + width], "pixel": 0.3}
        return crop(path, pixels, 0, first, 800, width, **here)

    given = PredictOptions(tile=256, overlap=64, precision="f32", align_tiles=True).model_dump()
    usual = {name: given[name] for name in (*EXACT, "model", "tile", "overlap", "precision", "align_tiles")}
    predict_scene(part(tmp_path / "world.tif", 0, 1500), tmp_path / "world.parquet", PredictOptions(**usual))
    scenes = [part(tmp_path / "west.tif", 0, 907), part(tmp_path / "east.tif", 651, 849)]
    archive = archive_of(tmp_path / "archive", scenes, **usual)
    _, found = merged(archive, reconcile="same-date")
    expected = geopandas.read_parquet(tmp_path / "world.parquet")
    assert len(found) == len(expected) > 50
    one, two = found.geometry.to_numpy(), expected.geometry.to_numpy()
    i, k = shapely.STRtree(two).query(one, "intersects")
    iou = shapely.area(shapely.intersection(one[i], two[k])) / shapely.area(shapely.union(one[i], two[k]))
    best = np.zeros(len(one))
    np.maximum.at(best, i, iou)
    assert best.min() >= 0.95


def test_results_may_be_geopackages(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", quarters(tmp_path, world(9)))
    _, expected = merged(archive, reconcile="same-date")
    results = []
    with Manifest(archive) as manifest:
        for result in manifest.results():
            out = archive / f"{result.name}.gpkg"
            predict_scene(result.location, out, PredictOptions(model=str(bright_model()), **EXACT))
            results.append(replace(result, files=(out.name,)))
    put(archive, results)
    _, found = merged(archive, reconcile="same-date")
    assert found.crs == expected.crs
    assert found.to_wkb().drop(columns="sources").equals(expected.to_wkb().drop(columns="sources"))


def test_a_land_cover_has_one_owner_a_place(tmp_path: Path) -> None:
    model = land_model(tmp_path / "land")
    rng = np.random.default_rng(2)
    pixels = np.repeat(np.repeat(rng.integers(0, 256, (3, 12, 16), np.uint8), 10, axis=1), 10, axis=2)
    archive = archive_of(tmp_path / "archive", quarters(tmp_path, pixels), model=str(model))
    _, found = merged(archive, reconcile="same-date")
    assert found["class"].nunique() == 2
    polygons = found.geometry.to_numpy()
    assert shapely.area(shapely.union_all(polygons)) == pytest.approx(shapely.area(polygons).sum())
    expected = whole(tmp_path, pixels, model=str(model))
    for label in (1, 2):
        mine, its = (frame.geometry[frame["class"] == label].union_all() for frame in (found, expected))
        assert shapely.area(shapely.symmetric_difference(mine, its)) < 1e-3
    first = found[found["scene"] == "q0"].union_all()
    assert found[found["scene"] != "q0"].intersects(shapely.buffer(first, -1e-6)).sum() == 0


def test_no_features_at_all_are_a_dataset_with_all_columns(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", quarters(tmp_path, world(0, houses=0)))
    for options in ({}, {"reconcile": "same-date"}):
        done, found = merged(archive, **options)
        assert (done.features, done.files, len(found)) == (0, 1, 0)
        assert found.crs.to_epsg() == 32633
        assert [*found.columns[-4:]] == ["scene", "datetime", "sources", "geometry"]


def test_a_scene_that_two_shards_have_counts_once(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", quarters(tmp_path, world(3), (0, 1)))
    once, _ = merged(archive)
    with Manifest(archive) as manifest:
        results, facts = list(manifest.results()), manifest.facts()
    with Manifest(archive, (1, 2)) as shard:
        shard.put([results[0], replace(results[1], state="pending", files=())])
        shard.set_facts(**facts)
        shard.write_status({"running": False}, now=True)
    twice, _ = merged(archive)
    assert (twice.features, twice.before, twice.states) == (once.features, once.before, once.states)


def test_a_merge_that_another_machine_left_is_taken_over_where_that_is_asked(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", quarters(tmp_path, world(3), (0,)))
    (archive / "lease-merge.json").write_text('{"host": "other", "pid": 1, "started": 1.0, "id": "a"}')
    command = ["batch", "--out", str(archive), "--merge", "--model", str(bright_model())]
    assert run(command) == 2
    assert run([*command, "--take-over"]) == 0
