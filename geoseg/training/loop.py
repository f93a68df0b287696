"""The training loop, run by Lightning: resumable, averaged weights, mixed precision, any devices.

What a run leaves in its folder: ``last.ckpt`` (to resume from), ``best/`` (the averaged weights that
did best on the held-out places), ``cycle_1/`` … (those at the end of each cycle of the rate, where
there are several), ``training.csv``, ``validation.csv``, ``tensorboard/``,
``pictures/`` and ``run.json`` (which recipe this is).
"""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from geoseg.backends import architectures
from geoseg.backends.base import Activation
from geoseg.backends.maskrcnn import MaskRCNN
from geoseg.errors import BackendUnavailable, GeosegError
from geoseg.files import replacing
from geoseg.training.callbacks import Averaging, CycleEnds, Schedule, Validation, Watch
from geoseg.training.data.read import Split
from geoseg.training.data.sampler import Sampler
from geoseg.training.events import Began, Event, ignore
from geoseg.training.folder import CHECKPOINT, claim, is_first_process, last_validation, steps_done, writing
from geoseg.training.instances import InstanceTask
from geoseg.training.losses import make_loss
from geoseg.training.network import Start, depthwise_in_float32, mean_weights, save_weights
from geoseg.training.recipe import Optimization, Recipe
from geoseg.training.task import Numbered, SegmentationTask
from geoseg.values import ClassRule

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
        Resume from the run's last checkpoint, if there is one.
    on_event : callable
        Told what happens.

    Raises
    ------
    InvalidOption
        If training diverges.
    UnreadableScene
        If a file of the data has gone or is broken.
    UnwritableOutput
        If the run's folder cannot be written, or holds a run of another recipe.
    BackendUnavailable
        If the device that the recipe names is not there.
    OutOfDeviceMemory
        If a batch does not fit on it.
    KeyboardInterrupt
        If the user stops it; the run can resume at its last checkpoint.
    """
    folder, options = recipe.run_folder, recipe.optimization
    loss = make_loss(
        recipe.loss.name, gap_weight=recipe.loss.gap_weight, outline_weight=recipe.loss.outline_weight
    )
    device = _device(options)
    if is_first_process():
        claim(folder, recipe, resume=resume)
    if not options.steps:
        save_weights(start.network, start.config, folder / "best")
        return folder / "best"
    rule, activation = rule_of(recipe)
    schedule = Schedule(options)
    validation = Validation(
        folder, start.config, split.validation, rule, activation, recipe.draws.resolution_m, on_event
    )
    draw = Numbered(sampler.draw, [spec.id for spec in recipe.data.classes])
    kind = InstanceTask if isinstance(start.network, MaskRCNN) else SegmentationTask
    task = kind(start.network, draw, loss, options, recipe.seed)
    averaging = Averaging(options.ema_decay)
    callbacks = [
        schedule,
        Watch(folder, schedule, on_event),
        validation,
        averaging,
        CycleEnds(folder, start.config, schedule, averaging),
        ModelCheckpoint(
            folder, Path(CHECKPOINT).stem, save_on_train_epoch_end=True, enable_version_counter=False
        ),
    ]
    with _quiet(), writing(folder), _translated():
        trainer = _trainer(options, device, folder, callbacks)
        if trainer.precision == _PRECISIONS["bfloat16"] and trainer.strategy.root_device.type == "cpu":
            depthwise_in_float32(task.network)
        notes = (*split.notes, start.note) if start.note else split.notes
        on_event(Began(options.steps, steps_done(folder), notes))
        _fit(trainer, task, folder)
        if options.cycles > 1:
            _try_mean(trainer, task, averaging, folder)
    return folder / "best"


def rule_of(recipe: Recipe) -> tuple[ClassRule, Activation]:
    """Return how the network's output is read while training: channels, threshold one half, activation."""
    ids = tuple(spec.id for spec in recipe.data.classes)
    if len(ids) == 1:
        return ClassRule(ids, 0.5), "sigmoid"
    # Of several classes the likeliest wins, however unlikely it is.
    return ClassRule((0, *ids), 1 / 65535), "softmax"


def automatic_precision(device: str) -> str:
    """Return ``bfloat16`` where the device computes in it at speed, else ``float32``."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def _device(options: Optimization) -> str:
    """Return ``cuda`` or ``cpu``."""
    if options.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable(
            "device cuda: PyTorch sees no GPU; leave --device at auto to train on the CPU"
        )
    return options.device


def _trainer(
    options: Optimization, device: str, folder: Path, callbacks: list[lightning.Callback]
) -> lightning.Trainer:
    precision = options.precision if options.precision != "auto" else automatic_precision(device)
    several = device == "cuda" and torch.cuda.device_count() > 1
    return lightning.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices="auto" if device == "cuda" else 1,
        # Encoders of timm and auxiliary heads may hold weights that no output depends on.
        strategy="ddp_find_unused_parameters_true" if several else "auto",
        plugins=[CheckpointFiles()],
        precision=_PRECISIONS[precision],
        # `Schedule` ends the run. With max_steps, Lightning 2.6 resumes a checkpoint that was not
        # preceded by a validation with an epoch too short.
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


def _fit(trainer: lightning.Trainer, task: SegmentationTask, folder: Path) -> None:
    """Train to the end of the schedule, with a validation there."""
    checkpoint = folder / CHECKPOINT
    trainer.fit(
        task,
        val_dataloaders=_Nothing(),
        ckpt_path=str(checkpoint) if checkpoint.exists() else None,
        weights_only=True,
    )
    seen = (folder / "best").exists() and last_validation(folder) == trainer.global_step
    if not trainer.strategy.broadcast(seen):  # one process writes these files and knows
        trainer.validate(task, _Nothing(), verbose=False)


def _try_mean(trainer: lightning.Trainer, task: SegmentationTask, averaging: Averaging, folder: Path) -> None:
    """Validate the mean of the weights at the ends of the cycles: it is kept if it does best."""
    trainer.strategy.barrier()  # one process writes them
    ends = [architectures.load(end).state_dict() for end in sorted(folder.glob("cycle_*"))]
    mean = mean_weights(ends)
    for network in (task.network, averaging.network):  # Lightning swaps them to validate
        network.load_state_dict(mean)
    trainer.validate(task, _Nothing(), verbose=False)


class CheckpointFiles(TorchCheckpointIO):  # type: ignore[misc]  # lightning is not followed
    """Writes checkpoints so that a kill in the middle leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint beside its place, then rename it."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Undo what Lightning makes of Ctrl-C, and PyTorch of an error in a process that draws samples."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error
    except GeosegError as error:
        *traceback, last = str(error).strip().splitlines() or [""]
        if not traceback:
            raise
        raise type(error)(last.partition(": ")[2]) from error


class _Nothing:
    """What Lightning's validation loops over: one step that does nothing, as `Validation` does it all."""

    def __iter__(self) -> Iterator[int]:
        return iter([0])

    def __len__(self) -> int:
        return 1


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
