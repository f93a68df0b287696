"""What a model's card takes from an evaluation: figures, and the threshold that did best."""

from __future__ import annotations

import math
from collections.abc import Mapping

from geoseg.errors import InvalidOption
from geoseg.evaluation.result import Evaluation
from geoseg.evaluation.scores import Figure
from geoseg.models.document import CardProperties


def card_properties(evaluation: Evaluation, properties: CardProperties) -> Mapping[str, object]:
    """Return the fields of a card that an evaluation fills, see `geoseg.models.card_json.amended`.

    Figures measured earlier stay; those of the same metric at the same place are replaced. The
    threshold is taken where there is one class: among several the likeliest wins.

    Parameters
    ----------
    evaluation : Evaluation
        Of the model, on ground that it was not trained on; the threshold is fitted to this ground.
    properties : CardProperties
        The card as it is.

    Raises
    ------
    InvalidOption
        If the evaluation has no figure to write.
    """
    rows = [row for row in _rows(evaluation) if math.isfinite(float(str(row["value"])))]
    if not rows:
        raise InvalidOption(
            "--write: nothing was measured: no known pixel of truth and prediction has a class"
        )
    measured = {(row["metric"], row["where"]) for row in rows}
    kept = [
        figure.model_dump() for figure in properties.accuracy if (figure.metric, figure.where) not in measured
    ]
    found: dict[str, object] = {"geoseg:accuracy": [*kept, *rows]}
    best = [score.best.threshold for score in evaluation.confidence]
    if len(best) == 1 and 0 < best[0] < 1:
        found["geoseg:threshold"] = best[0]
    return found


def _rows(evaluation: Evaluation) -> list[dict[str, object]]:
    # Names without folders: a card travels, and where files lay on this machine is nobody's business.
    names = (evaluation.truth, evaluation.scene or evaluation.prediction)
    where = " against ".join(name.replace("\\", "/").rstrip("/").rpartition("/")[2] for name in names)[:200]
    scores = [("pixel IoU", score.info.name, score.iou) for score in evaluation.pixels.classes]
    scores += [("object F1 at IoU 0.5", score.info.name, score.f1) for score in evaluation.objects]
    several = len(evaluation.classes) > 1
    return [
        {
            "metric": f"{metric}, {name}" if several else metric,
            "value": round(figure.value, 4),
            "where": where,
            "how": _how(figure, evaluation),
        }
        for metric, name, figure in scores
    ]


def _how(figure: Figure, evaluation: Evaluation) -> str:
    interval = "" if math.isnan(figure.low) else f"95 % interval {figure.low:.3f} to {figure.high:.3f}; "
    return f"geoseg evaluate {evaluation.version}; {interval}before the threshold was fitted"
