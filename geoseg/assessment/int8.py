"""What INT8 costs: its accuracy on labelled tiles against that of float32, and whether to ship it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.assessment.compare import Painter
from geoseg.backends import regions
from geoseg.backends.base import Predictor
from geoseg.backends.detector import NetworkDetector
from geoseg.backends.hardware import LOSS_LIMIT, Precision, cpu_features
from geoseg.backends.quantize import TILES, quantize
from geoseg.grid import classify
from geoseg.metrics import Confusion, confusion
from geoseg.models.bundle import BOXES, INT8, INT8_PARTS, MASKS, ONNX
from geoseg.models.card import Head
from geoseg.models.document import Instances
from geoseg.values import ClassRule

_REGIONS = 8
"""Regions of a tile that are looked at for the ranges of activations."""


@dataclass(frozen=True, eq=False, slots=True)
class LabelledTile:
    """A tile whose truth is known."""

    pixels: NDArray[np.float32]
    """float32, shape (bands, rows, cols). As the network sees them: filled, scaled, normalized."""
    truth: NDArray[np.uint8]
    """uint8, shape (rows, cols). Class ids; 0 is the background."""
    known: NDArray[np.bool_]
    """bool, shape (rows, cols). False pixels are not counted."""
    place: str = ""
    """Where it lies; accuracy is counted by place."""


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """How a predictor did, and how it differs from the reference."""

    name: str
    """Runtime and precision."""
    iou: float
    """Intersection over union, 0 … 1: mean over the classes of a place, then over the places; of those that
    the truth has. NaN where it has none."""
    loss_iou_points: float = 0.0
    """100 times the IoU that the reference has more."""
    worst_iou_points: float = 0.0
    """The same of the place that is furthest from the reference; below 0 it is gained there."""
    changed: float = 0.0
    """Share of the known pixels that have another class than the reference gives them."""


@dataclass(slots=True)
class _Counts:
    """What adds up over the tiles, for one predictor."""

    name: str
    classes: dict[tuple[str, int], Confusion] = field(default_factory=dict)
    pixels: int = 0
    changed: int = 0

    def add(
        self,
        tile: LabelledTile,
        rule: ClassRule,
        values: NDArray[np.uint16],
        reference: NDArray[np.uint16],
    ) -> None:
        labels, usual = classify(values, rule), classify(reference, rule)
        for label in sorted(set(rule.channels) - {0}):
            counts = confusion(labels == label, tile.truth == label, tile.known)
            key = (tile.place, label)
            self.classes[key] = self.classes.get(key, Confusion()) + counts
        self.pixels += int(np.count_nonzero(tile.known))
        self.changed += int(np.count_nonzero((labels != usual) & tile.known))

    def by_place(self) -> dict[str, float]:
        """Return the IoU of each place whose truth has an object."""
        found: dict[str, list[float]] = {}
        for (place, _), counts in self.classes.items():
            if not math.isnan(counts.recall):
                found.setdefault(place, []).append(counts.iou)
        return {place: math.fsum(values) / len(values) for place, values in found.items()}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model's INT8 file is shipped."""

    ship: bool
    reason: str
    """One line for people."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """What `geoseg.models.bundle.save_bundle` is to get beside the other files; empty if not shipped."""
    properties: Mapping[str, object] = field(default_factory=dict)
    """What `geoseg.models.card_json.make_document` is to get in ``extra``; empty if not shipped."""
    reports: Mapping[str, PrecisionReport] = field(default_factory=dict)
    """Of ``f32``, ``bf16`` (where the CPU has it) and ``int8``; empty if nothing was measured."""


def ship_int8(
    onnx: Path,
    head: Head,
    calibration: Iterable[NDArray[np.float32]],
    labelled: Iterable[LabelledTile],
    folder: Path,
    *,
    where: str,
) -> Verdict:
    """Quantize a network, measure what that loses, and say whether to ship it.

    It is shipped if it is at most `LOSS_LIMIT` IoU points from float32 on the labelled tiles, above or
    below: one that does far better than the network that it stands for is another network.

    Parameters
    ----------
    onnx : Path
        The network: logits out.
    head : Head
        Activation, channels and threshold, as on the card.
    calibration : iterable of ndarray of float32, shape (bands, rows, cols)
        See `geoseg.backends.quantize.quantize`; ground that the labelled tiles do not show.
    labelled : iterable of LabelledTile
        Ground that the network was never trained on.
    folder : Path
        Where the two files are written.
    where : str
        What the labelled tiles are, for the card.

    Raises
    ------
    InvalidModel, InvalidOption, MissingExtra, UnwritableOutput
        See `geoseg.backends.quantize.quantize`.
    """
    if head.activation == "probability":
        return Verdict(False, "INT8 is not made: the network ends in probabilities, it must end in logits")
    target = folder / INT8[0]
    quantize(onnx, calibration, target)
    return _judge(
        _predictors(onnx, target, head), head, labelled, where, {name: folder / name for name in INT8}
    )


def ship_int8_parts(
    parts: Mapping[str, Path],
    how: Instances,
    head: Head,
    calibration: Iterable[NDArray[np.float32]],
    labelled: Iterable[LabelledTile],
    *,
    where: str,
) -> Verdict:
    """Quantize the three networks of a model that finds objects; see `ship_int8`.

    Parameters
    ----------
    parts : mapping of str to Path
        The networks by their names in a model folder; what is written lies beside them.
    head, calibration, labelled, where
        As for `ship_int8`; IoU is that of the pixels of objects found.
    """
    # As in a run, and as many as are looked at: making masks takes most of the time.
    counted = how.model_copy(update={"least_score": max(how.least_score, head.threshold - 1e-6)})
    likeliest = how.model_copy(update={"objects": _REGIONS})
    plain = NetworkDetector(parts, counted, "openvino")
    seen = {ONNX: list(islice(calibration, TILES)), BOXES: [], MASKS: []}
    body, boxes, masks = plain.networks

    def noting(network: regions.Head, into: list[NDArray[np.float32]]) -> regions.Head:
        def run(cut: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
            # A view would keep all regions of the tile.
            into.extend(part.copy() for part in cut[:: max(1, len(cut) // _REGIONS)])
            return network(cut)

        return run

    for tile in seen[ONNX]:
        asked: dict[str, list[NDArray[np.float32]]] = {BOXES: [], MASKS: []}
        regions.detect(
            tile[None], (body, noting(boxes, asked[BOXES]), noting(masks, asked[MASKS])), likeliest
        )
        for name, parts_of_tile in asked.items():
            seen[name] += parts_of_tile[:: max(1, len(parts_of_tile) // _REGIONS)]
    if not all(seen.values()):
        return Verdict(False, "INT8 is not made: the network finds nothing in training samples")
    files = {file: parts[ONNX].with_name(file) for pair in INT8_PARTS.values() for file in pair}
    for name, path in parts.items():
        chosen = seen[name][:: math.ceil(len(seen[name]) / TILES)]
        quantize(path, chosen, files[INT8_PARTS[name][0]], pictures=name == ONNX)
    detectors = plain, NetworkDetector({**parts, **files}, counted, "openvino", precision="int8")
    predictors = dict(
        zip(("f32", "int8"), (Painter(one, head.channels, one.name) for one in detectors), strict=True)
    )
    return _judge(predictors, head, labelled, where, files)


def _judge(
    predictors: Mapping[str, Predictor],
    head: Head,
    labelled: Iterable[LabelledTile],
    where: str,
    files: Mapping[str, Path],
) -> Verdict:
    """Compare INT8 with float32 and say whether its files are shipped."""
    reports = compare_precisions(predictors, ClassRule(head.channels, head.threshold), labelled)
    found = reports["int8"]
    figures = f"INT8 loses {found.loss_iou_points:.2f} IoU points on {where}"
    if not abs(found.loss_iou_points) <= LOSS_LIMIT:
        return Verdict(False, f"{figures}: more than {LOSS_LIMIT:g} from f32, not shipped", reports=reports)
    how = (
        f"{found.name} against {reports['f32'].name}, IoU at threshold {head.threshold:g} by place; "
        f"{found.changed:.2%} of the pixels change; furthest: {found.worst_iou_points:.2f}"
    )
    value = {"value": round(found.loss_iou_points, 3), "where": where[:200], "how": how[:200]}
    return Verdict(True, figures, files, {"geoseg:int8_loss_iou_points": value}, reports)


def compare_precisions(
    predictors: Mapping[str, Predictor], rule: ClassRule, tiles: Iterable[LabelledTile]
) -> dict[str, PrecisionReport]:
    """Run predictors over labelled tiles, one tile at a time, and compare them with the first.

    Parameters
    ----------
    predictors : mapping of str to Predictor
        By a name of the caller's, such as ``int8``; the first is the reference.
    rule : ClassRule
        How probabilities become classes, see `geoseg.models.card.ModelCard.rule`.
    tiles : iterable of LabelledTile
        Of one size, if it is to be fast: runtimes compile a network for each size.

    Returns
    -------
    mapping of str to PrecisionReport
        In the order of `predictors`.

    Raises
    ------
    ValueError
        If there is no predictor or no tile.
    """
    counts = {key: _Counts(predictor.name) for key, predictor in predictors.items()}
    seen = False
    for tile in tiles:
        seen = True
        outputs = {key: predictor(tile.pixels[None])[0] for key, predictor in predictors.items()}
        reference = next(iter(outputs.values()))
        for key, values in outputs.items():
            counts[key].add(tile, rule, values, reference)
    if not seen or not counts:
        raise ValueError("nothing to compare: no tile, or no predictor")
    usual = next(iter(counts.values())).by_place()
    return {key: _report(found, usual) for key, found in counts.items()}


def _report(counts: _Counts, usual: Mapping[str, float]) -> PrecisionReport:
    places = counts.by_place()
    losses = [100 * (usual[place] - places[place]) for place in usual]
    return PrecisionReport(
        counts.name,
        iou=_mean(list(places.values())),
        loss_iou_points=_mean(losses),
        worst_iou_points=max(losses, key=abs, default=math.nan),
        changed=counts.changed / counts.pixels if counts.pixels else math.nan,
    )


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _predictors(onnx: Path, int8: Path, head: Head) -> dict[str, Predictor]:
    from geoseg.backends.openvino import OpenVinoPredictor

    names: list[Precision] = ["f32", "bf16"] if "bf16" in cpu_features() else ["f32"]
    found: dict[str, Predictor] = {
        name: OpenVinoPredictor(onnx, head.activation, precision=name) for name in names
    }
    found["int8"] = OpenVinoPredictor(int8, head.activation, precision="int8")
    return found
