"""Chips, split and draws."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InvalidOption, UnreadableScene
from geoseg.training.recipe import Draws, Place, read_recipe
from geoseg.training.samples import (
    BUILDING,
    UNKNOWN,
    Chip,
    Sampler,
    crop_at,
    mirrored,
    normalize,
    read_split,
    resize,
)

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY / "../shared/data"


def chip(rows=40, cols=60, gsd_m=0.3, building=True, source="town") -> Chip:
    """Return a chip whose first channel tells where the mask is building."""
    mask = torch.zeros(rows, cols, dtype=torch.uint8)
    if building:
        mask[rows // 4 : rows // 2, cols // 4 : cols // 2] = BUILDING
    return Chip(source, source, gsd_m, torch.stack([mask, mask * 0, mask * 0 + 9]), mask)


def test_split_keeps_places_apart(collection, recipe_dict):
    places = [Place(**place) for place in recipe_dict["validation"]]
    split = read_split(collection, places)
    assert {name: [c.stem for c in chips] for name, chips in split.validation.items()} == {
        "old town": ["town_0"],
        "wood": ["forest_2"],
    }
    assert len(split.training) == 7
    assert not {"town_0", "forest_2"} & {c.stem for c in split.training}
    assert [c.empty for c in split.training if c.source == "forest"] == [True, True]


def test_pixels_and_mask_belong_together(collection):
    split = read_split(collection, [Place(name="all but", source="town", stems=("town_0",))])
    for found in split.training:
        bright = found.pixels.float().mean(0) > 130
        assert torch.equal(bright, found.mask == BUILDING)


def test_place_without_chips_is_an_error(collection):
    with pytest.raises(InvalidOption, match="'suburb'"):
        read_split(collection, [Place(name="suburb", source="town", stems=("twon_*",))])


def test_nothing_left_to_train_on_is_an_error(collection):
    with pytest.raises(InvalidOption, match="no chip with buildings"):
        read_split(collection, [Place(name=name, source=name) for name in ("town", "village")])


@pytest.mark.parametrize("name", ["index.csv", "4.tif", "4.png"])
def test_missing_files_are_named(collection, name):
    (collection / name).unlink()
    with pytest.raises(UnreadableScene, match=name):
        read_split(collection, [Place(name="a", source="town", stems=("town_0",))])


def test_unknown_weight_is_an_error():
    with pytest.raises(InvalidOption, match="'twon'"):
        Sampler([chip()], [], Draws(weights={"twon": 2}))


def test_shares_and_weights_are_kept():
    chips = [chip(source="town")] + [chip(source="village")] * 9 + [chip(building=False, source="forest")] * 5
    world = chip(source="synthetic")
    draws = Draws(negative_share=0.2, synthetic_share=0.1, weights={"town": 3})
    sampler = Sampler(chips, [world], draws)
    rng = np.random.default_rng(0)
    counts = Counter(sampler.choose(rng).source for _ in range(4000))
    expected = {"synthetic": 0.1, "forest": 0.2, "town": 0.7 * 3 / 4, "village": 0.7 / 4}
    for source, share in expected.items():
        assert counts[source] / 4000 == pytest.approx(share, abs=0.03)


def test_without_weights_sources_are_equal():
    sampler = Sampler([chip(source="town")] + [chip(source="village")] * 9, [], Draws())
    rng = np.random.default_rng(0)
    counts = Counter(sampler.choose(rng).source for _ in range(2000))
    assert counts["town"] / 2000 == pytest.approx(0.5, abs=0.05)


@given(st.integers(0, 1000), st.integers(20, 90), st.integers(20, 90), st.floats(0.07, 1.0))
def test_samples_have_one_size_and_keep_labels_in_place(seed, rows, cols, gsd_m):
    drawn = chip(rows, cols, gsd_m)
    sampler = Sampler([drawn], [], Draws(crop=32))
    pixels, mask = sampler.draw(np.random.default_rng(seed))
    assert pixels.shape == (3, 32, 32)
    assert mask.shape == (32, 32)
    assert pixels.dtype == mask.dtype == torch.uint8
    assert set(mask.unique().tolist()) <= {0, BUILDING}
    # Away from outlines, the picture of the mask is the mask.
    assert not bool(((pixels[0] > 250) & (mask == 0)).float().mean() > 0.1)
    assert bool((pixels[2] == 9).all()), "a turned sample has no empty corner"


@given(st.integers(0, 1000), st.integers(8, 40))
def test_crop_at_own_resolution_is_a_window(seed, side):
    pixels = torch.arange(40 * 60, dtype=torch.int32).reshape(1, 40, 60).expand(3, -1, -1) % 251
    whole = Chip("a", "a", 0.3, pixels.to(torch.uint8), torch.zeros(40, 60, dtype=torch.uint8))
    found, _ = crop_at(whole, 0.3, side, np.random.default_rng(seed))
    windows = whole.pixels[0].unfold(0, side, 1).unfold(1, side, 1)
    assert bool((windows == found[0]).all(-1).all(-1).any())


@given(st.integers(1, 30), st.integers(-60, 30), st.integers(1, 90))
def test_mirrored_is_numpy_reflect(size, start, span):
    padded = np.pad(np.arange(size), (100, 200), mode="reflect" if size > 1 else "edge")
    assert mirrored(size, start, span).tolist() == padded[100 + start : 100 + start + span].tolist()


def test_resize_keeps_label_values():
    mask = torch.tensor([[0, 255], [127, 0]], dtype=torch.uint8)
    pixels, labels = resize(torch.zeros(3, 2, 2, dtype=torch.uint8), mask, 7, 5)
    assert pixels.shape == (3, 7, 5)
    assert set(labels.unique().tolist()) == {0, BUILDING, UNKNOWN}


def test_normalize_is_the_card_scaling():
    assert normalize(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared imagery is not beside the checkout")
def test_shipped_recipe_finds_its_places_and_no_two_share_ground():
    recipe = read_recipe(REPOSITORY / "pipelines/train_buildings.yaml")
    split = read_split(recipe.data, recipe.validation)
    held = {found.stem for chips in split.validation.values() for found in chips}
    trained = {found.stem for found in split.training}
    assert not held & trained
    corners = [stem.split("_")[2:] for stem in trained if stem.startswith("bz_")]
    other = [stem.split("_")[2:] for stem in held if stem.startswith("bz_")]
    assert corners
    assert other
    nearest = min(max(abs(int(a) - int(x)), abs(int(b) - int(y))) for a, b in corners for x, y in other)
    assert nearest >= 128, "held-out tiles overlap training tiles"
    columns = {int(stem.split("_")[1].split("-")[0]) for stem in trained if stem.startswith("banepa_")}
    assert max(columns) < 386694
