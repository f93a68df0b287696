"""Keeping what was inferred, so that a killed run is resumed where it was.

Inference is what costs; blending, tracing and writing are repeated in no time and give the same
result from the same sums. A journal is therefore a folder beside the output with one record for
each block whose tiles have been inferred. It belongs to one plan; a record counts only once it
bears its own name (it was written, synced and renamed) and its checksums hold.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import NoSpaceLeft, UnwritableOutput
from geoseg.files import replacing
from geoseg.grid import BlockIndex, TileGrid
from geoseg.prediction.plan import BLOCK_PIXELS, Plan

LONGEST_NAME = 200
"""Longer names of outputs, in bytes, are shortened: file systems take 255."""

Record = Mapping[str, NDArray[Any]]
"""What is kept of a block."""

Answers = TypeVar("Answers")


@dataclass(frozen=True, slots=True)
class Journal:
    """Records of inferred blocks of one plan in a folder."""

    folder: Path
    """Absolute: workers may run in another one."""
    digest: str
    """The plan's. It is part of every record's name, so that two plans can never be mixed, even if they write
    the same output at the same time."""

    @classmethod
    def beside(cls, out: Path, digest: str) -> Journal:
        """Return the journal of a plan that belongs to an output file."""
        name = out.name
        if len(name.encode()) > LONGEST_NAME:
            name = hashlib.sha256(name.encode()).hexdigest()[:32]
        return cls(out.absolute().parent / f".{name}.geoseg", digest)

    def begin(self) -> int:
        """Make the folder ready and return how many blocks it knows already.

        Records of other plans are thrown away.

        Raises
        ------
        UnwritableOutput
            If the folder cannot be made, or is a link to another one.
        """
        try:
            if self.folder.is_symlink():
                raise FileExistsError(errno.EEXIST, "it is a link")
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableOutput(
                f"{self.folder}: cannot be made ({error.strerror}); try --no-resume"
            ) from error
        known = set(self.folder.glob(f"*-{self.digest[:16]}.npz"))
        self._discard(known)
        return len(known)

    def remove(self) -> None:
        """Delete the records, and the folder if nothing else is in it."""
        self._discard(set())
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _discard(self, keep: set[Path]) -> None:
        if self.folder.is_symlink():
            return
        # Records, and the features of a run that was killed before it had opened where they wait.
        for file in {*self.folder.glob("*.npz"), *self.folder.glob(".geoseg-*.db")} - keep:
            with contextlib.suppress(OSError):  # a folder of that name, or gone already
                file.unlink()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Say of a full disk how many blocks the same command need not infer again; leave no empty folder.

        Raises
        ------
        NoSpaceLeft
        """
        try:
            yield
        except NoSpaceLeft as error:
            kept = len(list(self.folder.glob(f"*-{self.digest[:16]}.npz")))
            raise NoSpaceLeft(
                f"{error}; {kept} inferred blocks are kept: the same command resumes from them"
                if kept
                else f"{error}; no inferred block could be kept"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def store(self, block: BlockIndex, record: Record) -> None:
        """Keep the record of a block.

        Not where the folder cannot be reached (a worker elsewhere) or written (a full disk): the run can
        do without.
        """
        if not self.folder.is_dir():
            return
        arrays: dict[str, Any] = dict(record)
        with (
            contextlib.suppress(OSError, UnwritableOutput),
            replacing(self._path(block)) as path,
            path.open("wb") as file,
        ):
            np.savez(file, allow_pickle=False, **arrays)

    def load(self, grid: TileGrid, block: BlockIndex, unpack: Callable[..., Answers]) -> Answers | None:
        """Return what `unpack` makes of a block's record; None where there is none or its checksums fail."""
        try:
            with self._path(block).open("rb") as file, np.load(file, allow_pickle=False) as record:
                return unpack(record, grid, block)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def _path(self, block: BlockIndex) -> Path:
        return self.folder / f"{block.row}_{block.col}-{self.digest[:16]}.npz"


def kept_sides(out: Path, plan: Plan) -> tuple[int, ...]:
    """Return the sizes of blocks that interrupted runs left beside an output, the one with most first.

    The size of blocks is the only part of a plan that follows from the memory; a run that is resumed
    under another budget keeps it where it can.

    Parameters
    ----------
    plan : Plan
        With blocks of any size.

    Returns
    -------
    tuple of int
        In tiles a side.
    """
    folder = Journal.beside(out, "").folder
    records = Counter([path.stem.rpartition("-")[2] for path in folder.glob("*.npz")])
    if not records:
        return ()
    sides = range(1, max(1, BLOCK_PIXELS // plan.tiles.rows.stride) + 1)
    digests = {plan.with_blocks(side).digest[:16]: side for side in sides}
    most_first = sorted(records, key=lambda digest: -records[digest])
    return tuple(digests[digest] for digest in most_first if digest in digests)
