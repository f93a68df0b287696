"""The semantic families of the field by name: which network, which encoder, how light a decoder.

`make_config` gives what `geoseg.backends.architectures.build` takes and ``config.json`` holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from geoseg.errors import InvalidModel, InvalidOption, MissingExtra, suggest

_PROBE = (64, 96)
"""Rows and cols that every network must take: geoseg's tiles are multiples of 32."""


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture and its defaults."""

    model_class: str
    """``_model_class`` in ``config.json``."""
    encoder: str
    """Default encoder, as `make_config` takes it."""
    details: Mapping[str, object] = field(default_factory=dict)
    """Arguments of the network, chosen for speed on a CPU: half as wide as the libraries' defaults."""


FAMILIES: Mapping[str, Family] = {
    "unet": Family("Unet", "tf_efficientnet_lite0", {"decoder_channels": [128, 64, 32, 16, 16]}),
    "unet++": Family("UnetPlusPlus", "tf_efficientnet_lite0", {"decoder_channels": [128, 64, 32, 16, 16]}),
    "fcn": Family("FCN", "resnet18"),
    "pspnet": Family("PSPNet", "resnet18", {"psp_out_channels": 256}),
    "deeplabv3": Family("DeepLabV3", "resnet18", {"decoder_channels": 128}),
    "deeplabv3+": Family("DeepLabV3Plus", "resnet18", {"decoder_channels": 128}),
    "hrnet": Family("HRNet", "hrnet_w18_small"),
    "fpn": Family("FPN", "resnet18", {"decoder_pyramid_channels": 128, "decoder_segmentation_channels": 64}),
    "segformer": Family("Segformer", "mit_b0", {"decoder_segmentation_channels": 128}),
}
"""The families by the names that ``--arch`` takes; ``plus`` may stand for ``+``."""


INSTANCE_FAMILIES: Mapping[str, Family] = {
    "maskrcnn": Family("MaskRCNN", "tf_efficientnet_lite0", {"channels": 128, "hidden": 256}),
    # Those of torchvision; its weights are not at hand.
    "maskrcnn_resnet50_fpn": Family("MaskRCNN", "resnet50", {"channels": 256, "hidden": 1024}),
    "maskrcnn_resnet50_fpn_v2": Family(
        "MaskRCNN", "resnet50", {"channels": 256, "hidden": 1024, "normalized": True}
    ),
}
"""Families that find objects in place of classes of pixels; likewise."""


def make_config(
    arch: str, encoder: str | None, bands: int, classes: int, **details: object
) -> dict[str, object]:
    """Return the ``config.json`` of a network, tried out: it builds, and answers pixel for pixel.

    Parameters
    ----------
    arch : str
        One of `FAMILIES`, in any case.
    encoder : str or None
        A name of timm's (``resnet18``, ``convnext_tiny``), with or without ``tu-`` before it, or of
        segmentation-models-pytorch (``mit_b0``); None: the family's own.
    bands, classes : int
        Channels of the input and of the output.
    **details
        Further arguments of the network, e.g. ``decoder_channels``, in place of the family's.

    Raises
    ------
    InvalidOption
        If there is no such family or encoder, or the encoder cannot serve the family.
    """
    family = find_family(arch)
    config: dict[str, object] = {
        "_model_class": family.model_class,
        # Shifts nothing at the borders of a tile; the library's default does, by pixels.
        "_align_corners": False,
        "encoder_name": find_encoder(encoder or family.encoder),
        "in_channels": bands,
        "classes": classes,
        **family.details,
        **details,
    }
    _try(config, arch, encoder or family.encoder)
    return config


def find_family(arch: str) -> Family:
    """Return the family of a name such as ``UNet``, ``unet++`` or ``DeepLabV3Plus``.

    Raises
    ------
    InvalidOption
        If there is none; the nearest name is given.
    """
    known = {**FAMILIES, **INSTANCE_FAMILIES}
    found = next((name for name in known if _bare(name) == _bare(arch)), None)
    if found is None:
        raise InvalidOption(f"{arch}: no such architecture; {suggest(_bare(arch), known)}")
    return known[found]


def _bare(name: str) -> str:
    return name.lower().translate(str.maketrans("", "", "-_ ")).replace("plus", "+")


def find_encoder(name: str) -> str:
    """Return the encoder's name as ``config.json`` holds it: ``tu-`` before a name of timm's.

    Raises
    ------
    InvalidOption
        If neither timm nor segmentation-models-pytorch has it; the nearest name is given.
    """
    bare = name.removeprefix("tu-")
    timms, smps = encoder_names()
    if re.fullmatch(r"[\w.-]+", bare) and bare.partition(".")[0] in timms:
        return f"tu-{bare}"
    if name in smps:
        return name
    near = suggest(bare, sorted(timms | smps))
    hint = near if near.startswith("did") else "timm.list_models() names them"
    raise InvalidOption(f"{name}: no such encoder; {hint}")


@cache
def encoder_names() -> tuple[frozenset[str], frozenset[str]]:
    """Return the encoders of timm and of segmentation-models-pytorch, by name.

    They are read off the packages' sources, as importing these takes seconds.

    Raises
    ------
    MissingExtra
        If they are not installed.
    """
    patterns = {
        "timm": ("models", r"^@register_model\s+def (\w+)|^ {4}'([\w.]+)' ?: '[\w.]+'(?!, ')"),  # old names
        "segmentation_models_pytorch": ("encoders", r'^    "([\w.-]+)": ?\{'),
    }
    found = []
    for package, (folder, pattern) in patterns.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise MissingExtra("choosing an encoder", "torch")
        sources = (Path(spec.origin).parent / folder).rglob("*.py")
        text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
        found.append(
            frozenset("".join(match.groups("")) for match in re.finditer(pattern, text, re.MULTILINE))
        )
    return found[0], found[1]


def _try(config: Mapping[str, object], arch: str, encoder: str) -> None:
    """Refuse a network that cannot be built, or that does not answer for tiles of any size."""
    import torch

    from geoseg.backends.architectures import build

    bands, classes = config["in_channels"], config["classes"]
    try:
        network = build(config)
        with torch.inference_mode():
            shape = tuple(network(torch.zeros(1, int(str(bands)), *_PROBE)).shape)
        reason = "" if shape == (1, classes, *_PROBE) else f"gives {shape} for a tile of {_PROBE}"
    except InvalidModel as error:
        reason = str(error).removeprefix("config.json: ").rstrip(".")
    except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
    if reason:
        raise InvalidOption(
            f"architecture {arch} and encoder {encoder}: do not go together: {reason}; "
            "take an encoder with features at strides 4 to 32 and tiles of any size, such as resnet18"
        )
