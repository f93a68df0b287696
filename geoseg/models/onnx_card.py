"""A card for an ONNX file that has none: from its metadata, its shapes, and a trial run.

The metadata keys are those of the QGIS plugin Deepness and of GeoDeep
(https://qgis-plugin-deepness.readthedocs.io, "Add metadata to the model"); every one may be missing.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InvalidModel
from geoseg.models.card import Head, class_color
from geoseg.models.card_json import make_document
from geoseg.models.document import Activation, CardDocument
from geoseg.models.inputs import InputSpec
from geoseg.values import ClassInfo, Patch

_DEFAULT_TILE = 512
_PROBE = 256
_BANDS = {1: ("gray",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "nir")}
_INPUT_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_BACKGROUND = re.compile(
    r"[_\W]*(back ?ground|bg|none|others?|nothing|no ?data|unlabell?ed|unknown|void|ignore"
    r"|not?[ _-].*)[_\W]*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Signature:
    """The one image input of an ONNX graph."""

    name: str
    dtype: str
    """`name`, `dtype`: Name and NumPy dtype of the input."""
    batch: int
    channels: int
    size: int
    """`batch`, `channels`, `size`: Its sizes; -1 where any will do."""


def document_of(path: Path) -> CardDocument:
    """Make a card for an ONNX file that `geoseg.models.bundle` found harmless.

    Without metadata: RGB in 0 … 255 divided by 255 (a uint8 input takes it as it is), tiles of the
    graph's fixed size or 512, the scene's own resolution. Outputs of a trial run that all lie in
    [0, 1] are probabilities already; else one channel is a sigmoid's, several a softmax's.

    Raises
    ------
    InvalidModel
        If the runtime cannot read it, or it is no segmentation model that geoseg can run.
    """
    session = open_session(path)
    signature = signature_of(session, path)
    keys = _Keys(path, session.get_modelmeta().custom_metadata_map)
    kind = keys.text("model_type", "Segmentor")
    if kind.lower() not in ("segmentor", "segmentation"):
        raise InvalidModel(f"{path}: is a {kind}; geoseg runs segmentation models (Segmentor)")
    inputs = _input_spec(signature, keys)
    outputs = _probe(session, signature, inputs, path)
    tile = (
        signature.size if signature.size > 0 else int(keys.number(("tiles_size", "tile_size"), _DEFAULT_TILE))
    )
    overlap = round(tile * min(keys.number(("tiles_overlap",), 25), 50) / 100)
    resolution = keys.number(("resolution",), 0) / 100
    return make_document(
        _name(path),
        inputs,
        _head(outputs, keys),
        tile=tile,
        overlap=min(overlap, tile // 2),
        resolution_m=resolution or None,
        fixed_tile=signature.size > 0 or tile % 32 > 0,
        extra={"mlm:framework": "ONNX", "geoseg:version": 1},
    )


def open_session(path: Path, threads: int | None = None) -> Any:
    """Open an ONNX file with ONNX Runtime on the CPU, quietly.

    Raises
    ------
    InvalidModel
        If the runtime cannot read it, e.g. because of operators of an unknown domain.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base of their own
        raise InvalidModel(f"{path}: ONNX Runtime cannot read it: {one_line(error)}") from error


def signature_of(session: Any, path: Path) -> Signature:
    """Return the image input of an open session.

    Raises
    ------
    InvalidModel
        If there is no such input: several, no 4 dimensions, channels last, not square.
    """
    entries = session.get_inputs()
    shape = entries[0].shape
    if len(entries) != 1 or len(shape) != 4:
        raise InvalidModel(
            f"{path}: needs one input (batch, bands, height, width), has {len(entries)}: {shape}"
        )
    if entries[0].type not in _INPUT_DTYPES:
        known = ", ".join(sorted(_INPUT_DTYPES.values()))
        raise InvalidModel(f"{path}: takes {entries[0].type}; geoseg feeds {known}")
    batch, channels, height, width = (size if isinstance(size, int) and size > 0 else -1 for size in shape)
    if channels not in range(1, 65):
        last = width in range(1, 17)
        hint = "its channels come last (NHWC)" if last else f"its number of bands is not fixed ({shape})"
        raise InvalidModel(f"{path}: {hint}; export it with input (batch, bands, height, width)")
    if height > 0 and width > 0 and height != width:
        raise InvalidModel(f"{path}: takes tiles of {height} × {width}; geoseg needs square ones")
    return Signature(entries[0].name, _INPUT_DTYPES[entries[0].type], batch, channels, max(height, width))


