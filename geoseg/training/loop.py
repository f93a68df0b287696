"""The training loop: plain torch, resumable, with moving-average weights and a log.

What a run leaves in its folder: ``checkpoint.pt`` (to resume from), ``training.csv`` and
``validation.csv``, and a model folder ``best/`` with the averaged weights that did best on the
validation places.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from geoseg.backends import architectures
from geoseg.files import replacing
from geoseg.training.augment import augment
from geoseg.training.losses import segmentation_loss
from geoseg.training.pretrained import load_efficientnet_lite0
from geoseg.training.recipe import Optimization, Recipe
from geoseg.training.samples import Chip, Sampler, Split, normalize
from geoseg.training.validate import Score, answers, score, total

log = logging.getLogger(__name__)


class Average:
    """Exponential moving average of a network's parameters and buffers.

    The decay grows with the number of updates, so that the random start is soon forgotten.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self._decay = decay
        self.tensors = {key: value.detach().clone() for key, value in module.state_dict().items()}

    def update(self, module: torch.nn.Module, step: int) -> None:
        """Move towards the weights of `module` after optimizer step number `step` (from 1)."""
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        for key, value in module.state_dict().items():
            average = self.tensors[key]
            if average.is_floating_point():
                average.lerp_(value.detach(), share)
            else:
                average.copy_(value)


@dataclass(slots=True)
class Progress:
    """Where a run is: steps done, seconds spent in training, best score so far."""

    step: int = 0
    seconds: float = 0.0
    best: float = -1.0


def train(recipe: Recipe, split: Split, worlds: Sequence[Chip]) -> Progress:
    """Train until the schedule ends; go on from the checkpoint in the output folder if there is one.

    Raises
    ------
    InvalidOption, InvalidModel
        If recipe, chips and network do not fit each other.
    UnwritableOutput
        If the output folder cannot be written.
    """
    run = _Run(recipe, split, worlds)
    run.resume()
    run.go()
    return run.progress


def schedule(options: Optimization, step: int, seconds: float) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then a half cosine.

    The cosine ends with the last step or with the last minute, whichever comes first: at 0.
    """
    done = min(1.0, max(step / options.steps, seconds / (60 * options.minutes)))
    return min(1.0, (step + 1) / options.warmup_steps) * 0.5 * (1 + math.cos(math.pi * done))


def batch_at(sampler: Sampler, seed: int, step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make the batch of a step: network input (size, 3, crop, crop) and mask (size, crop, crop)."""
    samples = []
    for position in range(size):
        rng = np.random.default_rng((seed, step, position))
        samples.append(augment(*sampler.draw(rng), rng))
    pixels, masks = zip(*samples, strict=True)
    return normalize(torch.stack(pixels)).contiguous(memory_format=torch.channels_last), torch.stack(masks)


def validate(
    module: torch.nn.Module, places: Mapping[str, Sequence[Chip]], resolution_m: float
) -> dict[str, Score]:
    """Count right and wrong pixels at threshold 0.5, by place."""
    return {
        name: total(
            score(answer, 0.5, resolution_m, objects=False) for answer in answers(module, chips, resolution_m)
        )
        for name, chips in places.items()
    }


def merit(scores: Mapping[str, Score]) -> float:
    """Return what checkpoints are chosen by: mean IoU of built places less mean false share of empty ones."""
    built = [found.pixels.iou for found in scores.values() if not math.isnan(found.pixels.recall)]
    empty = [found.false_share for found in scores.values() if math.isnan(found.pixels.recall)]
    return float(np.mean(built or [0.0])) - float(np.mean(empty or [0.0]))


class _Run:
    def __init__(self, recipe: Recipe, split: Split, worlds: Sequence[Chip]) -> None:
        options = recipe.optimization
        torch.set_num_threads(options.threads)
        torch.manual_seed(recipe.seed)
        self.recipe, self.options, self.places = recipe, options, split.validation
        self.sampler = Sampler(split.training, worlds, recipe.draws)
        self.module = architectures.build(recipe.model)
        if recipe.pretrained:
            load_efficientnet_lite0(self.module.get_submodule("encoder"))
        self.module = self.module.to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(_groups(self.module, options.weight_decay), options.learning_rate)
        self.average = Average(self.module, options.ema_decay)
        self.progress = Progress()

    @property
    def done(self) -> bool:
        return self.progress.step >= self.options.steps or self.progress.seconds >= 60 * self.options.minutes

    def go(self) -> None:
        saved = validated = self.progress.seconds
        while not self.done:
            self._step()
            if self.progress.seconds - validated >= 60 * self.options.validation_minutes:
                self._validate()
                validated = self.progress.seconds
            if self.progress.seconds - saved >= 60 * self.options.checkpoint_minutes:
                self._save()
                saved = self.progress.seconds
        self._validate()
        self._save()

    def resume(self) -> None:
        self.recipe.output.mkdir(parents=True, exist_ok=True)
        path = self.recipe.output / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.progress = Progress(**state["progress"])
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.tensors = state["average"]
        log.info("resumed at step %d", self.progress.step)

    def _step(self) -> None:
        started = time.monotonic()
        step, options = self.progress.step, self.options
        rate = options.learning_rate * schedule(options, step, self.progress.seconds)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        pixels, masks = batch_at(self.sampler, self.recipe.seed, step, options.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            logits = self.module(pixels)
        loss = segmentation_loss(logits.float(), masks)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), options.clip)
        if math.isfinite(norm.item()):
            self.optimizer.step()
        self.progress.step += 1
        self.average.update(self.module, self.progress.step)
        self.progress.seconds += time.monotonic() - started
        row = {"step": step, "seconds": self.progress.seconds, "rate": rate, "loss": loss.item()}
        _append(self.recipe.output / "training.csv", row | {"norm": norm.item()})

    def _validate(self) -> None:
        module = architectures.build(self.recipe.model)
        module.load_state_dict(self.average.tensors)
        scores = validate(module, self.places, self.recipe.draws.resolution_m)
        for name, found in scores.items():
            ratios = {"iou": found.pixels.iou, "precision": found.pixels.precision}
            ratios |= {"recall": found.pixels.recall, "false_share": found.false_share}
            row = {"step": self.progress.step, "place": name}
            _append(self.recipe.output / "validation.csv", row | ratios)
        reached = merit(scores)
        log.info("step %d: merit %.4f", self.progress.step, reached)
        if reached > self.progress.best:
            self.progress.best = reached
            best = self.recipe.output / "best"
            best.mkdir(exist_ok=True)
            architectures.save(module, self.recipe.model, best)

    def _save(self) -> None:
        state = {
            "progress": asdict(self.progress),
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.tensors,
        }
        with replacing(self.recipe.output / "checkpoint.pt") as path:
            torch.save(state, path)


def _groups(module: torch.nn.Module, decay: float) -> list[dict[str, object]]:
    """Leave biases and norms without weight decay."""
    matrices = [value for value in module.parameters() if value.ndim > 1]
    vectors = [value for value in module.parameters() if value.ndim <= 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


def _append(path: Path, row: Mapping[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        )
