"""Loading a model on the backend, device and precision that were chosen, once a process."""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from geoseg.backends.base import Predictor
from geoseg.backends.flips import FlippingPredictor
from geoseg.backends.precision import Choice, Precision, choose_precision, cpu_capabilities
from geoseg.backends.replay import Batch, Replaying, worth_measuring
from geoseg.errors import BackendUnavailable, InvalidModel
from geoseg.models.bundle import INT8, IR, ONNX, Bundle, find_model

if TYPE_CHECKING:
    from types import ModuleType

Backend = Literal["openvino", "onnx", "pytorch"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class PredictorRecipe:
    """How to load a predictor in any process: what a cluster sends instead of the predictor.

    Parameters
    ----------
    model : str
        Path of the model; the workers need to see it too.
    digest : str
        Digest that the model's card must have there.
    backend : str
        ``openvino``, ``onnx`` or ``pytorch``.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    threads : int or None
        CPU threads of one predictor; None: the backend's own choice.
    name : str
        `Predictor.name` that it must have, as other precision gives other bits; empty: any.
    precision : str
        ``auto``, ``f32``, ``bf16`` or ``int8``.
    flips : bool
        Average over flips, see `geoseg.backends.flips`.
    replay : Batch or None
        Batches whose forward pass is recorded and replayed; None: all are launched.
    reason : str
        Why this backend and this precision, for people: one short line.
    other : str or None
        The other precision, where INT8 is compared with one; None: nothing is compared.
    untried : bool
        Whether that has not been done yet, so that the precision may turn out to be the other.
    """

    model: str
    digest: str
    backend: Backend
    device: str
    threads: int | None = None
    name: str = ""
    precision: str = "auto"
    flips: bool = False
    replay: Batch | None = None
    reason: str = field(default="", compare=False)
    other: Precision | None = field(default=None, compare=False)
    untried: bool = field(default=False, compare=False)

    def load(self) -> Predictor:
        """Load the predictor, or return the one that this process already has.

        Raises
        ------
        InvalidModel
            If the model is wrong, or not the same as where the recipe was made.
        BackendUnavailable
            If this machine lacks the backend, the device, or the precision.
        """
        with _lock:
            predictor = self._bare()
            if self.replay is not None and isinstance(predictor, Replaying):
                predictor.replay(self.replay)
        if self.flips:
            predictor = FlippingPredictor(predictor)
        if self.name not in ("", predictor.name):
            raise BackendUnavailable(
                f"this worker computes in {predictor.name}, the run was planned for {self.name}; "
                "choose another --backend, or workers of one kind"
            )
        return predictor

    def for_run(self, batch: Batch, tiles: int, workers: int) -> PredictorRecipe:
        """Return the recipe for a run of known length: on a GPU, whether passes are replayed.

        Measured here, once; the workers of a run do what was chosen. A short run, one that
        `geoseg.backends.replay.worth_measuring` says no to, gets the recipe unchanged.

        Parameters
        ----------
        batch : Batch
            What most batches of the run are.
        tiles : int
            Tiles of the run.
        workers : int
            Processes that share them.
        """
        if not self.device.startswith("cuda") or not worth_measuring(tiles, batch, workers):
            return self
        with _lock:
            predictor = self._bare()
            if not isinstance(predictor, Replaying):
                return self
            choice = predictor.try_replay(batch)
            if workers > 1:  # they have the device to themselves
                predictor.forget()
        reason = f"{self.reason}; {choice.reason}"
        return replace(self, replay=batch if choice.replay else None, reason=reason)

    def _bare(self) -> Predictor:
        return _load(replace(self, name="", flips=False, replay=None))


def precision_of(bundle: Bundle, recipe: PredictorRecipe) -> Choice:
    """Return the precision that a recipe takes on this machine; see `choose_precision`."""
    capabilities = cpu_capabilities() if recipe.backend == "openvino" else frozenset[str]()
    return choose_precision(
        bundle, recipe.precision, backend=recipe.backend, device=recipe.device, capabilities=capabilities
    )


@lru_cache(maxsize=8)
def _load(recipe: PredictorRecipe) -> Predictor:
    bundle = find_model(recipe.model)
    if bundle.card.digest != recipe.digest:
        raise InvalidModel(f"{recipe.model}: is not the model that the run was planned with (digest)")
    activation, threads = bundle.card.activation, recipe.threads
    precision = precision_of(bundle, recipe).precision  # on a worker: whether its CPU has it too
    predictor: Predictor
    if recipe.backend == "pytorch":
        predictor = _import("pytorch").PyTorchPredictor(
            bundle.path, activation, device=recipe.device, inputs=bundle.card.inputs
        )
    elif recipe.backend == "onnx":
        predictor = _import("onnx").OnnxPredictor(bundle.files[ONNX], activation, threads=threads)
    else:
        predictor = load_openvino(bundle, threads, precision, digest=bundle.card.digest)
    return predictor


def load_openvino(bundle: Bundle, threads: int | None, precision: Precision, digest: str = "") -> Predictor:
    """Load a model in OpenVINO, for the caller alone; with a digest its compiled networks are kept."""
    path = bundle.files.get(ONNX) or bundle.files[IR[0]]
    path = bundle.files[INT8[0]] if precision == "int8" else path
    predictor: Predictor = _import("openvino").OpenVinoPredictor(
        path,
        bundle.card.activation,
        precision=precision,
        threads=threads,
        inputs=bundle.card.inputs,
        digest=digest,
    )
    return predictor


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"geoseg.backends.{name}")
    except ImportError as error:
        raise BackendUnavailable(f"backend {name}: {error.name} cannot be imported: {error}") from error
