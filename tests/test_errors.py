"""Errors reach the user from any process."""

from __future__ import annotations

import pickle

import pytest
from tblib import pickling_support  # how dask.distributed sends errors

from geoseg import errors

KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GeosegError)
]


@pytest.mark.parametrize("dask", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_from_a_worker_as_it_was(kind: type[errors.GeosegError], dask: bool) -> None:
    error = kind("device cuda", "torch") if kind is errors.MissingExtra else kind("scene.tif: is no raster")
    if dask:
        make, parts = pickling_support.pickle_exception(error)[:2]
        again = make(*parts)
    else:
        again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
