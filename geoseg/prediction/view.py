"""How a run looks at a scene (grid, resolution, bands), and how it shapes what it finds there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from geoseg.errors import InvalidOption
from geoseg.models.card import ModelCard
from geoseg.models.document import Split
from geoseg.models.inputs import InputSpec
from geoseg.prediction.options import AUTO, Limits, PredictOptions
from geoseg.values import GeoBox
from geoseg.vector.pieces import PLAIN, Calibration
from geoseg.vector.shape import ShapeRules
from geoseg.vector.split import SplitRule

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geoseg.raster.describe import Band, SceneInfo

SAME_RESOLUTION = 0.05
"""A scene this close to the model's resolution (relative) is taken as it is, not resampled."""

COARSE = 2.0
TOO_COARSE = 4.0
"""Beyond this many times the coarsest resolution that the model was trained at: warned, refused."""

NOISE_PIXELS = 25
"""The default of --min-area, in pixels of the working grid."""

SMALLEST_PART, PART_MARGIN = 3, 32
"""Where no model's card says it: the smallest part that --split makes, in smallest objects, and pixels round
a part that are looked at."""


@dataclass(frozen=True, slots=True)
class View:
    """How a run looks at a scene; the fields are those of `Plan`."""

    grid: GeoBox
    bands: tuple[int, ...]
    stretch: tuple[Limits, ...] | None
    aoi: BaseGeometry | None
    crs: str | None


def grid_resolution(scene: SceneInfo, grid: GeoBox) -> tuple[float, float] | None:
    """Return the metres that a pixel of the working grid measures along columns and rows; None: unknown."""
    if scene.resolution is None:
        return None
    across, down = scene.resolution
    return across * scene.geobox.width / grid.width, down * scene.geobox.height / grid.height


def working_grid(geobox: GeoBox, resolution: tuple[float, float] | None, wanted: float | None) -> GeoBox:
    """Return the grid to work on: the scene's own, or the same ground at the model's resolution.

    Parameters
    ----------
    resolution : (float, float) or None
        Metres a pixel of the scene measures along its columns and rows; None: unknown.
    wanted : float or None
        Metres a pixel of the model measures; None: any.

    Examples
    --------
    >>> scene = GeoBox(100, 200, (0.15, 0.0, 0.0, 0.0, -0.15, 0.0), "EPSG:32632")
    >>> working_grid(scene, (0.15, 0.15), 0.3).shape
    (50, 100)
    >>> working_grid(scene, (0.15, 0.15), 0.152) is scene
    True
    """
    if resolution is None or wanted is None:
        return geobox
    across, down = resolution[0] / wanted, resolution[1] / wanted
    if max(abs(across - 1), abs(down - 1)) <= SAME_RESOLUTION:
        return geobox
    return geobox.resized(max(1, round(geobox.height * down)), max(1, round(geobox.width * across)))


def choose_bands(
    scene: SceneInfo, wanted: Sequence[str], bands: tuple[int, ...] | None, how: str = "3,2,1"
) -> tuple[int, ...]:
    """Return the scene's bands for the model's, in the model's order.

    In order of precedence: what the user named; the bands whose colour interpretation is the
    model's band name; all bands in file order where the scene has as many as the model.

    Raises
    ------
    InvalidOption
        If the scene has no such bands, or it is not clear which they are.
    """
    need, have = len(wanted), len(scene.bands)
    names, indices = ", ".join(wanted), [band.index for band in scene.bands]
    if bands is not None:
        if len(bands) != need or not set(indices).issuperset(bands):
            raise InvalidOption(
                f"{scene.name}: --bands must name {need} bands (for {names}) among its 1 to {have}"
            )
        return bands
    if have < need:
        raise InvalidOption(
            f"{scene.name}: has {have} band{'s' * (have != 1)}, the model needs {need} ({names}); "
            "choose a model for such imagery"
        )
    colors = {band.color: band.index for band in reversed(scene.bands)}
    if colors.keys() >= set(wanted):
        return tuple(map(colors.__getitem__, wanted))
    if have == need:
        return tuple(indices)
    raise InvalidOption(
        f"{scene.name}: has {have} bands without colours; say which are {names}, such as --bands {how}"
    )


def needs_stretch(scene_bands: Sequence[Band], inputs: InputSpec, name: str) -> bool:
    """Whether values of the scene must be mapped to the model's range.

    Raises
    ------
    InvalidOption
        If they must, but the model's range is not the 8-bit one that a stretch maps to.
    """
    if {band.read_dtype for band in scene_bands} == {inputs.dtype}:
        return False
    if inputs.dtype == "uint8":
        return True
    raise InvalidOption(
        f"{name}: is {scene_bands[0].read_dtype}, the model was trained on {inputs.dtype}; "
        "give --stretch none to feed the values as they are"
    )


