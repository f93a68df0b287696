from __future__ import annotations

import pickle
import threading
import warnings

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning

from geoseg.errors import UnreadableScene
from geoseg.raster.scene import open_scene, read_patch, read_validity, sample
from geoseg.testing import NORTH_UP, make_scene
from geoseg.values import Window

reused = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
KINDS = ("none", "nodata", "nan", "mask", "msk", "alpha")


def whole(scene, bands=None):
    return read_patch(scene, scene.geobox.window, scene.geobox, bands or [band.index for band in scene.bands])


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """One scene of each validity, 61 x 83 pixels, small tiles, overviews."""
    folder = tmp_path_factory.mktemp("scenes")
    made = {}
    for kind in KINDS:
        path = make_scene(
            folder / f"{kind}.tif",
            size=(61, 83),
            dtype="float32" if kind == "nan" else "uint8",
            validity=kind,
            overviews=(2, 4),
            block=16,
        )
        made[kind] = open_scene(path)
    return made


# --- describing -------------------------------------------------------------------------------------


def test_a_scene_is_a_plain_value(scenes):
    scene = scenes["mask"]
    assert pickle.loads(pickle.dumps(scene)) == scene
    assert scene.name == "mask.tif"
    assert scene.geobox.transform == NORTH_UP
    assert 'ID["EPSG",32633]' in scene.geobox.crs
    assert scene.resolution == pytest.approx((0.3, 0.3), rel=1e-3)
    assert scene.block_shape == (16, 16)
    assert scene.warnings == ()
    assert scenes["alpha"].overviews == ((31, 42), (16, 21))


@pytest.mark.parametrize("kind", KINDS)
def test_where_validity_comes_from(scenes, kind):
    expected = {"none": (), "nodata": ("nodata",), "nan": ("NaN",), "msk": ("mask",)}
    assert scenes[kind].validity == expected.get(kind, (kind,))
    assert len(scenes[kind].bands) == 3


@pytest.mark.parametrize(
    "transform",
    [
        (0.3, 0.0, 5e5, 0.0, 0.3, 5e6),
        (0.3, 0.1, 5e5, 0.1, -0.3, 5e6),
        (0.3, 0.1, 5e5, 0.0, -0.5, 5e6),
        (0.2, 0.0, 5e5, 0.0, -0.7, 5e6),
    ],
    ids=["south-up", "rotated", "sheared", "anisotropic"],
)
def test_any_affine_transform(tmp_path, transform):
    scene = open_scene(make_scene(tmp_path / "scene.tif", transform=transform))
    assert scene.geobox.transform == pytest.approx(transform, abs=1e-12)
    assert scene.warnings == ()


def test_without_a_crs_coordinates_are_pixels(tmp_path):
    scene = open_scene(make_scene(tmp_path / "scene.tif", crs=None, transform=None))
    assert (scene.geobox.crs, scene.resolution) == (None, None)
    assert scene.geobox.transform == (1, 0, 0, 0, 1, 0)
    assert "no CRS" in scene.warnings[0]
    assert whole(scene).valid.all()


def test_a_crs_without_a_transform_is_no_georeference(tmp_path):
    scene = open_scene(make_scene(tmp_path / "scene.tif", transform=None))
    assert scene.geobox.crs is None
    assert "no transform" in scene.warnings[0]


def test_the_fingerprint_covers_what_lies_beside(tmp_path):
    path = make_scene(tmp_path / "scene.tif", validity="msk")
    before = open_scene(path).fingerprint
    assert open_scene(path).fingerprint == before
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.ones((64, 64), bool))
    assert open_scene(path).fingerprint != before


def test_a_relative_path_is_found_from_anywhere(tmp_path, monkeypatch):
    make_scene(tmp_path / "scene.tif")
    monkeypatch.chdir(tmp_path)
    scene = open_scene("scene.tif")
    monkeypatch.chdir("/")
    assert whole(scene).valid.all()


# --- reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_and_validity_are_the_files(tmp_path, kind):
    rng = np.random.default_rng(1)
    dtype = "float32" if kind == "nan" else "uint8"
    pixels = rng.integers(1, 255, (3, 20, 30)).astype(dtype)
    valid = rng.random((20, 30)) < 0.7
    path = make_scene(tmp_path / "scene.tif", pixels=pixels, valid=valid, validity=kind)
    patch = whole(open_scene(path))
    known = np.ones_like(valid) if kind == "none" else valid
    assert np.array_equal(patch.valid, known)
    assert np.array_equal(patch.pixels, np.where(known, pixels, 0))
    assert patch.pixels.dtype == dtype


