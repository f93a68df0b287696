"""HRNetV2's head on timm's high-resolution networks.

Sun, Zhao, Jiang et al.: High-Resolution Representations for Labeling Pixels and Regions, 2019,
https://arxiv.org/abs/1904.04514, section 3: the maps of all four resolutions, enlarged to the finest,
side by side, mixed by a 1 × 1 convolution.
"""

from __future__ import annotations

import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn

from geoseg.backends.networks.enlarge import enlarge

RESOLUTIONS = 4
_FINEST = 4


class HRNet(nn.Module):
    """Four resolutions side by side at a quarter of the input's, mixed, scored, enlarged.

    Parameters
    ----------
    encoder_name : str
        ``tu-hrnet_w18`` and its like, whose last stage has four resolutions; any other encoder with
        features at strides 4, 8, 16 and 32 works too.
    in_channels, classes : int
        Bands of the input, channels of the output.
    encoder_weights : None
        Nothing is downloaded here.
    """

    def __init__(
        self, encoder_name: str, in_channels: int = 3, classes: int = 1, encoder_weights: None = None
    ) -> None:
        super().__init__()
        # timm's default widens each resolution for its classifier; the paper takes them as they are.
        bare = {"feature_location": ""} if encoder_name.startswith("tu-hrnet") else {}
        self.encoder = get_encoder(encoder_name, in_channels, depth=5, weights=encoder_weights, **bare)
        width = sum(self.encoder.out_channels[-RESOLUTIONS:])
        self.head = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, kernel_size=1),
        )

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Map (batch, bands, rows, cols), sides multiples of 32, to logits (batch, classes, rows, cols)."""
        maps: list[torch.Tensor] = self.encoder(picture)[-RESOLUTIONS:]
        together = torch.cat([enlarge(part, 2**step) for step, part in enumerate(maps)], dim=1)
        return enlarge(self.head(together), _FINEST)
