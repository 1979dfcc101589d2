"""The generic ticks of reqMktData: which are known, and what they say (ib-wire.md 10).

Law: a list with a number that is not in TICKS is refused as a whole with 321, which names the legal ones, as IB does.
So nothing that is asked for is silently missing. What the prices cannot tell comes from the instrument's profile: the
volatilities (23, 24, 58) are the profile's, the lows and highs of 13, 26 and 52 weeks (15-20) are one such standard
deviation around the reference price and never inside today's range. The rates (55, 56, 63-65) begin with the
subscription.
"""

from __future__ import annotations

import math
from collections import deque
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.feeds import LIVE, NS, Subscription, TickIds, Trade
from actors.venue.simulator.orders import Quote
from actors.venue.simulator.profile import Profile
from actors.venue.simulator.wire import encode, number

MINUTE_NS = 60 * NS
TICKS = {
    104: "Historical Volatility", 106: "impvolat", 165: "Misc. Stats", 221: "Creditman Mark Price", 232: "Pl Price",
    233: "RTVolume", 236: "inventory", 293: "TradeCount", 294: "TradeRate", 295: "VolumeRate", 375: "RTTrdVolume",
    411: "rthistvol", 595: "Short-Term Volume X Mins"}
STOCKS_ONLY = frozenset({165, 236})
WEEKS = ((15, 16, 13), (17, 18, 26), (19, 20, 52))
MINUTES = ((63, 3), (64, 5), (65, 10))
RATES = frozenset({294, 295, 595})
LONGEST_WINDOW = 100_000


def legal(sec_type: str) -> dict[int, str]:
    """Return the generic ticks that contracts of this type have."""
    return {n: name for n, name in TICKS.items() if sec_type == "STK" or n not in STOCKS_ONLY}


