"""How much memory this process may have: the machine's, its container's, its own limits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

DEFAULT_MEMORY = 2 * 10**9
"""What a run takes unasked, at most; on several GPUs, for each of them."""

DEFAULT_SHARE = 4
"""Unasked, a run takes no more than this part of the memory: a quarter."""


ADDRESSES = 15 * 10**8
"""Address space that libraries and stacks of threads reserve and never use, measured (up to 1.25 GB, where
INT8 is tried) and rounded up."""


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may have at most, None where nothing says so.

    The least of the machine's memory, the limits of the control groups (version 1 and 2) that the
    process is in and of those above them, and its own limits ``RLIMIT_AS`` (less `ADDRESSES`) and
    ``RLIMIT_DATA``.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    return min([*_machine(), *_control_groups(root), *_own_limits()], default=None)


def default_budget(limit: int | None, *, cuda: int = 0, workers: int = 0) -> int:
    """Return the bytes that a run takes where nobody says how many.

    Parameters
    ----------
    limit : int or None
        What the process may have at most: whatever else, no more than the share of it is taken.
    cuda : int
        Bytes that CUDA takes of the host in each process, which alone is about as much as
        `DEFAULT_MEMORY`; 0 on a CPU.
    workers : int
        Processes beside this one that each serve a GPU.
    """
    wanted = DEFAULT_MEMORY * max(1, workers if cuda else 1) + cuda * (1 + workers)
    return wanted if limit is None else min(wanted, limit // DEFAULT_SHARE)


def _machine() -> Iterator[int]:
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        if pages > 0 and size > 0:
            yield pages * size


def _control_groups(root: Path) -> Iterator[int]:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, place = line.split(":", 2)
        if number == "0":
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path is often that outside of it: then only the topmost file is there.
        inside = Path(place.lstrip("/"))
        for group in (inside, *inside.parents):
            with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
                yield int((folder / group / name).read_text(encoding="ascii"))


def _own_limits() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, unused in ((resource.RLIMIT_AS, ADDRESSES), (resource.RLIMIT_DATA, 0)):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield max(0, soft - unused)
