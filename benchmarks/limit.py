"""The limit: forward passes of the network alone, for every backend and precision that this machine has.

    python benchmarks/limit.py --rounds 5 --seconds 5

Real tiles of a scene go through the network that a run would load: same files, precision, tile and
batch. *Forward* is the runtime alone, called by the few lines below: no activation, no rounding to
integers, nothing of geoseg's. *Predictor* is what a run calls, from as many threads as a run has.
Candidates take turns, so that a change of the machine's load meets all of them.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray
from scenes import make_scene

from geoseg.errors import GeosegError
from geoseg.models.bundle import INT8, IR, ONNX, Bundle, find_model
from geoseg.prediction.decide import decide
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.plan import Plan
from geoseg.prediction.wiring import Work
from geoseg.values import Patch

Tiles = NDArray[np.float32]
Runner = Callable[[int], None]
"""Passes so many tiles through the network and returns when the last is done."""

CHOICES = (
    ("auto", "auto"),
    ("openvino", "int8"),
    ("openvino", "bf16"),
    ("openvino", "f32"),
    ("onnx", "auto"),
    ("pytorch", "auto"),
)
DISTINCT = 8
"""Tiles that are passed over and over."""

COLUMNS: common.Columns = {
    "name": ("backend", ""),
    "tile": ("tile px", "d"),
    "overlap": ("overlap px", "d"),
    "batch": ("batch", "d"),
    "threads": ("threads", "d"),
    "forward_MPix_s": ("forward, tile MPix/s", ".2f"),
    "forward_spread": ("spread %", ".0f"),
    "scene_MPix_s": ("forward, scene MPix/s", ".2f"),
    "predictor_MPix_s": ("predictor, tile MPix/s", ".2f"),
    "kept": ("predictor / forward", ".2f"),
    "against_first": ("forward / first row's", ".2f"),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run the model: as the network alone, and as a run calls it."""

    name: str
    plan: Plan
    batch: int
    threads: int
    forward: Runner
    predictor: Runner

    @property
    def tile_megapixels(self) -> float:
        """Pixels that one tile has, in millions."""
        return self.plan.tiles.rows.size**2 / 1e6

    @property
    def tile_pixels_per_pixel(self) -> float:
        """Forward pixels for each pixel of a large scene."""
        rows, cols = self.plan.tiles.rows, self.plan.tiles.cols
        return rows.size * cols.size / (rows.stride * cols.stride)


def candidate(scene: Path, options: PredictOptions) -> Candidate:
    """Prepare what a run with these options would use.

    Raises
    ------
    GeosegError
        If this machine or the model lacks the backend or the precision.
    """
    decision = decide(scene, options)
    work, resources = decision.work, decision.resources
    predictor, patches = work.load(), _patches(work)
    inputs = work.plan.inputs
    tiles = np.stack([inputs.prepare(patch) for patch in patches])
    # As a run does: whoever normalizes by itself gets the pixels as they are.
    stored = predictor.normalizes and patches[0].pixels.dtype == np.uint8
    pixels = np.stack([inputs.fill(patch) for patch in patches]) if stored else tiles
    forward = _network(
        find_model(options.model), predictor.name, predictor.device, tiles, (work.batch, resources.threads)
    )

    def as_a_run(count: int) -> None:
        batches = [
            _batch(pixels, start, min(work.batch, count - start)) for start in range(0, count, work.batch)
        ]
        with ThreadPoolExecutor(resources.threads) as pool:
            for _ in pool.map(predictor, batches):
                pass

    return Candidate(predictor.name, work.plan, work.batch, resources.threads, forward, as_a_run)


def _patches(work: Work) -> list[Patch]:
    """Return tiles of the scene with their validity."""
    tiles = work.plan.tiles
    places = (tile for block in tiles.blocks() for tile in tiles.tiles(block))
    return [work.read(tile.window) for tile in itertools.islice(places, DISTINCT)]


def _batch(tiles: NDArray[Any], start: int, count: int) -> NDArray[Any]:
    return tiles[np.arange(start, start + count) % len(tiles)]


def _one(tiles: Tiles, number: int) -> Tiles:
    """Return a batch of one tile without copying it."""
    start = number % len(tiles)
    return tiles[start : start + 1]


def _network(bundle: Bundle, name: str, device: str, tiles: Tiles, size: tuple[int, int]) -> Runner:
    """Return the network of a predictor without the predictor; `size`: tiles a batch, threads."""
    backend, precision = name.split(maxsplit=1)
    if backend == "openvino":
        return _openvino(bundle, precision, tiles)
    if backend == "pytorch":
        return (
            _pytorch_cuda(bundle, device, tiles, size[0])
            if device != "cpu"
            else _pytorch(bundle, tiles, size[1])
        )
    return _onnx(bundle, tiles)


def _openvino(bundle: Bundle, precision: str, tiles: Tiles) -> Runner:
    import openvino

    path = bundle.files.get(ONNX) or bundle.files[IR[0]]
    core = openvino.Core()
    model = core.read_model(str(bundle.files[INT8[0]] if precision.startswith("int8") else path))
    model.reshape([1, *tiles.shape[1:]])
    # "int8/bf16": what was not quantized is computed in bf16.
    rest = precision.rpartition("/")[2].replace("int8", "f32")
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": rest}
    requests = openvino.AsyncInferQueue(core.compile_model(model, "CPU", hints))

    def run(count: int) -> None:
        for number in range(count):
            requests.start_async({0: _one(tiles, number)}, share_inputs=True)
        requests.wait_all()

    return run


