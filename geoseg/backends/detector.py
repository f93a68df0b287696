"""Mask R-CNN on the CPU: its three networks in OpenVINO or ONNX Runtime, numpy between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import Detection, Detector
from geoseg.backends.regions import detect
from geoseg.errors import InvalidModel
from geoseg.models.bundle import BOXES, MASKS, ONNX
from geoseg.models.onnx_card import one_line, open_session
from geoseg.models.own_fields import Instances

Network = Callable[..., Sequence[NDArray[np.float32]]]
"""Arrays in the order of a network's inputs to those of its outputs."""

INPUTS = {ONNX: ("image",), BOXES: ("features", "regions"), MASKS: ("features", "regions")}
"""Inputs of the three networks."""


class NetworkDetector:
    """Runs tiles one by one; its result cannot depend on the batch that a tile comes in.

    Parameters
    ----------
    files : mapping of str to Path
        The three networks by their names in a model folder.
    how : Instances
    runtime : {"openvino", "onnxruntime"}
    threads : int, optional
        CPU threads; None: the runtime's own choice.

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
    ) -> None:
        load = {"openvino": _openvino, "onnxruntime": _onnxruntime}[runtime]
        self.name = f"{runtime} f32"
        self._how = how
        self._body, self._boxes, self._masks = (
            load(files[name], inputs, threads) for name, inputs in INPUTS.items()
        )

    def __call__(self, batch: NDArray[Any]) -> list[list[Detection]]:
        """Find objects in a batch; see `geoseg.backends.base.Detector`."""
        tiles = np.ascontiguousarray(batch, np.float32)
        return [
            detect(tiles[number : number + 1], self._body, self._boxes, self._masks, self._how)
            for number in range(len(tiles))
        ]


def _check(path: Path, found: Sequence[str], inputs: Sequence[str]) -> None:
    if tuple(found) != tuple(inputs):
        raise InvalidModel(
            f"{path}: takes {', '.join(found)}, not {', '.join(inputs)}: it is none of the three networks "
            "of a Mask R-CNN that geoseg exports"
        )


def _onnxruntime(path: Path, inputs: Sequence[str], threads: int | None) -> Network:
    session = open_session(path, threads)
    _check(path, [entry.name for entry in session.get_inputs()], inputs)

    def run(*arrays: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        try:
            return list(session.run(None, dict(zip(inputs, arrays, strict=True))))
        except Exception as error:  # the runtime's exceptions share no base of their own
            raise InvalidModel(f"{path}: ONNX Runtime cannot run it: {one_line(error)}") from error

    return run


def _openvino(path: Path, inputs: Sequence[str], threads: int | None) -> Network:
    import openvino

    from geoseg.backends.openvino import cpu_config, reason

    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", cpu_config("f32", threads))
    except RuntimeError as error:
        raise InvalidModel(f"{path}: OpenVINO cannot read it: {reason(error)}") from error
    _check(path, [port.get_any_name() for port in compiled.inputs], inputs)
    own = threading.local()  # a request serves one thread at a time

    def run(*arrays: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        try:
            own.request.infer([np.ascontiguousarray(array) for array in arrays])
        except RuntimeError as error:
            raise InvalidModel(f"{path}: OpenVINO cannot run it: {reason(error)}") from error
        return [output.data.copy() for output in own.request.output_tensors]

    return run


_conforming: type[Detector] = NetworkDetector
