"""Which backend, device and precision run a model, and loading it there, once a process.

The rule for ``auto``: a folder with PyTorch weights on a machine with an NVIDIA GPU runs there; all
else runs on the CPU, in OpenVINO if the model has an ONNX file or IR, and in PyTorch if it has only
PyTorch weights. An ONNX file that OpenVINO cannot read falls back to ONNX Runtime. The precision
follows from that (see `geoseg.backends.hardware`).
"""

from __future__ import annotations

import importlib
import logging
import platform
import re
import threading
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, cast, get_args

from geoseg.backends.base import FLIPS, Detector, FlippingPredictor, Predictor
from geoseg.backends.hardware import (
    AS_ASKED,
    FEATURES,
    USES,
    Choice,
    choose_precision,
    cpu_features,
    cuda_available,
    has_nvidia_driver,
    has_torch,
)
from geoseg.errors import BackendUnavailable, InvalidModel, MissingExtra
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
        Average over flips, see `geoseg.backends.base.FlippingPredictor`.
    gather : int
        Tiles of every pass on a GPU, those of several threads together; 0: a pass is a batch.
    threshold : float
        Score from which on objects are wanted.
    needs : frozenset of str
        What the CPU of a worker must have, see `geoseg.backends.hardware.FEATURES`.
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
    gather: int = 0
    threshold: float = 0.0
    needs: frozenset[str] = frozenset()
    reason: str = field(default="", compare=False)

    def load(self) -> Predictor:
        """Load the predictor, or return the one that this process already has.

        Raises
        ------
        InvalidModel
            If the model is wrong, or not the same as where the recipe was made.
        BackendUnavailable
            If this machine lacks the backend, the device, or the precision.
        MissingExtra
            If it lacks PyTorch.
        """
        missing = self.needs - cpu_features() if self.needs else ()
        if missing:
            lacks = " and ".join(FEATURES[key] for key in sorted(missing))
            raise BackendUnavailable(
                f"worker {platform.node()}: its CPU lacks {lacks}, by which the run computes in "
                f"{self.precision}; take workers of one kind, or give --precision f32"
            )
        with _lock:
            predictor = _load(replace(self, name="", flips=False))
        if self.flips:
            predictor = FlippingPredictor(predictor)
        if self.name not in ("", predictor.name):
            raise BackendUnavailable(
                f"worker {platform.node()}: computes in {predictor.name}, the run in {self.name}; "
                "take workers of one kind, or give --backend and --precision"
            )
        return predictor


class Asked(TypedDict, total=False):
    """A user's choices; what is left out is ``auto``."""

    backend: str
    """``auto``, ``openvino``, ``onnx`` or ``pytorch``."""
    device: str
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    threads: int | None
    """CPU threads of one predictor; None: the backend's own choice."""
    precision: str
    """``auto``, ``f32``, ``bf16`` or ``int8``."""
    flips: bool
    """Average over flips, see `geoseg.backends.base.FlippingPredictor`."""
    threshold: float
    """Score from which on objects are wanted."""


def load_predictor(bundle: Bundle, **asked: Unpack[Asked]) -> Predictor:
    """Load a model on a backend and device, once a process for equal arguments.

    Parameters and errors are those of `choose_predictor`.
    """
    return choose_predictor(bundle, **asked).load()


def choose_predictor(bundle: Bundle, **asked: Unpack[Asked]) -> PredictorRecipe:
    """Decide on backend, device and precision by loading the model; the recipe gives the same anywhere.

    Parameters
    ----------
    bundle : Bundle
        From `geoseg.models.bundle.find_model`.
    **asked
        See `Asked`.

    Raises
    ------
    BackendUnavailable
        If there is no such backend, device or precision, or the model has no file for it.
    InvalidModel
        If the model cannot be run.
    MissingExtra
        If that needs PyTorch, which is not installed.
    """
    recipe = _with_precision(bundle, choose_backend(bundle, **asked))
    try:
        predictor = recipe.load()
    except InvalidModel as error:
        fits = asked.get("precision", "auto") in ("auto", "f32") and ONNX in bundle.files
        if asked.get("backend", "auto") != "auto" or recipe.backend != "openvino" or not fits:
            raise
        _log.warning("%s; using ONNX Runtime", error)
        other = choose_backend(bundle, **asked | Asked(backend="onnx", device="cpu"))
        recipe = _with_precision(bundle, replace(other, reason="OpenVINO cannot read the model"))
        predictor = recipe.load()
    return replace(recipe, name=predictor.name)


def choose_backend(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    flips: bool = False,
    threshold: float = 0.0,
) -> PredictorRecipe:
    """Choose backend and device by the rule of this module, and say why, without loading anything.

    A precision that a GPU does not compute in here is looked for on the CPU. Parameters and errors are
    those of `choose_predictor`.
    """
    runnable = backends_of(bundle)
    if backend not in ("auto", *BACKENDS):
        raise BackendUnavailable(f"backend {backend}: is none of auto, {', '.join(BACKENDS)}")
    if backend != "auto" and backend not in runnable:
        raise BackendUnavailable(
            f"backend {backend}: {bundle.path} has no file for it; it runs on {', '.join(runnable)}"
        )
    device = _choose_device(device, precision, gpu=backend in ("auto", "pytorch") and "pytorch" in runnable)
    cuda = device.startswith("cuda")
    preferred = "pytorch" if cuda else runnable[0]
    chosen = cast("Backend", preferred if backend == "auto" else backend)
    if backend != "auto":
        reason = AS_ASKED
    elif cuda:
        reason = f"on {device}"
    else:
        reason = "the model has only its weights" if chosen == "pytorch" else "the fastest on a CPU"
    path, digest = str(bundle.path.absolute()), bundle.card.digest
    objects = bundle.card.instances is not None
    return PredictorRecipe(
        path,
        digest,
        chosen,
        device,
        threads,
        precision=precision,
        flips=flips,
        threshold=threshold * objects,  # else the same predictor serves all of them
        reason=reason,
    )


