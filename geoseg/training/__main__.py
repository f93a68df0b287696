"""``python -m geoseg.training RECIPE.yaml``: train, or go on training where a run was killed."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from geoseg.errors import GeosegError
from geoseg.training.loop import train
from geoseg.training.publish import publish
from geoseg.training.recipe import read_recipe
from geoseg.training.samples import read_split
from geoseg.training.worlds import render_worlds


def main(arguments: Sequence[str]) -> int:
    """Run one recipe; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m geoseg.training", description=__doc__)
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    parser.add_argument("--publish", type=Path, metavar="FOLDER", help="write a model folder when done")
    parser.add_argument("--no-train", action="store_true", help="only publish what a run has left")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        recipe = read_recipe(options.recipe)
        split = read_split(recipe.data, recipe.validation)
        if not options.no_train:
            train(recipe, split, render_worlds(recipe.seed, recipe.draws))
        if options.publish:
            publish(recipe, split, options.publish)
    except GeosegError as error:
        sys.stderr.write(f"geoseg: error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
