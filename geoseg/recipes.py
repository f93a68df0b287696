"""Recipes for ``geoseg run``: one YAML file says what is done, with the options of the commands."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeGuard

import yaml  # type: ignore[import-untyped]
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from geoseg.archive.options import NOT_FOR_MANY, BatchOptions, MergeOptions, SelectOptions
from geoseg.errors import InvalidOption, UnwritableOutput, suggest
from geoseg.evaluation import NOT_FOR_RUNS, EvaluateOptions
from geoseg.files import replacing
from geoseg.options import Options, explain, path_text
from geoseg.prediction.options import PredictOptions
from geoseg.recipefiles import below, expand, merged, parse_change, place_of, read_layers
from geoseg.vector.diff import DiffOptions

_SAMPLE = re.compile(r"\.\./(sample_data/[\w.]*\w)")
_EXTENDS = re.compile(r"^extends: (\S+)", re.MULTILINE)

Source = Annotated[str, BeforeValidator(path_text)]
"""A file or URL that is read."""


class PredictRecipe(Options):
    """One scene to polygons."""

    kind: Literal["predict"]
    scene: Source
    out: Path
    predict: PredictOptions = PredictOptions()


class EvaluateRecipe(Options):
    """A prediction, or a model that is run over a scene, against the truth."""

    kind: Literal["evaluate"]
    truth: Source
    prediction: Source | None = None
    probability: Source | None = None
    scene: Source | None = None
    report: Path
    write: bool = False
    evaluate: EvaluateOptions = EvaluateOptions()
    predict: PredictOptions = PredictOptions()

    @property
    def out(self) -> Path:
        """What is written."""
        return self.report

    @model_validator(mode="after")
    def _run_alone(self) -> Self:
        for name in sorted(NOT_FOR_RUNS & self.predict.model_fields_set):
            raise ValueError(f"predict.{name} is not for an evaluation; leave it out")
        return self


def _asked_for(section: Any) -> Any:
    return {"merge": True, **section} if isinstance(section, dict) else section


class BatchRecipe(Options):
    """Many scenes to polygons, and with a section ``merge`` to one dataset."""

    kind: Literal["batch"]
    sources: Annotated[
        Annotated[tuple[Source, ...], Field(min_length=1)],
        BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
    ]
    out: Path
    batch: BatchOptions = BatchOptions()
    select: SelectOptions = SelectOptions()
    predict: PredictOptions = PredictOptions()
    merge: Annotated[MergeOptions, BeforeValidator(_asked_for)] = MergeOptions()

    @model_validator(mode="after")
    def _of_many(self) -> Self:
        for name in NOT_FOR_MANY:
            if name in self.predict.model_fields_set:
                instead = "give select.bbox" if name == "bbox" else "leave it out"
                raise ValueError(f"predict.{name} is for one scene; {instead}")
        return self


class DiffRecipe(Options):
    """What changed between two layers, or between two scenes, which are predicted first."""

    kind: Literal["diff"]
    old: Source
    new: Source
    out: Path
    diff: DiffOptions = DiffOptions()
    predict: PredictOptions = PredictOptions()


KINDS: Mapping[str, type[Options]] = {
    "predict": PredictRecipe,
    "evaluate": EvaluateRecipe,
    "batch": BatchRecipe,
    "diff": DiffRecipe,
}
"""What a recipe may be, apart from ``train``, see `geoseg.training.recipe`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A recipe that has been checked."""

    recipe: Any
    content: dict[str, Any]
    """What it says, all files and changes together: paths absolute, variables as they are written."""
    path: Path
    """The file."""

    def make_folder(self) -> None:
        """Make the folder that the result is to lie in.

        Raises
        ------
        UnwritableOutput
        """
        folder = Path(self.recipe.out).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableOutput(f"{folder}: cannot be made: {error.strerror}") from error

    def save(self) -> Path | None:
        """Write what the recipe says beside what it made; running that gives the same again.

        Returns
        -------
        Path or None
            ``NAME.recipe.yaml``, NAME being what was made without suffix; None if that is this recipe.
        """
        out = Path(self.recipe.out)
        target = out.with_name(f"{out.stem}.recipe.yaml")
        if target.resolve() == self.path.resolve():
            return None
        with replacing(target) as path:
            text = yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True, width=110)
            path.write_text(f"# Made {out.name}; again: geoseg run {target.name}\n{text}", encoding="utf-8")
        return target


def load(path: Path, changes: Sequence[str] = ()) -> Loaded:
    """Read and check a recipe.

    Parameters
    ----------
    changes : sequence of str
        ``KEY=VALUE``, such as ``predict.min_area=20``: said last. Paths in them are relative to the
        working folder.

    Raises
    ------
    InvalidOption
        One line that names file, line and key; an unknown key with the nearest that there is.
    """
    layers = read_layers(path)
    said = [parse_change(change) for change in changes]
    kind = str(merged([*(layer.content for layer in layers), *said]).get("kind", ""))
    if kind != "train" and kind not in KINDS:
        known = ("train", *KINDS)
        named = place_of(path, ["kind"], changes)
        if not kind:
            raise InvalidOption(f"{named}: has no kind, which says what to do: one of {', '.join(known)}")
        raise InvalidOption(f"{named}: kind: {kind!r} is none; {suggest(kind, known)}")
    if kind == "train":
        from geoseg.training import recipe as training
    with_paths = training.with_paths if kind == "train" else partial(_with_paths, KINDS[kind])
    folders = [(layer.content, layer.folder) for layer in layers] + [(one, Path.cwd()) for one in said]
    content = merged(with_paths(one, folder) for one, folder in folders)
    if kind == "train":
        content = {"base": str(layers[0].folder), **content}
        recipe = training.make_recipe(expand(content), lambda key: place_of(path, key, changes))
        return Loaded(recipe, content, path)
    try:
        return Loaded(KINDS[kind](**expand(content)), content, path)
    except InvalidOption as error:
        where, reason = _mistake(error, KINDS[kind])
        raise InvalidOption(f"{place_of(path, where, changes)}: {reason}") from error


def _with_paths(kind: type[Options], content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths among the options of a kind absolute."""
    placed = dict(content)
    for name in content.keys() & kind.model_fields.keys():
        field, value = kind.model_fields[name], content[name]
        if isinstance(value, dict) and _is_section(field.annotation):
            placed[name] = _with_paths(field.annotation, value, folder)
        elif name == "model":  # a name, or a folder or file beside the recipe
            there = below(folder, value)
            placed[name] = there if os.path.exists(expand(str(there))) else value
        elif _names_a_path((field.annotation, *field.metadata)):
            many = isinstance(value, list)
            placed[name] = [below(folder, one) for one in value] if many else below(folder, value)
    return placed


