"""What a recipe says about data: sections checked by pydantic, nothing is opened here."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from geoseg.labels.classes import IGNORED, ClassTable
from geoseg.values import ClassInfo

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ClassName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Crop = Annotated[int, Field(ge=32, multiple_of=32)]
Color = tuple[Annotated[int, Field(ge=0, le=255)], ...]
MaskValues = dict[Annotated[int, Field(ge=0)], int | str]
"""Value of a mask -> class id, class name, ``background`` or ``ignore``."""


class Section(BaseModel):
    """A part of a recipe: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassSpec(Section):
    """A class to be found."""

    id: Annotated[int, Field(ge=1, le=254)]
    """1 … 254 (255 is `geoseg.labels.classes.IGNORE`)."""
    name: ClassName
    """What labels and layers call it."""
    color: Annotated[Color, Field(min_length=3, max_length=3)]
    """(red, green, blue). 0 … 255."""

    @property
    def info(self) -> ClassInfo:
        """The class as the other rooms know it."""
        red, green, blue = self.color
        return ClassInfo(self.id, self.name, (red, green, blue))


class SceneSpec(Section):
    """A scene with its labels."""

    scene: Annotated[str, Field(min_length=1)]
    """File or URL."""
    labels: Path | None
    """Polygons (any vector format of plain data, any CRS) or a mask (any raster; any grid and CRS, the
    nearest value counts). None: the scene holds no objects."""
    class_attribute: str | None = None
    """Attribute of the polygons that holds class names or ids, see `geoseg.labels`; `IGNORED` marks unknown
    ground. Needed where there are several classes."""
    labelled_area: Path | None = None
    """Areas within which the labels are complete; outside, nothing is known."""
    labels_layer: str | None = None
    labelled_area_layer: str | None = None
    """`labels_layer`, `labelled_area_layer`: Layers of these files; None: the only one that holds
    polygons."""
    verdicts: Path | None = None
    """What ``geoseg review`` has exported of the labels: right ones are objects, wrong ones background, and
    nothing else is known."""
    weight: Positive = 1.0
    """How often the scene is drawn, relative to other sources."""
    bands: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Numbers of its bands, from 1, in the order of ``DataSpec.bands``; None: by colour."""
    mask_values: MaskValues | None = None
    """See `MaskValues`; 0 is background unless it is named, and the id of a class stands for it unless
    another value is named for that class. None: 255 is the class where there is only one, else unknown."""
    name: str | None = None
    """What it is called in tables; None: the file's stem."""

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.verdicts is not None and (self.labels is None or self.labelled_area is not None):
            raise ValueError("verdicts are on labels, and say what is known: leave out labelled_area")
        return self

    @property
    def title(self) -> str:
        """The name, or the stem of the file."""
        return self.name or Path(self.scene.rstrip("/").rpartition("/")[2]).stem


