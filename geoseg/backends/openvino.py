"""Models on the CPU through OpenVINO: ONNX files and OpenVINO IR."""

from __future__ import annotations

import contextlib
import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from geoseg.backends.base import Activation, Predictor, to_network, to_probabilities
from geoseg.backends.precision import Precision, cpu_capabilities
from geoseg.errors import InvalidModel


class OpenVinoPredictor:
    """Runs tiles one by one on a pool of requests that use all threads.

    Each tile is its own inference: its result cannot depend on the batch that it comes in.

    Parameters
    ----------
    path : Path
        ``.onnx``, or ``.xml`` with its ``.bin`` beside it; for INT8 the file that was quantized.
    activation : str
        Applied to the first output, in float32.
    precision : str
        What layers are computed in that the file does not fix; see `geoseg.backends.precision`. INT8:
        layers that were not quantized take bf16 where the CPU computes in it, else float32.
    threads : int, optional
        CPU threads; None: all that the process may use.

    Raises
    ------
    InvalidModel
        If OpenVINO cannot read or compile the model.
    """

    device = "cpu"

    def __init__(
        self,
        path: Path,
        activation: Activation,
        *,
        precision: Precision,
        threads: int | None = None,
    ) -> None:
        rest = precision if precision != "int8" else "bf16" if "BF16" in cpu_capabilities() else "f32"
        # What is beside INT8 fixes bits too, so it belongs to the name.
        self.name = f"openvino {precision}" + ("/bf16" if precision == "int8" and rest == "bf16" else "")
        self._path = path
        self._activation = activation
        self._core = openvino.Core()
        self._config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": rest,
            "PERFORMANCE_HINT": "THROUGHPUT",
        }
        if threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = threads
        self._pools: dict[tuple[int, ...], _Pool] = {}
        self._lock = threading.Lock()
        self._read()  # a file that cannot be read is reported here, not by the first tile

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Predict a batch; see `geoseg.backends.base.Predictor`."""
        try:
            outputs = self._pool(batch.shape[1:]).run(batch)
        except RuntimeError as error:
            raise InvalidModel(f"{self._path}: OpenVINO cannot run it: {_reason(error)}") from error
        return to_probabilities(outputs, self._activation)

    def _pool(self, shape: tuple[int, ...]) -> _Pool:
        with self._lock:
            if shape not in self._pools:
                self._pools[shape] = self._compile(shape)
            return self._pools[shape]

    def _read(self) -> Any:
        try:
            return self._core.read_model(str(self._path))
        except RuntimeError as error:
            raise InvalidModel(f"{self._path}: OpenVINO cannot read it: {_reason(error)}") from error

    def _compile(self, shape: tuple[int, ...]) -> _Pool:
        model = self._read()
        model.reshape([1, *shape])  # fixed shapes run faster than dynamic ones, and take less memory
        return _Pool(self._core.compile_model(model, "CPU", self._config))


class _Pool:
    """The requests of one compiled model, lent to whichever thread comes."""

    def __init__(self, compiled: Any) -> None:
        self._dtype = compiled.inputs[0].get_element_type().to_dtype()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
            self._idle.put(compiled.create_infer_request())

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        tiles = to_network(batch, self._dtype)
        outputs: list[NDArray[np.float32]] = []
        running: list[Any] = []
        try:
            for index in range(len(tiles)):
                request = self._lend(running, outputs)
                running.append(request)
                request.start_async({0: tiles[index : index + 1]}, share_inputs=True)
            while running:
                outputs.append(self._finish(running))
        finally:  # after an error no request may stay away, or others would wait for it for ever
            for request in running:
                with contextlib.suppress(RuntimeError):
                    request.wait()
                self._idle.put(request)
        return np.stack(outputs)

    def _lend(self, running: list[Any], outputs: list[NDArray[np.float32]]) -> Any:
        """Take an idle request; wait for another thread's only while holding none (no deadlock)."""
        while running:
            try:
                return self._idle.get_nowait()
            except queue.Empty:
                outputs.append(self._finish(running))
        return self._idle.get()

    def _finish(self, running: list[Any]) -> NDArray[np.float32]:
        request = running.pop(0)
        try:
            request.wait()
            return np.array(request.get_output_tensor(0).data[0], np.float32)
        finally:
            self._idle.put(request)


def _reason(error: RuntimeError) -> str:
    """Return the one line of OpenVINO's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0][:300]


_conforming: type[Predictor] = OpenVinoPredictor
