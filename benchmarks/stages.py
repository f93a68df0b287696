"""Where a run's time goes: share of the wall time with a request running, CPU seconds by stage.

    python benchmarks/stages.py scene.tif

One run in this process, with a stopwatch around the functions of each stage. CPU seconds are those
of the calling threads, each stage without the stages that it calls; threads of the backend's own
are not among them: they are the process's CPU seconds that no stage accounts for.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from geoseg.prediction.options import PredictOptions
from geoseg.prediction.report import peak_memory
from geoseg.prediction.session import predict_scene

STAGES = {
    "read": "geoseg.raster.scene:read_patch",
    "prepare and add": "geoseg.prediction.wiring:infer",
    "blend": "geoseg.prediction.blocks:blend_block",
    "trace": "geoseg.prediction.blocks:finish_block",
    "join": "geoseg.vector.pieces:Joiner.add",
    "shape": "geoseg.vector.features:features_of",
    "write": "geoseg.vector.sink:VectorSink.write",
}
"""Stage to the function that does it, where it is defined."""

LOAD = "geoseg.backends.select:PredictorRecipe.load"
"""What returns the predictor."""


@dataclass(slots=True)
class Clock:
    """CPU seconds of each stage, and the times at which calls of the predictor began and ended."""

    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: list[tuple[float, float]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.local = field(default_factory=threading.local)

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a stopwatch; what it calls that has one too is not counted twice."""

        def call(*arguments: Any, **named: Any) -> Any:
            above: list[float] = self._thread.__dict__.setdefault("inner", [])
            above.append(0.0)
            begun, began = time.thread_time(), time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                spent, ended = time.thread_time() - begun, time.perf_counter()
                own = spent - above.pop()
                if above:
                    above[-1] += spent
                with self._lock:
                    self.cpu[stage] += own
                    if stage == "predict":
                        self.calls.append((began, ended))

        return call

    def busy_seconds(self) -> float:
        """Return for how long at least one call of the predictor was running."""
        total, until = 0.0, 0.0
        for began, ended in sorted(self.calls):
            total += max(0.0, ended - max(began, until))
            until = max(until, ended)
        return total


class TimedPredictor:
    """A predictor with a stopwatch around its calls; everything else is the predictor's own."""

    def __init__(self, predictor: Any, clock: Clock) -> None:
        self._predictor = predictor
        self._call = clock.timed("predict", predictor)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the predictor."""
        return self._call(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)


@contextlib.contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Put a stopwatch around every stage."""
    load = _find(LOAD)[2]

    def load_timed(recipe: Any) -> TimedPredictor:
        return TimedPredictor(load(recipe), clock)

    with contextlib.ExitStack() as stack:
        for stage, place in STAGES.items():
            _replace(stack, place, clock.timed(stage, _find(place)[2]))
        _replace(stack, LOAD, load_timed)
        yield


def _replace(stack: contextlib.ExitStack, place: str, replacement: Callable[..., Any]) -> None:
    """Put a function in the place of another, in its own module or class and where it was imported."""
    owner, name, function = _find(place)
    owners = [owner]
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("geoseg.") and module is not owner and vars(module).get(name) is function:
            owners.append(module)
    for one in owners:
        stack.enter_context(mock.patch.object(one, name, replacement))


def _find(place: str) -> tuple[Any, str, Callable[..., Any]]:
    module, _, path = place.partition(":")
    *outer, name = path.split(".")
    owner = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    return owner, name, getattr(owner, name)


def profile(scene: Path, out: Path, options: PredictOptions) -> dict[str, Any]:
    """Run once under the stopwatch."""
    clock = Clock()
    used = time.process_time()
    with watched(clock):
        done = predict_scene(scene, out, options)
    used = time.process_time() - used
    stages = {stage: clock.cpu.get(stage, 0.0) for stage in ("predict", *STAGES)}
    return {
        "seconds": done.seconds,
        "cpu_seconds": used,
        "busy": clock.busy_seconds() / done.seconds,
        "cpu_by_stage": {**stages, "backend's threads and the rest": used - sum(stages.values())},
        "tiles": done.tally.inferred,
        "peak_memory_bytes": peak_memory(),
    }


def main() -> None:
    """Print the profile as JSON: on several lines for people, on one for the benchmark that asks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scene", type=Path)
    parser.add_argument("--model", default="buildings")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--one-line", action="store_true", help="as another program wants it")
    wanted = parser.parse_args()
    options = PredictOptions(
        model=wanted.model, backend=wanted.backend, precision=wanted.precision, overwrite=True, resume=False
    )
    with tempfile.TemporaryDirectory() as folder:
        found = profile(wanted.scene, Path(folder) / "out.gpkg", options)
    print(json.dumps(found, indent=None if wanted.one_line else 1))


if __name__ == "__main__":
    main()
