"""One cluster for all tests of archives that need no processes of their own: a worker in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from geoseg.cli import run
from tests.archive.clusters import command

Batch = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def threads() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def batch(capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Batch:
    """Run ``geoseg batch`` with the bright model, on that cluster unless processes are asked for.

    Returns exit code, stdout and stderr.
    """

    def called(*arguments: object) -> tuple[int, str, str]:
        where: list[str] = []
        if "--workers" not in arguments:
            where = ["--scheduler", request.getfixturevalue("threads").scheduler.address]
        capfd.readouterr()
        code = run(command(*arguments, *where))
        return code, *capfd.readouterr()

    return called
