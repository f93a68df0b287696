"""What every backend offers, and the arithmetic they share: numpy only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidModel, OutOfDeviceMemory
from geoseg.values import CERTAIN, Window

Activation = Literal["sigmoid", "softmax", "probability"]


NOT_A_NUMBER = "the model gives NaN: its weights are damaged, or overflow on this backend"
"""The error for a probability that is NaN: it would become a confident 0."""


class Runner(Protocol):
    """What predictors and detectors have in common: safe to call from several threads.

    Attributes
    ----------
    name : str
        Runtime and precision, e.g. ``openvino bf16``.
    device : str
        ``cpu``, ``cuda``, ``cuda:1`` …
    normalizes : bool
        Whether it also takes uint8 tiles as `geoseg.models.inputs.InputSpec.fill` gives them, and
        scales and normalizes them itself: nearer to the network that costs next to nothing.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def device(self) -> str: ...  # noqa: D102

    @property
    def normalizes(self) -> bool: ...  # noqa: D102


@runtime_checkable
class Predictor(Runner, Protocol):
    """Tiles in, class probabilities out."""

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        """Map ``(n, bands, rows, cols)`` to ``(n, channels, rows, cols)``, `CERTAIN` being 1.

        Parameters
        ----------
        batch : ndarray of float32, or of uint8 where it `normalizes`
            Float32 is normalized already, as `geoseg.models.inputs.InputSpec.prepare` does.

        Raises
        ------
        OutOfDeviceMemory
            If the batch does not fit on the device; a smaller one may.
        """
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Detection:
    """An object that a model found in a tile."""

    label: int
    """Class id."""
    score: float
    """0 … 1."""
    window: Window
    """Pixels of the tile around it."""
    values: NDArray[np.uint8]
    """uint8, shape of the window. Probability that a pixel is part of it, 255 is certain."""


class Detector(Runner, Protocol):
    """Tiles in, objects out."""

    def __call__(self, batch: NDArray[Any]) -> Sequence[Sequence[Detection]]:
        """Map ``(n, bands, rows, cols)`` to what is found in each tile; see `Predictor`."""
        ...


Model = Predictor | Detector
"""What a backend runs."""


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)) in float32, written with tanh, which cannot overflow."""
    half = np.float32(0.5)
    return np.asarray(half + half * np.tanh(half * logits), np.float32)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over axis 1 in float32, shifted by the maximum so that nothing overflows."""
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which `quantize` reports
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def quantize(probabilities: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return probabilities on the integer scale: clipped to 0 … 1, rounded half to even.

    Raises
    ------
    InvalidModel
        If a value is NaN: it would become a confident 0.

    Examples
    --------
    >>> quantize(np.array([-0.1, 0.0, 0.5, 1.0], np.float32))
    array([    0,     0, 32768, 65535], dtype=uint16)
    """
    scaled: NDArray[np.float32] = np.rint(np.clip(probabilities, 0, 1) * np.float32(CERTAIN))
    if np.isnan(scaled).any():
        raise InvalidModel(NOT_A_NUMBER)
    return scaled.astype(np.uint16)


ACTIVATIONS: dict[Activation, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "sigmoid": sigmoid,
    "softmax": softmax,
    "probability": lambda probabilities: probabilities,
}
"""How the output of a network becomes probabilities; ``probability``: it does so itself."""


def to_probabilities(output: NDArray[np.float32], activation: Activation) -> NDArray[np.uint16]:
    """Apply the activation to ``(n, channels, rows, cols)`` and quantize."""
    return quantize(ACTIVATIONS[activation](output))


def to_network(batch: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a batch in the dtype of a network's input; integers are rounded and clipped.

    Examples
    --------
    >>> to_network(np.array([-1.0, 1.6, 300.0]), np.dtype("uint8"))
    array([  0,   2, 255], dtype=uint8)
    """
    if dtype.kind != "u" or batch.dtype == dtype:
        return np.ascontiguousarray(batch, dtype)
    limit = np.iinfo(dtype).max
    return np.ascontiguousarray(np.rint(np.clip(batch, 0, limit)), dtype)


@dataclass(eq=False, slots=True)
class BatchSize:
    """The number of tiles a forward pass, shared by threads; it only ever shrinks."""

    value: int
    """Tiles a batch from now on, 1 or more."""
    shrunk: bool = False
    """Whether the device's memory asked for less than at the beginning."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def shrink(self, failed: int) -> None:
        """Go to at most half of a batch of `failed` tiles that did not fit."""
        with self._lock:
            self.value = max(1, min(self.value, failed // 2))
            self.shrunk = True


def predict_batches(predictor: Model, tiles: NDArray[Any], batch: BatchSize) -> list[Any]:
    """Predict any number of tiles in batches that fit on the device.

    A batch that does not fit is halved, down to 1, and `batch` remembers the size for later calls.

    Parameters
    ----------
    predictor : Predictor or Detector
        Called once for each batch.
    tiles : ndarray, shape (n, bands, rows, cols)
        At least one tile, see `Predictor`.
    batch : BatchSize
        Largest batch to try; shrinks where the device's memory asks for it.

    Returns
    -------
    list
        What it says of each tile.

    Raises
    ------
    OutOfDeviceMemory
        If not even a single tile fits.
    """
    answers: list[Any] = []
    done = 0
    while done < len(tiles):
        part = tiles[done : done + batch.value]
        try:
            answers.extend(predictor(part))
        except OutOfDeviceMemory as error:
            if len(part) == 1:
                size = f"{tiles.shape[2]} × {tiles.shape[3]}"
                message = (
                    f"{predictor.device}: not even one tile of {size} pixels fits into memory; "
                    "choose a smaller --tile or --device cpu"
                )
                raise OutOfDeviceMemory(message) from error
            batch.shrink(len(part))
        else:
            done += len(part)
    return answers


FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))
"""Axes of a batch that are reversed, one entry a pass: none, left and right, up and down, both."""


@dataclass(frozen=True, slots=True)
class FlippingPredictor:
    """Averages any predictor over `FLIPS`, so that it does not matter which way round a tile is.

    Turns by 90° are left out: they would change the shape of tiles that are not square.
    """

    inner: Predictor
    """Called once for each flip, with the whole batch, so that it needs no more memory than alone."""

    @property
    def name(self) -> str:
        """Runtime and precision, and that the flips are averaged: other bits than without."""
        return f"{self.inner.name}, mean of {len(FLIPS)} flips"

    @property
    def device(self) -> str:
        """Where the inner predictor runs."""
        return self.inner.device

    @property
    def normalizes(self) -> bool:
        """Whether the inner predictor takes uint8 tiles."""
        return self.inner.normalizes

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.uint16]:
        """Map ``(n, bands, rows, cols)`` to the mean over the flips, rounded half up.

        The sum is of integers: it is the same in any order, and the mean of four equal values is
        that value.
        """
        total: NDArray[np.uint32] | None = None
        for axes in FLIPS:
            # Contiguous, as backends take a batch for the memory that it is.
            there = np.ascontiguousarray(np.flip(batch, axes)) if axes else batch
            back = np.flip(self.inner(there), axes).astype(np.uint32)
            total = back if total is None else total + back
        assert total is not None
        return ((total + len(FLIPS) // 2) // len(FLIPS)).astype(np.uint16)


_conforming: type[Predictor] = FlippingPredictor
