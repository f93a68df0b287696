"""What geoseg tells, as progress and plain sentences; knows nothing of QGIS.

Events are lines of JSON (docs/progress.md); what is no JSON is told as it is.
"""

from __future__ import annotations

import json
import re

UNITS = {"blocks": "blocks", "looks": "scenes looked at", "scenes": "scenes"}


class Listener:
    """Takes geoseg's lines one by one, and tells them to a QgsProcessingFeedback.

    Attributes
    ----------
    summary : dict
        Of what was done; empty until it is told.
    error : str
        The last line that named an error; options are called by their labels.
    """

    def __init__(self, algorithm, feedback):
        self.summary = {}
        self.error = ""
        self._name = algorithm["name"]
        self._algorithm, self._feedback, self._told = algorithm, feedback, -1

    def __call__(self, line):
        """Take a line of stderr."""
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, TypeError, KeyError):
            self._plain(line)
            return
        if kind == "began":
            known = f", {event['known']} of them done before" if event.get("known") else ""
            self._feedback.pushInfo(f"{count(event['total'], event['unit'][:-1])} to do{known}.")
            for text in event.get("warnings", ()):
                self._feedback.pushWarning(self._by_labels(text))
        elif kind == "progress":
            self._progress(event)
        elif kind == "note":
            self._feedback.pushInfo(event["text"])
        elif kind == "done":
            told = {key: value for key, value in event.items() if key not in {"event", "elapsed"}}
            self.summary.update(told)  # of several parts, such as the run that is evaluated

    def end(self, printed):
        """Tell what was done, or, where there is no summary, what was printed for people."""
        lines = sentences(self._name, self.summary) if self.summary else printed.splitlines()
        for line in lines:
            self._feedback.pushInfo(self._by_labels(line))

    def _progress(self, event):
        share = event["done"] / max(event["total"], 1)
        self._feedback.setProgress(100 * share)
        left = event.get("left")
        left = "" if not left else f", about {duration(left)} left"
        unit = UNITS.get(event["unit"])
        done = f"{event['done']} of {event['total']} {unit}" if unit else f"{share:.0%}"
        failed = f", {event['failed']} failed" if event.get("failed") else ""
        if int(20 * share) == self._told:  # QGIS keeps each text in its log
            return
        self._told = int(20 * share)
        self._feedback.setProgressText(f"{done}{failed}{left}")

    def _plain(self, line):
        text = line.strip()
        if text.startswith("geoseg: error: "):
            self.error = self._by_labels(text[len("geoseg: error: ") :])
        elif text.startswith("geoseg: this is a defect"):
            self.error = text[len("geoseg: ") :]
        elif text.startswith(("geoseg: warning: ", "geoseg: note: ")):
            self._feedback.pushWarning(text.partition(": ")[2].partition(": ")[2])
        elif text and not self._feedback.isCanceled():
            self._feedback.pushInfo(text[len("geoseg: ") :] if text.startswith("geoseg: ") else text)

    def _by_labels(self, text):
        return by_labels(self._algorithm, text)


def by_labels(algorithm, text):
    """Call options as the dialog does, not as they are typed.

    >>> by_labels({"parameters": [{"flag": "--min-area", "label": "Smallest area [m²]"}]}, "--min-area: 3 m²")
    '“Smallest area”: 3 m²'
    """
    labels = {one["flag"]: one["label"].partition(" [")[0] for one in algorithm["parameters"]}
    return re.sub(r"--[a-z][a-z-]*", lambda found: f"“{labels.get(found[0], found[0])}”", text)


def sentences(command, summary):
    """Return what was done, in sentences.

    >>> sentences("regularize", {"features": 1200, "regularized": 1100, "notes": [], "file": "a.gpkg"})
    ['1,200 polygons, 1,100 of them regularized.', 'Wrote a.gpkg.']
    """
    told = [text for text in _TOLD[command](summary) if text]
    files = summary.get("files") or [summary.get(key) for key in ("file", "report", "dataset")]
    return [*told, *(f"Wrote {file}." for file in files if file)]


def _predict(one):
    yield f"{count(one['features'], 'polygon')}{area(one['area_m2'])}."
    yield f"{one['coverage']:.1%} of the scene has a prediction."
    yield f"Model {one['model']}; {one['backend_reason'] or 'as asked'}."
    yield f"It took {duration(one['seconds'])}."
    for tile in one["failed"][:5]:
        yield f"Not done: a tile at row {tile['window'][0]}, column {tile['window'][1]}: {tile['reason']}."
    if len(one["failed"]) > 5:
        yield f"Not done: {len(one['failed']) - 5} more tiles."


