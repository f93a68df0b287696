"""What GDAL must never be made to do by a file."""

from __future__ import annotations

import http.server
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from geoseg.errors import UnreadableScene
from geoseg.raster.drivers import driver_of, remote_uri, vrt_sources
from geoseg.raster.environment import environment
from geoseg.raster.scene import open_scene, read_patch
from geoseg.testing import NORTH_UP, make_scene
from tests.raster.serve import served

SRC = '<SrcRect xOff="0" yOff="0" xSize="64" ySize="64"/><DstRect xOff="0" yOff="0" xSize="64" ySize="64"/>'


def vrt(band, *, attributes="", before=""):
    return (
        f'<VRTDataset rasterXSize="64" rasterYSize="64">{before}'
        f'<VRTRasterBand dataType="Byte" band="1"{attributes}>{band}</VRTRasterBand></VRTDataset>'
    )


def simple(name, relative="1"):
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'
        f"<SourceBand>1</SourceBand>{SRC}</SimpleSource>"
    )


@pytest.fixture
def server():
    """A server on the loopback that counts the requests it gets."""
    hits = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", hits
        running.shutdown()
        thread.join()


@pytest.fixture
def files(tmp_path):
    """Serve a folder over HTTP; yield its URL and the folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    with served(folder) as server:
        yield server.url, folder


ATTACKS = {
    "raw band": vrt(
        '<SourceFilename relativeToVRT="1">secret.txt</SourceFilename><ImageOffset>0</ImageOffset>'
        "<PixelOffset>1</PixelOffset><LineOffset>64</LineOffset>",
        attributes=' subClass="VRTRawRasterBand"',
    ),
    "raw band, other case": vrt("", attributes=' SUBCLASS="vrtrawrasterband"'),
    "python": vrt(
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        "<PixelFunctionCode>def f(*a): open('/tmp/owned','w')</PixelFunctionCode>" + simple("a.tif"),
        attributes=' subClass="VRTDerivedRasterBand"',
    ),
    "pixel function": vrt("<PixelFunctionType>sqrt</PixelFunctionType>" + simple("a.tif")),
    "vsicurl": vrt(simple("/vsicurl/http://127.0.0.1/a.tif", "0")),
    "vsicurl, said to be relative": vrt(simple("/vsicurl/http://127.0.0.1/a.tif")),
    "url": vrt(simple("http://127.0.0.1/a.tif")),
    "driver prefix": vrt(simple("GTIFF_DIR:1:a.tif")),
    "name with a line end": vrt(simple("a.tif&#13;")),
    "absolute": vrt(simple("/etc/passwd", "0")),
    "relative to the working folder": vrt(simple("a.tif", "0")),
    "no word on what it is relative to": vrt(
        "<SimpleSource><SourceFilename>a.tif</SourceFilename></SimpleSource>"
    ),
    "parent": vrt(simple("../a.tif")),
    "parent, hidden": vrt(simple("sub/../../a.tif")),
    "link to outside": vrt(simple("link.tif")),
    "nested VRT": vrt(simple("inner.vrt")),
    "VRT in the name": vrt(simple("&lt;VRTDataset/&gt;")),
    "text source": vrt(simple("secret.txt")),
    "missing source": vrt(simple("missing.tif")),
    "source with a foreign mask": vrt(simple("masked.tif")),
    "two attributes": vrt(simple("a.tif", '1" RELATIVETOVRT="0')),
    "entity": '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    + vrt(simple("&e;")),
    "comment": vrt("<!-- --> " + simple("a.tif")),
    "instruction": vrt("<?x y?>" + simple("a.tif")),
    "open options": vrt("<SimpleSource><OpenOptions/></SimpleSource>"),
    "overview elsewhere": vrt(
        simple("a.tif"),
        before='<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/etc/passwd</MDI></Metadata>',
    ),
    "warped": vrt("", before="<GDALWarpOptions/>"),
    "not well formed": "<VRTDataset rasterXSize='1' rasterYSize='1'><",
}


@pytest.fixture
def folder(tmp_path):
    """A folder with what the attacks refer to."""
    inner = tmp_path / "folder"
    inner.mkdir()
    (tmp_path / "sub").mkdir()
    make_scene(inner / "a.tif", bands=1)
    make_scene(inner / "masked.tif", bands=1)
    (inner / "masked.tif.msk").write_text(ATTACKS["raw band"])
    make_scene(tmp_path / "a.tif", bands=1)
    (inner / "secret.txt").write_text("secret " * 1000)
    (inner / "inner.vrt").write_text(vrt(simple("a.tif")))
    (inner / "link.tif").symlink_to(tmp_path / "a.tif")
    return inner


@pytest.mark.parametrize("name", ["scene.vrt", "scene.tif"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_vrts_that_are_no_plain_mosaic_are_refused(folder, attack, name):
    path = folder / name
    path.write_text(ATTACKS[attack])
    with pytest.raises(UnreadableScene, match=r"scene\.\w+: a VRT with ") as caught:
        open_scene(path)
    assert "\n" not in str(caught.value)


def test_plain_mosaics_are_read(folder):
    (folder / "sub").mkdir()
    for side in ("left", "right"):
        make_scene(folder / "sub" / f"{side}.tif", bands=1)
    right = simple("sub/right.tif").replace('DstRect xOff="0"', 'DstRect xOff="64"')
    text = vrt(simple("sub/left.tif") + right, before="<SRS>EPSG:32633</SRS>").replace(
        'rasterXSize="64"', 'rasterXSize="128"'
    )
    path = folder / "scene.vrt"
    path.write_text('<?xml version="1.0" encoding="UTF-8"?>\n' + text)
    scene = open_scene(path)
    pixels = read_patch(scene, scene.geobox.window, scene.geobox, [1]).pixels
    assert np.array_equal(pixels[..., :64], pixels[..., 64:])
    before = scene.fingerprint
    make_scene(folder / "sub" / "left.tif", bands=1, pixels=np.ones((1, 64, 64), np.uint8))
    assert open_scene(path).fingerprint != before


def test_the_source_names_of_a_mosaic():
    assert vrt_sources(vrt(simple("a.tif") + simple("b/c.tif") + simple("a.tif")).encode()) == (
        "a.tif",
        "b/c.tif",
    )


def test_python_stays_off_even_if_the_user_turned_it_on(monkeypatch):
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    with environment("scene.tif"):
        assert rasterio.env.getenv()["GDAL_VRT_ENABLE_PYTHON"] == "NO"


@pytest.mark.parametrize("suffix", [".msk", ".ovr", ".MSK", ".msk.ovr"])
def test_masks_and_overviews_that_are_no_tiff_are_refused(tmp_path, server, suffix):
    url, hits = server
    path = make_scene(tmp_path / "scene.tif")
    (tmp_path / f"scene.tif{suffix}").write_text(vrt(simple(f"/vsicurl/{url}/a.tif", "0")))
    with pytest.raises(UnreadableScene, match="beside it is not a TIFF"):
        open_scene(path)
    assert hits == []


def test_an_overview_that_was_cut_off_is_named_with_the_way_out(tmp_path):
    path = make_scene(tmp_path / "scene.tif")
    (tmp_path / "scene.tif.ovr").write_bytes(path.read_bytes()[:20])
    with pytest.raises(UnreadableScene, match=r"scene\.tif: scene\.tif\.ovr beside it is .*; remove it"):
        open_scene(path)


def test_a_mask_that_comes_later_is_checked_too(tmp_path):
    scene = make_scene(tmp_path / "s.tif")
    os.utime(tmp_path, (1e9, 1e9))  # what is in the folder has been there for long
    open_scene(scene)
    (tmp_path / "S.TIF.msk").write_text("<VRTDataset/>")
    with pytest.raises(UnreadableScene, match="beside it is not a TIFF"):
        open_scene(scene)


@pytest.mark.parametrize("inside", [True, False])
def test_an_overview_in_another_file_is_refused(tmp_path, server, inside):
    # GDAL opens what this metadata item names, with any driver, when it looks for overviews.
    url, hits = server
    path = make_scene(tmp_path / "scene.tif")
    target = f"/vsicurl/{url}/overview.tif"
    if inside:
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=target)
    else:
        (tmp_path / "scene.tif.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{target}</MDI></Metadata>'
            "</PAMDataset>"
        )
    with pytest.raises(UnreadableScene, match="overview in another file"):
        open_scene(path)
    assert hits == []


def test_service_descriptions_named_tif_make_no_request(tmp_path, server):
    url, hits = server
    path = tmp_path / "scene.tif"
    path.write_text(f'<GDAL_WMS><Service name="TMS"><ServerUrl>{url}</ServerUrl></Service></GDAL_WMS>')
    with pytest.raises(UnreadableScene, match="not a raster"):
        open_scene(path)
    assert hits == []


def test_local_files_cannot_reach_the_network(server):
    url, hits = server
    with environment("scene.tif"), pytest.raises(rasterio.RasterioIOError):
        rasterio.open(f"/vsicurl/{url}/a.tif", driver="GTiff")
    assert hits == []


def test_a_url_that_the_user_typed_is_read(server):
    url, hits = server
    with pytest.raises(UnreadableScene, match=r"/a\.tif: .*404"):
        open_scene(f"{url}/a.tif")
    assert any(path == "/a.tif" for path in hits)


@pytest.mark.parametrize("validity", ["none", "mask", "alpha"])
def test_a_scene_behind_a_url_is_the_same_as_on_disk(files, validity):
    url, folder = files
    path = make_scene(folder / "scene.tif", size=(300, 300), validity=validity, overviews=(2,), block=64)
    far, near = open_scene(f"{url}/scene.tif"), open_scene(path)
    assert (far.driver, far.overviews, far.validity) == (near.driver, near.overviews, near.validity)
    with environment("something local"), ThreadPoolExecutor(1) as pool:
        read = pool.submit(read_patch, far, far.geobox.window, far.geobox, [1, 2, 3]).result()
    expected = read_patch(near, near.geobox.window, near.geobox, [1, 2, 3])
    assert np.array_equal(read.pixels, expected.pixels)
    assert np.array_equal(read.valid, expected.valid)


def test_pictures_behind_a_url_are_read_and_vrts_are_not(files):
    url, folder = files
    make_scene(folder / "a.tif", bands=1)
    with rasterio.open(folder / "a.tif") as source:
        rasterio.shutil.copy(source, folder / "picture", driver="PNG")
    (folder / "scene.vrt").write_text(vrt(simple("a.tif")))
    assert open_scene(f"{url}/picture").driver == "PNG"
    with pytest.raises(UnreadableScene, match=r"scene\.vrt: not a raster that GDAL can read"):
        open_scene(f"{url}/scene.vrt")


def test_a_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "scene.tif")
    with pytest.raises(UnreadableScene, match=r"scene\.tif: is not a regular file"):
        open_scene(tmp_path / "scene.tif")


@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero"])
def test_devices_are_refused(name):
    with pytest.raises(UnreadableScene, match="is not a regular file"):
        open_scene(name)


@pytest.mark.parametrize(
    "name",
    [
        "/vsimem/a.tif",
        "/vsistdin/",
        "/vsizip/a.zip/a.tif",
        "/vsisubfile/0_10,/etc/passwd",
        "MEM:::DATAPOINTER=1,PIXELS=1,LINES=1",
        "GTIFF_DIR:1:scene.tif",
        "NETCDF:a.nc:b",
        "zip://a.zip!a.tif",
        "file:///etc/passwd",
        "<VRTDataset/>",
        "missing.tif",
        "nul\0byte.tif",
        "",
    ],
)
def test_names_that_are_no_file_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_scene("scene.tif")
    with pytest.raises(UnreadableScene) as caught:
        open_scene(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"II", b"plain text, renamed", b"\0" * 2000])
def test_what_is_no_raster_gets_one_line(tmp_path, content):
    path = tmp_path / "scene.tif"
    path.write_bytes(content)
    with pytest.raises(UnreadableScene) as caught:
        open_scene(path)
    assert str(caught.value) == f"{path}: not a raster that GDAL can read"


@pytest.mark.parametrize("length", [4, 8, 20, 100])
def test_a_truncated_header_gets_one_line(tmp_path, length):
    path = make_scene(tmp_path / "scene.tif")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UnreadableScene, match=r"scene\.tif: not a raster that GDAL can read") as caught:
        open_scene(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_called_so(tmp_path):
    with pytest.raises(UnreadableScene, match=r"nowhere\.tif: no such file$"):
        open_scene(tmp_path / "nowhere.tif")


def test_proj_data_of_another_installation_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "proj.db").write_bytes(b"")
    monkeypatch.setenv("PROJ_DATA", str(tmp_path))
    path = make_scene(tmp_path / "scene.tif")
    assert open_scene(path).geobox.transform == NORTH_UP


@pytest.mark.parametrize(
    ("head", "driver"),
    [
        (b"II*\0", "GTiff"),
        (b"MM\0+", "GTiff"),
        (b"\xef\xbb\xbf <VRTDataset", "VRT"),
        (b'<?xml version="1.0"?>\n<VRTDataset>', "VRT"),
        (b"<?xml?><GDAL_WMS>", None),
        (b"<GDALTileIndexDataset>", None),
        (b"RIFF\0\0\0\0WEBPVP8", "WEBP"),
        (b"RIFF\0\0\0\0AVI ", None),
        (b"SQLite format 3\0", "GPKG"),
    ],
)
def test_drivers_by_signature(head, driver):
    assert driver_of(head) == driver


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("https://a.b/c.tif?x=1", "/vsicurl/https://a.b/c.tif?x=1"),
        ("S3://bucket/key.tif", "/vsis3/bucket/key.tif"),
        ("gs://bucket/key.tif", "/vsigs/bucket/key.tif"),
        ("/vsicurl/https://a.b/c.tif", "/vsicurl/https://a.b/c.tif"),
        ("/vsicurl?url=file:///etc/passwd", None),
        ("file:///a.tif", None),
        ("scene.tif", None),
    ],
)
def test_urls(text, uri):
    assert remote_uri(text) == uri