def one_line(error: Exception) -> str:
    """Return the first line of a runtime's message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


class _Keys:
    """The metadata of an ONNX file; values are JSON, or bare text."""

    def __init__(self, path: Path, entries: Mapping[str, str]) -> None:
        self._path = path
        self._entries = entries

    def text(self, name: str, default: str) -> str:
        return self._entries.get(name, default).strip().strip("\"'") or default

    def number(self, names: Sequence[str], default: float) -> float:
        for name in names:
            if name in self._entries:
                value = self._parse(name)
                if isinstance(value, (int, float)) and value >= 0 and np.isfinite(value):
                    return float(value)
                raise InvalidModel(f"{self._path}: metadata {name}: {value!r} is no number of 0 or more")
        return default

    def numbers(self, name: str, count: int, default: float) -> tuple[float, ...]:
        if name not in self._entries:
            return (default,) * count
        value = self._parse(name)
        values = value if isinstance(value, (list, tuple)) else [value]
        if len(values) not in (1, count) or not all(isinstance(item, (int, float)) for item in values):
            raise InvalidModel(f"{self._path}: metadata {name}: needs {count} numbers, has {value!r}")
        return tuple(float(item) for item in values) * (count // len(values))

    def class_names(self) -> dict[int, str]:
        name = "class_names" if "class_names" in self._entries else "names"
        if name not in self._entries:
            return {}
        value = self._parse(name)
        pairs = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        try:
            return {int(key): str(text)[:200] or str(key) for key, text in pairs}
        except (TypeError, ValueError) as error:
            message = f"{self._path}: metadata {name}: must map channel numbers to names"
            raise InvalidModel(message) from error

    def _parse(self, name: str) -> Any:
        text = self._entries[name][:100_000]
        try:
            return json.loads(text)
        except ValueError:
            pass
        try:
            return ast.literal_eval(text)  # a Python literal, as older exporters wrote it
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise InvalidModel(f"{self._path}: metadata {name}: cannot be read: {text[:60]!r}") from error


def _input_spec(signature: Signature, keys: _Keys) -> InputSpec:
    count = signature.channels
    bands = _BANDS.get(count) or tuple(f"band_{index + 1}" for index in range(count))
    return InputSpec(
        bands=bands,
        dtype="uint8",
        scale=1.0 if signature.dtype == "uint8" else 1 / 255,
        mean=keys.numbers("standardization_mean", count, 0.0),
        std=keys.numbers("standardization_std", count, 1.0),
    )


def _head(outputs: NDArray[np.float32], keys: _Keys) -> Head:
    count = outputs.shape[1]
    names = keys.class_names()
    if count == 1:
        name = names.get(1) or names.get(0) or "class_1"
        channels: tuple[int, ...] = (1,)
        classes: tuple[ClassInfo, ...] = (ClassInfo(1, name, class_color(1)),)
    else:
        # By the convention of both tools channel 0 is the background, unless its name says otherwise.
        first = 0 if _BACKGROUND.fullmatch(names.get(0, "background")) else 1
        channels = tuple(range(first, first + count))
        classes = tuple(
            ClassInfo(channel, names.get(channel - first, f"class_{channel}"), class_color(channel))
            for channel in channels
            if channel
        )
    threshold = keys.number(("seg_thresh",), 0.5 if count == 1 else 0.5 / count)
    return Head(classes, channels, _activation(outputs), threshold)


def _activation(outputs: NDArray[np.float32]) -> Activation:
    if outputs.min() >= -1e-4 and outputs.max() <= 1 + 1e-4:
        return "probability"
    return "sigmoid" if outputs.shape[1] == 1 else "softmax"


def _probe(session: Any, signature: Signature, inputs: InputSpec, path: Path) -> NDArray[np.float32]:
    """Run four tiles (noise, ramp, black, white) and return the outputs ``(4, channels, rows, cols)``."""
    size = signature.size if signature.size > 0 else _PROBE
    shape = (signature.channels, size, size)
    ramp = np.broadcast_to(np.linspace(0, 255, size), shape)
    noise = np.random.default_rng(0).uniform(0, 255, shape)
    outputs = []
    for pixels in (noise, ramp, np.zeros(shape), np.full(shape, 255.0)):
        patch = Patch(pixels.astype(np.uint8), np.ones(shape[1:], bool))
        tile = inputs.prepare(patch).astype(signature.dtype)
        batch = np.repeat(tile[None], max(1, signature.batch), axis=0)
        try:
            output = session.run(None, {signature.name: batch})[0]
        except Exception as error:  # the runtime's exceptions share no base of their own
            raise InvalidModel(
                f"{path}: does not run on a tile of {size} pixels: {one_line(error)}"
            ) from error
        outputs.append(output[:1])
    if not np.issubdtype(outputs[0].dtype, np.floating):
        raise InvalidModel(
            f"{path}: gives class numbers ({outputs[0].dtype}), not probabilities; export it without argmax"
        )
    if outputs[0].ndim != 4 or outputs[0].shape[2:] != (size, size):
        raise InvalidModel(
            f"{path}: gives {outputs[0].shape} for a tile of {size} × {size} pixels; "
            "geoseg needs (batch, classes, height, width) of the tile's size"
        )
    together = np.concatenate(outputs).astype(np.float32)
    if not np.isfinite(together).all():
        raise InvalidModel(f"{path}: gives NaN or infinity; its weights are damaged")
    return together


def _name(path: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem)[:80].strip("-_.")
    return name if re.fullmatch(r"[A-Za-z].*[A-Za-z0-9]", name) else f"model-{name or 'onnx'}"
