"""What a run does between steps: set the rate, average the weights, report, validate on ground held out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import WeightAveraging

from geoseg.backends.base import Activation
from geoseg.grid import classify
from geoseg.training.data.ground import Ground
from geoseg.training.events import Event, Stepped, Validated
from geoseg.training.logs import Picture, append_row, draw_sheet, keep_rows
from geoseg.training.network import save_weights
from geoseg.training.recipe import Optimization
from geoseg.training.task import SegmentationTask
from geoseg.training.validate import Answer, Score, answers, merit, score, total
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


_Tensors: TypeAlias = "tuple[torch.Tensor, ...] | list[torch.Tensor]"


def rate_share(options: Optimization, step: int, seconds: float) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then half cosines.

    The cosines (Loshchilov & Hutter 2017) are `Optimization.cycles` and of one length; each ends at
    `Optimization.final_rate`, the last of them with the last step or with the last minute, whichever
    comes first.
    """
    warm = min(1.0, (step + 1) / options.warmup_steps)
    passed = min(cycles_done(options, step, seconds), options.cycles - 1)
    within = options.cycles * done_share(options, step, seconds) - passed
    cosine = 0.5 * (1 + math.cos(math.pi * within))
    return warm * (options.final_rate + (1 - options.final_rate) * cosine)


def cycles_done(options: Optimization, step: int, seconds: float) -> int:
    """Return how many cycles of the rate are over."""
    return math.floor(options.cycles * done_share(options, step, seconds) + 1e-9)


def done_share(options: Optimization, step: int, seconds: float) -> float:
    """Return how much of the schedule is over, in 0 to 1."""
    timed = seconds / (60 * options.minutes) if options.minutes else 0.0
    return min(1.0, max(step / options.steps, timed))


class Schedule(lightning.Callback):  # type: ignore[misc]  # lightning is not followed
    """Sets the learning rate of each step, and ends the run with the schedule.

    Attributes
    ----------
    seconds : float
        Time spent in training steps and in drawing their samples, over all runs that were resumed.
    """

    def __init__(self, options: Optimization) -> None:
        self._options = options
        self._started: float | None = None
        self.seconds = 0.0

    def on_train_start(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        """Do no step more where a run is resumed whose time is over."""
        trainer.should_stop = done_share(self._options, trainer.global_step, self.seconds) >= 1

    def on_train_epoch_start(self, *_: object) -> None:
        """Start the clock: validation and checkpoints lie between epochs and do not count."""
        self._started = time.monotonic()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, _module: lightning.LightningModule, *_: object
    ) -> None:
        """Set the rate of the step that begins."""
        share = rate_share(self._options, trainer.global_step, self.seconds)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self._options.learning_rate * share * group["share"]

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Count the time; stop when it is over."""
        now = time.monotonic()
        self.seconds += now - (self._started or now)
        self._started = now
        if done_share(self._options, trainer.global_step, self.seconds) >= 1:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.seconds = float(state_dict["seconds"])


class Averaging(WeightAveraging):  # type: ignore[misc]  # lightning is not followed
    """Averages the weights where they are: left to itself, Lightning does it on the CPU, a copy a step."""

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=True, multi_avg_fn=moving_average(decay))

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Keep the average on the device that trains, to which the module has not yet been moved."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    @property
    def network(self) -> torch.nn.Module:
        """The network with the averaged weights."""
        network: torch.nn.Module = self._average_model.module.network
        return network


class CycleEnds(lightning.Callback):  # type: ignore[misc]  # lightning is not followed
    """Keeps the averaged weights at the end of each cycle of the learning rate, where there are several.

    Must stand behind the callback that averages.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, object], schedule: Schedule, averaging: Averaging
    ) -> None:
        self._folder, self._config, self._schedule, self._averaging = folder, config, schedule, averaging
        self._done = 0

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Count the cycles that a resumed run has done."""
        self._done = self._count(trainer, module)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: object
    ) -> None:
        """Write the weights where a cycle has ended."""
        before, self._done = self._done, self._count(trainer, module)
        if self._done > before and module.options.cycles > 1 and trainer.is_global_zero:
            save_weights(self._averaging.network, self._config, self._folder / f"cycle_{self._done}")

    def _count(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> int:
        return cycles_done(module.options, trainer.global_step, self._schedule.seconds)


def moving_average(decay: float) -> Callable[[_Tensors, _Tensors, torch.Tensor | int], None]:
    """Return an exponential moving average that soon forgets its start: its decay grows with the updates.

    It changes its first argument, tensors of one dtype; integers are taken as they are.
    """

    def average(means: _Tensors, values: _Tensors, updates: torch.Tensor | int) -> None:
        share = 1 - min(decay, (1 + float(updates)) / (10 + float(updates)))
        if means[0].is_floating_point():
            torch._foreach_lerp_(means, values, share)
        else:
            torch._foreach_copy_(means, values)

    return average
