"""How much of geoseg one run goes through: modules loaded, functions called, depth of calls.

    python benchmarks/calls.py
    python benchmarks/calls.py predict scene.tif --out polygons.gpkg --precision f32

Without arguments the sample scene is predicted. Every function of the package that is called is counted
once, lambdas and generator expressions among them, on all threads (`sys.setprofile`,
`threading.setprofile`); the bodies of classes and modules are not counted. Depth counts the package's own
functions on one stack. Comprehensions of lists, dicts and sets are counted apart: they are functions up to
Python 3.11 only (PEP 709).
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1] / "geoseg"
SAMPLE = PACKAGE.parent / "sample_data" / "scene.tif"
INLINED = ("<listcomp>", "<dictcomp>", "<setcomp>")


class Calls:
    """Counts what is called.

    Attributes
    ----------
    functions : set of (file, name)
    deepest : int
    """

    def __init__(self) -> None:
        self.functions: set[tuple[str, str]] = set()
        self.deepest = 0
        self._local = threading.local()

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Note a call of a function of the package, or the end of one."""
        code = frame.f_code
        if not code.co_filename.startswith(str(PACKAGE)):
            return
        if not code.co_flags & inspect.CO_NEWLOCALS:  # the body of a class or a module
            return
        depth = getattr(self._local, "depth", 0)
        if event == "call":
            self.functions.add((code.co_filename, code.co_qualname))
            self._local.depth = depth + 1
            self.deepest = max(self.deepest, depth + 1)
        elif event == "return":
            self._local.depth = max(0, depth - 1)


def main() -> None:
    """Run the command line under the profiler and print the counts."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = sys.argv[1:] or ["predict", str(SAMPLE), "--out", f"{folder}/sample.gpkg", "--quiet"]
        sys.argv = ["geoseg", *arguments]
        calls = Calls()
        threading.setprofile(calls)
        sys.setprofile(calls)
        try:
            from geoseg.cli import main as geoseg

            geoseg()
        except SystemExit as stop:
            if stop.code:
                raise
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    loaded = [name for name in sys.modules if name.split(".")[0] == "geoseg"]
    named = [(file, name) for file, name in calls.functions if not name.endswith(INLINED)]
    print(f"modules loaded     {len(loaded):4d}  (packages included)")
    print(f"modules called     {len({file for file, _ in named}):4d}")
    inlined = len(calls.functions) - len(named)
    print(f"functions called   {len(named):4d}  (and comprehensions of lists, dicts and sets: {inlined})")
    print(f"calls deep         {calls.deepest:4d}")


if __name__ == "__main__":
    main()
