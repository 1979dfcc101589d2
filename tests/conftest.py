"""What holds of every test: the same examples on every run, and no verdict that depends on how busy the machine is.

Law: a landing is refused by a test that fails, so that hypothesis may not find its first bug in CI: the examples follow
from the test's own text. Whoever hunts for more takes others each time: `pytest --hypothesis-profile=hunt`.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

PATIENT = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
"""What measures the machine, or the luck of a draw, rather than the code."""

settings.register_profile("steady", derandomize=True, database=None, deadline=None, suppress_health_check=PATIENT)
settings.register_profile("hunt", database=None, deadline=None, suppress_health_check=PATIENT, print_blob=True)
settings.load_profile("steady")
