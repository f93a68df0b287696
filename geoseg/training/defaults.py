"""The recipe that options make: what they do not say is taken from the scenes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from geoseg.errors import InvalidOption
from geoseg.options import flag
from geoseg.recipefiles import place_of
from geoseg.training.options import KEYS, TrainOptions
from geoseg.training.recipe import Recipe, make_recipe, read_recipe

_JITTER = 1.5
_SAMPLE = 256
_GUARD_M = 10.0

_SPELLED = {key: flag(name) for name, key in KEYS.items()} | {
    "data.scenes": "--scene",
    "data.chips": "--chips",
    "data.classes": "--class",
    "data.bands": "--bands",
    "validation": "--hold-out",
    "out": "--out",
}


def recipe_of(options: TrainOptions, recipe: Path | None = None, out: Path | None = None) -> Recipe:
    """Return the recipe that options, a recipe's file, or both say.

    Parameters
    ----------
    options : TrainOptions
        Change what the recipe says; without a recipe, they say what data to train on.
    out : Path, optional
        Model folder to write; may be left to the recipe.

    Raises
    ------
    InvalidOption
        If options contradict the recipe, a value of either is wrong (the option is named where it was
        typed, the key where the recipe says it), or there is nothing to train on.
    UnreadableScene, InvalidModel
        If a scene or model that defaults are taken from cannot be read.
    """
    content = make_content(options, None if recipe is None else read_recipe(recipe))
    if out is not None:
        content["out"] = os.path.abspath(out)
    if "out" not in content:
        raise InvalidOption("--out is missing: the model folder to write")
    if options.start and isinstance(content.get("model"), dict):  # in place of what the recipe begins with
        content["model"] = {key: value for key, value in content["model"].items() if key != "weights"}
    for name, key in KEYS.items():
        if (value := getattr(options, name)) not in (None, ()):
            _put(content, key, value)
    return make_recipe(content, partial(place_of, recipe) if recipe else _option_of)


def _option_of(key: Sequence[str | int]) -> str:
    """Return the option that a key of the recipe was made from."""
    dotted = ".".join(map(str, key))
    return next((text for name, text in _SPELLED.items() if f"{dotted}.".startswith(f"{name}.")), "options")


def _put(content: dict[str, Any], key: str, value: object) -> None:
    """Set a key such as ``optimization.steps``; a section that is none is left for the check to refuse."""
    section, _, name = key.rpartition(".")
    if not section:
        content[name] = value
        return
    present = content.get(section) or {}
    if isinstance(present, dict):
        content[section] = present | {name: value}


def make_content(options: TrainOptions, recipe: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the content of a recipe as far as it says what to train on.

    Parameters
    ----------
    recipe : mapping or None
        Content of a recipe, which has its data already.

    Raises
    ------
    InvalidOption
        If the options contradict the recipe, or name nothing to train on.
    UnreadableScene, InvalidModel
        If a scene or model that defaults are taken from cannot be read.
    """
    if recipe is not None:
        if options.data:
            raise InvalidOption(
                "the recipe says what data to train on; give either a recipe or "
                f"{flag(next(iter(options.data)))}"
            )
        return dict(recipe)
    if not options.scene and not options.chips:
        raise InvalidOption("nothing to train on: give a recipe, --scene with --labels, or --chips")
    resolution = _resolution(options)
    return {
        "base": str(Path.cwd()),
        "data": _data(options),
        "validation": _validation(options, resolution),
        "draws": {
            "resolution_m": resolution,
            "smallest_m": resolution / _JITTER,
            "largest_m": resolution * _JITTER,
            "negative_share": 0.0 if not options.chips else 0.2,
        },
    }


def _data(options: TrainOptions) -> dict[str, Any]:
    from geoseg.models.card import class_color

    names = options.class_ or _discovered(options)
    classes = [
        {"id": number, "name": name, "color": class_color(number)} for number, name in enumerate(names, 1)
    ]
    shared: dict[str, Any] = {
        "class_attribute": options.class_attribute,
        "labelled_area": options.labelled_area,
        "labels_layer": options.labels_layer,
        "labelled_area_layer": options.labelled_area_layer,
        "bands": (options.bands and options.bands.numbers) or None,
    }
    data: dict[str, Any] = {
        "classes": classes,
        "scenes": [
            {"scene": scene, "labels": labels, "verdicts": verdicts, "name": name, **shared}
            for scene, labels, verdicts, name in zip(
                options.scene,
                options.labels,
                options.verdicts or [None] * len(options.scene),
                scene_names(options.scene),
                strict=True,
            )
        ],
        "chips": [_chips(path, options.chip_pixel) for path in options.chips],
    }
    return data | ({"bands": options.bands.names} if options.bands else {})


