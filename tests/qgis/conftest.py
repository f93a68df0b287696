"""What all tests of the plugin share."""

from __future__ import annotations

import pytest

from tests.runs import heed_interrupts


@pytest.fixture(autouse=True)
def _interrupts() -> None:
    """Processes that are started here are stopped by an interrupt, wherever the tests were started."""
    heed_interrupts()