def wanted(text: str, sec_type: str) -> frozenset[int] | None:
    """Return the numbers of a comma-separated list, or None where one of them is not legal."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    allowed = legal(sec_type)
    if not all(part.isascii() and part.isdigit() and int(part[:9]) in allowed for part in found):
        return None
    return frozenset(int(part) for part in found)


def refusal(text: str, sec_type: str) -> str:
    """Return the text of error 321 for a list that is not legal."""
    names = ",".join(f"{n}({name})" for n, name in legal(sec_type).items())
    return (f"Error validating request.-'bW' : cause - Incorrect generic tick list of {text[:200]}.  "
            f"Legal ones for ({sec_type}) are: {names}")


class Window:
    """The prints of the last so many minutes, and how many shares they are."""

    def __init__(self, minutes: int) -> None:
        self._span_ns = minutes * MINUTE_NS
        self.prints: deque[tuple[int, Decimal]] = deque()
        self.shares = Decimal(0)

    def add(self, t: Trade) -> None:
        self.prints.append((t.time_ns, t.size))
        self.shares += t.size
        while self.prints[0][0] <= t.time_ns - self._span_ns or len(self.prints) > LONGEST_WINDOW:
            self.shares -= self.prints.popleft()[1]


class GenericSubscription(Subscription):
    """A reqMktData with a list of generic ticks."""

    def __init__(self, req_id: int, contract: Contract, generic: frozenset[int], profile: Profile,
                 ids: TickIds = LIVE, frozen: bool = False) -> None:
        super().__init__(req_id, contract.con_id, ids, frozen)
        self.contract = contract
        self.generic = generic
        self.profile = profile
        self._mark: Decimal | None = None
        self._windows = [Window(minutes) for minutes in (1, *(n for _, n in MINUTES))]

    def opening(self, q: Quote, bbo: str, min_tick: Decimal, is_open: bool = True) -> bytes:
        r, profile = self.req_id, self.profile
        parts = [super().opening(q, bbo, min_tick, is_open)]
        for asked, tick in ((104, 23), (106, 24), (411, 58)):
            if asked in self.generic:
                parts.append(encode(45, 6, r, tick, f"{profile.volatility:g}"))
        if 165 in self.generic:
            parts += [encode(1, 6, r, tick, number(price), 0, 0) for tick, price in self._ranges(q)]
            parts.append(encode(2, 6, r, 21, self.contract.daily_volume))
        if 236 in self.generic:
            parts += [encode(45, 6, r, 46, shortable(profile.shortable)), encode(2, 6, r, 89, profile.shortable)]
        parts.append(self._mark_price(q))
        if q.last is not None and q.trades:
            t = Trade(q.last, q.last_size or Decimal(0), q.time_ns)
            parts.append(self._volumes(t, q) + self._count(q))
        return b"".join(parts)

    def quote(self, q: Quote) -> bytes:
        return super().quote(q) + self._mark_price(q)

    def trade(self, t: Trade, q: Quote) -> bytes:
        parts = [super().trade(t, q), self._mark_price(q), self._volumes(t, q)]
        if t.eligible:
            parts += [self._count(q), self._rates(t)]
        return b"".join(parts)

    def _mark_price(self, q: Quote) -> bytes:
        """The mark is the last price, held between bid and ask."""
        if not self.generic & {221, 232} or q.last is None:
            return b""
        mark = q.last
        if q.bid is not None and q.ask is not None:
            mark = min(max(mark, q.bid), q.ask)
        if mark == self._mark:
            return b""
        self._mark = mark
        return encode(1, 6, self.req_id, 37, number(mark), 0, 0)

    def _volumes(self, t: Trade, q: Quote) -> bytes:
        """price;size;ms;volume;VWAP;single: 48 of every print, 77 of those that count as trades."""
        if not self.generic & {233, 375}:
            return b""
        average = number((q.turnover / q.traded).quantize(Decimal("0.00000001"))) if q.traded else ""
        head, out = f"{number(t.price)};{number(t.size)};{t.time_ns // 1_000_000}", b""
        if 233 in self.generic:
            out += encode(46, 6, self.req_id, 48, f"{head};{number(q.volume)};{average};true")
        if 375 in self.generic and t.eligible:
            out += encode(46, 6, self.req_id, 77, f"{head};{number(q.traded)};{average};true")
        return out

    def _count(self, q: Quote) -> bytes:
        return encode(45, 6, self.req_id, 54, q.trades) if 293 in self.generic else b""

    def _rates(self, t: Trade) -> bytes:
        """Trades and shares of the last minute (55, 56), and shares of the last 3, 5 and 10 minutes (63-65)."""
        if not self.generic & RATES:
            return b""
        self.passed_over(t)
        minute, out = self._windows[0], b""
        if 294 in self.generic:
            out += encode(45, 6, self.req_id, 55, len(minute.prints))
        if 295 in self.generic:
            out += encode(45, 6, self.req_id, 56, number(minute.shares))
        if 595 in self.generic:
            for (tick, _), window in zip(MINUTES, self._windows[1:], strict=True):
                out += encode(2, 6, self.req_id, tick, number(window.shares))
        return out

    def passed_over(self, t: Trade) -> None:
        if t.eligible and self.generic & RATES:
            for window in self._windows:
                window.add(t)

    def _ranges(self, q: Quote) -> list[tuple[int, Decimal]]:
        step, price = self.contract.min_tick, self.contract.reference_price
        lowest = min(p for p in (q.low, q.last, price) if p is not None)
        highest = max(p for p in (q.high, q.last, price) if p is not None)
        found = []
        for low_tick, high_tick, weeks in WEEKS:
            away = Decimal(repr(round(math.exp(self.profile.volatility * math.sqrt(weeks / 52)), 6)))
            low = (price / away / step).to_integral_value(ROUND_FLOOR) * step
            high = (price * away / step).to_integral_value(ROUND_CEILING) * step
            found += [(low_tick, min(low, lowest)), (high_tick, max(high, highest))]
        return found


def shortable(shares: int) -> str:
    """Return tick 46: above 2.5, at least 1,000 shares can be borrowed; above 1.5, they must be located; else none."""
    return "3.0" if shares >= 1000 else "2.0" if shares else "1.0"
