"""Which backend and device run a model, and loading it once a process.

The rule for ``auto``: a folder with PyTorch weights on a machine with an NVIDIA GPU runs there; all
else runs on the CPU, in OpenVINO if the model has an ONNX file or IR, and in PyTorch if it has only
PyTorch weights. An ONNX file that OpenVINO cannot read falls back to ONNX Runtime. The precision
follows from that: see `geoseg.backends.precision`.
"""

from __future__ import annotations

import importlib
import logging
import re
import shutil
import threading
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from geoseg.backends.base import Predictor
from geoseg.backends.flips import FLIPS, FlippingPredictor
from geoseg.backends.precision import AS_ASKED, Choice, choose_precision, cpu_capabilities
from geoseg.backends.replay import Batch, Replaying, worth_measuring
from geoseg.errors import BackendUnavailable, InvalidModel
from geoseg.models.bundle import INT8, IR, ONNX, WEIGHTS, Bundle, find_model

if TYPE_CHECKING:
    from types import ModuleType

Backend = Literal["openvino", "onnx", "pytorch"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_log = logging.getLogger("geoseg")
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


def load_predictor(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    flips: bool = False,
) -> Predictor:
    """Load a model on a backend and device, once a process for equal arguments.

    Parameters
    ----------
    bundle : Bundle
        From `geoseg.models.bundle.find_model`.
    backend : str
        ``auto``, ``openvino``, ``onnx`` or ``pytorch``.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    threads : int, optional
        CPU threads of this predictor; None: the backend's own choice.
    precision : str
        ``auto``, ``f32``, ``bf16`` or ``int8``.
    flips : bool
        Average over flips, see `geoseg.backends.flips`.

    Raises
    ------
    BackendUnavailable
        If there is no such backend, device or precision, or the model has no file for it.
    InvalidModel
        If the model cannot be run.
    """
    recipe = settle(bundle, backend=backend, device=device, threads=threads, precision=precision, flips=flips)
    return recipe.load()


def settle(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    flips: bool = False,
) -> PredictorRecipe:
    """Decide on backend, device and precision by loading the model; the recipe gives the same anywhere.

    Parameters and errors are those of `load_predictor`.
    """
    recipe = choose(bundle, backend=backend, device=device, threads=threads, precision=precision)
    recipe = _settle_precision(bundle, replace(recipe, flips=flips))
    try:
        predictor = recipe.load()
    except InvalidModel as error:
        fits = precision in ("auto", "f32") and ONNX in bundle.files
        if backend != "auto" or recipe.backend != "openvino" or not fits:
            raise
        _log.warning("%s; using ONNX Runtime", error)
        other = choose(bundle, backend="onnx", device="cpu", threads=threads, precision=precision)
        other = replace(other, flips=flips, reason="OpenVINO cannot read the model")
        recipe = _settle_precision(bundle, other)
        predictor = recipe.load()
    return replace(recipe, name=predictor.name)


def choose(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
) -> PredictorRecipe:
    """Choose backend and device by the rule of this module, and say why, without loading anything.

    A precision that a GPU does not compute in here is looked for on the CPU.

    Raises
    ------
    BackendUnavailable
        If there is no such backend or device, or the model has no file for it.
    """
    runnable = backends_of(bundle)
    if backend not in ("auto", *BACKENDS):
        raise BackendUnavailable(f"backend {backend}: is none of auto, {', '.join(BACKENDS)}")
    if backend != "auto" and backend not in runnable:
        raise BackendUnavailable(
            f"backend {backend}: {bundle.path} has no file for it; it runs on {', '.join(runnable)}"
        )
    if not _DEVICE.fullmatch(device):
        raise BackendUnavailable(f"device {device}: is none of auto, cpu, cuda, cuda:N")
    gpu = backend in ("auto", "pytorch") and "pytorch" in runnable
    if device.startswith("cuda") and not gpu:
        raise BackendUnavailable(f"device {device}: only the pytorch backend runs there, with {WEIGHTS}")
    if device.startswith("cuda") and not cuda_available():
        raise BackendUnavailable(f"device {device}: this machine has no NVIDIA GPU that PyTorch can use")
    named = device != "auto"
    if not named:
        device = "cuda" if gpu and precision in ("auto", "bf16") and cuda_available() else "cpu"
    cuda = device.startswith("cuda")
    preferred = "pytorch" if cuda else runnable[0]
    chosen = next(name for name in BACKENDS if name == (preferred if backend == "auto" else backend))
    if backend != "auto":
        reason = AS_ASKED
    elif cuda:
        reason = f"it alone runs on {device}" if named else "this machine has a GPU"
    else:
        reason = "the model has only its weights" if chosen == "pytorch" else "the fastest on a CPU"
    path = str(bundle.path.absolute())
    digest = bundle.card.digest
    return PredictorRecipe(path, digest, chosen, device, threads, precision=precision, reason=reason)


def backends_of(bundle: Bundle) -> tuple[Backend, ...]:
    """Return the backends that the bundle has files for, the best on a CPU first."""
    has = set(bundle.files)
    names: list[Backend] = []
    if ONNX in has or IR[0] in has:
        names.append("openvino")
    if ONNX in has:
        names.append("onnx")
    if WEIGHTS in has:
        names.append("pytorch")
    return tuple(names)


def cuda_available() -> bool:
    """Return whether PyTorch can use an NVIDIA GPU; without a driver torch is not even imported."""
    driver = Path("/dev/nvidiactl").exists() or Path("/dev/nvidia0").exists()
    if not driver and shutil.which("nvidia-smi") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _settle_precision(bundle: Bundle, recipe: PredictorRecipe) -> PredictorRecipe:
    choice = _precision(bundle, recipe)
    flips = f"; {len(FLIPS)} passes over each tile" if recipe.flips else ""
    reason = f"{recipe.backend}: {recipe.reason}; {choice.precision}: {choice.reason}{flips}"
    return replace(recipe, precision=choice.precision, reason=reason)


def _precision(bundle: Bundle, recipe: PredictorRecipe) -> Choice:
    capabilities = cpu_capabilities() if recipe.backend == "openvino" else frozenset[str]()
    return choose_precision(
        bundle, recipe.precision, backend=recipe.backend, device=recipe.device, capabilities=capabilities
    )


@lru_cache(maxsize=8)
def _load(recipe: PredictorRecipe) -> Predictor:
    bundle = find_model(recipe.model)
    if bundle.card.digest != recipe.digest:
        raise InvalidModel(f"{recipe.model}: is not the model that the run was planned with (digest)")
    module = _import(recipe.backend)
    activation = bundle.card.activation
    precision = _precision(bundle, recipe).precision  # on a worker: whether its CPU has it too
    predictor: Predictor
    if recipe.backend == "pytorch":
        predictor = module.PyTorchPredictor(
            bundle.path,
            activation,
            device=recipe.device,
            inputs=bundle.card.inputs,
        )
    elif recipe.backend == "onnx":
        predictor = module.OnnxPredictor(bundle.files[ONNX], activation, threads=recipe.threads)
    else:
        path = bundle.files.get(ONNX) or bundle.files[IR[0]]
        path = bundle.files[INT8[0]] if precision == "int8" else path
        predictor = module.OpenVinoPredictor(
            path,
            activation,
            precision=precision,
            threads=recipe.threads,
            inputs=bundle.card.inputs,
            digest=bundle.card.digest,
        )
    return predictor


def _import(backend: Backend) -> ModuleType:
    try:
        return importlib.import_module(f"geoseg.backends.{backend}")
    except ImportError as error:
        raise BackendUnavailable(f"backend {backend}: {error.name} cannot be imported: {error}") from error
