"""Adaptive average pooling as matrix products: what ONNX can express for pictures of any size."""

from __future__ import annotations

import torch
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPBlock
from torch import nn
from torch.nn import functional


class AdaptivePool(nn.Module):
    """The same as ``torch.nn.AdaptiveAvgPool2d(bins)``, which ONNX lacks but for one bin.

    Bin i of n averages the pixels from ⌊i·size / n⌋ up to ⌈(i + 1)·size / n⌉, as torch's does.

    Parameters
    ----------
    bins : (int, int)
        Rows and cols of the result.
    """

    def __init__(self, bins: tuple[int, int]) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Average (batch, channels, rows, cols) into (batch, channels, *bins)."""
        down, across = (
            _shares(size, bins, maps) for size, bins in zip(maps.shape[2:], self.bins, strict=True)
        )
        return down @ maps @ across.transpose(0, 1)


class PyramidLevel(nn.Module):
    """The same as a level of the library's PSPNet, with pooling that ONNX can express.

    Zhao et al.: Pyramid Scene Parsing Network, CVPR 2017, https://arxiv.org/abs/1612.01105.
    """

    def __init__(self, block: PSPBlock) -> None:
        super().__init__()
        self.pool = nn.Sequential(AdaptivePool((block.pool_size, block.pool_size)), *block.pool[1:])

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Average (batch, channels, rows, cols) into bins, mix, and enlarge them to (…, rows, cols)."""
        size = (maps.shape[2], maps.shape[3])
        return functional.interpolate(self.pool(maps), size=size, mode="bilinear", align_corners=True)


def exportable(layer: nn.Module) -> nn.Module | None:
    """Return a layer that gives the same and that ONNX can express; None where `layer` itself will do."""
    if isinstance(layer, PSPBlock):
        return PyramidLevel(layer)
    return None


def _shares(size: int, bins: int, like: torch.Tensor) -> torch.Tensor:
    """Return what each pixel of a row counts in each bin, (bins, size); `size` may be traced."""
    pixel = torch.arange(size, device=like.device)
    first = torch.arange(bins, device=like.device)[:, None] * size
    start = torch.div(first, bins, rounding_mode="floor")
    stop = torch.div(first + size + bins - 1, bins, rounding_mode="floor")
    inside = ((pixel >= start) & (pixel < stop)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)
