"""Models through PyTorch, on the CPU or on an NVIDIA GPU: safetensors and an architecture."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.backends import architectures
from geoseg.backends.base import Activation, Predictor, to_probabilities
from geoseg.errors import BackendUnavailable, OutOfDeviceMemory

_ALLOCATION = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class PyTorchPredictor:
    """Runs the network with fixed weights: float32 on the CPU, bf16 and channels last on CUDA.

    On CUDA whole batches run at once, one after the other. On the CPU tiles run one by one, so that a
    tile's result cannot depend on its batch, and each on one thread: callers in several threads keep
    the cores busy, and PyTorch's own threads spin and lose 5 times where other work runs beside.

    Parameters
    ----------
    folder : Path
        With ``model.safetensors`` and ``config.json``; see `geoseg.backends.architectures.load`.
    activation : str
        Applied to the output, in float32.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    threads : int, optional
        CPU threads of each tile, set for this whole process; None: 1 on the CPU, unchanged on CUDA.

    Raises
    ------
    InvalidModel
        If weights and architecture do not fit each other.
    BackendUnavailable
        If PyTorch sees no such device.
    """

    def __init__(
        self, folder: Path, activation: Activation, *, device: str = "cpu", threads: int | None = None
    ) -> None:
        self._device = _find_device(device)
        self.device = device
        self._cuda = self._device.type == "cuda"
        self.name = "pytorch bf16" if self._cuda else "pytorch f32"
        self._activation = activation
        if threads is not None or not self._cuda:
            torch.set_num_threads(threads or 1)
        network = architectures.load(folder).eval().requires_grad_(False)
        self._network = network.to(self._device).to(memory_format=torch.channels_last)
        # One forward at a time on a GPU: two would only share it, and double the memory.
        self._turn = threading.Lock() if self._cuda else contextlib.nullcontext()

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Predict a batch; see `geoseg.backends.base.Predictor`."""
        parts = [batch] if self._cuda else np.split(batch, len(batch))
        outputs = np.concatenate([self._run(part) for part in parts])
        return to_probabilities(outputs, self._activation)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        tiles = torch.from_numpy(batch.copy())  # PyTorch takes no negative strides and no read-only memory
        try:
            with (
                self._turn,
                torch.inference_mode(),
                torch.autocast(self._device.type, torch.bfloat16, enabled=self._cuda),
            ):
                tiles = tiles.to(self._device, memory_format=torch.channels_last)
                output = self._network(tiles).float().contiguous().cpu()
        except RuntimeError as error:
            if not any(hint in str(error) for hint in _ALLOCATION):
                raise
            if self._cuda:
                torch.cuda.empty_cache()
            raise OutOfDeviceMemory(f"{self.device}: a batch of {len(batch)} tiles does not fit") from error
        return np.asarray(output.numpy(), np.float32)


def _find_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendUnavailable(f"device {name}: PyTorch knows no such device") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendUnavailable(f"device {name}: PyTorch sees {torch.cuda.device_count()} CUDA devices")
    if device.type not in ("cpu", "cuda"):
        raise BackendUnavailable(f"device {name}: geoseg runs on cpu and cuda")
    return device


_conforming: type[Predictor] = PyTorchPredictor
