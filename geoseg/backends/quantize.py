"""INT8 by quantization after training; `geoseg.assessment.int8` says whether it is good enough to ship.

Quantized are weights (per channel) and activations (per tensor), with ranges from real tiles and
corrected biases, by NNCF's default algorithm. Three things keep it right:

- It sees the bare network, logits out, at a fixed shape. With normalization and softmax inside and
  dynamic shapes it went silently wrong.
- The first convolution stays as it is: it costs little, and rounding what comes in costs most (Nagel et
  al., A White Paper on Neural Network Quantization, 2021). That of the U-Net that ships loses 0.06 points
  of IoU. What goes out is not rounded: the last convolution takes bytes and gives floats, which loses
  0.01 points and saves 5 % of the time.
- Weights use half of the 8-bit range. CPUs without VNNI instructions add products of bytes in 16
  bits; with the whole range these sums are cut off, and only on such CPUs the result is wrong.

See https://docs.openvino.ai, "Basic Quantization Flow" and "overflow_fix".
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.backends.base import to_network
from geoseg.errors import InvalidModel, InvalidOption, MissingExtra, UnwritableOutput
from geoseg.files import check_writable, replacing

TILES = 300
"""Tiles that are used to find the ranges of activations; more change little."""


def quantize(onnx: Path, tiles: Iterable[NDArray[np.float32]], path: Path, *, pictures: bool = True) -> None:
    """Write a network as OpenVINO IR with INT8 weights and activations.

    The same tiles in the same order give the same files. The IR takes tiles of any
    size that the network takes.

    Parameters
    ----------
    onnx : Path
        ONNX file or IR; one input (batch, bands, rows, cols), logits out.
    tiles : iterable of ndarray of float32, shape (bands, rows, cols)
        Real tiles, prepared as for prediction, all of one shape; the first `TILES` are used. They
        stay in memory: 256 pixels a side is a good size.
    path : Path
        The ``.xml``; its ``.bin`` is written beside it. Existing files are replaced.
    pictures : bool
        Whether the network takes tiles; else features cut out of them, which are rounded already.

    Raises
    ------
    MissingExtra
        If NNCF is not installed.
    InvalidOption
        If there is no tile, or their shapes differ.
    InvalidModel
        If the network cannot be read or quantized, or does not take such tiles.
    UnwritableOutput
        If the folder of `path` is missing or not writable, or a disk is full.
    """
    check_writable(path, overwrite=True)
    chosen = list(itertools.islice(tiles, TILES))
    if len({tile.shape for tile in chosen}) != 1:
        raise InvalidOption("quantizing needs calibration tiles, one or more, all of one shape")
    with _quiet_nncf() as nncf, tempfile.TemporaryDirectory() as place:
        import openvino

        try:
            model = openvino.Core().read_model(str(onnx))
            shape = model.inputs[0].get_partial_shape()
            model.reshape([1, *chosen[0].shape])
            result = _quantized(nncf, model, chosen, _first_convolution(model) if pictures else [])
            result.reshape(shape)  # what ships takes tiles of any size again
            _name_by_place(result)
        except (RuntimeError, ValueError, TypeError) as error:  # NNCF's own errors are such
            reason = " ".join(str(error).split())[:300]
            raise InvalidModel(f"{onnx}: cannot be quantized: {reason}") from error
        try:
            openvino.save_model(result, str(Path(place) / path.name), compress_to_fp16=False)
        except RuntimeError as error:  # of C++ streams, which do not tell why
            raise UnwritableOutput(
                f"{place}: OpenVINO cannot write {path.name} there ({error}); make room, or set TMPDIR to "
                "another folder"
            ) from error
        for name in (path.with_suffix(".bin").name, path.name):  # the .xml last: it makes them a pair
            with replacing(path.with_name(name)) as temporary:
                shutil.copyfile(Path(place) / name, temporary)


def _quantized(nncf: Any, model: Any, tiles: list[NDArray[np.float32]], ignored: list[str]) -> Any:
    dtype = np.dtype(model.inputs[0].get_element_type().to_dtype())
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    return nncf.quantize(
        model,
        nncf.Dataset(tiles, lambda tile: to_network(tile[None], dtype)),
        preset=nncf.QuantizationPreset.MIXED,  # activations have no sign after ReLU, and one before
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(tiles),
        ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
        advanced_parameters=advanced,
    )


def _first_convolution(model: Any) -> list[str]:
    """Return the name of the first convolution, or nothing."""
    names = (
        node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"
    )
    return list(itertools.islice(names, 1))


def _name_by_place(model: Any) -> None:
    """Name inner nodes by their order: OpenVINO names new ones by a counter of the whole process."""
    for index, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        if kind not in ("Parameter", "Result"):
            node.set_friendly_name(f"{kind}_{index}")


@contextlib.contextmanager
def _quiet_nncf() -> Iterator[Any]:
    """Import NNCF; while it works it prints nothing, and it never reports its use to its makers."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _without_telemetry():
            try:
                import nncf
            except ImportError as error:
                raise MissingExtra("quantizing to INT8", "train") from error
        # NNCF tells of its progress, and makes torch look for a CUDA compiler that nobody needs here.
        # (nncf.set_log_level would change handlers that belong to others, too.)
        chatty = {name: logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")}
        levels = {name: logger.level for name, logger in chatty.items()}
        try:
            for logger in chatty.values():
                logger.setLevel(logging.ERROR)
            yield nncf
        finally:
            for name, logger in chatty.items():
                logger.setLevel(levels[name])


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Set the variable that NNCF decides by, once, when it is imported."""
    previous = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        yield
    finally:
        if previous is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = previous
