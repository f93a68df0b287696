"""A run over an archive: what is to do, doing it, and what has become of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from geoseg.archive.area import Area
from geoseg.archive.cluster import Noted, check_places, opened, takes_gpus
from geoseg.archive.coordinator import Coordinator, Progressed, finished
from geoseg.archive.entries import Entry, entries_of
from geoseg.archive.facts import Looked
from geoseg.archive.identity import same_scene
from geoseg.archive.lease import Lease
from geoseg.archive.manifest import Manifest, Result, stem
from geoseg.archive.options import BatchOptions, SelectOptions
from geoseg.archive.places import Places, left_behind, make_folder, move_into_place, remove_runs
from geoseg.archive.scene import Job, choose_recipe
from geoseg.archive.selection import (
    ANOTHER,
    COMPUTES,
    OTHERWISE,
    Selection,
    check_bands,
    digest_of,
    facts_of,
    select,
    why_do,
    why_refused,
)
from geoseg.errors import InvalidOption, UnwritableOutput
from geoseg.files import telling_full_disks
from geoseg.models.bundle import Bundle, find_model
from geoseg.prediction.options import AUTO, PredictOptions


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run over an archive did."""

    results: tuple[Result, ...]
    """All scenes that the sources name."""
    before: int
    """Of them, those that had come to an end before this run."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many of those that the sources name are not meant, by reason."""

    @property
    def counts(self) -> Counter[str]:
        """How many scenes are in which state."""
        return Counter(result.state for result in self.results)

    @property
    def troubles(self) -> tuple[Result, ...]:
        """The scenes that have no whole result."""
        return tuple(result for result in self.results if result.state != "done")

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some not, or in part."""
        return 1 if self.troubles else 0


def run_batch(
    sources: Sequence[str],
    out: Path,
    options: PredictOptions,
    batch: BatchOptions | None = None,
    select: SelectOptions | None = None,
    client: Any = None,
    on_event: Callable[[Progressed | Looked | Noted], None] = lambda _: None,
) -> Summary:
    """Predict many scenes; what an earlier run has done is not done again.

    Parameters
    ----------
    sources : sequence of str
        See `geoseg.archive.entries.entries_of`.
    out : Path
        Folder of the archive's results.
    options : PredictOptions
        For each scene; ``raster`` is a folder.
    batch : BatchOptions, optional
    select : SelectOptions, optional
        Which of the scenes are meant.
    client : distributed.Client, optional
        Of a cluster to work on; it stays open.
    on_event : callable
        Called with `Looked`, `Progressed` and `Noted`.

    Raises
    ------
    GeosegError
        If a source, the folder or the options cannot be used, another run is at work there, or none of
        the scenes that are left can be done, as where the disk is full.
    """
    batch = batch or BatchOptions()
    folder = make_folder(out)
    raster = None if options.raster is None else make_folder(options.raster)
    bundle, wanted = find_model(options.model), select or SelectOptions()
    scenes = select_scenes(sources, folder, options, batch, wanted, bundle, on_event)
    entries, area, hosts = scenes.entries, scenes.area, frozenset(wanted.allow_host)
    with ExitStack() as stack:
        lease_path = folder / f"{stem('lease', batch.shard)}.json"
        lease = stack.enter_context(Lease(lease_path, take_over=batch.take_over))
        check_shards(folder, batch.shard)  # another may have begun since
        manifest = stack.enter_context(Manifest(folder, batch.shard))
        places = Places(folder, raster, f"{stem('.run', batch.shard)}-{lease.id}", f".{batch.format}")
        stack.callback(remove_runs, places, own=True)
        archive = Archive(places, manifest, lease, scenes, batch)
        shared = shared_options(options, bundle, None if area is None else places.area)
        made = facts_of(shared, bundle, area, batch.format, raster=raster is not None)
        # Which predictor computes is known only where one is loaded: nothing is, where all is done.
        computes = json.loads(manifest.facts().get("made", "{}")).get(COMPUTES)
        todo = archive.prepare({**made, COMPUTES: computes}) if computes else None
        if todo is None:  # it takes the cluster to know what is to do
            manifest.write_status({"running": True}, now=True)
        if todo != []:
            client = stack.enter_context(opened(options, bundle, client, dashboard=batch.dashboard))
            if batch.dashboard:
                on_event(Noted(f"dashboard: {client.dashboard_link or 'this cluster has none'}"))
            _begin(places, lease.id, area)
            check_places(client, places, lease.id, [entry.location for entry in entries])
            recipe = client.submit(choose_recipe, shared, pure=False).result()
            made = {**made, COMPUTES: recipe.name}
            if todo is None or recipe.name != computes:
                todo = archive.prepare(made)
            job = Job(places, shared, recipe, digest_of(made), takes_gpus(client, recipe), hosts)
            Coordinator(job, manifest, lease, client, on_event).work(todo)
        names = {entry.name for entry in entries}
        results = tuple(result for result in manifest.results() if result.name in names)
    return Summary(results, len(entries) - len(todo), scenes.left_out)


def select_scenes(
    sources: Sequence[str],
    folder: Path,
    options: PredictOptions,
    batch: BatchOptions,
    wanted: SelectOptions,
    bundle: Bundle,
    on_event: Callable[[Looked], None],
    *,
    opening: bool = False,
) -> Selection:
    """Return the scenes of the sources that are meant, and of this shard.

    Raises
    ------
    GeosegError
        If a source cannot be read, no scene is meant, or the options fit neither model nor folder.
    """
    check_shards(folder, batch.shard)
    raster = None if options.raster is None else options.raster.absolute()
    without = [folder, *([] if options.raster is None else [options.raster])]
    bands = bundle.card.inputs.bands
    entries = entries_of(sources, hosts=wanted.allow_host, bands=bands, asset=wanted.asset, without=without)
    _check_places(entries, Places(folder, raster, "", f".{batch.format}"))
    found = select(
        list(_of_shard(entries, batch.shard)),
        wanted,
        folder,
        aoi=None if options.aoi is None else (options.aoi, options.aoi_layer),
        opening=opening or options.bands is not None,
        verify=batch.verify,
        on_look=on_event,
    )
    if options.bands is not None:
        check_bands(options.bands, bands, found)
    return found


def check_shards(folder: Path, shard: tuple[int, int] | None) -> None:
    """Check that an archive is divided among runs as it was before: else two would do the same scene.

    Raises
    ------
    InvalidOption
    """
    count = None if shard is None else shard[1]
    for path in sorted((*folder.glob("manifest*.sqlite"), *folder.glob("lease*.json"))):
        found = re.fullmatch(r"(?:manifest|lease)(?:-\d+-of-(\d+))?", path.stem)
        if found and found[1] != (None if count is None else str(count)):
            there = "in one piece" if found[1] is None else f"in {found[1]} shards"
            how = "without --shard" if found[1] is None else f"with --shard I/{found[1]}"
            wanted = "in one piece" if count is None else f"in {count} shards"
            raise InvalidOption(
                f"{folder}: is done {there}, not {wanted}; go on {how}, or give another --out"
            )


def _check_places(entries: Iterable[Entry], places: Places) -> None:
    """Check that no result lies where a folder is, or is to be, and no folder where a file is."""
    targets = {target: entry for entry in entries for target in places.targets(entry.name)}
    folders = {
        parent: entry
        for target, entry in targets.items()
        for parent in target.parents
        if parent not in places.out.parents
    }
    for target, entry in targets.items():
        if target in folders or target.is_dir():
            raise InvalidOption(
                f"{target}: is a folder, and {entry.location} would have its result there; "
                "rename one, or give another --out"
            )
    for folder, entry in folders.items():
        if folder.exists() and not folder.is_dir():
            raise InvalidOption(
                f"{folder}: is a file, and {entry.location} needs a folder there; "
                "rename one, or give another --out"
            )


def shared_options(options: PredictOptions, bundle: Bundle, aoi: Path | None = None) -> PredictOptions:
    """Return the options that each scene is predicted with, in a worker that may lie elsewhere.

    Clipped by `aoi`, the copy that the run keeps of its area.
    """
    memory = options.max_memory
    if memory != AUTO and options.workers:
        memory //= options.workers
    return options.model_copy(
        update={
            "model": str(bundle.path.absolute()),
            "aoi": aoi,
            "aoi_layer": None,
            "raster": None,
            "workers": None,
            "scheduler": None,
            "max_memory": memory,
            "overwrite": True,
        }
    )


@dataclass(frozen=True, slots=True)
class Archive:
    """Scenes, and what is known of them."""

    places: Places
    manifest: Manifest
    lease: Lease
    scenes: Selection
    """Those of this run."""
    batch: BatchOptions

    def prepare(self, made: Mapping[str, Any]) -> list[str]:
        """Write down what is to do, and return it.

        What an earlier run had finished when it was killed is put in place.

        Parameters
        ----------
        made : mapping
            The facts that fix a result.

        Raises
        ------
        InvalidOption
            If results are in the way that were made otherwise, and are not to be done again.
        """
        digest = digest_of(made)
        self.lease.check()
        left = {outcome.name: outcome for outcome in left_behind(self.places) if outcome.digest == digest}
        todo: list[str] = []

        def results() -> Iterator[Result]:
            for entry in self.scenes.entries:
                result = self._expected(entry, self.scenes.looks[entry.name].identity, made, digest)
                outcome = left.get(entry.name)
                wanted = (
                    outcome and result.state == "pending" and same_scene(outcome.identity, result.identity)
                )
                if outcome and wanted and move_into_place(self.places, outcome):
                    result = finished(self.places, digest, result, outcome)
                if result.state == "pending":
                    todo.append(result.name)
                yield result

        self.manifest.put(results())
        self.manifest.set_facts(made=json.dumps(made))
        self.manifest.write_status({"running": bool(todo)}, now=True)
        remove_runs(self.places)
        return todo

    def _expected(self, entry: Entry, identity: str, made: Mapping[str, Any], digest: str) -> Result:
        """Return a scene as it is before the run: pending where there is something to do."""
        known, out, retried = self.manifest.get(entry.name), self.places.out, self.batch.retry is not None
        new = replace(Result.of(entry), identity=identity)
        why = why_do(known, new, digest, self.places, retried=retried)
        if known is None:
            return new
        if not self.batch.redo and why in (OTHERWISE, ANOTHER):
            before = json.loads(self.manifest.facts().get("made", "{}"))
            if refusal := why_refused(known, new, why, before, made):
                raise InvalidOption(f"{out}: {refusal}")
        if not why:
            return replace(known, location=entry.location, identity=max(known.identity, identity, key=len))
        unchanged = same_scene(known.identity, identity)
        return replace(new, tries=known.tries if unchanged and not retried else 0)


def _begin(places: Places, text: str, area: Area | None) -> None:
    """Make the folders of a run, with a file that workers know it by and the area of its scenes."""
    for root in places.roots:
        try:
            with telling_full_disks(root / places.run):
                (root / places.run).mkdir(exist_ok=True)
                places.token.write_text(text, encoding="utf-8")
                if area is not None:
                    area.write(places.area)
        except OSError as error:
            raise UnwritableOutput(f"{root / places.run}: cannot be made ({error})") from error


def _of_shard(entries: Iterable[Entry], shard: tuple[int, int] | None) -> Iterator[Entry]:
    """Yield the entries of a shard: by name, so that it does not depend on what else there is."""
    for entry in entries:
        number = int.from_bytes(hashlib.sha256(entry.name.encode()).digest()[:8], "big")
        if shard is None or number % shard[1] == shard[0] - 1:
            yield entry
