"""Random days at a gateway, judged by a naive model (venue_swarm.py); a longer run is its own command."""

from __future__ import annotations

import pytest

from tests.venue.venue_swarm import live_through

pytestmark = pytest.mark.unit


def test_random_days_keep_to_what_an_exchange_may_do():
    executions = sum(live_through(seed, 100) for seed in range(1, 13))
    assert executions > 60
