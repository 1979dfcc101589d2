"""Settings that would hurt are refused with key, value and rule."""

from __future__ import annotations

import pytest

from messages.settings import SettingsError, load_settings

pytestmark = [pytest.mark.unit, pytest.mark.compliance]


@pytest.mark.parametrize(
    ("venue", "words"),
    [
        ({"rate_per_s": 51}, "venue.rate_per_s: 51.0 is above IB's limit"),
        ({"pacing": False, "rate_per_s": 1e6, "port": 4001}, "venue.pacing: false is refused at port 4001"),
        ({"pacing": False, "port": 7496}, "venue.pacing: false is refused at port 7496"),
        ({"rate_per_s": 10}, "venue.reserved_for_exits_per_s: 15.0 leaves entries nothing"),
    ],
)
def test_a_pace_that_ib_would_punish_is_refused(venue, words):
    with pytest.raises(SettingsError, match=words):
        load_settings(None, {"venue": venue})


def test_pacing_can_be_lifted_for_a_simulated_gateway():
    assert load_settings(None, {"venue": {"pacing": False, "rate_per_s": 1e6, "port": 4002}}).venue.rate_per_s == 1e6
