"""What is put before and behind a network in PyTorch, and how a CPU runs it.

Tiles travel as bytes and probabilities as integers: normalization, activation and rounding happen
where the network runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.values import CERTAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from geoseg.backends.base import Activation
    from geoseg.models.inputs import InputSpec

Forward = tuple[NDArray[np.uint16], bool]
"""Probabilities ``(n, channels, rows, cols)``, and whether one of them is no number."""

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda logits: torch.softmax(logits, 1),
    "probability": lambda given: given,
}


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
