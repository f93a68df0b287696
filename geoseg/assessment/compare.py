"""Whether a model gives the same result on every backend here, and in which precision it is the fastest.

A run times nothing to choose its precision: measure the fastest here and type it. Where a CPU has AMX units,
a U-Net of depthwise convolutions ran in INT8 at 0.8 times its speed in bf16, one with a ResNet-34 at 2.7
times: no rule over instruction sets can tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from geoseg.backends import regions
from geoseg.backends.base import Detector, Predictor, quantize
from geoseg.backends.hardware import PRECISIONS, cpu_features, cuda_available, usable_cores
from geoseg.backends.select import Backend, backends_of, load_predictor
from geoseg.errors import BackendUnavailable, GeosegError, InvalidModel, MissingExtra
from geoseg.models.bundle import INT8, Bundle
from geoseg.models.inputs import InputSpec
from geoseg.values import CERTAIN, Patch

EXACT = 1e-3
"""Largest difference in probability between two backends that both compute in float32; of objects, whose
outlines may turn by a pixel, the largest share of samples that change sides of one half."""

REDUCED = 0.05
"""Largest share of samples that reduced precision (bf16, INT8) may move across one half."""


@dataclass(frozen=True, slots=True)
class BackendReport:
    """How one backend did on the test tile."""

    backend: str
    device: str
    """`backend`, `device`: As asked for."""
    name: str = ""
    """What ran, e.g. ``openvino bf16``; empty if nothing did."""
    difference: float = 0.0
    """Largest difference in probability from the first backend that computes in float32."""
    moved: float = 0.0
    """Share of samples on the other side of probability one half."""
    problem: str = ""
    """What is wrong; empty if nothing is."""
    missing: bool = False
    """True: this machine lacks the backend, which is no fault of the model."""


@dataclass(frozen=True, eq=False, slots=True)
class Painter:
    """A detector whose objects are compared pixel by pixel, see `geoseg.backends.regions.paint`."""

    detector: Detector
    channels: tuple[int, ...]
    name: str
    device: str = "cpu"
    normalizes: bool = False

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Map tiles to scores; see `geoseg.backends.base.Predictor`."""
        labels = [label for label in self.channels if label]
        found = [regions.paint(each, labels, batch.shape[2:]) for each in self.detector(batch)]
        return quantize(np.stack(found)[:, 0 not in self.channels :])


def compare_backends(bundle: Bundle) -> tuple[BackendReport, ...]:
    """Run a probe tile on every backend that the model has files for, and compare the results."""
    tile = probe_tile(bundle.card.inputs, bundle.card.tile)[None]
    pairs: list[tuple[Backend, str]] = [(backend, "cpu") for backend in backends_of(bundle)]
    if "pytorch" in backends_of(bundle) and cuda_available():
        pairs.append(("pytorch", "cuda"))
    reports: list[BackendReport] = []
    outputs: list[NDArray[np.uint16] | None] = []
    for backend, device in pairs:
        report, output = _run(bundle, backend, device, tile)
        reports.append(report)
        outputs.append(output)
    names = [report.name for report in reports]
    exact = [output for name, output in zip(names, outputs, strict=True) if name.endswith("f32")]
    reference = next((output for output in [*exact, *outputs] if output is not None), None)
    return tuple(
        report
        if output is None or reference is None
        else _judge(report, output, reference, objects=bundle.card.instances is not None)
        for report, output in zip(reports, outputs, strict=True)
    )


def probe_tile(inputs: InputSpec, size: int) -> NDArray[np.float32]:
    """Return a prepared tile ``(bands, size, size)``; see `probe_picture`."""
    return inputs.prepare(probe_picture(inputs, size))


