"""Models through PyTorch, on the CPU or on an NVIDIA GPU: safetensors and an architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.backends import architectures
from geoseg.backends.base import NOT_A_NUMBER, Activation, Predictor
from geoseg.backends.gpu_runner import GpuRunner, out_of_memory
from geoseg.backends.replay import Batch, ReplayChoice, Replaying
from geoseg.backends.torch_ends import CpuRunner, Forward, WholeModel
from geoseg.errors import BackendUnavailable, InvalidModel, OutOfDeviceMemory
from geoseg.models.inputs import InputSpec


class PyTorchPredictor:
    """Runs the network with fixed weights: float32 on the CPU, bf16 and channels last on CUDA.

    On CUDA whole batches run at once, while others are copied. On the CPU tiles run one by one, so
    that a tile's result cannot depend on its batch, and each on one thread: callers in several threads
    keep the cores busy, and PyTorch's own threads spin and lose 5 times where other work runs beside.

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
    inputs : InputSpec, optional
        How uint8 tiles are normalized; None: it takes normalized ones only.

    Raises
    ------
    InvalidModel
        If weights and architecture do not fit each other.
    BackendUnavailable
        If PyTorch sees no such device, or it has no room for the model.
    """

    def __init__(
        self,
        folder: Path,
        activation: Activation,
        *,
        device: str = "cpu",
        threads: int | None = None,
        inputs: InputSpec | None = None,
    ) -> None:
        found = _find_device(device)
        cuda = found.type == "cuda"
        self.device = device
        self.name = "pytorch bf16" if cuda else "pytorch f32"
        self.normalizes = inputs is not None
        if threads is not None or not cuda:
            torch.set_num_threads(threads or 1)
        network = architectures.load(folder).eval().requires_grad_(False)
        whole = WholeModel(network, activation, inputs, half=cuda)
        try:
            whole = whole.to(found).to(memory_format=torch.channels_last)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise BackendUnavailable(
                f"device {self.device}: no room for the model in what is free of the GPU's memory; "
                "give --device cpu, or another GPU (cuda:N)"
            ) from error
        self._gpu = GpuRunner(whole, found) if cuda else None
        self._run: Callable[[NDArray[Any]], Forward] = self._gpu or CpuRunner(whole)

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        """Predict a batch; see `geoseg.backends.base.Predictor`."""
        try:
            values, broken = self._run(batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            self.forget()  # smaller batches are not recorded
            raise OutOfDeviceMemory(f"{self.device}: a batch of {len(batch)} tiles does not fit") from error
        if broken:
            raise InvalidModel(NOT_A_NUMBER)
        return values

    def try_replay(self, batch: Batch) -> ReplayChoice:
        """Measure both ways to run such batches on a GPU, and go the faster; see `Replaying`."""
        return ReplayChoice(False, "") if self._gpu is None else self._gpu.try_replay(batch)

    def replay(self, batch: Batch) -> None:
        """Record a pass for such batches on a GPU, unless that was done or has failed before."""
        if self._gpu is not None:
            self._gpu.replay(batch)

    def forget(self) -> None:
        """Give back what a recorded pass holds, see `Replaying`."""
        if self._gpu is not None:
            self._gpu.forget()


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
_replaying: type[Replaying] = PyTorchPredictor
