"""What this machine can compute on, and in which precision a model computes there, by a rule.

The rule for ``auto`` in OpenVINO: bf16 on a CPU with AMX; INT8 on one with VNNI, if the model ships it
and its card says that it differs from float32 by at most `LOSS_LIMIT`; else bf16 where the CPU computes
in it; else float32. Nothing is timed, so the same command computes the same bits on another day; which
precision is the fastest for a model on a machine is what ``geoseg models check`` measures.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

from geoseg.errors import BackendUnavailable
from geoseg.models.bundle import INT8, Bundle

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Names the GPUs that a process may use: numbers, or identifiers such as ``GPU-8932f937``."""

CPU_INFO = Path("/proc/cpuinfo")
"""Where Linux lists a CPU's instruction sets."""

FEATURES: Mapping[str, str] = {
    "amx": "AMX",
    "vnni": "VNNI",
    "bf16": "bf16 arithmetic (AVX512_BF16 or AMX)",
    "int8": "INT8 arithmetic",
}
"""What `cpu_features` tells of, and how messages call it."""


def usable_cores() -> int:
    """Return the cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def cpu_features() -> frozenset[str]:
    """Return those of `FEATURES` that this machine's CPU has."""
    import openvino

    return features_of(read_flags(CPU_INFO), openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def features_of(flags: Collection[str], capabilities: Collection[str]) -> frozenset[str]:
    """Return those of `FEATURES` that a CPU has, and OpenVINO uses.

    OpenVINO does not say by which instructions it computes, so that is read off the flags.

    Parameters
    ----------
    flags : collection of str
        As Linux lists them; empty where they are not known: AMX and VNNI are then taken to be missing.
    capabilities : collection of str
        OpenVINO's ``OPTIMIZATION_CAPABILITIES``.

    Examples
    --------
    >>> sorted(features_of({"avx2", "avx_vnni"}, {"FP32", "INT8"}))
    ['int8', 'vnni']
    >>> sorted(features_of({"amx_tile", "amx_bf16", "avx512_vnni"}, {"FP32", "BF16", "INT8"}))
    ['amx', 'bf16', 'int8', 'vnni']
    >>> sorted(features_of((), {"FP32", "BF16", "INT8"}))
    ['bf16', 'int8']
    """
    found = {
        "amx": "BF16" in capabilities and {"amx_tile", "amx_bf16"} <= set(flags),
        "vnni": "INT8" in capabilities and bool({"avx512_vnni", "avx_vnni"} & set(flags)),
        "bf16": "BF16" in capabilities,
        "int8": "INT8" in capabilities,
    }
    return frozenset([name for name, has in found.items() if has])


def read_flags(path: Path) -> frozenset[str]:
    """Return the instruction sets that ``/proc/cpuinfo`` lists for the first core.

    Empty on systems without that file (Windows, macOS) and on CPUs without such a list.
    """
    with contextlib.suppress(OSError):
        text = path.read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^flags\s*:(.*)$", text, re.MULTILINE):
            return frozenset(found[1].split())
    return frozenset()


def has_nvidia_driver() -> bool:
    """Return whether the driver of an NVIDIA GPU is installed; nothing is imported for it."""
    devices = Path("/dev/nvidiactl").exists() or Path("/dev/nvidia0").exists()
    return devices or shutil.which("nvidia-smi") is not None


def has_torch() -> bool:
    """Return whether PyTorch is installed; it is not imported."""
    return importlib.util.find_spec("torch") is not None


def cuda_available() -> bool:
    """Return whether PyTorch can use an NVIDIA GPU; without a driver it is not even imported."""
    if not (has_nvidia_driver() and has_torch()):
        return False
    import torch

    return torch.cuda.is_available()


def gpu_count() -> int:
    """Return how many GPUs PyTorch sees."""
    import torch

    return torch.cuda.device_count()


def visible_gpus(environment: Mapping[str, str], count: int) -> tuple[str, ...]:
    """Return for each GPU of this process the value of `VISIBLE` that gives a child that GPU alone.

    Parameters
    ----------
    environment : mapping
        Of this process.
    count : int
        GPUs that PyTorch sees here. CUDA ends the list at the first name that it does not know, so
        there may be fewer of them than names.

    Examples
    --------
    >>> visible_gpus({}, 2)
    ('0', '1')
    >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "3, 1, none"}, 2)
    ('3', '1')
    """
    listed = environment.get(VISIBLE)
    if listed is None:
        return tuple(map(str, range(count)))
    return tuple(map(str.strip, listed.split(",")))[:count]


Precision = Literal["f32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

LOSS_LIMIT = 0.5
"""Largest distance of INT8 to float32, in IoU points, at which it is shipped, and may be the default."""

AS_ASKED = "as asked for"
"""The reason where nothing was left to choose."""

USES: dict[str, tuple[str, ...]] = {"f32": (), "bf16": ("bf16",), "int8": ("int8", "vnni", "bf16")}
"""What a precision is computed with; in INT8, layers that are not quantized take bf16."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A precision, and the reason in a few words."""

    precision: Precision
    reason: str


def choose_precision(
    bundle: Bundle, wanted: str, *, backend: str, device: str, features: Collection[str]
) -> Choice:
    """Decide on the precision for a backend and device that are chosen already.

    For ``auto``, PyTorch takes bf16 on CUDA and float32 on a CPU, ONNX Runtime takes float32, and
    OpenVINO what the rule of this module says.

    Parameters
    ----------
    wanted : str
        ``auto``, ``f32``, ``bf16`` or ``int8``.
    backend : str
        ``openvino``, ``onnx`` or ``pytorch``.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    features : collection of str
        See `cpu_features`; only asked for OpenVINO.

    Raises
    ------
    BackendUnavailable
        If the backend cannot compute in that precision.
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
        measured = bundle.document.properties.int8_loss
        loss = None if measured is None else measured.value
        return by_rule(features, int8=INT8[0] in bundle.files, loss=loss)
    if wanted == "int8" and INT8[0] not in bundle.files:
        raise BackendUnavailable(f"precision int8: {bundle.path} has no {INT8[0]}; choose bf16 or f32")
    if wanted != "f32" and wanted not in features:
        raise BackendUnavailable(f"precision {wanted}: this CPU does not compute in it; choose f32 or auto")
    return Choice(cast("Precision", wanted), AS_ASKED)


def by_rule(features: Collection[str], *, int8: bool, loss: float | None = None) -> Choice:
    """Return the default precision of OpenVINO, by the rule of this module.

    Parameters
    ----------
    features : collection of str
        See `cpu_features`.
    int8 : bool
        Whether the model ships INT8.
    loss : float or None
        See `int8_objection`.

    Examples
    --------
    >>> by_rule({"vnni", "bf16"}, int8=True, loss=0.3).reason
    'this CPU has VNNI and no AMX, and INT8 is 0.3 IoU points from f32 by the card'
    >>> by_rule({"vnni", "bf16", "amx"}, int8=True, loss=0.3)
    Choice(precision='bf16', reason='this CPU has AMX')
    >>> by_rule({"vnni"}, int8=True, loss=-12)
    Choice(precision='f32', reason='INT8 is 12 IoU points from f32 by the card, more than 0.5')
    """
    if "amx" in features:
        return Choice("bf16", "this CPU has AMX")
    objection = int8_objection(loss) if int8 else None
    if int8 and objection is None:
        if "vnni" in features:
            close = f"INT8 is {abs(loss or 0):g} IoU points from f32 by the card"
            return Choice("int8", f"this CPU has VNNI and no AMX, and {close}")
        objection = "INT8 is fast on CPUs with VNNI, which this one is not known to have"
    if "bf16" in features:
        return Choice("bf16", objection or "this CPU computes in it")
    return Choice("f32", objection or "all that this CPU computes in")


def int8_objection(loss: float | None) -> str | None:
    """Return why INT8 cannot be the default; None if it can.

    Parameters
    ----------
    loss : float or None
        IoU points that it loses against float32 by the card, below 0 where it gains some: either way
        it is another model. None: the card does not say.

    Examples
    --------
    >>> int8_objection(-12)
    'INT8 is 12 IoU points from f32 by the card, more than 0.5'
    >>> int8_objection(0.1) is None
    True
    """
    if loss is None:
        return "the card does not say how far INT8 is from f32"
    if not abs(loss) <= LOSS_LIMIT:
        return f"INT8 is {abs(loss):g} IoU points from f32 by the card, more than {LOSS_LIMIT:g}"
    return None
