"""The regular session, by a moment's own day in New York."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.rules.regular_hours import stretch_at

pytestmark = pytest.mark.unit
NS = 1_000_000_000


def at(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()) * NS


@pytest.mark.parametrize(("utc", "is_open"), [
    ("2026-02-04 14:29:59", False), ("2026-02-04 14:30:00", True),      # winter: 09:30 is 14:30 UTC
    ("2026-02-04 20:59:59", True), ("2026-02-04 21:00:00", False),
    ("2013-10-07 13:29:59", False), ("2013-10-07 13:30:00", True),      # summer time: 13:30 UTC
    ("2013-10-07 19:59:59", True), ("2013-10-07 20:00:00", False),
    ("2026-02-07 15:00:00", False), ("2026-02-08 15:00:00", False),     # a weekend
    ("2026-03-06 14:30:00", True), ("2026-03-09 13:30:00", True), ("2026-03-09 20:00:00", False),   # clocks change
    ("2026-10-30 13:30:00", True), ("2026-11-02 13:30:00", False), ("2026-11-02 14:30:00", True),
])
def test_the_session_is_open_from_half_past_nine_to_four_in_new_york(utc, is_open):
    assert stretch_at(at(utc)).is_open is is_open


@pytest.mark.parametrize("ts_ns", [-1, -10**30, 10**30, 2**63])
def test_what_is_no_time_is_never_in_session(ts_ns):
    assert not stretch_at(ts_ns).is_open


def test_a_trade_without_a_time_is_out_of_session():
    assert not stretch_at(0).is_open


@given(st.integers(200_000, 4_000_000_000), st.integers(0, NS - 1))
def test_the_stretches_tile_time_without_gap_or_overlap(second, rest):
    ts_ns = second * NS + rest
    here = stretch_at(ts_ns)
    assert here.start_ns <= ts_ns < here.end_ns
    following = stretch_at(here.end_ns)
    assert following.start_ns == here.end_ns
    assert not (here.is_open and following.is_open)
    assert stretch_at(here.start_ns) == here == stretch_at(here.end_ns - 1)
