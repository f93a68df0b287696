"""What was measured once and need not be again: small notes in the user's cache.

A note is a JSON file that holds what it was measured on beside what came out; its name is a digest of
the former. One that is missing, damaged, of something else or not writable costs a measurement, never
a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.errors import UnwritableOutput
from geoseg.files import cache_folder, replacing


@dataclass(frozen=True, slots=True)
class Note:
    """One thing measured, whether it has been or not.

    Parameters
    ----------
    topic : str
        What is measured, and the folder of such notes.
    facts : mapping of str to JSON
        All that the outcome depends on.
    """

    topic: str
    facts: Mapping[str, object]

    def read(self) -> Any:
        """Return the outcome as JSON gives it, or None; what it holds is not checked."""
        try:
            content = json.loads(self._path().read_bytes())
            return content[self.topic] if content["machine"] == self.facts else None
        except (OSError, RuntimeError, ValueError, KeyError, TypeError):
            return None

    def write(self, outcome: object) -> None:
        """Keep an outcome; in vain where the cache cannot be written."""
        content = {"machine": self.facts, self.topic: outcome}
        with contextlib.suppress(OSError, RuntimeError, UnwritableOutput):
            path = self._path()
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def _path(self) -> Path:
        text = json.dumps(self.facts, sort_keys=True)
        return cache_folder(self.topic) / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
