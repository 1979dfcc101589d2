"""Market data subscriptions of one client, as prebuilt frames (ib-wire.md 10).

Law: a subscription turns quotes and trades into bytes and knows nothing else. There is no conflation: each change is
sent at once. For each trade `lastTimestamp` (45) goes before the price, so a reader of `last` already has its time.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from actors.venue.simulator.orders import Quote
from actors.venue.simulator.wire import encode, frame, number

NS = 1_000_000_000
KINDS = {"Last": 1, "AllLast": 2, "BidAsk": 3, "MidPoint": 4}
PAST_LIMIT, UNREPORTED = 1, 2


class Trade(msgspec.Struct, frozen=True):
    """One print. `eligible` prints move last, triggers and resting orders; others only count as volume.

    In a replay `conditions` is the vendor's condition word in hex, and an ineligible print has `unreported` set.
    """

    price: Decimal
    size: Decimal
    time_ns: int
    exchange: str = "NASDAQ"
    conditions: str = ""
    eligible: bool = True

    @property
    def mask(self) -> int:
        return 0 if self.eligible else UNREPORTED


class Subscription:
    """One reqMktData or reqTickByTickData of one client."""

    def __init__(self, req_id: int, con_id: int, kind: str = "") -> None:
        self.req_id = req_id
        self.con_id = con_id
        self.kind = kind                        # '' is reqMktData
        number_ = KINDS.get(kind)
        self._prefix = f"99\0{req_id}\0{number_}\0".encode() if number_ else b""

    def opening(self, q: Quote, bbo: str, min_tick: Decimal) -> bytes:
        """Return what answers the subscription: 81, 58 and the present prices."""
        if self.kind:
            return self.quote(q)
        r = self.req_id
        parts = [encode(81, r, number(min_tick), bbo, 3), encode(58, 1, r, 1)]
        parts.append(self.quote(q))
        if q.last is not None:
            size = number(q.last_size or Decimal(0))
            if q.time_ns:
                parts.append(encode(46, 6, r, 45, q.time_ns // NS))
            parts.append(encode(1, 6, r, 4, number(q.last), size, 0))
            parts.append(encode(2, 6, r, 5, size))
        for tick, value in ((6, q.high), (7, q.low), (9, q.close), (14, q.open)):
            if value is not None:
                parts.append(encode(1, 6, r, tick, number(value), 0, 0))
        parts.append(encode(2, 6, r, 8, number(q.volume)))
        parts.append(encode(45, 6, r, 49, q.halted))
        return b"".join(parts)

    def quote(self, q: Quote) -> bytes:
        """Return the present bid and ask; -1 with size 0 where there is none."""
        r = self.req_id
        if self.kind == "BidAsk":
            if q.bid is None or q.ask is None:
                return b""
            return frame(self._prefix + f"{q.time_ns // NS}\0{number(q.bid)}\0{number(q.ask)}\0"
                                        f"{_size(q.bid_size)}\0{_size(q.ask_size)}\x000\0".encode())
        if self.kind == "MidPoint":
            if q.bid is None or q.ask is None:
                return b""
            return frame(self._prefix + f"{q.time_ns // NS}\0{number((q.bid + q.ask) / 2)}\0".encode())
        if self.kind:
            return b""
        if q.bid is None and q.ask is None:
            return b""
        bid_size, ask_size = _size(q.bid_size, q.bid), _size(q.ask_size, q.ask)
        return (encode(1, 6, r, 1, _price(q.bid), bid_size, 1) + encode(2, 6, r, 0, bid_size)
                + encode(1, 6, r, 2, _price(q.ask), ask_size, 1) + encode(2, 6, r, 3, ask_size))

    def trade(self, t: Trade, volume: Decimal) -> bytes:
        """Return one print."""
        seconds = t.time_ns // NS
        if self.kind in ("Last", "AllLast"):
            return frame(self._prefix + f"{seconds}\0{number(t.price)}\0{number(t.size)}\0{t.mask}\0{t.exchange}\0"
                                        f"{t.conditions}\0".encode())
        if self.kind:
            return b""
        r, size = self.req_id, number(t.size)
        volume_tick = frame(f"2\x006\0{r}\x008\0{number(volume)}\0".encode())
        if not t.eligible:
            return volume_tick
        return (frame(f"46\x006\0{r}\x0045\0{seconds}\0".encode())
                + frame(f"1\x006\0{r}\x004\0{number(t.price)}\0{size}\x000\0".encode())
                + frame(f"2\x006\0{r}\x005\0{size}\0".encode()) + volume_tick)

    def hears(self, t: Trade) -> bool:
        """Return whether this print is news to the subscriber, and not just volume."""
        return self.kind in ("Last", "AllLast") or (not self.kind and t.eligible)

    def halted(self, q: Quote) -> bytes:
        return b"" if self.kind else encode(45, 6, self.req_id, 49, q.halted)


def _price(value: Decimal | None) -> str:
    return "-1" if value is None else number(value)


def _size(value: Decimal | None, price: Decimal | None = Decimal(1)) -> str:
    """Spell a size: an unlimited one shows as 1000, one without a price as 0."""
    if price is None:
        return "0"
    return "1000" if value is None else number(value)
