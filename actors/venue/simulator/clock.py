"""The exchange's clock: how the caller's time and the exchange's own time belong together.

Law: this is the only place where one becomes the other. Nothing here reads a clock; both ways are exact (rationals, no
floats), and `caller_ns` returns the first moment of the caller at which `exchange_ns` has reached the asked time.

Three ways of going: it *flows* from a moment on with a speed (1 at the caller's own moment: the plain case), it
*stands* (a replay in lockstep, or one that still waits for its first subscriber), or it is *pinned* while one event of
a known time is worked through, so that all that the event causes bears the event's time, however late the turn.
"""

from __future__ import annotations

import re
from datetime import datetime
from fractions import Fraction

from actors.venue.simulator.validation import NEW_YORK

NS = 1_000_000_000
MAX_SPEED = 1_000_000


class Clock:
    """The exchange's time as a function of the caller's. Times are UTC nanoseconds."""

    __slots__ = ("_began_ns", "_pinned_ns", "_speed", "_start_ns", "_straight")

    def __init__(self, now_ns: int = 0, start_ns: int | None = None, speed: Fraction = Fraction(1)) -> None:
        self._pinned_ns: int | None = None
        self.flow(now_ns, now_ns if start_ns is None else start_ns, speed)

    def flow(self, now_ns: int, exchange_ns: int, speed: Fraction = Fraction(1)) -> None:
        """Go on from this moment with `speed` nanoseconds of the exchange for each of the caller's; 0 stands still."""
        if speed < 0:
            raise ValueError(f"speed {speed}: a clock does not go back")
        self._began_ns, self._start_ns, self._speed = now_ns, exchange_ns, speed
        self._straight = speed == 1 and now_ns == exchange_ns

    def stand(self, exchange_ns: int) -> None:
        """Stand still at this time until told otherwise."""
        self.flow(0, exchange_ns, Fraction(0))

    def pin(self, exchange_ns: int | None) -> int | None:
        """Say this time, whatever the caller's is, until pinned again (None: go on); return what was pinned before."""
        before, self._pinned_ns = self._pinned_ns, exchange_ns
        return before

    @property
    def flows(self) -> bool:
        return self._speed > 0

    @property
    def differs(self) -> bool:
        """Return whether the exchange has a time of its own."""
        return not self._straight

    def exchange_ns(self, now_ns: int) -> int:
        """Return the exchange's time at this moment of the caller."""
        if self._pinned_ns is not None:
            return self._pinned_ns
        if self._straight:
            return now_ns
        s = self._speed
        return self._start_ns + (now_ns - self._began_ns) * s.numerator // s.denominator

    def caller_ns(self, exchange_ns: int) -> int | None:
        """Return when, on the caller's clock, the exchange will have reached this time; None while it stands."""
        if self._straight:
            return exchange_ns
        s = self._speed
        if not s:
            return None
        return self._began_ns - (self._start_ns - exchange_ns) * s.denominator // s.numerator

    def span_ns(self, seconds: float) -> int:
        """Return how many of the caller's nanoseconds this many seconds of the exchange last."""
        return int(seconds * NS) if self._speed in (0, 1) else int(Fraction(seconds) * NS / self._speed)


def speed_of(text: str) -> Fraction:
    """Read a speed such as `60`, `0.5` or `1`; raises ValueError."""
    try:
        speed = Fraction(text)
    except (ValueError, ZeroDivisionError):
        speed = Fraction(0)
    if not 0 < speed <= MAX_SPEED:
        raise ValueError(f"--speed {text!r}: expected a number above 0 and at most {MAX_SPEED}; `max` and `lockstep` "
                         "need a replay")
    return speed


def start_of(text: str, now_ns: int) -> int:
    """Read `2013-10-07T09:30[:ss]`, or `09:30[:ss]` of the caller's present day, in New York; raises ValueError."""
    found = re.fullmatch(r"(?:(\d{4}-\d{2}-\d{2})[T ])?(\d{2}:\d{2}(?::\d{2})?)", text)
    day = "" if found is None else found[1] or f"{datetime.fromtimestamp(now_ns // NS, NEW_YORK):%Y-%m-%d}"
    try:
        when = datetime.fromisoformat(f"{day}T{found[2] if found else ''}").replace(tzinfo=NEW_YORK)
    except ValueError:
        raise ValueError(f"--start {text!r}: expected a New York time such as 2013-10-07T09:30 or 09:30") from None
    return int(when.timestamp()) * NS
