"""A network as an ONNX file: logits, dynamic batch, height and width, half the size where lossless."""

from __future__ import annotations

import contextlib
import json
import mmap
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPBlock
from torch import nn
from torch.nn import functional

from geoseg.errors import InvalidModel, MissingExtra
from geoseg.files import replacing, sha1

OPSET = 17
"""Old enough for every runtime of the last years, new enough for what the architectures use."""

INPUT, OUTPUT = "image", "logits"
"""Names of the graph's input (batch, bands, rows, cols) and output (batch, classes, rows, cols)."""

_SMALLEST_COMPACT = 256
_SMALLEST_REFERRED = 512
"""Bytes; to say where a tensor lies takes some 70."""


def export_onnx(
    module: torch.nn.Module, path: Path, bands: int, tile: int, *, weights: Path | None = None
) -> None:
    """Write `module` as ONNX: float32 in, float32 logits out, NCHW.

    Batch, rows and cols are dynamic; rows and cols must be multiples of what the architecture
    demands (32 for most). Norms are kept as they are, for the runtime to fold: so every runtime
    starts from the same numbers as torch. Weights that float16 holds without loss (see
    `geoseg.backends.architectures.round_to_half`) are stored in it and cast when the file is loaded.

    Parameters
    ----------
    module : Module
        A network that returns logits; exported as in evaluation mode.
    path : Path
        File to write, atomically.
    bands : int
        Input channels.
    tile : int
        Rows and cols of the example that is traced, in pixels.
    weights : Path, optional
        The safetensors of `module` (see `geoseg.backends.architectures.save`), to be kept beside the
        ONNX file under its name. Large tensors that lie there byte for byte are not stored again:
        the ONNX file says where they are, and names the SHA-1 of the file that it was written with.
        Default: the ONNX file stands alone.

    Raises
    ------
    MissingExtra
        If the package onnx is not installed.
    InvalidModel
        If `weights` cannot be read as safetensors.
    UnwritableOutput
        If the folder of `path` is missing or not writable.
    """
    dynamic = {0: "batch", 2: "rows", 3: "cols"}
    example = (torch.zeros(1, bands, tile, tile),)
    export_graph(module, path, (example, {INPUT: dynamic}, {OUTPUT: dynamic}), weights=weights)


Sizes = Mapping[str, Mapping[int, str]]
"""Tensors by name, and names of those of their axes that take any size."""


def export_graph(
    module: torch.nn.Module,
    path: Path,
    signature: tuple[tuple[torch.Tensor, ...], Sizes, Sizes],
    *,
    weights: Path | None = None,
) -> None:
    """Write a module of any inputs and outputs as ONNX.

    Parameters
    ----------
    signature : (tuple of Tensor, mapping, mapping)
        An example of its inputs; inputs and outputs by name, with their dynamic axes.
    module, path, weights
        As for `export_onnx`, with its errors.
    """
    example, inputs, outputs = signature
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("export to ONNX", "train") from error
    with replacing(path) as temporary, _evaluating(module), _expressible(module), warnings.catch_warnings():
        # The exporter that replaces this one needs onnxscript; shape checks inside the networks warn.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.onnx.export(
            module,
            example,
            str(temporary),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in (*inputs.items(), *outputs.items()) if axes},
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
        model = onnx.load(temporary)
        _compact(model)
        onnx.checker.check_model(model, full_check=True)  # before: it wants to see what is referred to
        if weights is not None:
            _refer(model, weights)
        onnx.save(model, temporary)


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


@contextlib.contextmanager
def _expressible(module: torch.nn.Module) -> Iterator[None]:
    """Put in place, for a while, layers that give the same and that ONNX can express."""
    swapped = []
    for parent in module.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, PSPBlock):
                swapped.append((parent, name, layer))
                setattr(parent, name, PyramidLevel(layer))
    try:
        yield
    finally:
        for parent, name, layer in swapped:
            setattr(parent, name, layer)


def _compact(model: object) -> None:
    """Store large weights in float16, followed by a cast to float32, where nothing is lost."""
    import numpy as np
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    assert isinstance(model, ModelProto)
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _SMALLEST_COMPACT:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        stored = f"{name}.half"
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT, name=f"{name}.cast"))
    for position, node in enumerate(casts):
        model.graph.node.insert(position, node)


def _refer(model: object, weights: Path) -> None:
    """Replace large tensors that `weights` holds byte for byte by where they lie in it.

    The keys: https://onnx.ai/onnx/repo-docs/ExternalData.html
    """
    from onnx import ModelProto, TensorProto

    assert isinstance(model, ModelProto)
    spans, codes = _spans(weights), {TensorProto.FLOAT16: "F16", TensorProto.FLOAT: "F32"}
    checksum = {"checksum": sha1(weights)}
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for tensor in model.graph.initializer:
            length = len(tensor.raw_data)
            if length < _SMALLEST_REFERRED:
                continue
            alike = spans.get((codes.get(tensor.data_type, ""), tuple(tensor.dims)), [])
            start = next((at for at in alike if data[at : at + length] == tensor.raw_data), None)
            if start is None:
                continue
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": weights.name, "offset": start, "length": length} | checksum
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            checksum = {}  # it is the file's, not the tensor's: once is enough


def _spans(weights: Path) -> dict[tuple[str, tuple[int, ...]], list[int]]:
    """Return where the tensors of each dtype and shape begin in a safetensors file, in bytes.

    The format: 8 bytes of length, a JSON header of that length, then the tensors, little-endian and
    contiguous (https://huggingface.co/docs/safetensors, "Format").
    """
    try:
        with safe_open(weights, "numpy"), weights.open("rb") as file:  # checks header, spans and length
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (OSError, SafetensorError) as error:
        raise InvalidModel(f"{weights}: cannot be read as safetensors ({type(error).__name__})") from error
    found: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start = 8 + length + entry["data_offsets"][0]
            found.setdefault((entry["dtype"], tuple(entry["shape"])), []).append(start)
    return found


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


def _shares(size: int, bins: int, like: torch.Tensor) -> torch.Tensor:
    """Return what each pixel of a row counts in each bin, (bins, size); `size` may be traced."""
    pixel = torch.arange(size, device=like.device)
    first = torch.arange(bins, device=like.device)[:, None] * size
    start = torch.div(first, bins, rounding_mode="floor")
    stop = torch.div(first + size + bins - 1, bins, rounding_mode="floor")
    inside = ((pixel >= start) & (pixel < stop)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)
