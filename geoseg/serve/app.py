"""What the server answers: tiles, layers, the page; and what it refuses."""

from __future__ import annotations

import asyncio
import html
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import anyio
import numpy as np
from anyio.to_thread import run_sync
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from geoseg.errors import GeosegError, UnreadableScene, suggest
from geoseg.serve.jobs import Jobs, corners
from geoseg.serve.layers import Layer
from geoseg.serve.mercator import MapTile, from_degrees, tilejson
from geoseg.serve.scenes import LiveScene, raw_png, styled_png
from geoseg.serve.tiles import Busy, Entry, ModelTiles

STATIC = Path(__file__).parent / "static"
MOST_REQUESTS = 64
"""Requests that are worked or wait at a time; more are told to come again."""

HOSTS = ["127.0.0.1", "localhost"]
TOKEN_HEADER = "X-Geoseg-Token"
ACROSS = 540
"""Largest longitude of a view: its middle lies within 180 degrees, its sides up to a turn beyond."""

FINER = 3
"""Zooms of imagery that are served beyond that of the scene's pixels."""

_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "worker-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
Result = TypeVar("Result")


@dataclass(eq=False)
class Map:
    """All that is served, and the answers."""

    scenes: dict[str, LiveScene]
    layers: dict[str, Layer]
    """`scenes`, `layers`: By name; nothing else can be asked for. Layers may be added."""
    tiles: ModelTiles
    drawing: int
    """Tiles that are drawn at a time."""
    jobs: Jobs | None = None
    """None: nothing can be mapped."""
    token: str = field(default_factory=partial(secrets.token_urlsafe, 24))
    requests: int = 0

    @cached_property
    def _limiter(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(self.drawing)

    def page(self) -> Response:
        """Answer with the map."""
        text = (STATIC / "index.html").read_text("utf-8")
        text = text.replace("{{token}}", self.token if self.jobs else "")
        return _answer(text.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": _POLICY})

    def docs(self, request: Request) -> Response:
        """List what can be asked for."""
        rows = [
            f"<tr><td>{method.upper()}<td><code>{html.escape(path)}</code><td>{html.escape(facts['description'])}"
            for path, methods in request.app.openapi()["paths"].items()
            for method, facts in methods.items()
        ]
        text = f"<!doctype html><title>geoseg serve</title><table>{''.join(rows)}</table>"
        text += "<p>As OpenAPI: <a href=openapi.json>openapi.json</a>"
        return _answer(text.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": _POLICY})

    def health(self) -> dict[str, Any]:
        """Tell whether the server works, and what it holds."""
        return {
            "status": "ok",
            "geoseg": version("geoseg"),
            "tiles_inferred": self.tiles.inferred,
            "cache_bytes": self.tiles.used,
            "requests": self.requests,
        }

    def list_scenes(self, request: Request) -> dict[str, Any]:
        """List scenes and layers, with the addresses of their TileJSON."""
        base = str(request.base_url)
        return {
            "scenes": [one.facts(base) for one in self.scenes.values()],
            "layers": [one.facts(base) for one in self.layers.values()],
            "read_only": self.jobs is None,
        }

    def imagery_json(self, request: Request, scene: str) -> dict[str, Any]:
        """Describe a scene's imagery as TileJSON."""
        live = self._scene(scene)
        url = f"{request.base_url}tiles/{scene}/{{z}}/{{x}}/{{y}}.png"
        return tilejson(scene, url, live.place.bounds, live.imagery_from, live.place.zoom + FINER)

    def prediction_json(self, request: Request, scene: str) -> dict[str, Any]:
        """Describe predictions as TileJSON; zooms below ``preview_below`` show a few windows only."""
        live = self._scene(scene)
        url = f"{request.base_url}prediction/{scene}/{{z}}/{{x}}/{{y}}.png"
        made = tilejson(scene, url, live.place.bounds, live.preview_from, live.place.zoom)
        return {**made, "preview_below": live.whole_from}

    def layer_json(self, request: Request, layer: str) -> dict[str, Any]:
        """Describe a layer as TileJSON."""
        found = self._layer(layer)
        url = f"{request.base_url}features/{layer}/{{z}}/{{x}}/{{y}}.mvt"
        made = tilejson(layer, url, found.bounds or (0.0, 0.0, 0.0, 0.0), found.zoom, max(found.zoom, 18))
        return {**made, "vector_layers": [{"id": layer, "fields": dict.fromkeys(found.fields, "")}]}

    async def imagery(self, request: Request, scene: str, z: int, x: int, y: int) -> Response:
        """Show a tile of a scene's imagery."""
        live, tile = self._unchanged(scene), MapTile.of(z, x, y)
        if same := _not_modified(request, live.plan.scene.fingerprint):
            return same
        with self._counted():
            image = await self._connected(request, self._thread(live.imagery, tile))
        return _answer(image, "image/png", {"ETag": f'"{live.plan.scene.fingerprint}"'})

    async def prediction(
        self, request: Request, scene: str, z: int, x: int, y: int, raw: str | None = None
    ) -> Response:
        """Show a tile of predictions in the colours of the classes.

        With ``?raw`` in probabilities: 250 is certain, 255 none.
        """
        live, tile = self._unchanged(scene), MapTile.of(z, x, y)
        if same := _not_modified(request, live.digest):
            return same
        with self._counted(), self._taken(live, tile) as entries:
            await self._connected(request, _all_done(entries))
            known = {entry.tile: entry.future.result() for entry in entries}
            encode = styled_png if raw is None else raw_png
            image = await self._thread(lambda: encode(live.draw(tile, known), live.plan))
        whole = not any(one.broken for one in known.values())
        headers = {"ETag": f'"{live.digest}"'} if whole else {"Cache-Control": "no-store"}
        if live.is_preview(z):
            headers["X-Geoseg-Preview"] = f"{len(known)} windows"
        return _answer(image, "image/png", headers)

    async def vector_tile(self, request: Request, layer: str, z: int, x: int, y: int) -> Response:
        """Show a vector tile of a layer."""
        found, tile = self._layer(layer), MapTile.of(z, x, y)
        with self._counted():
            content = await self._connected(request, self._thread(found.tile, tile))
        return _answer(content, "application/vnd.mapbox-vector-tile")

    async def features(self, request: Request, layer: str, bbox: str) -> Response:
        """Return what meets a box ``west,south,east,north`` in degrees, as GeoJSON."""
        found, box = self._layer(layer), corners(bbox)
        points = from_degrees(np.array(box).reshape(2, 2)).ravel().tolist()
        with self._counted():
            content = await self._connected(request, self._thread(found.geojson, tuple(points)))
        return _answer(content, "application/geo+json")

    def download(self, layer: str) -> Response:
        """Send the file of a layer."""
        path = self._layer(layer).source
        return FileResponse(path, filename=path.name)

    def list_jobs(self) -> list[dict[str, Any]]:
        """List what was mapped, and how far it is."""
        return [job.as_json() for job in self.jobs.known.values()] if self.jobs else []

    def begin_job(self, request: Request, scene: str, bbox: str) -> Response:
        """Map what a scene has in a box ``west,south,east,north`` in degrees; needs the page's token."""
        job = self._allowed(request).begin(self._unchanged(scene), corners(bbox, ACROSS))
        return JSONResponse(job.as_json(), 202)

    def cancel_jobs(self, request: Request) -> dict[str, Any]:
        """Cancel what is being mapped; needs the page's token."""
        self._allowed(request).cancel()
        return {"status": "cancelled"}

    def _allowed(self, request: Request) -> Jobs:
        if self.jobs is None:
            raise HTTPException(403, "this map is read-only")
        if not secrets.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            raise HTTPException(403, f"the header {TOKEN_HEADER} must have the token of the page")
        return self.jobs

    def _scene(self, name: str) -> LiveScene:
        return _known(self.scenes, name, "scene")

    def _unchanged(self, name: str) -> LiveScene:
        live = self._scene(name)
        live.check_unchanged()
        return live

    def _layer(self, name: str) -> Layer:
        return _known(self.layers, name, "layer")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self.requests >= MOST_REQUESTS:
            raise Busy(f"{self.requests} requests are under way; ask again in a second")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def _taken(self, live: LiveScene, tile: MapTile) -> Iterator[Sequence[Entry]]:
        entries = self.tiles.take(live.decision, live.needs(tile))
        try:
            yield entries
        finally:
            self.tiles.give_back(entries)

    async def _thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        result: Result = await run_sync(work, *arguments, limiter=self._limiter)
        return result

    async def _connected(self, request: Request, work: Awaitable[Result]) -> Result:
        """Wait for work as long as somebody waits for the answer."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise HTTPException(499, "the client has gone")
            return task.result()
        finally:
            task.cancel()
            gone.cancel()


def make_app(served: Map) -> FastAPI:
    """Return the application: its routes, its refusals."""
    app = FastAPI(title="geoseg serve", version=version("geoseg"), docs_url=None, redoc_url=None)
    gets: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("/scenes", served.list_scenes),
        ("/health", served.health),
        ("/tiles/{scene}.json", served.imagery_json),
        ("/tiles/{scene}/{z}/{x}/{y}.png", served.imagery),
        ("/prediction/{scene}.json", served.prediction_json),
        ("/prediction/{scene}/{z}/{x}/{y}.png", served.prediction),
        ("/features/{layer}.json", served.layer_json),
        ("/features/{layer}.geojson", served.features),
        ("/features/{layer}/{z}/{x}/{y}.mvt", served.vector_tile),
        ("/features/{layer}/download", served.download),
        ("/jobs", served.list_jobs),
    )
    for path, answer in gets:
        app.add_api_route(path, answer, methods=["GET"])
    app.add_api_route("/map/{scene}", served.begin_job, methods=["POST"])
    app.add_api_route("/jobs", served.cancel_jobs, methods=["DELETE"])
    for path, answer in (("/", served.page), ("/docs", served.docs)):
        app.add_api_route(path, answer, methods=["GET"], include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    for kind, refuse in (
        (AnyHTTPException, _refuse_http),
        (RequestValidationError, _refuse_request),
        (GeosegError, _refuse),
    ):
        app.add_exception_handler(kind, refuse)
    return app


def _refuse_http(_request: Request, error: AnyHTTPException) -> Response:
    return PlainTextResponse(f"{error.detail}\n", error.status_code)


def _refuse_request(_request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    return PlainTextResponse(f"{first['loc'][-1]}: {first['msg']}\n", 400)


def _refuse(_request: Request, error: GeosegError) -> Response:
    if isinstance(error, Busy):
        return PlainTextResponse(f"{error}\n", 429, {"Retry-After": "1"})
    return PlainTextResponse(f"{error}\n", 500 if isinstance(error, UnreadableScene) else 400)


async def _all_done(entries: Sequence[Entry]) -> None:
    """Wait until all futures are done; to be cancelled leaves them to others."""
    if entries:
        done, _ = await asyncio.wait([asyncio.wrap_future(entry.future) for entry in entries])
        for one in done:
            one.exception()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer(content: bytes, kind: str, headers: Mapping[str, str] | None = None) -> Response:
    # no-cache: kept, and asked for again by its ETag, which costs nothing.
    usual = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    usual["Cross-Origin-Resource-Policy"] = "same-origin"
    return Response(content, media_type=kind, headers={**usual, **(headers or {})})


def _not_modified(request: Request, digest: str) -> Response | None:
    same = request.headers.get("If-None-Match") == f'"{digest}"'
    return Response(status_code=304, headers={"ETag": f'"{digest}"'}) if same else None


def _known(named: Mapping[str, Result], name: str, what: str) -> Result:
    if name not in named:
        raise HTTPException(404, f"no {what} {name[:80]!r}; {suggest(name[:80], named)}")
    return named[name]