class ChipsSpec(Section):
    """Small pictures with masks: by an index, or two folders with the same stems."""

    index: Path | None = None
    """CSV with the columns source, stem, image, mask, gsd_m and optionally place, licence, tier; paths
    relative to its folder."""
    images: Path | None = None
    masks: Path | None = None
    """`images`, `masks`: Folders; both or none."""
    source: str | None = None
    """What chips from folders are called together; None: name of the folder `images`."""
    mask_values: MaskValues = {1: 1, 255: 1, 127: IGNORED}
    """As for scenes."""
    gsd_m: Positive | None = None
    """Ground size of a pixel of chips in folders; None: from their georeference."""
    weights: dict[str, Positive] = {}
    """How often each source with objects is drawn, relative to the others; 1 if not named."""
    labels: dict[str, Path] = {}
    """Polygons to use instead of the masks for a source whose chips are georeferenced. Where a mask says
    unknown, it stays unknown."""
    layers: dict[str, str] = {}
    """Layer of these polygons, by source; None: the only one that holds polygons."""
    rims: dict[str, Positive] = {}
    """Metres round outlines and seams of a source's objects of which nothing is known: for masks that draw
    touching objects as one. See `geoseg.training.data.chips.ignore_rims`."""
    exclude: tuple[str, ...] = ()
    """Shell patterns of sources that are left out."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        folders = (self.images is not None, self.masks is not None)
        if folders not in {(True, True), (False, False)} or (self.index is None) is not folders[0]:
            raise ValueError("chips need either an index, or the folders images and masks")
        return self


class DataSpec(Section):
    """All that is labelled."""

    scenes: tuple[SceneSpec, ...] = ()
    chips: tuple[ChipsSpec, ...] = ()
    """`scenes`, `chips`: At least one of them."""
    classes: Annotated[tuple[ClassSpec, ...], Field(min_length=1)] = (
        ClassSpec(id=1, name="building", color=(228, 87, 46)),
    )
    """What is to be found; ids and names differ."""
    bands: Annotated[tuple[str, ...], Field(min_length=1)] = ("red", "green", "blue")
    """Names of the bands that samples have, found by colour in every picture."""
    touching_gap_m: Annotated[float, Field(ge=0)] = 0.5
    """Polygons of one class closer than this are separated by a line of background of this width, at least
    one pixel; 0: they are not. A Mask R-CNN tells polygons apart without it."""
    tiers: tuple[str, ...] = ()
    """Train only on chips with one of these in column ``tier`` of their index, e.g. those with an open
    licence; what is held out is not restricted. Empty: on all, and on scenes."""

    @property
    def table(self) -> ClassTable:
        """The classes as labels name them."""
        infos = [one.info for one in self.classes]
        return ClassTable.named({info.id: info.name for info in infos}, infos)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.scenes and not self.chips:
            raise ValueError("give at least one scene or collection of chips")
        for values in ([str(c.id) for c in self.classes], [c.name.casefold() for c in self.classes]):
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"two classes have the same id or name: {twice[0]} (whatever the case)")
        titles = [scene.title for scene in self.scenes]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"two scenes are called {twice[0]!r}; give them a name each")
        return self


class Place(Section):
    """Ground that is never trained on: chips, by name."""

    name: str
    """What the place is called in tables."""
    source: str
    """Shell pattern for column ``source`` of the index."""
    stems: tuple[str, ...] = ("*",)
    """Shell patterns for column ``stem``; a chip belongs here if one of them matches."""

    def holds(self, source: str, stem: str) -> bool:
        """Say whether a chip lies in this place."""
        return fnmatchcase(source, self.source) and any(fnmatchcase(stem, pattern) for pattern in self.stems)


class Blocks(Section):
    """Squares of every scene that are held out."""

    side_m: Positive = 100.0
    """Side of a square in metres."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of a scene's squares that is held out, at least one of those with objects."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Chooses them."""
    guard_m: Annotated[float, Field(ge=0)] = 10.0
    """Width of the band round a square that training does not see either."""


class ValidationSpec(Section):
    """What is held out; ground under it is never trained on."""

    places: tuple[Place, ...] = ()
    """Chips."""
    scenes: tuple[str, ...] = ()
    """Names of whole scenes."""
    blocks: Blocks | None = None
    """Squares of the scenes that are not held out as a whole."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not (self.places or self.scenes or self.blocks):
            raise ValueError("hold out places, scenes or blocks to validate on")
        names = [place.name for place in self.places] + list(self.scenes)
        if len(set(names)) < len(names):
            raise ValueError("two validation places have the same name")
        return self


class Draws(Section):
    """How training samples are drawn."""

    crop: Crop = 256
    """Side of a sample in pixels."""
    resolution_m: Positive = 0.3
    smallest_m: Positive = 0.2
    largest_m: Positive = 0.6
    spread: Positive = 0.25
    """Ground size of a sample's pixel: log-normal round `resolution_m` with relative standard deviation
    `spread`, cut off at the smallest and largest."""
    negative_share: Share = 0.22
    """Share of samples from ground without objects, by area."""
    object_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of windows of scenes that are laid over an object; the others fall anywhere."""
    turned_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of samples turned by up to 45 degrees."""
    paste_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of samples that get objects of another sample pasted in."""
    tone_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of samples that are moved towards the light and the colours of another real sample."""
    weights: dict[str, Positive] = {}
    """How often each source with objects is drawn, relative to the others; before weights of `SceneSpec` and
    `ChipsSpec`."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.smallest_m <= self.resolution_m <= self.largest_m:
            raise ValueError("needs smallest_m <= resolution_m <= largest_m")
        return self
