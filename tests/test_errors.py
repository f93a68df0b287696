"""Errors reach the user from any process."""

import pickle

import distributed  # noqa: F401  # it has a way of its own to pickle errors
import pytest

from geoseg import errors

KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GeosegError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_from_a_worker_as_it_was(kind: type[errors.GeosegError]) -> None:
    error = kind("device cuda", "torch") if kind is errors.MissingExtra else kind("scene.tif: is no raster")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
