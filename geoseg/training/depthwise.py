"""Depthwise convolutions in float32, where a CPU computes the rest in bfloat16.

oneDNN has no fast code for the gradients of depthwise convolutions in bfloat16: measured on a CPU with
AVX-512 BF16, those of strided ones took 6 to 80 times as long as in float32, and all of them nearly half
of a whole step.
"""

from __future__ import annotations

import torch


class _Float32:
    """Mixed in before a convolution: computes in float32 whatever is around it."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        with torch.autocast(values.device.type, enabled=False):
            result: torch.Tensor = super().forward(values.float())  # type: ignore[misc]  # of the convolution
        return result


def depthwise_in_float32(network: torch.nn.Module) -> None:
    """Make the depthwise convolutions of a network compute in float32 under autocast, in place.

    Names and values of weights stay what they are.

    Parameters
    ----------
    network : Module
        To be trained on a CPU in mixed precision.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.groups == module.in_channels > 1:
            kind = type(module)
            # A class of its own, not a function on the instance: copies of the network stay independent.
            module.__class__ = type(kind.__name__, (_Float32, kind), {})