@pytest.mark.parametrize("kind", ["none", "nodata", "mask", "msk", "alpha"])
def test_validity_agrees_with_rasterio(scenes, kind):
    with rasterio.open(scenes[kind].uri) as dataset:
        assert np.array_equal(whole(scenes[kind]).valid, dataset.dataset_mask() > 0)


@reused
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 130),
    width=st.integers(1, 180),
    data=st.data(),
)
def test_a_pixel_is_the_same_through_any_window(scenes, kind, height, width, data):
    scene = scenes[kind]
    grid = data.draw(st.sampled_from([scene.geobox, scene.geobox.resized(height, width)]))
    row = data.draw(st.integers(0, grid.height))
    col = data.draw(st.integers(0, grid.width))
    window = Window(
        row,
        col,
        data.draw(st.integers(0, grid.height - row)),
        data.draw(st.integers(0, grid.width - col)),
    )
    bands = data.draw(st.sampled_from([(1, 2, 3), (3, 1), (2,)]))
    complete = read_patch(scene, grid.window, grid, bands)
    part = read_patch(scene, window, grid, bands)
    place = window.within(grid.window)
    assert np.array_equal(part.pixels, complete.pixels[:, *place])
    assert np.array_equal(part.valid, complete.valid[place])


def test_strips_leave_no_trace(scenes, monkeypatch):
    grid = scenes["nodata"].geobox.resized(37, 41)
    before = read_patch(scenes["nodata"], grid.window, grid, [1, 2, 3])
    monkeypatch.setattr("geoseg.raster.scene._STRIP", 500)
    after = read_patch(scenes["nodata"], grid.window, grid, [1, 2, 3])
    assert np.array_equal(before.pixels, after.pixels)
    assert np.array_equal(before.valid, after.valid)


@pytest.mark.parametrize("kind", KINDS)
def test_validity_alone_is_the_same(scenes, kind):
    window = Window(3, 5, 40, 50)
    alone = read_validity(scenes[kind], window, [1, 2, 3])
    assert np.array_equal(alone, read_patch(scenes[kind], window, scenes[kind].geobox, [1, 2, 3]).valid)


def test_a_known_rectangle_keeps_its_place_at_any_resolution(tmp_path):
    pixels = np.zeros((1, 120, 120), np.uint8)
    pixels[:, 30:60, 45:90] = 200
    scene = open_scene(make_scene(tmp_path / "scene.tif", pixels=pixels))
    for size in (40, 77, 120, 250):
        grid = scene.geobox.resized(size, size)
        image = read_patch(scene, grid.window, grid, [1]).pixels[0] / 200
        center = np.arange(size) + 0.5
        factor = 120 / size
        assert image.sum() * factor**2 == pytest.approx(30 * 45, rel=0.01)
        assert (image.sum(axis=1) @ center) / image.sum() * factor == pytest.approx(45, abs=0.05)
        assert (image.sum(axis=0) @ center) / image.sum() * factor == pytest.approx(67.5, abs=0.05)


def test_overviews_are_read_where_they_are_fine_enough(tmp_path):
    path = make_scene(tmp_path / "scene.tif", size=(64, 64), overviews=(2, 4))
    with rasterio.open(path, overview_level=1) as overview:
        expected = overview.read()
    scene = open_scene(path)
    grid = scene.geobox.resized(16, 16)
    assert np.array_equal(read_patch(scene, grid.window, grid, [1, 2, 3]).pixels, expected)


def test_external_overviews_count(tmp_path):
    path = make_scene(tmp_path / "scene.tif")
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2], Resampling.average)
    assert (tmp_path / "scene.tif.ovr").exists()
    assert open_scene(path).overviews == ((32, 32),)


@pytest.mark.parametrize("internal", [True, False])
def test_overviews_without_the_mask_are_not_trusted(tmp_path, internal):
    # GDAL calls every pixel of such an overview valid.
    path = make_scene(tmp_path / "scene.tif", size=(300, 300), overviews=(2, 4), block=64)
    valid = np.ones((300, 300), bool)
    valid[:100] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(valid)
    scene = open_scene(path)
    grid = scene.geobox.resized(75, 75)
    assert read_patch(scene, grid.window, grid, [1]).valid.sum() == 75 * 50
    assert "rebuild" in scene.warnings[0]


