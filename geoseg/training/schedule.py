"""The learning rate by steps done and time spent, and the averages of the weights along it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import lightning
import torch
from lightning.pytorch.callbacks import WeightAveraging

from geoseg.training.network import save_weights
from geoseg.training.recipe import Optimization

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
