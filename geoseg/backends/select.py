"""Which backend and device run a model, and loading it once a process.

The rule for ``auto``: a folder with PyTorch weights on a machine with an NVIDIA GPU runs there; all
else runs on the CPU, in OpenVINO if the model has an ONNX file or IR, and in PyTorch if it has only
PyTorch weights. An ONNX file that OpenVINO cannot read falls back to ONNX Runtime.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from geoseg.backends.base import Predictor
from geoseg.errors import BackendUnavailable, InvalidModel
from geoseg.models.bundle import IR, ONNX, WEIGHTS, Bundle, find_model

if TYPE_CHECKING:
    from types import ModuleType

Backend = Literal["openvino", "onnx", "pytorch"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

_log = logging.getLogger("geoseg")
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class PredictorRecipe:
    """How to load a predictor in any process: what a cluster sends instead of the predictor.

    Parameters
    ----------
    model : str
        Name or path of the model, as `find_model` takes it; the workers need to see it too.
    digest : str
        Digest that the model's card must have there.
    backend : str
        ``openvino``, ``onnx`` or ``pytorch``.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    threads : int or None
        CPU threads of one predictor; None: the backend's own choice.
    """

    model: str
    digest: str
    backend: Backend
    device: str
    threads: int | None = None

    def load(self) -> Predictor:
        """Load the predictor, or return the one that this process already has.

        Raises
        ------
        InvalidModel
            If the model is wrong, or not the same as where the recipe was made.
        BackendUnavailable
            If this machine lacks the backend or the device.
        """
        with _lock:
            return _load(self)


def load_predictor(
    bundle: Bundle, *, backend: str = "auto", device: str = "auto", threads: int | None = None
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

    Raises
    ------
    BackendUnavailable
        If there is no such backend or device, or the model has no file for it.
    InvalidModel
        If the model cannot be run.
    """
    recipe = make_recipe(bundle, backend=backend, device=device, threads=threads)
    try:
        return recipe.load()
    except InvalidModel as error:
        if backend != "auto" or recipe.backend != "openvino" or ONNX not in bundle.files:
            raise
        _log.warning("%s; using ONNX Runtime", error)
        return make_recipe(bundle, backend="onnx", device="cpu", threads=threads).load()


def make_recipe(
    bundle: Bundle, *, backend: str = "auto", device: str = "auto", threads: int | None = None
) -> PredictorRecipe:
    """Decide on backend and device without loading anything; see `load_predictor`."""
    runnable = backends_of(bundle)
    if backend not in ("auto", *BACKENDS):
        raise BackendUnavailable(f"backend {backend}: is none of auto, {', '.join(BACKENDS)}")
    if backend != "auto" and backend not in runnable:
        raise BackendUnavailable(
            f"backend {backend}: {bundle.path} has no file for it; it runs on {', '.join(runnable)}"
        )
    if not (device in ("auto", "cpu", "cuda") or device.startswith("cuda:")):
        raise BackendUnavailable(f"device {device}: is none of auto, cpu, cuda, cuda:N")
    if device.startswith("cuda") and (backend not in ("auto", "pytorch") or "pytorch" not in runnable):
        raise BackendUnavailable(f"device {device}: only the pytorch backend runs there, with {WEIGHTS}")
    if device == "auto":
        gpu = backend in ("auto", "pytorch") and "pytorch" in runnable and cuda_available()
        device = "cuda" if gpu else "cpu"
    chosen: Backend
    if backend == "auto":
        chosen = "pytorch" if device.startswith("cuda") else runnable[0]
    else:
        chosen = next(name for name in BACKENDS if name == backend)
    return PredictorRecipe(str(bundle.path.absolute()), bundle.card.digest, chosen, device, threads)


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


@lru_cache(maxsize=8)
def _load(recipe: PredictorRecipe) -> Predictor:
    bundle = find_model(recipe.model)
    if bundle.card.digest != recipe.digest:
        raise InvalidModel(f"{recipe.model}: is not the model that the run was planned with (digest)")
    module = _import(recipe.backend)
    activation = bundle.card.activation
    predictor: Predictor
    if recipe.backend == "pytorch":
        predictor = module.PyTorchPredictor(
            bundle.path, activation, device=recipe.device, threads=recipe.threads
        )
    elif recipe.backend == "onnx":
        predictor = module.OnnxPredictor(bundle.files[ONNX], activation, threads=recipe.threads)
    else:
        path = bundle.files.get(ONNX) or bundle.files[IR[0]]
        predictor = module.OpenVinoPredictor(path, activation, threads=recipe.threads)
    return predictor


def _import(backend: Backend) -> ModuleType:
    try:
        return importlib.import_module(f"geoseg.backends.{backend}")
    except ImportError as error:
        raise BackendUnavailable(f"backend {backend}: {error.name} cannot be imported: {error}") from error
