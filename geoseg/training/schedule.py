"""How the learning rate goes up and down, by steps done and by time spent."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning

from geoseg.training.recipe import Optimization


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
        """Go on from a checkpoint."""
        self.seconds = float(state_dict["seconds"])
