"""A network as an ONNX file: logits, dynamic batch, height and width, half the size where lossless."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from geoseg.backends.networks.pooling import exportable
from geoseg.errors import BackendUnavailable
from geoseg.files import replacing

OPSET = 17
"""Old enough for every runtime of the last years, new enough for what the architectures use."""

INPUT, OUTPUT = "image", "logits"
"""Names of the graph's input (batch, bands, rows, cols) and output (batch, classes, rows, cols)."""

_SMALLEST_COMPACT = 256


def export_onnx(module: torch.nn.Module, path: Path, bands: int, tile: int) -> None:
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

    Raises
    ------
    BackendUnavailable
        If the package onnx is not installed.
    UnwritableOutput
        If the folder of `path` is missing or not writable.
    """
    try:
        import onnx
    except ImportError as error:
        raise BackendUnavailable("exporting needs the package onnx; pip install 'geoseg[export]'") from error
    example = torch.zeros(1, bands, tile, tile)
    dynamic = {0: "batch", 2: "rows", 3: "cols"}
    with replacing(path) as temporary, _evaluating(module), _expressible(module), warnings.catch_warnings():
        # The exporter that replaces this one needs onnxscript; shape checks inside the networks warn.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.onnx.export(
            module,
            (example,),
            str(temporary),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: dynamic, OUTPUT: dynamic},
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
        model = onnx.load(temporary)
        _compact(model)
        onnx.checker.check_model(model, full_check=True)
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
            if (twin := exportable(layer)) is not None:
                swapped.append((parent, name, layer))
                setattr(parent, name, twin)
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
