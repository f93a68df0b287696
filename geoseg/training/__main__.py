"""``python -m geoseg.training RECIPE.yaml``: train, or go on training where a run was killed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from geoseg.errors import GeosegError
from geoseg.training.loop import train
from geoseg.training.recipe import read_recipe
from geoseg.training.samples import read_split
from geoseg.training.worlds import render_worlds


def main(arguments: list[str]) -> int:
    """Run one recipe; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m geoseg.training RECIPE.yaml\n")
        return 2
    try:
        recipe = read_recipe(Path(arguments[0]))
        split = read_split(recipe.data, recipe.validation)
        train(recipe, split, render_worlds(recipe.seed, recipe.draws))
    except GeosegError as error:
        sys.stderr.write(f"geoseg: error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