def _choose_device(device: str, precision: str, *, gpu: bool) -> str:
    """Return the device; `gpu`: whether PyTorch may run the model."""
    if not _DEVICE.fullmatch(device):
        raise BackendUnavailable(f"device {device}: is none of auto, cpu, cuda, cuda:N")
    if device.startswith("cuda"):
        if not gpu:
            raise BackendUnavailable(f"device {device}: only the pytorch backend runs there, with {WEIGHTS}")
        if not has_torch():
            raise MissingExtra(f"device {device}", "torch")
        if not cuda_available():
            raise BackendUnavailable(f"device {device}: this machine has no NVIDIA GPU that PyTorch can use")
        return device
    if device == "cpu" or not gpu or precision not in ("auto", "bf16") or not has_nvidia_driver():
        return "cpu"
    if not has_torch():
        _log.warning("%s; running on the CPU", MissingExtra("the NVIDIA GPU of this machine", "torch"))
    return "cuda" if cuda_available() else "cpu"


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


def precision_of(bundle: Bundle, recipe: PredictorRecipe) -> Choice:
    """Return the precision that a recipe takes on this machine; see `choose_precision`."""
    features = cpu_features() if recipe.backend == "openvino" else frozenset[str]()
    choice = choose_precision(
        bundle, recipe.precision, backend=recipe.backend, device=recipe.device, features=features
    )
    unasked = recipe.precision == "auto" and bundle.card.instances is not None
    if unasked and recipe.backend == "openvino" and choice.precision == "bf16" and "amx" not in features:
        return Choice("f32", "without AMX, bf16 is slower for models that find objects")
    return choice


def _with_precision(bundle: Bundle, recipe: PredictorRecipe) -> PredictorRecipe:
    choice = precision_of(bundle, recipe)
    flips = f"; {len(FLIPS)} passes over each tile" if recipe.flips else ""
    reason = f"{recipe.backend}: {recipe.reason}; {choice.precision}: {choice.reason}{flips}"
    needs = recipe.needs
    if recipe.backend == "openvino":
        needs = cpu_features().intersection(USES[choice.precision])
    return replace(recipe, precision=choice.precision, reason=reason, needs=needs)


@lru_cache(maxsize=8)
def _load(recipe: PredictorRecipe) -> Predictor:
    bundle = find_model(recipe.model)
    if bundle.card.digest != recipe.digest:
        raise InvalidModel(f"{recipe.model}: is not the model that the run was planned with (digest)")
    if bundle.card.instances is not None:
        return cast("Predictor", _load_detector(bundle, recipe))
    activation, threads = bundle.card.activation, recipe.threads
    predictor: Predictor
    if recipe.backend == "pytorch":
        if not has_torch():
            raise MissingExtra(f"{recipe.model}: to run PyTorch weights", "torch")
        predictor = _import("pytorch").PyTorchPredictor(
            bundle.path,
            activation,
            device=recipe.device,
            inputs=bundle.card.inputs,
            gather=recipe.gather,
        )
    elif recipe.backend == "onnx":
        predictor = _import("onnx").OnnxPredictor(bundle.files[ONNX], activation, threads=threads)
    else:
        path = bundle.files.get(ONNX) or bundle.files[IR[0]]
        predictor = _import("openvino").OpenVinoPredictor(
            bundle.files[INT8[0]] if recipe.precision == "int8" else path,
            activation,
            precision=recipe.precision,
            threads=threads,
            inputs=bundle.card.inputs,
            digest=bundle.card.digest,
        )
    return predictor


def _load_detector(bundle: Bundle, recipe: PredictorRecipe) -> Detector:
    how = bundle.card.instances
    assert how is not None
    # What scores less is left out afterwards: no masks are made of it. The margin is for rounding.
    how = how.model_copy(update={"least_score": max(how.least_score, recipe.threshold - 1e-6)})
    if recipe.backend != "pytorch":
        runtime = "openvino" if recipe.backend == "openvino" else "onnxruntime"
        detector: Detector = _import("detector").NetworkDetector(
            bundle.files, how, runtime, recipe.threads, recipe.precision
        )
        return detector
    if not has_torch():
        raise MissingExtra(f"{recipe.model}: to run PyTorch weights", "torch")
    network = _import("architectures").load(bundle.path)
    detector = _import("maskrcnn").TorchDetector(network, how, recipe.device)
    return detector


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"geoseg.backends.{name}")
    except ImportError as error:
        raise BackendUnavailable(f"backend {name}: {error.name} cannot be imported: {error}") from error
