"""What holds for all tests: no test decides by a stopwatch, or writes to the user's cache."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("geoseg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("geoseg"), max_examples=1000)
settings.load_profile("geoseg")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--hypothesis-profile long``, tests that name a number of examples get ten times as many."""
    if config.getoption("--hypothesis-profile") != "long":
        return
    name = "_hypothesis_internal_use_settings"
    tests = {getattr(item, "obj", None) for item in items}
    for test in tests:
        chosen = getattr(test, name, None)
        if chosen is not None and chosen.max_examples != settings.default.max_examples:
            setattr(test, name, settings(chosen, max_examples=10 * chosen.max_examples))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled networks in a folder of this test session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