def _onnx(bundle: Bundle, tiles: Tiles) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(bundle.files[ONNX]), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(count: int) -> None:
        for number in range(count):
            session.run(None, {name: _one(tiles, number)})

    return run


def _pytorch(bundle: Bundle, tiles: Tiles, threads: int) -> Runner:
    """Tiles one by one, each on one thread of PyTorch's, as many at a time as a run's threads."""
    import torch

    from geoseg.backends import architectures

    network = architectures.load(bundle.path).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)

    def one(number: int) -> None:
        with torch.inference_mode():
            network(torch.from_numpy(_one(tiles, number)).to(memory_format=torch.channels_last))

    def run(count: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(one, range(count)):
                pass

    return run


def _pytorch_cuda(bundle: Bundle, device: str, tiles: Tiles, batch: int) -> Runner:
    """Whole batches that lie on the device already, bf16."""
    import torch

    from geoseg.backends import architectures

    network = architectures.load(bundle.path).eval().requires_grad_(False).to(device)
    network = network.to(memory_format=torch.channels_last)
    resident = torch.from_numpy(_batch(tiles, 0, batch)).to(device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(count: int) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            for start in range(0, count, batch):
                network(resident[: min(batch, count - start)])
        torch.cuda.synchronize()

    return run


def candidates(
    scene: Path, model: str, choices: Sequence[tuple[Any, Any]]
) -> Iterator[tuple[tuple[str, str], Candidate | GeosegError]]:
    """Yield each choice of backend and precision with what it gives, once for equal names."""
    seen: set[str] = set()
    for backend, precision in choices:
        try:
            made = candidate(scene, PredictOptions(model=model, backend=backend, precision=precision))
        except GeosegError as error:
            yield (backend, precision), error
            continue
        if made.name not in seen:
            seen.add(made.name)
            yield (backend, precision), made


def tiles_for(run: Runner, seconds: float, batch: int) -> int:
    """Warm up, and return how many tiles take about so many seconds; whole batches."""
    run(batch)
    started = time.perf_counter()
    run(batch)
    each = (time.perf_counter() - started) / batch
    return max(1, round(seconds / each / batch)) * batch


def rate(run: Runner, count: int) -> float:
    """Return tiles a second."""
    started = time.perf_counter()
    run(count)
    return count / (time.perf_counter() - started)


def measure(chosen: Sequence[Candidate], rounds: int, seconds: float) -> list[common.Row]:
    """Time all candidates in turn, and return one row for each."""
    counts = [tiles_for(one.forward, seconds, one.batch) for one in chosen]
    for one in chosen:
        one.predictor(one.batch)
    forward: list[list[float]] = [[] for _ in chosen]
    called: list[list[float]] = [[] for _ in chosen]
    for _ in range(rounds):
        for number, one in enumerate(chosen):
            forward[number].append(rate(one.forward, counts[number]) * one.tile_megapixels)
            called[number].append(rate(one.predictor, counts[number]) * one.tile_megapixels)
    first = common.median(forward[0])
    return [
        _row(one, forward[number], called[number]) | {"against_first": common.median(forward[number]) / first}
        for number, one in enumerate(chosen)
    ]


def _row(one: Candidate, forward: list[float], called: list[float]) -> common.Row:
    return {
        "name": one.name,
        "tile": one.plan.tiles.rows.size,
        "overlap": one.plan.tiles.rows.overlap,
        "batch": one.batch,
        "threads": one.threads,
        "forward_MPix_s": common.median(forward),
        "forward_spread": common.spread(forward),
        "scene_MPix_s": common.median(forward) / one.tile_pixels_per_pixel,
        "predictor_MPix_s": common.median(called),
        # Of each round by itself: both halves of a round met the same load.
        "kept": common.median([b / a for a, b in zip(forward, called, strict=True)]),
    }


def main() -> None:
    """Print one line for each backend and precision."""
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="buildings")
    parser.add_argument("--scene", type=Path, help="a scene of your own")
    parser.add_argument("--side", type=int, default=2048, help="of the scene that tiles are cut from")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument("--backends", nargs="+", help="only these, such as openvino:int8 onnx pytorch")
    options = parser.parse_args()
    choices = [_choice(text) for text in options.backends] if options.backends else list(CHOICES)
    with tempfile.TemporaryDirectory() as folder:
        scene = options.scene or make_scene(Path(folder) / "scene.tif", options.side, options.side)
        found = list(candidates(scene, options.model, choices))
        rows = measure(
            [one for _, one in found if isinstance(one, Candidate)], options.rounds, options.seconds
        )
    missing = [{"name": ":".join(choice), "note": f"{':'.join(choice)}: {error}"} for choice, error in found
               if isinstance(error, GeosegError)]  # fmt: skip
    common.report("limit", COLUMNS, [*rows, *missing], options)


def _choice(text: str) -> tuple[str, str]:
    backend, _, precision = text.partition(":")
    return backend, precision or "auto"


if __name__ == "__main__":
    main()
