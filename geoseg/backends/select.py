"""Which backend, device and precision run a model.

The rule for ``auto``: a folder with PyTorch weights on a machine with an NVIDIA GPU runs there; all
else runs on the CPU, in OpenVINO if the model has an ONNX file or IR, and in PyTorch if it has only
PyTorch weights. An ONNX file that OpenVINO cannot read falls back to ONNX Runtime. The precision
follows from that (see `geoseg.backends.precision`), and for INT8 from a trial (`geoseg.backends.trial`).
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.backends.base import Predictor
from geoseg.backends.flips import FLIPS
from geoseg.backends.loading import BACKENDS, Backend, PredictorRecipe, load_openvino, precision_of
from geoseg.backends.precision import AS_ASKED, Precision, weigh
from geoseg.backends.trial import Trial
from geoseg.errors import BackendUnavailable, InvalidModel
from geoseg.models.bundle import IR, ONNX, WEIGHTS, Bundle

if TYPE_CHECKING:
    from collections.abc import Callable

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_log = logging.getLogger("geoseg")
_trying = threading.Lock()


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
    say: Callable[[str], None] | None = _log.info,
) -> PredictorRecipe:
    """Decide on backend, device and precision by loading the model; the recipe gives the same anywhere.

    Parameters and errors are those of `load_predictor`; `say` is told of what takes seconds. None: nothing
    that does is begun, so INT8 may be left `untried`.
    """
    recipe = choose(bundle, backend=backend, device=device, threads=threads, precision=precision)
    recipe = _settle_precision(bundle, replace(recipe, flips=flips), say)
    try:
        predictor = recipe.load()
    except InvalidModel as error:
        fits = precision in ("auto", "f32") and ONNX in bundle.files
        if backend != "auto" or recipe.backend != "openvino" or not fits:
            raise
        _log.warning("%s; using ONNX Runtime", error)
        other = choose(bundle, backend="onnx", device="cpu", threads=threads, precision=precision)
        other = replace(other, flips=flips, reason="OpenVINO cannot read the model")
        recipe = _settle_precision(bundle, other, say)
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


def _settle_precision(
    bundle: Bundle, recipe: PredictorRecipe, say: Callable[[str], None] | None
) -> PredictorRecipe:
    rule = precision_of(bundle, recipe)
    gain = _int8_gain(bundle, rule.unless, say) if rule.unless else None
    untried = gain is None and rule.unless is not None
    choice = rule if gain is None else weigh(rule, gain)
    other = rule.unless if choice.precision == rule.precision else rule.precision
    flips = f"; {len(FLIPS)} passes over each tile" if recipe.flips else ""
    reason = f"{recipe.backend}: {recipe.reason}; {choice.precision}: {choice.reason}{flips}"
    return replace(recipe, precision=choice.precision, reason=reason, other=other, untried=untried)


def _int8_gain(bundle: Bundle, usual: Precision, say: Callable[[str], None] | None) -> float | None:
    """Return what is known of INT8 on this machine, or what a trial says; None: nothing."""
    import openvino

    from geoseg.backends.compiled import machine

    trial = Trial(bundle, usual, machine(openvino.Core()))
    with _trying:
        if (known := trial.known()) is not None or say is None:
            return known
        say(f"trying once whether {bundle.card.name} is faster in INT8 or {usual} on this machine")
        try:
            return trial.run(partial(load_openvino, bundle, 1))
        except InvalidModel:  # it cannot be compared; whether INT8 runs is told by who loads it
            return None
