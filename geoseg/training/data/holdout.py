"""Holding ground out for validation, so that training cannot see a pixel of it.

Three rules make leakage impossible by construction. Chips and scenes are held out whole. A scene with
held-out blocks trains in windows that keep clear of the blocks and their guard band, counted from all
that resampling may mix into a pixel. Whatever is georeferenced is also compared on the ground: chips
that overlap held-out ground are dropped, scenes keep clear of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import shapely

from geoseg.errors import InvalidOption, suggest
from geoseg.labels.footprints import Footprints
from geoseg.labels.places import box_of, outline_in_degrees, outline_on
from geoseg.training.data.ground import Ground, Located, SceneGround, within
from geoseg.training.data.spec import Blocks, ValidationSpec
from geoseg.values import Window


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Ground to train on, and ground to validate on by place."""

    training: tuple[Ground, ...]
    """Never overlaps what is held out."""
    validation: Mapping[str, tuple[Ground, ...]]
    """By name of the place or scene, or ``<scene> blocks``."""
    notes: tuple[str, ...] = ()
    """What a user should know, one line each."""


def hold_out(grounds: Sequence[Located], spec: ValidationSpec) -> Split:
    """Set the validation ground apart.

    Raises
    ------
    InvalidOption
        If a place or scene is not there (a typing error would train on it), or a scene is too small
        for blocks.
    """
    validation = _places(grounds, spec) | _scenes(grounds, spec)
    whole = {id(one) for found in validation.values() for one in found}
    rest = [one for one in grounds if id(one) not in whole]
    scenes = [one for one in rest if isinstance(one.ground, SceneGround)]
    if spec.blocks is not None:
        if not scenes:
            raise InvalidOption("validation blocks: no scene is left to take blocks from")
        for one in scenes:
            validation[f"{one.ground.name} blocks"] = list(_blocks(one, spec.blocks))
    held = [one for found in validation.values() for one in found]
    guard_m = spec.blocks.guard_m if spec.blocks else 0.0
    chips, notes = _clear_chips([one for one in rest if one not in scenes], held)
    training = chips + [clear_scene(one, held, guard_m) for one in scenes]
    return Split(
        tuple(one.ground for one in training),
        {name: tuple(one.ground for one in found) for name, found in validation.items()},
        tuple(notes),
    )


def cells(shape: tuple[int, int], pixel_m: tuple[float, float], side_m: float) -> list[Window]:
    """Part native pixels into squares of about `side_m`, row by row; they cover each pixel once."""
    down, across = (
        np.linspace(0, size, max(1, round(size * metres / side_m)) + 1).round().astype(int).tolist()
        for size, metres in ((shape[0], pixel_m[1]), (shape[1], pixel_m[0]))
    )
    return [
        Window(top, left, bottom - top, right - left)
        for top, bottom in pairwise(down)
        for left, right in pairwise(across)
    ]


def _places(grounds: Sequence[Located], spec: ValidationSpec) -> dict[str, list[Located]]:
    chips = [one for one in grounds if not isinstance(one.ground, SceneGround)]
    found: dict[str, list[Located]] = {place.name: [] for place in spec.places}
    for one in chips:
        homes = [p.name for p in spec.places if p.holds(one.ground.source, one.ground.name)]
        if homes:
            found[homes[0]].append(one)
    for place in spec.places:
        if not found[place.name]:
            sources = sorted({one.ground.source for one in chips})
            known = any(place.holds(source, place.stems[0]) for source in sources)
            advice = "" if known else f"; {suggest(place.source, sources)}"
            raise InvalidOption(f"validation place {place.name!r}: no chip matches it{advice}")
    return found


def _scenes(grounds: Sequence[Located], spec: ValidationSpec) -> dict[str, list[Located]]:
    scenes = {one.ground.name: one for one in grounds if isinstance(one.ground, SceneGround)}
    for name in spec.scenes:
        if name not in scenes:
            raise InvalidOption(f"validation scene {name!r}: there is no such scene; {suggest(name, scenes)}")
    return {name: [scenes[name]] for name in spec.scenes}


def _blocks(one: Located, blocks: Blocks) -> Iterator[Located]:
    """Yield the held-out blocks of a scene; of squares with and without objects the same share."""
    ground = one.ground
    assert isinstance(ground, SceneGround)
    squares = cells(ground.shape, ground.pixel_m, blocks.side_m)
    if ground.known is not None:
        met = ground.known.touched(np.array([shapely.box(*box_of(square)) for square in squares]))
        squares = [square for square, meets in zip(squares, met, strict=True) if meets]
    if len(squares) < 2:
        raise InvalidOption(
            f"{ground.name}: has no room for two blocks of {blocks.side_m:g} m; give a smaller side_m, "
            "or hold a whole scene out"
        )
    built = [square for square in squares if len(within(ground.spots, square))]
    empty = [square for square in squares if square not in built]
    rng = np.random.default_rng([blocks.seed, zlib.crc32(ground.name.encode())])
    for kind, least in ((built, 1), (empty, 0 if built else 1)):
        count = max(least, round(blocks.share * len(kind)))
        for index in sorted(rng.permutation(len(kind))[:count].tolist()):
            square = kind[index]
            block = replace(
                ground,
                name=f"{ground.name} {square.row}-{square.col}",
                region=square,
                spots=within(ground.spots, square),
            )
            yield Located(block, one.path, one.geobox)


def _clear_chips(chips: list[Located], held: Sequence[Located]) -> tuple[list[Located], list[str]]:
    """Drop chips that share a file or ground with what is held out, and count them."""
    files = {one.path for one in held}
    tree = shapely.STRtree([_outline(one, 0.5) for one in held if one.geobox is not None])
    dropped = [
        one
        for one in chips
        if one.path in files
        or (one.geobox is not None and len(tree.query(_outline(one, 0.5), predicate="intersects")))
    ]
    if not dropped:
        return chips, []
    note = f"{len(dropped)} training chips overlap validation ground and are left out, first"
    gone = {id(one) for one in dropped}
    return [one for one in chips if id(one) not in gone], [f"{note} {dropped[0].ground.name}"]


def clear_scene(one: Located, held: Sequence[Located], guard_m: float) -> Located:
    """Forbid a scene's training windows the held-out ground that lies on it."""
    ground = one.ground
    assert isinstance(ground, SceneGround)
    assert one.geobox is not None
    around = outline_in_degrees(one.geobox)
    areas = []
    for other in held:
        if isinstance(other.ground, SceneGround) and other.path == one.path:
            areas.append(shapely.box(*box_of(other.ground.region)))
        elif other.geobox is not None and (outline := _outline(other, 0.0)).intersects(around):
            areas.append(outline_on(outline, one.geobox))
    if not areas:
        return one
    metres = shapely.transform(np.array(areas), lambda points: points * ground.pixel_m)
    forbidden = Footprints(
        shapely.buffer(metres, guard_m, join_style="mitre"), np.ones(len(areas), np.uint8), ground.pixel_m
    )
    free = ~forbidden.touched(np.asarray(shapely.points(ground.spots), object))
    return replace(one, ground=replace(ground, forbidden=forbidden, spots=ground.spots[free]))


def _outline(one: Located, inset: float) -> shapely.Polygon:
    """Return where ground lies in degrees, less `inset` native pixels at each side."""
    assert one.geobox is not None
    left, top, right, bottom = box_of(one.ground.region)
    return outline_in_degrees(one.geobox, (left + inset, top + inset, right - inset, bottom - inset))
