"""What a run over an archive would do and take, without running it: ``geoseg batch --dry-run``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from geoseg.archive.entries import Entry
from geoseg.archive.facts import Look, Looked, SceneFacts
from geoseg.archive.manifest import FINISHED, Result, made_of, read_status
from geoseg.archive.options import BatchOptions, SelectOptions
from geoseg.archive.places import Places, make_folder
from geoseg.archive.run import select_scenes, shared_options
from geoseg.archive.selection import COMPUTES, digest_of, facts_of, why_do, why_refused
from geoseg.errors import GeosegError
from geoseg.models.bundle import find_model
from geoseg.prediction.options import PredictOptions

VECTOR_BYTES, RASTER_BYTES = 0.02, 0.26
"""Bytes of a result for each pixel of the scene, where no result is there to go by: those of the sample."""

SCENE_SECONDS = 0.06
"""What a scene takes beyond its tiles: opening, deciding, putting in place."""

TRIALS = 5
"""Scenes that are tried for measuring the pace."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do."""

    scenes: tuple[ScenePreview, ...]
    """All that are meant."""
    left_out: Mapping[str, int]
    """How many of those that the sources name are not, by reason."""
    refused: str
    """Why the run would refuse to begin; empty where it would not."""
    seconds: float | None
    """Wall time on this machine; None where nothing is to do."""
    size: float
    """Bytes on the disk of what would be written."""


@dataclass(frozen=True, slots=True)
class ScenePreview:
    """A scene, and what would become of it."""

    entry: Entry
    facts: SceneFacts | None
    """None where it cannot be read."""
    state: str
    """``done``, ``todo``, ``redo``, or what had become of it and would be left so; ``unreadable``."""
    why: str
    """Why it would be done, or was not; empty for what is done."""

    @property
    def pixels(self) -> int:
        """Of the scene; 0 where it cannot be read."""
        return 0 if self.facts is None else self.facts.height * self.facts.width

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        facts = self.facts
        return {
            "name": self.entry.name,
            "location": self.entry.location,
            "state": self.state,
            "why": self.why,
            "size": None if facts is None else [facts.width, facts.height],
            "pixels": self.pixels,
            "datetime": self.entry.datetime,
            "bbox": self.entry.bbox,
            "resolution_m": None if facts is None else facts.resolution,
        }


def preview(
    sources: Sequence[str],
    out: Path,
    options: PredictOptions,
    batch: BatchOptions | None = None,
    wanted: SelectOptions | None = None,
    on_event: Callable[[Looked], None] = lambda _: None,
) -> Preview:
    """Look at all scenes and say what a run would do; parameters as for `geoseg.archive.run.run_batch`.

    Raises
    ------
    GeosegError
        If a source, the folder or the options cannot be used, or no scene is meant.
    """
    batch = batch or BatchOptions()
    folder, bundle = make_folder(out), find_model(options.model)
    chosen = select_scenes(
        sources, folder, options, batch, wanted or SelectOptions(), bundle, on_event, opening=True
    )
    shared = shared_options(options, bundle)
    known, before = _known(folder)
    facts = facts_of(shared, bundle, chosen.area, batch.format, raster=options.raster is not None)
    made = {**facts, COMPUTES: before.get(COMPUTES)}
    raster = None if options.raster is None else options.raster.absolute()
    places = Places(folder, raster, "", f".{batch.format}")
    digest, retried = digest_of(made), batch.retry is not None
    scenes, refusals = [], []
    for entry in chosen.entries:
        look, earlier = chosen.looks[entry.name], known.get(entry.name)
        new = replace(Result.of(entry), identity=look.identity)
        why = why_do(earlier, new, digest, places, retried=retried)
        scenes.append(_scene_preview(entry, look, earlier, why))
        if earlier is not None and not batch.redo:
            refusals.append(why_refused(earlier, new, why, before, made))
    todo = [scene for scene in scenes if scene.state in ("todo", "redo")]
    refused = next((f"{out}: {refusal}" for refusal in refusals if refusal), "")
    return Preview(
        tuple(scenes),
        chosen.left_out,
        refused,
        _seconds(todo, shared, bundle.card.resolution_m),
        _bytes_a_pixel(folder, known.values(), options.raster is not None) * sum(one.pixels for one in todo),
    )


def _scene_preview(entry: Entry, look: Look, earlier: Result | None, why: str) -> ScenePreview:
    if entry.problem:
        return ScenePreview(entry, None, "unreadable", entry.problem)
    if earlier is not None and not why:
        return ScenePreview(entry, look.facts, earlier.state, earlier.reason)
    redone = earlier is not None and earlier.state in FINISHED
    return ScenePreview(entry, look.facts, "redo" if redone else "todo", why)


def _known(folder: Path) -> tuple[dict[str, Result], dict[str, Any]]:
    """Return what earlier runs have told of their scenes, and what they made results with."""
    if not any(folder.glob("status*.json")):
        return {}, {}
    names = {one.name for one in fields(Result)}
    statuses = read_status(folder)
    scenes = [
        {key: one[key] for key in names & one.keys()} for status in statuses for one in status["scenes"]
    ]
    results = {one["name"]: Result(**{**one, "files": tuple(one["files"])}) for one in scenes}
    return results, made_of(statuses)


def _seconds(todo: Sequence[ScenePreview], options: PredictOptions, resolution: float | None) -> float | None:
    """Return the wall time on this machine: tiles at a pace that is measured on one scene."""
    from geoseg.prediction.estimate import estimate
    from geoseg.prediction.view import working_grid

    measured = None
    for scene in todo[:TRIALS]:
        alone = {"aoi": None, "aoi_layer": None, "bands": options.bands or scene.entry.bands}
        with contextlib.suppress(GeosegError):  # which its own run will tell
            measured = estimate(scene.entry.location, options.model_copy(update=alone), lambda _: None)
            break
    if measured is None or measured.pace is None:
        return None
    tile = measured.plan.tiles.rows
    grids = [working_grid(one.facts.grid, one.facts.resolution, resolution) for one in todo if one.facts]
    tiles = sum(len(replace(tile, n=grid.height)) * len(replace(tile, n=grid.width)) for grid in grids)
    pixels = sum(grid.height * grid.width for grid in grids)
    return measured.pace.seconds(tiles, pixels) + SCENE_SECONDS * len(todo)


def _bytes_a_pixel(folder: Path, results: Iterable[Result], raster: bool) -> float:
    """Return what results take for each pixel of their scenes, by those that are there."""
    sizes = pixels = 0
    for result in results:
        paths = [folder / path for path in result.files]
        if result.state == "done" and result.pixels and all(path.exists() for path in paths):
            sizes += sum(path.stat().st_size for path in paths)
            pixels += result.pixels
    return sizes / pixels if pixels else VECTOR_BYTES + RASTER_BYTES * raster