def _is_section(annotation: Any) -> TypeGuard[type[Options]]:
    return isinstance(annotation, type) and issubclass(annotation, Options)


def _names_a_path(parts: Sequence[Any]) -> bool:
    """Tell whether the type of a field, or what is within it, is that of a path."""
    return any(
        part is Path
        or (isinstance(part, BeforeValidator) and part.func is path_text)
        or _names_a_path(typing.get_args(part))
        for part in parts
    )


def _mistake(
    error: InvalidOption, kind: type[Options], above: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], str]:
    """Return the key of the first mistake in the section of a kind, and one line on it."""
    cause = error.__context__
    if not isinstance(cause, ValidationError):
        return above, str(error)
    mistakes = cause.errors(include_url=False)
    first = next((one for one in mistakes if one["type"] == "extra_forbidden"), mistakes[0])
    where = (*above, *map(str, first["loc"][:1]))
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, InvalidOption):
        annotation = kind.model_fields[where[-1]].annotation
        assert _is_section(annotation)
        return _mistake(inner, annotation, where)
    if first["type"] == "extra_forbidden":
        return where, f"{'.'.join(where)}: no such key; {suggest(where[-1], kind.model_fields)}"
    if first["type"] == "missing":
        return where, f"{'.'.join(where)} is missing; give it"
    return where, explain(cause, kind.model_fields, lambda name: ".".join((*above, name)))


def write_example(name: str, folder: Path, *, overwrite: bool) -> list[Path]:
    """Write an example into `folder`: the recipe, first, those that it extends, and its part of the sample.

    Paths in it are those that hold there.

    Raises
    ------
    InvalidOption
        If there is no such example.
    UnwritableOutput
        If a recipe of the name exists and `overwrite` is False.
    """
    here = Path(__file__).parent
    root = here / "examples" if (here / "examples").is_dir() else here.parent  # a checkout
    known = sorted(path.stem for path in root.glob("pipelines/*.yaml"))
    if name not in known:
        raise InvalidOption(f"--example {name}: there is no such recipe; {suggest(name, known)}")
    text = (root / "pipelines" / f"{name}.yaml").read_text("utf-8")
    written = folder / f"{name}.yaml"
    with replacing(written, overwrite=overwrite) as path:
        path.write_text(text.replace("../", ""), "utf-8")
    for part in sorted(set(_SAMPLE.findall(text))):
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            with replacing(target) as path:
                path.write_bytes((root / part).read_bytes())
    parents = [Path(parent).stem for parent in _EXTENDS.findall(text)]
    return [written, *(path for parent in parents for path in write_example(parent, folder, overwrite=True))]
