"""Make the zip that QGIS installs: the plugin, and the wheel of geoseg that it may install for itself.

``python qgis/package.py`` writes it; ``--parameters`` only writes geoseg/parameters.json, from the options.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import sys
import tempfile
import types
import typing
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "qgis/geoseg"
PARAMETERS = PLUGIN / "parameters.json"

COMMANDS = {
    "predict": "Predict: objects of a scene",
    "plan": "Plan: what a prediction would take",
    "vectorize": "Vectorize: polygons of classes or probabilities",
    "regularize": "Regularize: straight walls",
    "diff": "Diff: what changed between two layers",
    "evaluate": "Evaluate: a prediction or a model against the truth",
    "batch": "Batch: objects of many scenes",
}
"""Commands that are algorithms, and what these are called."""

KINDS = {
    "scene": "raster",
    "vectorize raster": "raster",
    "probability": "raster",
    "file": "polygons",
    "old": "polygons",
    "new": "polygons",
    "aoi": "polygons",
    "labelled_area": "polygons",
    "truth": "layer",
    "prediction": "layer",
    "batch sources": "sources",
    "out": "new polygons",
    "predict raster": "new raster",
    "batch raster": "folder",
    "batch out": "new folder",
    "report": "new page",
    "bbox": "extent",
    "crs": "crs",
    "merge_crs": "crs",
}
"""Options that are more to QGIS than text and numbers, where needed with their command."""

LEFT_OUT = {"debug", "as_json", "progress", "quiet", "overwrite", "status", "bbox_crs"}
LEFT_OUT |= {"plan out", "plan raster", "plan raster_content", "plan raster_resolution"}
"""What the plugin gives by itself, or has no use for."""

FIRST = {"scene", "sources", "out", "model", "aoi", "bbox", "threshold", "min_area", "raster", "truth"}
FIRST |= {"prediction", "probability", "report", "classes", "regularize", "format", "dry_run", "merge"}
"""Options that are seen at once; where there are many, others are advanced."""

LABELS = {
    "out": "Polygons",
    "batch out": "Results",
    "aoi": "Area (polygons)",
    "bbox": "Area (extent)",
    "predict raster": "Raster",
    "batch raster": "Folder of rasters",
    "split": "Split objects that touch",
    "tta": "Average over mirror images",
    "where": "Where (CQL2)",
    "allow_host": "Hosts that lists may lead to",
    "report": "Report",
    "crs": "CRS of the polygons",
    "file": "Polygons to regularize",
    "old": "Old layer",
    "new": "New layer",
    "iou": "IoU of what is unchanged",
    "min_area": "Smallest area",
    "min_hole": "Smallest hole",
    "min_confidence": "Lowest confidence",
    "max_deviation": "Largest deviation",
    "max_memory": "Most memory",
    "merge_crs": "CRS of the dataset",
}
UNITS = {"M": "m", "M2": "m²", "PX": "pixels"}


def described() -> list[dict[str, Any]]:
    """Return the algorithms and their parameters, made from the options of the commands."""
    from geoseg.archive.options import BatchOptions, MergeOptions, SelectOptions
    from geoseg.cli import cli
    from geoseg.evaluation import EvaluateOptions
    from geoseg.prediction.classraster import VectorizeOptions
    from geoseg.prediction.options import PredictOptions
    from geoseg.vector.diff import DiffOptions
    from geoseg.vector.straighten import RegularizeOptions

    kinds: dict[str, tuple[Any, ...]] = {
        "vectorize": (VectorizeOptions,),
        "regularize": (RegularizeOptions,),
        "diff": (DiffOptions,),
        "evaluate": (PredictOptions, EvaluateOptions),
        "batch": (PredictOptions, BatchOptions, MergeOptions, SelectOptions),
    }
    algorithms = []
    for name, title in COMMANDS.items():
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        fields = {
            key: field
            for kind in kinds.get(name, (PredictOptions,))
            for key, field in kind.model_fields.items()
        }
        options = {option.name: option for option in command.params}
        layers = {f"{key}_layer": key for key in options} | {"layer": "file"}
        about = " ".join(command.help.partition("\b")[0].split())
        parameters = [
            _parameter(name, option, fields.get(key), options)
            for key, option in options.items()
            if not {key, f"{name} {key}"} & LEFT_OUT and layers.get(key) not in options
        ]
        algorithms.append(
            {
                "name": name,
                "title": title,
                "help": about,
                "overwrite": "overwrite" in options,
                "parameters": parameters,
            }
        )
    return algorithms


def _parameter(command: str, option: Any, field: Any, options: Any) -> dict[str, Any]:
    name, key = option.name, f"{command} {option.name}"
    unit = UNITS.get(getattr(option, "metavar", None) or "")
    label = LABELS.get(key) or LABELS.get(name) or name.rstrip("_").replace("_", " ").capitalize()
    argument = option.param_type_name == "argument"
    found = {
        "name": name,
        "flag": None if argument else option.opts[0],
        "label": f"{label} [{unit}]" if unit else label,
        "help": (getattr(option, "help", None) or "").replace("auto:", "unless given,"),
        **_kind(option, field),
        "optional": not option.required,
        "advanced": name not in FIRST and len(options) > 20,
    }
    kind = KINDS.get(key) or KINDS.get(name)
    if kind is not None:
        found |= {"kind": kind, "default": None}
    if kind == "extent":
        found["help"] = "Only inside this box, in any CRS."
    layer = next((one for one in (f"{name}_layer", "layer") if one in options), None)
    if kind in {"polygons", "layer"} and layer is not None:
        found["layer"] = options[layer].opts[0]
    return found


def _kind(option: Any, field: Any) -> dict[str, Any]:
    """Return what an option takes, its choices and its default."""
    default = option.default if isinstance(option.default, str | int | float) else None
    default = None if field is not None and field.default == "auto" else default
    if getattr(option, "is_flag", False):
        off = option.secondary_opts[0] if option.secondary_opts else None
        return {"kind": "flag", "off": off, "default": field.default if field else False}
    words = list(getattr(option.type, "choices", ())) or _words(field)
    if words:
        return {"kind": "choice", "choices": words, "default": field.default if field else default}
    number = None if field is None or option.metavar == "SIZE" else _number(field.annotation)
    if number is not None:
        return {"kind": "integer" if number is int else "number", "default": default}
    return {"kind": "several" if option.multiple else "text", "default": default}


def _words(field: Any) -> list[str]:
    """Return the words that a field takes, if it takes nothing else but None."""
    parts = [] if field is None else _parts(field.annotation)
    if any(typing.get_origin(one) is not Literal for one in parts):
        return []
    return [word for one in parts for word in typing.get_args(one)]


def _number(annotation: Any) -> type | None:
    """Return int or float where a value is one number, besides a word for the default."""
    found = {one for one in _parts(annotation) if typing.get_origin(one) is not Literal}
    return next((one for one in (int, float) if found == {one}), None)


def _parts(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is Annotated:
        return _parts(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        return [part for one in typing.get_args(annotation) for part in _parts(one)]
    return [] if annotation is type(None) else [annotation]


def written() -> str:
    """Return the text of parameters.json."""
    return json.dumps(described(), indent=1, ensure_ascii=False) + "\n"


def package(out: Path) -> None:
    """Write the zip."""
    import hatchling.build

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        os.chdir(ROOT)
        wheel = hatchling.build.build_wheel(folder)
        for path in sorted(PLUGIN.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".whl":
                packed.write(path, path.relative_to(PLUGIN.parent))
        packed.write(ROOT / "LICENSE", "geoseg/LICENSE")
        packed.write(Path(folder, wheel), f"geoseg/{wheel}")


def main() -> None:
    """Do what the command line says."""
    about = configparser.ConfigParser()
    about.read(PLUGIN / "metadata.txt", encoding="utf-8")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parameters", action="store_true", help="only write geoseg/parameters.json")
    parser.add_argument("--out", type=Path, default=Path(f"geoseg-qgis-{about['general']['version']}.zip"))
    given = parser.parse_args()
    PARAMETERS.write_text(written(), encoding="utf-8")
    if not given.parameters:
        package(given.out.resolve())
        sys.stderr.write(f"wrote      {given.out}\n")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # `geoseg` is the package, not the plugin beside this file
    main()
