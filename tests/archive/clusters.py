"""Runs of ``geoseg batch`` in processes of their own, and clusters of separate processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.runs import bright_model, heed_interrupts

COUNTING = """
from geoseg.prediction.tasks import Probabilities

def count(plain):
    def counted(plan, block, *rest):
        result = plain(plan, block, *rest)
        with open({log!r}, "a") as file:
            file.write(f"{{plan.scene.uri}} {{block.row}} {{block.col}}\\n")
        return result

    return counted

if Probabilities.infer.__name__ != "counted":  # it is loaded more than once
    Probabilities.infer = staticmethod(count(Probabilities.infer))
"""
"""What a worker loads before anything else, to note each block that it infers."""

KILLING = """
import os
from geoseg.prediction import session

def beset(plain):
    def deadly(self, source, *rest, **more):
        if "deadly" in str(source):
            os._exit(1)
        return plain(self, source, *rest, **more)

    return deadly

session.Session.predict = beset(session.Session.predict)
"""
"""The same, to die of a scene whose name says so."""


@dataclass(frozen=True)
class Preload:
    """A script that workers run before anything else."""

    path: Path
    log: Path

    @classmethod
    def write(cls, folder: Path, text: str = COUNTING) -> Preload:
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log"
        path = folder / "preload.py"
        path.write_text(text.format(log=str(log)) if "{log" in text else text)
        return cls(path, log)

    @property
    def counts(self) -> Counter[str]:
        """How often each block was inferred."""
        return Counter(self.log.read_text().splitlines())

    @property
    def environment(self) -> dict[str, str]:
        """For a run that starts a cluster itself."""
        return {**os.environ, "DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([str(self.path)])}


def command(*arguments: object) -> list[str]:
    """Return a command line over an archive with the bright model, every polygon kept as traced."""
    given = ["batch", *map(str, arguments), "--model", str(bright_model())]
    return [*given, "--min-area", "0", "--outline", "pixel"]


def start_batch(
    *arguments: object, preload: Preload | None = None, cwd: Path | None = None
) -> subprocess.Popen[str]:
    """Start ``geoseg batch`` with the bright model."""
    return subprocess.Popen(
        [sys.executable, "-m", "geoseg", *command(*arguments, "--json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=None if preload is None else preload.environment,
        preexec_fn=heed_interrupts,  # noqa: PLW1509
    )


def ended(process: subprocess.Popen[str], code: int) -> tuple[dict[str, dict[str, object]], str]:
    """Wait for a run; return what it says of each scene, and its stderr."""
    out, err = process.communicate(timeout=900)
    assert process.returncode == code, err
    return {result["name"]: result for result in map(json.loads, out.splitlines())}, err


def wait_until_begun(process: subprocess.Popen[str], out: Path, pattern: str = ".run-*/run") -> None:
    """Wait until a run has made its folder, or another file, or has ended."""
    while process.poll() is None and not list(out.glob(pattern)):
        time.sleep(0.02)


@dataclass
class Cluster:
    """A scheduler and workers, each a process in a folder of its own."""

    folder: Path
    preload: Preload | None = None
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    address: str = ""
    started: int = 0

    def start(self, workers: int) -> None:
        """Start the scheduler and so many workers."""
        self.started += 1
        file = self.folder / f"scheduler-{self.started}.json"
        self.scheduler = self._run(
            "scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1", "--scheduler-file", str(file)
        )
        while not file.exists() or not file.read_text().endswith("}"):
            assert self.scheduler.poll() is None
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]
        for _ in range(workers):
            self.join()

    def join(self) -> None:
        """Start one more worker."""
        more = ["--preload", str(self.preload.path)] if self.preload else []
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", *more]
        self.workers.append(self._run("worker", self.address, *options))

    def kill_worker(self) -> None:
        """Kill the worker that is there longest."""
        worker = self.workers.pop(0)
        worker.kill()
        worker.wait()

    def stop(self) -> None:
        """Kill all."""
        processes = [*self.workers, *([self.scheduler] if self.scheduler else [])]
        for process in processes:
            process.kill()
            process.wait()
        self.workers.clear()

    def _run(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        self.started += 1
        cwd = self.folder / f"{kind}-{self.started}"
        cwd.mkdir()
        command = [sys.executable, "-m", "dask", kind, *arguments]
        with (cwd / "log").open("wb") as log:
            return subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)


@contextlib.contextmanager
def cluster(folder: Path, workers: int, preload: Preload | None = None) -> Iterator[Cluster]:
    """Yield a cluster of separate processes."""
    folder.mkdir()
    made = Cluster(folder, preload)
    try:
        made.start(workers)
        yield made
    finally:
        made.stop()
