"""The outgoing rate: never above IB's limit in any second, and never without room for an exit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.rules.pacing import IB_LIMIT_PER_S, NS, Rate, full, spend, wait_ns

RATE = Rate(per_s=40.0, reserved_per_s=15.0)


def send_all(wishes: list[bool], rate: Rate = RATE, start: int = 0) -> list[tuple[int, bool]]:
    """Send everything as early as allowed; True is an entry. Returns (when, entry)."""
    bucket, now, sent = full(rate, start), start, []
    for entry in wishes:
        now += wait_ns(bucket, rate, now, entry=entry)
        bucket = spend(bucket, rate, now, entry=entry)
        sent.append((now, entry))
    return sent


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=200), st.sampled_from([10.0, 40.0, 49.0, 50.0]))
def test_no_second_ever_sees_more_than_the_venue_allows(wishes, per_s):
    sent = send_all(wishes, Rate(per_s=per_s, reserved_per_s=per_s / 3))
    times = [when for when, _ in sent]
    for index, start in enumerate(times):
        assert sum(1 for when in times[index:] if when < start + NS) <= IB_LIMIT_PER_S + 1


def test_entries_leave_room_that_an_exit_can_take_at_once():
    bucket, now = full(RATE, 0), 0
    for _ in range(500):  # entries as fast as they may go
        now += wait_ns(bucket, RATE, now, entry=True)
        bucket = spend(bucket, RATE, now, entry=True)
    assert wait_ns(bucket, RATE, now, entry=False) == 0
    assert wait_ns(bucket, RATE, now, entry=True) > 0


def test_entries_alone_run_at_what_is_not_reserved():
    sent = send_all([True] * 251)
    assert 9.0 < (sent[-1][0] - sent[0][0]) / NS < 10.5, "25 a second"


def test_a_clock_that_goes_back_gives_nothing_away():
    bucket = full(RATE, 10 * NS)
    for _ in range(20):
        bucket = spend(bucket, RATE, 0, entry=False)
    assert wait_ns(bucket, RATE, 0, entry=False) > 0
    assert wait_ns(bucket, RATE, 1 * NS, entry=False) == 0, "nobody waits until the old time has come again"


def test_a_lifted_limit_is_lifted():
    rate = Rate(per_s=1e6, reserved_per_s=0.0)
    assert send_all([True] * 5_000, rate)[-1][0] == 0
