"""Small ONNX graphs, kind and hostile."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int | str, ...]


def write_pointwise(path: Path, **options: Any) -> Path:
    """Write what `pointwise_bytes` makes."""
    path.write_bytes(pointwise_bytes(**options))
    return path


def pointwise_bytes(
    *,
    bands: int = 3,
    classes: int = 1,
    end: str | None = None,
    shape: Shape | None = None,
    dtype: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """Make a 1 × 1 convolution with random weights, ended by `end` (e.g. Sigmoid)."""
    random = np.random.default_rng(3)
    weights = random.normal(0, 4, (classes, bands, 1, 1)).astype(np.float32)
    bias = random.normal(0, 1, classes).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x32", "w", "b"], ["logits"])]
    nodes.insert(0, helper.make_node("Cast", ["x"], ["x32"], to=TensorProto.FLOAT))
    nodes += _ending(end)
    source = shape or ("n", bands, "h", "w")
    graph = helper.make_graph(
        nodes,
        "pointwise",
        [helper.make_tensor_value_info("x", dtype, source)],
        [
            helper.make_tensor_value_info(
                "y", TensorProto.INT64 if end == "ArgMax" else TensorProto.FLOAT, None
            )
        ],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    return model_bytes(graph, metadata)


def save(graph: Any, path: Path, metadata: dict[str, str] | None = None, **options: Any) -> Path:
    path.write_bytes(model_bytes(graph, metadata, **options))
    return path


def model_bytes(graph: Any, metadata: dict[str, str] | None = None, **options: Any) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **options)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


def external(location: str, name: str = "w") -> TensorProto:
    """Return a tensor whose numbers are said to lie in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def _ending(end: str | None) -> list[Any]:
    match end:
        case None:
            return [helper.make_node("Identity", ["logits"], ["y"])]
        case "Softmax":
            return [helper.make_node("Softmax", ["logits"], ["y"], axis=1)]
        case "ArgMax":
            return [helper.make_node("ArgMax", ["logits"], ["y"], axis=1)]
        case "NaN":
            return [
                helper.make_node("Neg", ["logits"], ["negative"]),
                helper.make_node("Sub", ["logits", "logits"], ["zero"]),
                helper.make_node("Div", ["zero", "zero"], ["y"]),
            ]
        case "Shrink":
            return [helper.make_node("MaxPool", ["logits"], ["y"], kernel_shape=[2, 2], strides=[2, 2])]
        case _:
            return [helper.make_node(end, ["logits"], ["y"])]


def outside_in(place: str, location: str) -> onnx.GraphProto:
    """Return a graph with an external tensor in an odd place."""
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])
    tensor = external(location)
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    if place == "initializer":
        return helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [x], [y], [tensor])
    if place == "attribute":
        return helper.make_graph([constant], "g", [x], [y])
    if place == "subgraph":
        branch = helper.make_graph([constant], "branch", [], [y])
        condition = numpy_helper.from_array(np.array(True), "c")
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        return helper.make_graph([node], "g", [x], [y], [condition])
    sparse = onnx.SparseTensorProto(values=tensor, indices=external(location, "i"), dims=[1])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [x], [y])
    graph.sparse_initializer.append(sparse)
    return graph