def probe_picture(inputs: InputSpec, size: int) -> Patch:
    """Return a picture ``(bands, size, size)``: a sloping ground with noise and bright boxes."""
    random = np.random.default_rng(7)
    rows, cols = np.indices((size, size)) / size
    ground = 0.3 + 0.3 * rows + 0.1 * np.sin(9 * cols) + random.normal(0, 0.03, (size, size))
    for _ in range(12):
        top, left = random.integers(0, size - 16, 2)
        height, width = random.integers(8, max(9, size // 6), 2)
        ground[top : top + height, left : left + width] = random.uniform(0.1, 0.95)
    high = np.iinfo(inputs.dtype).max if np.dtype(inputs.dtype).kind in "iu" else 1.0
    tint = random.uniform(0.8, 1.0, (len(inputs.bands), 1, 1))
    pixels = (np.clip(ground, 0, 1) * tint * high).astype(inputs.dtype)
    return Patch(pixels, np.ones((size, size), bool))


def _run(
    bundle: Bundle, backend: Backend, device: str, tile: NDArray[np.float32]
) -> tuple[BackendReport, NDArray[np.uint16] | None]:
    try:
        # The file that is likeliest to be wrong, whether a run would take it or not.
        int8 = backend == "openvino" and INT8[0] in bundle.files and "int8" in cpu_features()
        precision = "int8" if int8 else "auto"
        predictor = load_predictor(bundle, backend=backend, device=device, precision=precision)
        if bundle.card.instances is not None:
            predictor = Painter(cast("Detector", predictor), bundle.card.channels, predictor.name, device)
        output = predictor(tile)
    except GeosegError as error:
        missing = isinstance(error, BackendUnavailable | MissingExtra)
        return BackendReport(backend, device, problem=str(error), missing=missing), None
    report = BackendReport(backend, device, predictor.name)
    expected = (1, len(bundle.card.channels), *tile.shape[2:])
    if output.shape != expected:
        problem = f"gives {output.shape}, the card says {expected}"
        return BackendReport(backend, device, predictor.name, problem=problem), None
    return report, output


def _judge(
    report: BackendReport, output: NDArray[np.uint16], reference: NDArray[np.uint16], *, objects: bool
) -> BackendReport:
    difference = float(np.abs(output.astype(np.int64) - reference).max()) / CERTAIN
    moved = float(((output > CERTAIN // 2) != (reference > CERTAIN // 2)).mean())
    exact = report.name.endswith("f32")
    problem = ""
    if exact and not objects and difference > EXACT:
        problem = f"differs by {difference:.4f} in probability"
    elif moved > (EXACT if exact else REDUCED):
        problem = f"{moved:.1%} of the samples change sides of one half"
    return BackendReport(report.backend, report.device, report.name, difference, moved, problem)


SECONDS = 2.0
"""For how long the precisions take turns, after the first pass of each, which compiles."""

TURNS = 3
"""Turns of each, at least."""

TILE = 384
"""Side of the tiles, unless the model takes another only: large enough to be like those of a run."""

WORTH = 1.1
"""How many times as fast another precision has to be to be worth a mention."""


def measure_speeds(bundle: Bundle) -> dict[str, float]:
    """Return the megapixels of tiles a second that OpenVINO does in each precision that it runs.

    Empty where the model has no file for OpenVINO.
    """
    if "openvino" not in backends_of(bundle):
        return {}
    side = bundle.card.tile if bundle.card.fixed_tile else min(TILE, bundle.card.tile)
    shape = (usable_cores(), len(bundle.card.inputs.bands), side, side)
    tiles = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    turns: dict[str, Callable[[], object]] = {}
    for precision in PRECISIONS:
        try:
            predictor: Predictor = load_predictor(bundle, backend="openvino", precision=precision)
            predictor(tiles)
        except (BackendUnavailable, InvalidModel):  # not shipped, or not run on this CPU
            continue
        turns[precision] = partial(predictor, tiles)
    pixels = shape[0] * side**2 / 1e6
    return {precision: pixels / seconds for precision, seconds in best_turns(turns).items()}


def best_turns(
    turns: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the seconds of the best turn of each: disturbances only slow.

    Parameters
    ----------
    turns : mapping of str to callable
        They alternate, so that a change of the machine's load meets all.
    clock : callable
        Returns seconds.
    """
    best: dict[str, float] = {}
    began, done = clock(), 0
    while turns and (done < TURNS or clock() - began < SECONDS):
        for name, turn in turns.items():
            start = clock()
            turn()
            best[name] = min(best.get(name, float("inf")), max(clock() - start, 1e-9))
        done += 1
    return best


def advise(speeds: Mapping[str, float], taken: str, reason: str) -> str:
    """Say in one line what ``--precision auto`` takes, and what to type if another precision is faster.

    Parameters
    ----------
    speeds : mapping of str to float
        See `measure_speeds`.
    taken : str
        The precision that the rule takes.
    reason : str
        Why, see `geoseg.backends.hardware.by_rule`.

    Examples
    --------
    >>> advise({"f32": 4.0, "bf16": 8.0}, "bf16", "this CPU computes in it")
    'bf16 is the default (this CPU computes in it), and the fastest here'
    >>> advise({"bf16": 8.0, "int8": 16.0}, "bf16", "this CPU has AMX")
    'bf16 is the default (this CPU has AMX); int8 is 2.0 times as fast here: --precision int8'
    """
    fastest = max(speeds, key=lambda name: speeds[name])
    gain = speeds[fastest] / speeds[taken] if taken in speeds else float("inf")
    default = f"{taken} is the default ({reason})"
    if gain >= WORTH:
        how = f"{gain:.1f} times as fast here" if taken in speeds else "the fastest that runs here"
        return f"{default}; {fastest} is {how}: --precision {fastest}"
    return f"{default}, and the fastest here"
