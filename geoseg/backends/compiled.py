"""Networks that OpenVINO compiled, kept in the user's cache: the next process need not read the model.

OpenVINO's own cache (CACHE_DIR, 2026.4.1), one folder for each precision, is as fast and as small when warm,
but does not notice damage: of 14 damaged files it took 7 as they were, and 5 of those gave other
probabilities without a word. Here the name of a file is the digest of all that fixes the compiled
network, and its first bytes are the digest of that name and the rest. A cache that is missing, full,
read-only or damaged costs what compiling costs, and is never an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino

from geoseg.backends.hardware import usable_cores
from geoseg.errors import UnwritableOutput
from geoseg.files import cache_folder, replacing

KEPT_BYTES = 1 << 30
"""What the cache may hold; the files used longest ago go first."""

_FORMAT = 2
"""To be raised when `geoseg.backends.openvino.with_postprocessing` changes: other graphs have other names."""

_DIGEST_SIZE = hashlib.sha256().digest_size

_SUFFIX = ".blob"


@dataclass(frozen=True, slots=True)
class CompiledCache:
    """The compiled networks of one model."""

    folder: Path | None
    """None: nothing is kept."""
    model: str
    """Digest of the model and of how it is compiled."""

    @classmethod
    def of(cls, core: Any, facts: Mapping[str, object]) -> CompiledCache:
        """Return the cache of a model, in the user's folder.

        Parameters
        ----------
        facts : mapping
            All that fixes the compiled network but its shapes: the digest of the model's files,
            precision, threads, what is put before and behind it. OpenVINO's version, the CPU and the
            cores that the process may use are added here.
        """
        text = json.dumps(
            {
                "format": _FORMAT,
                "cores": usable_cores(),
                "openvino": openvino.__version__,
                "cpu": core.get_property("CPU", "FULL_DEVICE_NAME"),
                "capabilities": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
                **facts,
            },
            sort_keys=True,
            default=repr,
        )
        try:
            folder = cache_folder("openvino")
        except RuntimeError:  # a user without a home
            return cls(None, "")
        return cls(folder, hashlib.sha256(text.encode()).hexdigest()[:32])

    @property
    def knows_model(self) -> bool:
        """Whether the model has been compiled before, in any shape."""
        if self.folder is None:
            return False
        try:
            return next(self.folder.glob(f"{self.model}-*{_SUFFIX}"), None) is not None
        except OSError:
            return False

    def load(self, core: Any, shape: str, config: Mapping[str, Any]) -> Any:
        """Return a compiled network, or None where there is none or it cannot be used.

        Parameters
        ----------
        shape : str
            Shape and dtype of the tiles.
        config : mapping
            What it was compiled with.
        """
        if self.folder is None:
            return None
        path = self.folder / f"{self.model}-{shape}{_SUFFIX}"
        try:
            content = path.read_bytes()
            blob = content[_DIGEST_SIZE:]
            if _digest(path.name, blob) != content[:_DIGEST_SIZE]:
                return None
            with contextlib.suppress(OSError):
                os.utime(path)
            return core.import_model(io.BytesIO(blob), "CPU", dict(config))
        except (OSError, RuntimeError):
            return None

    def store(self, compiled: Any, shape: str) -> None:
        """Keep a compiled network, if there is a place for it."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError, RuntimeError, UnwritableOutput):
            self.folder.mkdir(parents=True, exist_ok=True)
            blob = compiled.export_model().getvalue()
            if len(blob) > min(KEPT_BYTES, shutil.disk_usage(self.folder).free) // 4:
                return
            _make_room(self.folder, _DIGEST_SIZE + len(blob))
            kept = self.folder / f"{self.model}-{shape}{_SUFFIX}"
            with replacing(kept) as path:
                path.write_bytes(_digest(kept.name, blob) + blob)


def _digest(name: str, blob: bytes) -> bytes:
    """Return what stands before a network in the file of that name: under another it is refused."""
    return hashlib.sha256(name.encode() + b"\0" + blob).digest()


def _make_room(folder: Path, needed: int) -> None:
    """Remove what was used longest ago, until so many bytes more stay within `KEPT_BYTES`."""
    found = []
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another process made room meanwhile
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    for _, size, path in sorted(found, reverse=True):
        needed += size
        if needed > KEPT_BYTES:
            path.unlink(missing_ok=True)
