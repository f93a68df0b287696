"""Training: from labelled ground to a model folder with measured figures."""

from __future__ import annotations

from importlib.util import find_spec

from geoseg.errors import MissingExtra

_PACKAGES = ("torch", "torchvision", "segmentation_models_pytorch", "lightning", "onnx", "tensorboard")


def require_packages(*, int8: bool = False) -> None:
    """Check that the packages which only training needs are installed.

    Parameters
    ----------
    int8 : bool
        Also what quantizing needs.

    Raises
    ------
    MissingExtra
        One line that says how to install them.
    """
    if any(find_spec(name) is None for name in _PACKAGES):
        raise MissingExtra("training", "train")
    if int8 and find_spec("nncf") is None:
        raise MissingExtra("card.int8: true", "train")
