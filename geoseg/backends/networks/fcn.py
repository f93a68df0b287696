"""FCN-8s on any encoder.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015,
https://arxiv.org/abs/1411.4038, section 4.2: class scores at strides 8, 16 and 32, added from coarse
to fine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn

from geoseg.backends.networks.enlarge import enlarge

STRIDES = (8, 16, 32)


class FCN(nn.Module):
    """Scores of three depths, summed: the fine ones know where, the coarse ones know what.

    As in the paper a 1 × 1 convolution scores the features of each stride, and the sums are
    enlarged twofold, then eightfold. Enlarging is bilinear and fixed, to which the paper's
    transposed convolutions are initialised; the stages of the encoder stand for VGG's, whose
    fully connected layers belong to its classifier.

    Parameters
    ----------
    encoder_name : str
        An encoder of segmentation-models-pytorch, or ``tu-`` and a name of timm's, with features at
        strides 8, 16 and 32.
    in_channels, classes : int
        Bands of the input, channels of the output.
    encoder_weights : None
        Nothing is downloaded here.
    """

    def __init__(
        self, encoder_name: str, in_channels: int = 3, classes: int = 1, encoder_weights: None = None
    ) -> None:
        super().__init__()
        self.encoder = get_encoder(encoder_name, in_channels, depth=5, weights=encoder_weights)
        self.scores = nn.ModuleList(
            _scores_of_zero(channels, classes) for channels in self.encoder.out_channels[-3:]
        )

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Map (batch, bands, rows, cols), sides multiples of 32, to logits (batch, classes, rows, cols)."""
        features: Sequence[torch.Tensor] = self.encoder(picture)[-3:]
        fine, middle, coarse = (score(feature) for score, feature in zip(self.scores, features, strict=True))
        return enlarge(enlarge(enlarge(coarse, 2) + middle, 2) + fine, STRIDES[0])


def _scores_of_zero(channels: int, classes: int) -> nn.Conv2d:
    """Return a layer of scores as the paper starts it; sums of zeros pass gradients on."""
    layer = nn.Conv2d(channels, classes, kernel_size=1)
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
