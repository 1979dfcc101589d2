"""Bars: their sizes, the periods that clients ask for, and how pieces of a market add up to one bar.

Law: pure. Prices are integers, millionths of the currency; times are whole epoch seconds; a period's end is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import NamedTuple

from actors.venue.simulator.validation import NEW_YORK

DAY_S = 86_400
SIZES = {
    "1 secs": 1, "5 secs": 5, "10 secs": 10, "15 secs": 15, "30 secs": 30, "1 min": 60, "2 mins": 120, "3 mins": 180,
    "5 mins": 300, "10 mins": 600, "15 mins": 900, "20 mins": 1200, "30 mins": 1800, "1 hour": 3600, "2 hours": 7200,
    "3 hours": 10_800, "4 hours": 14_400, "8 hours": 28_800, "1 day": DAY_S, "1 week": 7 * DAY_S, "1 month": 30 * DAY_S}
"""Every bar size of IB in seconds; a week and a month are kept by the calendar, not by their length."""
SPELLINGS = {"1 sec": "1 secs", "1 mins": "1 min", "1 hours": "1 hour", "1 days": "1 day", "1D": "1 day",
             "1W": "1 week", "1M": "1 month"}


class Piece(NamedTuple):
    """What happened in one stretch of time; as a bar, what a client sees of it."""

    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    trades: int = 0
    paid: int = 0
    """The sum of price times size, for the average price."""


def joined(pieces: Iterable[Piece]) -> Piece | None:
    """Add up pieces in order of time; None if there are none."""
    first = last = None
    high = low = volume = trades = paid = 0
    for p in pieces:
        if first is None:
            first, high, low = p, p.high, p.low
        last = p
        high = p.high if p.high > high else high
        low = p.low if p.low < low else low
        volume += p.volume
        trades += p.trades
        paid += p.paid
    if first is None or last is None:
        return None
    return Piece(first.open, high, low, last.close, volume, trades, paid)


def bar_size(text: str) -> tuple[str, int] | None:
    """Return IB's name of a bar size and its seconds, or None."""
    name = SPELLINGS.get(text.strip(), text.strip())
    return (name, SIZES[name]) if name in SIZES else None


def period(text: str) -> tuple[int, str] | None:
    """Read a duration such as `3600 S`, `2 D`, `1 W`, `6 M`, `1 Y`; None if it is none."""
    found = re.fullmatch(r"\s*(\d{1,6})\s*([SDWMY])\s*", text)
    return (int(found[1]), found[2]) if found and int(found[1]) else None


def local(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, NEW_YORK)


def epoch(day: date, second: int = 0) -> int:
    """Return a New York wall clock time, given in seconds of that day, as epoch seconds."""
    # Wall clock and not elapsed time: the addition is made before the zone is applied.
    wall = datetime(day.year, day.month, day.day) + timedelta(seconds=second)
    return int(wall.replace(tzinfo=NEW_YORK).timestamp())


def months_before(day: date, n: int) -> date:
    month = day.year * 12 + day.month - 1 - n
    year, month = divmod(month, 12)
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month + 1, min(day.day, last))
        except ValueError:
            continue
    raise AssertionError("every month has a 28th")


def bar_key(size: str, seconds: int, day: date, at_s: int) -> tuple[int, int]:
    """Return which bar a second of a trading day belongs to: two of one bar have the same key, later ones a larger.

    Intraday bars stand on New York's wall clock; weeks begin on Monday.
    """
    if size == "1 day":
        return day.toordinal(), 0
    if size == "1 week":
        return (day - timedelta(days=day.weekday())).toordinal(), 0
    if size == "1 month":
        return day.replace(day=1).toordinal(), 0
    if seconds <= 3600:
        return at_s - at_s % seconds, 0
    wall = _wall_s(at_s)
    return epoch(local(at_s).date(), wall - wall % seconds), 0


def next_edge(seconds: int, at_s: int) -> int:
    """Return when the intraday bar of this second ends."""
    if seconds <= 3600:
        return at_s - at_s % seconds + seconds
    wall = _wall_s(at_s)
    return epoch(local(at_s).date(), wall - wall % seconds + seconds)


def _wall_s(at_s: int) -> int:
    """Return what a New York clock shows, in seconds of its day."""
    at = local(at_s)
    return at.hour * 3600 + at.minute * 60 + at.second
