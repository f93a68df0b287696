"""What holds for all tests: none decides by a stopwatch, waits for the disk, or writes the user's cache."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

EXAMPLES = {"quick": 0.1, "geoseg": 1, "long": 10}
"""Hypothesis profile: how many times the examples that a test names, or else 100, it draws."""

QUICK = "not slow"
FEWEST = 3

settings.register_profile("geoseg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
for profile, factor in EXAMPLES.items():
    settings.register_profile(profile, settings.get_profile("geoseg"), max_examples=int(100 * factor))
settings.load_profile("geoseg")


def pytest_configure(config: pytest.Config) -> None:
    """Draw few examples in the quick set, unless a profile is named.

    What one of the many processes has compiled the others load, whatever the environment says: each would
    compile all that it imports. PyTorch computes on one thread: several spin when other work runs beside.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if config.option.markexpr == QUICK and not config.getoption("--hypothesis-profile"):
        settings.load_profile("quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import, in the quick set, a module that is slow as a whole."""
    if config.option.markexpr != QUICK or collection_path.suffix != ".py":
        return None
    return "\npytestmark = pytest.mark.slow" in collection_path.read_text(encoding="utf-8") or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests that name a number of examples follow the profile too."""
    factor = EXAMPLES.get(settings.get_current_profile_name(), 1)
    if factor == 1:
        return
    name = "_hypothesis_internal_use_settings"
    for test in {getattr(item, "obj", None) for item in items}:
        chosen = getattr(test, name, None)
        if chosen is not None and chosen.max_examples != settings.default.max_examples:
            count = max(FEWEST, int(factor * chosen.max_examples))
            setattr(test, name, settings(chosen, max_examples=count))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled networks in a folder of this test session, and what is written in the system's memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
