"""Mask R-CNN on the CPU: its three networks in OpenVINO or ONNX Runtime, numpy between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import Detection, Detector
from geoseg.backends.hardware import Precision
from geoseg.backends.regions import detect
from geoseg.errors import InvalidModel
from geoseg.models.bundle import BOXES, INT8_PARTS, MASKS, ONNX
from geoseg.models.document import Instances
from geoseg.models.onnx_card import one_line, open_session

Network = Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]
"""An array to a network's answers."""

INPUTS = {ONNX: "image", BOXES: "boxes", MASKS: "regions"}
"""Inputs of the three networks."""


class NetworkDetector:
    """Runs tiles one by one; its result cannot depend on the batch that a tile comes in.

    Parameters
    ----------
    files : mapping of str to Path
        The three networks by their names in a model folder.
    runtime : {"openvino", "onnxruntime"}
    threads : int, optional
        CPU threads; None: the runtime's own choice.
    precision : str
        Of the dense layers; see `geoseg.backends.hardware`. Boxes are float32 in any case.

    Attributes
    ----------
    networks : (callable, callable, callable)
        Body and heads, see `geoseg.backends.regions.detect`.

    Raises
    ------
    InvalidModel
        If the runtime cannot read a network, or it is of another layout.
    """

    device = "cpu"
    normalizes = False

    def __init__(
        self,
        files: Mapping[str, Path],
        how: Instances,
        runtime: Literal["openvino", "onnxruntime"],
        threads: int | None = None,
        precision: Precision = "f32",
    ) -> None:
        self.name = f"{runtime} {precision}"
        self._how = how
        chosen = {name: files[INT8_PARTS[name][0] if precision == "int8" else name] for name in INPUTS}
        if runtime == "openvino":
            rest: Literal["f32", "bf16"] = "bf16" if precision == "bf16" else "f32"
            networks = [_openvino(path, name, threads, rest) for name, path in chosen.items()]
        else:
            networks = [_onnxruntime(path, name, threads) for name, path in chosen.items()]
        self.networks = (networks[0], networks[1], networks[2])

    def __call__(self, batch: NDArray[Any]) -> list[list[Detection]]:
        """Find objects in a batch; see `geoseg.backends.base.Detector`."""
        tiles = np.ascontiguousarray(batch, np.float32)
        return [detect(tiles[number : number + 1], self.networks, self._how) for number in range(len(tiles))]


def _check(path: Path, found: Sequence[str], name: str) -> None:
    if list(found) != [INPUTS[name]]:
        raise InvalidModel(
            f"{path}: takes {', '.join(found)}, not {INPUTS[name]}: it is none of the three networks "
            "of a Mask R-CNN that geoseg exports"
        )


def _onnxruntime(path: Path, name: str, threads: int | None) -> Network:
    session = open_session(path, threads)
    _check(path, [entry.name for entry in session.get_inputs()], name)

    def run(array: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        try:
            return list(session.run(None, {INPUTS[name]: array}))
        except Exception as error:  # the runtime's exceptions share no base of their own
            raise InvalidModel(f"{path}: ONNX Runtime cannot run it: {one_line(error)}") from error

    return run


def _openvino(path: Path, name: str, threads: int | None, precision: Literal["f32", "bf16"]) -> Network:
    import openvino

    from geoseg.backends.openvino import cpu_config, reason

    core, config = openvino.Core(), cpu_config(precision, threads)
    try:
        model = core.read_model(str(path))
    except RuntimeError as error:
        raise InvalidModel(f"{path}: OpenVINO cannot read it: {reason(error)}") from error
    _check(path, [port.get_any_name() for port in model.inputs], name)

    @lru_cache(maxsize=2)
    def compiled(shape: tuple[int, ...]) -> Any:
        chosen = model.clone()
        chosen.reshape(list(shape))
        return core.compile_model(chosen, "CPU", config)

    requests = threading.local()  # a request serves one thread at a time
    lock = threading.Lock()

    def run(array: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        # A tile's shape is fixed, which runs faster; regions come in any number.
        shape = array.shape if name == ONNX else (-1, *array.shape[1:])
        known = vars(requests).setdefault("known", {})
        try:
            if shape not in known:
                with lock:
                    known[shape] = compiled(shape).create_infer_request()
            known[shape].infer([np.ascontiguousarray(array)])
        except RuntimeError as error:
            raise InvalidModel(f"{path}: OpenVINO cannot run it: {reason(error)}") from error
        return [output.data.copy() for output in known[shape].output_tensors]

    return run


_conforming: type[Detector] = NetworkDetector
