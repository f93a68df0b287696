"""One coordinator at a time for an archive: a file that says which.

The file is written under another name and linked into place, which fails where it exists: as soon as
it is there it names its holder. Its time of modification is his last sign of life. Before anything is
put in place the holder reads it again: whoever has been replaced by another finds out there, and puts
nothing in place.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from geoseg.errors import GeosegError, UnwritableOutput
from geoseg.files import telling_full_disks

HEARTBEAT_SECONDS = 10.0
"""How often the holder of a lease gives a sign of life."""


PATIENCE = 1.0
"""Seconds after which a file that says nothing is not one that is just being written."""


class LeaseHeld(GeosegError):
    """Another run holds the archive, or has taken it over."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, told from all others on all machines."""

    host: str
    """Name of the machine, and of the container where that has processes of its own."""
    pid: int
    started: float
    """When the process was started: a number is given to another process one day."""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Random."""

    @classmethod
    def here(cls) -> Self:
        """Return this process."""
        return cls(_host(), os.getpid(), _started(os.getpid()) or 0.0)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition(' ')[0]}"

    @property
    def is_gone(self) -> bool:
        """Whether that process is known to have ended: it was on this machine, and is no more."""
        return self.host == _host() and _started(self.pid) != self.started


def holder_of(path: Path) -> Holder | None:
    """Return who holds the lease at a path; None: nobody, or the file says nothing."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Lease:
    """The right to put results in place in a folder, from entering to leaving.

    Parameters
    ----------
    path : Path
        The file.
    take_over : bool
        Take it from whoever holds it.

    Raises
    ------
    LeaseHeld
        If another holds it, and is not known to have ended.
    UnwritableOutput
        If the file cannot be made.
    """

    def __init__(self, path: Path, *, take_over: bool = False) -> None:
        self._path = path
        self._take_over = take_over
        self._me = Holder.here()
        self._next = 0.0

    @property
    def id(self) -> str:
        """Names this run."""
        return self._me.id

    def __enter__(self) -> Self:
        for _ in range(100):
            if self._create():
                self._tidy()
                return self
            holder = holder_of(self._path)
            if self._take_over or (holder is not None and holder.is_gone) or self._is_cut_off():
                self._retire(holder)
            elif holder is not None or self._age() > PATIENCE:
                break
            else:  # it has gone, or is about to be written
                time.sleep(0.05)
        raise LeaseHeld(self._told(holder_of(self._path)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if holder_of(self._path) == self._me:
            self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Read the lease again, and give a sign of life now and then.

        Raises
        ------
        LeaseHeld
            If another has it now.
        """
        holder = holder_of(self._path)
        if holder != self._me:
            raise LeaseHeld(
                f"{self._path.parent}: was taken over by {holder or 'nobody'}; this run puts nothing in place"
            )
        if time.monotonic() >= self._next:
            with contextlib.suppress(OSError):
                os.utime(self._path)
            self._next = time.monotonic() + HEARTBEAT_SECONDS

    def _create(self) -> bool:
        """Put the file in place, whole; False where there is one."""
        if self._path.exists():  # which needs no room to be found out
            return False
        temporary = self._aside()
        try:
            with telling_full_disks(self._path):
                with temporary.open("x", encoding="utf-8") as file:
                    json.dump(asdict(self._me), file)
                    file.flush()
                    os.fsync(file.fileno())
                return _linked(temporary, self._path)
        except OSError as error:
            if isinstance(error, GeosegError):
                raise
            raise UnwritableOutput(f"{self._path}: cannot be made ({error.strerror})") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove what processes that have ended would have renamed."""
        for path in self._path.parent.glob(f".{self._path.name}-*"):
            if (holder := holder_of(path)) and holder.is_gone:
                path.unlink(missing_ok=True)

    def _aside(self) -> Path:
        return self._path.with_name(f".{self._path.name}-{secrets.token_hex(4)}")

    def _is_cut_off(self) -> bool:
        """Whether the file was not written to its end, as on a full disk, and nobody is about to."""
        try:
            json.loads(self._path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return False
        except ValueError:
            return self._age() > PATIENCE
        return False

    def _retire(self, holder: Holder | None) -> None:
        """Take the file away, unless it is another's by now."""
        aside = self._aside()
        with contextlib.suppress(FileNotFoundError):
            self._path.rename(aside)
            if holder_of(aside) != holder:
                with contextlib.suppress(OSError):
                    os.link(aside, self._path)
            aside.unlink()

    def _age(self) -> float:
        with contextlib.suppress(OSError):
            return time.time() - self._path.stat().st_mtime
        return 0.0

    def _told(self, holder: Holder | None) -> str:
        return (
            f"{self._path.parent}: is being worked by {holder or 'somebody'}, last heard of "
            f"{self._age():.0f} s ago; if that run is no more, give --take-over"
        )


def _linked(temporary: Path, path: Path) -> bool:
    """Give a file its name; False where that is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            file = path.open("x", encoding="utf-8")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(temporary.read_text(encoding="utf-8"))
        except OSError:
            path.unlink()
            raise
    return True


def _host() -> str:
    """Return the name of this machine, with that of the space that its process numbers are of."""
    with contextlib.suppress(OSError):
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"
    return platform.node()


def _started(pid: int) -> float | None:
    """Return when a process of this machine was started, by a clock that nobody sets; None: it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if not psutil.LINUX:
            return float(process.create_time())
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return float(status.rpartition(")")[2].split()[19])
    except (psutil.NoSuchProcess, OSError):
        return None
