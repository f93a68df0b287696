"""Reading all that a recipe names, and refusing, before the first epoch, what cannot be trained on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from geoseg.errors import InvalidOption
from geoseg.training.data.chips import read_chips
from geoseg.training.data.classes import ClassTable, hint
from geoseg.training.data.ground import MOST_MIRRORED, Ground
from geoseg.training.data.holdout import Split, hold_out
from geoseg.training.data.labelled import open_labelled
from geoseg.training.data.located import Located
from geoseg.training.data.sampler import permitted
from geoseg.training.data.scenes import SceneGround
from geoseg.training.data.spec import DataSpec, Draws, ValidationSpec

__all__ = ["Split", "read_data"]


def read_data(data: DataSpec, validation: ValidationSpec, draws: Draws, base: Path) -> Split:
    """Open the scenes, read the chips, and set the validation ground apart.

    Parameters
    ----------
    data, validation, draws
        Sections of a recipe.
    base : Path
        Folder that paths are relative to.

    Raises
    ------
    UnreadableScene
        If a picture or mask is missing or broken.
    InvalidOption
        If labels are empty, without or with a wrong CRS, elsewhere than their scene, beyond repair or
        of an unknown class; a mask has another size or an unknown value; a scene is smaller than a
        window; a validation place or tier is not there; or nothing with objects is left to train on.
    """
    table = ClassTable.of(data.classes)
    located: list[Located] = []
    notes: list[str] = []
    for scene in data.scenes:
        one, said = open_labelled(scene, data, draws, base, table)
        located.append(one)
        notes += said
    for chips in data.chips:
        found, said = read_chips(chips, data, base, table)
        located += found
        notes += said
    split = hold_out(located, validation)
    training, small = _large_enough(_of_tiers(split.training, data.tiers), draws)
    for ground in training:
        _check_room(ground, draws)
    if not any(ground.has_objects for ground in training):
        raise InvalidOption("no ground with objects is left for training: all labels are held out or empty")
    return Split(training, split.validation, (*notes, *split.notes, *small))


def _of_tiers(grounds: tuple[Ground, ...], tiers: tuple[str, ...]) -> tuple[Ground, ...]:
    there = {ground.facts.get("tier", "") for ground in grounds}
    for word in tiers:
        if word not in there:
            raise InvalidOption(
                f"data.tiers: nothing to train on has tier {word!r}{hint(word, sorted(there))}"
            )
    return tuple(one for one in grounds if not tiers or one.facts.get("tier", "") in tiers)


def _large_enough(grounds: tuple[Ground, ...], draws: Draws) -> tuple[tuple[Ground, ...], list[str]]:
    """Leave out the pictures that a window would mostly mirror."""
    needed = draws.crop * draws.smallest_m / MOST_MIRRORED
    small = [
        ground
        for ground in grounds
        if min(ground.shape[0] * ground.pixel_m[1], ground.shape[1] * ground.pixel_m[0]) < needed
    ]
    if not small:
        return grounds, []
    sources = ", ".join(f"{name} ({n})" for name, n in Counter(one.source for one in small).items())
    note = f"{len(small)} chips are smaller than {needed:.0f} m, too small for a window, and are left out"
    left = {id(one) for one in small}
    return tuple(one for one in grounds if id(one) not in left), [f"{note}: {sources}"]


def _check_room(ground: Ground, draws: Draws) -> None:
    if not isinstance(ground, SceneGround) or not ground.narrowed:
        return
    if not permitted(ground, ground.grid(draws.smallest_m), draws.crop):
        size = f"a window of {draws.crop * draws.smallest_m:.0f} m"
        raise InvalidOption(
            f"{ground.name}: what is held out or not labelled leaves no room for {size} in "
            f"{min(ground.shape) * ground.gsd_m:.0f} m; hold out less, give larger blocks or a smaller crop"
        )
