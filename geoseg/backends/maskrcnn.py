"""Mask R-CNN: any encoder, a feature pyramid, torchvision's heads; and its three networks as ONNX.

He et al.: Mask R-CNN (2017), https://arxiv.org/abs/1703.06870; Lin et al.: Feature Pyramid Networks (2017),
https://arxiv.org/abs/1612.03144.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from geoseg.backends.base import Detection, Detector
from geoseg.backends.export import Sizes, export_graph
from geoseg.backends.gpu_runner import find_device, out_of_memory, telling_full_gpus
from geoseg.backends.regions import BOX_SIDE, MASK_SIDE, paint, paste
from geoseg.errors import OutOfDeviceMemory
from geoseg.models.bundle import BOXES, MASKS, ONNX
from geoseg.models.document import Instances

ANCHORS = (32.0, 64.0, 128.0, 256.0, 512.0)
RATIOS = (0.5, 1.0, 2.0)
LEVELS = ("0", "1", "2", "3")


class Pyramid(nn.Module):
    """Features of an encoder at strides 4 to 64, all with as many channels."""

    def __init__(
        self, encoder_name: str, bands: int, channels: int, norm: Callable[..., nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.encoder = get_encoder(encoder_name, bands, depth=5, weights=None)
        self.fpn = FeaturePyramidNetwork(self.encoder.out_channels[-4:], channels, LastLevelMaxPool(), norm)
        self.out_channels = channels

    def forward(self, picture: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """Map (batch, bands, rows, cols), sides multiples of 32, to features by level."""
        features: Sequence[torch.Tensor] = self.encoder(picture)[-4:]
        found: OrderedDict[str, torch.Tensor] = self.fpn(OrderedDict(zip(LEVELS, features, strict=True)))
        return found


class _KeepSize(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision is not followed
    """Tiles keep their size."""

    def resize(
        self, image: torch.Tensor, target: dict[str, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        return image, target


class MaskRCNN(TorchvisionMaskRCNN):  # type: ignore[misc]  # torchvision is not followed
    """torchvision's Mask R-CNN over tiles as they are: normalized by the caller, of one size, any bands.

    Parameters
    ----------
    encoder_name : str
        See `geoseg.backends.architectures.EncoderNetwork`.
    in_channels, classes : int
        Bands; 1 for one class, else as many as there are with the background.
    encoder_weights : None
        Nothing is downloaded here.
    channels : int
        Of the pyramid; torchvision's models have 256.
    hidden : int
        Of the layers that tell classes; torchvision's models have 1024.
    anchors, ratios : sequence of float
        Sides of the regions that are looked at on each of five levels, in pixels; their heights to widths.
    normalized : bool
        Deeper heads with batch norms, as of torchvision's ``maskrcnn_resnet50_fpn_v2``.
    """

    def __init__(  # noqa: PLR0913 (the keys of config.json)
        self,
        encoder_name: str,
        in_channels: int = 3,
        classes: int = 1,
        encoder_weights: None = None,
        channels: int = 256,
        hidden: int = 1024,
        anchors: Sequence[float] = ANCHORS,
        ratios: Sequence[float] = RATIOS,
        *,
        normalized: bool = False,
    ) -> None:
        norm = nn.BatchNorm2d if normalized else None
        shape, widths = (channels, BOX_SIDE, BOX_SIDE), (channels,) * 4
        deep = FastRCNNConvFCHead(shape, widths, (hidden,), norm) if normalized else None
        generator = AnchorGenerator(tuple((side,) for side in anchors), (tuple(ratios),) * len(anchors))
        outputs = max(2, classes)
        super().__init__(
            Pyramid(encoder_name, in_channels, channels, norm),
            rpn_anchor_generator=generator,
            rpn_head=RPNHead(channels, len(ratios), 2 if normalized else 1),
            box_head=deep or TwoMLPHead(channels * BOX_SIDE**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, outputs),
            mask_head=MaskRCNNHeads(channels, widths, 1, norm),
            mask_predictor=MaskRCNNPredictor(channels, channels, outputs),
            num_classes=None,
        )
        self.transform = _KeepSize(1, 1, [0.0] * in_channels, [1.0] * in_channels)
        self.classes = classes

    def losses(self, pixels: torch.Tensor, targets: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Return the sum of what training makes small, of tiles (batch, bands, rows, cols).

        Parameters
        ----------
        targets : sequence of dict
            Of each tile ``boxes`` (n, 4), ``labels`` (n,) from 1, ``masks`` (n, rows, cols) uint8.
        """
        parts: Mapping[str, torch.Tensor] = super().forward(list(pixels), list(targets))
        return torch.stack(list(parts.values())).sum()

    def find(self, tile: torch.Tensor) -> list[Detection]:
        """Return what is in a tile (1, bands, rows, cols), labelled by channels."""
        size = (tile.shape[2], tile.shape[3])
        features = OrderedDict((name, level.float()) for name, level in self.backbone(tile).items())
        with torch.autocast(tile.device.type, enabled=False):
            proposals, _ = self.rpn(ImageList(tile.float(), [size]), features)
            (found,), _ = self.roi_heads(features, proposals, [size])
        parts = [found[name].float().cpu().numpy() for name in ("boxes", "scores", "masks")]
        return [
            Detection(label, float(score), *paste(mask[0], box, size))
            for label, box, score, mask in zip(found["labels"].tolist(), *parts, strict=True)
        ]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes, rows, cols) of there being an object: its score, where it reaches.

        What training is watched by; objects themselves are found by `TorchDetector`.
        """
        channels, size = range(1, max(2, self.classes)), (pixels.shape[2], pixels.shape[3])
        chances = np.stack([paint(self.find(tile[None]), channels, size) for tile in pixels])
        known = torch.from_numpy(np.clip(chances, 1e-4, 1 - 1e-4)).to(pixels.device)
        return torch.logit(known[:, 1:]) if self.classes == 1 else torch.log(known)


class _Body(nn.Module):
    """From a tile to features of four levels, and scores and steps of the regions of five."""

    def __init__(self, whole: MaskRCNN) -> None:
        super().__init__()
        self.backbone, self.head = whole.backbone, whole.rpn.head

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        levels = list(self.backbone(image).values())
        scores, steps = self.head(levels)
        return (*(level.permute(0, 2, 3, 1) for level in levels[:-1]), *scores, *steps)


class _Head(nn.Module):
    """From regions, as `geoseg.backends.regions.cut_out` gives them, to what a head says of each."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, regions: torch.Tensor) -> tuple[torch.Tensor, ...] | torch.Tensor:
        answer: tuple[torch.Tensor, ...] | torch.Tensor = self.parts(regions.permute(0, 3, 2, 1))
        return answer


