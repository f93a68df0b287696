"""Networks of the field that no library has as such, and layers that ONNX can express.

FCN-8s: Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015,
https://arxiv.org/abs/1411.4038, section 4.2: class scores at strides 8, 16 and 32, added from coarse
to fine. HRNetV2: Sun, Zhao, Jiang et al.: High-Resolution Representations for Labeling Pixels and
Regions, 2019, https://arxiv.org/abs/1904.04514, section 3: the maps of all four resolutions, enlarged to
the finest, side by side, mixed by a 1 × 1 convolution. Both take any encoder of smp or timm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPBlock
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn
from torch.nn import functional


def enlarge(maps: torch.Tensor, times: int) -> torch.Tensor:
    """Enlarge (batch, channels, rows, cols) by a whole factor, bilinear, by the areas of the pixels."""
    if times == 1:
        return maps
    return functional.interpolate(maps, scale_factor=float(times), mode="bilinear", align_corners=False)


class EncoderNetwork(nn.Module):
    """What the networks here have in common: the features of an encoder.

    Parameters
    ----------
    encoder_name : str
        An encoder of segmentation-models-pytorch, or ``tu-`` and a name of timm's, with features at
        strides 4 to 32.
    in_channels, classes : int
        Bands of the input, channels of the output.
    encoder_weights : None
        Nothing is downloaded here.
    """

    hrnet: Mapping[str, str] = {}
    """Arguments of HRNet's encoders."""

    def __init__(
        self, encoder_name: str, in_channels: int = 3, classes: int = 1, encoder_weights: None = None
    ) -> None:
        super().__init__()
        more = self.hrnet if encoder_name.startswith("tu-hrnet") else {}
        self.encoder = get_encoder(encoder_name, in_channels, depth=5, weights=encoder_weights, **more)
        self.add_head(self.encoder.out_channels, classes)

    def add_head(self, channels: Sequence[int], classes: int) -> None:
        """Make what turns features of so many channels, the finest first, into classes."""
        raise NotImplementedError


class FCN(EncoderNetwork):
    """Scores of three depths, summed: the fine ones know where, the coarse ones know what.

    As in the paper a 1 × 1 convolution scores the features of each stride, and the sums are
    enlarged twofold, then eightfold. Enlarging is bilinear and fixed, to which the paper's
    transposed convolutions are initialised; the stages of the encoder stand for VGG's, whose
    fully connected layers belong to its classifier.
    """

    def add_head(self, channels: Sequence[int], classes: int) -> None:
        """Score the features at strides 8, 16 and 32; sums of zeros, as in the paper, pass gradients on."""
        self.scores = nn.ModuleList([nn.Conv2d(count, classes, kernel_size=1) for count in channels[-3:]])
        for parameter in self.scores.parameters():
            nn.init.zeros_(parameter)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Map (batch, bands, rows, cols), sides multiples of 32, to logits (batch, classes, rows, cols)."""
        features: Sequence[torch.Tensor] = self.encoder(picture)[-3:]
        fine, middle, coarse = [score(part) for score, part in zip(self.scores, features, strict=True)]
        return enlarge(enlarge(enlarge(coarse, 2) + middle, 2) + fine, 8)


class HRNet(EncoderNetwork):
    """Four resolutions side by side at a quarter of the input's, mixed, scored, enlarged.

    ``tu-hrnet_w18`` and its like have four resolutions in their last stage; any other encoder works too.
    """

    # timm's default widens each resolution for its classifier; the paper takes them as they are.
    hrnet: Mapping[str, str] = {"feature_location": ""}

    def add_head(self, channels: Sequence[int], classes: int) -> None:
        """Mix the features at strides 4, 8, 16 and 32."""
        width = sum(channels[-4:])
        self.head = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, kernel_size=1),
        )

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Map (batch, bands, rows, cols), sides multiples of 32, to logits (batch, classes, rows, cols)."""
        maps: list[torch.Tensor] = self.encoder(picture)[-4:]
        together = torch.cat([enlarge(part, 2**step) for step, part in enumerate(maps)], dim=1)
        return enlarge(self.head(together), 4)


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
