"""Models on the CPU through OpenVINO: ONNX files and OpenVINO IR.

Only bytes go in and come out: normalization, activation and rounding are compiled with the network,
run in its threads and fuse into the layers beside them.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as op
from openvino.preprocess import PrePostProcessor

from geoseg.backends.base import NOT_A_NUMBER, Activation, Predictor, to_network
from geoseg.backends.compiled import CompiledCache
from geoseg.backends.hardware import Precision, cpu_features
from geoseg.errors import InvalidModel
from geoseg.models.inputs import InputSpec
from geoseg.values import CERTAIN


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
        What layers are computed in that the file does not fix; see `geoseg.backends.hardware`. INT8:
        layers that were not quantized take bf16 where the CPU computes in it, else float32.
    threads : int, optional
        CPU threads; None: all that the process may use.
    inputs : InputSpec, optional
        How uint8 tiles are normalized; None: it takes normalized ones only.
    digest : str
        Digest of the model's files, by which compiled networks are kept in the user's cache; empty:
        they are not.

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
        inputs: InputSpec | None = None,
        digest: str = "",
    ) -> None:
        rest = precision if precision != "int8" else "bf16" if "bf16" in cpu_features() else "f32"
        # What is beside INT8 fixes bits too, so it belongs to the name.
        self.name = f"openvino {precision}" + ("/bf16" if precision == "int8" and rest == "bf16" else "")
        self.normalizes = inputs is not None
        self._path = path
        self._activation: Activation = activation
        self._inputs = inputs
        self._core = openvino.Core()
        self._config = {**cpu_config(rest, threads), "PERFORMANCE_HINT": "THROUGHPUT"}
        facts = {"file": path.name, "activation": activation, "inputs": inputs, "config": self._config}
        self._cache = (
            CompiledCache.of(self._core, {"digest": digest, **facts}) if digest else CompiledCache(None, "")
        )
        self._pools: dict[tuple[object, ...], _Pool] = {}
        self._lock = threading.Lock()
        # A file that cannot be read is reported here, not by the first tile.
        self._model = None if self._cache.knows_model else self._read()

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        """Predict a batch; see `geoseg.backends.base.Predictor`."""
        try:
            values, broken = self._pool(batch).run(batch)
        except RuntimeError as error:
            raise InvalidModel(f"{self._path}: OpenVINO cannot run it: {reason(error)}") from error
        if broken:
            raise InvalidModel(NOT_A_NUMBER)
        return values

    def _pool(self, batch: NDArray[Any]) -> _Pool:
        stored = self._inputs is not None and batch.dtype == np.uint8
        key = (stored, *batch.shape[1:])
        with self._lock:
            if key not in self._pools:
                self._pools[key] = self._compile(batch.shape[1:], self._inputs if stored else None)
            return self._pools[key]

    def _read(self) -> Any:
        try:
            return self._core.read_model(str(self._path))
        except RuntimeError as error:
            raise InvalidModel(f"{self._path}: OpenVINO cannot read it: {reason(error)}") from error

    def _compile(self, shape: tuple[int, ...], inputs: InputSpec | None) -> _Pool:
        name = "x".join(map(str, shape)) + ("-uint8" if inputs else "")
        if known := self._cache.load(self._core, name, self._config):
            return _Pool(known)
        model, self._model = self._model or self._read(), None  # other shapes are rare: read it again
        model.reshape([1, *shape])  # fixed shapes run faster than dynamic ones, and take less memory
        model = with_postprocessing(model, self._activation)
        if inputs is not None:
            model = with_preprocessing(model, inputs)
        compiled = self._core.compile_model(model, "CPU", self._config)
        self._cache.store(compiled, name)
        return _Pool(compiled)


class _Pool:
    """The requests of one compiled model, lent to whichever thread comes."""

    def __init__(self, compiled: Any) -> None:
        self._dtype = compiled.inputs[0].get_element_type().to_dtype()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # One runs on each stream, one waits behind it: a stream would stand still from the end of a request
        # until a Python thread has woken up and started the next.
        for _ in range(2 * compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
            self._idle.put(compiled.create_infer_request())

    def run(self, batch: NDArray[Any]) -> tuple[NDArray[np.uint16], bool]:
        """Return the probabilities of each tile, and whether any is broken."""
        tiles = to_network(batch, self._dtype)
        outputs: list[tuple[NDArray[np.uint16], bool]] = []
        running: list[Any] = []
        try:
            for index in range(len(tiles)):
                request = self._lend(running, outputs)
                running.append(request)
                request.start_async({0: tiles[index : index + 1]}, share_inputs=True)
            while running:
                outputs.append(self._finish(running))
        finally:  # after an error, too, every request is given back: others wait for it
            for request in running:
                with contextlib.suppress(RuntimeError):
                    request.wait()
                self._idle.put(request)
        values, broken = zip(*outputs, strict=True)
        return np.stack(values), any(broken)

    def _lend(self, running: list[Any], outputs: list[tuple[NDArray[np.uint16], bool]]) -> Any:
        """Take an idle request; wait for another thread's only while holding none (no deadlock)."""
        while running:
            try:
                return self._idle.get_nowait()
            except queue.Empty:
                outputs.append(self._finish(running))
        return self._idle.get()

    def _finish(self, running: list[Any]) -> tuple[NDArray[np.uint16], bool]:
        request = running.pop(0)
        try:
            request.wait()
            values = np.array(request.get_output_tensor(0).data[0], np.uint16)
            return values, bool(request.get_output_tensor(1).data.any())
        finally:
            self._idle.put(request)


