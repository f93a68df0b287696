"""Mask R-CNN: any encoder, a feature pyramid, torchvision's heads; and its three networks as ONNX.

He et al.: Mask R-CNN (2017), https://arxiv.org/abs/1703.06870; Lin et al.: Feature Pyramid Networks (2017),
https://arxiv.org/abs/1612.03144.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn
from torchvision.models.detection import MaskRCNN as Detectors
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

ANCHORS = (32.0, 64.0, 128.0, 256.0, 512.0)
RATIOS = (0.5, 1.0, 2.0)
LEVELS = ("0", "1", "2", "3")


class Pyramid(nn.Module):
    """Features of an encoder at strides 4 to 64, all with as many channels."""

    def __init__(self, encoder_name: str, bands: int, channels: int) -> None:
        super().__init__()
        self.encoder = get_encoder(encoder_name, bands, depth=5, weights=None)
        self.fpn = FeaturePyramidNetwork(self.encoder.out_channels[-4:], channels, LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, picture: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """Map (batch, bands, rows, cols), sides multiples of 32, to features by level."""
        features: Sequence[torch.Tensor] = self.encoder(picture)[-4:]
        found: OrderedDict[str, torch.Tensor] = self.fpn(OrderedDict(zip(LEVELS, features, strict=True)))
        return found


class MaskRCNN(Detectors):  # type: ignore[misc]  # torchvision is not followed
    """torchvision's Mask R-CNN over tiles as they are: normalized by the caller, of one size, any bands.

    Parameters
    ----------
    encoder_name : str
        See `geoseg.backends.networks.EncoderNetwork`.
    in_channels, classes : int
        Bands; classes with the background.
    encoder_weights : None
        Nothing is downloaded here.
    channels : int
        Of the pyramid; torchvision's models have 256.
    hidden : int
        Of the layers that tell classes; torchvision's models have 1024.
    anchors, ratios : sequence of float
        Sides of the regions that are looked at on each of five levels, in pixels; their heights to widths.
    """

    def __init__(
        self,
        encoder_name: str,
        in_channels: int = 3,
        classes: int = 2,
        encoder_weights: None = None,
        channels: int = 256,
        hidden: int = 1024,
        anchors: Sequence[float] = ANCHORS,
        ratios: Sequence[float] = RATIOS,
    ) -> None:
        generator = AnchorGenerator(tuple((side,) for side in anchors), (tuple(ratios),) * len(anchors))
        super().__init__(
            Pyramid(encoder_name, in_channels, channels),
            rpn_anchor_generator=generator,
            rpn_head=RPNHead(channels, len(ratios)),
            box_head=TwoMLPHead(channels * 49, hidden),
            box_predictor=FastRCNNPredictor(hidden, classes),
            mask_predictor=None,
            num_classes=None,
            image_mean=[0.0] * in_channels,
            image_std=[1.0] * in_channels,
            _skip_resize=True,
        )
