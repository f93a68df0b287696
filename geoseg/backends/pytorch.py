"""Models through PyTorch, on the CPU or on an NVIDIA GPU: safetensors and an architecture.

Tiles travel as bytes and probabilities as integers: normalization, activation and rounding happen
where the network runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.backends import architectures
from geoseg.backends.base import NOT_A_NUMBER, Activation, Predictor
from geoseg.backends.gpu_runner import (
    LANES,
    Forward,
    Gatherer,
    GpuRunner,
    find_device,
    out_of_memory,
    telling_full_gpus,
)
from geoseg.errors import InvalidModel, OutOfDeviceMemory
from geoseg.models.inputs import InputSpec
from geoseg.values import CERTAIN

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda logits: torch.softmax(logits, 1),
    "probability": lambda given: given,
}


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
    inputs : InputSpec, optional
        How uint8 tiles are normalized; None: it takes normalized ones only.
    gather : int
        Tiles of every pass on a GPU, those of several callers together; 0: a pass is a batch.

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
        inputs: InputSpec | None = None,
        gather: int = 0,
    ) -> None:
        found = find_device(device)
        cuda = found.type == "cuda"
        self.device = device
        self.name = "pytorch bf16" if cuda else "pytorch f32"
        self.normalizes = inputs is not None
        if not cuda:
            torch.set_num_threads(1)  # of this whole process
        network = architectures.load(folder).eval().requires_grad_(False)
        whole = WholeModel(network, activation, inputs, half=cuda)
        with telling_full_gpus(device):
            whole = whole.to(found).to(memory_format=torch.channels_last)
        self._gpu = GpuRunner(whole, found, gather) if cuda else None
        self._run: Callable[[NDArray[Any]], Forward] = self._gpu or CpuRunner(whole)
        if self._gpu is not None and gather:
            self._run = Gatherer(self._gpu, gather, LANES)

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        """Predict a batch; see `geoseg.backends.base.Predictor`."""
        try:
            values, broken = self._run(batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if self._gpu is not None:
                self._gpu.forget()
            raise OutOfDeviceMemory(f"{self.device}: a batch of {len(batch)} tiles does not fit") from error
        if broken:
            raise InvalidModel(NOT_A_NUMBER)
        return values


class WholeModel(torch.nn.Module):
    """A network with normalization before it, activation and rounding behind it.

    Parameters
    ----------
    network : Module
        Gives logits, or what `activation` says.
    activation : str
        Applied in float32, see `geoseg.backends.base.ACTIVATIONS`.
    inputs : InputSpec or None
        How uint8 tiles are normalized, in float32.
    half : bool
        Whether the network runs under autocast to bfloat16.
    """

    center: torch.Tensor
    spread: torch.Tensor

    def __init__(
        self, network: torch.nn.Module, activation: Activation, inputs: InputSpec | None, *, half: bool
    ) -> None:
        super().__init__()
        self.network = network
        self._activate = _ACTIVATIONS[activation]
        self._half = half
        for name in ("center", "spread"):
            value = torch.tensor([] if inputs is None else getattr(inputs, name), dtype=torch.float32)
            self.register_buffer(name, value[:, None, None])

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return uint16 probabilities ``(n, channels, rows, cols)`` and whether one is NaN (bool, 0-d)."""
        if tiles.dtype == torch.uint8:
            tiles = (tiles.float() - self.center) / self.spread
        tiles = tiles.contiguous(memory_format=torch.channels_last)
        with torch.autocast(tiles.device.type, torch.bfloat16, enabled=self._half):
            output = self.network(tiles)
        probabilities = self._activate(output.float())
        scaled = (probabilities.clamp(0, 1) * CERTAIN).round()
        return scaled.to(torch.int32).to(torch.uint16).contiguous(), probabilities.isnan().any()


class CpuRunner:
    """Runs tiles one by one, so that a tile's result cannot depend on its batch."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model

    def __call__(self, batch: NDArray[Any]) -> Forward:
        """Run a batch of any size."""
        with torch.inference_mode():
            # PyTorch takes no negative strides and no read-only memory.
            parts = [self._model(torch.from_numpy(tile[None].copy())) for tile in batch]
        values = np.concatenate([values.numpy() for values, _ in parts])
        return values, any(bool(broken) for _, broken in parts)


_conforming: type[Predictor] = PyTorchPredictor
