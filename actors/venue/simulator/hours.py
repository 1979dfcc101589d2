"""When the exchange is open: regular and extended hours of US stocks, in New York time.

Law: pure questions about a moment; daylight saving is the zone's affair. Days that are closed or end early are told
(the project has no calendar library, and this file invents no holidays): only weekends are closed by themselves.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator
from datetime import date, datetime, time, timedelta

from actors.venue.simulator.orders import Order
from actors.venue.simulator.validation import NEW_YORK

NS = 1_000_000_000
PRE_OPEN, OPEN, CLOSE, LATE_CLOSE = time(4), time(9, 30), time(16), time(20)
EARLY_CLOSE, EARLY_LATE_CLOSE = time(13), time(17)
LONGEST_SEARCH_DAYS = 400


class Phase(enum.Enum):
    """What an exchange does at a moment."""

    CLOSED = "closed"
    EXTENDED = "extended"
    REGULAR = "regular"


class Hours:
    """The sessions: regular 09:30-16:00, extended 04:00-20:00, Monday to Friday.

    `holidays` are days without a session and `half_days` end at 13:00 (extended: 17:00); both as `yyyymmdd`.
    Raises ValueError for anything else.
    """

    def __init__(self, holidays: Collection[str] = (), half_days: Collection[str] = ()) -> None:
        self._holidays = frozenset(_day(text) for text in holidays)
        self._half_days = frozenset(_day(text) for text in half_days)
        self._known: tuple[int, int, Phase] = (0, 0, Phase.CLOSED)

    def phase(self, ns: int) -> Phase:
        """Return what the exchange does at this time."""
        return self._around(ns)[2]

    def next_change_ns(self, ns: int) -> int:
        """Return when, after this time, the exchange goes into another phase."""
        return self._around(ns)[1]

    def next_open_ns(self, ns: int, extended: bool) -> int:
        """Return the first moment after this time at which a session begins, the regular one unless `extended`."""
        return next(start for start, _ in self._sessions(ns, extended) if start > ns)

    def close_ns(self, ns: int, extended: bool) -> int:
        """Return the end of the session that this time is in, or else of the next one."""
        return next(end for _, end in self._sessions(ns, extended) if end > ns)

    def text(self, today: date, extended: bool, days: int = 6) -> str:
        """Return the sessions from this day on as contract details spell them (contracts.trading_hours)."""
        parts = []
        for day in (today + timedelta(days=n) for n in range(days)):
            times = self._times(day)
            if times is None:
                parts.append(f"{day:%Y%m%d}:CLOSED")
            else:
                start, end = (times[0], times[3]) if extended else (times[1], times[2])
                parts.append(f"{day:%Y%m%d}:{start:%H%M}-{day:%Y%m%d}:{end:%H%M}")
        return ";".join(parts)

    def kept(self, day: date, start: int, end: int) -> tuple[int, int]:
        """Return what this day leaves of a session of ordinary days, in epoch seconds; nothing where start is end."""
        times = self._times(day)
        if times is None:
            return start, start
        early, usual = _ns(day, times[2]) // NS, _ns(day, CLOSE) // NS
        if early == usual or end <= early:
            return start, end
        return (start, early) if start < usual else (early, min(end, _ns(day, times[3]) // NS))

    def _times(self, day: date) -> tuple[time, time, time, time] | None:
        if day.weekday() >= 5 or day in self._holidays:
            return None
        if day in self._half_days:
            return PRE_OPEN, OPEN, EARLY_CLOSE, EARLY_LATE_CLOSE
        return PRE_OPEN, OPEN, CLOSE, LATE_CLOSE

    def _sessions(self, ns: int, extended: bool) -> Iterator[tuple[int, int]]:
        """Yield the beginnings and ends of sessions from the day of this time on."""
        today = datetime.fromtimestamp(ns // NS, NEW_YORK).date()
        for n in range(LONGEST_SEARCH_DAYS):
            day = today + timedelta(days=n)
            times = self._times(day)
            if times is not None:
                yield (_ns(day, times[0]), _ns(day, times[3])) if extended else (_ns(day, times[1]), _ns(day, times[2]))
        raise ValueError(f"no session within {LONGEST_SEARCH_DAYS} days: too many holidays are given")

    def _around(self, ns: int) -> tuple[int, int, Phase]:
        """Return the phase of this time with its beginning (or an earlier moment in it) and its end."""
        known = self._known
        if known[0] <= ns < known[1]:
            return known
        day = datetime.fromtimestamp(ns // NS, NEW_YORK).date()
        times = self._times(day)
        edges = [] if times is None else [_ns(day, t) for t in times]
        if not edges or ns < edges[0] or ns >= edges[3]:
            known = (ns, self.next_open_ns(ns, extended=True), Phase.CLOSED)
        else:
            n = max(n for n in range(3) if edges[n] <= ns)
            known = (edges[n], edges[n + 1], Phase.REGULAR if n == 1 else Phase.EXTENDED)
        self._known = known
        return known


def works(order: Order, phase: Phase) -> bool:
    """Return whether an order may trigger and trade in this phase: outside regular hours only with outsideRth."""
    return phase is Phase.REGULAR or (phase is Phase.EXTENDED and order.outside_rth)


def _ns(day: date, at: time) -> int:
    return int(datetime.combine(day, at, NEW_YORK).timestamp()) * NS


def _day(text: str) -> date:
    try:
        if len(text) != 8:
            raise ValueError
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        raise ValueError(f"day {text!r}: expected yyyymmdd such as 20131128") from None