def cpu_config(precision: Literal["f32", "bf16"], threads: int | None) -> dict[str, Any]:
    """Return how a network is compiled for the CPU, by the names of OpenVINO's properties.

    Parameters
    ----------
    precision : {"f32", "bf16"}
        What layers are computed in that the file does not fix.
    threads : int or None
        CPU threads; None: all that the process may use.
    """
    # Pinned, the threads of several workers would all share the first core.
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "ENABLE_CPU_PINNING": False}
    return config if threads is None else {**config, "INFERENCE_NUM_THREADS": threads}


def reason(error: RuntimeError) -> str:
    """Return the one line of OpenVINO's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0][:300]


def with_preprocessing(model: Any, inputs: InputSpec) -> Any:
    """Return a network that takes uint8 pixels and normalizes them in float32.

    Parameters
    ----------
    model : openvino.Model
        With one input of rank 4; where that is of integers they are rounded and clipped.
    """
    wanted = model.inputs[0].get_element_type()
    center = op.constant(np.array(inputs.center, np.float32)[None, :, None, None])
    spread = op.constant(np.array(inputs.spread, np.float32)[None, :, None, None])

    def normalize(pixels: Any) -> Any:
        values = op.divide(op.subtract(op.convert(pixels, "f32"), center), spread)
        if wanted.is_integral():
            limit = float(np.iinfo(wanted.to_dtype()).max)
            values = op.round(op.clamp(values, 0.0, limit), "half_to_even")
        return op.convert(values, wanted).output(0)

    steps = PrePostProcessor(model)
    steps.input(0).tensor().set_element_type(openvino.Type.u8)
    steps.input(0).preprocess().custom(normalize)
    return steps.build()


def with_postprocessing(model: Any, activation: Activation) -> Any:
    """Return a network whose outputs are probabilities on the integer scale, and whether they are true.

    Parameters
    ----------
    model : openvino.Model
        Its first output is used, ``(1, channels, rows, cols)``.
    activation : str
        See `geoseg.backends.base.ACTIVATIONS`.

    Returns
    -------
    openvino.Model
        Outputs: uint16 of the network's shape, 0 … `CERTAIN`, rounded half to even; a float32 that is
        above 0 if the network gave NaN, or infinities of which the softmax would be NaN. Neither
        can be seen in the integers, and compiled layers need not hand NaN on.
    """
    values = op.convert(model.get_results()[0].input_value(0), "f32")
    axes = op.constant(np.arange(values.get_output_partial_shape(0).rank.get_length()))
    broken = openvino.opset14.is_nan(values)
    if activation == "softmax":
        largest = op.reduce_max(values, op.constant(np.array([1])), keep_dims=True)
        # The largest of minus infinities comes out as the smallest number there is.
        beyond = op.greater_equal(op.abs(largest), op.constant(np.finfo(np.float32).max))
        broken = op.logical_or(broken, beyond)
    probabilities = {
        "sigmoid": op.sigmoid,
        "softmax": lambda logits: op.softmax(logits, 1),
        "probability": lambda given: op.clamp(given, 0.0, 1.0),
    }[activation](values)
    scaled = op.multiply(probabilities, op.constant(np.float32(CERTAIN)))
    integers = op.convert(op.round(scaled, "half_to_even"), "u16")
    spoiled = op.reduce_max(op.convert(broken, "f32"), axes)
    return openvino.Model([op.result(integers), op.result(spoiled)], model.get_parameters(), "geoseg")


_conforming: type[Predictor] = OpenVinoPredictor
