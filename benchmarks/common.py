"""What all benchmarks share: options, children in processes of their own, one table, one JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from geoseg.files import replacing

Row = dict[str, Any]
Columns = Mapping[str, tuple[str, str]]
"""Key in a row to (heading, format specification)."""

PACKAGES = ("geoseg", "numpy", "rasterio", "shapely", "openvino", "onnxruntime", "torch")


@dataclass(frozen=True, slots=True)
class Child:
    """What a process of its own did.

    Parameters
    ----------
    seconds : float
        Wall time from starting the process to its end, imports included.
    cpu_seconds : float
        User and system time of all its threads.
    answer : dict
        The JSON of its last line on stdout.
    """

    seconds: float
    cpu_seconds: float
    answer: dict[str, Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the rows and the machine as JSON")
    return made


def _usual_environment() -> dict[str, str]:
    """Return the environment with Python's compiled files: without them every start costs 2 s more."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_child(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Child:
    """Run a command to its end; one at a time, or the CPU seconds are those of several.

    Raises
    ------
    ChildFailed
        If it ends with an error or its last line is no JSON.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env={**_usual_environment(), **(environment or {})},
    )
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = done.stdout.splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError):
        answer = None
    if done.returncode or not isinstance(answer, dict):
        errors = done.stderr.strip().splitlines() or ["no message"]
        raise ChildFailed(f"exit code {done.returncode}: {errors[-1][:300]}")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Child(seconds, cpu, answer)


class ChildFailed(RuntimeError):
    """A process ended with an error; the message is its last line."""


def predict(
    scene: Path, out: Path, *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> Child:
    """Run ``geoseg predict`` in a fresh process; its answer is the run's summary."""
    command = [sys.executable, "-m", "geoseg", "predict", scene, "--out", out, *arguments]
    return run_child([*command, "--json", "--quiet", "--overwrite", "--no-resume"], environment)


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """Return (largest - smallest) / median in percent."""
    return 100 * (max(values) - min(values)) / median(values)


def table(columns: Columns, rows: Sequence[Row]) -> str:
    """Return a Markdown table; a value that is missing or None becomes a dash."""

    def cell(row: Row, key: str, form: str) -> str:
        value = row.get(key)
        return "–" if value is None else format(value, form)

    lines = [[heading for heading, _ in columns.values()], ["---"] * len(columns)]
    lines += [[cell(row, key, form) for key, (_, form) in columns.items()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(name: str, columns: Columns, rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Print the table; write rows, options and machine as JSON where that is asked for."""
    print(table(columns, rows))
    for note in [str(row["note"]) for row in rows if row.get("note")]:
        print(f"\n{note}")
    if options.json is None:
        return
    document = {
        "benchmark": name,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "options": {key: str(value) for key, value in vars(options).items() if key != "json"},
        "machine": machine(),
        "rows": list(rows),
    }
    with replacing(options.json) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Return what a figure depends on: processor, cores, memory, load, versions."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
