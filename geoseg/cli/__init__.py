"""The command line: thin shells over functions, messages and exit codes.

Exit codes: 0 done; 1 done in part; 2 bad input or usage; 3 a defect in geoseg; 130 interrupted.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import click

from geoseg.cli.options import debug_option
from geoseg.errors import GeosegError, MissingExtra, suggest

_COMMANDS = {
    "predict": "Segment a scene and write georeferenced polygons.",
    "batch": "Segment many scenes: an archive, on one machine or a cluster.",
    "plan": "Show what a prediction would do and take, without running it.",
    "vectorize": "Make polygons of a class map or of probabilities.",
    "regularize": "Give the polygons of a file straight walls.",
    "diff": "Tell what changed between two layers of polygons.",
    "labels": "Exchange labels with other tools: COCO files, rasters of numbered objects.",
    "train": "Train a model on your own scenes and footprints.",
    "evaluate": "Measure a prediction or a model against the truth.",
    "review": "Check polygons by eye, on a page in the browser, and apply the verdicts.",
    "serve": "Show scenes on a map in the browser, with live predictions.",
    "run": "Run a recipe, or write an example of one.",
    "info": "Show what geoseg sees in a scene.",
    "models": "List, show and check models.",
}

_MODULES = {
    "run": "recipe",
    **dict.fromkeys(("predict", "plan", "info"), "scene"),
    **dict.fromkeys(("review", "serve"), "browser"),
    **dict.fromkeys(("vectorize", "regularize", "diff", "labels"), "layers"),
}
"""Where a command is that has no module of its name; `geoseg.cli.run` is the function below."""

_EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "timm", "segmentation_models_pytorch"), "torch"),
    "faster_coco_eval": "coco",
    **dict.fromkeys(("lightning", "nncf", "onnx", "tensorboard"), "train"),
    **dict.fromkeys(("fastapi", "uvicorn", "rio_tiler", "mapbox_vector_tile", "anyio", "starlette"), "serve"),
}
"""Package: the extra that it comes with."""


class _Commands(click.Group):
    """Imports a command's module only when that command is asked for."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # for which click prints an empty line, be there a ^C or not
            if sys.stderr.isatty():
                click.echo(err=True)
            raise click.Abort from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            if cmd_name.startswith("-"):
                return None  # an option that there is not
            ctx.fail(f"{cmd_name}: no such command; {suggest(cmd_name, _COMMANDS)}")
        module = importlib.import_module(f"geoseg.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="geoseg", prog_name="geoseg")
@debug_option
def cli() -> None:
    """Make maps from pictures: segment large GeoTIFFs seamlessly and vectorize them."""


def main() -> None:
    """Run the command line of this process, and exit with one of the codes of this module."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    # Arrow's own pools reserve a gigabyte of addresses, which counts where a limit is set on them.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # What GDAL raises is told in one line; what it prints besides is not for the terminal.
    os.environ.setdefault("CPL_LOG", os.devnull)
    code = run(sys.argv[1:])
    if "triton" not in sys.modules:  # which prints what is left as leaks
        # What is left needs no last look for garbage, which takes a quarter of a second.
        gc.freeze()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; foreseeable failures become one line on stderr."""
    try:
        for argument in arguments:
            shown = argument.encode(errors="backslashreplace").decode()
            if shown != argument:  # bytes that are not UTF-8
                raise click.UsageError(f"{shown}: is not valid UTF-8; rename the file or folder")
        code = cli(list(arguments), prog_name="geoseg", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, debug="--debug" in arguments)
    return code if isinstance(code, int) else 0


def _report(error: BaseException, *, debug: bool) -> int:
    """Say what happened and return the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return int(error.exit_code)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo("geoseg: interrupted", err=True)
        return 130
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    if debug:
        traceback.print_exception(error)
    message = _explain(error)
    if message is None:  # a defect: never to be taken for "done in part"
        if not debug:
            traceback.print_exception(error)
        click.echo("geoseg: this is a defect in geoseg; please report it with the lines above", err=True)
        return 3
    click.echo(f"geoseg: error: {' '.join(message.split())}", err=True)
    return 2


def _explain(error: BaseException) -> str | None:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, GeosegError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRAS.get(str(error.name).partition(".")[0])):
        return str(MissingExtra("this command", extra))
    if isinstance(error, MemoryError):
        return "out of memory; give a smaller --max-memory or --tile"
    return None


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
