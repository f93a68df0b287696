"""What a run tells while it goes and when it ends."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.prediction.blocks import Tally
from geoseg.prediction.plan import Plan


@dataclass(frozen=True, slots=True)
class Remarks:
    """What a user should know of a plan, and why it has this backend and precision; it changes no bit."""

    warnings: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """A run is about to begin.

    Parameters
    ----------
    blocks_known : int
        Blocks that an interrupted run of the same plan has inferred already.
    resumable : bool
        Whether this run could be resumed after an interruption.
    """

    plan: Plan
    remarks: Remarks
    blocks_known: int = 0
    resumable: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    blocks: int
    blocks_total: int
    pixels: int
    pixels_total: int
    seconds: float


Event = Planned | Progress


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did.

    Parameters
    ----------
    features : int
        Polygons written.
    area_m2 : float or None
        Their geodesic area; None without a CRS.
    files : tuple of str
        What was written.
    seconds : float
        Wall time from the first look at the scene to the last file in place.
    peak_memory : int or None
        Largest resident size of this process in bytes.
    alone : bool
        Whether this process did all of the work.
    planned_memory : int or None
        Bytes that the run was planned to stay within, over all of its processes on this machine.
    blocks_known : int
        Blocks that an interrupted run had inferred before.
    deviation_px : float
        Pixels by which edges in another CRS are off, where the bound on their vertices was reached.
    """

    plan: Plan
    remarks: Remarks
    features: int
    area_m2: float | None
    tally: Tally
    files: tuple[str, ...]
    seconds: float = 0.0
    peak_memory: int | None = None
    alone: bool = True
    planned_memory: int | None = None
    blocks_known: int = 0
    deviation_px: float = 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the plan warns of, and what only the work has shown."""
        off = f"long edges are up to {self.deviation_px:.2g} pixels off in the CRS of the polygons"
        return (*self.remarks.warnings, off) if self.deviation_px else self.remarks.warnings

    @property
    def pixels(self) -> int:
        """Pixels of the working grid."""
        return self.plan.grid.height * self.plan.grid.width

    @property
    def coverage(self) -> float:
        """Share of the working grid's pixels that have a probability, 0 … 1."""
        return self.tally.valid_pixels / self.pixels

    @property
    def exit_code(self) -> int:
        """0 done, 1 done in part."""
        return 1 if self.tally.failures else 0

    def as_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        plan = self.plan
        return {
            "scene": plan.scene.uri,
            "model": plan.model_name,
            "model_digest": plan.model_digest,
            "plan_digest": plan.result_digest,
            "features": self.features,
            "area_m2": self.area_m2,
            "coverage": round(self.coverage, 6),
            "tiles": {"inferred": self.tally.inferred, "skipped": self.tally.skipped},
            "failed": [
                {"window": list(dataclasses.astuple(failure.window)), "reason": failure.reason}
                for failure in self.tally.failures
            ],
            "seconds": round(self.seconds, 3),
            "megapixels_per_second": round(self.pixels / 1e6 / max(self.seconds, 1e-9), 3),
            "peak_memory_bytes": self.peak_memory,
            "planned_memory_bytes": self.planned_memory,
            "blocks_known": self.blocks_known,
            "shrunk_batch": self.tally.shrunk_batch,
            "files": list(self.files),
            "options": plan.options,
            "backend_reason": self.remarks.reason,
            "warnings": list(self.warnings),
            "exit_code": self.exit_code,
        }


def peak_memory() -> int | None:
    """Return the largest resident size this process had, in bytes; None where it is not known."""
    try:
        # Linux counts the size of the process that started this one into ru_maxrss, but not here.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
