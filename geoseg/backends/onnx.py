"""Models on the CPU through ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import Activation, Predictor, to_network, to_probabilities
from geoseg.errors import InvalidModel
from geoseg.models.onnx_card import one_line, open_session, signature_of


class OnnxPredictor:
    """Runs tiles one by one; its result cannot depend on the batch that a tile comes in.

    Parameters
    ----------
    path : Path
        ``.onnx`` file.
    activation : str
        Applied to the first output, in float32.
    threads : int, optional
        CPU threads; None: one a core.

    Raises
    ------
    InvalidModel
        If ONNX Runtime cannot read the model.
    """

    name = "onnxruntime f32"
    device = "cpu"
    normalizes = False

    def __init__(self, path: Path, activation: Activation, *, threads: int | None = None) -> None:
        self._path = path
        self._activation = activation
        self._session = open_session(path, threads)
        self._signature = signature_of(self._session, path)

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        """Predict a batch; see `geoseg.backends.base.Predictor`."""
        tiles = to_network(batch, np.dtype(self._signature.dtype))
        outputs = np.concatenate([self._run(tile) for tile in tiles])
        return to_probabilities(outputs, self._activation)

    def _run(self, tile: NDArray[np.generic]) -> NDArray[np.float32]:
        feed = np.repeat(tile[None], max(1, self._signature.batch), axis=0)
        try:
            output = self._session.run(None, {self._signature.name: feed})[0]
        except Exception as error:  # the runtime's exceptions share no base of their own
            raise InvalidModel(f"{self._path}: ONNX Runtime cannot run it: {one_line(error)}") from error
        return np.asarray(output[:1], np.float32)


_conforming: type[Predictor] = OnnxPredictor
