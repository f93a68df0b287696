"""What the card says of a run: figures, data, how it was made."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.metrics import Confusion
from geoseg.training.data.ground import PictureGround
from geoseg.training.data.read import Split
from geoseg.training.description import accuracy, hyperparameters, thin, training_data, validation_curve
from geoseg.training.logs import append_row
from geoseg.training.network import Start
from geoseg.training.validate import Score
from geoseg.values import ClassRule

pytestmark = pytest.mark.slow

TOWN = Score((Confusion(60, 20, 20, 100),), (Confusion(3, 1, 1, 0),), 1e6)
WOOD = Score((Confusion(0, 2, 0, 198),), (Confusion(0, 5, 0, 0),), 2e6)
UNKNOWN = Score((Confusion(),), (Confusion(),), 0.0)
NOTHING = Start(None, {}, None)


def picture(source="town", name="t", **facts):
    empty = np.zeros((100, 100), np.uint8)
    return PictureGround(source, name, (1, 1), empty[None].repeat(3, 0), empty, facts=facts)


def rows_of(scores):
    places = {name: (picture(),) for name in scores}
    return accuracy(scores, places, ClassRule((1,), 0.4), 0.3, 4.0)


def test_means_over_places_then_each_place():
    rows = rows_of({"old town": TOWN, "wood": WOOD, "nowhere": UNKNOWN})
    found = {(row["metric"], row["where"].split(" (")[0]): row["value"] for row in rows}
    assert found == {
        ("pixel IoU", "mean over 1 places with objects"): 0.6,
        ("object F1 at IoU 0.5", "mean over 1 places with objects"): 0.75,
        ("false features per km²", "1 places without objects"): 2.5,
        ("pixel IoU", "old town"): 0.6,
        ("object F1 at IoU 0.5", "old town"): 0.75,
        ("false area share", "wood"): 0.01,
    }
    assert all("threshold 0.4" in row["how"] for row in rows)


def test_nothing_to_be_found_gives_no_mean():
    assert [row["metric"] for row in rows_of({"wood": WOOD})] == [
        "false features per km²",
        "false area share",
    ]
    assert rows_of({"nowhere": UNKNOWN}) == []


def test_training_data_lists_each_source_once_with_its_terms(recipe):
    split = Split(
        (
            picture(licence="CC0-1.0", tier="A", place="Ulm"),
            picture(licence="CC0-1.0", tier="A", place="Aalen"),
            picture("wood"),
        ),
        {},
    )
    assert training_data(recipe, split, NOTHING) == [
        {"name": "town", "licence": "CC0-1.0", "note": "tier A; 2 pieces, 0.020 km²; Aalen; Ulm"},
        {"name": "wood", "licence": "not stated", "note": "1 pieces, 0.010 km²"},
    ]


def test_hyperparameters_are_json_even_where_a_loss_was_no_number(recipe):
    recipe.run_folder.mkdir()
    for step, loss in enumerate((1.0, math.nan, 0.5), 1):
        append_row(recipe.run_folder / "training.csv", {"step": step, "seconds": 60.0 * step, "loss": loss})
    append_row(recipe.run_folder / "validation.csv", {"step": 3, "place": "a", "iou": 0.5})
    found = json.loads(json.dumps(hyperparameters(recipe, NOTHING), allow_nan=False))
    assert found["loss_curve"] == [[1, 1.0], [3, 0.5]]
    assert found["validation_curve"] == [[3, 0.5]]
    assert (found["steps"], found["training_minutes"]) == (3, 3.0)
    assert found["recipe"]["optimization"]["batch"] == recipe.optimization.batch
    assert "base" not in found["recipe"], "no path of this machine"


def test_a_run_without_rows_has_no_curve(recipe):
    found = hyperparameters(recipe, NOTHING)
    assert (found["steps"], found["loss_curve"], found["validation_curve"]) == (0, [], [])


def test_validation_curve_is_the_mean_of_built_places():
    rows = [
        {"step": step, "iou": iou} for step, iou in (("4", "0.2"), ("4", "0.4"), ("4", "nan"), ("8", "0.5"))
    ]
    assert validation_curve(rows) == [(4, pytest.approx(0.3)), (8, 0.5)]


@given(st.lists(st.tuples(st.integers(), st.integers()).map(list), max_size=300))
def test_thinned_points_keep_their_order_and_both_ends(points):
    found = thin(points)
    assert len(found) == min(len(points), 60)
    assert found[:1] + found[-1:] == points[:1] + points[-1:]
    remaining = iter(points)
    assert all(point in remaining for point in found)
