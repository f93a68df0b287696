"""Why a scene of an archive is to be done, and why what is there may not be replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from geoseg.archive.area import Area
from geoseg.archive.identity import same_scene
from geoseg.archive.manifest import FINISHED, Result
from geoseg.archive.options import OF_THE_RUN
from geoseg.archive.places import Places
from geoseg.models.bundle import Bundle
from geoseg.prediction.options import PredictOptions

COMPUTES = "computes in"
"""Under this name the facts that fix a result hold which predictor computes it, in which precision."""

NOT_OPTIONS = OF_THE_RUN | {"raster", "resume", "overwrite", "model", "aoi"}
"""Fields that the digest does not hold as they are."""


def facts_of(
    options: PredictOptions, bundle: Bundle, area: Area | None, form: str, *, raster: bool
) -> dict[str, Any]:
    """Return all that fixes a result, but for the scene and what the model is computed in."""
    return {
        "model": model_name(bundle),
        "aoi": None if area is None else area.digest,
        **options.model_dump(mode="json", exclude=set(NOT_OPTIONS)),
        "format": form,
        "raster": raster,
        "geoseg": version("geoseg"),
    }


def model_name(bundle: Bundle) -> str:
    """Return what the facts call a model: its name, and what tells it from others of the name."""
    return f"{bundle.path.name} {bundle.card.digest[:16]}"


def digest_of(made: Mapping[str, Any]) -> str:
    """Return a digest of the facts that fix a result."""
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


NEW, CHANGED, GONE = "new", "changed", "its result is gone"

ELSEWHERE = "its raster is in another folder"

OTHERWISE, ANOTHER = "done with another model or other options", "the result is another scene's"

AGAIN = "failed before, or done in part"
"""Why a scene is to be done."""


def why_do(known: Result | None, new: Result, digest: str, places: Places, *, retried: bool) -> str:
    """Return why a scene is to be done; empty where it is not.

    Parameters
    ----------
    known : Result or None
        What has become of it before.
    new : Result
        The scene as it is now, with its identity.
    digest : str
        Of model and options.
    places : Places
        Where its files are to be.
    retried : bool
        Whether scenes that failed are tried again.
    """
    if known is None or known.state in ("pending", "running"):
        return NEW
    unchanged = same_scene(known.identity, new.identity)
    if known.digest != digest:
        return OTHERWISE
    if not unchanged:
        return CHANGED if known.location == new.location else ANOTHER
    if known.state != "done" and retried:
        return AGAIN
    elsewhere = known.state in FINISHED and known.files != places.files(new.name)
    if not elsewhere and all((places.out / path).exists() for path in known.files):
        return ""
    return ELSEWHERE if elsewhere else GONE


def why_refused(
    known: Result, new: Result, why: str, before: Mapping[str, Any], made: Mapping[str, Any]
) -> str:
    """Return why a result is not to be replaced unless --redo asks for it; empty where it may be.

    A whole result is not given up for another scene; what is partial is, such as for the scene repaired.

    Parameters
    ----------
    why : str
        Of `why_do`.
    before, made : mapping
        The facts that fixed the result, and those that would.
    """
    if why == OTHERWISE and known.state in FINISHED:
        return f"{difference(before, made)}; give --redo, or another --out"
    if why == ANOTHER and known.state == "done":
        return (
            f"{known.name} is the result of {known.location}, not of {new.location}; "
            "give another --out, or --redo to replace it"
        )
    return ""


def difference(before: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """Say how the results that are there were made otherwise."""
    for name, value in made.items():
        if name in before and before[name] != value:
            return f"holds results made with {name} {before[name]}, not {value}"
    return "holds results made with another model or other options"
