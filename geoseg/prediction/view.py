"""How a run looks at a scene: on which grid, at which resolution, through which bands. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoseg.errors import InvalidOption
from geoseg.models.card import ModelCard
from geoseg.models.inputs import InputSpec
from geoseg.prediction.options import Limits
from geoseg.values import GeoBox

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geoseg.raster.describe import Band, SceneInfo

SAME_RESOLUTION = 0.05
"""A scene this close to the model's resolution (relative) is taken as it is, not resampled."""

COARSE = 2.0
TOO_COARSE = 4.0
"""Beyond this many times the coarsest resolution that the model was trained at: warned, refused."""


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
