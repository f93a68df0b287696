"""Which precision a model computes in, and why: what it ships, what the CPU can do, how fast INT8 is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from geoseg.errors import BackendUnavailable
from geoseg.models.bundle import INT8, Bundle

Precision = Literal["f32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

LOSS_LIMIT = 0.5
"""Largest loss of INT8 against float32, in IoU points, at which it is shipped, and used unasked."""

GAIN = 1.1
"""How many times as fast INT8 has to be to be used unasked: less does not pay for what it loses."""

AS_ASKED = "as asked for"
"""The reason where nothing was left to choose."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A precision, and the reason in a few words.

    Parameters
    ----------
    precision : str
    reason : str
    unless : str or None
        What to take instead where this is less than `GAIN` times as fast; None: nothing.
    """

    precision: Precision
    reason: str
    unless: Precision | None = None


@cache
def cpu_capabilities() -> frozenset[str]:
    """Return what OpenVINO says this CPU computes in, such as ``FP32``, ``BF16``, ``INT8``."""
    import openvino

    return frozenset(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def choose_precision(
    bundle: Bundle, wanted: str, *, backend: str, device: str, capabilities: frozenset[str]
) -> Choice:
    """Decide on the precision for a backend and device that are chosen already.

    For ``auto``, PyTorch takes bf16 on CUDA and float32 on a CPU, ONNX Runtime takes float32, and
    OpenVINO the first that fits: INT8 if the model ships it, its card measured a loss of at most
    `LOSS_LIMIT`, and the CPU computes in it, unless a trial finds it too slow (see `weigh`); bf16 if
    the CPU computes in it; float32.

    Parameters
    ----------
    bundle : Bundle
    wanted : str
        ``auto``, ``f32``, ``bf16`` or ``int8``.
    backend : str
        ``openvino``, ``onnx`` or ``pytorch``.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    capabilities : frozenset of str
        See `cpu_capabilities`; only asked for OpenVINO.

    Raises
    ------
    BackendUnavailable
        If the precision is not to be had there.
    """
    if wanted not in ("auto", *PRECISIONS):
        raise BackendUnavailable(f"precision {wanted}: is none of auto, {', '.join(PRECISIONS)}")
    if backend != "openvino":
        only: Precision = "bf16" if device.startswith("cuda") else "f32"
        where = f"{backend} on {device.partition(':')[0]}"
        if wanted not in ("auto", only):
            raise BackendUnavailable(
                f"precision {wanted}: {where} computes in {only}; choose another --backend or --device"
            )
        return Choice(only, AS_ASKED if wanted == only else f"all that {where} computes in")
    if wanted == "auto":
        return _automatic(bundle, capabilities)
    _check(bundle, wanted, capabilities)
    return Choice(next(name for name in PRECISIONS if name == wanted), AS_ASKED)


def _automatic(bundle: Bundle, capabilities: frozenset[str]) -> Choice:
    usual: Precision = "bf16" if "BF16" in capabilities else "f32"
    if INT8[0] not in bundle.files:
        return Choice(usual, "the fastest of model and CPU")
    measured = bundle.document.properties.int8_loss
    if measured is None:
        return Choice(usual, "the card does not say what INT8 loses")
    if not measured.value <= LOSS_LIMIT:
        return Choice(usual, f"INT8 loses {measured.value:g} IoU points, more than {LOSS_LIMIT:g}")
    if "INT8" not in capabilities:
        return Choice(usual, "this CPU does not compute in INT8")
    return Choice("int8", f"it loses {measured.value:g} IoU points by the card", usual)


def weigh(choice: Choice, gain: float) -> Choice:
    """Return INT8 where it is so much faster on this machine that its loss is worth it, else the other.

    Parameters
    ----------
    choice : Choice
        INT8, unless something else is as fast.
    gain : float
        How many times as fast INT8 is as that; 0: it does not run here.
    """
    if choice.unless is None:
        return choice
    if gain >= GAIN:
        return Choice("int8", f"{gain:.2f} times as fast as {choice.unless} here; {choice.reason}")
    slower = f"INT8 is {gain:.2f} times as fast here" if gain else "OpenVINO cannot run INT8 here"
    return Choice(choice.unless, slower)


def _check(bundle: Bundle, wanted: str, capabilities: frozenset[str]) -> None:
    if wanted == "int8" and INT8[0] not in bundle.files:
        raise BackendUnavailable(f"precision int8: {bundle.path} has no {INT8[0]}; choose bf16 or f32")
    needed = {"bf16": "BF16", "int8": "INT8"}.get(wanted, "FP32")
    if needed not in capabilities:
        raise BackendUnavailable(f"precision {wanted}: this CPU does not compute in it; choose f32 or auto")