def parts_of(network: MaskRCNN) -> dict[str, nn.Module]:
    """Return the three networks by the names of their files."""
    heads = network.roi_heads
    parts = {
        ONNX: _Body(network),
        BOXES: _Head(heads.box_head, heads.box_predictor),
        MASKS: _Head(heads.mask_head, heads.mask_predictor),
    }
    return {name: part.train(network.training) for name, part in parts.items()}


def export_parts(network: MaskRCNN, folder: Path, bands: int, weights: Path) -> dict[str, Path]:
    """Write the three networks as ONNX, see `geoseg.backends.export.export_onnx`."""
    channels = network.backbone.out_channels
    answers = [f"{kind}{level}" for kind in ("scores", "steps") for level in range(5)]
    levels = [f"features{level}" for level in range(4)]
    sizes = {0: "batch", 2: "rows", 3: "cols"}
    counts = {0: "count"}
    signatures: dict[str, tuple[tuple[torch.Tensor, ...], Sizes, Sizes]] = {
        ONNX: (
            (torch.zeros(1, bands, 256, 256),),
            {"image": sizes},
            {name: {} for name in (*levels, *answers)},
        ),
        BOXES: (
            (torch.zeros(2, BOX_SIDE, BOX_SIDE, channels),),
            {"boxes": counts},
            {"logits": counts, "moves": counts},
        ),
        MASKS: ((torch.zeros(2, MASK_SIDE, MASK_SIDE, channels),), {"regions": counts}, {"masks": counts}),
    }
    parts = parts_of(network)
    for name, signature in signatures.items():
        export_graph(parts[name], folder / name, signature, weights=weights)
    return {name: folder / name for name in signatures}


class TorchDetector:
    """Runs tiles one by one in PyTorch: float32 on the CPU, bf16 on CUDA.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    BackendUnavailable
        If PyTorch sees no such device, or it has no room for the model.
    """

    normalizes = False

    def __init__(self, network: MaskRCNN, how: Instances, device: str = "cpu") -> None:
        self.device = device
        self._how, self._device = how, find_device(device)
        self._half = self._device.type == "cuda"
        self.name = "pytorch bf16" if self._half else "pytorch f32"
        with telling_full_gpus(device):
            self._network = network.eval().requires_grad_(False).to(self._device)
        rpn, heads = network.rpn, network.roi_heads
        rpn._pre_nms_top_n["testing"] = rpn._post_nms_top_n["testing"] = how.proposals
        rpn.nms_thresh = how.proposal_iou
        heads.score_thresh, heads.nms_thresh = how.least_score, how.box_iou
        heads.detections_per_img = how.objects

    @torch.inference_mode()
    def __call__(self, batch: NDArray[Any]) -> list[list[Detection]]:
        """Find objects in a batch; see `geoseg.backends.base.Detector`."""
        try:
            return [self._tile(tile) for tile in np.ascontiguousarray(batch, np.float32)]
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise OutOfDeviceMemory(f"{self.device}: a batch of {len(batch)} tiles does not fit") from error

    def _tile(self, tile: NDArray[np.float32]) -> list[Detection]:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            found = self._network.find(torch.from_numpy(tile)[None].to(self._device))
        return [replace(one, label=self._how.labels[one.label - 1]) for one in found]


_conforming: type[Detector] = TorchDetector