def _plan(one):
    tiles, seconds = one["tiles"], one["predicted_seconds"]
    yield f"{count(tiles['to_infer'], 'tile')} to infer, {tiles['skipped']:,} skipped."
    yield f"Model {one['model']} on {one['device']}; {one['backend_reason'] or one['backend']}."
    yield f"At most {one['memory_bytes']['total'] / 1e6:,.0f} MB of memory."
    yield "" if seconds is None else f"About {duration(seconds)}, by a few tiles measured on this machine."
    yield from (f"Warning: {text}" for text in one["warnings"])


def _vectorize(one):
    yield f"{count(one['features'], 'polygon')}{area(one['area_m2'])}."
    yield f"Classes: {', '.join(one['classes'])}."


def _regularize(one):
    yield f"{count(one['features'], 'polygon')}, {one['regularized']:,} of them regularized."
    yield from (f"Note: {text}" for text in one["notes"])


def _diff(one):
    for layer in ("old", "new"):
        counts = ", ".join(f"{number:,} {status}" for status, number in one[layer].items() if number)
        yield f"Of the {layer} layer: {counts or 'nothing'}."


def _evaluate(one):
    yield f"Mean IoU {figure(one['pixels']['mean_iou'])}."
    for number, pixels in enumerate(one["pixels"]["classes"]):
        iou, precision, recall = (figure(pixels[name]) for name in ("iou", "precision", "recall"))
        objects = figure(one["objects"][number]["f1"])
        name = pixels["info"]["name"]
        yield f"{name}: IoU {iou}, precision {precision}, recall {recall}; F1 of objects {objects}."
    yield from (f"Note: {text}" for text in one["notes"])


def _batch(one):
    states = ", ".join(f"{number:,} {state}" for state, number in one["states"].items())
    before = f" ({one['before']:,} of them before)" if one.get("before") else ""
    yield f"Scenes: {states or 'none'}{before}."
    for reason, number in one.get("left_out", {}).items():
        yield f"Left out: {number:,}, {reason}."
    yield f"{count(one['features'], 'polygon')} in all." if "features" in one else ""


_TOLD = {
    "predict": _predict,
    "plan": _plan,
    "vectorize": _vectorize,
    "regularize": _regularize,
    "diff": _diff,
    "evaluate": _evaluate,
    "batch": _batch,
}


def count(number, thing):
    """Return a number of things.

    >>> count(1, "polygon"), count(1200, "polygon")
    ('1 polygon', '1,200 polygons')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


NUMBERS = {
    "predict": {
        "FEATURES": ("Number of polygons", lambda one: one["features"]),
        "AREA": ("Their area in m²", lambda one: one["area_m2"]),
        "COVERAGE": ("Share of the scene with a prediction", lambda one: one["coverage"]),
    },
    "plan": {
        "TILES": ("Tiles to infer", lambda one: one["tiles"]["to_infer"]),
        "SECONDS": ("Time in seconds", lambda one: one["predicted_seconds"]),
        "MEMORY": ("Memory in bytes", lambda one: one["memory_bytes"]["total"]),
    },
    "vectorize": {"FEATURES": ("Number of polygons", lambda one: one["features"])},
    "regularize": {
        "FEATURES": ("Number of polygons", lambda one: one["features"]),
        "REGULARIZED": ("Number of those regularized", lambda one: one["regularized"]),
    },
    "evaluate": {"MEAN_IOU": ("Mean IoU", lambda one: one["pixels"]["mean_iou"]["value"])},
    "batch": {
        "DONE": ("Scenes with a whole result", lambda one: one["states"].get("done", 0)),
        "SCENES": ("Scenes", lambda one: sum(one["states"].values())),
    },
}
"""Outputs of algorithms: what they are called, and how they are found in a summary."""


def numbers(command, summary):
    """Return the outputs of an algorithm; none without a summary.

    >>> numbers("vectorize", {"features": 3})
    {'FEATURES': 3}
    """
    return {name: take(summary) for name, (_, take) in NUMBERS.get(command, {}).items() if summary}


def area(square_metres):
    """Return an area as the end of a sentence; nothing where it is not known."""
    if square_metres is None:
        return ""
    large = square_metres >= 1e6
    return f", {square_metres / 1e6:,.2f} km²" if large else f", {square_metres:,.0f} m²"


def figure(one):
    """Return a figure with its interval, where it has one."""
    if one["value"] is None:
        return "–"
    low, high = one["low"], one["high"]
    return f"{one['value']:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")


def duration(seconds):
    """Return a time as people say it.

    >>> [duration(seconds) for seconds in (4.2, 61, 7200)]
    ['4.2 s', '1 min 1 s', '2 h 0 min']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
