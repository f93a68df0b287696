"""The training loop, run by Lightning: resumable, averaged weights, mixed precision, any devices.

What a run leaves in its folder: ``last.ckpt`` (to go on from), ``best/`` (the averaged weights that
did best on the held-out places), ``training.csv``, ``validation.csv``, ``tensorboard/``,
``pictures/`` and ``run.json`` (which recipe this is).
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger

from geoseg.backends.base import Activation
from geoseg.errors import BackendUnavailable, UnwritableOutput
from geoseg.files import replacing
from geoseg.training.data.read import Split
from geoseg.training.data.sampler import Sampler
from geoseg.training.losses import make_loss
from geoseg.training.network import Start
from geoseg.training.recipe import Optimization, Recipe
from geoseg.training.schedule import Schedule
from geoseg.training.task import SegmentationTask
from geoseg.training.validation import Validation
from geoseg.training.watch import Began, Event, Watch, ignore
from geoseg.values import ClassRule

CHECKPOINT = "last.ckpt"
IDENTITY = "run.json"

_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def train(
    recipe: Recipe,
    split: Split,
    sampler: Sampler,
    start: Start,
    *,
    resume: bool = True,
    on_event: Callable[[Event], None] = ignore,
) -> Path:
    """Train until the schedule ends; return the folder with the weights that did best.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    split : Split
        Ground held out, by place.
    sampler : Sampler
        Draws the training samples.
    start : Start
        The network with its first weights; trained in place.
    resume : bool
        Go on from the run's last checkpoint, if there is one.
    on_event : callable
        Told what happens.

    Raises
    ------
    InvalidOption
        If training diverges.
    UnwritableOutput
        If the run's folder cannot be written, or holds a run of another recipe.
    BackendUnavailable
        If the device that the recipe names is not there.
    KeyboardInterrupt
        If the user stops it; the run can go on from its last checkpoint.
    """
    folder = recipe.run_folder
    _claim(folder, recipe, resume)
    options = recipe.optimization
    rule, activation = rule_of(recipe)
    schedule = Schedule(options)
    validation = Validation(
        folder, start.config, split.validation, rule, activation, recipe.draws.resolution_m, on_event
    )
    loss = make_loss(
        recipe.loss.name, gap_weight=recipe.loss.gap_weight, outline_weight=recipe.loss.outline_weight
    )
    task = SegmentationTask(start.network, sampler.draw, loss, options, recipe.seed)
    callbacks = [
        schedule,
        Watch(folder, schedule, on_event),
        validation,
        WeightAveraging(use_buffers=True, avg_fn=moving_average(options.ema_decay)),
        ModelCheckpoint(
            folder, Path(CHECKPOINT).stem, save_on_train_epoch_end=True, enable_version_counter=False
        ),
    ]
    checkpoint = folder / CHECKPOINT
    with _quiet():
        trainer = _trainer(options, folder, callbacks)
        on_event(
            Began(options.steps, _steps_done(checkpoint), split.notes + ((start.note,) if start.note else ()))
        )
        _fit(trainer, task, checkpoint)
        if not (folder / "best").exists() or _last_validation(folder) != trainer.global_step:
            trainer.validate(task, _Nothing(), verbose=False)
    return folder / "best"


def rule_of(recipe: Recipe) -> tuple[ClassRule, Activation]:
    """Return how the network's output is read while training: channels, threshold one half, activation."""
    ids = tuple(spec.id for spec in recipe.data.classes)
    if len(ids) == 1:
        return ClassRule(ids, 0.5), "sigmoid"
    # Of several classes the likeliest wins, however unlikely it is.
    return ClassRule((0, *ids), 1 / 65535), "softmax"


def moving_average(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    """Return an exponential moving average that soon forgets its start: its decay grows with the updates."""

    def average(mean: torch.Tensor, value: torch.Tensor, updates: torch.Tensor | int) -> torch.Tensor:
        share = 1 - min(decay, (1 + float(updates)) / (10 + float(updates)))
        return mean + share * (value - mean)

    return average


def automatic_precision(device: str) -> str:
    """Return ``bfloat16`` where the device computes in it at speed, else ``float32``."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def _trainer(options: Optimization, folder: Path, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable(
            "device cuda: PyTorch sees no GPU; leave --device at auto to train on the CPU"
        )
    precision = options.precision if options.precision != "auto" else automatic_precision(device)
    return lightning.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices="auto" if device == "cuda" else 1,
        precision=_PRECISIONS[precision],
        max_steps=options.steps,
        max_epochs=-1,
        check_val_every_n_epoch=options.validate_every,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _fit(trainer: lightning.Trainer, task: SegmentationTask, checkpoint: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(
            task,
            val_dataloaders=_Nothing(),
            ckpt_path=str(checkpoint) if checkpoint.exists() else None,
            weights_only=True,
        )
    except SystemExit as error:  # what Lightning makes of Ctrl-C
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error


class _Nothing:
    """What Lightning's validation loops over: one step that does nothing, as `Validation` does it all."""

    def __iter__(self) -> Iterator[int]:
        return iter([0])

    def __len__(self) -> int:
        return 1


def _claim(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Make the run's folder, or take the one that is there if it is this recipe's."""
    identity = folder / IDENTITY
    if folder.exists() and not resume:
        if not identity.exists():
            raise UnwritableOutput(
                f"{folder}: is no folder of a training run; remove it, or choose another --out"
            )
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{folder}: cannot be made: {error.strerror}") from error
    if identity.exists():
        if json.loads(identity.read_text(encoding="utf-8")).get("recipe") != recipe.digest:
            raise UnwritableOutput(
                f"{folder}: holds a run of another recipe; give --no-resume to start anew, or another --out"
            )
        return
    with replacing(identity) as path:
        path.write_text(json.dumps({"recipe": recipe.digest}) + "\n", encoding="utf-8")


def _steps_done(checkpoint: Path) -> int:
    if not checkpoint.exists():
        return 0
    return int(torch.load(checkpoint, weights_only=True, map_location="meta")["global_step"])


def _last_validation(folder: Path) -> int:
    from geoseg.training.watch import read_rows

    rows = read_rows(folder / "validation.csv")
    return int(rows[-1]["step"]) if rows else -1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Lightning says of its own set-up off the user's screen."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", module="torch.utils.tensorboard")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
