"""What this machine can compute on: its cores, the instruction sets of its CPU, its NVIDIA GPUs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

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
    """Return what to put into `VISIBLE` for each GPU that this process may use, to hand it on alone.

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
