"""The training step as Lightning runs it: batches of drawn samples in, one loss out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from geoseg.backends.hardware import usable_cores
from geoseg.errors import InvalidOption
from geoseg.labels.classes import IGNORE
from geoseg.labels.footprints import OBJECT
from geoseg.training.augment import augment
from geoseg.training.losses import Loss
from geoseg.training.recipe import Optimization

if TYPE_CHECKING:
    from geoseg.training.data.ground import Sample

Draw: TypeAlias = "Callable[[np.random.Generator], Sample]"
"""Draws one sample; all chance comes from the generator."""

PATIENCE = 10
"""Steps in a row without a finite gradient after which training gives up."""


class Numbered:
    """Draws samples whose labels are channels of the network in place of class ids.

    Parameters
    ----------
    draw : callable
        See `Draw`; labels are class ids.
    ids : sequence of int
        Class ids in the order of the channels; the first becomes 1.
    """

    def __init__(self, draw: Draw, ids: Sequence[int]) -> None:
        self._draw = draw
        self._numbers = torch.full((256,), IGNORE, dtype=torch.int32)
        self._numbers[[0, *ids]] = torch.arange(len(ids) + 1, dtype=torch.int32)

    def __call__(self, rng: np.random.Generator) -> Sample:
        """Draw a sample; its labels are int32, and number objects where those drawn do."""
        pixels, labels = self._draw(rng)
        ids = labels & (OBJECT - 1)  # what lies above is the number of the object
        return pixels, labels - ids + self._numbers[ids.long()]

    def __deepcopy__(self, _memo: dict[int, object]) -> Self:
        """Return itself: a copy of the task, made to average its weights, shares the data."""
        return self


class Samples(Dataset["Sample"]):
    """The samples of one epoch: each a function of (seed, epoch, number), whoever draws it.

    So a resumed run sees what an uninterrupted one would have seen, on any number of processes.
    """

    def __init__(self, draw: Draw, seed: int, epoch: int, size: int) -> None:
        self._draw, self._seed, self._epoch, self._size = draw, seed, epoch, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, number: int) -> Sample:
        if not 0 <= number < self._size:
            raise IndexError(number)
        rng = np.random.default_rng((self._seed, self._epoch, number))
        return augment(*self._draw(rng), rng)


class SegmentationTask(lightning.LightningModule):  # type: ignore[misc]  # lightning is not followed
    """A network with its loss, optimizer and samples.

    Parameters
    ----------
    network : Module
        (batch, bands, rows, cols) float32 to logits (batch, channels, rows, cols).
    draw : callable
        See `Draw`; labels are channels of the network, 0 is the background.
    loss : callable
        See `geoseg.training.losses.make_loss`.
    options : Optimization
        Optimizer, batch and epoch.
    seed : int
        Fixes the samples, and dropout.
    """

    def __init__(
        self, network: torch.nn.Module, draw: Draw, loss: Loss, options: Optimization, seed: int
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.options = options
        self._draw, self._loss, self._seed = draw, loss, seed
        self._failures = 0
        self._before: list[torch.Tensor] = []

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return the samples of the current epoch, on as many processes as the recipe asks for."""
        options = self.options
        processes = self.trainer.world_size
        samples = Samples(
            self._draw, self._seed, self.current_epoch, options.epoch * options.batch * processes
        )
        workers = options.workers
        if workers is None:
            workers = automatic_workers(self.device.type, processes)
        return DataLoader(
            samples, options.batch, num_workers=workers, pin_memory=self.device.type == "cuda", drop_last=True
        )

    def on_train_epoch_start(self) -> None:
        """Train, whatever a validation has left."""
        self.network.train()

    def on_train_batch_start(self, *_: object) -> None:
        """Start the step's own chance (dropout, regions), which the loaders of a resumed run do not move."""
        torch.manual_seed(self._seed * 1_000_003 + self.global_step)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _number: int) -> torch.Tensor:
        """Return the loss of a batch; where it is no finite number, the step is left out later.

        Raises
        ------
        InvalidOption
            If the batch is too small for the network's norms.
        """
        pixels, labels = batch
        self._before = [buffer.clone() for buffer in self.network.buffers()]
        try:
            output = self.network(normalize(pixels))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InvalidOption(
                f"a batch of {len(pixels)} is too small: this network pools whole samples and takes their "
                "mean and variance over the batch; give --batch 2 or more"
            ) from error
        return self._loss(output.float(), labels)

    def validation_step(self, *_: object) -> None:
        """Do nothing: `geoseg.training.callbacks.Validation` walks the places itself."""

    def configure_gradient_clipping(self, optimizer: Any, *_: object, **__: object) -> None:
        """Clip the gradient's norm; leave out a step whose gradient is no finite number.

        Every process sees the same gradient, so all of them give up at the same step.

        Raises
        ------
        InvalidOption
            After `PATIENCE` such steps in a row: the run has diverged.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.options.clip)
        if math.isfinite(norm.item()):
            self._failures = 0
            return
        optimizer.zero_grad()
        # What a norm has counted into its mean and variance would stay there for ever.
        for buffer, kept in zip(self.network.buffers(), self._before, strict=True):
            buffer.copy_(kept)
        self._failures += 1
        if self._failures >= PATIENCE:
            raise InvalidOption(
                f"training diverged: no finite gradient in {PATIENCE} steps up to step {self.global_step}; "
                "lower the learning rate, or set precision to float32, and give --no-resume"
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer; biases and norms have no weight decay."""
        return make_optimizer(self.network, self.options)


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Scale uint8 pixels to what the network sees: (x / 255 - 0.5) / 0.5, float32, channels last."""
    return (pixels.float() / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)


def make_optimizer(network: torch.nn.Module, options: Optimization) -> torch.optim.Optimizer:
    """Return an optimizer by name over `network`'s parameters; the schedule heeds each group's ``share``."""
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": decay, "share": share}
        for share in (1.0, options.encoder_rate)
        for decay in (options.weight_decay, 0.0)
    ]
    for name, value in network.named_parameters():
        if value.requires_grad:
            groups[2 * ("encoder." in name) + (value.ndim <= 1)]["params"].append(value)
    groups = [group for group in groups if group["params"]]
    rate = options.learning_rate
    match options.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, rate)
        case "adam":
            return torch.optim.Adam(groups, rate)
        case "radam":
            return torch.optim.RAdam(groups, rate, decoupled_weight_decay=True)
        case "nadam":
            return torch.optim.NAdam(groups, rate, decoupled_weight_decay=True)
        case "sgd":
            return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True)


def automatic_workers(device: str, processes: int) -> int:
    """Return how many processes draw for each of `processes`: a CPU has its hands full, a GPU would wait."""
    return min(16, max(1, usable_cores() // processes)) if device == "cuda" else 0