def _chips(path: Path, pixel_m: float | None) -> dict[str, Any]:
    if path.is_dir() and not (path / "index.csv").exists():
        folders = {"images": path / "images", "masks": path / "masks"}
        return folders | {"source": path.resolve().name, "gsd_m": pixel_m}
    return {"index": path / "index.csv" if path.is_dir() else path}


def _validation(options: TrainOptions, resolution_m: float) -> dict[str, Any]:
    names = scene_names(options.scene)
    whole = [name for name in options.hold_out if name in names]
    patterns = [name for name in options.hold_out if name not in names]
    if patterns and not options.chips:
        raise InvalidOption(f"--hold-out {patterns[0]}: no scene is called so; there are {', '.join(names)}")
    if not names and not patterns:
        raise InvalidOption("chips need --hold-out PATTERN: names of those that are kept for validation")
    places = [{"name": pattern, "source": "*", "stems": [pattern]} for pattern in patterns]
    blocks = None if whole or not names else _blocks(options.scene, resolution_m)
    return {"scenes": whole, "places": places, "blocks": blocks}


def scene_names(scenes: Sequence[str]) -> list[str]:
    """Return what scenes are called: the stems of their files, with the folders above where two are alike.

    Examples
    --------
    >>> scene_names(["2020/town.tif", "2024/town.tif", "wood.tif"])
    ['2020/town', '2024/town', 'wood']
    """
    parts = [Path(scene.rstrip("/")).with_suffix("").parts for scene in scenes]
    names = [part[-1] for part in parts]
    for depth in range(2, max(map(len, parts), default=0) + 1):
        names = [
            "/".join(part[-depth:]) if names.count(name) > 1 else name
            for part, name in zip(parts, names, strict=True)
        ]
    return names


def _blocks(scenes: Sequence[str], resolution_m: float) -> dict[str, float]:
    """Return squares as large as a sample, but so small that 25 of them fit into the smallest scene."""
    from geoseg.raster.scene import open_scene

    smallest = min(size * _ground_m(path) for path in scenes for size in open_scene(path).geobox.shape)
    side = min(_SAMPLE * resolution_m, smallest / 5)
    return {"side_m": side, "guard_m": min(_GUARD_M, side / 10)}


def _discovered(options: TrainOptions) -> Sequence[str]:
    """Return the values of the class attribute in all labels, sorted."""
    if options.class_attribute is None:
        return ("building",)
    from geoseg.labels.classes import ClassTable, text_of
    from geoseg.labels.polygons import is_vector, read_polygons

    attribute, layer = options.class_attribute, options.labels_layer
    values: set[str] = set()
    for path in options.labels:
        if not is_vector(path):
            raise InvalidOption(
                f"--class-attribute is for polygons, and {path} is a mask; name its classes (--class)"
            )
        found_in = read_polygons(path, layer=layer, columns=(attribute,))
        values |= set(map(text_of, found_in.values(attribute)))
    _, found = ClassTable(()).extended(sorted(values))
    if not found:
        raise InvalidOption(f"--class-attribute {attribute}: names no class in any labels")
    return found


def _resolution(options: TrainOptions) -> float:
    if options.resolution is not None:
        return options.resolution
    if options.start:
        from geoseg.models.bundle import find_model

        own = find_model(options.start[0]).card.resolution_m
        if own is not None:
            return own
    if not options.scene:
        raise InvalidOption(
            "chips need --resolution METRES, the ground size of a pixel that the model works at"
        )
    return float(f"{max(map(_ground_m, options.scene)):.2g}")


def _ground_m(path: str) -> float:
    """Return the ground size of a scene's pixel, the larger of its two sides, in metres."""
    from geoseg.raster.describe import ground_resolution
    from geoseg.raster.scene import open_scene

    found = ground_resolution(open_scene(path).geobox)
    if found is None:
        raise InvalidOption(f"{path}: its place on the ground is not known; give it a CRS, or train on chips")
    return max(found)
