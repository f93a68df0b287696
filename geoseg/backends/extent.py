"""Whether what a network says about a pixel depends on how large the tile is: read off its operations.

Global pooling, attention over all positions, and norms over a whole map mix in every pixel of the
tile, however far; enlarging that aligns the outermost centres moves what it enlarges. All else in
the networks of the field sees a neighbourhood.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import InvalidModel
from geoseg.models.bundle import IR, ONNX, WEIGHTS, Bundle

if TYPE_CHECKING:
    import torch

_GRAPH = {"AdaptiveAvgPool", "AdaptiveMaxPool", "GroupNormalization", "ScaledDotProductAttention"}
_REDUCING = {"MVN", "ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2"}
_PICTURE, _PLANE_AXIS = 4, 2
_TORCH = (
    "bmm",
    "_adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "native_group_norm",
    "_scaled_dot_product",
    "_native_multi_head_attention",
)
_TORCH_REDUCING = ("mean", "amax", "sum", "amin", "linalg_vector_norm")


def depends_on_extent(bundle: Bundle) -> bool | None:
    """Return whether a model's answer depends on the tile's extent; None: its files cannot be read so.

    Raises
    ------
    InvalidModel
        If weights and architecture do not fit each other.
    """
    if ONNX in bundle.files or IR[0] in bundle.files:
        return _graph_depends(bundle.files.get(ONNX) or bundle.files[IR[0]])
    if WEIGHTS in bundle.files:
        from geoseg.backends import architectures

        return module_depends(architectures.load(bundle.path), len(bundle.card.inputs.bands))
    return None


def module_depends(module: torch.nn.Module, bands: int, size: int = 128) -> bool:
    """Return whether a network of torch's depends on the extent, from one forward pass.

    Parameters
    ----------
    module : Module
        In evaluation mode.
    bands : int
        Channels of its input.
    size : int
        Rows and cols of the tile that is run, in pixels.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    calls: list[bool] = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls.append(_is_global(func._schema.name.removeprefix("aten::"), args))
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():  # type: ignore[no-untyped-call]
        module(torch.zeros(1, bands, size, size))
    return any(calls)


def _is_global(name: str, args: Any) -> bool:
    """Return whether one call of torch's mixes or moves what is far apart."""
    if name.startswith(_TORCH):
        return True
    if name == "upsample_bilinear2d":
        return bool(args[2])
    if name in _TORCH_REDUCING and getattr(args[0], "ndim", 0) == _PICTURE:
        return any(isinstance(axes, list | tuple) and _spatial(axes) for axes in args[1:])
    return False


def _graph_depends(path: Path) -> bool | None:
    try:
        import openvino
        from openvino.passes import ConstantFolding, Manager

        model = openvino.Core().read_model(str(path))
    except ImportError:
        return None
    except RuntimeError as error:
        raise InvalidModel(f"{path}: OpenVINO cannot read it") from error
    folding = Manager()
    folding.register_pass(ConstantFolding())  # axes counted from the end, or up to it, become numbers
    folding.run_passes(model)
    return any(_is_global_node(node) for node in model.get_ops())


def _is_global_node(node: Any) -> bool:
    """Return whether one operation of OpenVINO's mixes or moves what is far apart."""
    kind = node.get_type_name()
    if kind in _GRAPH:
        return True
    if kind == "Interpolate":
        return bool(node.get_attributes().get("coordinate_transformation_mode") == "align_corners")
    if kind in _REDUCING:
        rank = node.get_input_partial_shape(0).rank
        if rank != _PICTURE:  # a norm of groups comes as one over (batch, groups, all the rest)
            return bool(kind == "MVN")
        axes = node.input_value(1).get_node()
        return bool(axes.get_type_name() == "Constant") and _spatial(axes.data.ravel().tolist())
    if kind == "MatMul":
        return not any(_is_constant(value.get_node()) for value in node.input_values())
    return False


def _spatial(axes: Iterable[int]) -> bool:
    """Return whether axes of a picture reach over its plane: the third does, NCHW as well as NHWC."""
    return any(axis % _PICTURE == _PLANE_AXIS for axis in axes)


def _is_constant(node: Any) -> bool:
    """Return whether a node is a weight, if need be through casts and reshapes of weights."""
    if node.get_type_name() == "Constant":
        return True
    inputs = node.input_values()
    return bool(inputs) and all(_is_constant(value.get_node()) for value in inputs)
