"""``geoseg serve``: open scenes, model and layers once, and answer on this machine until it is ended."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn

from geoseg.backends.hardware import usable_cores
from geoseg.errors import InvalidOption
from geoseg.files import scratch_beside
from geoseg.prediction.budget import MEGABYTE, default_budget
from geoseg.prediction.decide import Decision
from geoseg.prediction.options import AUTO, PredictOptions
from geoseg.prediction.resources import memory_limit, memory_use
from geoseg.prediction.session import Session
from geoseg.serve import ServeOptions
from geoseg.serve.app import Map, make_app
from geoseg.serve.jobs import Jobs
from geoseg.serve.layers import Layer, layers_of, open_served
from geoseg.serve.scenes import LiveScene, drawing_bytes
from geoseg.serve.tiles import ModelTiles, tile_bytes

SERVER = 120_000_000
"""Bytes that the server and its libraries take, measured and rounded up."""

FEWEST_TILES = 96
"""Tiles of the model that are kept, at least: what six requests at the coarsest zoom may need."""


@contextlib.contextmanager
def open_map(
    sources: Sequence[str], options: PredictOptions, layers: Sequence[Path] = (), *, read_only: bool = False
) -> Iterator[Map]:
    """Open what is to be served; leaving closes it.

    Parameters
    ----------
    sources : sequence of path or URL
        Scenes.
    options : PredictOptions
        Of predictions on the map, and of what is mapped.
    layers : sequence of Path
        Vector files; all layers of each.
    read_only : bool
        Whether nothing can be mapped.

    Raises
    ------
    GeosegError
        If a scene, the model or a layer cannot be read or has no place on a map, or the memory is too little.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_beside(Path(tempfile.gettempdir(), "geoseg-serve")))
        session = stack.enter_context(Session(options))
        scenes: dict[str, LiveScene] = {}
        for source in sources:
            name = _name(source, scenes)
            scenes[name] = LiveScene(name, source, session.decide(source))
            if scenes[name].plan.task != "semantic":
                raise InvalidOption(
                    f"model {scenes[name].plan.model_name}: finds objects, and the map shows probabilities; "
                    "show what geoseg predict finds: --layer FILE"
                )
            scenes[name].check_unchanged()
            _ = scenes[name].place, scenes[name].picture  # tells now what cannot be shown
        served: dict[str, Layer] = {}
        for path in layers:
            names = layers_of(path)
            for layer in names:
                name = _name(f"{path.stem}-{layer}.gpkg" if len(names) > 1 else str(path), served)
                served[name] = open_served(path, name, folder, layer)
        threads = usable_cores() + 1
        kept, job = share_memory(
            [one.decision for one in scenes.values()], options, threads, read_only=read_only
        )
        tiles = ModelTiles(kept, threads)
        stack.callback(tiles.close)
        jobs = None
        if not read_only:
            chosen = options.model_copy(update={"max_memory": job})
            jobs = Jobs(session, chosen, folder, lambda layer: served.update({layer.name: layer}))
            stack.callback(jobs.cancel)
        for one in scenes.values():  # the network is compiled, and the page opens there
            grid = one.plan.tiles
            middle = grid.tile(len(grid.rows) // 2, len(grid.cols) // 2)
            tiles.warm(one.decision, middle)
        yield Map(scenes, served, tiles, threads, jobs)


def share_memory(
    decisions: Sequence[Decision], options: PredictOptions, threads: int, *, read_only: bool
) -> tuple[int, int]:
    """Return the bytes for tiles of the model that are kept, and those that a run may take.

    Raises
    ------
    InvalidOption
        If ``--max-memory`` is not enough; names the least that is.
    """
    base = tile = 0
    for decision in decisions:
        batch = decision.resources.batch if decision.resources.gpu else 1
        resources = replace(decision.resources, threads=threads, in_flight=threads + 1, batch=batch)
        run = sum(memory_use(decision.plan.with_blocks(1), resources).values())
        base = max(base, run)
        tile = max(tile, tile_bytes(decision.plan))
    beside = SERVER + threads * max(drawing_bytes(one.plan) for one in decisions)
    fewest = FEWEST_TILES * tile
    least = base + beside + fewest
    asked = options.max_memory
    budget = max(least, default_budget(memory_limit())) if asked == AUTO else asked
    if budget < least:
        raise InvalidOption(
            f"--max-memory {budget // MEGABYTE}MB: serving needs {-(-least // MEGABYTE)}MB at least; "
            "give that, or a smaller --tile"
        )
    rest = budget - base - beside
    kept = rest if read_only else (rest + fewest) // 2
    return kept, base + rest - kept


def serve(
    sources: Sequence[str],
    options: PredictOptions,
    served: ServeOptions,
    on_start: Callable[[Map, str], None],
) -> None:
    """Serve until the process is told to end.

    Parameters
    ----------
    on_start : callable
        Takes what is served and the address, when it can be reached.

    Raises
    ------
    GeosegError
        See `open_map`; also if the port is in use.
    """
    with (
        contextlib.closing(_listen(served.port)) as place,
        open_map(sources, options, served.layer, read_only=served.read_only) as opened,
    ):
        on_start(opened, f"http://127.0.0.1:{place.getsockname()[1]}/")
        config = uvicorn.Config(
            make_app(opened),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        server = uvicorn.Server(config)
        with contextlib.suppress(KeyboardInterrupt), _ended_by_hangup(server):
            server.run(sockets=[place])


@contextlib.contextmanager
def _ended_by_hangup(server: uvicorn.Server) -> Iterator[None]:
    """Let a server end as by Ctrl-C when its terminal is closed, which uvicorn does not see to."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(hangup, server.handle_exit)
    try:
        yield
    finally:
        signal.signal(hangup, before)


def _listen(port: int) -> socket.socket:
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind(("127.0.0.1", port))
        place.listen(128)
    except OSError as error:
        place.close()
        reason = (error.strerror or "").lower()
        raise InvalidOption(f"--port {port}: cannot be used ({reason}); give another --port") from error
    return place


def _name(source: str, taken: Container[str]) -> str:
    """Return a name for addresses that is not taken: letters, digits, ``_`` and ``-`` of the file's."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(source.rstrip("/")).stem).strip("-") or "scene"
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name
