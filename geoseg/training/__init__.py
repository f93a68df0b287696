"""Training: from labelled ground to a model folder with measured figures."""

from __future__ import annotations

from importlib.util import find_spec

from geoseg.errors import BackendUnavailable

_PACKAGES = ("lightning", "onnx", "tensorboard")


def require_packages(*, int8: bool = False) -> None:
    """Check that the packages which only training needs are installed.

    Parameters
    ----------
    int8 : bool
        Also what quantizing needs.

    Raises
    ------
    BackendUnavailable
        One line that says how to install them.
    """
    missing = [name for name in (*_PACKAGES, *(("nncf",) if int8 else ())) if find_spec(name) is None]
    if missing:
        raise BackendUnavailable(f"training needs {', '.join(missing)}; pip install 'geoseg[train]'")
