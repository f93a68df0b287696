"""Which NVIDIA GPUs this process may use, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Names the GPUs that a process may use: numbers, or identifiers such as ``GPU-8932f937``."""


def visible_gpus(environment: Mapping[str, str], count: int) -> tuple[str, ...]:
    """Return what to put into `VISIBLE` for each GPU that this process may use, to hand it on alone.

    Parameters
    ----------
    environment : mapping
        Of this process.
    count : int
        GPUs that PyTorch sees here. CUDA ends the list at the first name that it does not know, so
        there may be fewer of them than names.
    """
    listed = environment.get(VISIBLE)
    if listed is None:
        return tuple(str(number) for number in range(count))
    return tuple(name.strip() for name in listed.split(","))[:count]


def gpu_count() -> int:
    """Return how many GPUs PyTorch sees."""
    import torch

    return torch.cuda.device_count()


def gpu_name(device: str) -> str:
    """Return what kind of GPU a device is.

    Parameters
    ----------
    device : str
        ``cuda`` or ``cuda:N``.
    """
    import torch

    return torch.cuda.get_device_name(device)
