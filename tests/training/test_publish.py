"""The model folder of a run: complete, measured with the weights that are written, the same again."""

import numpy as np
import pytest
import torch

from geoseg.backends.architectures import load
from geoseg.backends.select import load_predictor
from geoseg.errors import InvalidModel
from geoseg.models.bundle import CARD, CONFIG, INT8, ONNX, WEIGHTS, load_folder
from geoseg.training import calibrate
from geoseg.training.data.read import read_data
from geoseg.training.data.sampler import Sampler
from geoseg.training.description import accuracy
from geoseg.training.network import make_network, save_weights
from geoseg.training.publish import measure, publish
from geoseg.training.recipe import make_recipe, read_recipe

pytestmark = pytest.mark.slow


class Parts:
    """What a run hands to `publish`, with a network that finds bright houses but was hardly trained."""

    def __init__(self, recipe):
        self.recipe = recipe
        self.split = read_data(recipe.data, recipe.validation, recipe.draws, recipe.base)
        self.sampler = Sampler(self.split.training, recipe.draws)
        self.start = make_network(recipe.model, len(recipe.data.bands), len(recipe.data.classes), recipe.seed)
        recipe.run_folder.mkdir(exist_ok=True)
        self.best = recipe.run_folder / "best"
        save_weights(self.start.network.eval(), self.start.config, self.best)

    def publish(self):
        return publish(self.recipe, self.split, self.sampler, self.start, self.best)


@pytest.fixture
def parts(recipe):
    return Parts(recipe)


def test_a_bundle_is_complete_and_says_what_was_measured(parts):
    parts.recipe.out.mkdir()
    (parts.recipe.out / "left over").touch()
    bundle = parts.publish()
    assert {path.name for path in bundle.path.iterdir()} == {CARD, CONFIG, ONNX, WEIGHTS}
    card = bundle.card
    assert (card.name, card.resolution_m, card.resolution_range) == ("tiny", 0.3, (0.2, 0.6))
    pixels = np.array([0.0, 255.0])
    scaled = (pixels * card.inputs.scale - card.inputs.mean[0]) / card.inputs.std[0]
    assert scaled.tolist() == [-1.0, 1.0], "the card scales as training did"
    network = load(bundle.path)
    assert all(torch.equal(value, value.half().float()) for value in network.parameters() if value.ndim > 1)
    # Measured again, with the weights that were written, the figures are the same.
    reading, scores = measure(network, parts.recipe, parts.split)
    gates = [None if one is None else one.gate for one in (reading.split, card.split)]
    assert (reading.rule.threshold, gates[0]) == (card.threshold, gates[1])
    assert reading.min_confidence == (card.min_confidence or 0)
    again = accuracy(scores, parts.split.validation, reading.rule, parts.recipe.draws.resolution_m, 2.25)
    figures = [figure.model_dump(exclude_none=True) for figure in bundle.document.properties.accuracy]
    assert figures == again, "hardly trained: no row on calibration"
    assert all(np.isfinite(figure["value"]) for figure in figures)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 96)).astype(np.float32)
    first, *others = (
        load_predictor(bundle, backend=backend, precision="f32")(image)
        for backend in ("pytorch", "openvino", "onnx")
    )
    for values in others:
        assert np.abs(values.astype(int) - first).max() <= 66, "1e-3 of certain"


def test_the_smallest_area_is_on_the_card_and_in_the_figures(recipe):
    card = recipe.card.model_copy(update={"min_area_m2": 7.0})
    bundle = Parts(recipe.model_copy(update={"card": card})).publish()
    assert bundle.card.min_area_m2 == 7.0
    notes = [
        figure.how for figure in bundle.document.properties.accuracy if figure.metric.startswith("object F1")
    ]
    assert notes
    assert all("from 7 m² on" in note for note in notes)


def test_int8_is_shipped_or_told_of(recipe, monkeypatch):
    pytest.importorskip("nncf")
    monkeypatch.setattr("geoseg.training.publish.TILES", 8)
    monkeypatch.setattr("geoseg.assessment.int8.LOSS_LIMIT", 100.0)
    bundle = Parts(
        recipe.model_copy(update={"card": recipe.card.model_copy(update={"int8": True})})
    ).publish()
    assert set(INT8) <= set(bundle.files)
    loss = bundle.document.properties.model_dump(by_alias=True)["geoseg:int8_loss_iou_points"]
    assert "2 places held out" in loss["where"]


def test_a_network_that_cannot_be_quantized_is_published_without(recipe, monkeypatch):
    def fail(*_, **__):
        raise InvalidModel("/tmp/x/model_int8.xml: OpenVINO cannot run it:\n shapes  differ")

    monkeypatch.setattr("geoseg.training.publish.ship_int8", fail)
    parts = Parts(recipe.model_copy(update={"card": recipe.card.model_copy(update={"int8": True})}))
    said = []
    bundle = publish(parts.recipe, parts.split, parts.sampler, parts.start, parts.best, on_event=said.append)
    assert not set(INT8) & set(bundle.files)
    assert "INT8 is not shipped: OpenVINO cannot run it: shapes differ" in [event.text for event in said]


def test_logits_are_scaled_by_what_was_fitted_and_the_card_says_so(parts, monkeypatch):
    monkeypatch.setattr(calibrate, "fit_logistic", lambda _: (0.5, -0.25))
    bundle = parts.publish()
    (row,) = [row for row in bundle.document.properties.accuracy if "calibration" in row.metric]
    assert "sigmoid(0.5 x + -0.25)" in row.how
    image = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    before, after = load(parts.best).eval(), load(bundle.path).eval()
    with torch.inference_mode():
        assert torch.allclose(after(image), before(image) * 0.5 - 0.25, atol=0.01)


def test_without_objects_in_any_place_the_threshold_is_one_half(recipe):
    validation = recipe.validation.model_copy(update={"places": recipe.validation.places[1:]})
    bundle = Parts(recipe.model_copy(update={"validation": validation})).publish()
    assert bundle.card.threshold == 0.5
    assert {figure.metric for figure in bundle.document.properties.accuracy} == {
        "false features per km²",
        "false area share",
    }


@pytest.mark.parametrize("arch", ["unet", "maskrcnn"])
def test_classes_keep_their_ids(recipe_path, recipe_dict, arch):
    import yaml

    anchors = {"anchors": [4.0, 8.0, 16.0, 32.0, 64.0]}
    details = recipe_dict["model"]["details"] if arch == "unet" else anchors
    recipe_dict["model"] |= {"arch": arch, "details": details}
    recipe_dict["data"]["chips"][0]["mask_values"] = {255: 7, 127: "ignore"}
    recipe_dict["data"]["classes"] = [
        {"id": 7, "name": "house", "color": [1, 2, 3]},
        {"id": 3, "name": "road", "color": [3, 2, 1]},
    ]
    recipe_path.write_text(yaml.safe_dump(recipe_dict))
    card = Parts(make_recipe(read_recipe(recipe_path), "r")).publish().card
    if arch == "unet":
        assert card.channels == (0, 7, 3)
        assert card.threshold < 0.01, "the likeliest class wins"
    else:
        assert card.channels == card.instances.labels == (7, 3)
        assert card.threshold == 0.5, "objects that score less are none"
    assert [info.name for info in card.classes] == ["house", "road"]


def test_nothing_to_publish_is_one_line(parts):
    import shutil

    shutil.rmtree(parts.best)
    with pytest.raises(InvalidModel, match="best"):
        parts.publish()
    assert not parts.recipe.out.exists()
    with pytest.raises(InvalidModel):
        load_folder(parts.recipe.out)