def check_resolution(scene: SceneInfo, card: ModelCard) -> tuple[str, ...]:
    """Return warnings about a scene whose resolution is not what the model was trained at.

    Raises
    ------
    InvalidOption
        If the scene is so coarse that the model cannot see its objects.
    """
    if scene.resolution is None or card.resolution_m is None:
        return ()
    finest, coarsest = card.resolution_range or (card.resolution_m, card.resolution_m)
    pixel = max(scene.resolution)
    trained = f"model {card.name} was trained at {finest:g} to {coarsest:g} m"
    if pixel > TOO_COARSE * coarsest:
        raise InvalidOption(
            f"{scene.name}: its pixels measure {pixel:.3g} m, {trained}; it would see nothing"
        )
    if pixel > COARSE * coarsest:
        return (f"pixels measure {pixel:.3g} m, {trained}: expect poor results",)
    return ()


class ShapeOptions(Protocol):
    """Options that say how polygons are shaped."""

    @property
    def simplify(self) -> float | Literal["auto"]:
        """Tolerance in metres."""

    @property
    def min_hole(self) -> float | Literal["auto"]:
        """Smallest hole in m²."""

    @property
    def max_deviation(self) -> float | Literal["auto"]:
        """In metres."""

    @property
    def regularize(self) -> bool | None:
        """Whether walls are made straight; None: as the card says."""


def shape_rules(
    options: ShapeOptions,
    outline: Literal["smooth", "pixel"],
    *,
    pixel_m: float,
    min_area_m2: float,
    classes: int,
    card: ModelCard | None = None,
) -> ShapeRules:
    """Resolve how polygons are shaped.

    Parameters
    ----------
    pixel_m : float
        Side of a pixel of the working grid in metres, 1 where that is not known.
    classes : int
        How many share their borders.
    card : ModelCard, optional
        What to regularize unless the options say so.

    Raises
    ------
    InvalidOption
        If several classes are to be regularized, or nothing within a deviation that was given.
    """
    # Half a pixel takes the tracing's small steps out of a straight wall and moves nothing visibly;
    # exact pixel edges stay exact unless something else is asked for.
    smooth = outline == "smooth"
    regularize, known, calibration = options.regularize, pixel_m, PLAIN
    if card is not None:
        regularize = card.man_made and smooth if regularize is None else regularize
        known = card.max_deviation_m or pixel_m
        if card.confidence is not None:
            calibration = Calibration(card.confidence.slope, card.confidence.intercept)
    if regularize and classes > 1:
        raise InvalidOption(
            f"--regularize: the layer has {classes} classes, whose polygons share their borders; it is for "
            "objects of one class"
        )
    if not regularize and options.max_deviation != AUTO:
        raise InvalidOption(
            f"--max-deviation {options.max_deviation:g}: nothing is regularized; give --regularize"
        )
    return ShapeRules(
        simplify_m=0.5 * pixel_m * smooth if options.simplify == AUTO else options.simplify,
        min_area_m2=min_area_m2,
        metres_per_pixel=pixel_m,
        min_hole_m2=min_area_m2 / 4 if options.min_hole == AUTO else options.min_hole,
        max_deviation_m=(known if options.max_deviation == AUTO else options.max_deviation)
        if regularize
        else None,
        calibration=calibration,
    )


def split_rule(options: PredictOptions, card: ModelCard, pixel_m: float) -> tuple[SplitRule | None, float]:
    """Return the rule of splitting in pixels, and the metres round a part that it looks at."""
    if (
        card.instances is not None
        or options.split == "none"
        or (options.split == AUTO and card.split is None)
    ):
        return None, 0.0
    smallest = SMALLEST_PART * smallest_object_m2(card.min_area_m2, pixel_m)
    known = card.split or Split(smallest_m2=smallest, margin_m=PART_MARGIN * pixel_m)
    return SplitRule(known.gate, known.smallest_m2 / pixel_m**2), max(known.margin_m, 4 * pixel_m)


def smallest_object_m2(known: float | None, pixel_m: float) -> float:
    """Return the area below which polygons are taken for noise, in m².

    Parameters
    ----------
    known : float or None
        What a model's card says; None: nothing.
    pixel_m : float
        Side of a pixel of the working grid in metres.

    Examples
    --------
    >>> smallest_object_m2(None, 0.5)
    6.25
    >>> smallest_object_m2(12.0, 0.5)
    12.0
    """
    return NOISE_PIXELS * pixel_m**2 if known is None else known
