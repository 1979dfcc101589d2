"""When the regular session of US stocks is open: 09:30 to 16:00 New York, Monday to Friday, by a tick's own time.

Law: nothing here knows what time it is now, so that recorded ticks are judged by their own day. Holidays and half days
are not known yet (they come with the risk rules): on those days a few hours count as regular that are not.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
OPEN, CLOSE, MIDNIGHT = time(9, 30), time(16), time(0)
_NS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = 4_102_444_800
"""2100-01-01; what claims to be later, or before 1970, is no time of a tick."""


class Stretch(NamedTuple):
    """From `start_ns` up to, not including, `end_ns` (UTC) the answer is the same."""

    start_ns: int
    end_ns: int
    is_open: bool


def stretch_at(ts_ns: int) -> Stretch:
    """Return the stretch of open or closed time around a moment: cheap to keep and to compare ticks with."""
    if not 0 <= ts_ns < _LAST_SECOND * _NS:
        return Stretch(ts_ns, ts_ns + 1, False)
    day = datetime.fromtimestamp(ts_ns // _NS, NEW_YORK).date()
    return next(each for each in _stretches(day) if ts_ns < each.end_ns)


@lru_cache(maxsize=64)
def _stretches(day: date) -> tuple[Stretch, ...]:
    start, end = _at(day, MIDNIGHT), _at(day + timedelta(days=1), MIDNIGHT)
    if day.weekday() >= 5:
        return (Stretch(start, end, False),)
    opens, closes = _at(day, OPEN), _at(day, CLOSE)
    return Stretch(start, opens, False), Stretch(opens, closes, True), Stretch(closes, end, False)


def _at(day: date, moment: time) -> int:
    # Subtracting in UTC counts real seconds on the days when the clocks change, too.
    return int((datetime.combine(day, moment, NEW_YORK).astimezone(UTC) - _EPOCH).total_seconds()) * _NS