@pytest.mark.parametrize("kind", ["mask", "msk"])
def test_overviews_with_the_mask_are_used(tmp_path, kind):
    path = make_scene(tmp_path / "scene.tif", size=(300, 300), validity=kind, overviews=(2, 4), block=64)
    scene = open_scene(path)
    assert scene.overviews == ((150, 150), (75, 75))
    grid = scene.geobox.resized(75, 75)
    full = whole(scene).valid.mean()
    assert read_patch(scene, grid.window, grid, [1]).valid.mean() == pytest.approx(full, abs=0.02)


def test_requests_outside_are_refused(scenes):
    scene = scenes["alpha"]
    box = scene.geobox
    with pytest.raises(ValueError, match="not inside"):
        read_patch(scene, Window(-1, 0, 5, 5), box, [1])
    with pytest.raises(ValueError, match="band 4"):
        read_patch(scene, box.window, box, [4])
    with pytest.raises(ValueError, match="same ground"):
        read_patch(scene, Window(0, 0, 1, 1), type(box)(10, 10, NORTH_UP, box.crs), [1])


def test_threads_read_the_same(scenes):
    expected = whole(scenes["msk"]).pixels
    results = []

    def read():
        results.append(np.array_equal(whole(scenes["msk"]).pixels, expected))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


def test_reading_leaves_nothing_behind(tmp_path):
    path = make_scene(tmp_path / "scene.png.tif", validity="msk", overviews=(2,))
    with rasterio.open(path) as source, rasterio.open(
        tmp_path / "scene.png", "w", driver="PNG", width=64, height=64, count=3, dtype="uint8",
        crs=source.crs, transform=source.transform,
    ) as target:  # fmt: skip
        target.write(source.read())
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    for name in ("scene.png.tif", "scene.png"):
        scene = open_scene(tmp_path / name)
        whole(scene)
        list(sample(scene, [1]))
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


# --- odd files --------------------------------------------------------------------------------------


def test_nodata_and_crs_beside_the_file_are_honoured(tmp_path):
    path = make_scene(tmp_path / "scene.tif", crs=None, pixels=np.tile(np.uint8([[[7, 9]]]), (3, 1, 1)))
    bands = "".join(
        f'<PAMRasterBand band="{i}"><NoDataValue>7</NoDataValue></PAMRasterBand>' for i in (1, 2, 3)
    )
    (tmp_path / "scene.tif.aux.xml").write_text(
        f"<PAMDataset><SRS>EPSG:32633</SRS>{bands}</PAMDataset>", encoding="utf-8"
    )
    scene = open_scene(path)
    assert 'ID["EPSG",32633]' in scene.geobox.crs
    assert whole(scene).valid.tolist() == [[False, True]]


def test_nodata_needs_the_bands_that_are_not_read(tmp_path):
    pixels = np.uint8([[[0, 0, 5]], [[0, 3, 5]]])
    path = make_scene(tmp_path / "scene.tif", pixels=pixels, validity="nodata", valid=pixels.any(axis=0))
    assert whole(open_scene(path), [1]).valid.tolist() == [[False, True, True]]


def test_nodata_that_cannot_occur_excludes_nothing(tmp_path):
    path = make_scene(tmp_path / "scene.tif")
    (tmp_path / "scene.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>-9999</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    scene = open_scene(path)
    assert whole(scene).valid.all()
    assert scene.validity == ()


def test_five_bands_with_alpha(tmp_path):
    pixels = np.full((4, 8, 8), 9, np.uint8)
    valid = np.arange(64).reshape(8, 8) % 3 > 0
    scene = open_scene(make_scene(tmp_path / "s.tif", pixels=pixels, valid=valid, validity="alpha"))
    assert (scene.alpha, len(scene.bands)) == ((5,), 4)
    assert np.array_equal(whole(scene).valid, valid)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
def test_scale_and_offset_are_applied(tmp_path, dtype):
    pixels = np.array([[[0, 100], [10, 20]]], dtype)
    path = make_scene(tmp_path / "s.tif", pixels=pixels, validity="nodata")
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.01,), (-1.0,)
    patch = whole(open_scene(path))
    assert patch.pixels.dtype == np.float32
    assert patch.pixels[0] == pytest.approx(np.array([[0, 0], [-0.9, -0.8]]), abs=1e-6)
    assert patch.valid.tolist() == [[False, True], [True, True]]


