"""All benchmarks one after the other: a JSON file each, and the tables of docs/performance.md.

    python benchmarks/all.py --quick FOLDER
    python benchmarks/all.py --full FOLDER --page docs/performance.md \
        --python /tmp/peers/bin/python --python geoai=/tmp/peers-geoai/bin/python

Each runs in a process of its own. FOLDER gets NAME.json and NAME.md, and tables.md of what is there so
far: a single one can be repeated with --only. Without --python the peers are left out. --page puts
the tables between the marks of a page, <!-- NAME --> and <!-- /NAME -->; other text stays.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from geoseg.files import replacing

HERE = Path(__file__).parent

HEADINGS = {
    "limit": "Forward passes alone",
    "end_to_end": "Whole runs beside the limit",
    "memory": "Peak memory",
    "sparse": "Empty ground",
    "vectorize": "Polygons alone",
    "archive": "Archives",
    "serve": "The live map",
    "peers": "Peers",
}

QUICK = {
    "limit": "--side 1024 --rounds 2 --seconds 0.5",
    "end_to_end": "--sides 1024 --rounds 1 --seconds 0.5",
    "memory": "--sides 1024 2048",
    "sparse": "--side 20000 --patch 1024",
    "vectorize": "--side 1024 --rounds 1",
    "archive": "--scenes 10 --side 500 --entries 100",
    "serve": "--side 2048 --views 4",
    "peers": "--side 1024",
}
"""Minutes; shows that everything works, not how fast it is."""

FULL = {
    "limit": "--rounds 5 --seconds 10",
    "end_to_end": "--sides 4096 8192 12288 16384 --rounds 3",
    "memory": "--sides 4096 12288 24576 --strip 4000 200000 --max-memory auto 1GB",
    "sparse": "--side 200000",
    "vectorize": "--side 4096",
    "archive": "--scenes 200 --side 1000 --entries 10000",
    "serve": "--side 8192 --views 12",
    "peers": "--side 4096",
}
"""An hour or so on two cores; what docs/performance.md shows."""


def run(name: str, arguments: list[str], folder: Path) -> str | None:
    """Run one benchmark and keep its table; return what went wrong, if anything."""
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments, "--json", str(folder / f"{name}.json")]
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    if done.returncode:
        return f"{name}: ended with exit code {done.returncode}"
    write(folder / f"{name}.md", done.stdout)
    return None


def tables(folder: Path) -> dict[str, str]:
    """Return the tables that the folder holds, each with its date and machine."""
    found = {}
    for name in HEADINGS:
        if not (folder / f"{name}.md").exists():
            continue
        document = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        machine, table = document["machine"], (folder / f"{name}.md").read_text(encoding="utf-8")
        place = f"{machine['processor']}, {machine['cores']} cores, load {machine['load'][0]} at the end"
        found[name] = f"{document['date']}, {place}\n\n{table.strip()}\n"
    return found


def page(found: dict[str, str]) -> str:
    """Return the tables as one Markdown text."""
    return "\n".join(f"### {HEADINGS[name]}\n\n{table}" for name, table in found.items())


def fill(text: str, found: dict[str, str]) -> str:
    """Return a page with the tables between their marks."""
    for name, table in found.items():
        head, opening, rest = text.partition(f"<!-- {name} -->\n")
        _, closing, tail = rest.partition(f"<!-- /{name} -->")
        if closing:
            text = f"{head}{opening}{table}{closing}{tail}"
    return text


def write(path: Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def main() -> None:
    """Run what is asked for and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--quick", action="store_true", help="minutes: does everything work?")
    size.add_argument("--full", action="store_true", help="an hour or so: the figures of the docs")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", choices=list(HEADINGS), default=list(HEADINGS))
    parser.add_argument("--python", action="append", default=[], metavar="[PEER=]PATH", help="see peers.py")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="put the tables into this page")
    options = parser.parse_args()
    if options.page is not None and not options.page.is_file():
        parser.error(f"{options.page}: no such page")
    options.folder.mkdir(parents=True, exist_ok=True)
    troubles = []
    for name in options.only:
        arguments = (QUICK if options.quick else FULL)[name].split()
        if name == "peers" and not options.python:
            print("peers: left out, no --python", file=sys.stderr)
            continue
        if name == "peers":
            arguments += [part for python in options.python for part in ("--python", python)]
        troubles.append(run(name, arguments, options.folder))
        write(options.folder / "tables.md", page(tables(options.folder)))
    print(page(tables(options.folder)))
    if options.page is not None:
        write(options.page, fill(options.page.read_text(encoding="utf-8"), tables(options.folder)))
    if failed := [trouble for trouble in troubles if trouble]:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
