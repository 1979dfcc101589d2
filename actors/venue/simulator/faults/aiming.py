"""Whether a fault acts on an occasion: its aim, its counters and its dice.

Law: nothing here does anything; the dice of each fault come from the gateway's fault seed and the fault's number alone,
so that one fault more does not reshuffle the others.
"""

from __future__ import annotations

import random
from datetime import datetime
from fnmatch import fnmatchcase
from typing import NamedTuple

from actors.venue.simulator.faults.kinds import EventFault, Fault
from actors.venue.simulator.validation import NEW_YORK

NS = 1_000_000_000
DAY_S = 86_400


class Occasion(NamedTuple):
    """What a fault could act on. None: there is no such thing about it."""

    client: int | None = None
    message: str | None = None
    ref: str | None = None
    symbol: str | None = None


class Armed:
    """A fault that was set: since when, how often it was met, how often it may still act."""

    __slots__ = ("acted", "fault", "left", "number", "random", "seen", "set_ex_ns", "set_ns")

    def __init__(self, fault: Fault, number: int, seed: int, now_ns: int, ex_ns: int) -> None:
        self.fault = fault
        self.number = number
        self.random = random.Random(f"{seed}/{number}/{fault.kind}")
        self.seen = 0
        self.acted = 0
        self.left: int | None = fault.limit or None
        self.set_ns = now_ns
        self.set_ex_ns = ex_ns

    @property
    def spent(self) -> bool:
        return self.left == 0

    def fires(self, what: Occasion, now_ns: int, ex_ns: int) -> bool:
        """Return whether it acts on this occasion, and count it."""
        return not self.spent and self.fits(what) and self.awake(now_ns, ex_ns) and self.counts()

    def fits(self, what: Occasion) -> bool:
        fault = self.fault
        message = fault.message or fault.MESSAGE
        return ((fault.client is None or fault.client == what.client)
                and (not fault.ON or what.message in fault.ON)
                and _matches(message, what.message) and _matches(fault.ref, what.ref)
                and _matches(fault.symbol, what.symbol))

    def awake(self, now_ns: int, ex_ns: int) -> bool:
        """Return whether its time has come and is not over."""
        fault = self.fault
        begins = self.set_ns + int(fault.at * NS)
        if now_ns < begins or (fault.lasts is not None and now_ns > begins + int(fault.lasts * NS)):
            return False
        if fault.clock is None or isinstance(fault, EventFault):
            return True
        return ex_ns >= next_clock_ns(fault.clock, self.set_ex_ns)

    def counts(self) -> bool:
        """Count a fitting occasion; return whether it acts on it."""
        self.seen += 1
        if self.seen < self.fault.after or self.spent:
            return False
        if self.fault.chance < 1 and self.random.random() >= self.fault.chance:
            return False
        self.acted += 1
        if self.left is not None:
            self.left -= 1
        return True


def _matches(glob: str | None, value: str | None) -> bool:
    return glob is None or (value is not None and fnmatchcase(value, glob))


def next_clock_ns(clock: str, ex_ns: int) -> int:
    """Return the next moment, at or after this one, at which New York's clock shows hh:mm[:ss]; UTC nanoseconds."""
    local = datetime.fromtimestamp(ex_ns / NS, NEW_YORK)
    hour, minute, second = (int(part) for part in (clock + ":00").split(":")[:3])
    day = local.replace(hour=hour, minute=minute, second=second, microsecond=0)
    found = int(day.timestamp()) * NS
    return found if found >= ex_ns else found + DAY_S * NS