def write_palette(path, **georeference):
    profile = {"driver": "GTiff", "width": 4, "height": 1, "count": 1, "dtype": "uint8", "nodata": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", photometric="palette", **profile, **georeference) as dataset:
            dataset.write(np.uint8([[[0, 1, 2, 3]]]))
            dataset.write_colormap(1, {0: (10, 20, 30), 1: (40, 50, 60), 2: (3, 3, 3), 3: (70, 80, 90)})
    return path


@pytest.fixture
def palette(tmp_path):
    transform = rasterio.Affine(*NORTH_UP)
    return write_palette(tmp_path / "palette.tif", crs="EPSG:32633", transform=transform)


def test_palettes_are_expanded_after_nodata(palette):
    scene = open_scene(palette)
    assert [band.color for band in scene.bands] == ["red", "green", "blue"]
    patch = whole(scene, [3, 2, 1])
    assert patch.valid.tolist() == [[True, True, True, False]]
    assert patch.pixels[:, 0].T.tolist() == [[30, 20, 10], [60, 50, 40], [3, 3, 3], [0, 0, 0]]


def test_palettes_are_resampled_as_colours(palette):
    scene = open_scene(palette)
    grid = scene.geobox.resized(1, 2)
    assert read_patch(scene, grid.window, grid, [1]).pixels.tolist() == [[[25, 3]]]


TURN = rasterio.Affine(0.3, 0.1, 5e5, 0.1, -0.3, 5e6)


def unplace(path):
    """Replace a scene's transform by ground control points at the corners of a turned frame."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as dataset:
            corners = [(row, col) for row in (0, dataset.height) for col in (0, dataset.width)]
            points = [GroundControlPoint(row, col, *(TURN @ (col, row))) for row, col in corners]
            dataset.gcps = points, rasterio.crs.CRS.from_epsg(32633)
    return path


@pytest.fixture
def slanted(tmp_path):
    """A scene that only ground control points place, turned by 18 degrees."""
    pixels = np.random.default_rng(2).integers(1, 255, (3, 90, 100), np.uint8)
    return unplace(make_scene(tmp_path / "gcp.tif", pixels=pixels, crs=None, transform=None))


def test_ground_control_points_make_a_grid(slanted):
    scene = open_scene(slanted)
    assert scene.resolution == pytest.approx((0.316, 0.316), rel=0.02)
    assert "4 ground control points" in scene.warnings[0]
    assert (len(scene.bands), scene.validity) == (3, ("alpha",))
    patch = whole(scene)
    height, width = patch.valid.shape
    rows, cols = np.mgrid[:height, :width] + 0.5
    points = scene.geobox.to_crs(np.column_stack([cols.ravel(), rows.ravel()]))
    source = np.array([~TURN @ point for point in points])
    inside = ((source > 1) & (source < (99, 89))).all(axis=1).reshape(height, width)
    outside = ((source < -1) | (source > (101, 91))).any(axis=1).reshape(height, width)
    assert patch.valid[inside].all()
    assert not patch.valid[outside].any()


@pytest.mark.parametrize("kind", ["nodata", "mask", "msk", "alpha", "nan"])
def test_warped_scenes_keep_their_validity(tmp_path, kind):
    valid = np.ones((90, 100), bool)
    valid[:, :50] = False
    dtype = "float32" if kind == "nan" else "uint8"
    path = make_scene(
        tmp_path / "s.tif", size=(90, 100), dtype=dtype, validity=kind, valid=valid, crs=None, transform=None
    )
    scene = open_scene(unplace(path))
    assert len(scene.bands) == 3
    area = whole(scene).valid.sum() * np.prod(scene.resolution)
    assert area == pytest.approx(90 * 50 * 0.1, rel=0.03)


def test_a_warped_palette_stays_a_palette(tmp_path):
    scene = open_scene(unplace(write_palette(tmp_path / "palette.tif")))
    patch = whole(scene)
    colors = {tuple(color) for color in patch.pixels[:, patch.valid].T.tolist()}
    assert colors <= {(10, 20, 30), (40, 50, 60), (3, 3, 3)}
    assert patch.valid.any()


@reused
@given(data=st.data())
def test_warped_pixels_are_the_same_through_any_window(slanted, data):
    scene = open_scene(slanted)
    box = scene.geobox
    row, col = data.draw(st.integers(0, box.height - 1)), data.draw(st.integers(0, box.width - 1))
    window = Window(
        row, col, data.draw(st.integers(1, box.height - row)), data.draw(st.integers(1, box.width - col))
    )
    place = window.within(box.window)
    complete, part = whole(scene), read_patch(scene, window, box, [1, 2, 3])
    assert np.array_equal(part.pixels, complete.pixels[:, *place])
    assert np.array_equal(part.valid, complete.valid[place])


def test_samples_stand_for_the_whole(tmp_path):
    scene = open_scene(make_scene(tmp_path / "s.tif", size=(700, 900), validity="nodata", overviews=(2,)))
    (everything,) = sample(scene, [1])
    assert everything.valid.shape == (700, 900)
    (overview,) = sample(scene, [1], budget=200_000)
    assert overview.valid.shape == (350, 450)
    lattice = [list(sample(scene, [1], budget=100_000)) for _ in range(2)]
    assert len(lattice[0]) == 1
    assert lattice[0][0].valid.shape == (256, 256)
    assert np.array_equal(lattice[0][0].pixels, lattice[1][0].pixels)


def test_gray_alpha_and_undefined_extra_bands(tmp_path):
    path = make_scene(tmp_path / "s.tif", bands=4)
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] != ColorInterp.alpha
    assert len(open_scene(path).bands) == 4
    scene = open_scene(make_scene(tmp_path / "g.tif", bands=1, validity="alpha"))
    assert (len(scene.bands), scene.alpha) == (1, (2,))


# --- refusals ---------------------------------------------------------------------------------------


def test_complex_numbers_are_refused(tmp_path):
    path = make_scene(tmp_path / "s.tif", pixels=np.ones((1, 4, 4), np.complex64))
    with pytest.raises(UnreadableScene, match=r"s\.tif: holds complex numbers"):
        open_scene(path)


def test_alpha_alone_is_no_image(tmp_path):
    path = make_scene(tmp_path / "s.tif", bands=1)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.alpha]
    with pytest.raises(UnreadableScene, match="no image bands"):
        open_scene(path)


def test_absurd_sizes_are_refused(tmp_path):
    path = tmp_path / "s.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="2000000000" rasterYSize="2000000000">'
        '<VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )
    with pytest.raises(UnreadableScene, match="is it damaged"):
        open_scene(path)


def test_rpc_only_is_refused(tmp_path):
    path = make_scene(tmp_path / "s.tif", crs=None, transform=None)
    coefficients = " ".join(["0.5"] * 20)
    names = ("LINE_NUM_COEFF", "LINE_DEN_COEFF", "SAMP_NUM_COEFF", "SAMP_DEN_COEFF")
    plain = ("LINE_OFF", "SAMP_OFF", "LAT_OFF", "LONG_OFF", "HEIGHT_OFF", "LINE_SCALE", "SAMP_SCALE",
             "LAT_SCALE", "LONG_SCALE", "HEIGHT_SCALE")  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(ns="RPC", **dict.fromkeys(names, coefficients), **dict.fromkeys(plain, "1"))
    with pytest.raises(UnreadableScene, match="orthorectify"):
        open_scene(path)


def test_a_degenerate_transform_is_refused(tmp_path):
    path = make_scene(tmp_path / "s.tif", transform=(0.3, 0.3, 5e5, 0.3, 0.3, 5e6))
    with pytest.raises(UnreadableScene, match="transform"):
        open_scene(path)


def test_huge_blocks_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "s.tif"
    side = 30_000
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", tiled=True,
        blockxsize=side - side % 16, blockysize=side - side % 16, compress="deflate", sparse_ok=True,
        crs="EPSG:32633", transform=rasterio.Affine(*NORTH_UP), interleave="pixel",
    ):  # fmt: skip
        pass
    with pytest.raises(UnreadableScene, match=r"2\.5 GiB each; re-tile it: gdal_translate -of COG"):
        open_scene(path)


def test_damaged_data_raises_when_read(tmp_path):
    path = make_scene(tmp_path / "s.tif", size=(256, 256), block=64, compress="deflate")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    scene = open_scene(path)
    with pytest.raises(UnreadableScene, match=r"s\.tif: cannot be read \(.+\)$") as caught:
        whole(scene)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [50, 200, 1000])
@pytest.mark.parametrize("driver", ["GTiff", "JPEG", "PNG", "JP2OpenJPEG", "HFA", "WEBP", "BMP", "ENVI"])
def test_truncated_files_raise_and_never_invent_pixels(tmp_path, driver, side):
    path = tmp_path / "scene.img"
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=driver, width=side, height=side, count=3, dtype="uint8"
        ) as dataset:
            dataset.write(rng.integers(0, 255, (3, side, side), np.uint8))
    content = path.read_bytes()
    assert whole(open_scene(path)).valid.all()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UnreadableScene):
        whole(open_scene(path))


def test_a_file_that_vanished_raises(tmp_path):
    path = make_scene(tmp_path / "s.tif")
    scene = open_scene(path)
    path.unlink()
    with pytest.raises(UnreadableScene, match=r"s\.tif"):
        whole(scene)
