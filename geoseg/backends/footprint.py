"""What a network takes in memory: its libraries and weights, and what is alive in a forward pass."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.backends.regions import BOXES_TOGETHER, MASKS_TOGETHER
from geoseg.errors import UnwritableOutput
from geoseg.files import cache_folder, replacing
from geoseg.models.bundle import IR, ONNX, Bundle

if TYPE_CHECKING:
    from geoseg.backends.base import Predictor

PROBE = 256
"""Side of the tile that a network's activations are counted for; they grow with the tile's area."""

UNKNOWN_ACTIVATIONS = 800
"""Bytes for each pixel where they cannot be counted: a U-Net with a ResNet-50 has fewer."""

BOX, MASK = 150_000, 2_200_000
"""Bytes that the heads of a Mask R-CNN of 256 channels take for a region, and for a mask."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a backend takes in a process, tiles and their probabilities aside."""

    fixed: int = 0
    """Bytes of the backend's libraries, its threads and the weights."""
    pixel: float = 0.0
    """Bytes for each pixel of a tile in a forward pass."""
    tile: int = 0
    """Bytes for each tile in a forward pass, whatever its size."""
    requests: int | None = None
    """Tiles that are in a forward pass at a time; None: one for each thread that asks."""


NOTHING = Footprint()
"""Of a model that takes no memory worth counting."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a backend's memory follows from weights and activations; measured with several tiles.

    ``fixed`` bytes, `weights` times the weights' and `share` times the activations' in float32.
    """

    fixed: int
    weights: float
    share: float


_RULES: dict[str, _Rule] = {
    # Layers are compiled to machine code for the tile's shape, which costs more than the weights.
    "openvino f32": _Rule(75_000_000, 3.0, 1.2),
    "openvino": _Rule(75_000_000, 3.0, 0.75),  # bf16, INT8
    "onnxruntime": _Rule(75_000_000, 3.0, 2.6),  # its arena grows by powers of two
    "pytorch": _Rule(710_000_000, 3.0, 2.6),
    # Of the host; activations are on the device. A whole run on an H100 took 2.1 GB.
    "cuda": _Rule(2_000_000_000, 2.0, 0.0),
}


def footprint(bundle: Bundle, predictor: Predictor, requests: int) -> Footprint:
    """Return what a model takes in each process that runs it.

    Activations are counted in the network's graph (the largest sum of the sizes of tensors that are
    alive at the same time, each from the layer that makes it to the last that takes it) and remembered
    in the user's cache.

    Parameters
    ----------
    predictor : Predictor
        Its name and device say which backend it is, in which precision.
    requests : int
        Tiles that OpenVINO works at a time, at most; the others take one for each thread.
    """
    backend = "cuda" if predictor.device.startswith("cuda") else predictor.name.split()[0]
    rule = _RULES.get(predictor.name.partition(",")[0], _RULES[backend])  # flips follow the comma
    weights = sum([path.stat().st_size for path in bundle.files.values()])
    pixel = rule.share and rule.share * _activations(bundle)
    fixed = rule.fixed + int(rule.weights * weights)
    how, tile = bundle.card.instances, 0
    if how is not None and backend != "cuda":
        boxes, masks = (
            (how.proposals, how.objects) if backend == "pytorch" else (BOXES_TOGETHER, MASKS_TOGETHER)
        )
        tile = BOX * boxes + MASK * masks
    return Footprint(fixed, pixel, tile, requests if backend == "openvino" else None)


def _activations(bundle: Bundle) -> float:
    """Return the bytes of a network's activations for each pixel of a tile, in float32."""
    note = None
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # RuntimeError: a user without a home
        note = cache_folder("activations") / f"{bundle.card.digest}.json"
        known = json.loads(note.read_bytes())
        if isinstance(known, float) and 0 <= known < math.inf:
            return known
    path = bundle.files.get(ONNX) or bundle.files.get(IR[0])
    if path is None:
        return UNKNOWN_ACTIVATIONS
    side = bundle.card.tile if bundle.card.fixed_tile else PROBE
    try:
        found = alive_at_once(path, (1, len(bundle.card.inputs.bands), side, side)) / side**2
    except RuntimeError:  # OpenVINO cannot read it
        return UNKNOWN_ACTIVATIONS
    if note is not None:
        with contextlib.suppress(OSError, UnwritableOutput):  # in vain: they are counted anew
            note.parent.mkdir(parents=True, exist_ok=True)
            with replacing(note) as temporary:
                temporary.write_text(json.dumps(found), encoding="utf-8")
    return found


def alive_at_once(path: Path, shape: tuple[int, ...]) -> int:
    """Return the bytes of the tensors of a network that are alive at the same time, at most.

    Parameters
    ----------
    path : Path
        ``.onnx`` or ``.xml``.
    shape : tuple of int
        Of the input: (1, bands, rows, cols).

    Raises
    ------
    RuntimeError
        If OpenVINO cannot read it.
    """
    import openvino

    model = openvino.Core().read_model(str(path))
    model.reshape(list(shape))
    layers = [op for op in model.get_ordered_ops() if op.get_type_name() not in ("Constant", "Result")]
    last = {
        taken.get_source_output().get_node().get_friendly_name(): number
        for number, op in enumerate(layers)
        for taken in op.inputs()
    }
    ending: dict[int, int] = {}
    alive = largest = 0
    for number, op in enumerate(layers):
        size = sum(output.get_tensor().size for output in op.outputs())
        alive += size
        largest = max(largest, alive)
        end = last.get(op.get_friendly_name(), number)
        ending[end] = ending.get(end, 0) + size
        alive -= ending.pop(number, 0)
    return largest
