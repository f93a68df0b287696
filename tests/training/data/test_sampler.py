"""Draws: shares, sizes, and labels that stay with their pixels."""

import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import InvalidOption
from geoseg.labels.classes import IGNORE
from geoseg.labels.footprints import Footprints
from geoseg.training.augment import paste
from geoseg.training.data.sampler import Sampler
from geoseg.training.data.spec import Draws
from tests.training.data.fakes import ground, picture

pytestmark = pytest.mark.slow


def drawn(sampler, number, seed=0):
    rng = np.random.default_rng(seed)
    return [sampler.draw(rng) for _ in range(number)]


@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(20, 90), st.integers(20, 90), st.floats(0.07, 1.0))
def test_samples_have_one_size_and_keep_labels_in_place(seed, rows, cols, gsd_m):
    sampler = Sampler([picture(rows, cols, gsd_m)], Draws(crop=32))
    pixels, labels = sampler.draw(np.random.default_rng(seed))
    assert pixels.shape == (3, 32, 32)
    assert labels.shape == (32, 32)
    assert pixels.dtype == labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) <= {0, 1}
    # Away from outlines, the picture of the labels is the labels.
    assert not bool(((pixels[0] > 250) & (labels == 0)).float().mean() > 0.1)
    assert bool((pixels[2] == 9).all()), "a turned sample has no empty corner"


def test_a_sample_depends_on_the_generator_alone(tmp_path):
    scene = ground(tmp_path / "a.tif", size=(120, 150))
    sampler = Sampler([picture(), scene], Draws(crop=32, paste_share=0.5, tone_share=0.5))
    again = pickle.loads(pickle.dumps(sampler))
    for index in range(12):
        one = sampler.draw(np.random.default_rng([7, index]))
        two = again.draw(np.random.default_rng([7, index]))
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_shares_and_weights_are_kept():
    grounds = [picture(source="town")] + [picture(source="village")] * 9
    grounds += [picture(building=False, source="forest")] * 5
    draws = Draws(negative_share=0.2, weights={"town": 3})
    sampler = Sampler(grounds, draws)
    rng = np.random.default_rng(0)
    counts = Counter(sampler.choose(rng).source for _ in range(4000))
    expected = {"forest": 0.2, "town": 0.8 * 3 / 4, "village": 0.8 / 4}
    for source, share in expected.items():
        assert counts[source] / 4000 == pytest.approx(share, abs=0.03)


def test_ground_without_objects_is_drawn_by_area():
    empty = [picture(40, 60, building=False, source="fields")]
    empty += [picture(20, 30, building=False, source="forest")] * 12
    sampler = Sampler([picture(source="town"), *empty], Draws(negative_share=0.5))
    rng = np.random.default_rng(0)
    counts = Counter(sampler.choose(rng).source for _ in range(4000))
    # One of 40 × 60 pixels and twelve of a quarter of that.
    assert counts["fields"] / 4000 == pytest.approx(0.5 / 4, abs=0.03)
    assert counts["forest"] / 4000 == pytest.approx(0.5 * 3 / 4, abs=0.03)


def test_weights_of_a_source_count_unless_the_recipe_says_otherwise():
    grounds = [replace(picture(source="town"), weight=3.0), picture(source="village")]
    rng = np.random.default_rng(0)
    for weights, share in (({}, 0.75), ({"town": 1}, 0.5)):
        sampler = Sampler(grounds, Draws(weights=weights))
        counts = Counter(sampler.choose(rng).source for _ in range(3000))
        assert counts["town"] / 3000 == pytest.approx(share, abs=0.04)


def test_nothing_to_find_and_unknown_weights_are_errors():
    with pytest.raises(InvalidOption, match="no ground with objects"):
        Sampler([picture(building=False)], Draws())
    with pytest.raises(InvalidOption, match=r"comes from 'twon'; did you mean 'town'\?"):
        Sampler([picture()], Draws(weights={"twon": 2}))


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 40, 40), (0.0, 0, 20)])
def test_windows_of_a_scene_are_laid_over_objects(tmp_path, share, least, most):
    house = shapely.box(90, 90, 93, 93)  # 10 pixels of a scene of 600
    scene = ground(tmp_path / "a.tif", np.zeros((3, 600, 600), np.uint8))
    labels = Footprints(np.array([house]), np.ones(1, np.uint8), (0.3, 0.3))
    scene = replace(scene, labels=labels, spots=labels.spots)
    sampler = Sampler([scene], Draws(crop=64, object_share=share, turned_share=0.0))
    found = sum(bool((labels == 1).any()) for _, labels in drawn(sampler, 40))
    assert least <= found <= most


def test_unknown_ground_is_ignored_and_not_drawn(tmp_path):
    valid = np.zeros((200, 200), bool)
    valid[:, :90] = True
    scene = ground(tmp_path / "a.tif", size=(200, 200), validity="mask", valid=valid)
    area = Footprints(np.array([shapely.box(0, 0, 60, 30)]), np.ones(1, np.uint8), (0.3, 0.3))
    sampler = Sampler([replace(scene, known=area)], Draws(crop=32, turned_share=0, smallest_m=0.3))
    for pixels, labels in drawn(sampler, 30):
        assert bool((labels != IGNORE).any())
        assert bool(pixels.any())
    whole, labels = replace(scene, known=area).read(scene.region, scene.shape)
    expected = np.full((200, 200), IGNORE)
    expected[:100, :90] = 0
    expected[80:100, 80:90] = 1
    assert np.array_equal(labels, expected)
    assert whole[:, :, 150:].min() > 0, "nodata is filled from what lies beside it"


def test_paste_moves_whole_objects_and_marks_their_edge():
    pixels, labels = torch.zeros(3, 40, 40, dtype=torch.uint8), torch.zeros(40, 40, dtype=torch.uint8)
    donor = (pixels + 200, labels.clone())
    donor[1][10:20, 10:22] = 1
    donor[1][30:40, 5:9] = 1  # cut by the edge: stays behind
    mixed, merged = paste((pixels, labels), donor, np.random.default_rng(0))
    assert bool((mixed[0][merged == 1] >= 180).all())
    assert bool((mixed[0][merged == 0] <= 5).all())
    assert 60 <= int((merged == 1).sum()) <= 120
    assert 0 < int((merged == IGNORE).sum()) <= 100
    nothing = paste((pixels, labels), (pixels, labels), np.random.default_rng(0))
    assert torch.equal(nothing[1], labels)
