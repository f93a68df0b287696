"""What a run tells while it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Began:
    """Training begins: steps of the schedule, the step it resumes at, notes for the user."""

    steps: int
    step: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step is done."""

    step: int
    """Steps done."""
    share: float
    """How much of the schedule is over, 0 to 1."""
    seconds: float
    """Time spent in training."""
    loss: float
    """Mean of the last 20 steps, without those that had no finite loss; NaN if none had."""


@dataclass(frozen=True, slots=True)
class Validated:
    """The averaged weights were validated: IoU by place, what checkpoints are chosen by, the best so far."""

    step: int
    iou: Mapping[str, float]
    merit: float
    best: float


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that the user should know."""

    text: str


Event: TypeAlias = Began | Stepped | Validated | Noted


def ignore(_event: Event) -> None:
    """Listen to nothing."""
