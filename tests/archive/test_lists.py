"""Lists in text and CSV, and indexes of footprints: what can be named, and one line on what cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from geoseg.archive.entries import Entry, entries_of
from geoseg.errors import GeosegError


def of(*sources: object, **options: object) -> list[Entry]:
    return entries_of([str(source) for source in sources], **options)  # type: ignore[arg-type]


def locations(path: Path, *names: str) -> list[str]:
    return [str(path / name) for name in names]


def refusal(*sources: object, **options: object) -> str:
    with pytest.raises(GeosegError) as caught:
        of(*sources, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_text_list_with_all_that_names_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "10:30.tif").touch()
    listed = tmp_path / "scenes.txt"
    listed.write_bytes(
        "\ufeff# comment\r\n\r\n a b.tif \r\nc;d.tif\rx!y.tif\n~/z.tif\nsub/./é.tif\nab10:30.tif\n".replace(
            "ab10", "10"
        ).encode()
    )
    found = of(listed)
    assert {entry.name: entry.location for entry in found} == {
        "10_30": str(tmp_path / "10:30.tif"),
        "a b": str(tmp_path / "a b.tif"),
        "c;d": str(tmp_path / "c;d.tif"),
        "x!y": str(tmp_path / "x!y.tif"),
        "home/z": str(tmp_path / "home/z.tif"),
        "sub/é": str(tmp_path / "sub/é.tif"),
    }
    assert {entry.listed_in for entry in found} == {str(listed)}


def test_a_csv_list_brings_its_columns(tmp_path: Path) -> None:
    listed = tmp_path / "scenes.csv"
    listed.write_text(
        'cloud;Path;town;code;datetime\n# none\n7.5;a.tif;"Ka;uf";007;2024-05-01\n\n;b.tif;;008;\n'
    )
    first, second = of(listed)
    assert (first.name, first.location) == ("a", str(tmp_path / "a.tif"))
    assert first.properties == {"cloud": 7.5, "town": "Ka;uf", "code": "007", "datetime": "2024-05-01"}
    assert first.datetime == "2024-05-01"
    assert second.properties == {"cloud": None, "town": None, "code": "008", "datetime": None}


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".geojson", ".shp", ".fgb"])
def test_an_index_of_footprints(suffix: str, tmp_path: Path) -> None:
    index = tmp_path / f"index{suffix}"
    frame = geopandas.GeoDataFrame(
        {"location": ["tiles/a.tif", str(tmp_path / "b.tif")], "cloud": [1.5, 20.0]},
        geometry=[shapely.box(500_000, 0, 600_000, 100_000), shapely.box(600_000, 0, 700_000, 1000)],
        crs="EPSG:32633",
    )
    if suffix == ".geojson":
        frame = frame.to_crs(4326)
    frame.to_parquet(index) if suffix == ".parquet" else frame.to_file(index)
    first, second = sorted(of(index), key=lambda entry: entry.location, reverse=True)
    assert (first.name, first.location) == ("tiles/a", str(tmp_path / "tiles/a.tif"))
    assert second.name == "b"
    assert first.properties == {"cloud": 1.5}
    assert first.bbox == pytest.approx((15, 0, 15.9, 0.905), abs=0.01)


def test_a_scene_that_two_lists_name_is_there_once_whatever_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("t/x.tif\nt/x.tif\n")
    (tmp_path / "t").mkdir()
    (tmp_path / "t/b.csv").write_text("location,n\nx.tif,1\n")
    one = of(tmp_path / "a.txt", tmp_path / "t/b.csv")
    assert one == of(tmp_path / "t/b.csv", tmp_path / "a.txt")
    assert [(entry.name, dict(entry.properties)) for entry in one] == [("x", {"n": 1.0})]


def test_the_work_for_a_list_grows_with_its_length_and_no_faster(tmp_path: Path) -> None:
    def calls(entries: int) -> int:
        listed, count = tmp_path / "scenes.csv", 0

        def count_one(*_: object) -> None:
            nonlocal count
            count += 1

        listed.write_text("location,cloud\n" + "".join(f"a/{i}.tif,{i % 100}\n" for i in range(entries)))
        sys.setprofile(count_one)
        try:
            assert len(of(listed)) == entries
        finally:
            sys.setprofile(None)
        return count

    calls(10)  # imports what it needs
    few, many = calls(500), calls(1000)
    assert many < 2.1 * few
    assert many < 700 * 1000  # 10 000 scenes in a second or two


def test_a_folder_leaves_out_the_parts_of_a_mosaic_and_the_results(tmp_path: Path) -> None:
    for name in ("t/a.tif", "t/b.tif", "c.tif", "out/d.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "mosaic.vrt").write_text(
        '<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand><SimpleSource>'
        '<SourceFilename relativeToVRT="1">t/a.tif</SourceFilename>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    assert [one.name for one in of(tmp_path, without=[tmp_path / "out"])] == ["c", "mosaic", "t/b"]


def test_names_that_differ_in_case_alone_are_told(tmp_path: Path) -> None:
    for name in ("a.tif", "A.tif"):
        (tmp_path / name).touch()
    assert "a.tif" in (said := refusal(tmp_path))
    assert "A.tif would share" in said or "A.tif and" in said


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("list.txt", b"\xff\xfe\x00a", "no text in UTF-8"),
        ("list.txt", b"a\0.tif", "no text"),
        ("list.csv", b"b\xe9.tif", "no text in UTF-8"),
        ("list.txt", b"\n# nothing\n", "names no scene"),
        ("list.csv", b"", "lists no scenes"),
        ("list.csv", b"location,cloud\n", "names no scene"),
        ("list.csv", b"name,cloud\na.tif,1\n", "no column of paths (location, path"),
        ("list.csv", b"name,cloud\na.tif,1\n", "its columns are name, cloud"),
        ("list.csv", b"location\na,b.tif\n", "line 2 has 2 cells"),
        ("list.csv", b"location,n\na.tif,1\n,2\n", "list.csv: line 3: names no raster"),
        ("list.txt", b"../other.csv\n", "another list"),
        ("list.txt", b"/vsizip/a.zip/a.tif\n", "virtual paths are not accepted"),
        ("list.txt", b"GTIFF_DIR:1:a.tif\n", "prefixes of GDAL's drivers are not accepted"),
        ("list.txt", b"NETCDF:a.nc:b\n", "prefixes of GDAL's drivers are not accepted"),
        ("list.txt", b"https://h.org/a.tif\n", "on a network; if you trust it: --allow-host h.org"),
        ("list.txt", b"s3://bucket/a.tif\n", "--allow-host s3://bucket"),
        ("list.txt", b"http://[bad/a.tif\n", "lists http://[bad/a.tif: is no URL"),
        ("list.txt", b"ftp://h.org/a.tif\n", "http, https, s3, gs and az only"),
        ("list.geojson", b"{", "is no JSON"),
        ("list.geojson", b'{"type": "FeatureCollection", "features": []}', "no column of paths"),
        ("list.gpkg", b"SQLite format 3\0", "list.gpkg"),
        ("list.parquet", b"PAR1", "cannot be read as GeoParquet"),
        ("list.shp", b"what", "list.shp"),
        ("a\nb.txt", b"/vsimem/x", "virtual paths"),
    ],
)
def test_lists_that_are_none_get_one_line(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GeosegError) as caught:
        of(tmp_path / name)
    assert words in str(caught.value)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "missing.csv")
    assert "no such file" in refusal(tmp_path / "missing.gpkg")
    assert "names no scene" in refusal(tmp_path)


def test_a_geopackage_of_pixels_is_a_scene(tmp_path: Path) -> None:
    import rasterio

    path = tmp_path / "scene.gpkg"
    place = {"crs": "EPSG:3857", "transform": rasterio.Affine(2, 0, 10, 0, -2, 10)}
    with rasterio.open(
        path, "w", driver="GPKG", width=8, height=8, count=3, dtype="uint8", **place
    ) as raster:
        raster.write(np.zeros((3, 8, 8), np.uint8))
    assert [entry.location for entry in of(path)] == [str(path)]


def test_a_file_url_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a b.tif").touch()
    assert of(f"file://{tmp_path}/a%20b.tif")[0].location == str(tmp_path / "a b.tif")


def test_a_file_url_of_another_machine_is_none_of_this(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    assert of(f"file://localhost{tmp_path}/a.tif")[0].location == str(tmp_path / "a.tif")
    assert "on another machine" in refusal(f"file://other{tmp_path}/a.tif")
    listed = tmp_path / "list.txt"
    listed.write_text(f"FILE://other{tmp_path}/a.tif\n")
    assert "on another machine" in refusal(listed)


def test_prefixes_of_drivers_on_the_command_line() -> None:
    assert "prefixes of GDAL's drivers" in refusal("NETCDF:a.nc:rain")
    assert "http://[bad/a.tif: is no URL" in refusal("http://[bad/a.tif")


def test_one_bad_row_is_a_scene_that_fails(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("a.tif\nlist.txt\n/vsizip/b.zip/b.tif\nNETCDF:a.nc:rain\n")
    found = {entry.name: entry.problem for entry in of(listed)}
    assert found.pop("a") == ""
    assert set(found) == {"list", "vsizip/b.zip/b", "NETCDF_a"}
    assert all(problem.startswith(f"{listed}: lists") for problem in found.values())
    assert len(found) == 3


def test_hosts_that_are_allowed(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("https://H.org/a.tif\nhttp://h.org:8000/b.tif\n")
    one, two = of(listed, hosts=["h.org"])
    assert [one.problem, one.location] == ["", "https://H.org/a.tif"]
    assert two.problem.endswith("--allow-host h.org:8000")
    assert len(of(listed, hosts=["h.org", "h.org:8000"])) == 2
