"""From a few flags to a recipe: what a run on one's own scenes needs, with defaults from the scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.errors import InvalidOption

_JITTER = 1.5
_SAMPLE = 256
_GUARD_M = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for on the command line beside, or in place of, a recipe.

    Parameters
    ----------
    scenes : tuple of str
        Scenes to train on.
    labels : tuple of Path
        Labels of each scene, in their order.
    chips : tuple of Path
        An ``index.csv``, or a folder with ``images`` and ``masks``.
    labelled_area : Path or None
        Where labels of all scenes are complete.
    labels_layer, labelled_area_layer : str or None
        Layers of these files; None: the only one that holds polygons.
    class_attribute : str or None
        Attribute of the polygons that holds the class.
    classes : tuple of str
        Names of the classes; none: all values of the attribute, or ``building``.
    chip_pixel_m : float or None
        Ground size of a pixel of chips in folders; None: from their georeference.
    bands : tuple of str
        Names of the bands; none: red, green, blue.
    band_numbers : tuple of int
        Their numbers in every scene, from 1; none: by colour.
    held_out : tuple of str
        Scenes (by name), or chips (shell patterns of their stems; each is a validation place), that are
        never trained on.
    resolution_m : float or None
        Ground size of a pixel; None: that of the model that training starts from, else the
        coarsest scene's.
    """

    scenes: tuple[str, ...] = ()
    labels: tuple[Path, ...] = ()
    chips: tuple[Path, ...] = ()
    labelled_area: Path | None = None
    labels_layer: str | None = None
    labelled_area_layer: str | None = None
    class_attribute: str | None = None
    classes: tuple[str, ...] = ()
    chip_pixel_m: float | None = None
    bands: tuple[str, ...] = ()
    band_numbers: tuple[int, ...] = ()
    held_out: tuple[str, ...] = ()
    resolution_m: float | None = None


def make_content(request: Request, recipe: Mapping[str, Any] | None, start: str | None) -> dict[str, Any]:
    """Return the content of a recipe, see `geoseg.training.recipe.make_recipe`.

    Parameters
    ----------
    request : Request
        What the flags say.
    recipe : mapping or None
        Content of a recipe, which has its data already.
    start : str or None
        Model that training starts from.

    Raises
    ------
    InvalidOption
        If flags contradict each other or the recipe, or name nothing to train on.
    UnreadableScene, InvalidModel
        If a scene or model that defaults are taken from cannot be read.
    """
    if recipe is not None:
        if request != Request():
            raise InvalidOption(
                "the recipe says what data to train on; give either a recipe, or --scene and --chips"
            )
        return dict(recipe)
    if len(request.scenes) != len(request.labels):
        raise InvalidOption(
            f"{len(request.scenes)} --scene and {len(request.labels)} --labels: each scene needs its own"
        )
    if not request.scenes and not request.chips:
        raise InvalidOption("nothing to train on: give a recipe, --scene with --labels, or --chips")
    resolution = _resolution(request, start)
    return {
        "base": str(Path.cwd()),
        "data": _data(request),
        "validation": _validation(request, resolution),
        "draws": {
            "resolution_m": resolution,
            "smallest_m": resolution / _JITTER,
            "largest_m": resolution * _JITTER,
            "negative_share": 0.0 if not request.chips else 0.2,
        },
    }


def _data(request: Request) -> dict[str, Any]:
    from geoseg.models.card import class_color

    names = request.classes or _discovered(request)
    classes = [
        {"id": number, "name": name, "color": class_color(number)} for number, name in enumerate(names, 1)
    ]
    shared: dict[str, Any] = {
        "class_attribute": request.class_attribute,
        "labelled_area": request.labelled_area,
        "labels_layer": request.labels_layer,
        "labelled_area_layer": request.labelled_area_layer,
        "bands": request.band_numbers or None,
    }
    data: dict[str, Any] = {
        "classes": classes,
        "scenes": [
            {"scene": scene, "labels": labels, "name": name, **shared}
            for scene, labels, name in zip(
                request.scenes, request.labels, scene_names(request.scenes), strict=True
            )
        ],
        "chips": [_chips(path, request.chip_pixel_m) for path in request.chips],
    }
    return data | ({"bands": list(request.bands)} if request.bands else {})


