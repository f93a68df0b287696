"""Averaged weights: a moving average while a run goes on, and what it was at the end of each cycle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import lightning
import torch
from lightning.pytorch.callbacks import WeightAveraging

from geoseg.training.schedule import Schedule, cycles_done
from geoseg.training.validation import save_weights

_Tensors: TypeAlias = "tuple[torch.Tensor, ...] | list[torch.Tensor]"


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
        """Begin where a resumed run was."""
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
