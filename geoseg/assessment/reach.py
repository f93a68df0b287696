"""How far a network looks: its effective receptive field, and whether it depends on a tile's extent.

Luo, Li, Urtasun, Zemel: Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks, NIPS 2016, https://arxiv.org/abs/1701.04128: the gradient of one output with respect to
the input falls off like a bell, so that the field that matters is much smaller than what the
layers' kernels add up to. Here its squares are summed by their distance from the output's pixel.

Whether the extent matters is read off the operations. Global pooling, attention over all positions, and
norms over a whole map mix in every pixel of the tile, however far; enlarging that aligns the outermost
centres moves what it enlarges. All else in the networks of the field sees a neighbourhood.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import Predictor
from geoseg.errors import InvalidModel
from geoseg.models.bundle import IR, ONNX, WEIGHTS, Bundle
from geoseg.values import CERTAIN

if TYPE_CHECKING:
    import torch

SHARES = (0.95, 0.999)
"""Shares of the energy that the two radii of a field hold."""

RING = 16
"""Width in pixels of the rings that are disturbed where there are no gradients."""

_NOISE = 0.25

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


@dataclass(frozen=True, slots=True)
class Field:
    """An effective receptive field."""

    radii: tuple[int, int]
    """Half the side, in pixels, of the squares round a pixel that hold `SHARES` of the energy."""
    by_gradient: bool
    """False: estimated by disturbing the input, in steps of `RING` pixels."""


def field_by_gradient(module: torch.nn.Module, tiles: NDArray[np.float32]) -> Field:
    """Measure the field of a network of torch's.

    Parameters
    ----------
    module : Module
        In evaluation mode, logits out.
    tiles : ndarray of float32, shape (n, bands, size, size)
        Prepared tiles; each is asked at another place of the network's stride, near its centre.
    """
    import torch

    size = tiles.shape[-1]
    energy = np.zeros(size)
    signs = np.random.default_rng(0)
    for number, tile in enumerate(tiles):
        row, col = size // 2 + 5 * number % 32, size // 2 + 11 * number % 32
        picture = torch.from_numpy(tile[None].copy()).requires_grad_()
        with torch.enable_grad():
            answer = module(picture)[0, :, row, col]
            # Random signs: the expected square is the sum of the squares of all classes.
            sign = torch.from_numpy(signs.choice([-1.0, 1.0], len(answer)).astype(np.float32))
            (gradient,) = torch.autograd.grad((answer * sign).sum(), picture)
        squares = gradient[0].double().square().sum(dim=0).numpy()
        energy += np.bincount(distances(size, row, col).ravel(), squares.ravel(), minlength=size)[:size]
    return Field(_radii(energy, 1), by_gradient=True)


def field_by_disturbing(predict: Predictor, tiles: NDArray[np.float32]) -> Field:
    """Estimate the field of any model: disturb a ring of the input, look at the pixel in the middle.

    Independent noise in a ring moves the output by the ring's gradients, so the expected square of
    the move is the ring's energy. Moves below the step of 1/65535 in probability are not seen.

    Parameters
    ----------
    predict : Predictor
        On any backend.
    tiles : ndarray of float32, shape (n, bands, size, size)
        Prepared tiles.
    """
    size = tiles.shape[-1]
    away = distances(size, size // 2, size // 2)
    noise = np.random.default_rng(0).normal(0, _NOISE * tiles.std(), tiles.shape).astype(np.float32)
    calm = _middle(predict, tiles)
    energy = []
    for start in range(0, size // 2, RING):
        ring = (away >= start) & (away < start + RING)
        moved = _middle(predict, tiles + noise * ring)
        energy.append(float(np.square(moved - calm).sum()))
    return Field(_radii(np.array(energy), RING), by_gradient=False)


def distances(size: int, row: int, col: int) -> NDArray[np.int64]:
    """Return each pixel's distance from one, (size, size), in pixels: the larger of down and across.

    Examples
    --------
    >>> distances(3, 0, 1)
    array([[1, 0, 1],
           [1, 1, 1],
           [2, 2, 2]])
    """
    index = np.arange(size)
    return np.asarray(np.maximum(np.abs(index - row)[:, None], np.abs(index - col)[None, :]))


def _middle(predict: Predictor, tiles: NDArray[np.float32]) -> NDArray[np.float64]:
    half = tiles.shape[-1] // 2
    answers: Sequence[NDArray[np.uint16]] = [predict(tile[None])[0, :, half, half] for tile in tiles]
    return np.stack(answers) / CERTAIN


def _radii(energy: NDArray[np.float64], step: int) -> tuple[int, int]:
    """Return the distances within which the shares of the energy lie; 0 where there is none at all."""
    if energy.sum() <= 0:
        return 0, 0
    held = np.cumsum(energy) / energy.sum()
    near, far = (int(np.searchsorted(held, share - 1e-12)) for share in SHARES)
    return (near + 1) * step - 1, (far + 1) * step - 1


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


def module_depends(module: torch.nn.Module, bands: int) -> bool:
    """Return whether a network of torch's depends on the extent: from one pass in evaluation mode."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    calls: list[bool] = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls.append(_is_global(func._schema.name.removeprefix("aten::"), args))
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():  # type: ignore[no-untyped-call]
        module(torch.zeros(1, bands, 128, 128))
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