def _chips(path: Path, pixel_m: float | None) -> dict[str, Any]:
    if path.is_dir() and not (path / "index.csv").exists():
        folders = {"images": path / "images", "masks": path / "masks"}
        return folders | {"source": path.resolve().name, "gsd_m": pixel_m}
    return {"index": path / "index.csv" if path.is_dir() else path}


def _validation(request: Request, resolution_m: float) -> dict[str, Any]:
    names = scene_names(request.scenes)
    whole = [name for name in request.held_out if name in names]
    patterns = [name for name in request.held_out if name not in names]
    if patterns and not request.chips:
        raise InvalidOption(f"--hold-out {patterns[0]}: no scene is called so; there are {', '.join(names)}")
    if not names and not patterns:
        raise InvalidOption("chips need --hold-out PATTERN: names of those that are kept for validation")
    places = [{"name": pattern, "source": "*", "stems": [pattern]} for pattern in patterns]
    blocks = None if whole or not names else _blocks(request.scenes, resolution_m)
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


def parse_named_bands(text: str | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Parse ``red,green,blue``, or ``red=4,green=3,blue=2`` with the bands' numbers in the scenes.

    Raises
    ------
    InvalidOption
        If it is neither.
    """
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    pairs = [tuple(part.strip() for part in word.partition("=")[::2]) for word in words]
    names, numbers = tuple(name for name, _ in pairs), [number for _, number in pairs if number]
    right = all(names) and not any(name.isdecimal() for name in names)
    if not right or len(numbers) not in (0, len(names)) or not all(map(_is_band_number, numbers)):
        raise InvalidOption(
            f"--bands {text}: takes names, such as red,green,blue, or names with their numbers in the "
            "scenes, such as red=4,green=3,blue=2"
        )
    return names, tuple(map(int, numbers))


def _is_band_number(text: str) -> bool:
    return text.isdecimal() and int(text) >= 1


def _blocks(scenes: Sequence[str], resolution_m: float) -> dict[str, float]:
    """Return squares as large as a sample, but so small that 25 of them fit into the smallest scene."""
    from geoseg.raster.scene import open_scene

    smallest = min(size * _ground_m(path) for path in scenes for size in open_scene(path).geobox.shape)
    side = min(_SAMPLE * resolution_m, smallest / 5)
    return {"side_m": side, "guard_m": min(_GUARD_M, side / 10)}


def _discovered(request: Request) -> Sequence[str]:
    """Return the values of the class attribute in all labels, sorted."""
    if request.class_attribute is None:
        return ("building",)
    from geoseg.labels.classes import ClassTable, text_of
    from geoseg.labels.files import is_vector
    from geoseg.labels.polygons import read_polygons

    attribute, layer = request.class_attribute, request.labels_layer
    values: set[str] = set()
    for path in request.labels:
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


def _resolution(request: Request, start: str | None) -> float:
    if request.resolution_m is not None:
        return request.resolution_m
    if start is not None:
        from geoseg.models.bundle import find_model

        own = find_model(start).card.resolution_m
        if own is not None:
            return own
    if not request.scenes:
        raise InvalidOption(
            "chips need --resolution METRES, the ground size of a pixel that the model works at"
        )
    return float(f"{max(map(_ground_m, request.scenes)):.2g}")


def _ground_m(path: str) -> float:
    """Return the ground size of a scene's pixel, the larger of its two sides, in metres."""
    from geoseg.raster.describe import ground_resolution
    from geoseg.raster.scene import open_scene

    found = ground_resolution(open_scene(path).geobox)
    if found is None:
        raise InvalidOption(f"{path}: its place on the ground is not known; give it a CRS, or train on chips")
    return max(found)
