"""The examples in docstrings give what they say, and those of the pages name what there is."""

import doctest
import importlib
import re
from pathlib import Path

import click
import pytest

from geoseg.cli import cli

ROOT = Path(__file__).resolve().parents[1]
SHOWING = sorted(path for path in (ROOT / "geoseg").rglob("*.py") if ">>> " in path.read_text("utf-8"))


@pytest.mark.parametrize("path", SHOWING, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_give_what_they_say(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_there_are_many() -> None:
    assert sum(path.read_text("utf-8").count(">>> ") for path in SHOWING) >= 70


def test_commands_of_the_pages_have_the_options_that_they_name() -> None:
    """Those in blocks, and those between backticks."""
    context, seen, wrong = click.Context(cli), 0, []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text("utf-8").replace("\\\n", " ")
        blocks = "".join(re.findall(r"^```.*?\n(.*?)^```", text, re.M | re.S))
        lines = re.findall(r"(?:^|[$&] )geoseg ([a-z][^\n#]*)", blocks, re.M)
        for line in [*lines, *re.findall(r"`geoseg ([a-z][^`]*)`", text)]:
            name, *words = line.split()
            command = cli.get_command(context, name)
            subcommands = command.commands.values() if isinstance(command, click.Group) else ()
            options = [option for one in (command, *subcommands) if one for option in one.params]
            known = {"--help"}.union(*(option.opts + option.secondary_opts for option in options))
            given = {word.partition("=")[0].rstrip(",.;:)]") for word in words if word.startswith("--")}
            if command is None or given - known:
                wrong.append(f"{page.name}: geoseg {line}")
            seen += 1
    assert not wrong
    assert seen > 80
