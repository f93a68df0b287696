"""What holds for all tests: no test decides by a stopwatch."""

from hypothesis import HealthCheck, settings

settings.register_profile("geoseg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("geoseg")
