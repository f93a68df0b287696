"""What a model reaches on each place that a recipe holds out: a table, and maps of right and wrong.

    python benchmarks/places.py MODEL_FOLDER RECIPE.yaml FOLDER_FOR_MAPS

The maps show no imagery, which is not ours to pass on: blue is found, orange missed, purple wrongly
found (colours that the colour-blind tell apart), grey unknown.
"""

import math
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoseg.backends import architectures
from geoseg.grid import classify
from geoseg.labels.classes import IGNORE
from geoseg.models.bundle import load_folder
from geoseg.prediction.view import smallest_object_m2
from geoseg.training.data.read import read_data
from geoseg.training.recipe import make_recipe, read_recipe
from geoseg.training.validate import Answer, Reading, answers, score, total
from geoseg.values import ClassRule
from geoseg.vector.pieces import PLAIN, Calibration
from geoseg.vector.split import SplitRule

LARGEST = 512
COLORS = np.array([[255, 255, 255], [0, 114, 178], [230, 159, 0], [204, 121, 167], [150, 150, 150]], np.uint8)


def main(model: Path, recipe_path: Path, out: Path) -> None:
    """Print the table and write the maps."""
    bundle = load_folder(model)
    recipe = make_recipe(read_recipe(recipe_path), str(recipe_path))
    ground = read_data(recipe.data, recipe.validation, recipe.draws, recipe.base)
    network, card = architectures.load(bundle.path), bundle.card
    pixel_m = card.resolution_m
    if pixel_m is None:
        raise SystemExit(f"{model}: its card does not say what resolution it was trained on")
    smallest = smallest_object_m2(card.min_area_m2, pixel_m)
    split = SplitRule(card.split.gate, card.split.smallest_m2 / pixel_m**2) if card.split else None
    calibration = Calibration(card.confidence.slope, card.confidence.intercept) if card.confidence else PLAIN
    reading = Reading(card.rule, split, card.min_confidence or 0.0, calibration)
    out.mkdir(parents=True, exist_ok=True)
    print(
        "| place | pieces | km² | pixel IoU | object F1@0.5 | precision | recall | false features per km² |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, grounds in ground.validation.items():
        found = list(answers(network, grounds, pixel_m, card.activation))
        whole = total((score(one, reading, pixel_m, min_area_m2=smallest) for one in found), card.rule)
        pixels = whole.pixels[0]
        figures = [whole.iou, whole.f1, pixels.precision, pixels.recall]
        cells = ["–" if math.isnan(value) else f"{value:.2f}" for value in figures]
        print(
            f"| {name} | {len(grounds)} | {whole.area_m2 / 1e6:.3f} | {' | '.join(cells)} "
            f"| {whole.false_per_km2:.0f} |"
        )
        if whole.built:
            draw(found, card.rule, out / f"{name}.png")


def draw(found: Sequence[Answer], rule: ClassRule, path: Path) -> None:
    """Write the four pieces that are richest in objects side by side."""
    richest = sorted(found, key=lambda one: -float(((one.labels > 0) & (one.labels < IGNORE)).sum()))
    panels = [difference(one, rule)[:LARGEST, :LARGEST] for one in islice(richest, 4)]
    height = max(panel.shape[0] for panel in panels)
    sheet = [np.pad(panel, ((0, height - len(panel)), (0, 6)), constant_values=0) for panel in panels]
    image = Image.fromarray(np.hstack(sheet)[:, :-6], "P")
    image.putpalette(COLORS.tobytes())
    image.save(path, optimize=True)


def difference(one: Answer, rule: ClassRule) -> NDArray[np.uint8]:
    """Return 0 for ground, 1 found, 2 missed, 3 wrongly found, 4 unknown."""
    predicted = classify(one.values, rule)
    truth = np.where(one.labels == IGNORE, 0, one.labels)
    result = np.where(truth > 0, np.where(predicted == truth, 1, 2), np.where(predicted > 0, 3, 0))
    return np.where(one.labels == IGNORE, 4, result).astype(np.uint8)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
