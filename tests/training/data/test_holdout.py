"""Nothing that is held out is ever seen in training: drawn windows are searched for its pixels."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.testing import make_scene
from geoseg.training.data.ground import Located, SceneGround
from geoseg.training.data.holdout import cells, clear_scene, hold_out
from geoseg.training.data.read import read_data
from geoseg.training.data.sampler import Sampler, permits, permitted
from geoseg.training.data.spec import (
    Blocks,
    ChipsSpec,
    DataSpec,
    Draws,
    Place,
    SceneSpec,
    ValidationSpec,
)
from geoseg.values import Window
from tests.training.data.fakes import ground, picture, write_chips, write_polygons

SIZE = 300
SMALL = {"crop": 32, "spread": 0.6, "turned_share": 0.5, "smallest_m": 0.2, "largest_m": 0.9}


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.1, 2), st.floats(0.1, 2), st.floats(1, 200))
def test_cells_cover_each_pixel_once(rows, cols, across, down, side_m):
    seen = np.zeros((rows, cols), int)
    for cell in cells((rows, cols), (across, down), side_m):
        seen[cell.slices] += 1
    assert (seen == 1).all()


@settings(max_examples=8)
@given(
    st.integers(0, 10**6),
    st.floats(16, 45),
    st.floats(0.05, 0.25),
    st.sampled_from([0.0, 5.0]),
    st.sampled_from([(), (2, 4)]),
    st.booleans(),
)
def test_no_training_window_holds_a_pixel_of_a_held_out_block(
    tmp_path_factory, seed, side_m, share, guard_m, overviews, turned_scene
):
    folder = tmp_path_factory.mktemp("leak")
    angle = 0.3 * np.array([np.cos(0.4), np.sin(0.4)])
    transform = (angle[0], angle[1], 500_000.0, angle[1], -angle[0], 5_000_000.0)
    placed = {"transform": transform} if turned_scene else {}
    path = folder / "a.tif"
    whole = ground(path, np.zeros((3, SIZE, SIZE), np.uint8), **placed)
    spots = np.random.default_rng(seed).uniform(0, SIZE, (30, 2))
    located = [Located(replace(whole, spots=spots), whole.scene.uri, whole.scene.geobox)]
    blocks = Blocks(side_m=side_m, share=share, seed=seed, guard_m=guard_m)
    split = hold_out(located, ValidationSpec(blocks=blocks))
    (training,) = split.training
    image = np.zeros((3, SIZE, SIZE), np.uint8)
    for block in split.validation["a blocks"]:
        image[:, *block.region.slices] = 255
    make_scene(path, pixels=image, overviews=overviews, **placed)
    assert image.any()
    assume(permitted(training, training.grid(0.2), 32))
    sampler = Sampler([training], Draws(**SMALL))
    for index in range(10):
        pixels, _ = sampler.draw(np.random.default_rng([seed, index]))
        assert not pixels.any(), "a training window shows held-out ground"


@settings(max_examples=6)
@given(st.integers(0, 10**6), st.integers(-150, 150), st.integers(-150, 150))
def test_a_scene_keeps_clear_of_held_out_ground_of_another_scene(tmp_path_factory, seed, col, row):
    folder = tmp_path_factory.mktemp("overlap")
    here, there = folder / "here.tif", folder / "there.tif"
    shifted = (0.3, 0.0, 500_000.0 + 0.3 * col, 0.0, -0.3, 5_000_000.0 - 0.3 * row)
    one = ground(here, np.zeros((3, SIZE, SIZE), np.uint8))
    other = ground(there, np.zeros((3, 120, 120), np.uint8), transform=shifted)
    located = [Located(g, g.scene.uri, g.scene.geobox) for g in (one, other)]
    split = hold_out(located, ValidationSpec(scenes=("there",)))
    image = np.zeros((3, SIZE, SIZE), np.uint8)
    image[:, max(0, row) : max(0, row + 120), max(0, col) : max(0, col + 120)] = 255
    make_scene(here, pixels=image)
    sampler = Sampler([replace(split.training[0], spots=one.spots)], Draws(**SMALL))
    for index in range(12):
        pixels, _ = sampler.draw(np.random.default_rng([seed, index]))
        assert not pixels.any()


def test_whole_scenes_are_held_out(tmp_path):
    grounds = [ground(tmp_path / f"{name}.tif", size=(60, 60)) for name in "ab"]
    far = replace(grounds[1].scene.geobox, transform=(0.3, 0, 700_000, 0, -0.3, 5_000_000))
    located = [Located(grounds[0], "a", grounds[0].scene.geobox), Located(grounds[1], "b", far)]
    split = hold_out(located, ValidationSpec(scenes=("b",)))
    assert split.training == (grounds[0],)
    assert split.validation == {"b": (grounds[1],)}
    with pytest.raises(InvalidOption, match="'c': there is no such scene"):
        hold_out(located, ValidationSpec(scenes=("c",)))


def test_blocks_hold_out_objects_and_background_alike(tmp_path):
    whole = ground(tmp_path / "a.tif", size=(200, 200))
    rng = np.random.default_rng(0)
    spots = rng.uniform(0, 100, (300, 2))  # one quarter of the scene is built up
    located = [Located(replace(whole, spots=spots), "a", whole.scene.geobox)]
    spec = ValidationSpec(blocks=Blocks(side_m=6, share=0.25, guard_m=1))
    split = hold_out(located, spec)
    held = split.validation["a blocks"]
    assert len(held) == 25
    assert 5 <= sum(block.has_objects for block in held) <= 7
    again = hold_out(located, spec).validation["a blocks"]
    assert [block.region for block in again] == [block.region for block in held]
    assert len({block.name for block in held}) == 25
    (training,) = split.training
    for block in held:
        inside = (training.spots >= (block.region.col, block.region.row)).all(1)
        inside &= (training.spots < (block.region.col_stop, block.region.row_stop)).all(1)
        assert not inside.any()
    bare = [Located(replace(whole, spots=spots[:0]), "a", whole.scene.geobox)]
    one = ValidationSpec(blocks=Blocks(side_m=30, share=0.01))
    assert len(hold_out(bare, one).validation["a blocks"]) == 1
    with pytest.raises(InvalidOption, match="no room for two blocks"):
        hold_out(located, ValidationSpec(blocks=Blocks(side_m=200)))


def test_chips_over_held_out_ground_are_dropped_and_counted(tmp_path):
    scene = ground(tmp_path / "scene.tif", size=(100, 100))
    box = scene.scene.geobox

    def chip(name, col, row):
        moved = replace(
            box, height=40, width=40, transform=(0.3, 0, 5e5 + 0.3 * col, 0, -0.3, 5e6 - 0.3 * row)
        )
        return Located(replace(picture(40, 40), name=name), name, moved)

    chips = [chip("held", 300, 0), chip("beside", 340, 0), chip("over", 330, 30), chip("in scene", 20, 20)]
    lost = Located(replace(picture(40, 40), name="nowhere"), "nowhere", None)
    again = Located(replace(picture(40, 40), name="copy"), "held", None)
    spec = ValidationSpec(places=(Place(name="there", source="town", stems=("held",)),), scenes=("scene",))
    split = hold_out([*chips, lost, again, Located(scene, scene.scene.uri, box)], spec)
    assert [one.name for one in split.training] == ["beside", "nowhere"]
    assert split.notes == ("3 training chips overlap validation ground and are left out, first over",)


def test_place_without_chips_is_an_error():
    located = [Located(picture(), "a", None)]
    with pytest.raises(InvalidOption, match=r"'suburb': no chip matches it; did you mean 'town'\?"):
        hold_out(located, ValidationSpec(places=(Place(name="suburb", source="twon"),)))
    with pytest.raises(InvalidOption, match=r"'suburb': no chip matches it$"):
        hold_out(located, ValidationSpec(places=(Place(name="suburb", source="town", stems=("x*",)),)))


def test_from_files_to_samples_without_leakage(tmp_path):
    """Scene with blocks, and chips that lie on it: training sees nothing of the blocks."""
    box = ground(tmp_path / "a.tif", np.full((3, SIZE, SIZE), 7, np.uint8)).scene.geobox
    houses = [(x, y, x + 12, y + 12) for x in range(10, SIZE, 50) for y in range(10, SIZE, 50)]
    write_polygons(tmp_path / "a.gpkg", houses, box)
    mask = np.zeros((90, 90), np.uint8)
    mask[20:40, 20:40] = 255
    chips = {"town/one": (np.dstack([mask] * 3), mask), "town/two": (np.dstack([mask] * 3), mask)}
    index = write_chips(tmp_path, chips)
    data = DataSpec(scenes=(SceneSpec(scene="a.tif", labels="a.gpkg"),), chips=(ChipsSpec(index=index.name),))
    validation = ValidationSpec(
        blocks=Blocks(side_m=30, share=0.2, guard_m=2),
        places=(Place(name="there", source="town", stems=("two",)),),
    )
    split = read_data(data, validation, Draws(**SMALL), tmp_path)
    assert set(split.validation) == {"a blocks", "there"}
    assert [g.name for g in split.training] == ["one", "a"]
    scene = next(g for g in split.training if isinstance(g, SceneGround))
    image = np.full((3, SIZE, SIZE), 7, np.uint8)
    for block in split.validation["a blocks"]:
        assert isinstance(block, SceneGround)
        image[:, *block.region.slices] = 255
    make_scene(tmp_path / "a.tif", pixels=image)
    sampler = pickle.loads(pickle.dumps(Sampler([scene], Draws(**SMALL))))
    for index in range(60):
        pixels, labels = sampler.draw(np.random.default_rng(index))
        assert bool((pixels == 7).all())
        assert labels.shape == (32, 32)
    assert Window(0, 0, SIZE, SIZE) == scene.region


@pytest.mark.parametrize("overviews", [(), (2, 4, 8)])
def test_windows_that_only_touch_a_block_are_refused_with_what_resampling_mixes_in(tmp_path, overviews):
    """Without a guard band, the nearest permitted window has no pixel of the block; a nearer one may."""
    path = tmp_path / "a.tif"
    whole = ground(path, np.zeros((3, SIZE, SIZE), np.uint8))
    block = replace(whole, name="block", region=Window(101, 101, 99, 99))
    located = Located(whole, whole.scene.uri, whole.scene.geobox)
    training = clear_scene(located, [replace(located, ground=block)], 0.0).ground
    image = np.zeros((3, SIZE, SIZE), np.uint8)
    image[:, 101:200, 101:200] = 255
    make_scene(path, pixels=image, overviews=overviews)
    refused = 0
    for resolution in (0.11, 0.3, 0.5, 0.7, 1.3):
        shape = training.grid(resolution)
        edge = round(101 * shape[0] / SIZE)
        for start in range(max(0, edge - 30), edge):
            window = Window(start, edge, 8, 8)
            if permits(training, window, shape):
                assert not training.read(window, shape)[0].any()
            else:
                refused += 1
    assert refused
