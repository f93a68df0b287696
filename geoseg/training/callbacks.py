"""What a run does between steps: report them, validate the averaged weights on every place held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning
import numpy as np

from geoseg.backends.base import Activation
from geoseg.grid import classify
from geoseg.training.data.ground import Ground
from geoseg.training.network import save_weights
from geoseg.training.schedule import Schedule, done_share
from geoseg.training.task import SegmentationTask
from geoseg.training.validate import Answer, Score, answers, merit, score, total
from geoseg.training.watch import Event, Picture, Stepped, Validated, append_row, draw_sheet, keep_rows
from geoseg.values import ClassRule

_MOST_PICTURES = 8


class Watch(lightning.Callback):  # type: ignore[misc]  # lightning is not followed
    """Reports every step as an event and as a row of ``training.csv``, and to TensorBoard."""

    def __init__(self, folder: Path, schedule: Schedule, on_event: Callable[[Event], None]) -> None:
        self._table, self._schedule, self._on_event = folder / "training.csv", schedule, on_event
        self._recent: list[float] = []

    def on_train_start(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        """Remove the rows of steps that will be done again."""
        if trainer.is_global_zero:
            keep_rows(self._table, trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: object,
        *_: object,
    ) -> None:
        """Tell of a step."""
        assert isinstance(module, SegmentationTask)
        loss = float(outputs["loss"]) if isinstance(outputs, Mapping) else float("nan")
        step, seconds = trainer.global_step, self._schedule.seconds
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        if trainer.is_global_zero:
            append_row(self._table, {"step": step, "seconds": seconds, "rate": rate, "loss": loss})
        module.log_dict({"loss": loss, "rate": rate})
        self._recent = [*self._recent[-19:], loss]
        finite = [value for value in self._recent if math.isfinite(value)]
        share = done_share(module.options, step, seconds)
        self._on_event(Stepped(step, share, seconds, fmean(finite) if finite else math.nan))


class Validation(lightning.Callback):  # type: ignore[misc]  # lightning is not followed
    """Scores the places each few epochs, keeps the weights that did best, draws pictures.

    Must stand before the callback that averages weights: Lightning runs the hooks in order, and
    this one wants the averages in place.

    Parameters
    ----------
    folder : Path
        Of the run: ``best/``, ``validation.csv`` and ``pictures/`` are written there.
    config : mapping
        The network's ``config.json``.
    places : mapping of str to sequence of Ground
        Held out.
    rule : ClassRule
        Channels, at the threshold that validation uses.
    activation : str
        Of the network's output.
    resolution_m : float
        Ground size of a pixel.
    on_event : callable
        Told of every validation.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, object],
        places: Mapping[str, Sequence[Ground]],
        rule: ClassRule,
        activation: Activation,
        resolution_m: float,
        on_event: Callable[[Event], None],
    ) -> None:
        self._folder, self._config, self._places = folder, config, places
        self._rule, self._activation, self._resolution = rule, activation, resolution_m
        self._on_event = on_event
        self._number = 0
        self.best = -math.inf

    def on_train_start(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        """Remove the rows of validations that will be done again."""
        if trainer.is_global_zero:
            keep_rows(self._folder / "validation.csv", trainer.global_step)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Score, tell, keep the best, draw."""
        assert isinstance(module, SegmentationTask)
        step = trainer.global_step
        scores = {name: self._score(module, grounds) for name, grounds in self._places.items()}
        reached = merit(scores.values())
        iou = {name: found.iou for name, found in scores.items() if found.built}
        module.log_dict({"merit": reached, **{f"iou/{name}": value for name, value in iou.items()}})
        if trainer.is_global_zero:
            self._write(step, scores)
            if reached > self.best:
                save_weights(module.network, self._config, self._folder / "best")
            self._draw(step, module)
        self.best = max(self.best, reached)
        self._on_event(Validated(step, iou, reached, self.best))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"best": self.best, "number": self._number}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.best, self._number = float(state_dict["best"]), int(state_dict["number"])

    def _score(self, module: SegmentationTask, grounds: Iterable[Ground]) -> Score:
        found = answers(module.network, grounds, self._resolution, self._activation)
        return total(
            (score(answer, self._rule, self._resolution, objects=False) for answer in found), self._rule
        )

    def _write(self, step: int, scores: Mapping[str, Score]) -> None:
        for name, found in scores.items():
            ratios = {"iou": found.iou, "false_share": found.false_share}
            append_row(self._folder / "validation.csv", {"step": step, "place": name, **ratios})

    def _draw(self, step: int, module: SegmentationTask) -> None:
        every, self._number = module.options.pictures_every, self._number + 1
        if every and (self._number - 1) % every == 0:
            folder = self._folder / "pictures"
            folder.mkdir(exist_ok=True)
            places = islice(self._places.values(), _MOST_PICTURES)
            pictures = [self._picture(module, grounds) for grounds in places]
            draw_sheet(pictures, folder / f"step_{step:06d}.png")

    def _picture(self, module: SegmentationTask, grounds: Iterable[Ground]) -> Picture:
        """Return the first tile of a place's ground that is rich in objects."""
        tiles: list[Answer] = list(
            islice(answers(module.network, grounds, self._resolution, self._activation), 6)
        )
        chosen = max(tiles, key=lambda tile: float(np.mean((tile.labels > 0) & (tile.labels < 255))))
        return Picture(chosen.pixels, chosen.labels, classify(chosen.values, self._rule))
